//! A sealed session of the shared cache. Lines: how the sealed text is altered (`PLACE:XOR` changes a byte, `<N` cuts, `>TEXT`
//! appends, all else leaves it), the key that opens it (a number), the role and external id under which it is looked for, then
//! the session's access key, secret and token.

use std::sync::LazyLock;

use lambda_issuer::{SealError, SealingKey};
use model::arn::RoleArn;
use model::credentials::SessionCredentials;
use model::session::{CacheKey, SESSION_DURATION, SessionSpec};
use model::time::UnixMillis;
use secrecy::ExposeSecret;

use crate::text::{line, text};

static KEY: LazyLock<SealingKey> = LazyLock::new(|| SealingKey::new(&[7; 32]).expect("32 bytes"));

pub(super) fn run(input: &[u8]) {
    let home = cache_key("app", None).expect("a role's name");
    // Nothing was sealed here, so nothing opens.
    assert_eq!(KEY.open(input, &home).err(), Some(SealError::Sealed));
    let Some(mut rest) = text(input) else { return };
    let alteration = line(&mut rest).unwrap_or_default();
    let other_key: Option<u8> = line(&mut rest).and_then(|number| number.parse().ok()).filter(|byte| *byte != 7);
    let place = cache_key(line(&mut rest).unwrap_or_default(), line(&mut rest)).unwrap_or_else(|| home.clone());
    let mut field = || line(&mut rest).unwrap_or_default().to_owned();
    let session = SessionCredentials {
        access_key_id: field(),
        secret_access_key: field().into(),
        session_token: field().into(),
        expiration: UnixMillis(input.len() as u64),
    };
    let sealed = KEY.seal(&session, &home).expect("a session is sealed");
    let altered = alter(&sealed, alteration);
    let opener = other_key.map(|byte| SealingKey::new(&[byte; 32]).expect("32 bytes"));
    match opener.as_ref().unwrap_or(&KEY).open(&altered, &place) {
        Ok(opened) => {
            assert!(altered == sealed && place == home && opener.is_none(), "what was sealed otherwise opens");
            assert_eq!(exposed(&opened), exposed(&session));
        }
        Err(error) => {
            assert_eq!(error, SealError::Sealed);
            assert!(altered != sealed || place != home || opener.is_some(), "what was sealed does not open");
        }
    }
}

fn cache_key(role: &str, external_id: Option<&str>) -> Option<CacheKey> {
    let spec = SessionSpec {
        role: RoleArn::parse(&format!("arn:aws:iam::123456789012:role/{role}")).ok()?,
        session_name: "rolecall-prod".into(),
        source_identity: None,
        external_id: external_id.filter(|id| !id.is_empty()).map(str::to_owned),
        tags: Vec::new(),
        duration: SESSION_DURATION,
    };
    Some(spec.cache_key())
}

fn alter(sealed: &[u8], how: &str) -> Vec<u8> {
    let mut altered = sealed.to_vec();
    if let Some(text) = how.strip_prefix('>') {
        altered.extend_from_slice(text.as_bytes());
    } else if let Some(count) = how.strip_prefix('<').and_then(|count| count.parse().ok()) {
        altered.truncate(count);
    } else if let Some((place, xor)) = how.split_once(':')
        && let (Ok(place), Ok(xor)) = (place.parse::<usize>(), xor.parse::<u8>())
        && let Some(byte) = altered.get_mut(place)
    {
        *byte ^= xor;
    }
    altered
}

fn exposed(session: &SessionCredentials) -> (&str, &str, &str, UnixMillis) {
    let (secret, token) = (&session.secret_access_key, &session.session_token);
    (&session.access_key_id, secret.expose_secret(), token.expose_secret(), session.expiration)
}
