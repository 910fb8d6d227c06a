//! Renewal while the control plane fails, and after it.

use model::refusal::RefusalCode;
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_outage_of_25_minutes_fails_no_request_whenever_it_begins() {
    for begins in (0..60).step_by(3) {
        let node = Node::new();
        let mut sandboxes = Vec::new();
        for nth in 0..6 {
            sandboxes.push(node.add(["a", "b", "c"][nth % 3], nth, RoleHint::Annotated));
            sleep(MINUTE * 7).await;
        }
        sleep(MINUTE * begins).await;
        node.issuer.set_down(true);
        let began = Instant::now();
        while began.elapsed() < 25 * MINUTE {
            for sandbox in &sandboxes {
                let left = node.left(sandbox).await;
                assert!(left >= 10 * MINUTE, "{left:?} of {} at {:?}", sandbox.pod, began.elapsed());
            }
            sleep(Duration::from_secs(10)).await;
        }
        node.issuer.set_down(false);
        sleep(Duration::from_secs(32)).await;
        for sandbox in &sandboxes {
            assert!(node.left(sandbox).await >= 25 * MINUTE, "renewed within half a minute");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_few_calls_and_each_asks_for_everything_that_is_due() {
    let node = Node::new();
    for nth in 0..100 {
        node.add("a", nth, RoleHint::Annotated);
    }
    sleep(MINUTE).await;
    node.issuer.set_down(true);
    node.issuer.clear();
    sleep(MINUTE * 50).await;
    let sizes = node.issuer.sizes();
    assert!(sizes.len() < 110, "{} calls", sizes.len());
    assert!(sizes.iter().all(|size| *size == (100, 10_000)), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn credentials_are_served_until_they_expire_and_never_after() {
    let node = Node::new();
    let sandbox = node.annotated("a");
    let expiration = node.held(&sandbox).await.credentials.expiration;
    node.issuer.set_down(true);
    let last = expiration.minus(Duration::from_millis(5));
    sleep(last.since(node.clock.now())).await;
    assert!(node.left(&sandbox).await <= Duration::from_millis(5));
    sleep(Duration::from_millis(6)).await;
    let asked = Instant::now();
    let found = node.find(&sandbox).await;
    assert!(matches!(found, Found::NotReady(_)), "{found:?}");
    assert_eq!(asked.elapsed(), HOLD);
    // After the outage the pod's own question brings them back at once, whatever back-off renewal is in.
    sleep(MINUTE * 20).await;
    node.issuer.set_down(false);
    let asked = Instant::now();
    node.held(&sandbox).await;
    assert!(asked.elapsed() < Duration::from_millis(5), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn first_asks_do_not_wait_for_renewals_that_back_off() {
    let node = Node::new();
    let _old = node.annotated("a");
    settle().await;
    node.issuer.set_down(true);
    sleep(MINUTE * 40).await;
    node.issuer.set_down(false);
    node.issuer.clear();
    let new = node.annotated("b");
    let asked = Instant::now();
    node.held(&new).await;
    assert!(asked.elapsed() < Duration::from_millis(5), "{:?}", asked.elapsed());
    assert_eq!(node.issuer.sizes(), [(1, 800)]);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_nodes_of_a_fleet_do_not_come_at_once() {
    let clock = Clock::with_tokio(UnixMillis(1_795_475_000_000));
    let issuer = FakeIssuer::new(clock.clone());
    let nodes: Vec<_> = (0..200).map(|seed| Node::of(Arc::clone(&issuer), clock.clone(), seed)).collect();
    for node in &nodes {
        node.annotated("a");
    }
    sleep(MINUTE).await;
    issuer.set_down(true);
    sleep(MINUTE * 45).await;
    issuer.set_down(false);
    issuer.clear();
    let over = Instant::now();
    sleep(Duration::from_secs(31)).await;
    let mut per_second = [0; 32];
    for (at, _) in issuer.log() {
        per_second[usize::try_from((at - over).as_secs()).unwrap()] += 1;
    }
    assert_eq!(per_second.iter().sum::<usize>(), 200, "each node renewed once");
    assert!(per_second.iter().max() < Some(&25), "{per_second:?}");
}

#[tokio::test(start_paused = true)]
async fn many_pods_that_ask_during_an_outage_cost_no_more_than_one() {
    let node = Node::new();
    let sandboxes: Vec<_> = (0..30).map(|nth| node.add(&format!("role{nth}"), 0, RoleHint::Annotated)).collect();
    sleep(MINUTE).await;
    node.issuer.set_down(true);
    sleep(MINUTE * 65).await;
    node.issuer.clear();
    let end = Instant::now() + MINUTE;
    let mut asking = tokio::task::JoinSet::new();
    for sandbox in &sandboxes {
        let (credentials, sandbox) = (node.credentials.clone(), Arc::clone(sandbox));
        asking.spawn(async move {
            while Instant::now() < end {
                assert!(matches!(credentials.find(&sandbox, HOLD).await.unwrap(), Found::NotReady(_)));
            }
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended.unwrap();
    }
    let requests = node.issuer.sizes().len();
    assert!((30..90).contains(&requests), "{requests} requests in a minute");
    // And the first of them that is answered opens the way for all.
    node.issuer.set_down(false);
    sleep(Duration::from_secs(2)).await;
    for sandbox in &sandboxes {
        node.held(sandbox).await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_sts_throttles_are_asked_for_together() {
    let node = Node::new();
    let sandboxes: Vec<_> = (0..100).map(|nth| node.add("a", nth, RoleHint::Annotated)).collect();
    sleep(MINUTE).await;
    for nth in 0..100 {
        node.issuer.reply(&format!("a-{nth}"), Reply::Refused(RefusalCode::StsThrottled));
    }
    sleep(MINUTE * 26).await;
    node.issuer.clear();
    sleep(MINUTE * 5).await;
    let requests = node.issuer.sizes().len();
    assert!(requests < 60, "{requests} requests in five minutes");
    for sandbox in &sandboxes {
        assert!(node.left(sandbox).await >= 25 * MINUTE);
    }
}
