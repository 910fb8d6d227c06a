//! Which pod is asking: the CNI's own records say whose address or interface it is, the kernel's routes confirm it.
//!
//! ```text
//! results directory -> watch (inotify) -> records (files) -> table -> lookup <- route (the kernel's)
//!                                                              |        |
//!                                                        changes        who
//! ```
//!
//! One lock guards all of it. It is held for short synchronous sections and over no await: a question must find every
//! change applied that was queued before it, and must not see half of one.

mod error;
mod kernel;
mod lookup;
mod metrics;
mod record;
mod records;
mod route;
mod sandbox;
mod table;
mod watch;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing::{info, warn};

pub use error::{StartError, WhoError};
pub use kernel::KernelRoutes;
pub use metrics::{IdentityMetrics, Skip};
pub use record::Record;
pub use route::{Interface, RouteError, Routes};
pub use sandbox::{RoleHint, RoleTag, Sandbox, SandboxChange, SandboxId};

use records::Records;
use watch::{Change, Watch};

/// How often records that could not be read are tried again when nobody asks.
const RETRY: Duration = Duration::from_secs(5);

/// What identity needs to know.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Where libcni keeps its records: `/var/lib/cni/results`. It may not exist yet; the directory above it must.
    pub cni_dir: PathBuf,
    /// The annotation that names a pod's role.
    pub role_annotation: String,
    /// Whether pods that share an interface, and so can take each other's address, are answered.
    pub allow_shared_interface: bool,
}

/// Says which pod a peer is.
pub struct Identity {
    state: Mutex<State>,
    /// Readable when changes are queued.
    queued: AsyncFd<OwnedFd>,
    routes: Box<dyn Routes>,
    allow_shared_interface: bool,
}

struct State {
    watch: Watch,
    records: Records,
    /// Something could not be read: all is read again before the next answer.
    stale: bool,
}

impl Identity {
    /// Reads all records and begins to watch them. The receiver gets every sandbox there is, and each change from then
    /// on; it holds at most what happened since it was last read. Needs a tokio runtime.
    pub fn start(
        config: IdentityConfig,
        routes: impl Routes + 'static,
        metrics: IdentityMetrics,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<SandboxChange>), StartError> {
        let mut watch = Watch::new(&config.cni_dir)?;
        let queued = watch.handle().and_then(readable).map_err(StartError::Inotify)?;
        watch.arm_parent().map_err(|source| StartError::Parent { directory: watch.parent().to_owned(), source })?;
        let (sender, changes) = mpsc::unbounded_channel();
        let mut records = Records::new(config.cni_dir, config.role_annotation, metrics, sender);
        watch
            .arm_results()
            .and_then(|()| records.rescan())
            .map_err(|source| StartError::Results { directory: watch.results().to_owned(), source })?;
        info!(sandboxes = records.table().sandboxes().len(), "CNI records read");
        let state = Mutex::new(State { watch, records, stale: false });
        let allow_shared_interface = config.allow_shared_interface;
        Ok((Arc::new(Self { state, queued, routes: Box::new(routes), allow_shared_interface }), changes))
    }

    /// Applies changes as they come, so that prefetches start without a question, and tells each time whether the records can
    /// be read. Runs until dropped; spawn it once.
    pub async fn run(&self, told: impl Fn(Result<(), String>)) -> Infallible {
        loop {
            if let Ok(Ok(mut guard)) = tokio::time::timeout(RETRY, self.queued.readable()).await {
                // Cleared before the queue is drained: what comes after wakes again.
                guard.clear_ready();
            }
            let outcome = self.lock().catch_up_and_retry();
            told(outcome.as_ref().copied().map_err(|error| format!("the CNI's records cannot be read: {error}")));
            if let Err(error) = outcome {
                warn!(%error, "the CNI records cannot be read; no pod is answered until they can");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Which pod has the address `peer` now. Applies every change that the kernel has queued before it answers.
    pub fn who(&self, peer: IpAddr) -> Result<Arc<Sandbox>, WhoError> {
        let mut state = self.lock();
        state.catch_up().map_err(|error| WhoError::Unreadable {
            directory: state.watch.results().to_owned(),
            reason: error.to_string(),
        })?;
        lookup::who(state.records.table(), &*self.routes, self.allow_shared_interface, peer)
    }

    /// All sandboxes of this node.
    pub fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.lock().records.table().sandboxes().cloned().collect()
    }

    /// Whether that sandbox still exists, as far as is known: pending changes are not applied.
    pub fn is_current(&self, id: &SandboxId) -> bool {
        self.lock().records.table().sandbox(id).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Half-applied changes must not be answered from: after a panic in a section, none may run.
        self.state.lock().expect("no section of this lock panics")
    }
}

#[expect(deprecated, reason = "unsound only for types that lie about their descriptor; its successor is unsafe code")]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

impl State {
    /// Applies what the kernel has queued.
    fn catch_up(&mut self) -> io::Result<()> {
        let outcome = self.apply();
        self.stale = outcome.is_err();
        outcome
    }

    /// The same, and what could not be read for want of permission.
    fn catch_up_and_retry(&mut self) -> io::Result<()> {
        self.catch_up()?;
        self.records.retry_forbidden()
    }

    fn apply(&mut self) -> io::Result<()> {
        let mut is_unknown = self.stale;
        let mut outcome = Ok(());
        for change in self.watch.drain()? {
            // libcni's names are ASCII; a file of another name is no record.
            match change {
                Change::Unknown => is_unknown = true,
                Change::Written(name) => {
                    // The rest is applied also after a failure, so that it keeps its place in the order.
                    outcome = outcome.and(name.to_str().map_or(Ok(()), |name| self.records.written(name)));
                }
                Change::Gone(name) => name.to_str().map_or((), |name| self.records.gone(name)),
            }
        }
        outcome?;
        if is_unknown {
            self.watch.arm_parent()?;
            self.watch.arm_results()?;
            self.records.rescan()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
