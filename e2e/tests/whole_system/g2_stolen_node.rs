//! G2: a stolen node can obtain only roles of pods scheduled on that very node.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::net::PodSpec;
use model::refusal::{RefusalCode, Retry};
use model::wire::{IssueRequest, IssueResponse, Outcome};
use reqwest::StatusCode;
use serde_json::Value;

use e2e::metadata::{self, LIST, Seen};
use e2e::world::{NAMESPACE, ROLE, World, ask_for, list_becomes};

/// Old enough that a moved pod is no longer waited for.
const OLD: Duration = Duration::from_secs(60);

pub(crate) async fn g2_a_nodes_credentials_get_the_roles_of_its_own_pods(world: &mut World) -> Result<()> {
    let pod = world.pod("g2-own", ROLE).await?;
    ensure!(matches!(world.outcome(pod.spec(), OLD).await?, Outcome::Session(0)));
    Ok(())
}

pub(crate) async fn g2_a_node_is_refused_a_pod_of_another_node(world: &mut World) -> Result<()> {
    let pod = world.pod_on("node-a", PodSpec::new(NAMESPACE, "g2-target").role(ROLE)).await?;
    let keys = world.lab.node_keys("node-b").await?;
    let asks = vec![ask_for(pod.spec(), OLD)?];
    let (status, body) = world.ask("node-b", &keys, asks.clone()).await?;
    ensure!(status == StatusCode::OK, "{status}: {body}");
    let response = IssueResponse::parse(body.as_bytes(), &IssueRequest::new(OLD, asks))?;
    let [Outcome::Refused(refusal)] = &response.outcomes[..] else { anyhow::bail!("a session was issued") };
    let instance = world.lab.node("node-b")?.instance();
    let sentence = format!(
        "Pod example/g2-target is not on {instance}, which asks for it: a node gets only the roles of its own pods."
    );
    ensure!(refusal.code == RefusalCode::PodOnOtherNode && refusal.retry == Retry::OnEdit, "{refusal:?}");
    ensure!(refusal.message == sentence && refusal.role.is_none(), "{refusal:?}");
    ensure!(response.sessions.is_empty());
    Ok(())
}

pub(crate) async fn g2_a_nodes_credentials_are_refused_from_another_address(world: &mut World) -> Result<()> {
    let pod = world.pod("g2-elsewhere", ROLE).await?;
    let keys = world.lab.node_keys("node-a").await?;
    let (status, body) = world.ask("node-b", &keys, vec![ask_for(pod.spec(), OLD)?]).await?;
    let body: Value = serde_json::from_str(&body)?;
    ensure!(status == StatusCode::FORBIDDEN && body["code"] == "caller_not_a_node", "{status}: {body}");
    let sentence = "the request did not come from an address of the node that signed it: send it from the node's own network, \
                    or, where there is network address translation in between, set the issuer's SOURCE_IP_CHECK=off";
    ensure!(body["message"] == sentence, "{body}");
    Ok(())
}

pub(crate) async fn g2_a_quarantined_node_is_refused(world: &mut World) -> Result<()> {
    let node = world.lab.node("node-b")?;
    world.lab.directory().quarantine(node, "stolen").await?;
    let keys = world.lab.node_keys("node-b").await?;
    let pod = world.pod_on("node-b", PodSpec::new(NAMESPACE, "g2-quarantined").role(ROLE)).await?;
    let (status, body) = world.ask("node-b", &keys, vec![ask_for(pod.spec(), OLD)?]).await?;
    let body: Value = serde_json::from_str(&body)?;
    let seen = metadata::get(&pod.place(), LIST).await?;
    world.lab.directory().release(node).await?;
    ensure!(status == StatusCode::FORBIDDEN && body["code"] == "node_quarantined", "{status}: {body}");
    let sentence = format!(
        "the node {} is in quarantine, by the laboratory because \"stolen\": end it with kubectl rolecall quarantine --release \
         NODE",
        node.instance()
    );
    ensure!(body["message"] == sentence, "{body}");
    ensure!(seen == Seen::Answer(503, "rolecall: node_quarantined".into()), "{seen:?}");
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), Duration::from_secs(40)).await
}
