//! The node: its rules, its agent, and what stands behind them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::client::{Connections, PodClient, SDK_PATIENCE};
use e2e::metadata::{self, IPV4, LIST, Seen};
use e2e::net::PodSpec;
use e2e::world::{NAMESPACE, PERMITTED, ROLE, World, list_becomes};
use e2e::{Lab, Options};
use local_cloud::faults::{Effect, Rule, Target};

const SOON: Duration = Duration::from_secs(40);
const NODES_ROLE: &str = "rolecall-node";

/// kiam #48 #202 #253 #284: its agent removed the rule as it went and added it as it came.
pub(crate) async fn agent_crash_loop_gives_pods_the_nodes_role(world: &mut World) -> Result<()> {
    let pod = world.pod_on("node-b", PodSpec::new(NAMESPACE, "peers-crash-loop").role(ROLE)).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let client = PodClient::new(&pod, Connections::New)?;
    let over = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let (mut answers, mut asked) = (BTreeSet::new(), 0);
            while !over.load(Ordering::Relaxed) {
                let (list, token) = (client.get(LIST).await?, client.token().await?);
                answers.extend(list.answer);
                // A token of the node's own metadata service would open everything else.
                ensure!(token.body().is_none_or(|text| text.len() != 56), "the node's token");
                asked += 1;
            }
            Ok((answers, asked))
        }
    });
    for round in 0..6 {
        let agent = world.lab.agent("node-b")?;
        agent.serve.kill().await?;
        if round % 2 == 1 {
            agent.intercept.kill().await?;
            agent.intercept.restart()?;
        }
        agent.serve.restart()?;
        agent.ready(SOON).await?;
    }
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    over.store(true, Ordering::Relaxed);
    let (answers, asked) = asking.await??;
    ensure!(asked > 100, "{asked} questions only");
    for (status, body) in &answers {
        ensure!(!body.contains(NODES_ROLE), "the node's role was named");
        ensure!(matches!((status, body.as_str()), (200, ROLE) | (503, _)), "{status} {body}");
    }
    Ok(())
}

/// kube2iam's README, kubernetes-on-aws #291. A pod that is there before the agent: only the second lock holds, hop limit 1
/// with tokens required, and then the rules come.
pub(crate) async fn rule_is_not_there_before_the_first_pods(_: &mut World) -> Result<()> {
    let options = Options { nodes: vec!["node-a".to_owned()], ..Options::default() };
    let mut world = World::new(Lab::start_cloud(options).await?);
    world.lab.directory().permit(NAMESPACE, PERMITTED).await?;
    let pod = world.pod("peers-first", ROLE).await?;
    let url = format!("{IPV4}/latest/api/token");
    let put = ["--request", "PUT", "--header", "X-aws-ec2-metadata-token-ttl-seconds: 60", &url];
    let token = metadata::curl(&pod.place(), &put).await?;
    ensure!(token == Seen::Silence, "a token reached the pod: {token:?}");
    let list = metadata::get_v1(&pod.place(), IPV4, LIST).await?;
    ensure!(matches!(list, Seen::Answer(401, _)), "{list:?}");
    world.lab.start_agents().await?;
    list_becomes(&world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await
}

/// kiam #217 #364 #365 #366 #376 #445, and the seed's own warning. There are none of ours: AWS renews the API's and the
/// node's keys, and an agent that runs must not notice.
pub(crate) async fn tls_certificates_expire_mismatch_rotate(world: &mut World) -> Result<()> {
    let warm = world.pod("peers-before", ROLE).await?;
    list_becomes(world, &warm, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let old = world.lab.node_keys("node-a").await?.variables()[0].1.to_owned();
    let cloud = world.lab.local_cloud();
    cloud.stop(SOON).await?;
    cloud.restart()?;
    e2e::process::wait_for("local-cloud", SOON, async || world.lab.control().state().await.ok()).await?;
    let new = world.lab.node_keys("node-a").await?.variables()[0].1.to_owned();
    ensure!(new != old, "the node has new keys");
    let pod = PodSpec::new(NAMESPACE, "peers-after").role(ROLE).annotation("iam.amazonaws.com/session-name", "after");
    let pod = world.pod_on("node-a", pod).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    list_becomes(world, &warm, &Seen::Answer(200, ROLE.into()), SOON).await
}

/// kiam #39 #94 #168 #425: DNS, balancing, who starts first. The agent starts, and stays up, without its backend.
pub(crate) async fn server_and_agent_on_one_node(world: &mut World) -> Result<()> {
    let name = "node-b";
    let away = [Rule::new(Target::Gateway, Effect::Refuse)];
    world.lab.control().misbehave(&away).await?;
    let agent = world.lab.agent(name)?;
    agent.serve.kill().await?;
    agent.serve.restart()?;
    let alive =
        e2e::process::wait_for("/livez", SOON, async || world.lab.agent(name).ok()?.health("/livez").await.ok());
    let alive = alive.await;
    let pod = world.pod_on(name, PodSpec::new(NAMESPACE, "peers-no-backend").role(ROLE)).await?;
    let client = PodClient::new(&pod, Connections::New)?;
    // Refused until the agent has tried to prefetch for the pods that it found, and a definite answer from then on.
    let held = async || client.get(LIST).await.ok().filter(|seen| seen.answer.is_ok());
    let held = e2e::process::wait_for("an answer", SOON, held).await;
    let pid = world.lab.agent(name)?.serve.pid();
    world.lab.control().misbehave(&[]).await?;
    alive?;
    let held = held?;
    ensure!(held.status() == Some(503) && held.took < SDK_PATIENCE, "{held:?}");
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let agent = world.lab.agent(name)?;
    agent.ready(SOON).await?;
    ensure!(agent.serve.pid() == pid && agent.serve.ended().is_none(), "the same process serves");
    Ok(())
}
