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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::arn::RoleArn;
    use model::session::{SESSION_DURATION, SessionSpec};

    use super::*;

    fn key(n: usize) -> CacheKey {
        let spec = SessionSpec {
            role: RoleArn::parse(&format!("arn:aws:iam::123456789012:role/r{n}")).unwrap(),
            session_name: "rolecall-prod".into(),
            source_identity: None,
            external_id: None,
            tags: Vec::new(),
            duration: SESSION_DURATION,
        };
        spec.cache_key()
    }

    fn session(expiration: UnixMillis) -> SessionCredentials {
        SessionCredentials {
            access_key_id: "ASIA1".into(),
            secret_access_key: "s".into(),
            session_token: "t".into(),
            expiration,
        }
    }

    const NOW: UnixMillis = UnixMillis(1_795_475_000_000);
    const FORTY_MINUTES: Duration = Duration::from_secs(2_400);

    #[test]
    fn forty_minutes_left_are_enough_and_less_is_not() {
        let memory = Memory::default();
        memory.keep(key(1), session(NOW.plus(FORTY_MINUTES)), NOW);
        assert!(memory.find(&key(1), NOW).is_some());
        assert!(memory.find(&key(2), NOW).is_none());
        assert!(memory.find(&key(1), NOW.plus(Duration::from_millis(1))).is_none());
        assert!(memory.find(&key(1), NOW).is_none(), "what was too old is gone");
    }

    #[test]
    fn it_is_bounded_and_the_oldest_goes_first() {
        let memory = Memory::default();
        for n in 0..=MAX_SESSIONS {
            let later = Duration::from_secs(u64::try_from(n).unwrap());
            memory.keep(key(n), session(NOW.plus(FORTY_MINUTES + later)), NOW);
        }
        assert_eq!(memory.sessions.lock().unwrap().len(), MAX_SESSIONS);
        assert!(memory.find(&key(0), NOW).is_none());
        assert!(memory.find(&key(1), NOW).is_some() && memory.find(&key(MAX_SESSIONS), NOW).is_some());
    }
}
