//! The API itself: signatures, names, sizes, policies. What it refuses, the issuer never hears of.

use anyhow::{Result, ensure};
use e2e::signer::Keys;
use e2e::world::{ROLE, World};
use reqwest::Method;
use serde_json::json;

use crate::callers::{Target, a_target};
use crate::request::Request;
use crate::witness::{access_line, refused_by_the_api, with_sts_calls};

const MISSING: (u16, Option<&str>, &str) =
    (403, Some("MissingAuthenticationTokenException"), "Missing Authentication Token");
const FORBIDDEN: (u16, Option<&str>, &str) = (403, Some("ForbiddenException"), "Forbidden");
const UNKNOWN_KEY: (u16, Option<&str>, &str) =
    (403, Some("UnrecognizedClientException"), "The security token included in the request is invalid.");
const NO_MATCH: (u16, Option<&str>, &str) = (
    403,
    Some("InvalidSignatureException"),
    "The request signature we calculated does not match the signature you provided",
);
const TOO_LONG: (u16, Option<&str>, &str) = (413, Some("RequestTooLargeException"), "Request Too Long");

pub(crate) async fn a_request_without_a_valid_signature_is_refused(world: &mut World) -> Result<()> {
    let Target { keys, body, .. } = a_target(world, "node-a", "d-signature").await?;
    let [(_, id), (_, secret), (_, token)] = keys.variables();
    let with = |id: &str, secret: &str, token: &str| {
        Request::new(&Keys::new(id.to_owned(), secret.to_owned(), token.to_owned()), body.clone())
    };
    let request = Request::new(&keys, body.clone());
    let scoped = |service, region| Request { region, service, ..request.clone() }.sign();
    let service = "Credential should be scoped to correct service: 'execute-api'.";
    let region = "Credential should be scoped to a valid region, not 'us-east-1'.";
    let mut other_body = request.sign()?;
    other_body.body = body.replace("d-signature", "d-another-pod").into_bytes();
    let mut without_token = request.sign()?;
    without_token.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("x-amz-security-token"));
    let mut half = request.sign()?;
    for (name, value) in &mut half.headers {
        if name.eq_ignore_ascii_case("authorization") {
            *value = value.split(", Signature=").next().unwrap_or_default().to_owned();
        }
    }
    let attempts = [
        ("none", request.unsigned(), MISSING),
        ("another service", scoped("sts", e2e::cloud::REGION)?, (403, Some("InvalidSignatureException"), service)),
        ("another region", scoped("execute-api", "us-east-1")?, (403, Some("InvalidSignatureException"), region)),
        ("for another body", other_body, NO_MATCH),
        ("with another secret", with(id, "0123456789012345678901234567890123456789", token).sign()?, NO_MATCH),
        ("of an unknown key", with("ASIAUNKNOWNUNKNOWN00", secret, token).sign()?, UNKNOWN_KEY),
        ("with another token", with(id, secret, "another-token").sign()?, UNKNOWN_KEY),
        ("without its token", without_token, UNKNOWN_KEY),
        ("half of one", half, (403, Some("IncompleteSignatureException"), "Signature")),
    ];
    with_sts_calls(world, 0, async |world| {
        for (what, attempt, expected) in attempts {
            let answer = attempt.send(world, "node-a").await?;
            let line = refused_by_the_api(world, &answer, expected).await;
            let line = line.map_err(|error| error.context(format!("a signature {what}")))?;
            // Whose request it was is known only once a signature holds.
            ensure!(line.get("caller").is_none() && line["source_ip"] == "10.0.1.10", "{what}: {line}");
        }
        Ok(())
    })
    .await
}

pub(crate) async fn another_api_stage_path_or_method_is_not_there(world: &mut World) -> Result<()> {
    let Target { keys, body, .. } = a_target(world, "node-a", "d-route").await?;
    let request = Request::new(&keys, body);
    let host = |host: &str| Request { host: host.to_owned(), ..request.clone() };
    let path = |path: &str| Request { path: path.to_owned(), ..request.clone() };
    let method = |method: Method| Request { method, ..request.clone() };
    let suffix = format!("execute-api.{}.amazonaws.com", e2e::cloud::REGION);
    let attempts = vec![
        (host(&format!("z9y8x7w6v5-{}.{suffix}", e2e::cloud::VPCE_ID)), FORBIDDEN),
        (host(&format!("{}-vpce-00000000000000000.{suffix}", e2e::cloud::API_ID)), FORBIDDEN),
        (host(&suffix), FORBIDDEN),
        (path("/v2/credentials"), FORBIDDEN),
        (path("/credentials"), FORBIDDEN),
        (path("/"), FORBIDDEN),
        (path("/v1"), MISSING),
        (path("/v1/"), MISSING),
        (path("/v1/credentials/"), MISSING),
        (path("/v1/credentials/x"), MISSING),
        (path("/v1//credentials"), MISSING),
        (path("/v1/Credentials"), MISSING),
        (path("/v1/%63redentials"), MISSING),
        (path("/v1/admin"), MISSING),
        (method(Method::GET), MISSING),
        (method(Method::PUT), MISSING),
        (method(Method::PATCH), MISSING),
        (method(Method::DELETE), MISSING),
        (method(Method::OPTIONS), MISSING),
    ];
    with_sts_calls(world, 0, async |world| {
        for (attempt, expected) in attempts {
            let answer = attempt.send(world, "node-a").await?;
            let refused = refused_by_the_api(world, &answer, expected).await;
            let line = refused.map_err(|error| error.context(format!("{} {}", attempt.method, attempt.path)))?;
            ensure!(line["method"] == attempt.method.as_str() && line["path"] == attempt.path.as_str(), "{line}");
        }
        Ok(())
    })
    .await
}

/// Over the API's 10 MB, and over the 6 MB that Lambda takes. What is over the issuer's own limit is the issuer's to refuse.
pub(crate) async fn more_than_the_api_takes_is_refused(world: &mut World) -> Result<()> {
    let Target { keys, body, .. } = a_target(world, "node-a", "d-size").await?;
    with_sts_calls(world, 0, async |world| {
        for size in [10 * 1024 * 1024 + 1, 7 * 1024 * 1024] {
            let padded = format!("{body}{}", " ".repeat(size - body.len()));
            let answer = Request::new(&keys, padded).sign()?.send_politely(world, "node-a").await?;
            refused_by_the_api(world, &answer, TOO_LONG).await?;
        }
        let mut request = Request::new(&keys, body.clone()).sign()?;
        request.headers.push(("x-filler".into(), "x".repeat(10_240)));
        let answer = request.send(world, "node-a").await?;
        refused_by_the_api(world, &answer, (431, None, "Request Header Fields Too Large")).await.map(drop)
    })
    .await
}

/// A pod's own role has no `execute-api:Invoke`, whatever a pod has stolen besides.
pub(crate) async fn a_pods_credentials_may_not_call_the_api(world: &mut World) -> Result<()> {
    let target = a_target(world, "node-a", "d-pod").await?;
    let session = Request::new(&target.keys, target.body.clone()).send(world, "node-a").await?;
    let session = session.json()?["sessions"][0]["credentials"].clone();
    let text = |member: &str| session[member].as_str().unwrap_or_default().to_owned();
    let keys = Keys::new(text("access_key_id"), text("secret_access_key"), text("session_token"));
    with_sts_calls(world, 0, async |world| {
        let answer = Request::new(&keys, target.body.clone()).send(world, "node-a").await?;
        let reason = format!(
            "User: arn:aws:sts::{}:assumed-role/{ROLE}/rolecall-{} is not authorized to perform: execute-api:Invoke",
            e2e::cloud::ACCOUNT,
            e2e::cloud::CLUSTER
        );
        let line = refused_by_the_api(world, &answer, (403, Some("AccessDeniedException"), &reason)).await?;
        ensure!(line["caller"].as_str().is_some_and(|caller| caller.starts_with("AROA")), "{line}");
        Ok(())
    })
    .await?;
    // The access log names callers, and this one is in it too.
    let answer = Request::new(&target.keys, json!({}).to_string()).send(world, "node-a").await?;
    let line = access_line(world, &answer.request_id).await?;
    let node = format!("{}:{}", world.lab.stack().node_role_id, world.lab.node("node-a")?.instance());
    ensure!(line["caller"] == node.as_str() && line["status"] == 400, "{line}");
    Ok(())
}
