//! What is known of one pod's sandbox.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use model::name::PodRef;
use model::time::UnixMillis;

/// A sandbox's id, the container runtime's: no two sandboxes of a node share one, ever. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId(Arc<str>);

impl SandboxId {
    /// The longest id taken: runtimes use 64 hexadecimal digits.
    pub const MAX_LENGTH: usize = 128;

    /// Checks `text` as libcni does: letters, digits, `_`, `.` and `-`, beginning with a letter or digit.
    pub fn parse(text: &str) -> Option<Self> {
        let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest_ok = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        (first_ok && rest_ok && text.len() <= Self::MAX_LENGTH).then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Whether the pod's annotations, as they were when its sandbox was made, name a role. Never an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleHint {
    /// They do.
    Annotated,
    /// The record has annotations, and the role's is not among them.
    NotAnnotated,
    /// The record has no annotations: this runtime does not write them.
    Unknown,
}

/// Stands for the value of the role annotation in a record: the same value, the same tag. Like [`RoleHint`] it is never an
/// authority, and what has the same tag may well be refused or get another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleTag(u64);

impl RoleTag {
    /// The tag of a value.
    pub fn of(value: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A pod's sandbox: what the CNI's records of one container id say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's id for it.
    pub id: SandboxId,
    /// The pod it belongs to.
    pub pod: PodRef,
    /// When its first record was written.
    pub created: UnixMillis,
    /// Whether the pod asks for a role.
    pub hint: RoleHint,
    /// Which, where it is seen.
    pub role: Option<RoleTag>,
    /// All its addresses, in order.
    pub addresses: Vec<IpAddr>,
    /// The host's ends of its interfaces, in order.
    pub host_interfaces: Vec<String>,
}

/// A change in what runs on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxChange {
    /// A sandbox is new, or something else is now known of it.
    Added(Arc<Sandbox>),
    /// A sandbox is gone.
    Removed(SandboxId),
}
