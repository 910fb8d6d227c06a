//! The one task that asks the issuer: what is due, how much at once, and what becomes of each answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::wire::{IssueRequest, IssueResponse, MAX_PODS, Outcome};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::backoff::Chance;
use super::entry::{Entry, Said};
use super::lanes::{Kind, Lane, Lanes, by_kind};
use super::metrics::CredentialsMetrics;
use super::store::{Contact, Credentials, Now, Store};
use super::{Issuer, LONG_PATIENCE};
use crate::clock::Clock;
use crate::error_chain::Chain;
use crate::identity::{Sandbox, SandboxChange, SandboxId};
use crate::issuer::{IssuerError, Verdict};

/// The longest sleep: a wall clock that was set, or that went on while the machine slept, is noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Whether a sandbox exists still.
type IsCurrent = Box<dyn Fn(&SandboxId) -> bool + Send + Sync>;

/// Fetches and renews. Made with [`Keeper::new`], then run as one task.
pub struct Keeper<I> {
    issuer: Arc<I>,
    clock: Clock,
    chance: Chance,
    metrics: CredentialsMetrics,
    is_current: IsCurrent,
    entries: HashMap<SandboxId, Entry>,
    store: Arc<Store>,
    wanted: mpsc::Receiver<Arc<Sandbox>>,
    changes: mpsc::UnboundedReceiver<SandboxChange>,
    contact: watch::Sender<Contact>,
    calls: JoinSet<Call>,
    lanes: Lanes,
}

/// A request that has come back.
struct Call {
    lane: Lane,
    /// Of first asks.
    kind: Option<Kind>,
    ids: Vec<SandboxId>,
    began: Instant,
    result: Result<IssueResponse, IssuerError>,
}

impl<I: Issuer> Keeper<I> {
    /// A keeper for the sandboxes that `changes` tells of, and where pods' requests find what it keeps. `is_current` says
    /// whether a sandbox exists still; it must turn false before `changes` tells of the removal.
    pub fn new(
        issuer: Arc<I>,
        changes: mpsc::UnboundedReceiver<SandboxChange>,
        is_current: impl Fn(&SandboxId) -> bool + Send + Sync + 'static,
        clock: Clock,
        chance: Chance,
        metrics: CredentialsMetrics,
    ) -> (Self, Credentials) {
        let contact = watch::Sender::new(Contact::NotTried);
        let (credentials, store, wanted) = Credentials::new(clock.clone(), contact.subscribe());
        let keeper = Self {
            issuer,
            clock,
            chance,
            metrics,
            is_current: Box::new(is_current),
            entries: HashMap::new(),
            store,
            wanted,
            changes,
            contact,
            calls: JoinSet::new(),
            lanes: Lanes::new(Instant::now()),
        };
        (keeper, credentials)
    }

    /// Runs until nobody is left to tell it of sandboxes or to ask it, which only the end of the process brings about.
    pub async fn run(mut self) -> Result<(), JoinError> {
        let mut changes = Vec::new();
        loop {
            self.send_due();
            let wake = self.next_wake();
            tokio::select! {
                // What comes together is asked for together.
                count = self.changes.recv_many(&mut changes, MAX_PODS) => match count {
                    0 => return Ok(()),
                    _ => changes.drain(..).for_each(|change| self.change(change)),
                },
                wanted = self.wanted.recv() => match wanted {
                    Some(sandbox) => self.wanted(&sandbox),
                    None => return Ok(()),
                },
                Some(call) = self.calls.join_next() => self.settle(call?),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn now(&self) -> Now {
        Now::read(&self.clock)
    }

    fn change(&mut self, change: SandboxChange) {
        let now = self.now();
        match change {
            SandboxChange::Added(sandbox) => match self.entries.get_mut(&sandbox.id) {
                Some(entry) => entry.update(sandbox, now),
                None => self.add(sandbox, now),
            },
            SandboxChange::Removed(id) => {
                self.entries.remove(&id);
                self.store.remove(&id);
            }
        }
    }

    fn add(&mut self, sandbox: Arc<Sandbox>, now: Now) {
        let view = self.store.channel(&sandbox);
        self.entries.insert(sandbox.id.clone(), Entry::new(sandbox, view, now));
    }

    /// A pod asks and finds nothing. It may be ahead of the news of its sandbox, or behind that of its end.
    fn wanted(&mut self, sandbox: &Arc<Sandbox>) {
        let now = self.now();
        if !self.entries.contains_key(&sandbox.id) {
            if !(self.is_current)(&sandbox.id) {
                self.store.remove(&sandbox.id);
                return;
            }
            self.add(Arc::clone(sandbox), now);
        }
        if let Some(entry) = self.entries.get_mut(&sandbox.id) {
            entry.wanted(now);
        }
    }

    fn send_due(&mut self) {
        let now = self.now();
        self.send_first(now);
        self.send_common(now);
    }

    fn send_first(&mut self, now: Now) {
        let due = self.entries.iter().filter_map(|(id, entry)| {
            let (at, patience) = entry.first()?;
            (at <= now.instant).then(|| (!entry.is_awaited(), at, patience, id, Kind::of(entry.sandbox())))
        });
        // Pods that wait for an answer come before prefetches.
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        let due = due.into_iter().map(|(_, _, patience, id, kind)| (patience, kind, id.clone()));
        for (patience, kind, mut ids) in by_kind(due) {
            let lane = Lane::first(patience);
            ids.truncate(MAX_PODS);
            let awaited = ids.iter().any(|id| self.entries.get(id).is_some_and(Entry::is_awaited));
            if self.lanes.has_room(lane, &kind) && self.lanes.first_from(awaited) <= now.instant {
                self.lanes.first_goes(now.instant);
                self.send(lane, Some(kind), patience, ids, now);
            }
        }
    }

    fn send_common(&mut self, now: Now) {
        if self.lanes.common_from().is_none_or(|from| from > now.instant) {
            return;
        }
        let is_due = |entry: &Entry| entry.together(now).is_some_and(|at| at <= now.instant);
        let ids: Vec<_> = if self.entries.values().any(is_due) {
            // What is due goes before what only goes along: a node may have more than one request carries.
            let mut ids: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.goes_along(now)).collect();
            ids.sort_by_key(|(_, entry)| !is_due(entry));
            ids.into_iter().take(MAX_PODS).map(|(id, _)| id.clone()).collect()
        } else if self.must_probe() && self.lanes.probe_from().is_some_and(|from| from <= now.instant) {
            Vec::new()
        } else {
            return;
        };
        let lane = if ids.is_empty() { Lane::Probe } else { Lane::Common };
        self.send(lane, None, LONG_PATIENCE, ids, now);
    }

    /// Until the issuer has been reached once, it is asked about no pod at all when there is none to ask about: it answers
    /// such a request of a node that it knows with `bad_request`. So a node without pods finds out, too, whether it is ready.
    fn must_probe(&self) -> bool {
        *self.contact.borrow() != Contact::Reached && self.entries.values().all(Entry::is_idle)
    }

    fn send(&mut self, lane: Lane, kind: Option<Kind>, patience: Duration, ids: Vec<SandboxId>, now: Now) {
        let asks = ids.iter().filter_map(|id| Some(self.entries.get_mut(id)?.ask(now))).collect();
        let request = IssueRequest::new(patience, asks);
        let issuer = Arc::clone(&self.issuer);
        self.lanes.enter(lane, kind.clone());
        self.calls.spawn(async move {
            let result = issuer.issue(&request).await;
            Call { lane, kind, ids, began: now.instant, result }
        });
    }

    fn settle(&mut self, call: Call) {
        let now = self.now();
        self.note_contact(&call, now);
        let failed = call.result.as_ref().err().map(IssuerError::verdict);
        self.lanes.leave(call.lane, call.kind.as_ref(), failed, now.instant, &mut self.chance);
        match call.result {
            Ok(response) => self.answered(&call.ids, response, now),
            Err(error) => {
                for id in &call.ids {
                    self.said(id, Said::Failed(error.reason(), error.verdict()), now);
                }
            }
        }
    }

    fn answered(&mut self, ids: &[SandboxId], response: IssueResponse, now: Now) {
        for (id, outcome) in ids.iter().zip(response.outcomes) {
            let said = match outcome {
                Outcome::Refused(refusal) => Said::Refused(refusal),
                Outcome::Session(place) => match response.sessions.get(place) {
                    Some(session) => {
                        Said::Session { role: session.role.clone(), credentials: session.credentials.clone() }
                    }
                    // Issuer promises that an answer fits its request; an answer that does not is no answer.
                    None => Said::Failed("bad_answer", Verdict::Retry),
                },
            };
            self.said(id, said, now);
        }
    }

    /// One pod's part of an answer. A sandbox that went while it was asked for has no entry any more.
    fn said(&mut self, id: &SandboxId, said: Said, now: Now) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let pod = &entry.sandbox().pod;
        match &said {
            Said::Session { role, credentials } => {
                self.metrics.outcome("session");
                if let Some(late) = entry.late_by(now) {
                    self.metrics.renewed(late);
                }
                info!(%pod, %role, access_key_id = credentials.access_key_id,
                      minutes_left = credentials.expiration.since(now.wall).as_secs() / 60, "session obtained");
            }
            Said::Refused(refusal) => {
                self.metrics.outcome(refusal.code.as_str());
                info!(%pod, code = refusal.code.as_str(), message = refusal.message, "refused by the issuer");
            }
            Said::Failed(..) => {}
        }
        entry.said(said, now, &mut self.chance);
    }

    fn note_contact(&self, call: &Call, now: Now) {
        let took = now.instant.duration_since(call.began);
        let (result, contact) = match &call.result {
            Ok(_) => ("answered", Contact::Reached),
            Err(IssuerError::BadRequest { .. }) if call.ids.is_empty() => ("answered", Contact::Reached),
            Err(error) => {
                let (pods, lane, chain) = (call.ids.len(), call.lane, Chain(error));
                match error.verdict() {
                    Verdict::Retry => warn!(pods, ?lane, error = %chain, "no answer from the issuer"),
                    Verdict::Operator => error!(pods, ?lane, error = %chain, "the issuer does not answer this node"),
                }
                (error.reason(), Contact::Failed(chain.to_string()))
            }
        };
        let answered = contact == Contact::Reached;
        self.metrics.called(call.lane, result, took, answered);
        // Once reached, it counts as reached: an outage later must not take every agent of a cluster out of service.
        self.contact.send_if_modified(|current| {
            let changes = *current != Contact::Reached && *current != contact;
            if changes {
                *current = contact;
            }
            changes
        });
    }

    fn next_wake(&self) -> Instant {
        let now = self.now();
        let first = |entry: &Entry| {
            let (at, patience) = entry.first()?;
            // A full lane is woken by the next answer.
            let at = at.max(self.lanes.first_from(entry.is_awaited()));
            self.lanes.has_room(Lane::first(patience), &Kind::of(entry.sandbox())).then_some(at)
        };
        let common_from = self.lanes.common_from();
        let together = |entry: &Entry| Some(entry.together(now)?.max(common_from?));
        let wakes = self.entries.values().flat_map(|entry| [first(entry), together(entry)]);
        let probe = self.lanes.probe_from().filter(|_| self.must_probe());
        let longest = now.instant + LONGEST_SLEEP;
        wakes.chain([probe]).flatten().min().map_or(longest, |first| first.min(longest))
    }
}
