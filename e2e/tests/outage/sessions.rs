//! The sessions that STS made for the pods' roles, and how many of them were needed.
//!
//! The issuer shares a session for 20 minutes, so two of one role that are closer together are one more than needed. On this
//! clock that happens: the 300 ms after which the issuer goes on without its cache table are 10 real ones, less than the
//! laboratory's table sometimes takes. Each time the issuer says so; a session more without such a line is a fault.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use e2e::Lab;
use serde_json::Value;

/// How long the issuer shares a session: sessions last an hour, and what has less than 40 minutes left is handed to nobody.
const SHARED: Duration = Duration::from_secs(20 * 60);
/// Each stands for at most one session more: it came without the table, or it did not get there, or its lease lapsed.
const EXPLANATIONS: [&str; 4] = [
    "a session comes from STS without the shared cache",
    "what became of a session was not shared in time",
    "the lease on a session was lost before it was written",
    "the lease on a session was lost while STS was awaited",
];
/// Causes, where a line has one, that are time limits and nothing else.
const LATE: [&str; 2] = ["the cache table did not answer in time", "there is no data key"];

/// A session of a pod's role.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    at: SystemTime,
    role: String,
}

/// The sessions in a log of local-cloud, oldest first.
pub(crate) fn made(log: &str, within: &Range<SystemTime>) -> Result<Vec<Session>> {
    let mut made = Vec::new();
    for line in lines(log) {
        let role = line["fields"]["role"].as_str().unwrap_or_default();
        if line["fields"]["message"] == "issued" && role.contains("pod-role-outage") {
            let session = Session { at: at(&line)?, role: role.to_owned() };
            made.extend(within.contains(&session.at).then_some(session));
        }
    }
    Ok(made)
}

/// How many of them no other could have stood in for.
pub(crate) fn needed(made: &[Session]) -> usize {
    let mut latest: BTreeMap<&str, SystemTime> = BTreeMap::new();
    let mut needed = 0;
    for session in made {
        let shared = latest.get(&*session.role).is_some_and(|latest| session.at < *latest + SHARED);
        if !shared {
            latest.insert(&session.role, session.at);
            needed += 1;
        }
    }
    needed
}

/// How many lines of the issuer say why a session more was made.
pub(crate) fn explained(lab: &Lab, within: &Range<SystemTime>) -> Result<usize> {
    let mut explained = 0;
    for log in fs::read_dir(lab.registration().directory().join("function"))? {
        for line in lines(&fs::read_to_string(log?.path())?) {
            let says = |field: &str, texts: &[&str]| texts.iter().any(|text| line[field] == **text);
            if says("message", &EXPLANATIONS) && (line["cause"].is_null() || says("cause", &LATE)) {
                explained += usize::from(within.contains(&at(&line)?));
            }
        }
    }
    Ok(explained)
}

fn lines(log: &str) -> impl Iterator<Item = Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn at(line: &Value) -> Result<SystemTime> {
    Ok(humantime::parse_rfc3339(line["timestamp"].as_str().context("a line without a time")?)?)
}
