//! Sessions as they lie in the shared cache: AES-256-GCM with the cache key as associated data, so that a text moved to
//! another item, or changed in any byte, does not open. When the session expires is inside.

use model::credentials::SessionCredentials;
use model::session::CacheKey;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

/// The form of a sealed text: version, nonce, ciphertext with tag. The version is authenticated too.
const VERSION: u8 = 1;
/// Room for a session's JSON, so that growing it leaves no copies behind.
const TEXT_CAPACITY: usize = 4096;

/// A data key: AES-256. It has no `Debug`.
pub struct SealingKey(LessSafeKey);

/// A sealed text that does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The data key has not 32 bytes.
    #[error("the data key is no AES-256 key")]
    Key,
    /// The system gave no random bytes.
    #[error("no random nonce could be made")]
    Random,
    /// Of another version, altered, or sealed for another session or with another key.
    #[error("the sealed session does not open")]
    Sealed,
    /// It opened, and is no session.
    #[error("the opened text is no session")]
    Text,
}

impl SealingKey {
    /// A key of 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, SealError> {
        UnboundKey::new(&AES_256_GCM, bytes).map(|key| Self(LessSafeKey::new(key))).map_err(|_| SealError::Key)
    }

    /// Seals a session for its key. Nonces are random: one data key seals for a day or a little more, which is far from the
    /// 2^32 texts that would be too many.
    pub fn seal(&self, session: &SessionCredentials, key: &CacheKey) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut text = Zeroizing::new(Vec::with_capacity(TEXT_CAPACITY));
        serde_json::to_writer(&mut *text, session).map_err(|_| SealError::Text)?;
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated(key)),
            text.as_mut_slice(),
        );
        let tag = tag.map_err(|_| SealError::Sealed)?;
        Ok([&[VERSION][..], &nonce, &text, tag.as_ref()].concat())
    }

    /// Opens what was sealed for `key`.
    pub fn open(&self, sealed: &[u8], key: &CacheKey) -> Result<SessionCredentials, SealError> {
        let (&version, rest) = sealed.split_first().ok_or(SealError::Sealed)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Sealed)?;
        if version != VERSION {
            return Err(SealError::Sealed);
        }
        let mut text = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(associated(key)), text.as_mut_slice());
        serde_json::from_slice(opened.map_err(|_| SealError::Sealed)?).map_err(|_| SealError::Text)
    }
}

fn associated(key: &CacheKey) -> Vec<u8> {
    [&[VERSION][..], key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use model::arn::RoleArn;
    use model::session::{SESSION_DURATION, SessionSpec};
    use model::time::UnixMillis;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn session() -> SessionCredentials {
        SessionCredentials {
            access_key_id: "ASIA1".into(),
            secret_access_key: "the-secret".into(),
            session_token: "the-token".into(),
            expiration: UnixMillis(1_795_475_000_000),
        }
    }

    fn cache_key(role: &str) -> CacheKey {
        let spec = SessionSpec {
            role: RoleArn::parse(&format!("arn:aws:iam::123456789012:role/{role}")).unwrap(),
            session_name: "rolecall-prod".into(),
            source_identity: None,
            external_id: None,
            tags: Vec::new(),
            duration: SESSION_DURATION,
        };
        spec.cache_key()
    }

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&[byte; 32]).unwrap()
    }

    #[test]
    fn what_was_sealed_opens() {
        let sealed = key(1).seal(&session(), &cache_key("a")).unwrap();
        let opened = key(1).open(&sealed, &cache_key("a")).unwrap();
        assert_eq!(opened.access_key_id, "ASIA1");
        assert_eq!(opened.secret_access_key.expose_secret(), "the-secret");
        assert_eq!(opened.session_token.expose_secret(), "the-token");
        assert_eq!(opened.expiration, session().expiration);
        assert_ne!(sealed, key(1).seal(&session(), &cache_key("a")).unwrap(), "a nonce is used once");
    }

    #[test]
    fn another_key_or_another_session_does_not_open_it() {
        let sealed = key(1).seal(&session(), &cache_key("a")).unwrap();
        assert_eq!(key(2).open(&sealed, &cache_key("a")).unwrap_err(), SealError::Sealed);
        assert_eq!(key(1).open(&sealed, &cache_key("b")).unwrap_err(), SealError::Sealed);
    }

    #[test]
    fn a_data_key_has_32_bytes() {
        for length in [0, 16, 31, 33] {
            assert_eq!(SealingKey::new(&vec![0; length]).err(), Some(SealError::Key));
        }
    }

    proptest! {
        #[test]
        fn no_changed_byte_opens(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut sealed = key(1).seal(&session(), &cache_key("a")).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= flip;
            prop_assert_eq!(key(1).open(&sealed, &cache_key("a")).unwrap_err(), SealError::Sealed);
        }

        #[test]
        fn no_cut_text_opens(at in any::<prop::sample::Index>()) {
            let sealed = key(1).seal(&session(), &cache_key("a")).unwrap();
            let cut = &sealed[..at.index(sealed.len())];
            prop_assert_eq!(key(1).open(cut, &cache_key("a")).unwrap_err(), SealError::Sealed);
        }

        #[test]
        fn arbitrary_bytes_do_not_open(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(key(1).open(&bytes, &cache_key("a")).unwrap_err(), SealError::Sealed);
        }
    }
}
