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
pub(crate) struct SealingKey(LessSafeKey);

/// A sealed text that does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum SealError {
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
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, SealError> {
        UnboundKey::new(&AES_256_GCM, bytes).map(|key| Self(LessSafeKey::new(key))).map_err(|_| SealError::Key)
    }

    /// Seals a session for its key. Nonces are random: one data key seals for a day or a little more, which is far from the
    /// 2^32 texts that would be too many.
    pub(crate) fn seal(&self, session: &SessionCredentials, key: &CacheKey) -> Result<Vec<u8>, SealError> {
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
    pub(crate) fn open(&self, sealed: &[u8], key: &CacheKey) -> Result<SessionCredentials, SealError> {
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
