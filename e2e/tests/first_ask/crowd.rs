//! Many pods that start at once, each asking as soon as its network exists.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use e2e::client::{Connections, PodClient, Timed};
use e2e::net::{Pod, PodSpec, Sandbox};
use e2e::world::World;
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Pods that start at once.
pub(crate) const PODS: usize = 50;
/// What an ask may come after its network, at most, to be a first ask of this promise.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(10);

/// How many networks libcni makes at a time. Each costs 50 ms of a core, and the cores that are left play AWS.
const CNI_AT_A_TIME: usize = 2;

/// How the networks come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Networks {
    /// One after the other, as quickly as libcni makes them.
    AsMade,
    /// In one moment: libcni has made them before, and its records appear now.
    InOneMoment,
}

/// A pod that has asked.
pub(crate) struct Started {
    pub(crate) client: PodClient,
    _pod: Pod,
    /// When it asked.
    pub(crate) asked: Instant,
    /// Token, list and document.
    pub(crate) first: Timed,
    /// From the CNI's record to the ask.
    pub(crate) gap: Duration,
}

/// A client in a sandbox that has no network yet.
fn client(sandbox: &Sandbox) -> Result<PodClient> {
    PodClient::within(sandbox.namespace(), Connections::New)
}

/// Starts pods; each asks when it has its network. `before` is done when all is prepared.
pub(crate) async fn start(
    world: &World,
    specs: Vec<PodSpec>,
    networks: Networks,
    before: impl Future<Output = Result<()>>,
) -> Result<Vec<Started>> {
    let mut sandboxes = Vec::new();
    for spec in specs {
        sandboxes.push(world.lab.bare_sandbox("node-a", spec).await?);
    }
    let asked: Vec<_> = match networks {
        Networks::AsMade => {
            let clients = sandboxes.iter().map(client).collect::<Result<Vec<_>>>()?;
            before.await?;
            let turns = Semaphore::new(CNI_AT_A_TIME);
            let asks = sandboxes.into_iter().zip(clients).map(async |(sandbox, client)| {
                let turn = turns.acquire().await?;
                let pod = sandbox.connect().await?;
                drop(turn);
                ask(pod, client).await
            });
            try_join_all(asks).await?
        }
        Networks::InOneMoment => {
            let mut unseen = Vec::new();
            for sandbox in sandboxes {
                let client = client(&sandbox)?;
                unseen.push((sandbox.connect_unseen().await?, client));
            }
            before.await?;
            try_join_all(unseen.into_iter().map(async |(pod, client)| ask(pod.appear()?, client).await)).await?
        }
    };
    let connected = connected(&world.lab.node("node-a")?.cni_directory())?;
    let started = asked.into_iter().map(|(pod, client, (at, asked), first)| {
        let network = connected.get(&pod.spec().uid).context("a pod without a record of the CNI")?;
        let gap = at.duration_since(*network).unwrap_or_default();
        Ok(Started { client, _pod: pod, asked, first, gap })
    });
    started.collect()
}

async fn ask(pod: Pod, client: PodClient) -> Result<(Pod, PodClient, (SystemTime, Instant), Timed)> {
    let at = (now(), Instant::now());
    let first = client.credentials().await?;
    Ok((pod, client, at, first))
}

/// When each pod's network was there, by UID: libcni writes its record last.
fn connected(cni: &Path) -> Result<HashMap<String, SystemTime>> {
    let mut connected = HashMap::new();
    for file in fs::read_dir(cni.join("results"))? {
        let file = file?;
        let text = fs::read_to_string(file.path())?;
        let record: serde_json::Value = serde_json::from_str(&text)?;
        let arguments = record["cniArgs"].as_array().context("a record without arguments")?;
        let uid = arguments.iter().find(|pair| pair[0] == "K8S_POD_UID").and_then(|pair| pair[1].as_str());
        connected.insert(uid.context("a record without a UID")?.to_owned(), file.metadata()?.modified()?);
    }
    Ok(connected)
}

#[expect(clippy::disallowed_methods, reason = "compared with the time of a file")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// `p50`, `p90` and the longest, in milliseconds.
pub(crate) fn spread(times: impl Iterator<Item = Duration>) -> String {
    let mut millis: Vec<_> = times.map(|time| time.as_millis()).collect();
    millis.sort_unstable();
    let at = |percent: usize| millis.get(millis.len() * percent / 100).or(millis.last()).copied().unwrap_or_default();
    format!("p50 {}, p90 {}, longest {} ms", at(50), at(90), at(100))
}
