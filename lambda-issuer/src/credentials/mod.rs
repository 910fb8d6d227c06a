//! From an order to its session: this environment's memory, the sealed shared copy, and STS last.
//!
//! ```text
//! memory -> denials -> claim on the item of the cache table
//!                        | session found        -> open it
//!                        | denied a moment ago  -> refuse
//!                        | another one's lease  -> look again, until it is written or lapses
//!                        | not to be used       -> claim it again, in place of what was found
//!                        | our lease            -> budget, STS while renewing the lease, write the session
//!                      no data key, or no cache -> budget, STS
//! ```
//!
//! Nothing goes on after the answer: whatever the deadline cuts off is dropped, and a lease that is not renewed lapses.

mod budget;
mod chance;
mod data_key;
mod item;
mod lease;
mod making;
mod memory;
mod negative;
mod order;
mod sealed;
mod sts;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use model::credentials::SessionCredentials;
use model::name::{ClusterName, InstanceId};
use model::refusal::{Refusal, RefusalCode};
use model::time::UnixMillis;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(crate) use budget::Limits;
pub(crate) use order::Order;
pub use sealed::{SealError, SealingKey};

use crate::clock::Clock;
use crate::metrics::Tally;
use budget::Budgets;
use chance::jitter;
use data_key::{KeyId, KeyRing};
use item::{Found, SealedSession, View};
use lease::{CacheUnavailable, Claim, SharedCache};
use memory::Memory;
use negative::Denials;
use sts::Sts;
use turns::Turns;

/// What a session must have left to be handed out, old or shared: agents refresh from 35 minutes left, so what they get must be
/// worth more than that.
const FRESH: Duration = Duration::from_secs(40 * 60);
/// How long a call of the cache table may take before the issuer goes to STS without it. Waiting for the [`turns`] does not count.
const CACHE_LIMIT: Duration = Duration::from_millis(300);
/// How long a session that came in time may take to be written. It is the most by which an answer outlasts its patience.
const PUBLISH_LIMIT: Duration = Duration::from_millis(200);
/// How long to wait before looking again at a session that another environment is making, and as much again at random.
const LOOK_AGAIN: Duration = Duration::from_millis(40);
/// How long after a lease has lapsed to look, at random: those who waited for an environment that died do not claim together.
const LAPSE_SPREAD: Duration = Duration::from_millis(10);
/// How many items that cannot be used are replaced before the issuer goes to STS without the cache: more than the few that
/// several environments find at once, and the end of it where something keeps writing them.
const MAX_REPLACEMENTS: u32 = 3;

fn is_fresh(session: &SessionCredentials, now: UnixMillis) -> bool {
    session.expiration >= now.plus(FRESH)
}

/// Where a session came from, for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// This environment's memory.
    Memory,
    /// The sealed shared copy.
    Sealed,
    /// STS, just now.
    Sts,
}

/// A session for the pods of an order.
pub(crate) struct Issued {
    /// The session.
    pub(crate) credentials: SessionCredentials,
    /// Where it came from.
    pub(crate) source: Source,
}

/// Who asks, and until when an answer helps.
pub(crate) struct Asking<'a> {
    /// The cluster.
    pub(crate) cluster: &'a ClusterName,
    /// The instance.
    pub(crate) instance: &'a InstanceId,
    /// The issuer's own ARN, for what people are told to trust.
    pub(crate) issuer: &'a str,
    /// When the request's patience ends.
    pub(crate) deadline: Instant,
    /// What the request cost.
    pub(crate) tally: &'a Tally,
}

/// The clients that sessions come through.
pub(crate) struct Clients {
    /// DynamoDB.
    pub(crate) dynamo: aws_sdk_dynamodb::Client,
    /// KMS.
    pub(crate) kms: aws_sdk_kms::Client,
    /// STS.
    pub(crate) sts: aws_sdk_sts::Client,
}

/// The sessions of all roles.
pub(crate) struct Sessions {
    memory: Memory,
    denials: Denials,
    keys: KeyRing,
    cache: SharedCache,
    budgets: Budgets,
    turns: Arc<Turns>,
    sts: Sts,
    clock: Arc<dyn Clock>,
}

impl Sessions {
    /// No sessions yet.
    pub(crate) fn new(
        clients: Clients,
        cache_table: &str,
        kms_key: &str,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let Clients { dynamo, kms, sts } = clients;
        let table = cache_table.to_owned();
        let turns = Arc::new(Turns::new());
        Self {
            memory: Memory::default(),
            denials: Denials::default(),
            keys: KeyRing::new(dynamo.clone(), table.clone(), kms, kms_key.to_owned()),
            cache: SharedCache::new(dynamo.clone(), table.clone()),
            budgets: Budgets::new(dynamo, table, limits, Arc::clone(&turns)),
            turns,
            sts: Sts::new(sts),
            clock,
        }
    }

    /// Loads the data key ahead of the first request. A failure is logged, and costs sharing and not sessions.
    pub(crate) async fn warm(&self) {
        self.keys.current(self.clock.now()).await;
    }

    /// The session of an order, or why there is none.
    pub(crate) async fn obtain(&self, order: &Order, asking: &Asking<'_>) -> Result<Issued, Refusal> {
        let now = self.clock.now();
        if let Some(credentials) = self.memory.find(order.key(), now) {
            asking.tally.memory_hit();
            return Ok(Issued { credentials, source: Source::Memory });
        }
        if let Some(denial) = self.denials.find(order.key(), now) {
            return Err(denial.refusal(order.spec(), asking.issuer));
        }
        let sealing = timeout_at(asking.deadline, self.keys.current(now)).await.map_err(|_| pending(order))?;
        let shared = match &sealing {
            Some(sealing) => self.shared(order, asking, sealing).boxed().await,
            None => Err(Stop::NotShared("there is no data key".to_owned())),
        };
        let issued = match shared {
            Ok(issued) => issued,
            Err(Stop::Refused(refusal)) => return Err(refusal),
            Err(Stop::NotShared(cause)) => {
                tracing::error!(cause, "a session comes from STS without the shared cache");
                asking.tally.cache_failure();
                let made = self.make(order, asking).await;
                made.map_err(|failure| self.refuse(order, asking, failure))?
            }
        };
        self.memory.keep(order.key().clone(), issued.credentials.clone(), self.clock.now());
        Ok(issued)
    }

    /// The session through its item in the cache table.
    async fn shared(&self, order: &Order, asking: &Asking<'_>, sealing: &Sealing) -> Result<Issued, Stop> {
        let mut unusable = None;
        let mut replacements = 0;
        loop {
            let claim = || self.cache.claim(order.key(), unusable.as_ref(), self.clock.now());
            let found = match self.in_turn(claim, order, asking).await? {
                Claim::Lease(lease) => return self.lead(order, asking, &lease, sealing).await.map_err(Stop::Refused),
                Claim::Found(found) => self.wait_while_held(found, order, asking).await?,
            };
            unusable = match found.view {
                View::Session(sealed) => match self.open(order, &sealed, asking).await {
                    Some(credentials) => return Ok(Issued { credentials, source: Source::Sealed }),
                    None => Some(found.seen),
                },
                // Not remembered here: it stands until the time in the item, and no longer.
                View::Denied(denial) => return Err(Stop::Refused(denial.refusal(order.spec(), asking.issuer))),
                View::Nonsense => {
                    tracing::error!(key = order.key().digest_hex(), "an item of the cache table is no issuer's");
                    asking.tally.cache_failure();
                    Some(found.seen)
                }
                // The lease ended or lapsed without a session: claim it.
                View::Held(_) | View::Free => None,
            };
            replacements += u32::from(unusable.is_some());
            if replacements > MAX_REPLACEMENTS {
                return Err(Stop::NotShared("the session's item cannot be used, whatever replaces it".to_owned()));
            }
        }
    }

    /// What the item says once nobody holds its lease.
    async fn wait_while_held(&self, found: Found, order: &Order, asking: &Asking<'_>) -> Result<Found, Stop> {
        let mut found = found;
        while let View::Held(until) = found.view {
            let lapse = until.since(self.clock.now()) + LAPSE_SPREAD / 10 + jitter(LAPSE_SPREAD);
            let pause = lapse.min(LOOK_AGAIN + jitter(LOOK_AGAIN));
            let pause = timeout_at(asking.deadline, sleep(pause));
            pause.await.map_err(|_| Stop::Refused(pending(order)))?;
            found = self.in_turn(|| self.cache.look(order.key(), self.clock.now()), order, asking).await?;
        }
        Ok(found)
    }

    /// Asks the cache table when it is our turn, within the request's patience, and waits [`CACHE_LIMIT`] for the answer. The
    /// call is made by then only, since it tells the time.
    async fn in_turn<T, F>(&self, call: impl FnOnce() -> F, order: &Order, asking: &Asking<'_>) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, CacheUnavailable>>,
    {
        let asked = async { self.turns.seeker().await.call(CACHE_LIMIT, call()).await };
        let answer = timeout_at(asking.deadline, asked).await.map_err(|_| Stop::Refused(pending(order)))?;
        Ok(answer.map_err(|_| Stop::NotShared("the cache table did not answer in time".to_owned()))??)
    }

    async fn open(&self, order: &Order, sealed: &SealedSession, asking: &Asking<'_>) -> Option<SessionCredentials> {
        let now = self.clock.now();
        let key = timeout(CACHE_LIMIT, self.keys.named(sealed.key_id, now)).await.ok().flatten()?;
        match key.open(&sealed.text, order.key()) {
            Ok(session) if is_fresh(&session, now) => {
                asking.tally.sealed_hit();
                Some(session)
            }
            // The item's own time said otherwise; the one inside counts.
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, key = order.key().digest_hex(), "a shared session is thrown away");
                asking.tally.cache_failure();
                None
            }
        }
    }
}

/// The key to seal with.
type Sealing = (KeyId, Arc<SealingKey>);

/// Why the shared copy gives no session.
enum Stop {
    /// There will be none.
    Refused(Refusal),
    /// The cache cannot be used, and why, for the log.
    NotShared(String),
}

impl From<CacheUnavailable> for Stop {
    fn from(error: CacheUnavailable) -> Self {
        Self::NotShared(error.to_string())
    }
}

fn pending(order: &Order) -> Refusal {
    let role = &order.spec().role;
    let message = format!("a session of {role} was not ready in time; it is asked for again");
    Refusal::new(RefusalCode::Pending, message).for_role(role)
}
