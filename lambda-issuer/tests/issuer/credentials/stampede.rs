//! Many ask at once: STS is asked once for a role, and nobody waits for another role.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use lambda_issuer::handler::Issuer;
use tokio::time::{Instant, sleep};

use super::{FIRST_ASK, PATIENCE, POD, assumed, environments};
use crate::fake_aws::StsMood;
use crate::lab::{Answer, Lab};

/// What the issuer's own steps may take on top of STS: up to four calls of a DynamoDB of 10 ms, each after its turn, and a look
/// at what another environment makes, every 40 to 80 ms.
const OVERHEAD: Duration = Duration::from_millis(200);
/// First asks that a node has in flight, should they all meet one environment. (Lambda gives it one request at a time.)
const FIRST_ASKS_AT_ONCE: usize = 16;

async fn timed(lab: &Lab, issuer: &Issuer, pods: &[&str], patience: Duration) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = lab.ask(issuer, pods, patience).await;
    (answer, began.elapsed())
}

fn with_delays(lab: &Lab, sts: u64) {
    let mut state = lab.aws.state();
    state.sts_delay = Duration::from_millis(sts);
    state.dynamo_delay = Duration::from_millis(10);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_requests_on_one_role_over_fifty_environments_are_one_call() {
    for sts in [50, 150, 300] {
        let lab = Lab::new();
        with_delays(&lab, sts);
        let issuers = environments(&lab, 50).await;
        let asks = (0..1_000).map(|n| timed(&lab, &issuers[n % 50], POD, FIRST_ASK));
        let answers = join_all(asks).await;
        assert!(answers.iter().all(|(answer, _)| answer.access_key(0) == "ASIA1"));
        assert_eq!(assumed(&lab), 1, "with STS at {sts} ms");
        let slowest = answers.iter().map(|(_, took)| *took).max().unwrap();
        assert!(slowest <= Duration::from_millis(sts) + OVERHEAD, "with STS at {sts} ms: {slowest:?}");
    }
}

/// As Lambda does it: an environment has one request at a time, and the next when that is answered.
#[tokio::test(start_paused = true)]
async fn environments_that_take_one_request_at_a_time_share_too() {
    let lab = Lab::new();
    with_delays(&lab, 150);
    let issuers = environments(&lab, 50).await;
    let queues = issuers.iter().map(async |issuer| {
        for _ in 0..20 {
            assert_eq!(lab.ask(issuer, POD, FIRST_ASK).await.access_key(0), "ASIA1");
        }
    });
    join_all(queues).await;
    assert_eq!(assumed(&lab), 1);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_roles_at_once_over_eight_environments_are_one_call_each() {
    for sts in [50, 150, 300] {
        let mut lab = Lab::new();
        // Exactly enough: a session that was paid for twice would be refused.
        lab.set("BUDGET_INSTANCE_PER_MINUTE", "200");
        with_delays(&lab, sts);
        let pods: Vec<String> = (0..200).map(|n| format!("team-{}/pod-{n}", n % 4)).collect();
        for (n, pod) in pods.iter().enumerate() {
            let (namespace, name) = pod.split_once('/').unwrap();
            lab.put_namespace(namespace, ".*");
            lab.put_pod(namespace, name, &format!("role-{n}"));
        }
        let issuers = environments(&lab, 8).await;
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let asks = issuers.iter().map(|issuer| {
            let asks = pods.chunks(1).map(|pod| timed(&lab, issuer, pod, FIRST_ASK));
            stream::iter(asks).buffer_unordered(FIRST_ASKS_AT_ONCE).collect::<Vec<_>>()
        });
        let answers = join_all(asks).await.concat();
        assert_eq!(answers.len(), 1_600);
        assert!(answers.iter().all(|(answer, _)| answer.code(0) == "issued"));
        let calls = lab.aws.state().assumed_by_role();
        assert_eq!((calls.len(), calls.values().max()), (200, Some(&1)), "with STS at {sts} ms");
        let slowest = answers.iter().map(|(_, took)| *took).max().unwrap();
        assert!(slowest <= Duration::from_millis(sts) + OVERHEAD, "with STS at {sts} ms: {slowest:?}");
    }
}

/// A refresh: each of eight nodes asks for all roles in one request.
#[tokio::test(start_paused = true)]
async fn two_hundred_roles_in_each_of_eight_refreshes_are_one_call_each() {
    let mut lab = Lab::new();
    lab.set("BUDGET_INSTANCE_PER_MINUTE", "200");
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "200");
    with_delays(&lab, 150);
    let pods: Vec<String> = (0..200).map(|n| format!("default/pod-{n}")).collect();
    for n in 0..200 {
        lab.put_pod("default", &format!("pod-{n}"), &format!("role-{n}"));
    }
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let issuers = environments(&lab, 8).await;
    let answers = join_all(issuers.iter().map(|issuer| lab.ask(issuer, &pods, Duration::from_secs(10)))).await;
    assert!(answers.iter().all(|answer| (0..200).all(|place| answer.code(place) == "issued")));
    let calls = lab.aws.state().assumed_by_role();
    assert_eq!((calls.len(), calls.values().max()), (200, Some(&1)));
}

/// Every environment is kept busy with a role that takes 10 s and with one that is throttled, by agents that ask again at once.
#[tokio::test(start_paused = true)]
async fn a_slow_role_and_a_throttled_one_hold_up_no_other_first_ask() {
    let lab = Lab::new();
    with_delays(&lab, 100);
    for role in ["slow", "throttled"] {
        lab.put_pod("default", role, role);
    }
    {
        let mut state = lab.aws.state();
        state.moods.insert("slow".into(), StsMood::GivesAfter(Duration::from_secs(10)));
        state.moods.insert("throttled".into(), StsMood::THROTTLES);
    }
    let pods: Vec<String> = (0..48).map(|n| format!("other/pod-{n}")).collect();
    lab.put_namespace("other", ".*");
    for n in 0..48 {
        lab.put_pod("other", &format!("pod-{n}"), &format!("role-{n}"));
    }
    let issuers = environments(&lab, 8).await;
    let nuisance = join_all(issuers.iter().flat_map(|issuer| {
        ["default/slow", "default/throttled"].map(async |pod| {
            loop {
                assert_ne!(lab.ask(issuer, &[pod], FIRST_ASK).await.code(0), "issued");
            }
        })
    }));
    let others = async {
        let mut slowest = Duration::ZERO;
        for (n, pod) in pods.iter().enumerate() {
            sleep(Duration::from_millis(50)).await;
            let pod = [pod.as_str()];
            let asks = issuers.iter().map(|issuer| timed(&lab, issuer, &pod, FIRST_ASK));
            for (answer, took) in join_all(asks).await {
                assert_eq!(answer.code(0), "issued", "{n}");
                slowest = slowest.max(took);
            }
        }
        slowest
    };
    let slowest = tokio::select! {
        slowest = others => slowest,
        _ = nuisance => unreachable!("it does not end"),
    };
    assert!(slowest <= Duration::from_millis(100) + OVERHEAD, "{slowest:?}");
    let calls = lab.aws.state().assumed_by_role();
    assert!((0..48).all(|n| calls[&format!("role-{n}")] == 1));
}

/// As many slow roles as sessions are worked on at once, before others in a request that is asked again and again.
#[tokio::test(start_paused = true)]
async fn what_waits_behind_slow_roles_is_not_behind_them_every_time() {
    let mut lab = Lab::new();
    with_delays(&lab, 100);
    lab.set("BUDGET_INSTANCE_PER_MINUTE", "10000");
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "10000");
    let pods: Vec<String> = (0..50).map(|n| format!("default/pod-{n}")).collect();
    for n in 0..50 {
        lab.put_pod("default", &format!("pod-{n}"), &format!("role-{n}"));
    }
    for n in 0..16 {
        let slow = StsMood::GivesAfter(Duration::from_secs(10));
        lab.aws.state().moods.insert(format!("role-{n}"), slow);
    }
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let issuer = lab.issuer().await;
    // Where a request begins is chosen at random: it is a matter of 2^-35 that none begins where the others are reached.
    for attempt in 0.. {
        let answer = lab.ask(&issuer, &pods, FIRST_ASK).await;
        if (16..50).all(|place| answer.code(place) == "issued") {
            break;
        }
        assert!(attempt < 64);
    }
}

#[tokio::test(start_paused = true)]
async fn one_denial_for_fifty_impatient_clients_is_one_call() {
    let lab = Lab::new();
    with_delays(&lab, 300);
    lab.aws.state().mood = StsMood::Refuses(403, "AccessDenied", "not authorized");
    let issuers = environments(&lab, 10).await;
    let clients = (0..50).map(|n| {
        let (lab, issuer) = (&lab, &issuers[n % 10]);
        async move {
            // It asks again at once, for as long as a denial stands.
            let until = Instant::now() + Duration::from_secs(2);
            let mut asked = 0;
            while Instant::now() < until {
                assert_eq!(lab.ask(issuer, POD, FIRST_ASK).await.code(0), "assume_role_denied");
                asked += 1;
                sleep(Duration::from_millis(100)).await;
            }
            asked
        }
    });
    let asked: u32 = join_all(clients).await.into_iter().sum();
    assert!(asked >= 50 * 10, "{asked}");
    assert_eq!(assumed(&lab), 1);
}

/// Whoever keeps environments from making a session: the cold start of all of them at a role that STS gives late.
#[tokio::test(start_paused = true)]
async fn the_next_ask_after_one_whose_patience_ended_is_soon_at_sts() {
    let lab = Lab::new();
    lab.aws.state().sts_delay = Duration::from_millis(900);
    let issuers = environments(&lab, 8).await;
    let began = Instant::now();
    let first = join_all(issuers.iter().map(|issuer| lab.ask(issuer, POD, FIRST_ASK))).await;
    assert!(first.iter().all(|answer| answer.code(0) == "pending"));
    let again = join_all(issuers.iter().map(|issuer| lab.ask(issuer, POD, PATIENCE))).await;
    assert!(again.iter().all(|answer| answer.access_key(0) == "ASIA2"));
    let took = began.elapsed().as_millis();
    // 800 ms, 200 ms of pause, 900 ms of STS, a look at what came of it.
    assert!((1_900..2_000).contains(&took), "{took} ms");
    assert_eq!(assumed(&lab), 2);
}
