//! The quiet pod on the attacker's node.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::client::{Connections, PodClient};
use e2e::metadata::LIST;
use e2e::net::Pod;
use e2e::world::ROLE;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A hundred requests a second: half for the list, half for the document.
const EVERY: Duration = Duration::from_millis(10);

/// A client that asks at a steady pace.
pub(crate) struct Neighbour(PodClient);

impl Neighbour {
    pub(crate) fn new(pod: &Pod, connections: Connections) -> Result<Self> {
        Ok(Self(PodClient::new(pod, connections)?))
    }

    /// Asks until `end`; each answer is the right one. Adds the time of each to `times`.
    pub(crate) async fn asks(&self, end: Instant, times: &mut Vec<Duration>) -> Result<()> {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let document = format!("{LIST}{ROLE}");
        while Instant::now() < end {
            for path in [LIST, &document] {
                pace.tick().await;
                let seen = self.0.get(path).await?;
                let is_right = seen.status() == Some(200)
                    && seen.body().is_some_and(|body| body == ROLE || body.contains("\"Code\":\"Success\""));
                ensure!(is_right, "the neighbour asked for {path} and got {:?} after {:?}", seen.status(), seen.took);
                times.push(seen.took);
            }
        }
        Ok(())
    }
}

/// The time that 99 of a hundred keep.
pub(crate) fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}
