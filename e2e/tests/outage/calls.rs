//! The calls of the agents, as the API's access log tells them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::Value;

/// One request that the API answered.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it came, by the laboratory's clock.
    pub(crate) at: SystemTime,
    /// The instance that signed.
    pub(crate) instance: String,
    /// The status of the answer.
    pub(crate) status: u64,
}

/// The calls in a log of local-cloud, in the order of their answers.
pub(crate) fn read(log: &str) -> Result<Vec<Call>> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["fields"]["message"] == "api request").map(|line| call(&line)).collect()
}

fn call(line: &Value) -> Result<Call> {
    let answered = line["timestamp"].as_str().context("an access line without a time")?;
    let took = line["fields"]["latency_ms"].as_u64().context("an access line without a latency")?;
    let caller = line["fields"]["caller"].as_str().unwrap_or_default();
    Ok(Call {
        at: humantime::parse_rfc3339(answered)? - Duration::from_millis(took),
        instance: caller.split(':').nth(1).unwrap_or_default().to_owned(),
        status: line["fields"]["status"].as_u64().context("an access line without a status")?,
    })
}

/// When each node first asked what was answered with 200, in seconds after `end`.
pub(crate) fn first_after(calls: &[Call], end: SystemTime) -> BTreeMap<String, f64> {
    let mut first = BTreeMap::new();
    for call in calls.iter().filter(|call| call.status == 200) {
        if let Ok(after) = call.at.duration_since(end) {
            first.entry(call.instance.clone()).or_insert(after.as_secs_f64());
        }
    }
    first
}
