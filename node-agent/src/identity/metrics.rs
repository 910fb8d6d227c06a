//! Numbers about the CNI's records.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why a file is no pod's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Skip {
    /// No bytes: a write is under way, or was cut off.
    Empty,
    /// Not whole JSON.
    Torn,
    /// Longer than a record can be.
    TooLong,
    /// Could not be read, or is no regular file.
    Unreadable,
    /// No record of libcni's, or one of another file's name.
    Foreign,
    /// The loopback network's.
    Loopback,
    /// Its arguments name no pod.
    NoPod,
    /// Its arguments name a pod without its UID: the container runtime is too old.
    NoUid,
    /// A name or an address in it is malformed.
    Malformed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SkipLabel {
    reason: Skip,
}

/// Counts of what was read. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    skipped: Family<SkipLabel, Counter>,
    rescans: Counter,
    sandboxes: Gauge,
}

impl IdentityMetrics {
    /// Makes them known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("cni_records_skipped", "CNI records that name no pod", metrics.skipped.clone());
        registry.register("cni_rescans", "Full readings of the CNI's results directory", metrics.rescans.clone());
        registry.register("sandboxes", "Pod sandboxes known on this node", metrics.sandboxes.clone());
        metrics
    }

    pub(super) fn skipped(&self, reason: Skip) {
        self.skipped.get_or_create(&SkipLabel { reason }).inc();
    }

    pub(super) fn rescanned(&self) {
        self.rescans.inc();
    }

    pub(super) fn set_sandboxes(&self, count: usize) {
        self.sandboxes.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
