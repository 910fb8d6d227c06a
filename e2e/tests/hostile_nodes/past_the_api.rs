//! Events straight to the function, as whoever may call `lambda:InvokeFunction` can send them: in order but for the stage's
//! secret; and, for whoever had that too, with everything else forged in turn.

use anyhow::{Context, Result, ensure};
use e2e::cloud::{ACCOUNT, API_ID, VPCE_ID};
use e2e::world::World;
use serde_json::{Value, json};

use crate::callers::{Target, a_target};
use crate::witness::{audit, with_sts_calls};

const SECRET: &str = "the stage variable rolecall_secret is missing or is not STAGE_SECRET";
const IDENTITY: &str = "which does not belong to the role that NODE_ROLES has for this id";

/// The stage's secret: it is among those that local-cloud's settings hold.
async fn stage_secret(world: &World) -> Result<String> {
    let secrets = world.lab.control().secrets().await?;
    secrets.into_iter().find(|secret| secret.starts_with("a-secret-of-this")).context("local-cloud knows the secret")
}

/// The event that API Gateway would make of node-a's request.
fn event(world: &World, body: &str, secret: &str) -> Result<Value> {
    let node = world.lab.node("node-a")?;
    let (role_id, instance) = (&world.lab.stack().node_role_id, node.instance());
    Ok(json!({
        "resource": "/credentials", "path": "/credentials", "httpMethod": "POST", "headers": {}, "multiValueHeaders": {},
        "queryStringParameters": null, "pathParameters": null, "stageVariables": {"rolecall_secret": secret},
        "requestContext": {
            "resourcePath": "/credentials", "httpMethod": "POST", "path": "/v1/credentials", "stage": "v1",
            "apiId": API_ID, "accountId": ACCOUNT, "requestId": "forged",
            "requestTimeEpoch": crate::request::now(),
            "identity": {
                "accountId": ACCOUNT, "caller": format!("{role_id}:{instance}"),
                "user": format!("{role_id}:{instance}"), "sourceIp": node.ipv4(), "vpceId": VPCE_ID,
                "userArn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/rolecall-node/{instance}"),
            },
        },
        "body": body, "isBase64Encoded": false,
    }))
}

/// What is forged, where, and the cause that the audit names.
fn forgeries(role_id: &str, instance: &str) -> Vec<(&'static str, Value, &'static str)> {
    let user_arn = |name: &str| json!(format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{instance}"));
    vec![
        ("/stageVariables", Value::Null, SECRET),
        ("/stageVariables", json!({}), SECRET),
        ("/stageVariables/rolecall_secret", json!(""), SECRET),
        ("/stageVariables/rolecall_secret", json!("a-secret-of-this-laboratory-alonf"), SECRET),
        ("/stageVariables/rolecall_secret", json!("a-secret-of-this-laboratory-alone "), SECRET),
        ("/requestContext/apiId", json!("z9y8x7w6v5"), "apiId is Some(\"z9y8x7w6v5\")"),
        ("/requestContext/stage", json!("test"), "stage is Some(\"test\")"),
        ("/requestContext/resourcePath", json!("/{proxy+}"), "resourcePath is Some(\"/{proxy+}\")"),
        ("/requestContext/httpMethod", json!("GET"), "httpMethod is Some(\"GET\")"),
        ("/requestContext/identity/vpceId", Value::Null, "vpceId is None"),
        ("/requestContext/identity/vpceId", json!("vpce-1"), "vpceId is Some(\"vpce-1\")"),
        ("/requestContext/identity/caller", Value::Null, "caller None is no role session"),
        // An IAM user, the account's root, a role's session without a name.
        ("/requestContext/identity/caller", json!("AIDAEXAMPLEEXAMPLE00"), "is no role session"),
        ("/requestContext/identity/caller", json!(ACCOUNT), "is no role session"),
        ("/requestContext/identity/caller", json!(role_id), "is no role session"),
        (
            "/requestContext/identity/caller",
            json!(format!("AROAEXAMPLEEXAMPLE00:{instance}")),
            "role id AROAEXAMPLEEXAMPLE00 is not in NODE_ROLES",
        ),
        (
            "/requestContext/identity/caller",
            json!(format!("{role_id}:root")),
            "session name \"root\" is no instance id",
        ),
        ("/requestContext/identity/accountId", json!("210987654321"), IDENTITY),
        ("/requestContext/identity/userArn", user_arn("another"), IDENTITY),
        ("/requestContext/identity/userArn", json!(format!("arn:aws:iam::{ACCOUNT}:user/mallory")), IDENTITY),
        ("/requestContext/identity/sourceIp", Value::Null, "sourceIp None is no address"),
        ("/requestContext/identity/sourceIp", json!("10.0.2.10"), "is none of the addresses of"),
        ("/requestContext", Value::Null, "caller"),
    ]
}

pub(crate) async fn events_past_the_api_are_refused(world: &mut World) -> Result<()> {
    let Target { body, .. } = a_target(world, "node-a", "p-event").await?;
    let secret = stage_secret(world).await?;
    let genuine = event(world, &body, &secret)?;
    let instance = world.lab.node("node-a")?.instance().to_owned();
    let forgeries = forgeries(&world.lab.stack().node_role_id, &instance);
    with_sts_calls(world, 0, async |world| {
        for (n, (place, value, cause)) in forgeries.into_iter().enumerate() {
            let mut forged = genuine.clone();
            let id = format!("forged-{n}");
            forged["requestContext"]["extendedRequestId"] = json!(id);
            *forged.pointer_mut(place).context("a member of the event")? = value.clone();
            let answer = world.lab.control().invoke(&forged).await?;
            let told: Value = serde_json::from_str(answer["body"].as_str().context("a body")?)?;
            ensure!(answer["statusCode"] == 403 && told["code"] == "caller_not_a_node", "{place} {value}: {answer}");
            if place == "/requestContext" {
                continue;
            }
            let audit = audit(world, &id)?;
            let [line] = &audit[..] else { anyhow::bail!("{place} {value}: {audit:?}") };
            ensure!(line["audit"] == "request_refused" && line["code"] == "caller_not_a_node", "{line}");
            ensure!(line["cause"].as_str().is_some_and(|text| text.contains(cause)), "{place} {value}: {line}");
            ensure!(!line.to_string().contains(&secret), "the secret is in the audit");
        }
        Ok(())
    })
    .await?;
    // The event is in order: what was forged is what was refused.
    let answer = world.lab.control().invoke(&genuine).await?;
    ensure!(answer["statusCode"] == 200, "{answer}");
    Ok(())
}
