//! The one reader of the system's clock. Everything else is told the time, so that tests of expiry need no sleeping.
//!
//! Wall-clock time decides only what AWS's clock decides (expirations, token lifetimes, ages told to the issuer); waiting and
//! backing off run on tokio's monotonic clock.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use model::time::UnixMillis;

/// Tells the wall-clock time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixMillis + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[allow(clippy::disallowed_methods, reason = "this is the clock that the wiring passes in")]
    pub fn system() -> Self {
        Self::new(|| SystemTime::now().into())
    }

    /// A clock that shows what `now` says.
    pub fn new(now: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock that shows `start` and goes on with tokio's, so that a test that pauses and advances that one moves both.
    pub fn with_tokio(start: UnixMillis) -> Self {
        let since = tokio::time::Instant::now();
        Self::new(move || start.plus(since.elapsed()))
    }

    /// Now.
    pub fn now(&self) -> UnixMillis {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
