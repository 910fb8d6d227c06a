//! Many sessions end together while STS throttles and errs.

use std::time::Duration;

use lambda_issuer::clock::Clock;
use tokio::time::{Instant, sleep};

use super::{assumed, environments};
use crate::fake_aws::Quota;
use crate::lab::Lab;

const KEYS: usize = 100;
const NAMESPACES: usize = 4;
/// An agent's patience with a refresh.
const REFRESH: Duration = Duration::from_secs(10);
/// How old a session is when an agent refreshes it, with 35 minutes left, and when it must have been refreshed.
const REFRESHED_FROM: Duration = Duration::from_secs(25 * 60);
const REFRESHED_BY: Duration = Duration::from_secs(35 * 60);

#[tokio::test(start_paused = true)]
async fn a_hundred_keys_that_expire_together_are_renewed_in_time_by_an_sts_that_throttles_and_errs() {
    let lab = Lab::new();
    let pods: Vec<String> = (0..KEYS).map(|n| format!("team-{}/pod-{n}", n % NAMESPACES)).collect();
    for (n, pod) in pods.iter().enumerate() {
        let (namespace, name) = pod.split_once('/').unwrap();
        lab.put_namespace(namespace, ".*");
        lab.put_pod(namespace, name, &format!("role-{n}"));
    }
    let mut asking: Vec<&str> = pods.iter().map(String::as_str).collect();
    let issuers = environments(&lab, 4).await;
    let first = lab.ask(&issuers[0], &asking, REFRESH).await;
    assert!((0..KEYS).all(|place| first.code(place) == "issued"));
    let issued = lab.clock.now();
    lab.clock.advance(REFRESHED_FROM);
    lab.put_health();
    {
        let mut state = lab.aws.state();
        state.sts_delay = Duration::from_millis(100);
        state.dynamo_delay = Duration::from_millis(10);
        state.sts_quota = Some(Quota::new(10, lab.clock.now()));
        state.sts_fails_every = Some(20);
        state.assumed.clear();
    }
    let began = Instant::now();
    let mut pause = Duration::from_millis(100);
    for round in 0.. {
        // Whichever environment Lambda picks.
        let answer = lab.ask(&issuers[round % issuers.len()], &asking, REFRESH).await;
        let now = lab.clock.now();
        for session in answer.body["sessions"].as_array().unwrap() {
            let left = session["credentials"]["expiration"].as_u64().unwrap() - now.0;
            assert!(left >= 40 * 60_000, "a session of {left} ms was handed out");
        }
        let mut place = 0;
        asking.retain(|_| {
            place += 1;
            let code = answer.code(place - 1);
            assert!(["issued", "pending", "sts_throttled", "sts_unavailable"].contains(&code), "{code}");
            code != "issued"
        });
        if asking.is_empty() {
            break;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
        lab.put_health();
    }
    let (took, calls) = (began.elapsed(), assumed(&lab));
    assert!(lab.clock.now() <= issued.plus(REFRESHED_BY), "{took:?}");
    // A call that STS throttles spends a budget like any other: they are there for the very time in which STS throttles. So it
    // is the instance's budget of 120 a minute that sets the pace, in half of the time that there is.
    assert!(took <= Duration::from_secs(300), "{took:?}");
    assert!(calls <= 6 * KEYS, "{calls}");
}
