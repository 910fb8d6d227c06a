//! Whether an answer is the right one.

use std::time::SystemTime;

use serde::Deserialize;

use crate::client::Timed;

/// What a pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The name of its role.
    List,
    /// Its role's credentials.
    Document,
}

impl Asked {
    /// The one that is asked for next.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::List => Self::Document,
            Self::Document => Self::List,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The right answer; for a document with its access key id, which [`super::Issued`] has still to know.
    Right(Option<String>),
    /// No answer, or one that SDKs ask again after.
    Failed(String),
    /// An answer that must never be given to this pod.
    Wrong(String),
}

/// EC2's document. Anything else in its place is malformed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    code: String,
    r#type: String,
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

/// Judges an answer to a pod that has `role`. A 404 is wrong, since SDKs take it for "no role here" and go on to other
/// credentials.
pub(super) fn judge(asked: Asked, role: &str, timed: &Timed, now: SystemTime) -> Verdict {
    match (&timed.answer, asked) {
        (Ok((200, body)), Asked::List) if body == role => Verdict::Right(None),
        (Ok((200, body)), Asked::List) => Verdict::Wrong(format!("the list names {:?}", cut(body))),
        (Ok((200, body)), Asked::Document) => document(body, now),
        (Ok((404, body)), _) => Verdict::Wrong(format!("404 {}", cut(body))),
        (Ok((status, body)), _) => Verdict::Failed(format!("{status} {}", cut(body))),
        (Err(why), _) => Verdict::Failed(why.clone()),
    }
}

fn document(body: &str, now: SystemTime) -> Verdict {
    // Never shown: it holds secrets where it is credentials.
    let Ok(document) = serde_json::from_str::<Document>(body) else {
        return Verdict::Wrong("the document is no credentials".to_owned());
    };
    let Document { code, r#type: kind, access_key_id, secret_access_key, token, expiration } = document;
    if code != "Success"
        || kind != "AWS-HMAC"
        || [&access_key_id, &secret_access_key, &token].iter().any(|t| t.is_empty())
    {
        return Verdict::Wrong(format!("a document of code {code:?} and type {kind:?}"));
    }
    match humantime::parse_rfc3339(&expiration) {
        Ok(end) if expiration.len() == "2026-01-01T00:00:00Z".len() && end > now => Verdict::Right(Some(access_key_id)),
        Ok(_) => Verdict::Wrong(format!("keys that end at {expiration}")),
        Err(_) => Verdict::Wrong(format!("keys that end at {:?}", cut(&expiration))),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    const ROLE: &str = "app";

    fn judged(asked: Asked, answer: Result<(u16, &str), &str>) -> Verdict {
        let answer = answer.map(|(status, body)| (status, body.to_owned())).map_err(str::to_owned);
        let timed = Timed { answer, took: Duration::ZERO };
        judge(asked, ROLE, &timed, humantime::parse_rfc3339("2026-11-24T06:00:00Z").unwrap())
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Verdict {
        let mut document = json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIA1", "SecretAccessKey": "s", "Token": "t",
            "LastUpdated": "2026-11-24T05:00:00Z", "Expiration": "2026-11-24T06:00:01Z"
        });
        change(&mut document);
        judged(Asked::Document, Ok((200, &document.to_string())))
    }

    #[test]
    fn right_is_the_pods_own_role_and_keys_that_are_valid() {
        assert_eq!(judged(Asked::List, Ok((200, ROLE))), Verdict::Right(None));
        assert_eq!(changed(|_| {}), Verdict::Right(Some("ASIA1".into())));
    }

    #[test]
    fn wrong_is_what_a_pod_must_never_get() {
        for list in ["other", "", "app\n", "rolecall-node"] {
            assert!(matches!(judged(Asked::List, Ok((200, list))), Verdict::Wrong(_)), "{list:?}");
        }
        for asked in [Asked::List, Asked::Document] {
            assert_eq!(judged(asked, Ok((404, "rolecall: no_role"))), Verdict::Wrong("404 rolecall: no_role".into()));
        }
        assert!(matches!(judged(Asked::Document, Ok((200, "{"))), Verdict::Wrong(_)));
        for (field, value) in [
            ("Code", "NamespaceForbidsRole"),
            ("Type", "other"),
            ("AccessKeyId", ""),
            ("SecretAccessKey", ""),
            ("Token", ""),
            ("Expiration", "2026-11-24T06:00:00Z"),
            ("Expiration", "2026-11-24T07:00:00.000Z"),
            ("Expiration", "soon"),
        ] {
            assert!(
                matches!(changed(|document| document[field] = value.into()), Verdict::Wrong(_)),
                "{field} {value:?}"
            );
        }
    }

    #[test]
    fn failed_is_what_sdks_ask_again_after() {
        for answer in [Ok((503, "rolecall: not_ready")), Ok((401, "rolecall: bad_token")), Err("refused")] {
            assert!(matches!(judged(Asked::List, answer), Verdict::Failed(_)), "{answer:?}");
            assert!(matches!(judged(Asked::Document, answer), Verdict::Failed(_)), "{answer:?}");
        }
    }
}
