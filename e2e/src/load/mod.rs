//! A steady load: each pod asks at fixed times, whatever became of its earlier requests, and each answer is judged.

mod answer;
mod ledger;
mod sample;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::client::{Connections, PodClient};
use crate::metadata::LIST;
use crate::net::Pod;

pub use answer::{Asked, Verdict};
pub use ledger::Issued;
pub use sample::{STREAK, Sample, well_from};

/// A pod that asks.
#[derive(Debug)]
pub struct Asker {
    pod: Pod,
    client: PodClient,
    role: String,
    token: Option<String>,
}

impl Asker {
    /// A pod that has `role` and asks with tokens where it keeps its connections, as SDKs of those languages do.
    pub fn new(pod: Pod, role: &str, connections: Connections) -> Result<Self> {
        let client = PodClient::new(&pod, connections)?;
        Ok(Self { pod, client, role: role.to_owned(), token: None })
    }

    /// With a session token for all that it asks from now on.
    pub async fn with_token(self) -> Result<Self> {
        let answer = self.client.token().await?;
        let token = answer.answer.ok().filter(|(status, _)| *status == 200).context("no session token")?.1;
        Ok(Self { token: Some(token), ..self })
    }

    /// Its role's name.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The pod itself, which asks no more.
    pub fn into_pod(self) -> Pod {
        self.pod
    }

    /// Asks once.
    pub async fn ask(&self, asked: Asked) -> Result<Sample> {
        let began = Instant::now();
        let path = match asked {
            Asked::List => LIST.to_owned(),
            Asked::Document => format!("{LIST}{}", self.role),
        };
        let timed = match &self.token {
            Some(token) => self.client.get_with(&path, token).await?,
            None => self.client.get(&path).await?,
        };
        Ok(Sample { began, verdict: answer::judge(asked, &self.role, &timed, now()) })
    }
}

/// The load of some pods; it ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    samples: Arc<Mutex<Vec<Vec<Sample>>>>,
    stop: watch::Sender<bool>,
    pods: JoinSet<Result<()>>,
}

impl Load {
    /// Each of `askers` asks every `each`, list and document in turn. Their times are spread over `each`, so that the load
    /// is steady.
    pub fn start(askers: &[Arc<Asker>], each: Duration) -> Self {
        let samples = Arc::new(Mutex::new(askers.iter().map(|_| Vec::new()).collect()));
        let (stop, stopped) = watch::channel(false);
        let apart = each / u32::try_from(askers.len()).unwrap_or(u32::MAX).max(1);
        let mut first = Instant::now();
        let mut pods = JoinSet::new();
        for (number, asker) in askers.iter().enumerate() {
            let (asker, samples, stopped) = (Arc::clone(asker), Arc::clone(&samples), stopped.clone());
            pods.spawn(keep_asking(asker, number, first, each, samples, stopped));
            first += apart;
        }
        Self { samples, stop, pods }
    }

    /// From when on all of them were answered rightly, if they are by now; see [`well_from`].
    pub fn well_from(&self, fault: Instant) -> Option<Instant> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().map(|samples| well_from(samples, fault)).try_fold(fault, |latest, well| Some(latest.max(well?)))
    }

    /// Waits for the answers that are still to come, and returns all, pod by pod in the order of the requests.
    pub async fn stop(mut self) -> Result<Vec<Vec<Sample>>> {
        self.stop.send_replace(true);
        while let Some(ended) = self.pods.join_next().await {
            ended.context("a pod's task panicked")??;
        }
        Ok(std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

async fn keep_asking(
    asker: Arc<Asker>,
    number: usize,
    first: Instant,
    each: Duration,
    samples: Arc<Mutex<Vec<Vec<Sample>>>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let mut times = interval_at(first, each);
    times.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asking = JoinSet::new();
    let mut asked = Asked::List;
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(sample) = asking.join_next() => keep(&samples, number, sample.context("a request's task panicked")??),
            _ = times.tick() => {
                let asker = Arc::clone(&asker);
                asking.spawn(async move { asker.ask(asked).await });
                asked = asked.other();
            }
        }
    }
    while let Some(sample) = asking.join_next().await {
        keep(&samples, number, sample.context("a request's task panicked")??);
    }
    Ok(())
}

/// Keeps the samples of a pod in the order of their requests: a slow answer comes after those to later ones.
fn keep(samples: &Mutex<Vec<Vec<Sample>>>, number: usize, sample: Sample) {
    let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(own) = samples.get_mut(number) else { return };
    let place = own.partition_point(|earlier| earlier.began <= sample.began);
    own.insert(place, sample);
}

#[expect(clippy::disallowed_methods, reason = "compared with the end of a session")]
fn now() -> SystemTime {
    SystemTime::now()
}
