//! Session tokens of IMDSv2: an expiry and the sandbox they were given to, under the node's key. Nothing is kept per token, so
//! they survive restarts and a flood of them costs nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use model::time::UnixMillis;
use ring::hmac;

use crate::identity::SandboxId;

/// Carries the lifetime, in the question for a token and in its answer.
pub(super) const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// Carries the token.
pub(super) const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// Six hours: EC2's longest lifetime.
const MAX_TTL_SECS: u32 = 21_600;
/// The first byte of a token. Another form gets another byte.
const FORM: u8 = 1;
const EXPIRY_BYTES: usize = 8;
const MAC_BYTES: usize = 32;
const TOKEN_BYTES: usize = 1 + EXPIRY_BYTES + MAC_BYTES;
/// The length of a token's text. Anything else is refused before any cryptography.
const TOKEN_CHARS: usize = (TOKEN_BYTES * 4).div_ceil(3);

/// The lifetime that a client asks for: 1 to 21,600 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ttl(u32);

impl Ttl {
    /// Reads the header. `None` when it is missing, is there twice or is no whole number in range.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TTL_HEADER).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let text = value.to_str().ok()?.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let secs = text.parse().ok().filter(|secs| is_number && (1..=MAX_TTL_SECS).contains(secs))?;
        Some(Self(secs))
    }

    /// In seconds, as the answer echoes it.
    pub(super) fn as_secs(self) -> u32 {
        self.0
    }
}

/// Makes and verifies tokens.
pub struct Tokens(hmac::Key);

/// The length of the node's key, in bytes.
pub const KEY_BYTES: usize = 32;

impl Tokens {
    /// With the node's key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A token for `sandbox`.
    pub(super) fn issue(&self, sandbox: &SandboxId, ttl: Ttl, now: UnixMillis) -> String {
        let expiry = now.plus(Duration::from_secs(ttl.0.into())).0.to_be_bytes();
        let mac = hmac::sign(&self.0, &signed(expiry, sandbox));
        URL_SAFE_NO_PAD.encode([&[FORM], expiry.as_slice(), mac.as_ref()].concat())
    }

    /// Whether `token` was given to `sandbox` and has not expired.
    pub(super) fn verify(&self, token: &[u8], sandbox: &SandboxId, now: UnixMillis) -> bool {
        if token.len() != TOKEN_CHARS {
            return false;
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let Some((form, rest)) = bytes.split_first() else { return false };
        let Some((expiry, mac)) = rest.split_first_chunk::<EXPIRY_BYTES>() else { return false };
        *form == FORM
            && hmac::verify(&self.0, &signed(*expiry, sandbox), mac).is_ok()
            && UnixMillis(u64::from_be_bytes(*expiry)) > now
    }
}

/// What the code covers. The expiry has a fixed length, so no two pairs have one text.
fn signed(expiry: [u8; EXPIRY_BYTES], sandbox: &SandboxId) -> Vec<u8> {
    [b"rolecall imds token 1\0".as_slice(), &expiry, sandbox.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_475_000_000);

    fn tokens() -> Tokens {
        Tokens::new(&[7; KEY_BYTES])
    }

    fn sandbox(text: &str) -> SandboxId {
        SandboxId::parse(text).unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_sandbox_until_it_expires() {
        let (a, b) = (sandbox("a"), sandbox("b"));
        let token = tokens().issue(&a, Ttl(60), NOW);
        assert_eq!(token.len(), TOKEN_CHARS);
        let verify = |id, secs| tokens().verify(token.as_bytes(), id, NOW.plus(Duration::from_secs(secs)));
        assert!(verify(&a, 0));
        assert!(verify(&a, 59));
        assert!(!verify(&a, 60));
        assert!(!verify(&b, 0));
        assert!(!Tokens::new(&[8; KEY_BYTES]).verify(token.as_bytes(), &a, NOW));
    }

    #[test]
    fn a_ttl_is_a_whole_number_in_range() {
        for (value, ttl) in [
            ("1", Some(1)),
            ("21600", Some(21_600)),
            (" 60 ", Some(60)),
            ("007", Some(7)),
            ("0", None),
            ("21601", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("60s", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            let headers = HeaderMap::from_iter([(TTL_HEADER.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(Ttl::from_headers(&headers).map(Ttl::as_secs), ttl, "{value:?}");
        }
        let mut twice = HeaderMap::new();
        assert_eq!(Ttl::from_headers(&twice), None);
        twice.append(TTL_HEADER, "60".parse().unwrap());
        twice.append(TTL_HEADER, "60".parse().unwrap());
        assert_eq!(Ttl::from_headers(&twice), None);
    }

    proptest! {
        #[test]
        fn no_bytes_verify(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!tokens().verify(&bytes, &sandbox("a"), NOW));
        }

        #[test]
        fn nothing_of_the_right_form_verifies(body in prop::array::uniform32(any::<u8>()), expiry: u64) {
            let text = URL_SAFE_NO_PAD.encode([&[FORM], expiry.to_be_bytes().as_slice(), &body].concat());
            prop_assert!(!tokens().verify(text.as_bytes(), &sandbox("a"), NOW));
        }

        #[test]
        fn a_changed_token_does_not_verify(place in 0..TOKEN_CHARS, to in "[A-Za-z0-9_-]") {
            let mut token = tokens().issue(&sandbox("a"), Ttl(60), NOW).into_bytes();
            prop_assume!(token[place] != to.as_bytes()[0]);
            token[place] = to.as_bytes()[0];
            prop_assert!(!tokens().verify(&token, &sandbox("a"), NOW));
        }
    }
}
