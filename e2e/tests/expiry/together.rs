//! A hundred sessions that end in one moment.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::client::PodClient;
use e2e::cloud::FunctionSettings;
use e2e::metadata::LIST;
use e2e::net::PodSpec;
use e2e::world::{PERMITTED, ROLE, World};
use e2e::{Lab, Options, crowd, suite};
use futures_util::future::try_join_all;
use local_cloud::faults::{Effect, Rule, Target};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

const KEYS: usize = 100;
/// Each within a namespace's budget of new sessions.
const NAMESPACES: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
/// By how much the first sessions end sooner than after an hour: they have a minute more than what renewal begins with.
const SOONER: Duration = Duration::from_secs(24 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// What no answer may have less of.
const LEAST: Duration = Duration::from_secs(25 * 60);
/// AssumeRole requests a second that STS lets through, and how many of a hundred fail otherwise.
const STS_RATE: u32 = 10;
const STS_ERRORS: u8 = 5;
/// How often each pod asks.
const EVERY: Duration = Duration::from_secs(2);
/// From 36 minutes left to 25.
const IN_TIME: Duration = Duration::from_secs(11 * 60);

pub(crate) async fn a_hundred_keys_that_expire_together_are_renewed_in_time() -> Result<()> {
    let function = FunctionSettings { environments: 32, ..FunctionSettings::default() };
    let mut lab = Lab::start(Options { nodes: vec!["node-a".into()], function, ..Options::default() }).await?;
    let pods = pods(&lab).await?;
    let assume_role = |effect| Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, effect) };
    lab.control().misbehave(&[assume_role(Effect::Shorten(SOONER.as_secs()))]).await?;
    let started =
        try_join_all(crowd::prepare(&lab, "node-a", pods).await?.into_iter().map(crowd::Ready::start)).await?;
    let clients: Vec<_> = started.iter().map(|(_, client, _)| client).collect();
    let first = first_expirations(&clients).await?;
    let had = Instant::now();
    let throttle = Rule { beyond: Some(STS_RATE), ..assume_role(Effect::Throttle) };
    let errors = Rule { percent: STS_ERRORS, ..assume_role(Effect::Error(500)) };
    lab.control().misbehave(&[throttle, errors]).await?;
    let before = (asked(&lab).await?, issuer_calls(&mut lab).await?);
    let seen = until_all_are_renewed(&clients, &first, had).await?;
    let (calls, requests) = (asked(&lab).await? - before.0, issuer_calls(&mut lab).await? - before.1);
    suite::figure(format!(
        "{KEYS} keys that end together, STS {STS_RATE} a second with {STS_ERRORS} % errors: all renewed, the first {} s and the last \
         {} s after they had 36 minutes left; {} answers, none without credentials, least left {} s; {requests} requests to \
         the issuer, {calls} AssumeRole calls that STS let through",
        seen.first.as_secs(),
        seen.last.as_secs(),
        seen.answers,
        seen.least.as_secs()
    ));
    ensure!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    ensure!(seen.least >= LEAST, "an answer had {:?} left", seen.least);
    Ok(())
}

/// Pods with a session each.
async fn pods(lab: &Lab) -> Result<Vec<PodSpec>> {
    let namespace = |n| format!("expiry-{}", n % NAMESPACES);
    let pod = |n| PodSpec::new(&namespace(n), &format!("expiry-{n}")).role(ROLE);
    let pods: Vec<_> =
        (0..KEYS).map(|n| pod(n).annotation("iam.amazonaws.com/session-name", &format!("expiry-{n}"))).collect();
    for n in 0..NAMESPACES {
        lab.directory().permit(&namespace(n), PERMITTED).await?;
    }
    for pod in &pods {
        let record = lab.directory().record_of(pod, lab.node("node-a")?, ROLE)?;
        lab.directory().put_pod(&pod.namespace, &pod.name, &record).await?;
    }
    Ok(pods)
}

/// When the session of each pod ends; asks until each has one.
async fn first_expirations(clients: &[&PodClient]) -> Result<Vec<SystemTime>> {
    let one = async |client: &PodClient| {
        let began = Instant::now();
        loop {
            if let Ok(expiration) = expiration(client).await? {
                return anyhow::Ok(expiration);
            }
            ensure!(began.elapsed() < MINUTE, "a pod has no session");
        }
    };
    try_join_all(clients.iter().map(|client| one(client))).await
}

/// When what the pod is given ends, or what it is given instead.
async fn expiration(client: &PodClient) -> Result<Result<SystemTime, String>> {
    let answer = client.get(&format!("{LIST}{ROLE}")).await?;
    let document = match &answer.answer {
        Ok((200, body)) => serde_json::from_str::<Value>(body)?,
        _ => return Ok(Err(format!("{answer:?}"))),
    };
    let Some(expiration) = document["Expiration"].as_str() else { return Ok(Err(document.to_string())) };
    Ok(Ok(humantime::parse_rfc3339(expiration)?))
}

struct Seen {
    answers: usize,
    wrong: Vec<String>,
    least: Duration,
    /// When the first and the last key was seen to be renewed.
    first: Duration,
    last: Duration,
}

async fn until_all_are_renewed(clients: &[&PodClient], first: &[SystemTime], had: Instant) -> Result<Seen> {
    let mut seen = Seen { answers: 0, wrong: Vec::new(), least: HOUR, first: Duration::ZERO, last: Duration::ZERO };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        ensure!(had.elapsed() < IN_TIME, "not all keys were renewed");
        let mut renewed = 0;
        for (answer, first) in
            try_join_all(clients.iter().map(|client| expiration(client))).await?.into_iter().zip(first)
        {
            seen.answers += 1;
            match answer {
                Ok(expiration) => {
                    seen.least = seen.least.min(expiration.duration_since(now()).unwrap_or_default());
                    renewed += usize::from(expiration > *first);
                }
                Err(instead) => seen.wrong.push(instead),
            }
        }
        if renewed > 0 && seen.first.is_zero() {
            seen.first = had.elapsed();
        }
        if renewed == clients.len() {
            seen.last = had.elapsed();
            return Ok(seen);
        }
    }
}

async fn asked(lab: &Lab) -> Result<u64> {
    let state = lab.control().state().await?;
    state["assume_role"][World::arn(ROLE)]["asked"].as_u64().context("AssumeRole calls")
}

/// Requests of the agent to the issuer.
async fn issuer_calls(lab: &mut Lab) -> Result<u64> {
    let metrics = lab.agent("node-a")?.health("/metrics").await?;
    let lines = metrics.lines().filter(|line| line.starts_with("rolecall_issuer_calls_total{"));
    lines.map(|line| Ok(line.rsplit(' ').next().context("a number")?.parse::<u64>()?)).sum()
}

#[expect(clippy::disallowed_methods, reason = "the laboratory's programs live in the real time")]
fn now() -> SystemTime {
    SystemTime::now()
}
