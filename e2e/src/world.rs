//! The laboratory, with what most tests need of it.

use std::time::Duration;

use crate::lab::Lab;
use crate::net::{InsideRuntime, Pod, PodSpec};
use crate::process::wait_for;
use crate::signer::{Keys, ask_issuer, send_to_issuer};
use anyhow::{Context, Result};
use local_cloud::faults::Rule;
use model::name::{Namespace, PodName, PodRef, Uid};
use model::refusal::Refusal;
use model::wire::{Ask, IssueRequest, IssueResponse, Outcome};
use reqwest::StatusCode;

use crate::metadata::{self, LIST, Seen};

/// The role that most pods of the tests have.
pub const ROLE: &str = "example-rolecall-cluster-pod-role-somesuffix";
/// A namespace that permits the laboratory's pod roles.
pub const NAMESPACE: &str = "example";
/// What it permits.
pub const PERMITTED: &str = "example-rolecall-cluster-pod-role-.*";

/// How long a question of the tests' own is worth answering: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the tests share.
pub struct World {
    /// The laboratory.
    pub lab: Lab,
}

impl World {
    /// Around a laboratory that has just been started.
    pub fn new(lab: Lab) -> Self {
        Self { lab }
    }

    /// The whole ARN of a role of the laboratory's account.
    pub fn arn(role: &str) -> String {
        format!("arn:aws:iam::{}:role/{role}", crate::cloud::ACCOUNT)
    }

    /// A pod on node-a with this role, in the namespace that permits it.
    pub async fn pod(&self, name: &str, role: &str) -> Result<Pod> {
        self.pod_on("node-a", PodSpec::new(NAMESPACE, name).role(role)).await
    }

    /// A pod on a node; its namespace permits the laboratory's pod roles.
    pub async fn pod_on(&self, node: &str, spec: PodSpec) -> Result<Pod> {
        self.lab.directory().permit(&spec.namespace, PERMITTED).await?;
        self.lab.schedule(node, spec).await
    }

    /// A pod in a namespace of its own, whose permission is `permitted`.
    pub async fn pod_in(&self, namespace: &str, permitted: &str, name: &str, role: &str) -> Result<Pod> {
        self.lab.directory().permit(namespace, permitted).await?;
        self.lab.schedule("node-a", PodSpec::new(namespace, name).role(role)).await
    }

    /// The credentials of a pod, as it sees them.
    pub async fn keys_of(&self, pod: &Pod, role: &str) -> Result<Keys> {
        Keys::from_metadata(&metadata::get(&pod.place(), &format!("{LIST}{role}")).await?.ok()?)
    }

    /// Sockets in a node's network.
    pub fn inside(&self, node: &str) -> Result<InsideRuntime> {
        self.lab.node(node)?.namespace().runtime()
    }

    /// Asks the issuer for pods, signed with `keys`, from `node`.
    pub async fn ask(&self, node: &str, keys: &Keys, asks: Vec<Ask>) -> Result<(StatusCode, String)> {
        self.request(node, keys, &IssueRequest::new(PATIENCE, asks)).await
    }

    async fn request(&self, node: &str, keys: &Keys, request: &IssueRequest) -> Result<(StatusCode, String)> {
        ask_issuer(&self.inside(node)?, &self.lab.ca_certificate(), keys, request).await
    }

    /// Sends the issuer any body, signed with `keys`, from `node`.
    pub async fn send(&self, node: &str, keys: &Keys, body: &str) -> Result<(StatusCode, String)> {
        send_to_issuer(&self.inside(node)?, &self.lab.ca_certificate(), keys, body.to_owned()).await
    }

    /// The outcome that node-a gets within `patience` for one pod whose sandbox is `age` old.
    async fn outcome_within(&self, pod: &PodSpec, age: Duration, patience: Duration) -> Result<Outcome> {
        let keys = self.lab.node_keys("node-a").await?;
        let request = IssueRequest::new(patience, vec![ask_for(pod, age)?]);
        let (status, body) = self.request("node-a", &keys, &request).await?;
        anyhow::ensure!(status == StatusCode::OK, "the issuer answered {status}: {body}");
        IssueResponse::parse(body.as_bytes(), &request)?.outcomes.pop().context("no outcome")
    }

    /// The same, for as long as it takes.
    pub async fn outcome(&self, pod: &PodSpec, age: Duration) -> Result<Outcome> {
        self.outcome_within(pod, age, PATIENCE).await
    }

    /// The refusal that node-a gets for one pod.
    pub async fn refusal(&self, pod: &PodSpec, age: Duration) -> Result<Refusal> {
        self.refusal_within(pod, age, PATIENCE).await
    }

    /// The refusal that node-a gets within `patience` for one pod.
    pub async fn refusal_within(&self, pod: &PodSpec, age: Duration, patience: Duration) -> Result<Refusal> {
        match self.outcome_within(pod, age, patience).await? {
            Outcome::Refused(refusal) => Ok(refusal),
            Outcome::Session(_) => anyhow::bail!("a session was issued"),
        }
    }

    /// Runs `test` while AWS misbehaves by `rules`.
    pub async fn while_misbehaving<T>(&self, rules: &[Rule], test: impl Future<Output = Result<T>>) -> Result<T> {
        self.lab.control().misbehave(rules).await?;
        let outcome = test.await;
        self.lab.control().misbehave(&[]).await?;
        outcome
    }
}

/// What an agent asks for a pod whose sandbox is `age` old.
pub fn ask_for(pod: &PodSpec, age: Duration) -> Result<Ask> {
    let pod = PodRef {
        namespace: Namespace::parse(&pod.namespace)?,
        name: PodName::parse(&pod.name)?,
        uid: Uid::parse(&pod.uid)?,
    };
    Ok(Ask { pod, sandbox_age_ms: u64::try_from(age.as_millis())? })
}

/// Asks for a pod's list of roles until it is `expected`. Before each ask the directory hears from the cluster, as it does
/// all the time: a sandbox's age is rounded up by the time that a request takes, so one word just after it may not do.
pub async fn list_becomes(world: &World, pod: &Pod, expected: &Seen, deadline: Duration) -> Result<()> {
    let mut last = None;
    let seen = wait_for("the list of roles", deadline, async || {
        world.lab.directory().up_to_date().await.ok()?;
        last = Some(metadata::get(&pod.place(), LIST).await);
        matches!(&last, Some(Ok(seen)) if seen == expected).then_some(())
    });
    seen.await.with_context(|| format!("expected {expected:?}, last seen {last:?}"))
}
