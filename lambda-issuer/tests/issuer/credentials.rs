//! Where sessions come from: memory, the shared copy, STS; and what happens when each fails.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::fake_aws::StsMood;
use crate::lab::{Answer, Lab, log};

const PATIENCE: Duration = Duration::from_secs(5);
const POD: &[&str] = &["default/web-0"];

fn sources(lab: &Lab) -> Vec<String> {
    lab.lines.audit().iter().filter_map(|line| Some(line.get("source")?.as_str()?.to_owned())).collect()
}

fn assumed(lab: &Lab) -> usize {
    lab.aws.state().assumed.len()
}

/// The one item that holds a session.
fn session_item(lab: &Lab) -> (String, Value) {
    let state = lab.aws.state();
    let mut sessions = state.tables["cache"].iter().filter(|(_, item)| item.contains_key("sealed"));
    let (pk, item) = sessions.next().expect("a sealed session");
    assert!(sessions.next().is_none());
    (pk.clone(), Value::Object(item.clone()))
}

#[tokio::test]
async fn a_session_is_asked_for_once_and_shared() {
    let lab = Lab::new().await;
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

#[tokio::test]
async fn a_stampede_of_environments_is_one_call() {
    let lab = Lab::new().await;
    lab.aws.state().sts_delay = Duration::from_millis(200);
    let mut issuers = Vec::new();
    for _ in 0..8 {
        issuers.push(lab.issuer().await);
    }
    let answers: Vec<Answer> =
        futures_util::future::join_all(issuers.iter().map(|issuer| lab.ask(issuer, POD, PATIENCE))).await;
    assert!(answers.iter().all(|answer| answer.access_key(0) == "ASIA1"));
    assert_eq!(assumed(&lab), 1);
}

#[tokio::test]
async fn a_lease_is_renewed_while_sts_is_slow() {
    let lab = Lab::new().await;
    lab.aws.state().sts_delay = Duration::from_millis(1_700);
    let (first, second) = (lab.issuer().await, lab.issuer().await);
    let (one, other) = tokio::join!(lab.ask(&first, POD, PATIENCE), lab.ask(&second, POD, PATIENCE));
    assert_eq!((one.access_key(0), other.access_key(0), assumed(&lab)), ("ASIA1", "ASIA1", 1));
}

#[tokio::test]
async fn the_lease_of_an_environment_that_died_lapses_within_a_second() {
    let lab = Lab::new().await;
    let (first, second) = (lab.issuer().await, lab.issuer().await);
    lab.aws.state().mood = StsMood::Hangs;
    // The environment dies while it waits for STS.
    assert!(timeout(Duration::from_millis(400), lab.ask(&first, POD, PATIENCE)).await.is_err());
    assert_eq!(assumed(&lab), 1);
    lab.aws.state().mood = StsMood::Gives;
    let began = Instant::now();
    let answer = lab.ask(&second, POD, PATIENCE).await;
    assert_eq!(answer.access_key(0), "ASIA2");
    // The lease was renewed at 300 ms, 100 ms before the death.
    assert!((500..1_300).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_not_ready_in_time_is_pending_and_the_rest_is_answered() {
    let lab = Lab::new().await;
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

#[tokio::test]
async fn patience_that_was_spent_on_the_way_here_is_spent() {
    let lab = Lab::new().await;
    let issuer = lab.issuer().await;
    let mut event = lab.event(POD, Duration::from_millis(800));
    let received = event["requestContext"]["requestTimeEpoch"].as_u64().unwrap();
    event["requestContext"]["requestTimeEpoch"] = json!(received - 900);
    let answer = lab.send(&issuer, &event).await;
    assert_eq!((answer.status, answer.code(0)), (200, "pending"));
    assert_eq!(assumed(&lab), 0);
}

#[tokio::test]
async fn a_session_is_handed_out_while_it_has_forty_minutes_left() {
    let lab = Lab::new().await;
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

#[tokio::test]
async fn a_session_that_is_short_from_the_start_is_handed_out_and_not_kept() {
    let lab = Lab::new().await;
    lab.aws.state().session_secs = Some(900);
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA1");
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA2");
}

#[tokio::test]
async fn a_shared_session_that_was_tampered_with_is_replaced() {
    let lab = Lab::new().await;
    lab.put_pod("default", "job", "other");
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let (pk, mut item) = session_item(&lab);
    // The first byte of the ciphertext, behind version and nonce.
    let text = item["sealed"]["B"].as_str().unwrap().to_owned();
    let changed = if &text[20..21] == "A" { "B" } else { "A" };
    item["sealed"]["B"] = json!(format!("{}{changed}{}", &text[..20], &text[21..]));
    lab.aws.put("cache", &pk, item);
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA2");
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA2");
    assert_eq!(sources(&lab), ["sts", "sts", "sealed"]);
}

#[tokio::test]
async fn a_shared_session_moved_to_another_role_does_not_open() {
    let lab = Lab::new().await;
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let (first, item) = session_item(&lab);
    lab.aws.state().tables.get_mut("cache").unwrap().remove(&first);
    lab.put_pod("default", "job", "other");
    assert_eq!(lab.ask(&lab.issuer().await, &["default/job"], PATIENCE).await.access_key(0), "ASIA2");
    let (second, _) = session_item(&lab);
    lab.aws.put("cache", &second, item);
    assert_eq!(lab.ask(&lab.issuer().await, &["default/job"], PATIENCE).await.access_key(0), "ASIA3");
}

#[tokio::test]
async fn without_kms_sessions_come_straight_from_sts() {
    let lab = Lab::new().await;
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

#[tokio::test]
async fn without_the_cache_table_sessions_come_straight_from_sts() {
    let lab = Lab::new().await;
    let issuer = lab.issuer().await;
    lab.aws.state().down.push("cache".into());
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA1");
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA2");
    assert_eq!(sources(&lab), ["sts", "sts"]);
}

#[tokio::test]
async fn data_keys_change_with_the_day_and_old_sessions_still_open() {
    let lab = Lab::new().await;
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

#[tokio::test]
async fn a_denial_is_told_to_all_who_wait_and_stands_for_two_seconds() {
    let lab = Lab::new().await;
    {
        let mut state = lab.aws.state();
        state.mood = StsMood::Refuses(403, "AccessDenied", "not authorized");
        state.sts_delay = Duration::from_millis(150);
    }
    let mut issuers = Vec::new();
    for _ in 0..4 {
        issuers.push(lab.issuer().await);
    }
    let answers = futures_util::future::join_all(issuers.iter().map(|issuer| lab.ask(issuer, POD, PATIENCE))).await;
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

#[tokio::test]
async fn what_sts_does_not_take_is_told_in_its_words_in_every_environment() {
    let lab = Lab::new().await;
    lab.aws.state().mood = StsMood::Refuses(400, "ValidationError", "the tag is odd");
    for issuer in [lab.issuer().await, lab.issuer().await] {
        let answer = lab.ask(&issuer, POD, PATIENCE).await;
        assert_eq!(answer.code(0), "assume_role_denied");
        assert!(answer.message(0).ends_with(": the tag is odd"), "{}", answer.message(0));
    }
    assert_eq!(assumed(&lab), 1);
}

#[tokio::test]
async fn each_failure_of_sts_has_its_code() {
    let cases = [
        (StsMood::Refuses(400, "Throttling", "Rate exceeded"), "sts_throttled"),
        (StsMood::Refuses(500, "InternalFailure", "x"), "sts_unavailable"),
        (StsMood::Refuses(403, "ExpiredToken", "x"), "sts_unavailable"),
        (StsMood::GivesAnother, "sts_unavailable"),
        (StsMood::GivesGarbage, "sts_unavailable"),
    ];
    for (mood, code) in cases {
        let lab = Lab::new().await;
        lab.aws.state().mood = mood;
        let issuer = lab.issuer().await;
        let answer = lab.ask(&issuer, POD, PATIENCE).await;
        assert_eq!((answer.code(0), answer.body["sessions"].as_array().unwrap().len()), (code, 0));
        // Nothing was kept: with a healthy STS the next ask waits for the lease to lapse and gets its session.
        lab.aws.state().mood = StsMood::Gives;
        assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    }
}

#[tokio::test]
async fn budgets_bound_new_sessions_and_not_shared_ones() {
    let mut lab = Lab::new().await;
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "1");
    lab.put_pod("default", "job", "other");
    lab.put_pod("second", "job", "other");
    lab.put_namespace("second", ".*");
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    let answer = lab.ask(&issuer, &["default/job"], PATIENCE).await;
    assert_eq!(answer.code(0), "sts_throttled");
    let expected = "the namespace default has spent its budget of 1 new sessions a minute: wait, or raise the issuer's \
                    BUDGET_NAMESPACE_PER_MINUTE";
    assert_eq!(answer.message(0), expected);
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    // The lease was given up at once: another namespace's pod need not wait for it.
    let began = Instant::now();
    assert_eq!(lab.ask(&issuer, &["second/job"], PATIENCE).await.code(0), "issued");
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(lab.ask(&issuer, &["default/job"], PATIENCE).await.code(0), "issued");
    assert_eq!(assumed(&lab), 2);
}

#[tokio::test]
async fn the_instance_has_a_budget_of_its_own() {
    let mut lab = Lab::new().await;
    lab.set("BUDGET_INSTANCE_PER_MINUTE", "1");
    lab.put_pod("default", "job", "other");
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    let answer = lab.ask(&issuer, &["default/job"], PATIENCE).await;
    assert_eq!(answer.code(0), "sts_throttled");
    assert!(answer.message(0).contains("BUDGET_INSTANCE_PER_MINUTE"));
}

#[tokio::test]
async fn who_keeps_asking_beyond_a_budget_spends_no_neighbours() {
    let mut lab = Lab::new().await;
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "2");
    lab.set("BUDGET_INSTANCE_PER_MINUTE", "4");
    lab.put_namespace("second", ".*");
    for role in ["one", "two", "three"] {
        lab.put_pod("default", role, role);
        lab.put_pod("second", role, role);
    }
    let issuer = lab.issuer().await;
    for role in ["one", "two"] {
        assert_eq!(lab.ask(&issuer, &[&format!("default/{role}")], PATIENCE).await.code(0), "issued");
    }
    for _ in 0..4 {
        let answer = lab.ask(&issuer, &["default/three"], PATIENCE).await;
        assert!(answer.message(0).contains("BUDGET_NAMESPACE_PER_MINUTE"), "{}", answer.message(0));
    }
    // Two of the instance's four are left for the other namespace; sessions of shared roles cost nothing.
    for (role, code) in [("one", "issued"), ("two", "issued"), ("three", "issued")] {
        assert_eq!(lab.ask(&issuer, &[&format!("second/{role}")], PATIENCE).await.code(0), code, "{role}");
    }
    assert_eq!(assumed(&lab), 3);
}

#[tokio::test]
async fn no_secret_is_in_audit_metrics_or_log() {
    let lab = Lab::new().await;
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
