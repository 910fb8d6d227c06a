//! An issuer that shares one session of an hour among everybody who may have the role, for its first 20 minutes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::arn::RoleArn;
use model::credentials::SessionCredentials;
use model::refusal::{Refusal, RefusalCode};
use model::time::UnixMillis;
use model::wire::{Ask, IssueRequest, IssueResponse, Outcome, Session, VERSION};
use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::credentials::Issuer;
use crate::issuer::IssuerError;

const LIFETIME: Duration = Duration::from_secs(3600);
const SHARED_FOR: Duration = Duration::from_secs(20 * 60);

/// What a pod is told.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Session,
    Refused(RefusalCode),
    Refusal(Refusal),
}

pub(crate) struct FakeIssuer {
    clock: Clock,
    sessions: Mutex<HashMap<String, (UnixMillis, SessionCredentials)>>,
    replies: Mutex<HashMap<String, Reply>>,
    log: Mutex<Vec<(Instant, IssueRequest)>>,
    down: AtomicBool,
    quarantined: AtomicBool,
    delay: Mutex<Duration>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl FakeIssuer {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            sessions: Mutex::default(),
            replies: Mutex::default(),
            log: Mutex::default(),
            down: AtomicBool::new(false),
            quarantined: AtomicBool::new(false),
            delay: Mutex::new(Duration::ZERO),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        })
    }

    /// From now on it fails, or works again.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// From now on it refuses the node, or knows it again.
    pub(crate) fn quarantine(&self, quarantined: bool) {
        self.quarantined.store(quarantined, Ordering::SeqCst);
    }

    /// How long it takes from now on.
    pub(crate) fn set_delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    /// What it says of `pod` from now on.
    pub(crate) fn reply(&self, pod: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(pod.into(), reply);
    }

    /// The requests so far, and when they came.
    pub(crate) fn log(&self) -> Vec<(Instant, IssueRequest)> {
        self.log.lock().unwrap().clone()
    }

    /// The requests so far that named pods: how many pods, and the patience.
    pub(crate) fn sizes(&self) -> Vec<(usize, u32)> {
        let log = self.log();
        log.iter().filter(|(_, r)| !r.pods.is_empty()).map(|(_, r)| (r.pods.len(), r.patience_ms)).collect()
    }

    pub(crate) fn clear(&self) {
        self.log.lock().unwrap().clear();
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }

    fn outcome(&self, ask: &Ask, sessions: &mut Vec<Session>) -> Outcome {
        let name = ask.pod.name.as_str();
        match self.replies.lock().unwrap().get(name).cloned().unwrap_or(Reply::Session) {
            Reply::Refused(code) => Outcome::Refused(Refusal::new(code, format!("why {name}"))),
            Reply::Refusal(refusal) => Outcome::Refused(refusal),
            Reply::Session => {
                let role = name.rsplit_once('-').map_or(name, |(role, _)| role);
                sessions.push(self.session(role));
                Outcome::Session(sessions.len() - 1)
            }
        }
    }

    fn session(&self, role: &str) -> Session {
        let now = self.clock.now();
        let mut sessions = self.sessions.lock().unwrap();
        let fresh = |nth: usize| SessionCredentials {
            access_key_id: format!("ASIA{role}{nth}"),
            secret_access_key: "secret".into(),
            session_token: "token".into(),
            expiration: now.plus(LIFETIME),
        };
        let nth = usize::try_from(now.0).unwrap();
        let entry = sessions.entry(role.into()).or_insert_with(|| (now, fresh(nth)));
        if now.since(entry.0) > SHARED_FOR {
            *entry = (now, fresh(nth));
        }
        let role = RoleArn::parse(&format!("arn:aws:iam::123456789012:role/{role}")).unwrap();
        Session { role, credentials: entry.1.clone() }
    }
}

impl Issuer for FakeIssuer {
    async fn issue(&self, request: &IssueRequest) -> Result<IssueResponse, IssuerError> {
        self.log.lock().unwrap().push((Instant::now(), request.clone()));
        let now_in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now_in_flight, Ordering::SeqCst);
        let delay = *self.delay.lock().unwrap();
        sleep(delay).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(IssuerError::Timeout);
        }
        if self.quarantined.load(Ordering::SeqCst) {
            return Err(IssuerError::NodeQuarantined { message: "ask the operator".into() });
        }
        if request.pods.is_empty() {
            return Err(IssuerError::BadRequest { message: "the request names 0 pods".into() });
        }
        let mut sessions = Vec::new();
        let outcomes = request.pods.iter().map(|ask| self.outcome(ask, &mut sessions)).collect();
        Ok(IssueResponse { version: VERSION, sessions, outcomes })
    }
}
