//! STS's answer to AssumeRole: the key in it, and the source identity that ministack does not repeat.

use std::time::Duration;

use bytes::Bytes;
use quick_xml::escape::escape;
use secrecy::SecretString;
use serde::Deserialize;

use crate::ledger::IssuedKey;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResponse {
    assume_role_result: AssumeRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResult {
    credentials: Credentials,
    assumed_role_user: AssumedRoleUser,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    access_key_id: String,
    secret_access_key: SecretString,
    session_token: SecretString,
    expiration: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedRoleUser {
    assumed_role_id: String,
}

/// The key that STS gave for `role_arn`.
pub(super) fn read(answer: &[u8], role_arn: &str, source_identity: Option<&str>) -> Option<IssuedKey> {
    let AssumeRoleResponse { assume_role_result: result } = quick_xml::de::from_reader(answer).ok()?;
    let (role_id, session_name) = result.assumed_role_user.assumed_role_id.split_once(':')?;
    Some(IssuedKey {
        expiration: humantime::parse_rfc3339(&result.credentials.expiration).ok()?,
        access_key_id: result.credentials.access_key_id,
        secret_access_key: result.credentials.secret_access_key,
        session_token: result.credentials.session_token,
        account: role_arn.split(':').nth(4)?.to_owned(),
        role_arn: role_arn.to_owned(),
        role_name: role_arn.rsplit('/').next()?.to_owned(),
        role_id: role_id.to_owned(),
        session_name: session_name.to_owned(),
        source_identity: source_identity.map(str::to_owned),
    })
}

/// The answer with the source identity in it, as STS repeats it.
pub(super) fn with_source_identity(answer: Bytes, source_identity: &str) -> Bytes {
    const END: &str = "</AssumeRoleResult>";
    match std::str::from_utf8(&answer) {
        Ok(text) if !text.contains("<SourceIdentity>") => {
            let element = format!("<SourceIdentity>{}</SourceIdentity>{END}", escape(source_identity));
            text.replacen(END, &element, 1).into()
        }
        _ => answer,
    }
}

/// The answer with a session that ends so much sooner.
pub(super) fn shortened(answer: Bytes, by: Duration) -> Bytes {
    const BEGIN: &str = "<Expiration>";
    let shorter = |text: &str| {
        let (before, rest) = text.split_once(BEGIN)?;
        let (expiration, after) = rest.split_once('<')?;
        let expiration = humantime::parse_rfc3339(expiration).ok()?.checked_sub(by)?;
        Some(format!("{before}{BEGIN}{}<{after}", humantime::format_rfc3339_seconds(expiration)))
    };
    std::str::from_utf8(&answer).ok().and_then(shorter).map_or(answer, Into::into)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse {
    error: ErrorElement,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorElement {
    code: String,
    message: String,
}

/// `CODE: MESSAGE` of an error document.
pub(super) fn error_text(answer: &[u8]) -> Option<String> {
    let ErrorResponse { error } = quick_xml::de::from_reader(answer).ok()?;
    Some(format!("{}: {}", error.code, error.message))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const ANSWER: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
        <Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>sec/ret+1</SecretAccessKey>\
        <SessionToken>tok&amp;en==</SessionToken><Expiration>2026-11-24T07:00:00Z</Expiration></Credentials>\
        <AssumedRoleUser><AssumedRoleId>AROAEXAMPLEEXAMPLE12:web-0</AssumedRoleId>\
        <Arn>arn:aws:sts::123456789012:assumed-role/app/web-0</Arn></AssumedRoleUser></AssumeRoleResult>\
        </AssumeRoleResponse>";

    #[test]
    fn the_key_is_read() {
        let key = read(ANSWER.as_bytes(), "arn:aws:iam::123456789012:role/team/app", Some("web")).unwrap();
        assert_eq!(key.user_id(), "AROAEXAMPLEEXAMPLE12:web-0");
        assert_eq!(key.assumed_role_arn(), "arn:aws:sts::123456789012:assumed-role/app/web-0");
        assert_eq!(key.secret_access_key.expose_secret(), "sec/ret+1");
        assert_eq!(key.session_token.expose_secret(), "tok&en==");
        assert_eq!(humantime::format_rfc3339_seconds(key.expiration).to_string(), "2026-11-24T07:00:00Z");
        assert_eq!(key.source_identity.as_deref(), Some("web"));
    }

    #[test]
    fn a_session_ends_sooner() {
        let shorter = shortened(Bytes::from_static(ANSWER.as_bytes()), Duration::from_secs(90));
        assert_eq!(shorter, ANSWER.replace("07:00:00Z", "06:58:30Z"));
        assert_eq!(
            shortened(Bytes::from_static(b"<Expiration>soon</Expiration>"), Duration::from_secs(90)),
            "<Expiration>soon</Expiration>"
        );
    }

    #[test]
    fn the_source_identity_is_repeated_once() {
        let once = with_source_identity(Bytes::from_static(ANSWER.as_bytes()), "web.prod");
        assert!(
            std::str::from_utf8(&once)
                .unwrap()
                .contains("<SourceIdentity>web.prod</SourceIdentity></AssumeRoleResult>")
        );
        assert_eq!(with_source_identity(once.clone(), "web.prod"), once);
    }

    #[test]
    fn an_error_document_is_put_in_one_line() {
        let document =
            b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>\
            <RequestId>1</RequestId></ErrorResponse>";
        assert_eq!(error_text(document).as_deref(), Some("AccessDenied: no"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes: Vec<u8>) {
            let _ = read(&bytes, "arn:aws:iam::123456789012:role/app", None);
            let _ = error_text(&bytes);
            let _ = super::super::role::Role::read(&bytes);
        }
    }
}
