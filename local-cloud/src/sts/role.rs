//! What IAM knows of a role, for what STS judges and ministack does not.

use serde::Deserialize;
use serde_json::Value;

use crate::ledger::IssuedKey;

/// A role.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Role {
    /// With its path.
    pub(super) arn: String,
    /// The longest session, in seconds.
    pub(super) longest: u32,
    trust: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetRoleResponse {
    get_role_result: GetRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetRoleResult {
    role: RoleElement,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleElement {
    arn: String,
    assume_role_policy_document: String,
    max_session_duration: u32,
}

impl Role {
    /// Reads IAM's answer to `GetRole`.
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        let answer: GetRoleResponse = quick_xml::de::from_reader(answer).ok()?;
        let role = answer.get_role_result.role;
        let policy = percent_encoding::percent_decode_str(&role.assume_role_policy_document).decode_utf8().ok()?;
        Some(Self { arn: role.arn, longest: role.max_session_duration, trust: serde_json::from_str(&policy).ok()? })
    }

    /// Whether the trust policy lets `caller` set a source identity; a caller that is no known session is judged by the
    /// action alone. Conditions are not evaluated, neither to allow nor to deny: ministack has evaluated those of
    /// AssumeRole, which policies write in the same statement.
    pub(super) fn permits_source_identity(&self, caller: Option<&IssuedKey>) -> bool {
        let statements = list(self.trust.get("Statement"));
        let applying = statements.into_iter().filter(|statement| {
            list(statement.get("Action")).iter().filter_map(|a| a.as_str()).any(covers_set_source_identity)
                && caller.is_none_or(|caller| names(statement.get("Principal"), caller))
        });
        let mut allowed = false;
        for statement in applying {
            match statement.get("Effect").and_then(Value::as_str) {
                Some("Allow") => allowed = true,
                Some("Deny") if statement.get("Condition").is_none() => return false,
                _ => {}
            }
        }
        allowed
    }
}

/// IAM lets one element stand for a list of one.
fn list(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    }
}

fn covers_set_source_identity(action: &str) -> bool {
    glob(action.to_ascii_lowercase().as_bytes(), b"sts:setsourceidentity")
}

/// `*` and `?`, in time proportional to both lengths multiplied.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut reachable = vec![false; text.len() + 1];
    if let Some(first) = reachable.first_mut() {
        *first = true;
    }
    for &wanted in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reachable.get(at).copied().unwrap_or_default();
            let stepped = at.checked_sub(1).is_some_and(|last| {
                reachable.get(last) == Some(&true) && (wanted == b'?' || text.get(last) == Some(&wanted))
            });
            *slot = if wanted == b'*' { before || here } else { stepped };
            before = *slot;
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or_default()
}

fn names(principal: Option<&Value>, caller: &IssuedKey) -> bool {
    let aws = match principal {
        Some(Value::String(all)) => return all == "*",
        Some(Value::Object(kinds)) => list(kinds.get("AWS")),
        _ => return false,
    };
    let partition = caller.role_arn.split(':').nth(1).unwrap_or("aws");
    let root = format!("arn:{partition}:iam::{}:root", caller.account);
    let session = caller.assumed_role_arn();
    aws.iter()
        .filter_map(|name| name.as_str())
        .any(|name| ["*", &caller.account, &root, &caller.role_arn, &session].contains(&name))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;

    fn caller() -> IssuedKey {
        IssuedKey {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: "s".into(),
            session_token: "t".into(),
            account: "123456789012".into(),
            role_arn: "arn:aws:iam::123456789012:role/issuer".into(),
            role_name: "issuer".into(),
            role_id: "AROAEXAMPLEEXAMPLE12".into(),
            session_name: "rolecall-issuer".into(),
            source_identity: None,
            expiration: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn iams_answer_is_read() {
        let answer = br#"<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role>
            <RoleName>app</RoleName><Path>/</Path><Arn>arn:aws:iam::123456789012:role/app</Arn>
            <AssumeRolePolicyDocument>%7B%22Statement%22%3A%5B%5D%7D</AssumeRolePolicyDocument>
            <MaxSessionDuration>7200</MaxSessionDuration></Role></GetRoleResult></GetRoleResponse>"#;
        let expected =
            Role { arn: "arn:aws:iam::123456789012:role/app".into(), longest: 7200, trust: json!({ "Statement": [] }) };
        assert_eq!(Role::read(answer), Some(expected));
        assert_eq!(Role::read(b"<html>"), None);
    }

    #[test]
    fn a_source_identity_needs_its_own_action() {
        let by = |action: Value, principal: Value| {
            let trust = json!({"Statement": {"Effect": "Allow", "Action": action, "Principal": principal}});
            Role { arn: String::new(), longest: 3600, trust }.permits_source_identity(Some(&caller()))
        };
        let issuer = json!({"AWS": "arn:aws:iam::123456789012:role/issuer"});
        assert!(by(json!(["sts:AssumeRole", "sts:SetSourceIdentity"]), issuer.clone()));
        assert!(by(json!("sts:*"), json!({"AWS": ["arn:aws:iam::123456789012:root"]})));
        assert!(by(json!("sts:Set*ty"), json!("*")));
        assert!(!by(json!("sts:AssumeRole"), issuer.clone()));
        assert!(!by(json!("sts:SetSource"), issuer));
        assert!(!by(json!("sts:*"), json!({"AWS": "arn:aws:iam::123456789012:role/other"})));
        assert!(!by(json!("sts:*"), json!({"Service": "lambda.amazonaws.com"})));
    }

    #[test]
    fn a_denial_wins() {
        let trust = json!({"Statement": [
            {"Effect": "Allow", "Action": "sts:*", "Principal": "*"},
            {"Effect": "Deny", "Action": "sts:SetSourceIdentity", "Principal": {"AWS": "*"}},
        ]});
        let role = Role { arn: String::new(), longest: 3600, trust };
        assert!(!role.permits_source_identity(Some(&caller())));
    }
}
