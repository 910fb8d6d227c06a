//! Denials of STS, remembered for a moment in this environment. The shared item of a session remembers them for the others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::session::CacheKey;
use model::time::UnixMillis;

use super::sts::StsFailure;

/// How long a denial stands. Short, since an edit of a trust policy should help at the next ask; long enough that the pods
/// of a broken role cost one STS call in that time and not one each.
pub(crate) const DENIAL: Duration = Duration::from_secs(2);
/// The most denials kept.
const MAX_DENIALS: usize = 1_000;

/// The sessions that STS denied lately.
#[derive(Default)]
pub(crate) struct Denials {
    /// Why, and until when. A plain mutex: held for a look-up, never across an await.
    denials: Mutex<HashMap<CacheKey, (StsFailure, UnixMillis)>>,
}

impl Denials {
    /// Why STS denied this session, if it did so a moment ago.
    pub(crate) fn find(&self, key: &CacheKey, now: UnixMillis) -> Option<StsFailure> {
        let denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        denials.get(key).filter(|(_, until)| now < *until).map(|(failure, _)| failure.clone())
    }

    /// Remembers a denial.
    pub(crate) fn remember(&self, key: CacheKey, failure: StsFailure, now: UnixMillis) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        denials.retain(|_, (_, until)| now < *until);
        if denials.len() < MAX_DENIALS {
            denials.insert(key, (failure, now.plus(DENIAL)));
        }
    }
}
