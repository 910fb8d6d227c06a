//! Making a session: budget, STS, and telling the environments that wait.

use std::convert::Infallible;

use futures_util::FutureExt;
use model::credentials::SessionCredentials;
use model::refusal::{Refusal, RefusalCode};
use model::time::UnixMillis;
use tokio::time::{Instant, interval_at, timeout, timeout_at};

use super::budget::Payer;
use super::lease::{CacheUnavailable, Lease, RENEWAL, SealedSession};
use super::negative::DENIAL;
use super::order::Order;
use super::sts::StsFailure;
use super::{Asking, FRESH, Issued, PUBLISH_LIMIT, Sealing, Sessions, Source, is_fresh, pending};

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
        let made = self.while_renewing(lease, self.make(order, asking).boxed()).await;
        let now = self.clock.now();
        let told = async {
            match &made {
                Ok(issued) => self.publish(order, lease, sealing, &issued.credentials, now).await,
                Err(Failure::Budget(_)) => self.cache.release(lease).await,
                Err(Failure::Sts(failure)) if failure.is_denial() => {
                    self.cache.deny(lease, failure, now.plus(DENIAL)).await
                }
                // The lease lapses within a second, in which nobody asks an STS that throttles or fails.
                Err(Failure::Sts(_) | Failure::Late) => Ok(()),
            }
        };
        match timeout(PUBLISH_LIMIT, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what became of a session could not be shared"),
            Err(_) => tracing::error!("what became of a session was not shared in time"),
        }
        made.map_err(|failure| self.refuse(order, asking, failure))
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
        let payer = Payer {
            cluster: asking.cluster.clone(),
            namespace: order.namespace().clone(),
            instance: asking.instance.clone(),
        };
        let called = timeout_at(asking.deadline, async {
            self.budgets.spend(&payer, self.clock.now()).await.map_err(Failure::Budget)?;
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
            loop {
                ticks.tick().await;
                match self.cache.renew(lease, self.clock.now()).await {
                    Ok(true) => {}
                    Ok(false) => tracing::warn!("the lease on a session was lost while STS was awaited"),
                    Err(error) => tracing::warn!(%error, "the lease on a session was not renewed"),
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
