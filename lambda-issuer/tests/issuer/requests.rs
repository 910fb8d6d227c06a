//! Whole requests: who may ask, what the directory says, what comes back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Lab, send_text};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_pod_gets_the_session_of_its_role_and_the_audit_says_so() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    let answer = lab.ask(&issuer, &["default/web-0"], PATIENCE).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["outcomes"], json!([{"session": 0}]));
    let session = &answer.body["sessions"][0];
    assert_eq!(session["role"], "arn:aws:iam::123456789012:role/app");
    let mut keys: Vec<&String> = session["credentials"].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["access_key_id", "expiration", "secret_access_key", "session_token"]);
    assert_eq!(session["credentials"]["secret_access_key"], lab.aws.state().secrets[0]);

    let mut audit = lab.lines.audit();
    assert_eq!(audit.len(), 1);
    let line = audit[0].as_object_mut().unwrap();
    assert!(line.remove("time").unwrap().is_u64() && line.remove("expiration").unwrap().is_u64());
    let expected = json!({
        "audit": "issued", "request_id": "invocation-1", "api_request_id": "x",
        "cluster": "prod", "instance": "i-0123456789abcdef0", "node": "node-a",
        "namespace": "default", "pod": "web-0", "pod_uid": "web-0-uid",
        "role": "arn:aws:iam::123456789012:role/app", "session_name": "rolecall-prod",
        "access_key_id": "ASIA1", "source": "sts",
    });
    assert_eq!(audit[0], expected);
}

#[tokio::test]
async fn sts_is_told_everything_that_the_policy_says() {
    let mut lab = Lab::new();
    lab.set("ATTRIBUTION", "pod");
    lab.set("SESSION_TAGS", "on");
    lab.set("SOURCE_IDENTITY", "on");
    let namespace = r#"{"version":1,"permitted":".*","external_id":"the-id"}"#;
    lab.aws.put("directory", "prod/namespace/default", json!({"record": {"S": namespace}}));
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, &["default/web-0"], PATIENCE).await.code(0), "issued");
    let told = lab.aws.state().assumed[0].clone();
    assert_eq!(told["RoleArn"], "arn:aws:iam::123456789012:role/app");
    assert_eq!(told["DurationSeconds"], "3600");
    assert_eq!(told["ExternalId"], "the-id");
    assert_eq!(told["SourceIdentity"], told["RoleSessionName"]);
    let tags = (1..=5).map(|n| (&told[&format!("Tags.member.{n}.Key")], &told[&format!("Tags.member.{n}.Value")]));
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={value}")).collect();
    let expected = [
        "eks-cluster-name=prod",
        "kubernetes-namespace=default",
        "kubernetes-pod-name=web-0",
        "kubernetes-pod-uid=web-0-uid",
        "kubernetes-service-account=default",
    ];
    assert_eq!(tags, expected);
    assert_eq!(told["TransitiveTagKeys.member.5"], "kubernetes-service-account");
}

#[tokio::test]
async fn every_entry_has_its_own_outcome_and_pods_of_a_role_share_a_session() {
    let lab = Lab::new();
    lab.put_pod("default", "web-1", "app");
    lab.put_pod("default", "job", "other");
    lab.put_pod("closed", "web", "app");
    lab.put_namespace("closed", "other");
    let issuer = lab.issuer().await;
    let pods = ["default/web-0", "default/none", "default/web-1", "closed/web", "default/job"];
    let answer = lab.ask(&issuer, &pods, PATIENCE).await;
    let codes: Vec<&str> = (0..pods.len()).map(|place| answer.code(place)).collect();
    assert_eq!(codes, ["issued", "no_role", "issued", "namespace_forbids_role", "issued"]);
    assert_eq!(answer.access_key(0), answer.access_key(2));
    assert_ne!(answer.access_key(0), answer.access_key(4));
    assert_eq!(answer.body["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(lab.aws.state().assumed.len(), 2);
    assert_eq!(lab.lines.audit().len(), 5);
    let outcome = r#""Cluster":"prod","Outcome":"issued","Outcomes":3"#;
    assert!(lab.lines.text().contains(outcome), "{}", lab.lines.text());
}

#[tokio::test]
async fn a_full_node_is_read_in_batches_and_unprocessed_keys_are_asked_again() {
    let lab = Lab::new();
    let names: Vec<String> = (0..250).map(|n| format!("default/p-{n}")).collect();
    for n in 0..250 {
        lab.put_pod("default", &format!("p-{n}"), "app");
    }
    lab.aws.state().batch_handles = Some(40);
    let issuer = lab.issuer().await;
    let pods: Vec<&str> = names.iter().map(String::as_str).collect();
    lab.aws.state().batches = 0;
    let answer = lab.ask(&issuer, &pods, PATIENCE).await;
    assert_eq!((answer.status, lab.aws.state().assumed.len()), (200, 1));
    assert!((0..250).all(|place| answer.code(place) == "issued"));
    // 254 keys: 100, 100 and 54 at 40 a time.
    assert_eq!(lab.aws.state().batches, 3 + 3 + 2);
}

/// One namespace's annotation must not cost the other pods of a node their credentials, by its time or by its size.
#[tokio::test]
async fn a_nasty_annotation_costs_no_neighbour_its_answer() {
    let lab = Lab::new();
    let mut pods: Vec<String> = (0..249).map(|n| format!("nasty/p-{n}")).collect();
    for n in 0..249 {
        lab.put_pod("nasty", &format!("p-{n}"), "app");
    }
    pods.push("default/web-0".into());
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let issuer = lab.issuer().await;
    let array = |entry: &str, count: usize| Value::from(vec![entry; count]).to_string();
    let large = Value::from("x".repeat(250_000)).to_string();
    let patterns = "(?:a?b?c?d?e?f?){200}-*";
    for (key, text) in
        [("allowed_roles", array("*a?b*c", 1000)), ("allowed_roles", large), ("permitted", patterns.into())]
    {
        let record = json!({"version": 1, key: text}).to_string();
        lab.aws.put("directory", "prod/namespace/nasty", json!({"record": {"S": record}}));
        let began = std::time::Instant::now();
        let answer = lab.ask(&issuer, &pods, Duration::from_secs(20)).await;
        assert_eq!((answer.code(249), answer.code(0) == "issued"), ("issued", false), "{key}");
        // Lambda lets an answer have 6 MB.
        assert!(answer.body.to_string().len() < 1_000_000, "{key}: {} bytes", answer.body.to_string().len());
        assert!(began.elapsed() < Duration::from_millis(1_500), "{key}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_directory_that_does_not_answer_is_unavailable() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    lab.aws.state().down.push("directory".into());
    let answer = lab.ask(&issuer, &["default/web-0"], PATIENCE).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")));
    lab.aws.state().down.clear();
    lab.aws.state().batch_handles = Some(0);
    let answer = lab.ask(&issuer, &["default/web-0"], Duration::from_millis(100)).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")));
}

#[tokio::test]
async fn a_quarantined_node_gets_nothing_even_where_the_order_cannot_be_read() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    lab.quarantine();
    let answer = lab.ask(&issuer, &["default/web-0"], PATIENCE).await;
    assert_eq!((answer.status, &answer.body["code"]), (403, &json!("node_quarantined")));
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        message.starts_with("the node i-0123456789abcdef0 is in quarantine, by ann because \"drill\": "),
        "{message}"
    );
    for unreadable in ["", "{}", r#"{"version":2}"#] {
        lab.put_text(&Lab::quarantine_key(), unreadable);
        let answer = lab.ask(&issuer, &["default/web-0"], PATIENCE).await;
        assert_eq!((answer.status, &answer.body["code"]), (403, &json!("node_quarantined")));
    }
    lab.aws.put("directory", Lab::quarantine_key().as_str(), json!({}));
    assert_eq!(lab.ask(&issuer, &["default/web-0"], PATIENCE).await.status, 403);
    assert!(lab.aws.state().assumed.is_empty());
}

#[tokio::test]
async fn a_pod_record_that_cannot_be_read_is_asked_about_again() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    lab.put_text(&Lab::pod_key("default", "web-0"), r#"{"version":2}"#);
    let answer = lab.ask(&issuer, &["default/web-0"], PATIENCE).await;
    assert_eq!(answer.code(0), "pod_unknown");
    assert_eq!(answer.body["outcomes"][0]["refused"]["retry"], "soon");
    assert!(
        answer.message(0).contains("default/web-0 cannot be read: the record has version 2"),
        "{}",
        answer.message(0)
    );
}

#[tokio::test]
async fn a_request_from_elsewhere_is_no_nodes() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    let cases = [
        ("/requestContext/identity/sourceIp", "10.0.1.11"),
        ("/requestContext/identity/caller", "AROAEXAMPLEEXAMPLE00:someone"),
        ("/stageVariables/rolecall_secret", "guess"),
    ];
    for (pointer, value) in cases {
        let mut event = lab.event(&["default/web-0"], PATIENCE);
        *event.pointer_mut(pointer).unwrap() = json!(value);
        let answer = lab.send(&issuer, &event).await;
        assert_eq!((answer.status, &answer.body["code"]), (403, &json!("caller_not_a_node")), "{pointer}");
    }
    let audit = lab.lines.audit();
    assert_eq!(audit.len(), 3);
    assert_eq!(audit[0]["cause"], "sourceIp 10.0.1.11 is none of the addresses of i-0123456789abcdef0: [10.0.1.10]");
    assert!(audit.iter().all(|line| line["audit"] == "request_refused" && line["code"] == "caller_not_a_node"));
}

#[tokio::test]
async fn whatever_the_function_is_invoked_with_is_answered() {
    let lab = Lab::new();
    let issuer = lab.issuer().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for event in ["null", "1", "[]", "{}", r#"{"requestContext":null}"#, r#"{"body":7}"#, &deep] {
        let answer = send_text(&issuer, event).await;
        assert_eq!((answer.status, &answer.body["code"]), (403, &json!("caller_not_a_node")), "{event}");
    }
    let valid: Value = serde_json::from_str(lab.event(&["default/web-0"], PATIENCE)["body"].as_str().unwrap()).unwrap();
    let mut of_later_version = valid.clone();
    of_later_version["version"] = json!(2);
    let bodies = [json!(null), json!(""), json!("{"), json!(of_later_version.to_string()), json!(r#"{"version":1}"#)];
    for body in bodies {
        let mut event = lab.event(&["default/web-0"], PATIENCE);
        event["body"] = body.clone();
        let answer = lab.send(&issuer, &event).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("bad_request")), "{body}");
    }
}
