//! Session credentials. Their secrets are wiped when dropped, print as a placeholder, and are written out only by the two
//! forms that must carry them: the issuer's answer ([`crate::wire`]) and the sealed cache.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::time::UnixMillis;

/// What STS gave for a role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionCredentials {
    /// Names the session in audit logs; no secret.
    pub access_key_id: String,
    /// Signs requests.
    #[serde(serialize_with = "expose")]
    pub secret_access_key: SecretString,
    /// Goes with every request.
    #[serde(serialize_with = "expose")]
    pub session_token: SecretString,
    /// When STS ceases to accept them.
    pub expiration: UnixMillis,
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SessionCredentials {
        SessionCredentials {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: "the-secret-key".into(),
            session_token: "the-session-token".into(),
            expiration: UnixMillis::from_secs(1_795_475_000),
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:#?}", sample(), sample());
        assert!(shown.contains("ASIAEXAMPLE"));
        assert!(!shown.contains("the-secret-key") && !shown.contains("the-session-token"), "{shown}");
    }

    #[test]
    fn the_wire_form_carries_them() {
        let text = serde_json::to_string(&sample()).unwrap();
        let back: SessionCredentials = serde_json::from_str(&text).unwrap();
        assert_eq!(back.secret_access_key.expose_secret(), "the-secret-key");
        assert_eq!(back.session_token.expose_secret(), "the-session-token");
        assert_eq!(back.expiration, sample().expiration);
    }
}
