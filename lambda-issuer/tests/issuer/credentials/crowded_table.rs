//! A cache table that is slow because much is asked of it at once: nobody goes round it for that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lambda_issuer::handler::Issuer;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::budgets::{counters, put_loud_tenant, spent};
use super::{assumed, environments};
use crate::lab::Lab;

/// An agent's patience with a refresh.
const REFRESH: Duration = Duration::from_secs(10);
/// A call takes 20 ms, and eight are carried at once: 120 open calls are the 300 ms after which the table counts as broken.
const LANES: usize = 8;
const TAKES: Duration = Duration::from_millis(20);

fn crowd_the_table(lab: &Lab) {
    let mut state = lab.aws.state();
    state.sts_delay = Duration::from_millis(100);
    state.dynamo_lanes = Some((Arc::new(Semaphore::new(LANES)), TAKES));
}

/// Asks as an agent does: what is pending again, at once. Gives the other codes, by pod.
async fn ask_until_answered(lab: &Lab, issuer: &Issuer, pods: &[&str]) -> Vec<String> {
    for _ in 0..6 {
        let answer = lab.ask(issuer, pods, REFRESH).await;
        let codes: Vec<String> = (0..pods.len()).map(|place| answer.code(place).to_owned()).collect();
        if codes.iter().all(|code| code != "pending") {
            return codes;
        }
    }
    panic!("still pending after six requests");
}

/// Sessions that came without the shared cache, and items of it that did not open.
fn cache_failures(lab: &Lab) -> u64 {
    let lines = lab.lines.text();
    lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["CacheFailures"].as_u64()).sum()
}

#[tokio::test(start_paused = true)]
async fn two_hundred_roles_over_eight_environments_go_through_a_crowded_table() {
    let mut lab = Lab::new();
    lab.set("BUDGET_INSTANCE_PER_MINUTE", "400");
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "400");
    let pods: Vec<String> = (0..200).map(|n| format!("default/pod-{n}")).collect();
    for n in 0..200 {
        lab.put_pod("default", &format!("pod-{n}"), &format!("role-{n}"));
    }
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let issuers = environments(&lab, 8).await;
    crowd_the_table(&lab);
    let answers = join_all(issuers.iter().map(|issuer| ask_until_answered(&lab, issuer, &pods))).await;
    assert!(answers.iter().all(|codes| codes.iter().all(|code| code == "issued")));
    let calls = lab.aws.state().assumed_by_role();
    assert_eq!(cache_failures(&lab), 0);
    // Four who look and four who hold leases, in each environment.
    assert!(lab.aws.state().most_open_dynamo_calls <= 8 * 8);
    assert_eq!(calls.len(), 200);
    assert!(calls.values().all(|calls| *calls <= 2), "{calls:?}");
    // Every call was paid for.
    let calls = u32::try_from(assumed(&lab)).unwrap();
    assert_eq!(spent(&lab), counters([("instance/i-0123456789abcdef0", calls), ("namespace/default", calls)]));
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_counted_to_the_last_session_in_a_crowded_table() {
    let lab = Lab::new();
    let pods = put_loud_tenant(&lab);
    // So few that all is done in one request's patience: what that cuts off can be paid for in vain.
    let pods: Vec<&str> = pods.iter().take(70).map(String::as_str).collect();
    let issuers = environments(&lab, 8).await;
    crowd_the_table(&lab);
    let answers = join_all(issuers.iter().map(|issuer| ask_until_answered(&lab, issuer, &pods))).await;
    let issued: BTreeSet<usize> =
        answers.iter().flat_map(|codes| (0..70).filter(|place| codes[*place] == "issued")).collect();
    assert_eq!((cache_failures(&lab), issued.len(), assumed(&lab)), (0, 60, 60));
    assert_eq!(spent(&lab), counters([("instance/i-0123456789abcdef0", 60), ("namespace/loud", 60)]));
}
