use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn gate() -> Gate {
    let role = NodeRole {
        arn: RoleArn::parse("arn:aws:iam::123456789012:role/nodes/node").unwrap(),
        cluster: ClusterName::parse("prod").unwrap(),
    };
    Gate {
        api_id: "abc".into(),
        stage: "v1".into(),
        vpce_ids: ["vpce-0123456789abcdef0".to_owned()].into(),
        stage_secret: SECRET.into(),
        node_roles: [(RoleId::parse("AROAEXAMPLEEXAMPLE00").unwrap(), role)].into(),
        source_ip_check: true,
    }
}

fn event() -> Value {
    serde_json::from_str(include_str!("../../tests/data/proxy_event.json")).unwrap()
}

fn identify(event: &Value) -> Result<Caller, NotANode> {
    gate().identify(&ProxyEvent::parse(&RawValue::from_string(event.to_string()).unwrap()).unwrap())
}

fn caller() -> Caller {
    Caller {
        cluster: ClusterName::parse("prod").unwrap(),
        instance: InstanceId::parse("i-0123456789abcdef0").unwrap(),
        source_ip: "10.0.1.10".parse().unwrap(),
    }
}

fn door(field: &'static str, got: Option<&str>) -> NotANode {
    NotANode::OtherDoor { field, got: got.map(Into::into) }
}

fn other(field: &'static str, got: &str) -> NotANode {
    NotANode::OtherIdentity { field, got: Some(got.into()) }
}

#[test]
fn a_node_is_recognised() {
    assert_eq!(identify(&event()), Ok(caller()));
    let mut mapped = event();
    mapped["requestContext"]["identity"]["sourceIp"] = json!("::ffff:10.0.1.10");
    assert_eq!(identify(&mapped), Ok(caller()));
}

#[test]
fn every_wrong_field_is_refused_for_its_own_reason() {
    let role_arn = "arn:aws:sts::123456789012:assumed-role";
    let cases = [
        ("/stageVariables", Value::Null, NotANode::StageSecret),
        ("/stageVariables", json!({}), NotANode::StageSecret),
        ("/stageVariables/rolecall_secret", json!(""), NotANode::StageSecret),
        ("/stageVariables/rolecall_secret", json!(format!("{SECRET}0")), NotANode::StageSecret),
        ("/stageVariables/rolecall_secret", json!(SECRET.replace('f', "e")), NotANode::StageSecret),
        ("/requestContext/apiId", json!("abd"), door("apiId", Some("abd"))),
        ("/requestContext/apiId", Value::Null, door("apiId", None)),
        ("/requestContext/stage", json!("test-invoke-stage"), door("stage", Some("test-invoke-stage"))),
        ("/requestContext/resourcePath", json!("/other"), door("resourcePath", Some("/other"))),
        ("/requestContext/httpMethod", json!("GET"), door("httpMethod", Some("GET"))),
        ("/requestContext/identity/vpceId", json!("vpce-1"), door("vpceId", Some("vpce-1"))),
        ("/requestContext/identity/vpceId", Value::Null, door("vpceId", None)),
        ("/requestContext/identity/caller", Value::Null, NotANode::NoRoleSession { got: None }),
        (
            "/requestContext/identity/caller",
            json!("AIDAEXAMPLEEXAMPLE00"),
            NotANode::NoRoleSession { got: Some("AIDAEXAMPLEEXAMPLE00".into()) },
        ),
        (
            "/requestContext/identity/caller",
            json!("AIDAEXAMPLEEXAMPLE00:i-0123456789abcdef0"),
            NotANode::NoRoleSession { got: Some("AIDAEXAMPLEEXAMPLE00:i-0123456789abcdef0".into()) },
        ),
        (
            "/requestContext/identity/caller",
            json!("AROAEXAMPLEEXAMPLE01:i-0123456789abcdef0"),
            NotANode::UnknownRole { role_id: RoleId::parse("AROAEXAMPLEEXAMPLE01").unwrap() },
        ),
        (
            "/requestContext/identity/caller",
            json!("AROAEXAMPLEEXAMPLE00:someone"),
            NotANode::NoInstance { got: "someone".into() },
        ),
        (
            "/requestContext/identity/caller",
            json!("AROAEXAMPLEEXAMPLE00:i-0123456789abcdef0:x"),
            NotANode::NoInstance { got: "i-0123456789abcdef0:x".into() },
        ),
        (
            "/requestContext/identity/caller",
            json!("AROAEXAMPLEEXAMPLE00:i-0123456789abcdef1"),
            other("userArn", &format!("{role_arn}/node/i-0123456789abcdef0")),
        ),
        ("/requestContext/identity/accountId", json!("123456789013"), other("accountId", "123456789013")),
        (
            "/requestContext/identity/userArn",
            json!(format!("{role_arn}/edon/i-0123456789abcdef0")),
            other("userArn", &format!("{role_arn}/edon/i-0123456789abcdef0")),
        ),
        (
            "/requestContext/identity/userArn",
            json!("arn:aws:iam::123456789012:user/node"),
            other("userArn", "arn:aws:iam::123456789012:user/node"),
        ),
        ("/requestContext/identity/sourceIp", json!("here"), NotANode::NoSourceIp { got: Some("here".into()) }),
        ("/requestContext/identity/sourceIp", Value::Null, NotANode::NoSourceIp { got: None }),
    ];
    for (pointer, value, expected) in cases {
        let mut event = event();
        *event.pointer_mut(pointer).unwrap() = value.clone();
        assert_eq!(identify(&event), Err(expected), "{pointer} = {value}");
    }
    assert_eq!(identify(&json!({})), Err(NotANode::StageSecret));
}

#[test]
fn the_source_must_be_an_address_of_the_node() {
    let node = |addresses: &[&str]| NodeRecord {
        name: model::name::NodeName::parse("node-a").unwrap(),
        uid: model::name::Uid::parse("u").unwrap(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let gate = gate();
    assert_eq!(gate.check_source(&caller(), Some(&node(&["10.0.1.11", "10.0.1.10"]))), Ok(()));
    assert_eq!(gate.check_source(&caller(), Some(&node(&["::ffff:10.0.1.10"]))), Ok(()));
    let elsewhere = NotANode::OtherAddress {
        got: "10.0.1.10".parse().unwrap(),
        instance: caller().instance,
        known: vec!["10.0.1.11".parse().unwrap()],
    };
    assert_eq!(gate.check_source(&caller(), Some(&node(&["10.0.1.11"]))), Err(elsewhere));
    let unknown = NotANode::NoNodeRecord { instance: caller().instance };
    assert_eq!(gate.check_source(&caller(), None), Err(unknown));
    assert_eq!(Gate { source_ip_check: false, ..gate }.check_source(&caller(), None), Ok(()));
}

#[test]
fn the_caller_is_not_told_what_was_expected() {
    let gate = gate();
    let expected = [&gate.api_id, "vpce-0123456789abcdef0", SECRET, "AROAEXAMPLEEXAMPLE00"];
    for pointer in ["/requestContext/apiId", "/requestContext/identity/vpceId", "/stageVariables/rolecall_secret"] {
        let mut event = event();
        *event.pointer_mut(pointer).unwrap() = json!("x");
        let message = identify(&event).unwrap_err().public_message();
        assert!(expected.iter().all(|value| !message.contains(value)), "{message}");
    }
}
