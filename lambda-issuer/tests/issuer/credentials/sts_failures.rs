//! What STS refuses, and how long it is then left alone.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{FIRST_ASK, PATIENCE, POD, assumed, environments};
use crate::fake_aws::StsMood;
use crate::lab::Lab;

#[tokio::test(start_paused = true)]
async fn a_denial_is_told_to_all_who_wait_and_stands_for_two_seconds() {
    let lab = Lab::new();
    {
        let mut state = lab.aws.state();
        state.mood = StsMood::Refuses(403, "AccessDenied", "not authorized");
        state.sts_delay = Duration::from_millis(150);
    }
    let issuers = environments(&lab, 4).await;
    let answers = join_all(issuers.iter().map(|issuer| lab.ask(issuer, POD, PATIENCE))).await;
    for answer in &answers {
        assert_eq!(answer.code(0), "assume_role_denied");
        let expected = "STS denies arn:aws:iam::123456789012:role/app to the issuer. Check that (1) a role of that ARN, path \
                        included, exists; (2) its trust policy allows sts:AssumeRole to arn:aws:iam::123456789012:role/issuer; \
                        (3) it must not demand sts:ExternalId, or the namespace or pod must carry that id in its external-id \
                        annotation; (4) the issuer's own policy allows sts:AssumeRole on the role, and no service control \
                        policy or permissions boundary forbids it.";
        assert_eq!(answer.message(0), expected);
        assert_eq!(answer.body["outcomes"][0]["refused"]["role"], "arn:aws:iam::123456789012:role/app");
    }
    assert_eq!(assumed(&lab), 1);
    assert_eq!(lab.ask(&issuers[0], POD, PATIENCE).await.code(0), "assume_role_denied");
    assert_eq!(assumed(&lab), 1);
    lab.aws.state().mood = StsMood::Gives;
    lab.clock.advance(Duration::from_secs(2));
    assert_eq!(lab.ask(&issuers[1], POD, PATIENCE).await.code(0), "issued");
}

#[tokio::test(start_paused = true)]
async fn what_sts_does_not_take_is_told_in_its_words_in_every_environment() {
    let lab = Lab::new();
    lab.aws.state().mood = StsMood::Refuses(400, "ValidationError", "the tag is odd");
    for issuer in [lab.issuer().await, lab.issuer().await] {
        let answer = lab.ask(&issuer, POD, PATIENCE).await;
        assert_eq!(answer.code(0), "assume_role_denied");
        assert!(answer.message(0).ends_with(": the tag is odd"), "{}", answer.message(0));
    }
    assert_eq!(assumed(&lab), 1);
}

#[tokio::test(start_paused = true)]
async fn each_failure_of_sts_has_its_code() {
    let cases = [
        (StsMood::Refuses(400, "Throttling", "Rate exceeded"), "sts_throttled"),
        (StsMood::Refuses(500, "InternalFailure", "x"), "sts_unavailable"),
        (StsMood::Refuses(403, "ExpiredToken", "x"), "sts_unavailable"),
        (StsMood::GivesAnother, "sts_unavailable"),
        (StsMood::GivesGarbage, "sts_unavailable"),
    ];
    for (mood, code) in cases {
        let lab = Lab::new();
        lab.aws.state().mood = mood;
        let issuer = lab.issuer().await;
        let answer = lab.ask(&issuer, POD, PATIENCE).await;
        assert_eq!((answer.code(0), answer.body["sessions"].as_array().unwrap().len()), (code, 0));
        // Nothing was kept: with a healthy STS the next ask waits for the lease to lapse and gets its session.
        lab.aws.state().mood = StsMood::Gives;
        assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    }
}

/// What another environment was told is not remembered beyond its time.
#[tokio::test(start_paused = true)]
async fn a_denial_that_was_heard_of_stands_no_longer_than_the_denial() {
    let lab = Lab::new();
    let issuers = environments(&lab, 2).await;
    lab.aws.state().mood = StsMood::Refuses(403, "AccessDenied", "not authorized");
    assert_eq!(lab.ask(&issuers[0], POD, PATIENCE).await.code(0), "assume_role_denied");
    lab.aws.state().mood = StsMood::Gives;
    lab.clock.advance(Duration::from_millis(1_900));
    assert_eq!(lab.ask(&issuers[1], POD, PATIENCE).await.code(0), "assume_role_denied");
    lab.clock.advance(Duration::from_millis(101));
    assert_eq!(lab.ask(&issuers[1], POD, PATIENCE).await.code(0), "issued");
    assert_eq!(assumed(&lab), 2);
}

/// By design: after a failure, which the SDK has met twice, nobody asks STS for that session for a second, however many wait.
/// That is what spares an STS that throttles the whole account.
#[tokio::test(start_paused = true)]
async fn a_failing_sts_is_asked_once_a_second_for_a_session_and_twice_each_time() {
    for (mood, code) in [(StsMood::THROTTLES, "sts_throttled"), (StsMood::FAILS, "sts_unavailable")] {
        let lab = Lab::new();
        {
            let mut state = lab.aws.state();
            state.mood = mood;
            state.sts_delay = Duration::from_millis(20);
        }
        let issuers = environments(&lab, 8).await;
        let began = Instant::now();
        let until = began + Duration::from_secs(10);
        let agents = issuers.iter().map(async |issuer| {
            while Instant::now() < until {
                let answer = lab.ask(issuer, POD, FIRST_ASK).await;
                assert!(["pending", code].contains(&answer.code(0)), "{answer:?}");
                assert_eq!(answer.body["outcomes"][0]["refused"]["retry"], "soon");
            }
        });
        join_all(agents).await;
        let calls = assumed(&lab);
        assert!((18..=22).contains(&calls), "{calls}");
        // It is well again: nobody waits longer than for the pause.
        lab.aws.state().mood = StsMood::Gives;
        let began = Instant::now();
        let answers = join_all(issuers.iter().map(|issuer| lab.ask(issuer, POD, PATIENCE))).await;
        assert!(answers.iter().all(|answer| answer.code(0) == "issued"));
        assert!(began.elapsed() <= Duration::from_millis(1_100), "{:?}", began.elapsed());
        assert_eq!(assumed(&lab), calls + 1);
    }
}
