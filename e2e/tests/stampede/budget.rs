//! A tenant that makes each of its pods need a session of its own.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::net::PodSpec;
use e2e::world::ROLE;
use e2e::{Lab, Options, suite};
use futures_util::future::try_join_all;
use model::refusal::RefusalCode;
use model::wire::Outcome;
use tokio::time::sleep;

use crate::issuer::{Caller, PATIENCE, announce, asked, is_session, permit};

/// New sessions a minute of a namespace.
const BUDGET: usize = 60;
const NODES: [&str; 2] = ["node-a", "node-b"];
const GREEDY_PER_NODE: usize = 75;
const NEIGHBOURS_PER_NODE: usize = 10;
/// Budgets are counted by the minute of the clock; what follows is done within this.
const TAKES: Duration = Duration::from_secs(25);

pub(crate) async fn a_tenant_cannot_spend_more_than_its_budget() -> Result<()> {
    let lab = Lab::start_cloud(Options::default()).await?;
    permit(&lab, &["greedy".to_owned(), "modest".to_owned()]).await?;
    let mut requests = Vec::new();
    for node in NODES {
        let pods = |namespace: &'static str, count| {
            let pod = move |n| {
                let pod = PodSpec::new(namespace, &format!("{namespace}-{node}-{n}")).role(ROLE);
                let pod = pod.annotation("iam.amazonaws.com/session-name", &format!("{namespace}-{node}-{n}"));
                pod.annotation("iam.amazonaws.com/external-id", &format!("guess-{n}"))
            };
            (0..count).map(pod).collect::<Vec<_>>()
        };
        let (greedy, modest) = (pods("greedy", GREEDY_PER_NODE), pods("modest", NEIGHBOURS_PER_NODE));
        announce(&lab, node, &[&greedy[..], &modest].concat()).await?;
        requests.push((Caller::new(&lab, node).await?, greedy, modest));
    }
    await_room_in_the_minute().await;
    let mut greedy = Vec::new();
    // Twice: asking again gets what was left over the first time, and no more.
    for _ in 0..2 {
        let asks = requests
            .iter()
            .map(async |(caller, greedy, _)| caller.ask(greedy, PATIENCE).await?.context("the issuer answers"));
        greedy = try_join_all(asks).await?.concat();
    }
    let spent = asked(&lab, ROLE).await?;
    let modest = try_join_all(requests.iter().map(|(caller, _, modest)| caller.issue(modest, PATIENCE))).await?;
    let sessions = greedy.iter().filter(|outcome| is_session(outcome)).count();
    let throttled = greedy.iter().filter(|outcome| names_the_budget(outcome)).count();
    let neighbours: usize =
        modest.iter().map(|answered| answered.outcomes.iter().filter(|outcome| is_session(outcome)).count()).sum();
    suite::figure(format!(
        "{} pods of one namespace, each with a session of its own: {sessions} sessions and {spent} calls of STS in the minute, \
         {throttled} refused by the budget; its neighbours: {neighbours} of {} sessions",
        greedy.len(),
        NODES.len() * NEIGHBOURS_PER_NODE
    ));
    ensure!(sessions == BUDGET && spent == u64::try_from(BUDGET)?, "{sessions} sessions, {spent} calls");
    ensure!(throttled == greedy.len() - BUDGET, "{throttled} refused");
    ensure!(neighbours == NODES.len() * NEIGHBOURS_PER_NODE, "{neighbours} sessions of neighbours");
    Ok(())
}

fn names_the_budget(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(refusal)
        if refusal.code == RefusalCode::StsThrottled && refusal.message.contains("the namespace greedy has spent its budget"))
}

#[expect(clippy::disallowed_methods, reason = "the issuer's budgets are counted by the real minute")]
async fn await_room_in_the_minute() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_secs(60 - now.as_secs() % 60);
    if left < TAKES {
        sleep(left).await;
    }
}
