//! Pods that ask for the first time during a fault: only they need what is behind the agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::client::Connections;
use e2e::load::{Asked, Asker, STREAK, Sample, well_from};
use e2e::net::PodSpec;
use e2e::world::World;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout_at};

use crate::warm::{ROLES, namespace_of, node_of};

/// How far apart they come.
const EVERY: Duration = Duration::from_millis(1300);
/// How long one rests after an answer before it asks again.
const REST: Duration = Duration::from_millis(100);

/// One of them. It asks until it is well.
pub(crate) struct Newcomer {
    asker: Arc<Asker>,
    asking: JoinHandle<Result<Vec<Sample>>>,
}

/// Starts one now and others after it for `lasts`. Each needs a session that nobody has yet.
pub(crate) async fn come(world: &World, lasts: Duration, deadline: Instant) -> Result<Vec<Newcomer>> {
    let end = Instant::now() + lasts;
    let mut newcomers = Vec::new();
    let mut times = interval(EVERY);
    while timeout_at(end, times.tick()).await.is_ok() {
        newcomers.push(one(world, deadline).await?);
    }
    Ok(newcomers)
}

async fn one(world: &World, deadline: Instant) -> Result<Newcomer> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let role = ROLES.get(number % ROLES.len()).copied().unwrap_or_default();
    let node = node_of(number);
    let name = format!("new-{number}");
    let spec = PodSpec::new(&namespace_of(role), &name).role(role).annotation("iam.amazonaws.com/session-name", &name);
    let pod = world.pod_on(node, spec).await.with_context(|| format!("pod {name}"))?;
    let asker = Arc::new(Asker::new(pod, role, Connections::New)?);
    let asking = tokio::spawn(ask_until_well(Arc::clone(&asker), deadline));
    Ok(Newcomer { asker, asking })
}

async fn ask_until_well(asker: Arc<Asker>, deadline: Instant) -> Result<Vec<Sample>> {
    let first = Instant::now();
    let mut samples = Vec::with_capacity(STREAK);
    let mut asked = Asked::List;
    while well_from(&samples, first).is_none() && Instant::now() < deadline {
        let sample = asker.ask(asked).await?;
        asked = if sample.is_right() { asked.other() } else { asked };
        samples.push(sample);
        sleep(REST).await;
    }
    Ok(samples)
}

impl Newcomer {
    /// The pod, and what it asked from the first on: until it was well, or its deadline had passed.
    pub(crate) async fn story(self) -> Result<(Arc<Asker>, Vec<Sample>)> {
        Ok((self.asker, self.asking.await.context("a new pod's task panicked")??))
    }
}
