//! Every refusal of the closed lists, reached end to end once: what the pod sees, with status, code and sentence.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::net::{Pod, PodSpec};
use local_cloud::faults::{Effect, Rule, Target};
use model::record::NamespaceRecord;
use model::refusal::{RefusalCode, Retry};
use model::time::UnixMillis;
use reqwest::StatusCode;
use serde_json::Value;

use e2e::metadata::{self, LIST, Seen};
use e2e::world::{NAMESPACE, PERMITTED, ROLE, World, ask_for, list_becomes};

/// Old enough that nothing about the sandbox is still on its way.
const OLD: Duration = Duration::from_secs(60);
/// The list of a refused pod that must not learn a role's name.
const REFUSED_ROLE: &str = "rolecall-refused";
/// Longer than any refusal is remembered.
const FORGOTTEN: Duration = Duration::from_secs(40);

/// The pod is refused for good: the list names `listed`, its document has code and sentence, and no keys.
async fn is_refused(world: &World, pod: &Pod, listed: &str, code: RefusalCode, message: &str) -> Result<()> {
    list_becomes(world, pod, &Seen::Answer(200, listed.into()), FORGOTTEN).await?;
    let document = metadata::get(&pod.place(), &format!("{LIST}{listed}")).await?.ok()?;
    let document: Value = serde_json::from_str(&document)?;
    ensure!(document["Code"] == code.document_code() && document["Message"] == message, "{document}");
    for key in ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
        ensure!(document.get(key).is_none(), "{key} in {document}");
    }
    Ok(())
}

/// The pod's request is held, and then answered with 503 and the code.
async fn is_held(pod: &Pod, code: RefusalCode) -> Result<()> {
    let begin = std::time::Instant::now();
    let seen = metadata::get_v1(&pod.place(), metadata::IPV4, LIST).await?;
    ensure!(seen == Seen::Answer(503, format!("rolecall: {code}")), "{seen:?}");
    // The SDKs that try once wait for a second, so a definite answer must come before.
    ensure!(begin.elapsed() < Duration::from_secs(2), "answered after {:?}", begin.elapsed());
    Ok(())
}

/// A sandbox with the role annotation, but without a record in the directory.
async fn unrecorded(world: &World, name: &str) -> Result<Pod> {
    world.lab.directory().permit(NAMESPACE, PERMITTED).await?;
    world.lab.sandbox("node-a", PodSpec::new(NAMESPACE, name).role(ROLE)).await
}

#[expect(clippy::disallowed_methods, reason = "the directory's as-of is a real time")]
fn ago(age: Duration) -> UnixMillis {
    UnixMillis::from(SystemTime::now()).minus(age)
}

pub(crate) async fn directory_stale(world: &mut World) -> Result<()> {
    world.lab.directory().put_health(ago(Duration::from_secs(600))).await?;
    let pod = unrecorded(world, "r-stale").await?;
    let held = is_held(&pod, RefusalCode::DirectoryStale).await;
    let refusal = world.refusal(pod.spec(), OLD).await;
    world.lab.directory().up_to_date().await?;
    held?;
    let refusal = refusal?;
    ensure!(refusal.code == RefusalCode::DirectoryStale && refusal.retry == Retry::Soon, "{refusal:?}");
    ensure!(
        refusal.message.starts_with("Pod example/r-stale: the directory last heard from the cluster 60"),
        "{refusal:?}"
    );
    ensure!(refusal.message.ends_with("Look at annotation-sync: is it running, and does it reach the Kubernetes API?"));
    Ok(())
}

pub(crate) async fn pod_unknown(world: &mut World) -> Result<()> {
    world.lab.directory().put_health(ago(Duration::from_secs(30))).await?;
    let pod = unrecorded(world, "r-unknown").await?;
    let held = is_held(&pod, RefusalCode::PodUnknown).await;
    let refusal = world.refusal(pod.spec(), Duration::from_secs(1)).await;
    // The record comes: the next asks are answered.
    let record = world.lab.directory().record_of(pod.spec(), world.lab.node("node-a")?, ROLE)?;
    world.lab.directory().put_pod(NAMESPACE, "r-unknown", &record).await?;
    world.lab.directory().up_to_date().await?;
    held?;
    let refusal = refusal?;
    let sentence = "Pod example/r-unknown is younger than the directory's last word from the cluster; its record may still arrive. \
                    If this lasts more than a minute, look at annotation-sync.";
    ensure!(refusal.code == RefusalCode::PodUnknown && refusal.message == sentence, "{refusal:?}");
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), FORGOTTEN).await
}

pub(crate) async fn no_role(world: &mut World) -> Result<()> {
    // Its record says a role, the directory has none: somebody took the annotation away before the sandbox was made.
    let pod = unrecorded(world, "r-no-role").await?;
    world.lab.directory().up_to_date().await?;
    let sentence = "Pod example/r-no-role has no annotation iam.amazonaws.com/role. To give it a role, set iam.amazonaws.com/role \
                    on the pod (in a workload: under spec.template.metadata.annotations). Pods with hostNetwork and static pods \
                    never get one.";
    list_becomes(world, &pod, &Seen::Answer(404, format!("rolecall: no_role: {sentence}")), FORGOTTEN).await?;
    let refusal = world.refusal(pod.spec(), Duration::ZERO).await?;
    ensure!(refusal.code == RefusalCode::NoRole || refusal.code == RefusalCode::PodUnknown, "{refusal:?}");
    Ok(())
}

pub(crate) async fn pod_replaced(world: &mut World) -> Result<()> {
    let pod = unrecorded(world, "r-replaced").await?;
    let successor = PodSpec::new(NAMESPACE, "r-replaced").role(ROLE);
    let record = world.lab.directory().record_of(&successor, world.lab.node("node-a")?, ROLE)?;
    world.lab.directory().put_pod(NAMESPACE, "r-replaced", &record).await?;
    world.lab.directory().up_to_date().await?;
    let sentence = format!(
        "The directory has another pod named example/r-replaced, not the one with UID {} that asks. A pod of that name was \
         replaced; the old one gets no credentials.",
        pod.spec().uid
    );
    is_refused(world, &pod, REFUSED_ROLE, RefusalCode::PodReplaced, &sentence).await
}

pub(crate) async fn pod_on_other_node(world: &mut World) -> Result<()> {
    let pod = unrecorded(world, "r-moved").await?;
    let elsewhere = world.lab.directory().record_of(pod.spec(), world.lab.node("node-b")?, ROLE)?;
    world.lab.directory().put_pod(NAMESPACE, "r-moved", &elsewhere).await?;
    world.lab.directory().up_to_date().await?;
    is_held(&pod, RefusalCode::PodOnOtherNode).await?;
    // Once the sandbox is 30 s old, its record is no longer expected to follow.
    let sentence = format!(
        "Pod example/r-moved is not on {}, which asks for it: a node gets only the roles of its own pods.",
        world.lab.node("node-a")?.instance()
    );
    is_refused(world, &pod, REFUSED_ROLE, RefusalCode::PodOnOtherNode, &sentence).await
}

pub(crate) async fn invalid_role(world: &mut World) -> Result<()> {
    let pod = world.pod("r-invalid", "no role!").await?;
    let sentence = "Pod example/r-invalid, annotation iam.amazonaws.com/role: \"no role!\" is no IAM role: expected a role name, a \
                    path and name, or arn:PARTITION:iam::ACCOUNT:role/NAME; a name has 1 to 64 of letters, digits and _+=,.@-.";
    is_refused(world, &pod, REFUSED_ROLE, RefusalCode::InvalidRole, sentence).await
}

pub(crate) async fn namespace_unknown(world: &mut World) -> Result<()> {
    let pod = world.lab.schedule("node-a", PodSpec::new("unheard-of", "r-namespace").role(ROLE)).await?;
    is_held(&pod, RefusalCode::NamespaceUnknown).await?;
    let refusal = world.refusal(pod.spec(), OLD).await?;
    let sentence = "The directory has not heard of namespace unheard-of yet. If this lasts more than a minute, look at \
                    annotation-sync.";
    ensure!(refusal.code == RefusalCode::NamespaceUnknown && refusal.message == sentence, "{refusal:?}");
    world.lab.directory().permit("unheard-of", PERMITTED).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), FORGOTTEN).await
}

pub(crate) async fn namespace_permits_nothing(world: &mut World) -> Result<()> {
    world.lab.directory().put_namespace("silent", &NamespaceRecord::default()).await?;
    let pod = world.lab.schedule("node-a", PodSpec::new("silent", "r-nothing").role(ROLE)).await?;
    let sentence = format!(
        "Namespace silent permits no roles. To permit this one, annotate the namespace with iam.amazonaws.com/permitted: {ROLE}"
    );
    is_refused(world, &pod, ROLE, RefusalCode::NamespacePermitsNothing, &sentence).await
}

pub(crate) async fn invalid_permitted_pattern(world: &mut World) -> Result<()> {
    let pod = world.pod_in("starry", "*", "r-pattern", ROLE).await?;
    let sentence = "Namespace starry, annotation iam.amazonaws.com/permitted: \"*\" cannot be read: repetition operator missing \
                    expression. Write iam.amazonaws.com/permitted: \".*\"";
    is_refused(world, &pod, ROLE, RefusalCode::InvalidPermittedPattern, sentence).await
}

pub(crate) async fn namespace_forbids_role(world: &mut World) -> Result<()> {
    let pod = world.pod_in("seed", "example-rolecall-cluster-pod-role-*", "r-seed", ROLE).await?;
    let sentence = format!(
        "Namespace seed does not permit {}: its annotation iam.amazonaws.com/permitted is \
         \"example-rolecall-cluster-pod-role-*\". It is a regular expression, in which any text is written .* and not *: write \
         \"example-rolecall-cluster-pod-role-.*\"",
        World::arn(ROLE)
    );
    is_refused(world, &pod, ROLE, RefusalCode::NamespaceForbidsRole, &sentence).await?;
    // The edit that the sentence asks for helps, and the pod need not be made again.
    world.lab.directory().permit("seed", PERMITTED).await?;
    let document = format!("{LIST}{ROLE}");
    let deadline = tokio::time::Instant::now() + FORGOTTEN;
    loop {
        let seen = metadata::get(&pod.place(), &document).await?.ok()?;
        if serde_json::from_str::<Value>(&seen)?["Code"] == "Success" {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < deadline, "the edit did not help: {seen}");
    }
}

pub(crate) async fn issuer_forbids_role(world: &mut World) -> Result<()> {
    let pod = world.pod_in("wide", ".*", "r-issuer", "unlisted-by-the-issuer").await?;
    let sentence = format!(
        "Pod wide/r-issuer asks for {}, which is not on the issuer's list for cluster example-rolecall-cluster. Whoever deploys \
         the issuer can add it to ASSUMABLE_ROLES and to the issuer's IAM policy, the same string in both.",
        World::arn("unlisted-by-the-issuer")
    );
    is_refused(world, &pod, "unlisted-by-the-issuer", RefusalCode::IssuerForbidsRole, &sentence).await
}

pub(crate) async fn assume_role_denied(world: &mut World) -> Result<()> {
    let role = "example-rolecall-cluster-pod-role-untrusting";
    let pod = world.pod("r-denied", role).await?;
    // Neither tags nor a source identity were sent, so neither TagSession nor SetSourceIdentity can be the cause.
    let sentence = format!(
        "STS denies {} to the issuer. Check that (1) a role of that ARN, path included, exists; (2) its trust policy allows \
         sts:AssumeRole to {}; (3) it must not demand sts:ExternalId, or the namespace or pod must carry that id in its \
         external-id annotation; (4) the issuer's own policy allows sts:AssumeRole on the role, and no service control policy \
         or permissions boundary forbids it.",
        World::arn(role),
        World::arn("rolecall-issuer")
    );
    is_refused(world, &pod, role, RefusalCode::AssumeRoleDenied, &sentence).await
}

/// A pod with a session of its own, so that nothing cached answers for it.
fn with_own_session(name: &str) -> PodSpec {
    PodSpec::new(NAMESPACE, name).role(ROLE).annotation("iam.amazonaws.com/session-name", name)
}

/// While STS misbehaves the pod is held and told `code`, and its node is told `sentence`; afterwards the pod gets its role.
async fn held_while(world: &World, name: &str, effect: Effect, code: RefusalCode, sentence: &str) -> Result<()> {
    let rule = Rule { matching: Some(format!("AssumeRole {ROLE}")), ..Rule::new(Target::Sts, effect) };
    let test = async {
        let pod = world.pod_on("node-a", with_own_session(name)).await?;
        is_held(&pod, code).await?;
        // After a fault of STS the lease lapses before anybody asks again: till then the answer is `pending`.
        let deadline = tokio::time::Instant::now() + FORGOTTEN;
        loop {
            let refusal = world.refusal_within(pod.spec(), OLD, Duration::from_millis(1500)).await?;
            if refusal.code == code {
                ensure!(refusal.message == sentence && refusal.retry == Retry::Soon, "{refusal:?}");
                return Ok(pod);
            }
            let in_time = refusal.code == RefusalCode::Pending && tokio::time::Instant::now() < deadline;
            ensure!(in_time, "{refusal:?}");
        }
    };
    let pod = world.while_misbehaving(&[rule], Box::pin(test)).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), FORGOTTEN).await
}

pub(crate) async fn sts_throttled(world: &mut World) -> Result<()> {
    let sentence = format!("STS throttles this account; a session of {} is asked for again", World::arn(ROLE));
    held_while(world, "r-throttled", Effect::Throttle, RefusalCode::StsThrottled, &sentence).await
}

pub(crate) async fn sts_unavailable(world: &mut World) -> Result<()> {
    let sentence = format!(
        "STS did not give a session of {} just now; it is asked again (the issuer's log has the cause)",
        World::arn(ROLE)
    );
    held_while(world, "r-unavailable", Effect::Error(500), RefusalCode::StsUnavailable, &sentence).await
}

pub(crate) async fn pending(world: &mut World) -> Result<()> {
    let sentence = format!("a session of {} was not ready in time; it is asked for again", World::arn(ROLE));
    held_while(world, "r-pending", Effect::Delay(3000), RefusalCode::Pending, &sentence).await
}

pub(crate) async fn bad_request(world: &mut World) -> Result<()> {
    let keys = world.lab.node_keys("node-a").await?;
    for (body, sentence) in [
        ("{}", "the request is not understood: missing field `version` at line 1 column 2"),
        (
            r#"{"version":7}"#,
            "the request has version 7, this issuer speaks version 1: deploy agent and issuer of one release",
        ),
        (r#"{"version":1,"patience_ms":1,"pods":[]}"#, "the request names 0 pods; 1 to 250 are answered"),
    ] {
        let (status, answer) = world.send("node-a", &keys, body).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(status == StatusCode::BAD_REQUEST && answer["code"] == "bad_request", "{status}: {answer}");
        ensure!(answer["message"] == sentence, "{answer}");
    }
    Ok(())
}

pub(crate) async fn unavailable(world: &mut World) -> Result<()> {
    let keys = world.lab.node_keys("node-a").await?;
    let rule = Rule { matching: Some("BatchGetItem".into()), ..Rule::new(Target::Dynamodb, Effect::Error(500)) };
    let test = async {
        let pod = world.pod_on("node-a", with_own_session("r-directory")).await?;
        let seen = metadata::get_v1(&pod.place(), metadata::IPV4, LIST).await?;
        ensure!(matches!(&seen, Seen::Answer(503, _)), "{seen:?}");
        Ok((world.ask("node-a", &keys, vec![ask_for(pod.spec(), OLD)?]).await?, pod))
    };
    let ((status, body), pod) = world.while_misbehaving(&[rule], Box::pin(test)).await?;
    let body: Value = serde_json::from_str(&body)?;
    ensure!(status == StatusCode::SERVICE_UNAVAILABLE && body["code"] == "unavailable", "{status}: {body}");
    ensure!(body["message"] == "the directory cannot be read just now: ask again", "{body}");
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), FORGOTTEN).await
}

/// More than two minutes' budgets of a namespace.
const ASKED: usize = 130;

/// A tenant that asks for ever new sessions spends its budget and nobody else's.
pub(crate) async fn a_spent_budget_is_named(world: &mut World) -> Result<()> {
    let keys = world.lab.node_keys("node-b").await?;
    world.lab.directory().permit("spender", PERMITTED).await?;
    let node = world.lab.node("node-b")?;
    let mut asks = Vec::new();
    for number in 0..ASKED {
        let pod = PodSpec::new("spender", &format!("p{number}")).role(ROLE);
        let pod = pod.annotation("iam.amazonaws.com/session-name", &format!("spent-{number}"));
        let record = world.lab.directory().record_of(&pod, node, ROLE)?;
        world.lab.directory().put_pod("spender", &pod.name, &record).await?;
        asks.push(ask_for(&pod, OLD)?);
    }
    world.lab.directory().up_to_date().await?;
    let (status, body) = world.ask("node-b", &keys, asks).await?;
    ensure!(status == StatusCode::OK, "{status}: {body}");
    let body: Value = serde_json::from_str(&body)?;
    let outcomes = body["outcomes"].as_array().context("outcomes")?;
    let issued = outcomes.iter().filter(|outcome| outcome.get("session").is_some()).count();
    let throttled: Vec<_> = outcomes.iter().filter(|outcome| outcome["refused"]["code"] == "sts_throttled").collect();
    // 60 a minute are granted; where the minute turns while they are issued, two minutes' budgets were open.
    ensure!(
        (60..=120).contains(&issued) && issued + throttled.len() == ASKED,
        "{issued} issued, {} throttled",
        throttled.len()
    );
    for refused in throttled {
        let message = refused["refused"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains("spender") && message.contains("BUDGET_NAMESPACE_PER_MINUTE"), "{message}");
    }
    Ok(())
}

/// The pod had no annotation when its sandbox was made: 404 at once; later somebody annotates it.
pub(crate) async fn a_later_annotation_works(world: &mut World) -> Result<()> {
    world.lab.directory().permit(NAMESPACE, PERMITTED).await?;
    let pod = world.lab.schedule("node-a", PodSpec::new(NAMESPACE, "r-later")).await?;
    let seen = metadata::get(&pod.place(), LIST).await?;
    ensure!(matches!(&seen, Seen::Answer(404, _)), "{seen:?}");
    let record = world.lab.directory().record_of(pod.spec(), world.lab.node("node-a")?, ROLE)?;
    world.lab.directory().put_pod(NAMESPACE, "r-later", &record).await?;
    world.lab.directory().up_to_date().await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), FORGOTTEN).await
}
