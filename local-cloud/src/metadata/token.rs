//! Session tokens: an expiry under a key that one instance's service makes at start, so that nothing is kept and no
//! instance takes another's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use ring::hmac;
use ring::rand::SystemRandom;

/// EC2's bounds of a token's life, in seconds.
const LIFETIME: std::ops::RangeInclusive<u64> = 1..=21600;

const EXPIRY_BYTES: usize = 8;

/// Makes and checks one instance's tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self { key: key.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))? })
    }

    /// The life that a TTL header asks for; none where EC2 answers 400.
    pub(super) fn lifetime(header: Option<&str>) -> Option<Duration> {
        let text = header?.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let seconds = digits.then(|| text.parse().ok()).flatten()?;
        LIFETIME.contains(&seconds).then(|| Duration::from_secs(seconds))
    }

    /// A token that ends after `lifetime`.
    pub(super) fn issue(&self, now: SystemTime, lifetime: Duration) -> String {
        let expiry = seconds(now).saturating_add(lifetime.as_secs()).to_be_bytes();
        let tag = hmac::sign(&self.key, &expiry);
        URL_SAFE.encode([expiry.as_slice(), tag.as_ref()].concat())
    }

    /// What is left of a token's life; none for one that is not ours or has ended.
    pub(super) fn left(&self, token: &str, now: SystemTime) -> Option<Duration> {
        let bytes = URL_SAFE.decode(token).ok()?;
        let (expiry, tag) = bytes.split_at_checked(EXPIRY_BYTES)?;
        hmac::verify(&self.key, expiry, tag).ok()?;
        let left = u64::from_be_bytes(expiry.try_into().ok()?).checked_sub(seconds(now))?;
        (left > 0).then(|| Duration::from_secs(left))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_its_time_and_belongs_to_one_instance() {
        let (ours, theirs) = (Tokens::new().unwrap(), Tokens::new().unwrap());
        let now = UNIX_EPOCH + Duration::from_secs(1_795_500_000);
        let token = ours.issue(now, Duration::from_secs(10));
        assert_eq!(token.len(), 56, "as long as EC2's");
        assert_eq!(ours.left(&token, now + Duration::from_secs(9)), Some(Duration::from_secs(1)));
        assert_eq!(ours.left(&token, now + Duration::from_secs(10)), None);
        assert_eq!(theirs.left(&token, now), None);
        assert_eq!(ours.left("", now), None);
    }

    #[test]
    fn lifetimes_are_ec2s() {
        for (header, seconds) in [
            (Some("1"), Some(1)),
            (Some("21600"), Some(21600)),
            (Some("0"), None),
            (Some("21601"), None),
            (Some("+5"), None),
            (Some("x"), None),
            (Some(""), None),
            (None, None),
        ] {
            assert_eq!(Tokens::lifetime(header), seconds.map(Duration::from_secs), "{header:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_other_text_is_a_token(text in ".{0,80}") {
            proptest::prop_assert_eq!(Tokens::new().unwrap().left(&text, UNIX_EPOCH), None);
        }
    }
}
