//! Which pod is asking: the CNI's own records say whose address or interface it is, the kernel's routes confirm it.

mod error;
mod metrics;
mod route;
mod sandbox;

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use error::{StartError, WhoError};
pub use metrics::IdentityMetrics;
pub use route::{Interface, RouteError, Routes};
pub use sandbox::{RoleHint, Sandbox, SandboxChange, SandboxId};

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
pub struct Identity {}

impl Identity {
    /// Reads all records and begins to watch them. The receiver gets every sandbox there is, and each change from then
    /// on; it holds at most what happened since it was last read. Needs a tokio runtime.
    pub fn start(
        _config: IdentityConfig,
        _routes: impl Routes + 'static,
        _metrics: IdentityMetrics,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<SandboxChange>), StartError> {
        unimplemented!()
    }

    /// Applies changes as they come, so that prefetches start without a question. Runs until dropped; spawn it once.
    pub async fn run(&self) -> Infallible {
        std::future::pending().await
    }

    /// Which pod has the address `peer` now. Applies every change that the kernel has queued before it answers.
    pub fn who(&self, _peer: IpAddr) -> Result<Arc<Sandbox>, WhoError> {
        unimplemented!()
    }

    /// All sandboxes of this node.
    pub fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        unimplemented!()
    }

    /// Whether that sandbox still exists, as far as is known: pending changes are not applied.
    pub fn is_current(&self, _id: &SandboxId) -> bool {
        unimplemented!()
    }
}
