//! The wall clock, passed in so that expiry is tested without waiting.

use std::time::SystemTime;

use model::time::UnixMillis;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> UnixMillis;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        #[allow(clippy::disallowed_methods)] // the one place that asks; everything else is told
        SystemTime::now().into()
    }
}
