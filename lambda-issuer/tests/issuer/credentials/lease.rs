//! The lease on asking STS: renewed, lapsed, and what becomes of those who wait when its holder goes.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{PATIENCE, POD, assumed, environments};
use crate::fake_aws::StsMood;
use crate::lab::Lab;

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_while_sts_is_slow() {
    let lab = Lab::new();
    lab.aws.state().sts_delay = Duration::from_millis(1_700);
    let (first, second) = (lab.issuer().await, lab.issuer().await);
    let (one, other) = tokio::join!(lab.ask(&first, POD, PATIENCE), lab.ask(&second, POD, PATIENCE));
    assert_eq!((one.access_key(0), other.access_key(0), assumed(&lab)), ("ASIA1", "ASIA1", 1));
}

/// The environment that asks STS dies, at any time; the others wait no longer than for its lease.
#[tokio::test(start_paused = true)]
async fn the_lease_of_an_environment_that_died_delays_nobody_by_more_than_a_second() {
    let mut longest = Duration::ZERO;
    for death in (20..1_500).step_by(37).map(Duration::from_millis) {
        let lab = Lab::new();
        let issuers = environments(&lab, 9).await;
        lab.aws.state().mood = StsMood::Hangs;
        let began = Instant::now();
        let dying = timeout(death, lab.ask(&issuers[0], POD, PATIENCE));
        let others = issuers[1..].iter().map(async |issuer| {
            let answer = lab.ask(issuer, POD, PATIENCE).await;
            (answer, began.elapsed())
        });
        let (died, answers) = tokio::join!(
            async {
                let died = dying.await.is_err();
                lab.aws.state().mood = StsMood::Gives;
                died
            },
            join_all(others)
        );
        assert!(died);
        for (answer, took) in answers {
            assert_eq!(answer.access_key(0), "ASIA2", "death at {death:?}");
            longest = longest.max(took.saturating_sub(death));
        }
        assert_eq!(assumed(&lab), 2, "death at {death:?}");
    }
    assert!(longest <= Duration::from_secs(1), "{longest:?}");
}

/// A client that hangs up ends no invocation of Lambda's; should a request end early for all that, nobody else's does.
#[tokio::test(start_paused = true)]
async fn who_hangs_up_cancels_nobody_elses_fetch() {
    for own_environment in [true, false] {
        for asks_first in [true, false] {
            let lab = Lab::new();
            lab.aws.state().sts_delay = Duration::from_millis(300);
            let issuers = environments(&lab, 2).await;
            let (quitter, stayer) = (&issuers[0], if own_environment { &issuers[0] } else { &issuers[1] });
            let began = Instant::now();
            let quits = timeout(Duration::from_millis(100), lab.ask(quitter, POD, PATIENCE));
            let stays = lab.ask(stayer, POD, PATIENCE);
            let (quit, stayed) = if asks_first {
                tokio::join!(biased; quits, stays)
            } else {
                let (stayed, quit) = tokio::join!(biased; stays, quits);
                (quit, stayed)
            };
            assert!(quit.is_err());
            assert_eq!(stayed.code(0), "issued");
            // With it goes the call that it had begun; its lease lapses.
            let (calls, within) = if asks_first { (2, 100 + 1_000 + 320) } else { (1, 320) };
            assert_eq!(assumed(&lab), calls, "own: {own_environment}, first: {asks_first}");
            assert!(began.elapsed() <= Duration::from_millis(within), "{:?}", began.elapsed());
        }
    }
}
