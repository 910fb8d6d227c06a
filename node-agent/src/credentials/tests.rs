//! The keeper against an issuer that shares sessions as the real one does, on tokio's paused clock.

mod issuer;
mod outage;
mod refusals;
mod schedule;
mod waiting;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::name::PodRef;
use model::time::UnixMillis;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub(crate) use self::issuer::{FakeIssuer, Reply};
use super::{Chance, Credentials, CredentialsMetrics, Found, Held, Keeper};
use crate::clock::Clock;
use crate::identity::{RoleHint, RoleTag, Sandbox, SandboxChange, SandboxId};

const HOLD: Duration = Duration::from_millis(900);
const MINUTE: Duration = Duration::from_secs(60);

/// A keeper at work, with the issuer that it asks and the node that it hears of.
pub(crate) struct Node {
    pub(crate) issuer: Arc<FakeIssuer>,
    pub(crate) credentials: Credentials,
    changes: mpsc::UnboundedSender<SandboxChange>,
    current: Arc<Mutex<HashSet<SandboxId>>>,
    pub(crate) clock: Clock,
    keeper: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Node {
    pub(crate) fn new() -> Self {
        let clock = Clock::with_tokio(UnixMillis(1_795_475_000_000));
        Self::of(FakeIssuer::new(clock.clone()), clock, 1)
    }

    fn of(issuer: Arc<FakeIssuer>, clock: Clock, seed: u64) -> Self {
        let (changes, receiver) = mpsc::unbounded_channel();
        let current = Arc::new(Mutex::new(HashSet::new()));
        let known = Arc::clone(&current);
        let (keeper, credentials) = Keeper::new(
            Arc::clone(&issuer),
            receiver,
            move |id| known.lock().unwrap().contains(id),
            clock.clone(),
            Chance::new(seed),
            CredentialsMetrics::register(&mut Registry::default()),
        );
        let keeper = tokio::spawn(async move { keeper.run().await.unwrap() });
        Self { issuer, credentials, changes, current, clock, keeper }
    }

    /// A new sandbox of a pod that is named like its role.
    pub(crate) fn add(&self, role: &str, nth: usize, hint: RoleHint) -> Arc<Sandbox> {
        let sandbox = sandbox(role, nth, hint, self.clock.now());
        self.current.lock().unwrap().insert(sandbox.id.clone());
        self.changes.send(SandboxChange::Added(Arc::clone(&sandbox))).unwrap();
        sandbox
    }

    pub(crate) fn annotated(&self, role: &str) -> Arc<Sandbox> {
        self.add(role, 0, RoleHint::Annotated)
    }

    pub(crate) fn remove(&self, sandbox: &Sandbox) {
        self.current.lock().unwrap().remove(&sandbox.id);
        self.changes.send(SandboxChange::Removed(sandbox.id.clone())).unwrap();
    }

    async fn find(&self, sandbox: &Arc<Sandbox>) -> Found {
        self.credentials.find(sandbox, HOLD).await.unwrap()
    }

    async fn held(&self, sandbox: &Arc<Sandbox>) -> Arc<Held> {
        match self.find(sandbox).await {
            Found::Held(held) => held,
            other => panic!("{} has {other:?} at {:?}", sandbox.pod, self.clock),
        }
    }

    /// How long what a pod would be given now is still valid.
    async fn left(&self, sandbox: &Arc<Sandbox>) -> Duration {
        self.held(sandbox).await.credentials.expiration.since(self.clock.now())
    }
}

fn sandbox(role: &str, nth: usize, hint: RoleHint, created: UnixMillis) -> Arc<Sandbox> {
    let name = format!("{role}-{nth}");
    let tag = (hint == RoleHint::Annotated).then(|| RoleTag::of(role));
    let pod = PodRef {
        namespace: "default".parse().unwrap(),
        name: name.parse().unwrap(),
        uid: format!("uid-{name}").parse().unwrap(),
    };
    let id = SandboxId::parse(&format!("sandbox-{name}")).unwrap();
    Arc::new(Sandbox { id, pod, created, hint, role: tag, addresses: Vec::new(), host_interfaces: Vec::new() })
}

/// Lets everything happen that is due now.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
