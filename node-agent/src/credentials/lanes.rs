//! How many requests may be in flight, of which kind, and when the next common one may go.

use std::collections::HashMap;
use std::time::Duration;

use model::name::Namespace;
use prometheus_client::encoding::EncodeLabelValue;
use tokio::time::Instant;

use super::FIRST_PATIENCE;
use super::backoff::{Chance, retry, retry_slowly};
use crate::identity::{RoleTag, Sandbox, SandboxId};
use crate::issuer::Verdict;

/// Requests of first asks that are in flight at once, of each patience: a node that starts with all its pods must not be the
/// issuer's whole concurrency, and slow sessions must not hold up quick ones.
const MAX_FIRST: usize = 16;
/// How many of them are for pods of one kind. A second one, since a pod that has just started must not wait for a request that
/// is stuck; no more, since a role that is slow must leave room for others.
const MAX_OF_A_KIND: usize = 2;
/// How long after the start the issuer is asked about no pod, should there be none to ask about by then.
const PROBE_AFTER: Duration = Duration::from_secs(1);
/// Requests of first asks that fail in a row before the node backs off with all of them. One that fails by itself must not keep
/// other pods waiting.
const FIRST_FAILURES: u32 = 3;
/// While the node backs off, a pod that waits for an answer brings one request forward in this time: enough to find out soon
/// that the issuer is back, and no more for many pods than for one.
const TRY_FOR_PODS: Duration = Duration::from_secs(1);

/// Which kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Lane {
    /// For pods of one kind, with the short patience.
    First,
    /// For pods of one kind that were pending, with the long patience.
    Pending,
    /// For every pod of the node that is due; one at a time.
    Common,
    /// For none: does the issuer know this node? In the place of a common one.
    Probe,
}

impl Lane {
    /// The lane of a request for pods of one kind.
    pub(super) fn first(patience: Duration) -> Self {
        if patience == FIRST_PATIENCE { Self::First } else { Self::Pending }
    }
}

/// Pods that wait for the same: those of a namespace whose records show one role annotation. They go together, so that a
/// role of which there is no session yet takes up the issuer once and not once a pod. What a record does not show is a kind of
/// its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Role(Namespace, RoleTag),
    Pod(SandboxId),
}

impl Kind {
    pub(super) fn of(sandbox: &Sandbox) -> Self {
        match sandbox.role {
            Some(role) => Self::Role(sandbox.pod.namespace.clone(), role),
            None => Self::Pod(sandbox.id.clone()),
        }
    }
}

/// First asks as requests: those of one patience and kind together, in the order of the first of each.
pub(super) fn by_kind(
    asks: impl Iterator<Item = (Duration, Kind, SandboxId)>,
) -> Vec<(Duration, Kind, Vec<SandboxId>)> {
    let mut requests: Vec<(Duration, Kind, Vec<SandboxId>)> = Vec::new();
    let mut places = HashMap::new();
    for (patience, kind, id) in asks {
        let place = *places.entry((patience, kind.clone())).or_insert(requests.len());
        match requests.get_mut(place) {
            Some((_, _, ids)) => ids.push(id),
            None => requests.push((patience, kind, vec![id])),
        }
    }
    requests
}

/// What is in flight.
#[derive(Debug)]
pub(super) struct Lanes {
    first: Vec<Kind>,
    pending: Vec<Kind>,
    /// Requests of first asks that failed in a row, when the last went, and when the next may go: for whom nobody waits, and
    /// for a pod that does.
    first_failures: u32,
    first_from: Instant,
    awaited_from: Instant,
    common: bool,
    /// Common requests that failed in a row, and when the next may go.
    failures: u32,
    common_from: Instant,
    probe_from: Instant,
}

impl Lanes {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            first: Vec::new(),
            pending: Vec::new(),
            first_failures: 0,
            first_from: now,
            awaited_from: now,
            common: false,
            failures: 0,
            common_from: now,
            probe_from: now + PROBE_AFTER,
        }
    }

    /// Whether another request for pods of `kind` may enter `lane`.
    pub(super) fn has_room(&self, lane: Lane, kind: &Kind) -> bool {
        let in_flight = match lane {
            Lane::First => &self.first,
            Lane::Pending => &self.pending,
            Lane::Common | Lane::Probe => return !self.common,
        };
        in_flight.len() < MAX_FIRST && in_flight.iter().filter(|other| *other == kind).count() < MAX_OF_A_KIND
    }

    /// From when a request of first asks may go; `awaited` where a pod waits for the answer.
    pub(super) fn first_from(&self, awaited: bool) -> Instant {
        if awaited { self.awaited_from } else { self.first_from }
    }

    /// A request of first asks goes. While the node backs off it is the only one for a while.
    pub(super) fn first_goes(&mut self, now: Instant) {
        if self.first_failures > FIRST_FAILURES {
            self.awaited_from = self.awaited_from.max(now + TRY_FOR_PODS);
        }
    }

    fn first_came_back(&mut self, failed: Option<Verdict>, now: Instant, chance: &mut Chance) {
        self.first_failures = if failed.is_some() { self.first_failures.saturating_add(1) } else { 0 };
        let (from, awaited) = match failed {
            Some(Verdict::Operator) => (now + retry_slowly(chance), now + 2 * TRY_FOR_PODS),
            Some(Verdict::Retry) if self.first_failures > FIRST_FAILURES => {
                (now + retry(self.first_failures, chance), now + TRY_FOR_PODS)
            }
            Some(Verdict::Retry) | None => (now, now),
        };
        (self.first_from, self.awaited_from) = (from, awaited);
    }

    /// From when a common request may go; `None` while one is in flight.
    pub(super) fn common_from(&self) -> Option<Instant> {
        (!self.common).then_some(self.common_from)
    }

    /// The same of a probe.
    pub(super) fn probe_from(&self) -> Option<Instant> {
        Some(self.common_from()?.max(self.probe_from))
    }

    /// A request goes; where it is of first asks, for pods of `kind`.
    pub(super) fn enter(&mut self, lane: Lane, kind: Option<Kind>) {
        match lane {
            Lane::First => self.first.extend(kind),
            Lane::Pending => self.pending.extend(kind),
            Lane::Common | Lane::Probe => self.common = true,
        }
    }

    /// It has come back. After one that failed, the next common one waits: a back-off of the whole node, so that an outage
    /// costs one request at a time.
    pub(super) fn leave(
        &mut self,
        lane: Lane,
        kind: Option<&Kind>,
        failed: Option<Verdict>,
        now: Instant,
        chance: &mut Chance,
    ) {
        match lane {
            Lane::First | Lane::Pending => {
                remove(if lane == Lane::First { &mut self.first } else { &mut self.pending }, kind);
                self.first_came_back(failed, now, chance);
            }
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

fn remove(in_flight: &mut Vec<Kind>, kind: Option<&Kind>) {
    if let Some(place) = in_flight.iter().position(|other| Some(other) == kind) {
        in_flight.swap_remove(place);
    }
}
