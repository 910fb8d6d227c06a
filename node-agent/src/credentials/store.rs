//! What pods' requests read: one watch channel per sandbox, which the keeper alone writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::arn::RoleArn;
use model::credentials::SessionCredentials;
use model::refusal::{Refusal, RefusalCode};
use model::time::UnixMillis;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::Fault;
use crate::clock::Clock;
use crate::identity::{RoleHint, Sandbox, SandboxId};

/// Questions of pods that the keeper has not read yet. A pod's connections are bounded, so this fills only when the keeper
/// is stuck; who asks then waits in line within its own deadline.
const WANTED_QUEUE: usize = 1024;

/// Now, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: UnixMillis,
}

impl Now {
    pub(super) fn read(clock: &Clock) -> Self {
        Self { instant: Instant::now(), wall: clock.now() }
    }
}

/// A session that a pod may have.
#[derive(Clone, Debug)]
pub struct Held {
    /// The role.
    pub role: RoleArn,
    /// Its credentials.
    pub credentials: SessionCredentials,
    /// When the issuer answered.
    pub obtained: UnixMillis,
}

/// What is known of a sandbox's credentials.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// Nothing yet; why the last attempt gave nothing.
    Waiting(Option<Fault>),
    /// The CNI's record shows that the pod has no role, and the issuer has not said otherwise.
    Unannotated,
    /// A session, perhaps expired by now.
    Held(Arc<Held>),
    /// A final refusal, not to be asked about again before `again`.
    Refused { refusal: Arc<Refusal>, again: Instant },
    /// The sandbox is gone.
    Gone,
}

/// What a pod's request is answered from.
#[derive(Clone, Debug)]
pub enum Found {
    /// Credentials that are valid now.
    Held(Arc<Held>),
    /// The issuer's refusal; only an edit changes it.
    Refused(Arc<Refusal>),
    /// The pod showed no role when it was made, and the issuer has not said otherwise.
    Unannotated,
    /// Nothing within the time that the request could wait, and why.
    NotReady(Option<Fault>),
    /// The sandbox is gone.
    Gone,
}

/// Whether the issuer has been reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// No request has come back yet.
    NotTried,
    /// No request has been answered yet; why the last was not.
    Failed(String),
    /// It has answered a request of this node.
    Reached,
}

/// The keeper has ended, and with it the process will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody keeps the credentials any more")]
pub struct Stopped;

/// Where pods' requests find credentials. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    store: Arc<Store>,
    wanted: mpsc::Sender<Arc<Sandbox>>,
    contact: watch::Receiver<Contact>,
    clock: Clock,
}

impl Credentials {
    pub(super) fn new(
        clock: Clock,
        contact: watch::Receiver<Contact>,
    ) -> (Self, Arc<Store>, mpsc::Receiver<Arc<Sandbox>>) {
        let store = Arc::new(Store::default());
        let (wanted, receiver) = mpsc::channel(WANTED_QUEUE);
        (Self { store: Arc::clone(&store), wanted, contact, clock }, store, receiver)
    }

    /// Whether the issuer has been reached, now and from now on.
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.contact.clone()
    }

    /// What `sandbox` may have: at once where that is known, otherwise as soon as the issuer has answered, and at most after
    /// `patience`. Dropping the future cancels no fetch.
    pub async fn find(&self, sandbox: &Arc<Sandbox>, patience: Duration) -> Result<Found, Stopped> {
        let deadline = Instant::now() + patience;
        let mut view = self.store.channel(sandbox).subscribe();
        if let Some(found) = view.borrow_and_update().answer(self.now()) {
            return Ok(found);
        }
        match timeout_at(deadline, self.wanted.send(Arc::clone(sandbox))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Stopped),
            Err(_) => return Ok(view.borrow().answer_at_last(self.now())),
        }
        loop {
            if matches!(*view.borrow(), View::Unannotated) {
                return Ok(Found::Unannotated);
            }
            match timeout_at(deadline, view.changed()).await {
                Ok(Ok(())) => {}
                // The keeper publishes `Gone` before it lets go of a channel, so only its end closes one unread.
                Ok(Err(_)) => return Err(Stopped),
                Err(_) => return Ok(view.borrow().answer_at_last(self.now())),
            }
            if let Some(found) = view.borrow_and_update().answer(self.now()) {
                return Ok(found);
            }
        }
    }

    fn now(&self) -> Now {
        Now::read(&self.clock)
    }

    /// Waits until it is known whether `sandbox` has credentials: an outcome, or the issuer's word that there is none yet. Until
    /// then the issuer may be away, or still at it.
    pub async fn settled(&self, sandbox: &Arc<Sandbox>) {
        let mut view = self.store.channel(sandbox).subscribe();
        if view.borrow().is_settled() {
            return;
        }
        // The keeper must see a channel that was made for a sandbox that is gone, to take it away.
        if self.wanted.send(Arc::clone(sandbox)).await.is_err() {
            return;
        }
        // An error means that the keeper has let go of the sandbox: nothing will follow.
        let _ = view.wait_for(View::is_settled).await;
    }
}

#[cfg(test)]
impl Credentials {
    /// How many sandboxes have a channel.
    pub(super) fn remembered(&self) -> usize {
        self.store.channels.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The channels, by sandbox.
#[derive(Default)]
pub(super) struct Store {
    // A plain mutex: held for one look-up, never across an await.
    channels: Mutex<HashMap<SandboxId, watch::Sender<View>>>,
}

impl Store {
    /// The channel of `sandbox`, made if there is none. The keeper takes away what a request has made for a sandbox that is
    /// gone: it sees each of them, since each request that finds nothing is sent to it.
    pub(super) fn channel(&self, sandbox: &Sandbox) -> watch::Sender<View> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.entry(sandbox.id.clone()).or_insert_with(|| watch::Sender::new(View::initial(sandbox))).clone()
    }

    pub(super) fn remove(&self, id: &SandboxId) {
        let removed = self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(view) = removed {
            view.send_replace(View::Gone);
        }
    }
}

impl View {
    fn initial(sandbox: &Sandbox) -> Self {
        match sandbox.hint {
            RoleHint::NotAnnotated => Self::Unannotated,
            RoleHint::Annotated | RoleHint::Unknown => Self::Waiting(None),
        }
    }

    fn is_settled(&self) -> bool {
        match self {
            Self::Waiting(None | Some(Fault::Failed(_) | Fault::Expired | Fault::NotNow(RefusalCode::Pending))) => {
                false
            }
            Self::Waiting(Some(Fault::NotNow(_)))
            | Self::Unannotated
            | Self::Held(_)
            | Self::Refused { .. }
            | Self::Gone => true,
        }
    }

    /// The answer, where asking the issuer first would not better it.
    pub(super) fn answer(&self, now: Now) -> Option<Found> {
        match self {
            Self::Held(held) if held.credentials.expiration > now.wall => Some(Found::Held(Arc::clone(held))),
            Self::Refused { refusal, again } if *again > now.instant => Some(Found::Refused(Arc::clone(refusal))),
            Self::Gone => Some(Found::Gone),
            Self::Unannotated | Self::Waiting(_) | Self::Held(_) | Self::Refused { .. } => None,
        }
    }

    /// The answer when there is no more time. A refusal that could not be asked about again is still the last thing known:
    /// it says more to a person than a failure does.
    fn answer_at_last(&self, now: Now) -> Found {
        match self {
            Self::Refused { refusal, .. } => Found::Refused(Arc::clone(refusal)),
            Self::Waiting(fault) => Found::NotReady(*fault),
            Self::Unannotated => Found::Unannotated,
            Self::Held(_) | Self::Gone => self.answer(now).unwrap_or(Found::NotReady(None)),
        }
    }
}
