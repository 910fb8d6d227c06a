//! What a stolen node, and others in the account, cannot get.

use std::time::Duration;

use anyhow::Result;
use e2e::cloud::{ACCOUNT, API_ID, VPCE_ID};
use e2e::net::PodSpec;
use e2e::signer::{Keys, ask_issuer};
use model::name::{Namespace, PodName, PodRef, Uid};
use model::wire::{Ask, IssueRequest};
use serde_json::{Value, json};

use super::{ONE_COMMAND, Seen};
use crate::stage::Stage;

pub(crate) async fn other_nodes_pod(stage: &mut Stage) -> Result<Seen> {
    let keys = stage.lab.node_keys("node-b").await?;
    let got = ask_for_example(stage, &keys, "node-b").await?;
    let tried = "on node-b: POST /v1/credentials for default/example, signed with node-b's own credentials".into();
    Ok(Seen { tried, ok: got.contains("\"pod_on_other_node\"") && !got.contains("secret_access_key"), got })
}

pub(crate) async fn stolen(stage: &mut Stage) -> Result<Seen> {
    let keys = stage.lab.node_keys("node-a").await?;
    let got = ask_for_example(stage, &keys, "node-b").await?;
    let tried = "on node-b: POST /v1/credentials for default/example, signed with node-a's credentials".into();
    Ok(Seen { tried, ok: is_no_node(&got), got })
}

pub(crate) async fn impostor(stage: &mut Stage) -> Result<Seen> {
    let instance = stage.lab.node("node-a")?.instance().to_owned();
    let role = stage.lab.stack().impostor_role_arn.clone();
    let keys = stage.lab.assume_as_root(&role, &instance).await?;
    let got = ask_for_example(stage, &keys, "node-a").await?;
    let tried = format!("on node-a: POST /v1/credentials, signed as {role} with the session name {instance}");
    Ok(Seen { tried, ok: is_no_node(&got), got })
}

pub(crate) async fn forged_event(stage: &mut Stage) -> Result<Seen> {
    let event = forged(stage)?;
    let got = stage.lab.control().invoke(&event).await?.to_string();
    let tried =
        "somebody with lambda:InvokeFunction: the event that API Gateway would send for node-a, with a guessed \
                 stage secret"
            .into();
    Ok(Seen { tried, ok: got.contains("403") && got.contains("caller_not_a_node"), got })
}

pub(crate) async fn assume_role(stage: &mut Stage) -> Result<Seen> {
    let keys = stage.lab.node_keys("node-a").await?;
    let role = stage.lab.stack().pod_role_arn.clone();
    let aws = stage.lab.tools().aws();
    let words = ["sts", "assume-role", "--role-arn", &role, "--role-session-name", "thief"];
    let aws = aws.to_string_lossy();
    let line = [&[&*aws], &words[..]].concat();
    let place = stage.lab.outside_of_pods("node-a", &keys)?;
    let output = place.run(&line, ONE_COMMAND).await?;
    let tried = format!("on node-a, with its credentials: aws {}", words.join(" "));
    let ok = !output.status.success() && output.stderr.contains("AccessDenied");
    Ok(Seen { tried, ok, got: output.stdout + &output.stderr })
}

/// Asks the issuer for the example pod from a node's address. Gives status and body.
async fn ask_for_example(stage: &Stage, keys: &Keys, from: &str) -> Result<String> {
    let request = IssueRequest::new(Duration::from_secs(5), vec![ask(stage.example.spec())?]);
    let inside = stage.lab.node(from)?.namespace().runtime()?;
    let (status, body) = ask_issuer(&inside, &stage.lab.ca_certificate(), keys, &request).await?;
    Ok(format!("{} {body}", status.as_u16()))
}

fn ask(pod: &PodSpec) -> Result<Ask> {
    let (namespace, name) = (Namespace::parse(&pod.namespace)?, PodName::parse(&pod.name)?);
    let pod = PodRef { namespace, name, uid: Uid::parse(&pod.uid)? };
    // Older than any doubt about a pod that has just moved.
    Ok(Ask { pod, sandbox_age_ms: 60_000 })
}

fn is_no_node(got: &str) -> bool {
    got.starts_with("403 ") && got.contains("\"caller_not_a_node\"")
}

/// What API Gateway would send, but for the stage's secret, which only API Gateway knows.
fn forged(stage: &Stage) -> Result<Value> {
    let node = stage.lab.node("node-a")?;
    let stack = stage.lab.stack();
    let caller = format!("{}:{}", stack.node_role_id, node.instance());
    let request = IssueRequest::new(Duration::from_secs(5), vec![ask(stage.example.spec())?]);
    Ok(json!({
        "resource": "/credentials", "path": "/credentials", "httpMethod": "POST",
        "headers": {"Content-Type": "application/json"},
        "stageVariables": {"rolecall_secret": "guessed-guessed-guessed-guessed-guessed"},
        "requestContext": {
            "resourcePath": "/credentials", "httpMethod": "POST", "path": "/v1/credentials", "stage": "v1",
            "apiId": API_ID, "accountId": ACCOUNT, "requestId": "00000000-0000-4000-8000-000000000000",
            "identity": {
                "accountId": ACCOUNT, "caller": caller, "user": caller,
                "userArn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/rolecall-node/{}", node.instance()),
                "sourceIp": node.ipv4(), "vpceId": VPCE_ID,
            },
        },
        "body": serde_json::to_string(&request)?, "isBase64Encoded": false,
    }))
}
