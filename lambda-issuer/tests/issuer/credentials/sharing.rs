//! Memory, the sealed shared copy, and what replaces them when they fail.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{PATIENCE, POD, assumed, session_item, sources};
use crate::fake_aws::StsMood;
use crate::lab::{Lab, log};

#[tokio::test(start_paused = true)]
async fn a_session_is_asked_for_once_and_shared() {
    let lab = Lab::new();
    let (first, second) = (lab.issuer().await, lab.issuer().await);
    for issuer in [&first, &first, &second, &second] {
        let answer = lab.ask(issuer, POD, PATIENCE).await;
        assert_eq!(answer.access_key(0), "ASIA1");
        assert_eq!(answer.body["sessions"][0]["credentials"]["session_token"], lab.aws.state().secrets[1]);
    }
    assert_eq!(sources(&lab), ["sts", "memory", "sealed", "memory"]);
    assert_eq!(assumed(&lab), 1);
    let (_, item) = session_item(&lab);
    let mut attributes: Vec<&String> = item.as_object().unwrap().keys().collect();
    attributes.sort();
    assert_eq!(attributes, ["expires_at", "fresh_until", "key_id", "pk", "sealed"]);
    let keys = lab.aws.state().generated_keys;
    assert_eq!((keys, lab.aws.state().decrypted_keys), (1, 1), "one environment made the key, the other unwrapped it");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ready_in_time_is_pending_and_the_rest_is_answered() {
    let lab = Lab::new();
    lab.put_pod("default", "fast", "fast");
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, &["default/fast"], PATIENCE).await.code(0), "issued");
    lab.aws.state().mood = StsMood::Hangs;
    let began = Instant::now();
    let answer = lab.ask(&issuer, &["default/web-0", "default/fast"], Duration::from_millis(300)).await;
    assert_eq!((answer.code(0), answer.code(1)), ("pending", "issued"));
    assert!((300..600).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(answer.body["outcomes"][0]["refused"]["retry"], "soon");
}

#[tokio::test(start_paused = true)]
async fn patience_that_was_spent_on_the_way_here_is_spent() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    lab.aws.state().dynamo_delay = Duration::from_millis(10);
    let mut event = lab.event(POD, Duration::from_millis(800));
    let received = event["requestContext"]["requestTimeEpoch"].as_u64().unwrap();
    event["requestContext"]["requestTimeEpoch"] = json!(received - 900);
    let answer = lab.send(&issuer, &event).await;
    assert_eq!((answer.status, answer.code(0)), (200, "pending"));
    assert_eq!(assumed(&lab), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_handed_out_while_it_has_forty_minutes_left() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA1");
    lab.clock.advance(Duration::from_secs(19 * 60));
    lab.put_health();
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA1");
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    lab.clock.advance(Duration::from_secs(2 * 60));
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA2");
    assert_eq!(sources(&lab), ["sts", "memory", "sealed", "sts"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_short_from_the_start_is_handed_out_and_not_kept() {
    let lab = Lab::new();
    lab.aws.state().session_secs = Some(900);
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA1");
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA2");
}

#[tokio::test(start_paused = true)]
async fn without_kms_sessions_come_straight_from_sts() {
    let lab = Lab::new();
    lab.aws.state().kms_down = true;
    let (first, second) = (lab.issuer().await, lab.issuer().await);
    for issuer in [&first, &first, &second] {
        assert_eq!(lab.ask(issuer, POD, PATIENCE).await.code(0), "issued");
    }
    assert_eq!(sources(&lab), ["sts", "memory", "sts"]);
    assert!(lab.lines.text().contains(r#""CacheFailures":1"#));
    // It heals by itself, after a while in which KMS is left alone.
    lab.aws.state().kms_down = false;
    lab.put_pod("default", "job", "other");
    assert_eq!(lab.ask(&first, &["default/job"], PATIENCE).await.code(0), "issued");
    assert_eq!(lab.aws.state().generated_keys, 0);
    lab.clock.advance(Duration::from_secs(31));
    lab.put_pod("default", "batch", "third");
    assert_eq!(lab.ask(&first, &["default/batch"], PATIENCE).await.code(0), "issued");
    assert_eq!(lab.aws.state().generated_keys, 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_cache_table_sessions_come_straight_from_sts() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    lab.aws.state().down.push("cache".into());
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA1");
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA2");
    assert_eq!(sources(&lab), ["sts", "sts"]);
}

#[tokio::test(start_paused = true)]
async fn data_keys_change_with_the_day_and_old_sessions_still_open() {
    let lab = Lab::new();
    let old = lab.issuer().await;
    assert_eq!(lab.ask(&old, POD, PATIENCE).await.access_key(0), "ASIA1");
    let (pk, item) = session_item(&lab);
    lab.clock.advance(Duration::from_secs(24 * 3600));
    lab.put_health();
    let new = lab.issuer().await;
    assert_eq!(lab.aws.state().generated_keys, 2);
    lab.put_pod("default", "job", "other");
    assert_eq!(lab.ask(&new, &["default/job"], PATIENCE).await.access_key(0), "ASIA2");
    // As if the first session were still fresh: the new environment fetches the old key, once, and finds it too old.
    let mut fresh = item.clone();
    fresh["fresh_until"] = json!({"N": "9999999999999"});
    lab.aws.put("cache", &pk, fresh);
    let decrypted = lab.aws.state().decrypted_keys;
    assert_eq!(lab.ask(&new, POD, PATIENCE).await.access_key(0), "ASIA3");
    assert_eq!(lab.aws.state().decrypted_keys, decrypted + 1);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_audit_metrics_or_log() {
    let lab = Lab::new();
    let issuers = [lab.issuer().await, lab.issuer().await];
    for issuer in &issuers {
        assert_eq!(lab.ask(issuer, POD, PATIENCE).await.code(0), "issued");
    }
    lab.aws.state().mood = StsMood::GivesAnother;
    lab.put_pod("default", "job", "other");
    assert_eq!(lab.ask(&issuers[0], &["default/job"], PATIENCE).await.code(0), "sts_unavailable");
    lab.aws.state().mood = StsMood::GivesGarbage;
    lab.put_pod("default", "batch", "third");
    assert_eq!(lab.ask(&issuers[0], &["default/batch"], PATIENCE).await.code(0), "sts_unavailable");
    let written = format!("{}{}", lab.lines.text(), log().text());
    assert!(written.contains("which is not the session that was asked for"), "the log is watched");
    let secrets = lab.aws.state().secrets.clone();
    assert!(secrets.len() >= 6);
    assert!(secrets.iter().all(|secret| !written.contains(secret)));
    assert!(!written.contains(crate::lab::STAGE_SECRET));
}
