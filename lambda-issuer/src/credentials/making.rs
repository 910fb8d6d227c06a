//! Making a session: budget, STS, and telling the environments that wait.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use model::credentials::SessionCredentials;
use model::refusal::{Refusal, RefusalCode};
use model::time::UnixMillis;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use super::budget::Payer;
use super::item::SealedSession;
use super::lease::{CacheUnavailable, LEASE, Lease, RENEWAL};
use super::negative::DENIAL;
use super::order::Order;
use super::sts::StsFailure;
use super::{Asking, FRESH, Issued, PUBLISH_LIMIT, Sealing, Sessions, Source, is_fresh, pending};

/// How long the others wait after a request whose patience ended before STS answered: its agent asks again at once and with
/// more, and whoever else waits with little must not start calls, one after the other, that are thrown away.
const PAUSE_AFTER_LATE: Duration = Duration::from_millis(200);
/// How long nobody asks for a session that STS throttled or failed to give, in which the call was tried twice already. It
/// is what agents wait for at least once their first three tries have failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Why no session was made.
pub(super) enum Failure {
    /// A budget is spent: the sentence names it.
    Budget(String),
    /// STS gave none.
    Sts(StsFailure),
    /// The request's patience ended first.
    Late,
}

impl Sessions {
    /// Makes the session under a lease, and tells the others what came of it.
    pub(super) async fn lead(
        &self,
        order: &Order,
        asking: &Asking<'_>,
        lease: &Lease,
        sealing: &Sealing,
    ) -> Result<Issued, Refusal> {
        // The lease is renewed, too, while a session that was made waits for its turn to be written.
        let work = async {
            let made = self.make(order, asking).await;
            let until = asking.deadline.max(Instant::now() + PUBLISH_LIMIT);
            (made, until, timeout_at(until, self.turns.holder()).await)
        };
        let (made, until, turn) = self.while_renewing(lease, work).boxed().await;
        let told = match turn {
            Ok(turn) => timeout_at(until, turn.call(PUBLISH_LIMIT, self.tell(order, lease, sealing, &made).boxed()))
                .await
                .flatten(),
            Err(late) => Err(late),
        };
        match told {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what became of a session could not be shared"),
            Err(_) => tracing::error!("what became of a session was not shared in time"),
        }
        made.map_err(|failure| self.refuse(order, asking, failure))
    }

    /// Writes what became of the session, which ends the lease or lets it stand for a while.
    async fn tell(
        &self,
        order: &Order,
        lease: &Lease,
        sealing: &Sealing,
        made: &Result<Issued, Failure>,
    ) -> Result<(), CacheUnavailable> {
        let now = self.clock.now();
        match made {
            Ok(issued) => self.publish(order, lease, sealing, &issued.credentials, now).await,
            Err(Failure::Budget(_)) => self.cache.release(lease).await,
            Err(Failure::Sts(failure)) if failure.is_denial() => {
                self.cache.deny(lease, failure, now.plus(DENIAL)).await
            }
            Err(Failure::Sts(_)) => self.cache.hold(lease, now.plus(PAUSE_AFTER_FAILURE)).await.map(drop),
            Err(Failure::Late) => self.cache.hold(lease, now.plus(PAUSE_AFTER_LATE)).await.map(drop),
        }
    }

    async fn publish(
        &self,
        order: &Order,
        lease: &Lease,
        (key_id, key): &Sealing,
        session: &SessionCredentials,
        now: UnixMillis,
    ) -> Result<(), CacheUnavailable> {
        if !is_fresh(session, now) {
            return self.cache.release(lease).await;
        }
        let text = key.seal(session, order.key()).map_err(|error| CacheUnavailable(error.to_string()))?;
        let sealed = SealedSession { key_id: *key_id, text };
        let fresh_until = session.expiration.minus(FRESH);
        if !self.cache.publish(lease, sealed, fresh_until, session.expiration).await? {
            tracing::warn!("the lease on a session was lost before it was written");
        }
        Ok(())
    }

    /// Asks STS, if the budgets allow it.
    pub(super) async fn make(&self, order: &Order, asking: &Asking<'_>) -> Result<Issued, Failure> {
        let payer = Payer { cluster: asking.cluster, namespaces: order.namespaces(), instance: asking.instance };
        let called = timeout_at(asking.deadline, async {
            self.budgets.spend(payer, self.clock.now()).await.map_err(Failure::Budget)?;
            let began = Instant::now();
            let session = self.sts.assume(order).await.map_err(Failure::Sts);
            asking.tally.sts_call(began.elapsed());
            session
        });
        let credentials = called.await.map_err(|_| Failure::Late)??;
        Ok(Issued { credentials, source: Source::Sts })
    }

    /// Renews the lease while `work` goes on. A renewal that fails is not the end of it: the session is made in any case.
    async fn while_renewing<T>(&self, lease: &Lease, work: impl Future<Output = T>) -> T {
        let renewing = async {
            let mut ticks = interval_at(Instant::now() + RENEWAL, RENEWAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let turn = self.turns.holder().await;
                let renewal = self.cache.hold(lease, self.clock.now().plus(LEASE));
                match turn.call(RENEWAL, renewal).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => tracing::warn!("the lease on a session was lost while STS was awaited"),
                    Ok(Err(error)) => tracing::warn!(%error, "the lease on a session was not renewed"),
                    Err(_) => tracing::warn!("the lease on a session was not renewed in time"),
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = async { let never: Infallible = renewing.await; never } => match never {},
        }
    }

    /// Turns a failure into what the pod is told, and remembers a denial.
    pub(super) fn refuse(&self, order: &Order, asking: &Asking<'_>, failure: Failure) -> Refusal {
        match failure {
            Failure::Late => pending(order),
            Failure::Budget(sentence) => Refusal::new(RefusalCode::StsThrottled, sentence).for_role(&order.spec().role),
            Failure::Sts(failure) => {
                tracing::warn!(%failure, role = %order.spec().role, "no session");
                let refusal = failure.refusal(order.spec(), asking.issuer);
                if failure.is_denial() {
                    self.denials.remember(order.key().clone(), failure, self.clock.now());
                }
                refusal
            }
        }
    }
}
