//! The issuer as an agent asks it, with a node's own credentials for that node's own pods, but by hand: no agent, no sandbox.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::net::{InsideRuntime, PodSpec};
use e2e::signer::{Keys, ask_issuer};
use e2e::world::{PERMITTED, World, ask_for};
use model::refusal::Retry;
use model::wire::{IssueRequest, IssueResponse, Outcome};
use reqwest::StatusCode;
use tokio::time::{Instant, sleep};

/// What refreshes are worth waiting for: here it is counted how often STS is asked, not how long it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Before it is asked again by one who was sent away.
const PAUSE: Duration = Duration::from_millis(50);
/// Every load of these tests is done by then.
const GIVE_UP: Duration = Duration::from_secs(60);

/// One node's way to the issuer.
pub(crate) struct Caller {
    inside: InsideRuntime,
    keys: Keys,
    ca_certificate: PathBuf,
}

/// What became of a request.
pub(crate) struct Answered {
    /// Outcomes, in the order of the pods.
    pub(crate) outcomes: Vec<Outcome>,
    /// From the first try to the answer.
    pub(crate) took: Duration,
    /// Tries that the API did not answer with 200.
    pub(crate) sent_away: usize,
}

impl Caller {
    pub(crate) async fn new(lab: &Lab, node: &str) -> Result<Self> {
        let inside = lab.node(node)?.namespace().runtime()?;
        Ok(Self { inside, keys: lab.node_keys(node).await?, ca_certificate: lab.ca_certificate() })
    }

    /// Asks once.
    pub(crate) async fn ask(&self, pods: &[PodSpec], patience: Duration) -> Result<Option<Vec<Outcome>>> {
        let asks = pods.iter().map(|pod| ask_for(pod, Duration::from_secs(60))).collect::<Result<_>>()?;
        let request = IssueRequest::new(patience, asks);
        let (status, body) = ask_issuer(&self.inside, &self.ca_certificate, &self.keys, &request).await?;
        let answered = status == StatusCode::OK;
        answered.then(|| Ok(IssueResponse::parse(body.as_bytes(), &request)?.outcomes)).transpose()
    }

    /// Asks for `pods` until each has a session or a refusal that asking again does not change.
    pub(crate) async fn issue(&self, pods: &[PodSpec], patience: Duration) -> Result<Answered> {
        let began = Instant::now();
        let mut sent_away = 0;
        loop {
            ensure!(began.elapsed() < GIVE_UP, "no answer for {} pods within {GIVE_UP:?}", pods.len());
            match self.ask(pods, patience).await? {
                Some(outcomes) if !outcomes.iter().any(is_for_later) => {
                    return Ok(Answered { outcomes, took: began.elapsed(), sent_away });
                }
                Some(_) => {}
                None => sent_away += 1,
            }
            sleep(PAUSE).await;
        }
    }
}

fn is_for_later(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(refusal) if refusal.retry == Retry::Soon)
}

/// Whether it is credentials.
pub(crate) fn is_session(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Session(_))
}

/// Writes the records of pods on `node`, which exist nowhere else.
pub(crate) async fn announce(lab: &Lab, node: &str, pods: &[PodSpec]) -> Result<()> {
    for pod in pods {
        let role = pod.annotation_of("role").context("an annotated pod")?;
        let record = lab.directory().record_of(pod, lab.node(node)?, &role)?;
        lab.directory().put_pod(&pod.namespace, &pod.name, &record).await?;
    }
    Ok(())
}

/// Permits the laboratory's pod roles in `namespaces`.
pub(crate) async fn permit(lab: &Lab, namespaces: &[String]) -> Result<()> {
    for namespace in namespaces {
        lab.directory().permit(namespace, PERMITTED).await?;
    }
    Ok(())
}

/// AssumeRole requests for `role` so far.
pub(crate) async fn asked(lab: &Lab, role: &str) -> Result<u64> {
    let state = lab.control().state().await?;
    Ok(state["assume_role"][World::arn(role)]["asked"].as_u64().unwrap_or(0))
}
