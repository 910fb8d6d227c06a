//! The event that API Gateway hands the issuer, and who sent it.

use std::sync::LazyLock;

use lambda_issuer::caller::{Gate, NodeRole};
use lambda_issuer::event::ProxyEvent;
use model::wire::IssueRequest;
use serde_json::Value;
use serde_json::value::RawValue;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ROLE_ID: &str = "AROAEXAMPLEEXAMPLE00";

static GATE: LazyLock<Gate> = LazyLock::new(|| Gate {
    api_id: "abc".into(),
    stage: "v1".into(),
    vpce_ids: ["vpce-0123456789abcdef0".to_owned()].into(),
    stage_secret: SECRET.into(),
    node_roles: [(
        ROLE_ID.parse().expect("a role's id"),
        NodeRole {
            arn: "arn:aws:iam::123456789012:role/nodes/node".parse().expect("an ARN"),
            cluster: "prod".parse().expect("a cluster's name"),
        },
    )]
    .into(),
    source_ip_check: true,
});

pub(super) fn run(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<&RawValue>(input) else { return };
    let event = match ProxyEvent::parse(json) {
        Ok(event) => event,
        Err(error) => return assert!(error.to_string().len() < 100, "{error}"),
    };
    let shows_secret = |text: String| text.contains(SECRET) && !is_told(json);
    assert!(!shows_secret(format!("{event:?}")), "the stage's secret is shown");
    if let Some(body) = event.body() {
        let _ = IssueRequest::parse(&body);
    }
    match GATE.identify(&event) {
        Ok(caller) => {
            // A field that is not used may hold what this reader does not take, such as half a surrogate pair.
            if let Ok(event) = serde_json::from_str(json.get()) {
                check(&event, caller.instance.as_str());
            }
        }
        Err(cause) => {
            assert!(cause.to_string().len() < 1000, "{cause}");
            assert!(!shows_secret(cause.to_string()), "the stage's secret is shown");
        }
    }
}

/// Whether whoever sent the event wrote the secret where it is logged.
fn is_told(event: &RawValue) -> bool {
    let event: Option<Value> = serde_json::from_str(event.get()).ok();
    event.is_none_or(|event| event["requestContext"].to_string().contains(SECRET))
}

/// What must be in the event of a node, as a simpler reader finds it.
fn check(event: &Value, instance: &str) {
    for (pointer, expected) in [
        ("/stageVariables/rolecall_secret", SECRET),
        ("/requestContext/apiId", "abc"),
        ("/requestContext/stage", "v1"),
        ("/requestContext/resourcePath", "/credentials"),
        ("/requestContext/httpMethod", "POST"),
        ("/requestContext/identity/vpceId", "vpce-0123456789abcdef0"),
        ("/requestContext/identity/accountId", "123456789012"),
        ("/requestContext/identity/caller", &format!("{ROLE_ID}:{instance}")),
        ("/requestContext/identity/userArn", &format!("arn:aws:sts::123456789012:assumed-role/node/{instance}")),
    ] {
        assert_eq!(event.pointer(pointer).and_then(Value::as_str), Some(expected), "{pointer}");
    }
}
