//! One sandbox's credentials: what is known, and what to do next. Pure: time and chance are arguments.

use std::sync::Arc;
use std::time::Duration;

use model::arn::RoleArn;
use model::credentials::SessionCredentials;
use model::refusal::{Refusal, RefusalCode, Retry};
use model::time::UnixMillis;
use model::wire::Ask;
use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::{Chance, memory, retry, retry_slowly};
use super::store::{Held, Now, View};
use super::{FIRST_PATIENCE, Fault, LONG_PATIENCE};
use crate::identity::{RoleHint, Sandbox};
use crate::issuer::Verdict;

/// Renewal begins with this much left. A control plane that fails for 25 minutes from then on leaves 10.
const RENEW_AT: Duration = Duration::from_secs(35 * 60);
/// Renewal begins earlier by up to this, by chance, so that a fleet that got one session does not renew it in one second.
const RENEW_EARLIER: Duration = Duration::from_secs(2 * 60);
/// What has this much left goes along when another is renewed. The issuer hands out nothing with less, so whatever is asked
/// for now is answered with something newer, and the two stay together from then on.
const RENEW_ALONG: Duration = Duration::from_secs(40 * 60);
/// Renewals of one pod are at least so far apart, whatever lifetime an issuer gives.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);
/// A pod's own question brings its next attempt forward, to no sooner than this after the last: a pod that asks in a loop
/// must not undo the back-off.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// A renewal that waits so much longer goes along with one that does not: many keys that are refused for a while must not
/// become as many requests.
const GATHER: Duration = Duration::from_secs(10);

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// An answer is awaited.
    InFlight,
    /// Nothing, until the pod asks.
    Idle,
    /// A request of first asks, with others of its kind, from `at`.
    First { at: Instant, patience: Duration },
    /// A place in the node's next common request, from `at`.
    Together { at: Instant },
    /// A place in the common request that renews, when it is due and from `not_before`.
    Renew { not_before: Instant },
}

/// What the issuer said about one pod.
#[derive(Debug)]
pub(super) enum Said {
    Session {
        role: RoleArn,
        credentials: SessionCredentials,
    },
    Refused(Refusal),
    /// Nothing: the request failed. [`crate::issuer::IssuerError::reason`], and what may end it.
    Failed(&'static str, Verdict),
}

/// One sandbox's credentials.
pub(super) struct Entry {
    sandbox: Arc<Sandbox>,
    view: watch::Sender<View>,
    step: Step,
    last_attempt: Option<Instant>,
    /// When the last credentials were or are to be renewed; none were had without it.
    due: Option<UnixMillis>,
    /// Attempts in a row that gave neither credentials nor a final refusal.
    failures: u32,
    /// The last final refusal, and how often in a row it was given.
    refused: Option<(RefusalCode, u32)>,
}

impl Entry {
    pub(super) fn new(sandbox: Arc<Sandbox>, view: watch::Sender<View>, now: Now) -> Self {
        let step = match sandbox.hint {
            RoleHint::Annotated | RoleHint::Unknown => first_ask(now),
            RoleHint::NotAnnotated => Step::Idle,
        };
        Self { sandbox, view, step, last_attempt: None, due: None, failures: 0, refused: None }
    }

    pub(super) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// Something else is now known of the sandbox.
    pub(super) fn update(&mut self, sandbox: Arc<Sandbox>, now: Now) {
        self.sandbox = sandbox;
        let seen_unannotated = matches!(*self.view.borrow(), View::Unannotated);
        if seen_unannotated && self.sandbox.hint != RoleHint::NotAnnotated {
            self.view.send_replace(View::Waiting(None));
            if !matches!(self.step, Step::InFlight) {
                self.step = first_ask(now);
            }
        }
    }

    /// The pod asks, and what is known does not answer it.
    pub(super) fn wanted(&mut self, now: Now) {
        let soonest = self.last_attempt.map_or(now.instant, |last| now.instant.max(last + ASK_INTERVAL));
        let unannotated = matches!(*self.view.borrow(), View::Unannotated);
        self.step = match self.step {
            Step::InFlight => return,
            // A request was on its way while the answer came.
            _ if self.view.borrow().answer(now).is_some() => return,
            Step::Idle if unannotated => Step::Together { at: now.instant },
            Step::Together { .. } if unannotated => return,
            Step::First { at, patience } => Step::First { at: at.min(soonest), patience },
            Step::Idle | Step::Together { .. } | Step::Renew { .. } => {
                Step::First { at: soonest, patience: FIRST_PATIENCE }
            }
        };
    }

    /// Whether a pod's request is waiting.
    pub(super) fn is_awaited(&self) -> bool {
        self.view.receiver_count() > 0
    }

    /// From when it is a first ask, and with which patience.
    pub(super) fn first(&self) -> Option<(Instant, Duration)> {
        match self.step {
            Step::First { at, patience } => Some((at, patience)),
            _ => None,
        }
    }

    /// From when it calls for a common request.
    pub(super) fn together(&self, now: Now) -> Option<Instant> {
        match (self.step, self.due) {
            (Step::Together { at }, _) => Some(at),
            (Step::Renew { not_before }, Some(due)) => Some(not_before.max(now.instant + due.since(now.wall))),
            _ => None,
        }
    }

    /// Whether it goes along in a common request that is made now.
    pub(super) fn goes_along(&self, now: Now) -> bool {
        match self.step {
            Step::Together { at } => at <= now.instant,
            Step::Renew { not_before } => {
                let near = |held: &Held| held.credentials.expiration.since(now.wall) <= RENEW_ALONG;
                let is_near = matches!(&*self.view.borrow(), View::Held(held) if near(held));
                let rested = self.last_attempt.is_none_or(|last| last + ASK_INTERVAL <= now.instant);
                let is_soon =
                    not_before <= now.instant || (self.failures > 0 && rested && not_before <= now.instant + GATHER);
                is_soon && (is_near || self.due.is_some_and(|due| due <= now.wall))
            }
            _ => false,
        }
    }

    /// How late its renewal is, where one is due.
    pub(super) fn late_by(&self, now: Now) -> Option<Duration> {
        self.due.filter(|due| *due <= now.wall).map(|due| now.wall.since(due))
    }

    /// Whether it waits for nothing but the pod's own question.
    pub(super) fn is_idle(&self) -> bool {
        self.step == Step::Idle
    }

    /// It is asked for now.
    pub(super) fn ask(&mut self, now: Now) -> Ask {
        self.step = Step::InFlight;
        self.last_attempt = Some(now.instant);
        let age = u64::try_from(now.wall.since(self.sandbox.created).as_millis()).unwrap_or(u64::MAX);
        Ask { pod: self.sandbox.pod.clone(), sandbox_age_ms: age }
    }

    /// The answer.
    pub(super) fn said(&mut self, said: Said, now: Now, chance: &mut Chance) {
        match said {
            Said::Session { credentials, .. } if credentials.expiration <= now.wall => {
                self.fault(Fault::Expired, self.pause(chance), now);
            }
            Said::Session { role, credentials } => self.grant(role, credentials, now, chance),
            Said::Refused(refusal) if refusal.retry == Retry::Soon => {
                let fault = Fault::NotNow(refusal.code);
                // `pending` is asked again at once, but not twice in a row: an issuer that says it without waiting must not
                // be answered in a loop.
                let at_once = is_pending(fault) && self.failures == 0;
                self.fault(fault, if at_once { Duration::ZERO } else { self.pause(chance) }, now);
            }
            Said::Refused(refusal) => self.refuse(refusal, now),
            Said::Failed(reason, verdict) => {
                let pause = match verdict {
                    Verdict::Retry => self.pause(chance),
                    Verdict::Operator => retry_slowly(chance),
                };
                self.fault(Fault::Failed(reason), pause, now);
            }
        }
    }

    fn grant(&mut self, role: RoleArn, credentials: SessionCredentials, now: Now, chance: &mut Chance) {
        self.failures = 0;
        self.refused = None;
        let held = match &*self.view.borrow() {
            // Another environment of the issuer may still share an older session; the longer-lived one is kept.
            View::Held(held) if held.role == role && held.credentials.expiration > credentials.expiration => {
                Arc::clone(held)
            }
            _ => Arc::new(Held { role, credentials, obtained: now.wall }),
        };
        let expires = held.credentials.expiration;
        self.due = Some(expires.minus(RENEW_AT + chance.up_to(RENEW_EARLIER)));
        self.step = Step::Renew { not_before: now.instant + RENEW_INTERVAL };
        self.view.send_replace(View::Held(held));
    }

    fn refuse(&mut self, refusal: Refusal, now: Now) {
        self.failures = 0;
        let times = match self.refused {
            Some((code, times)) if code == refusal.code => times.saturating_add(1),
            _ => 1,
        };
        self.refused = Some((refusal.code, times));
        self.due = None;
        self.step = Step::Idle;
        self.view.send_replace(View::Refused { refusal: Arc::new(refusal), again: now.instant + memory(times) });
    }

    /// Neither credentials nor a final refusal. What is valid stays.
    fn fault(&mut self, fault: Fault, pause: Duration, now: Now) {
        self.failures = self.failures.saturating_add(1);
        // A common request that failed is repeated as a whole, after a pause of its own.
        let common = if is_failure(fault) { now.instant } else { now.instant + pause };
        let view = self.view.borrow().clone();
        match view {
            View::Held(held) if held.credentials.expiration > now.wall => {
                self.step = Step::Renew { not_before: common }
            }
            View::Refused { .. } if is_failure(fault) => self.step = Step::Idle,
            View::Unannotated | View::Refused { .. } if !self.is_known_to_have_a_role(&view) => {
                self.view.send_replace(View::Unannotated);
                self.step = Step::Together { at: now.instant + memory(self.failures) };
            }
            View::Held(_) | View::Waiting(_) | View::Unannotated | View::Refused { .. } => {
                self.view.send_replace(View::Waiting(Some(fault)));
                let patience = if is_pending(fault) { LONG_PATIENCE } else { FIRST_PATIENCE };
                let first = Step::First { at: now.instant + pause, patience };
                // What was had once is asked for in common: a long outage must not end in one request per role.
                self.step = if self.due.is_some() { Step::Together { at: common } } else { first };
            }
            View::Gone => self.step = Step::Idle,
        }
    }

    /// Whether the pod has a role, by its record or by the issuer's word. Then it is never told that it has none.
    fn is_known_to_have_a_role(&self, view: &View) -> bool {
        let is_refused = matches!(view, View::Refused { refusal, .. } if refusal.code != RefusalCode::NoRole);
        self.sandbox.hint != RoleHint::NotAnnotated || is_refused
    }

    /// How long to wait after the failure that has just come.
    fn pause(&self, chance: &mut Chance) -> Duration {
        retry(self.failures.saturating_add(1), chance)
    }
}

fn first_ask(now: Now) -> Step {
    Step::First { at: now.instant, patience: FIRST_PATIENCE }
}

fn is_failure(fault: Fault) -> bool {
    matches!(fault, Fault::Failed(_))
}

fn is_pending(fault: Fault) -> bool {
    fault == Fault::NotNow(RefusalCode::Pending)
}
