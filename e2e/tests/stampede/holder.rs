//! The environment that asks STS for everybody dies.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cloud::FunctionSettings;
use e2e::net::PodSpec;
use e2e::process::wait_for;
use e2e::suite;
use e2e::world::ROLE;
use e2e::{Lab, Options};
use futures_util::future::{try_join, try_join_all};
use local_cloud::faults::{Effect, Rule, Target};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::issuer::{Caller, PATIENCE, announce, asked, is_session, permit};

/// Environments that wait for the holder's session.
const WAITING: usize = 8;
/// A lease that is not renewed lapses in this time.
const LEASE: Duration = Duration::from_secs(1);
const STS_MS: u64 = 100;
/// Longer than a cold environment takes until it waits for the lease.
const INIT: Duration = Duration::from_millis(700);
const SOON: Duration = Duration::from_secs(10);

pub(crate) async fn a_holder_that_dies_delays_nobody_by_more_than_a_second() -> Result<()> {
    let function = FunctionSettings { environments: WAITING + 1, ..FunctionSettings::default() };
    let lab = Lab::start_cloud(Options { nodes: vec!["node-a".into()], function, ..Options::default() }).await?;
    permit(&lab, &["holder".to_owned()]).await?;
    let caller = Caller::new(&lab, "node-a").await?;
    let quick = Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, Effect::Delay(STS_MS)) };
    lab.control().misbehave(std::slice::from_ref(&quick)).await?;
    // The first makes the environments warm, as those that wait for the holder are.
    together(&caller, &announced(&lab, "warm-up").await?).await?;
    let mut undisturbed = Duration::ZERO;
    for session in ["undisturbed-1", "undisturbed-2", "undisturbed-3"] {
        undisturbed = undisturbed.max(together(&caller, &announced(&lab, session).await?).await?);
    }
    let before = asked(&lab, ROLE).await?;
    let disturbed = without_the_holder(&lab, &caller, quick).await?;
    let calls = asked(&lab, ROLE).await? - before;
    suite::figure(format!(
        "{WAITING} environments wait for one session, STS {STS_MS} ms: {} ms; with the holder of the lease killed: {} ms after \
         its death, {calls} calls of STS answered",
        undisturbed.as_millis(),
        disturbed.as_millis()
    ));
    ensure!(disturbed <= undisturbed + LEASE, "{disturbed:?}, undisturbed {undisturbed:?}");
    ensure!(calls == 1, "{calls} calls of STS");
    Ok(())
}

/// Kills the environment that asks STS for all, and says how long after that the last of the others had the session.
async fn without_the_holder(lab: &Lab, caller: &Caller, quick: Rule) -> Result<Duration> {
    let pods = announced(lab, "orphaned").await?;
    let (holders, waiting) = pods.split_first().context("pods")?;
    let holder = only_environment(lab, caller).await?;
    // The holder's own call does not come back.
    let hang = Rule { count: Some(1), effect: Effect::Hang, ..quick.clone() };
    lab.control().misbehave(&[hang, quick]).await?;
    let others = async {
        // The rule is gone once it has struck: the holder asks STS.
        state(lab, "the holder asks STS", |state| state["faults"].as_array().is_some_and(|rules| rules.len() == 1))
            .await?;
        let death = async {
            state(lab, "all wait", |state| state["function"]["busy"] == WAITING + 1).await?;
            sleep(INIT).await;
            kill(Pid::from_raw(holder), Signal::SIGKILL)?;
            anyhow::Ok(Instant::now())
        };
        let waited = try_join_all(waiting.iter().map(async |pod| {
            session_of(caller, pod).await?;
            anyhow::Ok(Instant::now())
        }));
        let (died, had) = try_join(death, waited).await?;
        let last = had.into_iter().max().context("somebody waits")?;
        ensure!(last > died, "the session was there before the holder died");
        Ok(last - died)
    };
    let ((), delay) = try_join(session_of(caller, holders), others).await?;
    Ok(delay)
}

/// How long it takes until all have a session.
async fn together(caller: &Caller, pods: &[PodSpec]) -> Result<Duration> {
    let began = Instant::now();
    try_join_all(pods.iter().map(|pod| session_of(caller, pod))).await?;
    Ok(began.elapsed())
}

async fn session_of(caller: &Caller, pod: &PodSpec) -> Result<()> {
    let answered = caller.issue(std::slice::from_ref(pod), PATIENCE).await?;
    ensure!(answered.outcomes.iter().all(is_session), "{:?}", answered.outcomes);
    Ok(())
}

/// Pods that share a session which nobody has: one more than environments that wait.
async fn announced(lab: &Lab, session: &str) -> Result<Vec<PodSpec>> {
    let pod = |n| PodSpec::new("holder", &format!("{session}-{n}")).role(ROLE);
    let pods: Vec<_> = (0..=WAITING).map(|n| pod(n).annotation("iam.amazonaws.com/session-name", session)).collect();
    announce(lab, "node-a", &pods).await?;
    Ok(pods)
}

/// Leaves the function with one environment, which gets the next event, and gives its process id.
async fn only_environment(lab: &Lab, caller: &Caller) -> Result<i32> {
    lab.control().recycle().await?;
    caller.ask(&[], PATIENCE).await?;
    let state = state(lab, "one environment", |state| state["function"]["frozen"] == 1).await?;
    let pid = state["function"]["frozen_pids"][0].as_i64().context("a process id")?;
    i32::try_from(pid).map_err(Into::into)
}

async fn state(lab: &Lab, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_for(what, SOON, async || lab.control().state().await.ok().filter(&is)).await
}
