//! Cold environments in numbers.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cloud::FunctionSettings;
use e2e::net::PodSpec;
use e2e::suite;
use e2e::world::{ROLE, World};
use e2e::{Lab, Options};
use futures_util::future::try_join_all;
use local_cloud::faults::{Effect, Rule, Target};
use tokio::sync::Semaphore;

use crate::issuer::{Caller, PATIENCE, announce, asked, is_session, permit};

const STS: Duration = Duration::from_millis(100);
/// AssumeRole calls for one session: one, and one more where an environment could not wait.
const CALLS: u64 = 2;

async fn lab(nodes: &[&str], environments: usize) -> Result<Lab> {
    let function = FunctionSettings { environments, ..FunctionSettings::default() };
    let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
    let lab = Lab::start_cloud(Options { nodes, function, ..Options::default() }).await?;
    let sts = Effect::Delay(u64::try_from(STS.as_millis())?);
    lab.control().misbehave(&[Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, sts) }]).await?;
    Ok(lab)
}

pub(crate) async fn a_thousand_cold_requests_for_one_role_over_fifty_environments() -> Result<()> {
    const REQUESTS: usize = 1000;
    const ENVIRONMENTS: usize = 50;
    let lab = lab(&["node-a"], ENVIRONMENTS).await?;
    permit(&lab, &["stampede".to_owned()]).await?;
    let pods: Vec<_> = (0..20).map(|n| PodSpec::new("stampede", &format!("stampede-{n}")).role(ROLE)).collect();
    announce(&lab, "node-a", &pods).await?;
    let caller = Caller::new(&lab, "node-a").await?;
    // An environment has one request at a time; who comes beyond that is sent away by Lambda before any of ours runs.
    let turns = Semaphore::new(ENVIRONMENTS);
    let requests = pods.iter().cycle().take(REQUESTS).map(async |pod| {
        let _turn = turns.acquire().await?;
        caller.issue(std::slice::from_ref(pod), PATIENCE).await
    });
    let answered = try_join_all(requests).await?;
    let sessions = answered.iter().filter(|answered| answered.outcomes.iter().all(is_session)).count();
    let calls = asked(&lab, ROLE).await?;
    let state = lab.control().state().await?;
    suite::figure(format!(
        "{REQUESTS} cold requests for one role, {} environments, STS {} ms: {sessions} sessions, {calls} calls of STS; longest {} \
         ms, {} sent away; INIT at most {} ms",
        state["function"]["starts"],
        STS.as_millis(),
        answered.iter().map(|answered| answered.took.as_millis()).max().unwrap_or_default(),
        answered.iter().map(|answered| answered.sent_away).sum::<usize>(),
        state["function"]["max_init_ms"],
    ));
    ensure!(sessions == REQUESTS, "{sessions} of {REQUESTS} requests got a session");
    ensure!(state["function"]["starts"] == ENVIRONMENTS, "{} environments", state["function"]["starts"]);
    ensure!((1..=CALLS).contains(&calls), "{calls} calls of STS");
    Ok(())
}

/// Eight requests at once, two of each node, each for pods of all roles: as when nodes come back together.
pub(crate) async fn two_hundred_roles_at_once_over_eight_environments() -> Result<()> {
    const ROLES: usize = 200;
    const ENVIRONMENTS: usize = 8;
    const NODES: [&str; 4] = ["node-a", "node-b", "node-c", "node-d"];
    let lab = lab(&NODES, ENVIRONMENTS).await?;
    let roles: Vec<_> = (0..ROLES).map(|n| format!("example-rolecall-cluster-pod-role-many-{n}")).collect();
    lab.make_pod_roles(&roles).await?;
    // Each within its budget of 60 new sessions a minute.
    let namespaces: Vec<_> = (0..8).map(|n| format!("many-{n}")).collect();
    permit(&lab, &namespaces).await?;
    let mut requests = Vec::new();
    for node in NODES {
        let pods: Vec<_> = roles
            .iter()
            .zip(namespaces.iter().cycle())
            .map(|(role, namespace)| PodSpec::new(namespace, &format!("{node}-{role}")).role(role))
            .collect();
        announce(&lab, node, &pods).await?;
        let caller = Caller::new(&lab, node).await?;
        requests.push((caller, pods));
    }
    let asking = requests.iter().flat_map(|request| [request, request]);
    let answered = try_join_all(asking.map(|(caller, pods)| caller.issue(pods, PATIENCE))).await?;
    let sessions: usize =
        answered.iter().map(|answered| answered.outcomes.iter().filter(|outcome| is_session(outcome)).count()).sum();
    let mut calls = Vec::new();
    let state = lab.control().state().await?;
    for role in &roles {
        calls.push(state["assume_role"][World::arn(role)]["asked"].as_u64().unwrap_or(0));
    }
    suite::figure(format!(
        "{ROLES} roles at once, {} environments: {sessions} sessions; {} calls of STS, at most {} a role; longest {} ms",
        state["function"]["starts"],
        calls.iter().sum::<u64>(),
        calls.iter().max().copied().unwrap_or_default(),
        answered.iter().map(|answered| answered.took.as_millis()).max().unwrap_or_default(),
    ));
    ensure!(sessions == ROLES * ENVIRONMENTS, "{sessions} sessions");
    ensure!(calls.iter().all(|calls| (1..=CALLS).contains(calls)), "{calls:?}");
    Ok(())
}
