//! Clients that do not wait.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::{Connections, PodClient, Timed};
use e2e::metadata::LIST;
use e2e::net::PodSpec;
use e2e::process::wait_for;
use e2e::world::{NAMESPACE, ROLE, World};
use e2e::{Lab, Options, suite};
use futures_util::future::try_join_all;
use local_cloud::faults::{Effect, Rule, Target};
use tokio::time::timeout;

use crate::issuer::asked;

const CLIENTS: usize = 50;
/// How long STS takes, and how long a client waits.
const STS: Duration = Duration::from_millis(500);
const IMPATIENCE: Duration = Duration::from_millis(150);
const AT_ONCE: Duration = Duration::from_millis(50);

async fn world() -> Result<World> {
    let world = World::new(Lab::start(Options::default()).await?);
    let sts = Effect::Delay(u64::try_from(STS.as_millis())?);
    world
        .lab
        .control()
        .misbehave(&[Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, sts) }])
        .await?;
    Ok(world)
}

/// Asks, hangs up, and asks again until there is an answer.
async fn impatiently(client: &PodClient, path: &str) -> Result<(usize, Timed)> {
    for tries in 1..=20 {
        if let Ok(answer) = timeout(IMPATIENCE, client.get(path)).await {
            return Ok((tries, answer?));
        }
    }
    anyhow::bail!("no answer in 20 tries")
}

pub(crate) async fn one_access_denied_for_fifty_impatient_clients_is_one_call() -> Result<()> {
    let role = "example-rolecall-cluster-pod-role-untrusting";
    let world = world().await?;
    let mut clients = Vec::new();
    for node in ["node-a", "node-b"] {
        let pod = world.pod_on(node, PodSpec::new(NAMESPACE, &format!("denied-{node}")).role(role)).await?;
        clients.push((PodClient::new(&pod, Connections::New)?, pod));
    }
    let asking = clients.iter().cycle().take(CLIENTS);
    let document = format!("{LIST}{role}");
    let answers = try_join_all(asking.map(|(client, _)| impatiently(client, &document))).await?;
    let calls = asked(&world.lab, role).await?;
    let tries: usize = answers.iter().map(|(tries, _)| tries).sum();
    suite::figure(format!(
        "{CLIENTS} impatient clients on two nodes, one AccessDenied: {calls} call of STS, {tries} tries"
    ));
    for (_, answer) in &answers {
        let text = answer.body().with_context(|| format!("{answer:?}"))?;
        ensure!(answer.status() == Some(200) && text.contains("AssumeRoleDenied"), "{answer:?}");
    }
    ensure!(tries > CLIENTS, "nobody hung up");
    ensure!(calls == 1, "{calls} calls of STS");
    Ok(())
}

pub(crate) async fn a_client_that_hangs_up_cancels_nobodys_fetch() -> Result<()> {
    let world = world().await?;
    let pod = world.pod("hang-up", ROLE).await?;
    let client = PodClient::new(&pod, Connections::New)?;
    let hung_up =
        try_join_all((0..CLIENTS).map(async |_| anyhow::Ok(timeout(IMPATIENCE, client.get(LIST)).await.is_err())))
            .await?;
    ensure!(hung_up.iter().all(|hung_up| *hung_up), "answered before they hung up");
    let issued = async || {
        let state = world.lab.control().state().await.ok()?;
        (state["assume_role"][World::arn(ROLE)]["issued"] == 1).then_some(())
    };
    wait_for("the session", Duration::from_secs(5), issued).await?;
    let next = client.credentials().await?;
    let calls = asked(&world.lab, ROLE).await?;
    suite::figure(format!(
        "{CLIENTS} clients hung up; the next had its credentials in {} ms, {calls} call of STS",
        next.took.as_millis()
    ));
    ensure!(next.status() == Some(200), "{next:?}");
    ensure!(next.took < AT_ONCE, "{next:?}");
    ensure!(calls == 1, "{calls} calls of STS");
    Ok(())
}
