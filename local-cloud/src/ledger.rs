//! Every session key that STS handed out through this process, so that a signature made with it can be checked, and so
//! that a test can search all logs for every secret that ever existed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

/// One answer of STS.
#[derive(Debug)]
pub struct IssuedKey {
    /// `ASIA…`.
    pub access_key_id: String,
    /// What requests are signed with.
    pub secret_access_key: SecretString,
    /// What must come with every request.
    pub session_token: SecretString,
    /// The account of the role: 12 digits.
    pub account: String,
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`, as the caller asked for it.
    pub role_arn: String,
    /// The role's name without its path.
    pub role_name: String,
    /// The role's unique id, `AROA…`.
    pub role_id: String,
    /// The session's name; for a node, its instance id.
    pub session_name: String,
    /// The source identity that the caller set.
    pub source_identity: Option<String>,
    /// When AWS ceases to accept the key.
    pub expiration: SystemTime,
}

impl IssuedKey {
    /// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`: what API Gateway calls `userArn`.
    pub fn assumed_role_arn(&self) -> String {
        let partition = self.role_arn.split(':').nth(1).unwrap_or("aws");
        format!("arn:{partition}:sts::{}:assumed-role/{}/{}", self.account, self.role_name, self.session_name)
    }

    /// `AROA…:SESSION`: what API Gateway calls `caller`, and IAM `aws:userid`.
    pub fn user_id(&self) -> String {
        format!("{}:{}", self.role_id, self.session_name)
    }
}

/// The keys, by access key id. Clones share one book.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Held for a single map operation, never across an await.
    keys: Arc<Mutex<HashMap<String, Arc<IssuedKey>>>>,
}

impl Ledger {
    /// Records a key; one with the same id is replaced.
    pub fn insert(&self, key: IssuedKey) -> Arc<IssuedKey> {
        let key = Arc::new(key);
        self.lock().insert(key.access_key_id.clone(), Arc::clone(&key));
        key
    }

    /// The key of that id, expired or not: whoever checks a signature says which of the two is wrong.
    pub fn find(&self, access_key_id: &str) -> Option<Arc<IssuedKey>> {
        self.lock().get(access_key_id).cloned()
    }

    /// All keys, oldest expiration first.
    pub fn all(&self) -> Vec<Arc<IssuedKey>> {
        let mut keys: Vec<_> = self.lock().values().cloned().collect();
        keys.sort_by(|a, b| (a.expiration, &a.access_key_id).cmp(&(b.expiration, &b.access_key_id)));
        keys
    }

    /// Every secret in clear: secret keys and session tokens. Development only: it exists so that a test can prove that
    /// none of them is in any log.
    pub fn all_secrets(&self) -> Vec<String> {
        let secrets = |key: Arc<IssuedKey>| {
            [key.secret_access_key.expose_secret().to_owned(), key.session_token.expose_secret().to_owned()]
        };
        self.all().into_iter().flat_map(secrets).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<IssuedKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(id: &str, expires: u64) -> IssuedKey {
        IssuedKey {
            access_key_id: id.into(),
            secret_access_key: format!("secret-of-{id}").into(),
            session_token: format!("token-of-{id}").into(),
            account: "123456789012".into(),
            role_arn: "arn:aws-cn:iam::123456789012:role/team/app".into(),
            role_name: "app".into(),
            role_id: "AROAEXAMPLEEXAMPLE12".into(),
            session_name: "i-0123456789abcdef0".into(),
            source_identity: None,
            expiration: SystemTime::UNIX_EPOCH + Duration::from_secs(expires),
        }
    }

    #[test]
    fn clones_share_the_keys() {
        let ledger = Ledger::default();
        ledger.clone().insert(key("ASIA2", 20));
        ledger.insert(key("ASIA1", 10));
        assert_eq!(ledger.find("ASIA2").unwrap().user_id(), "AROAEXAMPLEEXAMPLE12:i-0123456789abcdef0");
        assert!(ledger.find("ASIA3").is_none());
        assert_eq!(ledger.all_secrets(), ["secret-of-ASIA1", "token-of-ASIA1", "secret-of-ASIA2", "token-of-ASIA2"]);
    }

    #[test]
    fn a_session_is_named_without_the_roles_path() {
        assert_eq!(
            key("ASIA1", 1).assumed_role_arn(),
            "arn:aws-cn:sts::123456789012:assumed-role/app/i-0123456789abcdef0"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let ledger = Ledger::default();
        ledger.insert(key("ASIA1", 1));
        let shown = format!("{ledger:?}");
        assert!(shown.contains("ASIA1") && !shown.contains("secret-of") && !shown.contains("token-of"), "{shown}");
    }
}
