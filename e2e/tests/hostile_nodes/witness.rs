//! What an attempt leaves behind: calls of STS, lines of the issuer's audit, a line of the API's access log.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::process::wait_for;
use e2e::world::World;
use serde_json::Value;

use crate::request::Answer;

/// Logs are written before an answer is sent, and read from a file.
const WRITTEN: Duration = Duration::from_secs(5);

/// How often STS was asked for any role that pods can have.
pub(crate) async fn sts_calls(world: &World) -> Result<u64> {
    let state = world.lab.control().state().await?;
    let roles = state["assume_role"].as_object().context("local-cloud counts AssumeRole")?;
    let of_pods = roles.iter().filter(|(arn, _)| arn.contains("-pod-role-") || arn.contains(":role/team/"));
    Ok(of_pods.filter_map(|(_, asked)| asked["asked"].as_u64()).sum())
}

/// Runs an attempt during which STS must be asked exactly so often.
pub(crate) async fn with_sts_calls<T>(
    world: &mut World,
    calls: u64,
    attempt: impl AsyncFnOnce(&mut World) -> Result<T>,
) -> Result<T> {
    let before = sts_calls(world).await?;
    let outcome = attempt(world).await?;
    let made = sts_calls(world).await? - before;
    ensure!(made == calls, "STS was asked {made} times where it should have been {calls}");
    Ok(outcome)
}

/// The lines of the issuer's audit for a request, by the API's extended id.
pub(crate) fn audit(world: &World, api_request_id: &str) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(world.lab.registration().subdirectory("function")?)? {
        let text = fs::read(entry?.path())?;
        for line in String::from_utf8_lossy(&text).lines().filter(|line| line.starts_with(r#"{"audit":"#)) {
            let line: Value = serde_json::from_str(line)?;
            if line["api_request_id"] == api_request_id {
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

/// The line of the API's access log for a request.
pub(crate) async fn access_line(world: &mut World, request_id: &str) -> Result<Value> {
    wait_for("the access log's line", WRITTEN, async || {
        let log = world.lab.local_cloud().log();
        let mut found = log.lines().filter(|line| line.contains(request_id) && line.contains(r#""api request""#));
        let line: Value = serde_json::from_str(found.next()?).ok()?;
        found.next().is_none().then(|| line["fields"].clone())
    })
    .await
}

/// API Gateway itself refused the request: its access log says so, and the issuer never heard of it.
pub(crate) async fn refused_by_the_api(
    world: &mut World,
    answer: &Answer,
    (status, error_type, message): (u16, Option<&str>, &str),
) -> Result<Value> {
    ensure!((answer.status, answer.error_type.as_deref()) == (status, error_type), "{answer:?}");
    ensure!(answer.body.contains(message), "{message:?} is not in {answer:?}");
    let line = access_line(world, &answer.request_id).await?;
    ensure!(line["status"] == status && line.get("error_type").and_then(Value::as_str) == error_type, "{line}");
    let audit = audit(world, &answer.api_request_id)?;
    ensure!(audit.is_empty(), "the issuer audited {audit:?}");
    Ok(line)
}

/// The issuer refused the whole request: the answer has the code, the audit code and cause, the access log the caller.
pub(crate) async fn refused_by_the_issuer(
    world: &mut World,
    answer: &Answer,
    (status, code, cause): (u16, &str, &str),
) -> Result<Value> {
    ensure!(answer.status == status && answer.json()?["code"] == code, "{answer:?}");
    let audit = audit(world, &answer.api_request_id)?;
    let [line] = &audit[..] else { anyhow::bail!("{} lines of audit for {answer:?}", audit.len()) };
    ensure!(line["audit"] == "request_refused" && line["code"] == code, "{line}");
    ensure!(line["cause"].as_str().is_some_and(|text| text.contains(cause)), "{cause:?} is not in {line}");
    let access = access_line(world, &answer.request_id).await?;
    ensure!(access["status"] == status && access["caller"] == line["caller"], "{access} and {line}");
    ensure!(access["source_ip"] == line["source_ip"], "{access} and {line}");
    Ok(line.clone())
}

/// The issuer answered, with a refusal of this code for each of so many pods, and audited each.
pub(crate) fn all_pods_refused(world: &World, answer: &Answer, count: usize, code: &str) -> Result<()> {
    ensure!(answer.status == 200, "{answer:?}");
    let body = answer.json()?;
    let outcomes = body["outcomes"].as_array().context("no outcomes")?;
    ensure!(outcomes.len() == count && body["sessions"] == Value::Array(Vec::new()), "{body}");
    let other = outcomes.iter().find(|outcome| outcome["refused"]["code"] != code);
    ensure!(other.is_none(), "{other:?} is not {code}");
    let audit = audit(world, &answer.api_request_id)?;
    let audited = audit.iter().filter(|line| line["audit"] == "refused" && line["code"] == code).count();
    ensure!((audit.len(), audited) == (count, count), "{} lines of audit, {audited} of {code}", audit.len());
    Ok(())
}
