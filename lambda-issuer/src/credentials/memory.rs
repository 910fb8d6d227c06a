//! Sessions in this environment's memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use model::credentials::SessionCredentials;
use model::session::CacheKey;
use model::time::UnixMillis;

use super::is_fresh;

/// The most sessions kept: at about 2 kB each that is 4 MB of the function's memory.
const MAX_SESSIONS: usize = 2_000;

/// A bounded map of sessions.
#[derive(Default)]
pub(crate) struct Memory {
    /// A plain mutex: held for a look-up, never across an await.
    sessions: Mutex<HashMap<CacheKey, SessionCredentials>>,
}

impl Memory {
    /// The session of `key`, if it is fresh enough to be handed out.
    pub(crate) fn find(&self, key: &CacheKey, now: UnixMillis) -> Option<SessionCredentials> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match sessions.get(key) {
            Some(session) if is_fresh(session, now) => Some(session.clone()),
            Some(_) => {
                sessions.remove(key);
                None
            }
            None => None,
        }
    }

    /// Keeps a session that is fresh enough to be handed out again.
    pub(crate) fn keep(&self, key: CacheKey, session: SessionCredentials, now: UnixMillis) {
        if !is_fresh(&session, now) {
            return;
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS {
            sessions.retain(|_, session| is_fresh(session, now));
        }
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, session)| session.expiration).map(|(key, _)| key.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key, session);
    }
}
