use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::faults::{Effect, Target};
use crate::ledger::IssuedKey;

fn control() -> Control {
    let config: Config = serde_json::from_value(json!({
        "region": "eu-central-1", "account": "123456789012", "upstream": "http://127.0.0.1:1",
        "endpoint": {"listen": []}, "control": "127.0.0.1:0"
    }))
    .unwrap();
    let (faults, ledger) = (Faults::default(), Ledger::default());
    let clock = Clock::new(|| SystemTime::UNIX_EPOCH);
    let endpoint = Endpoint::new(&config, clock, faults.clone(), ledger.clone()).unwrap();
    ledger.insert(IssuedKey {
        access_key_id: "ASIAEXAMPLE".into(),
        secret_access_key: "the-secret-key".into(),
        session_token: "the-session-token".into(),
        account: "123456789012".into(),
        role_arn: "arn:aws:iam::123456789012:role/app".into(),
        role_name: "app".into(),
        role_id: "AROAEXAMPLEEXAMPLE12".into(),
        session_name: "web-0".into(),
        source_identity: None,
        expiration: SystemTime::UNIX_EPOCH + Duration::from_hours(1),
    });
    let configured_secrets = vec!["the-user-data".into()];
    Control::new(Parts { faults, ledger, endpoint, instances: Vec::new(), api: None, configured_secrets })
}

async fn ask(control: &Control, method: &str, path: &str, body: &str) -> (u16, Value) {
    let method = method.parse().unwrap();
    let answer = control.answer(&method, path, &Bytes::copy_from_slice(body.as_bytes())).await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn the_state_names_keys_without_their_secrets() {
    let (status, state) = ask(&control(), "GET", "/state", "").await;
    assert_eq!(status, 200);
    assert_eq!(
        state["keys"],
        json!([{"access_key_id": "ASIAEXAMPLE", "role_arn": "arn:aws:iam::123456789012:role/app", "session_name": "web-0",
            "source_identity": null, "expiration": "1970-01-01T01:00:00Z"}])
    );
    assert!(!state.to_string().contains("the-secret-key"));
    let (_, secrets) = ask(&control(), "GET", "/secrets", "").await;
    assert_eq!(secrets, json!({"secrets": ["the-secret-key", "the-session-token", "the-user-data"]}));
}

#[tokio::test]
async fn faults_are_replaced_and_removed() {
    let control = control();
    let rules = r#"[{"target":"sts","effect":"throttle","count":2},{"target":"kms","effect":{"error":500}}]"#;
    assert_eq!(ask(&control, "PUT", "/faults", rules).await.0, 204);
    assert_eq!(control.parts.faults.rules()[1], Rule::new(Target::Kms, Effect::Error(500)));
    let (_, shown) = ask(&control, "GET", "/faults", "").await;
    assert_eq!(shown[0], json!({"target": "sts", "effect": "throttle", "count": 2, "percent": 100}));
    assert_eq!(ask(&control, "DELETE", "/faults", "").await.0, 204);
    assert_eq!(control.parts.faults.rules(), []);
}

#[tokio::test]
async fn wrong_rules_change_nothing() {
    let control = control();
    for (rules, error) in [
        (r#"[{"target":"sts","effect":{"error":200}}]"#, "an error's status must be 400 to 599"),
        (r#"[{"target":"sts","effect":"throttle","percent":0}]"#, "percent must be 1 to 100"),
        (r#"[{"target":"sts","effect":"throttle","count":0}]"#, "count must be at least 1"),
        ("{}", "invalid type: map, expected a sequence at line 1 column 0"),
    ] {
        assert_eq!(ask(&control, "PUT", "/faults", rules).await, (400, json!({"error": error})), "{rules}");
    }
    assert_eq!(control.parts.faults.rules(), []);
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let control = control();
    assert_eq!(ask(&control, "GET", "/healthz", "").await, (200, json!("ok")));
    assert_eq!(ask(&control, "POST", "/faults", "").await.0, 405);
    assert_eq!(ask(&control, "GET", "/", "").await.0, 404);
    assert_eq!(ask(&control, "DELETE", "/environments", "").await.0, 404);
}
