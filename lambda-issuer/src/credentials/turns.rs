//! Turns at the cache table: how many calls this environment has open at once.
//!
//! A table that is asked more at once than it can carry answers everybody late, and whoever it answers late asks STS without
//! it. So an environment waits for its turn here, for as long as the request's patience allows, and only the call itself is
//! measured against the limit after which the table counts as broken. A turn is one call: it ends before a pause and before STS.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Turns of each kind. Four calls of DynamoDB's 5 ms are 800 a second, so the largest request (250 sessions) has claimed all
/// of them in a third of one; each more is a connection with a cold TLS handshake, of which a small function can do few in
/// the 300 ms that the table has. It also is what lets 16 leases be renewed in time by a table that takes 190 ms a call: four
/// each, one after the other, within the 950 ms of a lease.
const TURNS: usize = 4;

/// The turns of this environment.
#[derive(Debug)]
pub(crate) struct Turns {
    seekers: Semaphore,
    holders: Semaphore,
}

/// The right to one call, while it is held.
pub(crate) struct Turn<'a> {
    _permit: Option<SemaphorePermit<'a>>,
}

impl Turns {
    /// All turns are free.
    pub(crate) fn new() -> Self {
        Self { seekers: Semaphore::new(TURNS), holders: Semaphore::new(TURNS) }
    }

    /// The turn of one who looks for a session, or counts a new one.
    pub(crate) async fn seeker(&self) -> Turn<'_> {
        Turn::of(&self.seekers).await
    }

    /// The turn of one who holds a lease. They have turns of their own: a lease that waits behind everybody who looks for its
    /// session would lapse, and bring forth more who look.
    pub(crate) async fn holder(&self) -> Turn<'_> {
        Turn::of(&self.holders).await
    }
}

impl<'a> Turn<'a> {
    async fn of(turns: &'a Semaphore) -> Self {
        // They are never closed, which is the one error.
        Self { _permit: turns.acquire().await.ok() }
    }

    /// Makes the call, which ends the turn.
    pub(crate) async fn call<T>(self, limit: Duration, call: impl Future<Output = T>) -> Result<T, Elapsed> {
        timeout(limit, call).await
    }
}
