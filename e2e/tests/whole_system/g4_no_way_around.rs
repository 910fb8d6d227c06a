//! G4: no node, pod or service account can assume a pod role, write the directory, or call the issuer past the API.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::process::Output;
use e2e::signer::Keys;
use reqwest::StatusCode;
use serde_json::{Value, json};

use e2e::world::{ROLE, World, ask_for};

const AWS: Duration = Duration::from_secs(60);

/// Runs the aws command line with these keys on node-a: what they may do does not depend on the place.
async fn aws(world: &World, keys: &Keys, line: &[&str]) -> Result<Output> {
    let aws = world.lab.tools().aws();
    let aws = aws.to_str().context("a path that is text")?;
    world.lab.outside_of_pods("node-a", keys)?.run(&[&[aws], line].concat(), AWS).await
}

/// Whoever has keys that should not reach further: a node, and a pod.
async fn holders(world: &World) -> Result<[(&'static str, Keys); 2]> {
    let pod = world.pod("g4-pod", ROLE).await?;
    Ok([("node", world.lab.node_keys("node-a").await?), ("pod", world.keys_of(&pod, ROLE).await?)])
}

pub(crate) async fn g4_neither_node_nor_pod_can_assume_a_pods_role(world: &mut World) -> Result<()> {
    for (who, keys) in holders(world).await? {
        for role in [
            "example-rolecall-cluster-pod-role-somesuffix",
            "example-rolecall-cluster-pod-role-other",
            "rolecall-issuer",
        ] {
            let arn = World::arn(role);
            let line = ["sts", "assume-role", "--role-arn", &arn, "--role-session-name", "stolen"];
            let output = aws(world, &keys, &line).await?;
            ensure!(!output.status.success() && output.stderr.contains("(AccessDenied)"), "{who}, {role}: {output:?}");
        }
    }
    Ok(())
}

pub(crate) async fn g4_neither_node_nor_pod_can_write_the_directory(world: &mut World) -> Result<()> {
    let stack = world.lab.stack();
    let (directory, cache) = (stack.directory_table.clone(), stack.cache_table.clone());
    let item = json!({"pk": {"S": "example-rolecall-cluster/pod/example/forged"}, "record": {"S": "{}"}}).to_string();
    let key = json!({"pk": {"S": "example-rolecall-cluster/health"}}).to_string();
    for (who, keys) in holders(world).await? {
        for line in [
            ["dynamodb", "put-item", "--table-name", &directory, "--item", &item],
            ["dynamodb", "delete-item", "--table-name", &directory, "--key", &key],
            ["dynamodb", "put-item", "--table-name", &cache, "--item", &item],
            ["dynamodb", "get-item", "--table-name", &cache, "--key", &key],
        ] {
            let output = aws(world, &keys, &line).await?;
            ensure!(
                !output.status.success() && output.stderr.contains("(AccessDeniedException)"),
                "{who}: {line:?}: {output:?}"
            );
        }
    }
    Ok(())
}

/// Whoever may call `lambda:InvokeFunction` knows, or guesses, every field of an event but the stage's secret.
pub(crate) async fn g4_a_perfectly_forged_event_is_refused(world: &mut World) -> Result<()> {
    let pod = world.pod("g4-forged", ROLE).await?;
    let node = world.lab.node("node-a")?;
    let (role_id, instance) = (world.lab.stack().node_role_id.clone(), node.instance());
    let body = json!({"version": 1, "patience_ms": 800, "pods": [ask_for(pod.spec(), Duration::from_secs(60))?]});
    let event = |variables: Value| {
        json!({
            "resource": "/credentials", "path": "/credentials", "httpMethod": "POST", "headers": {}, "multiValueHeaders": {},
            "queryStringParameters": null, "pathParameters": null, "stageVariables": variables,
            "requestContext": {
                "resourcePath": "/credentials", "httpMethod": "POST", "path": "/v1/credentials", "stage": "v1",
                "apiId": e2e::cloud::API_ID, "accountId": e2e::cloud::ACCOUNT, "requestId": "forged",
                "requestTimeEpoch": 1_795_475_000_000_u64,
                "identity": {
                    "accountId": e2e::cloud::ACCOUNT, "caller": format!("{role_id}:{instance}"),
                    "user": format!("{role_id}:{instance}"), "sourceIp": node.ipv4(), "vpceId": e2e::cloud::VPCE_ID,
                    "userArn": format!("arn:aws:sts::{}:assumed-role/rolecall-node/{instance}", e2e::cloud::ACCOUNT),
                },
            },
            "body": body.to_string(), "isBase64Encoded": false,
        })
    };
    for variables in [Value::Null, json!({}), json!({"rolecall_secret": ""}), json!({"rolecall_secret": "a-guess"})] {
        let answer = world.lab.control().invoke(&event(variables.clone())).await?;
        let told: Value = serde_json::from_str(answer["body"].as_str().context("a body")?)?;
        ensure!(answer["statusCode"] == 403 && told["code"] == "caller_not_a_node", "{variables}: {answer}");
    }
    Ok(())
}

/// The impostor may invoke the API, and names its session like node-a's instance. It even asks from node-a's address.
pub(crate) async fn g4_another_role_with_an_instances_session_name_is_refused(world: &mut World) -> Result<()> {
    let pod = world.pod("g4-impostor", ROLE).await?;
    let (role, instance) = (world.lab.stack().impostor_role_arn.clone(), world.lab.node("node-a")?.instance());
    let keys = world.lab.assume_as_root(&role, instance).await?;
    let (status, body) = world.ask("node-a", &keys, vec![ask_for(pod.spec(), Duration::from_secs(60))?]).await?;
    let body: Value = serde_json::from_str(&body)?;
    ensure!(status == StatusCode::FORBIDDEN && body["code"] == "caller_not_a_node", "{status}: {body}");
    Ok(())
}
