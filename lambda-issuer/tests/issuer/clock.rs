//! The clock of a laboratory: it goes with tokio's, so that it stands still where that is paused, and can be set ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lambda_issuer::clock::{Clock, SystemClock};
use model::time::UnixMillis;
use tokio::time::Instant;

const MINUTE_MILLIS: u64 = 60_000;

/// See above.
pub(crate) struct LabClock {
    began: UnixMillis,
    began_at: Instant,
    ahead: AtomicU64,
}

impl LabClock {
    /// A clock that begins near the present, at the start of a minute: budgets are counted by the minute.
    pub(crate) fn start() -> Self {
        let began = UnixMillis(SystemClock.now().0.next_multiple_of(MINUTE_MILLIS));
        Self { began, began_at: Instant::now(), ahead: AtomicU64::new(0) }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for LabClock {
    fn now(&self) -> UnixMillis {
        self.began.plus(self.began_at.elapsed()).plus(Duration::from_millis(self.ahead.load(Ordering::SeqCst)))
    }
}
