//! STS: how often it is asked, and what pods see while it fails.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::{Connections, PodClient, SDK_PATIENCE};
use e2e::metadata::{self, LIST, Seen};
use e2e::net::{Pod, PodSpec};
use e2e::suite;
use e2e::world::{NAMESPACE, ROLE, World, list_becomes};
use local_cloud::faults::{Effect, Rule, Target};
use serde_json::Value;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(40);

/// AssumeRole requests for a role since the laboratory began.
async fn asked(world: &World, role: &str) -> Result<u64> {
    let state = world.lab.control().state().await?;
    Ok(state["assume_role"][World::arn(role)]["asked"].as_u64().unwrap_or(0))
}

/// A pod whose session nobody has yet.
async fn cold(world: &World, name: &str) -> Result<Pod> {
    let pod = PodSpec::new(NAMESPACE, name).role(ROLE).annotation("iam.amazonaws.com/session-name", name);
    world.pod_on("node-a", pod).await
}

fn sts(effect: Effect) -> Rule {
    Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, effect) }
}

/// kiam #145 #220: four STS calls for one credential.
pub(crate) async fn one_impatient_client_cancels_everyones_fetch(world: &mut World) -> Result<()> {
    let before = asked(world, ROLE).await?;
    let test = async {
        let pod = cold(world, "peers-impatient").await?;
        let client = PodClient::new(&pod, Connections::New)?;
        let impatient = timeout(Duration::from_millis(100), client.get(LIST)).await;
        ensure!(impatient.is_err(), "answered before it hung up: {impatient:?}");
        client.get(LIST).await
    };
    let patient = world.while_misbehaving(&[sts(Effect::Delay(600))], Box::pin(test)).await?;
    ensure!(patient.answer == Ok((200, ROLE.to_owned())), "{patient:?}");
    let calls = asked(world, ROLE).await? - before;
    ensure!(calls == 1, "{calls} calls of STS");
    Ok(())
}

/// kube2iam: fifty.
pub(crate) async fn fifty_cold_requests_are_fifty_sts_calls(world: &mut World) -> Result<()> {
    let before = asked(world, ROLE).await?;
    let test = async {
        let pod = cold(world, "peers-fifty").await?;
        let client = PodClient::new(&pod, Connections::New)?;
        let mut answers = Vec::new();
        for answer in futures_util::future::join_all((0..50).map(|_| client.get(LIST))).await {
            answers.push(answer?);
        }
        Ok(answers)
    };
    let answers = world.while_misbehaving(&[sts(Effect::Delay(200))], Box::pin(test)).await?;
    let right = answers.iter().filter(|seen| seen.answer == Ok((200, ROLE.to_owned()))).count();
    ensure!(right == 50, "{right} of 50: {answers:?}");
    let calls = asked(world, ROLE).await? - before;
    ensure!(calls == 1, "{calls} calls of STS");
    let mut took: Vec<_> = answers.iter().map(|seen| seen.took.as_millis()).collect();
    took.sort_unstable();
    suite::figure(format!(
        "50 concurrent cold requests, STS at 200 ms: 1 call, p50 {} ms, longest {} ms",
        took[25], took[49]
    ));
    Ok(())
}

/// kiam, in 4.3 s, while the pod waited.
pub(crate) async fn one_access_denied_is_sixteen_sts_calls(world: &mut World) -> Result<()> {
    let role = "example-rolecall-cluster-pod-role-untrusting";
    let before = asked(world, role).await?;
    let pod = world.pod("peers-denied", role).await?;
    let client = PodClient::new(&pod, Connections::New)?;
    let refused = client.get(LIST).await?;
    ensure!(refused.answer == Ok((200, role.to_owned())) && refused.took < SDK_PATIENCE, "{refused:?}");
    let document = client.get(&format!("{LIST}{role}")).await?;
    let document: Value = serde_json::from_str(document.body().context("a document")?)?;
    ensure!(document["Code"] == "AssumeRoleDenied", "{document}");
    let calls = asked(world, role).await? - before;
    ensure!(calls == 1, "{calls} calls of STS");
    suite::figure(format!("one AccessDenied: {calls} call, told after {} ms", refused.took.as_millis()));
    Ok(())
}

/// Both held such requests for 5 s and answered 500, warm pods' too.
pub(crate) async fn throttled_sts_turns_into_five_second_500s(world: &mut World) -> Result<()> {
    let warm = world.pod("peers-warm-throttled", ROLE).await?;
    list_becomes(world, &warm, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let test = async {
        let pod = cold(world, "peers-throttled").await?;
        let new = PodClient::new(&pod, Connections::New)?.get(LIST).await?;
        let served = PodClient::new(&warm, Connections::New)?.get(LIST).await?;
        Ok((pod, new, served))
    };
    let (pod, new, served) = world.while_misbehaving(&[sts(Effect::Throttle)], Box::pin(test)).await?;
    ensure!(new.status() == Some(503) && new.took < SDK_PATIENCE, "{new:?}");
    ensure!(served.answer == Ok((200, ROLE.to_owned())) && served.took < SDK_PATIENCE, "{served:?}");
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await
}

/// kiam dropped 91 of 100. Here each key has 34 minutes left when it is issued, and is due at once; `expiry` goes further.
pub(crate) async fn after_a_bulk_expiry_refreshes_are_dropped(world: &mut World) -> Result<()> {
    const PODS: usize = 20;
    /// What was renewed with as short a session is renewed again after a minute.
    const RENEWED: Duration = Duration::from_secs(90);
    let due = Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, Effect::Shorten(26 * 60)) };
    let test = async {
        let mut pods = Vec::new();
        for number in 0..PODS {
            let pod = cold(world, &format!("peers-bulk-{number}")).await?;
            list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
            pods.push(pod);
        }
        Ok(pods)
    };
    let pods = world.while_misbehaving(&[due], Box::pin(test)).await?;
    let mut renewed = Vec::new();
    for pod in &pods {
        let whole = async || {
            let document = metadata::get(&pod.place(), &format!("{LIST}{ROLE}")).await.ok()?.ok().ok()?;
            (minutes_left(&document).ok()? > 50).then_some(())
        };
        renewed.push(e2e::process::wait_for("a renewal", RENEWED, whole).await);
    }
    let dropped = renewed.iter().filter(|outcome| outcome.is_err()).count();
    ensure!(dropped == 0, "{dropped} of {PODS} were not renewed");
    Ok(())
}

/// kiam #41 #93. The issuer shares no session that has under 40 minutes left, so no pod starts with one.
pub(crate) async fn credentials_are_too_close_to_expiry(world: &mut World) -> Result<()> {
    let short = Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, Effect::Shorten(21 * 60)) };
    let name = "peers-short";
    let test = async {
        let pod = cold(world, name).await?;
        list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
        Ok(pod)
    };
    let first = world.while_misbehaving(&[short], Box::pin(test)).await?;
    let before = asked(world, ROLE).await?;
    let spec = PodSpec::new(NAMESPACE, "peers-short-2").role(ROLE).annotation("iam.amazonaws.com/session-name", name);
    let second = world.pod_on("node-b", spec).await?;
    let client = PodClient::new(&second, Connections::New)?;
    let document = client.credentials().await?;
    let left = minutes_left(document.body().with_context(|| format!("{document:?}"))?)?;
    ensure!((58..=60).contains(&left), "{left} minutes left");
    ensure!(asked(world, ROLE).await? - before >= 1, "a new session was made");
    drop(first);
    Ok(())
}

/// The whole minutes that a credentials document is still good for.
#[expect(clippy::disallowed_methods, reason = "an expiry is a real time")]
fn minutes_left(document: &str) -> Result<u64> {
    let document: Value = serde_json::from_str(document)?;
    let expiration = document["Expiration"].as_str().context("no Expiration")?;
    let expiration = humantime::parse_rfc3339(expiration)?;
    Ok(expiration.duration_since(std::time::SystemTime::now()).unwrap_or_default().as_secs() / 60)
}
