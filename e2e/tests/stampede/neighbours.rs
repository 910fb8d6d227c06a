//! Roles of which STS gives no session in time, on the node of pods of others.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::client::SDK_PATIENCE;
use e2e::cloud::FunctionSettings;
use e2e::net::PodSpec;
use e2e::{Lab, Options, crowd, suite};
use futures_util::future::try_join_all;
use local_cloud::faults::{Effect, Rule, Target};

use crate::issuer::{announce, permit};

/// Of each of the two bad roles: more than the agent has requests in flight.
const BAD: usize = 20;
const GOOD: usize = 20;
const PREFIX: &str = "example-rolecall-cluster-pod-role";
const SLOW: Duration = Duration::from_secs(10);

pub(crate) async fn a_slow_and_a_throttled_role_hold_up_no_other_first_ask() -> Result<()> {
    let function = FunctionSettings { environments: 48, ..FunctionSettings::default() };
    let lab = Lab::start(Options { nodes: vec!["node-a".into()], function, ..Options::default() }).await?;
    let role = |name: &str| format!("{PREFIX}-{name}");
    let good: Vec<_> = (0..4).map(|n| role(&format!("good-{n}"))).collect();
    let roles = [&[role("slow"), role("throttled")], &good[..]].concat();
    lab.make_pod_roles(&roles).await?;
    permit(&lab, &["neighbours".to_owned()]).await?;
    let pods = |role: &str, count| {
        (0..count).map(move |n| PodSpec::new("neighbours", &format!("{n}-{role}")).role(role)).collect::<Vec<_>>()
    };
    // The bad ones first.
    let specs: Vec<_> = [pods(&roles[0], BAD), pods(&roles[1], BAD)]
        .into_iter()
        .chain(good.iter().map(|role| pods(role, GOOD / good.len())))
        .flatten()
        .collect();
    announce(&lab, "node-a", &specs).await?;
    let ready = crowd::prepare(&lab, "node-a", specs).await?;
    let of = |name: &str, effect| Rule {
        matching: Some(format!("AssumeRole {}", role(name))),
        ..Rule::new(Target::Sts, effect)
    };
    let slow = Effect::Delay(u64::try_from(SLOW.as_millis())?);
    lab.control()
        .misbehave(&[of("slow", slow), of("throttled", Effect::Throttle), of("good", Effect::Delay(100))])
        .await?;
    let started = try_join_all(ready.into_iter().map(crowd::Ready::start)).await?;
    let (bad, good) = started.split_at(2 * BAD);
    let in_time = good.iter().filter(|(_, _, first)| first.status() == Some(200) && first.took < SDK_PATIENCE).count();
    let longest = good.iter().map(|(_, _, first)| first.took.as_millis()).max().unwrap_or_default();
    let refused = bad.iter().filter(|(_, _, first)| first.status() == Some(503) && first.took < SDK_PATIENCE).count();
    suite::figure(format!(
        "{BAD} pods of a role that takes {SLOW:?}, {BAD} of a throttled one, {GOOD} of others, all at once: {in_time} of the \
         others answered, longest {longest} ms; {refused} of the {} bad ones 503 within the second",
        2 * BAD
    ));
    ensure!(in_time == GOOD, "{:?}", good.iter().map(|(_, _, first)| first).collect::<Vec<_>>());
    ensure!(refused == 2 * BAD, "{refused} of {}", 2 * BAD);
    Ok(())
}
