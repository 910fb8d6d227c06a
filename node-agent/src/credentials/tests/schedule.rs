//! Renewal in normal running.

use std::collections::HashMap;

use tokio::time::Instant;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn nothing_under_25_minutes_is_ever_served() {
    let node = Node::new();
    let mut sandboxes = Vec::new();
    // 30 pods of 8 roles, begun at odd times over an hour and a half.
    for nth in 0..30 {
        sandboxes.push(node.add(["a", "b", "c", "d", "e", "f", "g", "h"][nth % 8], nth, RoleHint::Annotated));
        sleep(Duration::from_secs(181)).await;
    }
    node.issuer.clear();
    let began = Instant::now();
    while began.elapsed() < 10 * HOUR {
        for sandbox in &sandboxes {
            let left = node.left(sandbox).await;
            assert!(left >= 25 * MINUTE, "{} has {left:?}", sandbox.pod);
        }
        sleep(Duration::from_secs(20)).await;
    }
    assert!(node.issuer.sizes().iter().all(|(_, patience)| *patience == 10_000), "nothing but common requests");
}

#[tokio::test(start_paused = true)]
async fn renewal_begins_with_35_to_37_minutes_left_at_a_time_of_its_own() {
    let clock = Clock::with_tokio(UnixMillis(1_795_475_000_000));
    let mut seconds = HashMap::new();
    for seed in 0..60 {
        // Each node has an issuer of its own, so that one's renewal does not renew the other's session.
        let node = Node::of(FakeIssuer::new(clock.clone()), clock.clone(), seed);
        let sandbox = node.annotated("a");
        let first = node.held(&sandbox).await.credentials.expiration;
        loop {
            let held = node.held(&sandbox).await;
            if held.credentials.expiration != first {
                let left = first.since(held.obtained);
                assert!(left >= Duration::from_secs(35 * 60 - 1) && left <= 37 * MINUTE, "{left:?}");
                *seconds.entry(left.as_secs()).or_insert(0) += 1;
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
    assert!(seconds.len() > 30, "{} of 60 nodes renewed at a second of their own", seconds.len());
}

#[tokio::test(start_paused = true)]
async fn one_call_renews_every_pod_and_none_carries_more_than_250() {
    let node = Node::new();
    let sandboxes: Vec<_> = (0..300).map(|nth| node.add("a", nth, RoleHint::Annotated)).collect();
    sleep(MINUTE).await;
    for sandbox in &sandboxes {
        node.held(sandbox).await;
    }
    node.issuer.clear();
    sleep(MINUTE * 26).await;
    assert_eq!(node.issuer.sizes(), [(250, 10_000), (50, 10_000)]);
}

#[tokio::test(start_paused = true)]
async fn what_has_more_than_40_minutes_left_does_not_go_along() {
    let node = Node::new();
    let _old = node.annotated("a");
    sleep(MINUTE * 15).await;
    let _middle = node.annotated("b");
    sleep(MINUTE * 7).await;
    node.issuer.clear();
    sleep(MINUTE * 4).await;
    assert_eq!(node.issuer.sizes(), [(1, 10_000)], "b has about 47 minutes left");
    node.issuer.clear();
    sleep(MINUTE * 15).await;
    assert_eq!(node.issuer.sizes(), [(1, 10_000)], "a has about 45 minutes left");
}

#[tokio::test(start_paused = true)]
async fn a_node_of_a_fleet_makes_about_three_calls_an_hour() {
    let clock = Clock::with_tokio(UnixMillis(1_795_475_000_000));
    let issuer = FakeIssuer::new(clock.clone());
    let mut nodes = Vec::new();
    // 20 nodes that begin at odd times, each with 20 pods of 10 of the fleet's 30 roles.
    for seed in 0..20_u32 {
        let node = Node::of(Arc::clone(&issuer), clock.clone(), seed.into());
        for nth in 0..20_u32 {
            let role = format!("role{}", (seed * 7 + nth * 3) % 30);
            node.add(&role, usize::try_from(nth).unwrap(), RoleHint::Annotated);
        }
        nodes.push(node);
        sleep(Duration::from_secs(187)).await;
    }
    issuer.clear();
    sleep(24 * HOUR).await;
    let per_node_hour = issuer.sizes().len() / (20 * 24);
    assert!(per_node_hour < 3, "{} calls a day", issuer.sizes().len());
}
