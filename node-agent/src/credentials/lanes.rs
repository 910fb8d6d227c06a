//! How many requests may be in flight, of which kind, and when the next common one may go.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelValue;
use tokio::time::Instant;

use super::FIRST_PATIENCE;
use super::backoff::{Chance, retry, retry_slowly};
use crate::issuer::Verdict;

/// Requests for one pod each that are in flight at once, of each patience: a node that starts with all its pods must not be
/// the issuer's whole concurrency, and slow sessions must not hold up quick ones.
const MAX_ALONE: usize = 16;
/// How long after the start the issuer is asked about no pod, should there be none to ask about by then.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// Which kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Lane {
    /// For one pod, with the short patience.
    First,
    /// For one pod that was pending, with the long patience.
    Pending,
    /// For every pod of the node that is due; one at a time.
    Common,
    /// For none: does the issuer know this node? In the place of a common one.
    Probe,
}

impl Lane {
    /// The lane of a request for one pod.
    pub(super) fn alone(patience: Duration) -> Self {
        if patience == FIRST_PATIENCE { Self::First } else { Self::Pending }
    }
}

/// What is in flight.
#[derive(Debug)]
pub(super) struct Lanes {
    first: usize,
    pending: usize,
    common: bool,
    /// Common requests that failed in a row, and when the next may go.
    failures: u32,
    common_from: Instant,
    probe_from: Instant,
}

impl Lanes {
    pub(super) fn new(now: Instant) -> Self {
        Self { first: 0, pending: 0, common: false, failures: 0, common_from: now, probe_from: now + PROBE_AFTER }
    }

    /// Whether another request may enter `lane`.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        match lane {
            Lane::First => self.first < MAX_ALONE,
            Lane::Pending => self.pending < MAX_ALONE,
            Lane::Common | Lane::Probe => !self.common,
        }
    }

    /// From when a common request may go; `None` while one is in flight.
    pub(super) fn common_from(&self) -> Option<Instant> {
        (!self.common).then_some(self.common_from)
    }

    /// The same of a probe.
    pub(super) fn probe_from(&self) -> Option<Instant> {
        Some(self.common_from()?.max(self.probe_from))
    }

    pub(super) fn enter(&mut self, lane: Lane) {
        match lane {
            Lane::First => self.first += 1,
            Lane::Pending => self.pending += 1,
            Lane::Common | Lane::Probe => self.common = true,
        }
    }

    /// A request has come back. After one that failed, the next common one waits: a back-off of the whole node, so that an
    /// outage costs one request at a time.
    pub(super) fn leave(&mut self, lane: Lane, failed: Option<Verdict>, now: Instant, chance: &mut Chance) {
        match lane {
            Lane::First => self.first = self.first.saturating_sub(1),
            Lane::Pending => self.pending = self.pending.saturating_sub(1),
            Lane::Common | Lane::Probe => {
                self.common = false;
                self.failures = if failed.is_some() { self.failures.saturating_add(1) } else { 0 };
                self.common_from = match failed {
                    None => now,
                    Some(Verdict::Retry) => now + retry(self.failures, chance),
                    Some(Verdict::Operator) => now + retry_slowly(chance),
                };
            }
        }
    }
}
