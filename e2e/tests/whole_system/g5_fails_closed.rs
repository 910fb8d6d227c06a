//! G5: nothing fails open. Whatever dies, a pod is refused, and never gets the node's role.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::net::PodSpec;
use nix::sys::signal::Signal;

use e2e::metadata::{self, IPV4, IPV6, LIST, Seen};
use e2e::world::{NAMESPACE, ROLE, World, list_becomes};

const READY: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(15);

/// What a pod sees of the metadata addresses, token and list, over both families.
async fn everything_is_refused(pod: &e2e::net::Pod) -> Result<()> {
    for base in [IPV4, IPV6] {
        let seen = metadata::get_v1(&pod.place(), base, LIST).await?;
        ensure!(seen == Seen::Refused, "{base}{LIST}: {seen:?}");
        let url = format!("{base}/latest/api/token");
        let header = "X-aws-ec2-metadata-token-ttl-seconds: 60";
        let seen = metadata::curl(&pod.place(), &["--request", "PUT", "--header", header, &url]).await?;
        ensure!(seen == Seen::Refused, "{url}: {seen:?}");
    }
    Ok(())
}

async fn flush_rules(world: &World) -> Result<()> {
    let node = world.lab.node("node-b")?.namespace().place();
    node.check(&["nft", "flush", "ruleset"], SOON).await.map(drop)
}

async fn rules(world: &World) -> Result<String> {
    let node = world.lab.node("node-b")?.namespace().place();
    Ok(node.run(&["nft", "list", "table", "inet", "rolecall"], SOON).await?.stdout)
}

pub(crate) async fn g5_a_dead_agent_means_a_refused_connection(world: &mut World) -> Result<()> {
    let pod = world.pod_on("node-b", PodSpec::new(NAMESPACE, "g5-agent-dead").role(ROLE)).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    world.lab.agent("node-b")?.serve.kill().await?;
    let outcome = everything_is_refused(&pod).await;
    let agent = world.lab.agent("node-b")?;
    agent.serve.restart()?;
    agent.ready(READY).await?;
    outcome?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await
}

pub(crate) async fn g5_flushed_rules_too_mean_a_refused_connection(world: &mut World) -> Result<()> {
    let pod = world.pod_on("node-b", PodSpec::new(NAMESPACE, "g5-rules-gone").role(ROLE)).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let agent = world.lab.agent("node-b")?;
    agent.serve.kill().await?;
    agent.intercept.kill().await?;
    ensure!(rules(world).await?.contains("dnat"), "the rules outlive the agent");
    flush_rules(world).await?;
    ensure!(rules(world).await?.is_empty());
    let outcome = everything_is_refused(&pod).await;
    // The node itself still reaches its own metadata, so the refusal is the routing rule's and not a dead service.
    let node = world.lab.node("node-b")?.namespace().place();
    let own = metadata::get(&node, LIST).await;
    let agent = world.lab.agent("node-b")?;
    agent.intercept.restart()?;
    agent.serve.restart()?;
    agent.ready(READY).await?;
    outcome?;
    ensure!(own? == Seen::Answer(200, "rolecall-node".into()));
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await
}

pub(crate) async fn g5_flushed_rules_are_repaired(world: &mut World) -> Result<()> {
    let pod = world.pod_on("node-b", PodSpec::new(NAMESPACE, "g5-repaired").role(ROLE)).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    // Stopped, `intercept` cannot repair: what the pod sees in between is the lock behind the rules.
    world.lab.agent("node-b")?.intercept.signal(Signal::SIGSTOP)?;
    flush_rules(world).await?;
    let between = everything_is_refused(&pod).await;
    world.lab.agent("node-b")?.intercept.signal(Signal::SIGCONT)?;
    between.context("between flush and repair")?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    ensure!(rules(world).await?.contains("dnat"));
    Ok(())
}
