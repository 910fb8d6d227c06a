//! The texts of the credential paths, as EC2 writes them: no newline at the end, times without fractions, `Success` so spelled.

use std::time::SystemTime;

use bytes::Bytes;
use model::arn::RoleArn;
use model::refusal::Refusal;
use model::time::UnixMillis;
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::credentials::Held;

/// What `iam/info` gives as the instance profile's id. A pod has no instance profile, and no client is known to read it.
const NO_PROFILE_ID: &str = "AIPAROLECALLHASNONE00";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialsDocument<'a> {
    code: &'static str,
    last_updated: String,
    #[serde(rename = "Type")]
    kind: &'static str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
}

/// The document of a role that the pod may have.
pub(super) fn credentials(held: &Held) -> Bytes {
    let credentials = &held.credentials;
    json(&CredentialsDocument {
        code: "Success",
        last_updated: time(held.obtained),
        kind: "AWS-HMAC",
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose_secret(),
        token: credentials.session_token.expose_secret(),
        expiration: time(credentials.expiration),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RefusalDocument<'a> {
    code: &'static str,
    message: &'a str,
    last_updated: String,
}

/// The document of a role that the pod may not have: SDKs print its message, and none takes it for credentials.
pub(super) fn refusal(refusal: &Refusal, now: UnixMillis) -> Bytes {
    let code = refusal.code.document_code();
    json(&RefusalDocument { code, message: &refusal.message, last_updated: time(now) })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceProfileDocument {
    code: &'static str,
    last_updated: String,
    instance_profile_arn: String,
    instance_profile_id: &'static str,
}

/// `iam/info`, with the role's name in the place of the instance profile's.
pub(super) fn instance_profile(role: &RoleArn, obtained: UnixMillis) -> Bytes {
    let (partition, account, name) = (role.partition(), role.account(), role.path_and_name());
    json(&InstanceProfileDocument {
        code: "Success",
        last_updated: time(obtained),
        instance_profile_arn: format!("arn:{partition}:iam::{account}:instance-profile/{name}"),
        instance_profile_id: NO_PROFILE_ID,
    })
}

fn json(document: &impl Serialize) -> Bytes {
    serde_json::to_vec(document).expect("texts and their names are always JSON").into()
}

/// `%Y-%m-%dT%H:%M:%SZ`, which botocore reads and nothing else.
fn time(time: UnixMillis) -> String {
    humantime::format_rfc3339_seconds(SystemTime::from(UnixMillis::from_secs(time.as_secs()))).to_string()
}

#[cfg(test)]
mod tests {
    use model::credentials::SessionCredentials;
    use model::refusal::RefusalCode;
    use proptest::prelude::*;

    use super::*;

    fn held() -> Held {
        Held {
            role: RoleArn::parse("arn:aws-cn:iam::123456789012:role/team/app").unwrap(),
            credentials: SessionCredentials {
                access_key_id: "ASIAEXAMPLE".into(),
                secret_access_key: "se\"cret".into(),
                session_token: "to/ken==".into(),
                expiration: UnixMillis(1_795_475_000_999),
            },
            obtained: UnixMillis(1_795_471_400_001),
        }
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn credentials_as_ec2_writes_them() {
        assert_eq!(
            text(&credentials(&held())),
            r#"{"Code":"Success","LastUpdated":"2026-11-23T22:03:20Z","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"se\"cret","Token":"to/ken==","Expiration":"2026-11-23T23:03:20Z"}"#
        );
    }

    #[test]
    fn a_refusal_has_a_code_and_a_message_and_no_keys() {
        let why = Refusal::new(RefusalCode::NamespaceForbidsRole, "write \"x\"");
        assert_eq!(
            text(&refusal(&why, UnixMillis(0))),
            r#"{"Code":"NamespaceForbidsRole","Message":"write \"x\"","LastUpdated":"1970-01-01T00:00:00Z"}"#
        );
    }

    #[test]
    fn info_names_the_role_as_a_profile() {
        let held = held();
        assert_eq!(
            text(&instance_profile(&held.role, held.obtained)),
            r#"{"Code":"Success","LastUpdated":"2026-11-23T22:03:20Z","InstanceProfileArn":"arn:aws-cn:iam::123456789012:instance-profile/team/app","InstanceProfileId":"AIPAROLECALLHASNONE00"}"#
        );
    }

    proptest! {
        #[test]
        fn times_never_have_fractions(millis in 0_u64..253_402_300_799_999) {
            let text = time(UnixMillis(millis));
            prop_assert_eq!(text.len(), 20);
            prop_assert!(text.ends_with('Z') && !text.contains('.'));
        }
    }
}
