//! Running pods that ask for their credentials all the time, and what they were served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use e2e::client::{Connections, PodClient};
use e2e::clock::Clock;
use e2e::metadata::LIST;
use e2e::net::Pod;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How often each pod asks, in real time.
const EVERY: Duration = Duration::from_millis(500);

/// One answer that a pod got.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// When, by the laboratory's clock.
    pub(crate) at: SystemTime,
    /// How long the credentials were still valid, or why there were none.
    pub(crate) left: Result<Duration, String>,
}

/// Pods that ask until they are told to stop.
pub(crate) struct Asking {
    over: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Served>>>,
    tasks: JoinSet<Result<()>>,
}

impl Asking {
    /// Lets each of `pods` ask for the document of its role from now on.
    pub(crate) fn start<'a>(pods: impl IntoIterator<Item = &'a Pod>, clock: &Clock) -> Result<Self> {
        let mut asking = Self { over: Arc::default(), seen: Arc::default(), tasks: JoinSet::new() };
        for pod in pods {
            let role = pod.spec().annotation_of("role").context("an annotated pod")?;
            let client = PodClient::new(pod, Connections::New)?;
            let (over, seen, clock) = (Arc::clone(&asking.over), Arc::clone(&asking.seen), clock.clone());
            asking.tasks.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let answer = client.get(&format!("{LIST}{role}")).await?;
                    let at = clock.now();
                    let left = answer.answer.and_then(|(status, body)| left(status, &body, at));
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Served { at, left });
                    sleep(EVERY).await;
                }
                Ok(())
            });
        }
        Ok(asking)
    }

    /// The least that was left in the latest answers, as many as there are pods.
    pub(crate) fn least_left(&self) -> Option<Duration> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = seen.iter().rev().take(self.tasks.len());
        latest.filter_map(|served| served.left.as_ref().ok()).min().copied()
    }

    /// Ends all, and gives what they were served.
    pub(crate) async fn stop(mut self) -> Result<Vec<Served>> {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut seen))
    }
}

/// How long the credentials of a document are valid.
fn left(status: u16, body: &str, at: SystemTime) -> Result<Duration, String> {
    let document: Value = serde_json::from_str(body).map_err(|_| format!("{status} {body}"))?;
    let expiration = document["Expiration"].as_str().ok_or_else(|| format!("{status} {}", document["Code"]))?;
    let expiration = humantime::parse_rfc3339(expiration).map_err(|error| error.to_string())?;
    expiration.duration_since(at).map_err(|_| "expired".to_owned())
}
