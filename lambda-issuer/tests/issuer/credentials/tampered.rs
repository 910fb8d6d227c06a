//! Items of the cache that no issuer wrote, or not there, or not now: none is served, and none keeps a role from being issued.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use lambda_issuer::clock::Clock;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{FIRST_ASK, PATIENCE, POD, assumed, environments, session_item, sources};
use crate::lab::{Answer, Lab};

const FAR_FUTURE: &str = "9999999999999";
const MINUTE: Duration = Duration::from_secs(60);

/// The sealed text of an item, changed.
fn resealed(item: &Value, change: impl Fn(&mut Vec<u8>)) -> Value {
    let mut text = STANDARD.decode(item["sealed"]["B"].as_str().unwrap()).unwrap();
    change(&mut text);
    json!({"sealed": {"B": STANDARD.encode(text)}})
}

/// What somebody may write over a genuine item: attributes to set, or, where null, to remove.
fn forgeries(item: &Value, day: u64) -> Vec<(&'static str, Value)> {
    let soon = json!({"N": FAR_FUTURE});
    vec![
        ("another version", resealed(item, |text| text[0] = 2)),
        ("another nonce", resealed(item, |text| text[1] ^= 1)),
        ("another ciphertext", resealed(item, |text| text[13] ^= 1)),
        ("another tag", resealed(item, |text| *text.last_mut().unwrap() ^= 1)),
        ("cut", resealed(item, |text| text.truncate(40))),
        ("longer", resealed(item, |text| text.push(0))),
        ("of no bytes", json!({"sealed": {"B": ""}})),
        ("in clear", json!({"sealed": {"B": STANDARD.encode(r#"{"access_key_id":"ASIA0"}"#)}})),
        ("sealed is no binary", json!({"sealed": {"S": "x"}})),
        ("nothing sealed", json!({"sealed": null})),
        ("no key id", json!({"key_id": null})),
        ("a key id of another type", json!({"key_id": {"N": "1"}})),
        ("a key id that is no number", json!({"key_id": {"S": "x"}})),
        ("a key that nobody made", json!({"key_id": {"S": (day + 1).to_string()}})),
        ("a key of long ago", json!({"key_id": {"S": "1"}})),
        ("fresh until a text", json!({"fresh_until": {"S": FAR_FUTURE}})),
        ("fresh until before time", json!({"fresh_until": {"N": "-1"}})),
        ("fresh until a fraction", json!({"fresh_until": {"N": "9999999999999.5"}})),
        ("fresh until beyond all numbers", json!({"fresh_until": {"N": "99999999999999999999999"}})),
        ("not fresh any more", json!({"fresh_until": {"N": "1"}})),
        ("leased for ever", json!({"lease_until": soon, "lease_owner": {"S": "x"}})),
        ("leased for ever by nobody", json!({"lease_until": soon})),
        ("leased until a text", json!({"lease_until": {"S": FAR_FUTURE}})),
        ("leased until nothing", json!({"lease_until": {"NULL": true}})),
        ("leased and nothing sealed", json!({"lease_until": soon, "sealed": null, "fresh_until": null})),
        ("denied for ever", json!({"denied_until": soon})),
        ("denied until a text", json!({"denied_until": {"S": FAR_FUTURE}})),
        ("denied and nothing sealed", json!({"denied_until": soon, "sealed": null, "fresh_until": null})),
        (
            "everything of another type",
            json!({
                "sealed": {"N": "1"}, "key_id": {"B": "AA=="}, "fresh_until": {"L": []}, "lease_until": {"M": {}},
                "lease_owner": {"BOOL": true}, "denied_until": {"B": "AA=="}, "denied_because": {"N": "1"},
                "expires_at": {"S": "never"},
            }),
        ),
        ("nothing at all", json!({"sealed": null, "key_id": null, "fresh_until": null, "expires_at": null})),
    ]
}

/// The genuine item with a forgery over it.
fn forged(item: &Value, forgery: &Value) -> Value {
    let mut item = item.clone();
    let attributes = item.as_object_mut().unwrap();
    for (attribute, value) in forgery.as_object().unwrap() {
        match value {
            Value::Null => _ = attributes.remove(attribute),
            value => _ = attributes.insert(attribute.clone(), value.clone()),
        }
    }
    item
}

#[tokio::test(start_paused = true)]
async fn what_no_issuer_wrote_is_replaced_at_the_first_ask() {
    let lab = Lab::new();
    // With every call some time passes: a loop without an end would otherwise stop a paused clock.
    lab.aws.state().dynamo_delay = Duration::from_millis(1);
    let day = lab.clock.now().as_secs() / 86_400;
    assert_eq!(lab.ask(&lab.issuer().await, POD, FIRST_ASK).await.access_key(0), "ASIA1");
    let (pk, genuine) = session_item(&lab);
    for (n, (what, forgery)) in forgeries(&genuine, day).into_iter().enumerate() {
        lab.aws.put("cache", &pk, forged(&genuine, &forgery));
        let began = Instant::now();
        // One call for the first, and the new session is shared.
        for issuer in environments(&lab, 3).await {
            let answer = lab.ask(&issuer, POD, FIRST_ASK).await;
            assert_eq!(answer.code(0), "issued", "{what}: {answer:?}");
            assert_eq!(answer.access_key(0), format!("ASIA{}", n + 2), "{what}");
        }
        assert_eq!(assumed(&lab), n + 2, "{what}: calls of STS");
        // The fake's own time, and no wait.
        assert!(began.elapsed() < Duration::from_millis(100), "{what}: {:?}", began.elapsed());
        let (same, item) = session_item(&lab);
        let mut attributes: Vec<&str> = item.as_object().unwrap().keys().map(String::as_str).collect();
        attributes.sort_unstable();
        assert_eq!(
            (same.as_str(), attributes),
            (pk.as_str(), vec!["expires_at", "fresh_until", "key_id", "pk", "sealed"])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_environments_that_find_nonsense_ask_sts_once() {
    for what in ["another tag", "leased for ever", "denied until a text", "everything of another type"] {
        let lab = Lab::new();
        assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
        let (pk, genuine) = session_item(&lab);
        let (_, forgery) = forgeries(&genuine, 0).into_iter().find(|(name, _)| *name == what).unwrap();
        lab.aws.put("cache", &pk, forged(&genuine, &forgery));
        {
            let mut state = lab.aws.state();
            state.sts_delay = Duration::from_millis(150);
            state.dynamo_delay = Duration::from_millis(10);
        }
        let issuers = environments(&lab, 20).await;
        let answers: Vec<Answer> = join_all(issuers.iter().map(|issuer| lab.ask(issuer, POD, FIRST_ASK))).await;
        assert!(answers.iter().all(|answer| answer.access_key(0) == "ASIA2"), "{what}: {answers:?}");
        assert_eq!(assumed(&lab), 2, "{what}");
    }
}

/// An item that changes whenever it is looked at cannot be replaced: every environment is on its own then, and serves.
#[tokio::test(start_paused = true)]
async fn an_item_that_never_rests_costs_sharing_and_no_session() {
    let lab = Lab::new();
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let pk = session_item(&lab).0;
    {
        let mut state = lab.aws.state();
        state.restless = Some(pk);
        state.dynamo_delay = Duration::from_millis(1);
    }
    for issuer in environments(&lab, 2).await {
        for _ in 0..3 {
            assert_eq!(lab.ask(&issuer, POD, FIRST_ASK).await.code(0), "issued");
        }
    }
    assert_eq!(assumed(&lab), 3);
    assert_eq!(sources(&lab), ["sts", "sts", "memory", "memory", "sts", "memory", "memory"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_holds_is_waited_for_as_long_as_one_may_last() {
    let lab = Lab::new();
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let (pk, genuine) = session_item(&lab);
    for (ahead, at_least) in [(900, 900), (1_950, 1_950), (1_951, 0)] {
        let until = lab.clock.now().plus(Duration::from_millis(ahead)).0.to_string();
        lab.aws.put("cache", &pk, forged(&genuine, &json!({"lease_until": {"N": until}, "sealed": null})));
        let calls = assumed(&lab);
        let began = Instant::now();
        assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.code(0), "issued");
        let took = began.elapsed().as_millis();
        assert!((at_least..=at_least + 15).contains(&took), "{ahead}: {took} ms");
        assert_eq!(assumed(&lab), calls + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_in_the_item_stands_for_three_seconds_at_most() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let (pk, genuine) = session_item(&lab);
    let until = lab.clock.now().plus(Duration::from_secs(3)).0.to_string();
    lab.aws.put("cache", &pk, forged(&genuine, &json!({"denied_until": {"N": until}})));
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "assume_role_denied");
    lab.clock.advance(Duration::from_millis(3_001));
    // The session below it was never lost.
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA1");
    assert_eq!(assumed(&lab), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_moved_to_another_role_does_not_open() {
    let lab = Lab::new();
    lab.put_pod("default", "job", "other");
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let (web, item_of_web) = session_item(&lab);
    lab.aws.state().tables.get_mut("cache").unwrap().remove(&web);
    assert_eq!(lab.ask(&lab.issuer().await, &["default/job"], PATIENCE).await.access_key(0), "ASIA2");
    let (job, item_of_job) = session_item(&lab);
    lab.aws.put("cache", &web, item_of_job);
    lab.aws.put("cache", &job, item_of_web);
    for issuer in environments(&lab, 2).await {
        assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.access_key(0), "ASIA3");
        assert_eq!(lab.ask(&issuer, &["default/job"], PATIENCE).await.access_key(0), "ASIA4");
    }
    assert_eq!(assumed(&lab), 4);
}

/// An older session of the same key is worth exactly what a newer one is, for a shorter time. So one that still has 40
/// minutes is served, whoever put it back, and one that has not is replaced, whatever is written beside it.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_rolled_back_is_served_only_while_it_is_fresh() {
    let lab = Lab::new();
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let (pk, old) = session_item(&lab);
    lab.aws.state().tables.get_mut("cache").unwrap().remove(&pk);
    lab.clock.advance(5 * MINUTE);
    lab.put_health();
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA2");
    lab.aws.put("cache", &pk, old.clone());
    let answer = lab.ask(&lab.issuer().await, POD, PATIENCE).await;
    let ends = answer.body["sessions"][0]["credentials"]["expiration"].as_u64().unwrap();
    assert_eq!((answer.access_key(0), ends - lab.clock.now().0), ("ASIA1", 55 * 60_000));
    assert_eq!(assumed(&lab), 2);
    lab.clock.advance(16 * MINUTE);
    lab.put_health();
    for (n, item) in [old.clone(), forged(&old, &json!({"fresh_until": {"N": FAR_FUTURE}}))].into_iter().enumerate() {
        lab.aws.put("cache", &pk, item);
        let answer = lab.ask(&lab.issuer().await, POD, PATIENCE).await;
        let ends = answer.body["sessions"][0]["credentials"]["expiration"].as_u64().unwrap();
        assert_eq!((answer.access_key(0), ends - lab.clock.now().0), (&*format!("ASIA{}", n + 3), 60 * 60_000));
    }
    assert_eq!(assumed(&lab), 4);
}

#[tokio::test(start_paused = true)]
async fn a_data_key_that_was_tampered_with_costs_sharing_and_no_session() {
    let lab = Lab::new();
    assert_eq!(lab.ask(&lab.issuer().await, POD, PATIENCE).await.access_key(0), "ASIA1");
    let pk = format!("data-key/{}", lab.clock.now().as_secs() / 86_400);
    assert!(lab.aws.state().tables["cache"].contains_key(&pk));
    let wrapped_for_another_day = STANDARD.encode(r#"{"rolecall:key":"1"}|AAAA"#);
    let items = [json!({}), json!({"wrapped": {"S": "x"}}), json!({"wrapped": {"B": wrapped_for_another_day}})];
    for (n, item) in items.into_iter().enumerate() {
        lab.aws.put("cache", &pk, item);
        assert_eq!(lab.ask(&lab.issuer().await, POD, FIRST_ASK).await.access_key(0), format!("ASIA{}", n + 2));
    }
    assert_eq!(sources(&lab), ["sts"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_was_tampered_with_costs_no_session() {
    let lab = Lab::new();
    let minute = lab.clock.now().as_secs() / 60;
    for scope in ["namespace/default", "instance/i-0123456789abcdef0"] {
        lab.aws.put("cache", &format!("budget/prod/{scope}/{minute}"), json!({"sessions": {"S": "many"}}));
    }
    assert_eq!(lab.ask(&lab.issuer().await, POD, FIRST_ASK).await.code(0), "issued");
    assert_eq!(assumed(&lab), 1);
}
