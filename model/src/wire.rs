//! What a node agent and the issuer say to each other: `POST /v1/credentials`, JSON both ways, many pods a request.
//!
//! The request names pods and nothing else: who asks comes from the request's signature, never from here. The answer has one
//! outcome per pod, in the request's order; a session that several pods share is sent once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::arn::RoleArn;
use crate::credentials::SessionCredentials;
use crate::name::PodRef;
use crate::refusal::{Refusal, RequestRefusalCode};

/// The version of these messages. Another is refused, so that a change of meaning is never read as the old one.
pub const VERSION: u32 = 1;
/// The most pods of a request: a large EC2 node runs 250.
pub const MAX_PODS: usize = 250;
/// The longest request read, in bytes: 250 pods of the longest names come to about 125 kB.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// The longest patience that a request may have: API Gateway gives up at 29 s.
pub const MAX_PATIENCE: Duration = Duration::from_secs(25);

/// A node's question: credentials for these pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueRequest {
    /// [`VERSION`].
    pub version: u32,
    /// How long, in milliseconds after the API received the request, an answer is still useful. What is not ready then is
    /// `pending`.
    pub patience_ms: u32,
    /// Whose credentials are wanted; 1 to [`MAX_PODS`].
    pub pods: Vec<Ask>,
}

/// One pod of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The pod.
    #[serde(flatten)]
    pub pod: PodRef,
    /// How old its sandbox is, in milliseconds. An age that is wrong can harm the asking node alone: it decides only
    /// whether a missing record means "not yet".
    pub sandbox_age_ms: u64,
}

/// A request that is not of this form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadRequest {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("the request has {0} bytes; at most {MAX_REQUEST_BYTES} are read")]
    TooLong(usize),
    /// Not JSON, or not of this shape.
    #[error("the request is not understood: {0}")]
    Malformed(String),
    /// Of another version.
    #[error(
        "the request has version {0}, this issuer speaks version {VERSION}: deploy agent and issuer of one release"
    )]
    Version(u32),
    /// No pods, or too many.
    #[error("the request names {0} pods; 1 to {MAX_PODS} are answered")]
    PodCount(usize),
}

/// Why JSON was not understood. Such an error may quote what it met, so it is cut: no input floods a log or an answer.
pub(crate) fn short_reason(error: &serde_json::Error) -> String {
    const MAX_REASON: usize = 200;
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    if text.len() <= MAX_REASON {
        return text;
    }
    let cut: String = text.chars().take(MAX_REASON).collect();
    format!("{cut}… at {place}")
}

impl IssueRequest {
    /// A request for `pods` that is worth answering for `patience`.
    pub fn new(patience: Duration, pods: Vec<Ask>) -> Self {
        let patience_ms = u32::try_from(patience.min(MAX_PATIENCE).as_millis()).unwrap_or(u32::MAX);
        Self { version: VERSION, patience_ms, pods }
    }

    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if body.len() > MAX_REQUEST_BYTES {
            return Err(BadRequest::TooLong(body.len()));
        }
        let malformed = |error: serde_json::Error| BadRequest::Malformed(short_reason(&error));
        // The version first: a later version's unknown field must not read as a malformed request.
        let Versioned { version } = serde_json::from_slice(body).map_err(malformed)?;
        if version != VERSION {
            return Err(BadRequest::Version(version));
        }
        let request: Self = serde_json::from_slice(body).map_err(malformed)?;
        if request.pods.is_empty() || request.pods.len() > MAX_PODS {
            return Err(BadRequest::PodCount(request.pods.len()));
        }
        Ok(request)
    }

    /// How long the answer is useful, at most [`MAX_PATIENCE`].
    pub fn patience(&self) -> Duration {
        Duration::from_millis(u64::from(self.patience_ms)).min(MAX_PATIENCE)
    }
}

/// The issuer's answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct IssueResponse {
    /// [`VERSION`].
    pub version: u32,
    /// The sessions that the outcomes name.
    pub sessions: Vec<Session>,
    /// One per pod of the request, in its order.
    pub outcomes: Vec<Outcome>,
}

/// A session of a role, which one pod or several may have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// The role.
    pub role: RoleArn,
    /// Its credentials.
    pub credentials: SessionCredentials,
}

/// What one pod gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The session at this place in `sessions`.
    Session(usize),
    /// Nothing, and why.
    Refused(Refusal),
}

/// An answer that is not of this form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadResponse {
    /// Not JSON, or not of this shape. The text is not kept: it may hold secrets.
    #[error("the issuer's answer is not understood (line {line}, column {column})")]
    Malformed {
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
    /// Of another version.
    #[error(
        "the issuer's answer has version {0}, this agent speaks version {VERSION}: deploy agent and issuer of one release"
    )]
    Version(u32),
    /// Another number of outcomes than was asked for, or an outcome without its session.
    #[error("the issuer's answer does not fit the request")]
    DoesNotFit,
}

impl IssueResponse {
    /// Parses an answer to `request` and checks that it fits it.
    pub fn parse(body: &[u8], request: &IssueRequest) -> Result<Self, BadResponse> {
        let response: Self = serde_json::from_slice(body)
            .map_err(|error| BadResponse::Malformed { line: error.line(), column: error.column() })?;
        if response.version != VERSION {
            return Err(BadResponse::Version(response.version));
        }
        let has_session = |outcome: &Outcome| match outcome {
            Outcome::Session(place) => *place < response.sessions.len(),
            Outcome::Refused(_) => true,
        };
        if response.outcomes.len() != request.pods.len() || !response.outcomes.iter().all(has_session) {
            return Err(BadResponse::DoesNotFit);
        }
        Ok(response)
    }
}

/// The answer to a request that is refused as a whole, with status 400, 403 or 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// [`VERSION`].
    pub version: u32,
    /// The rule that refused.
    pub code: RequestRefusalCode,
    /// What to change.
    pub message: String,
    /// Anything later versions add; ignored.
    #[serde(flatten, skip_serializing)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

impl ErrorBody {
    /// A refusal of the whole request.
    pub fn new(code: RequestRefusalCode, message: impl Into<String>) -> Self {
        Self { version: VERSION, code, message: message.into(), rest: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;
    use crate::refusal::RefusalCode;
    use crate::time::UnixMillis;

    fn request() -> serde_json::Value {
        json!({"version": 1, "patience_ms": 800, "pods": [
            {"namespace": "default", "name": "web-0", "uid": "uid-1", "sandbox_age_ms": 12},
        ]})
    }

    #[test]
    fn a_request_round_trips() {
        let parsed = IssueRequest::parse(request().to_string().as_bytes()).unwrap();
        assert_eq!(parsed.patience(), Duration::from_millis(800));
        assert_eq!(serde_json::to_value(&parsed).unwrap(), request());
        assert_eq!(IssueRequest::new(Duration::from_millis(800), parsed.pods.clone()), parsed);
    }

    #[test]
    fn a_request_of_another_form_is_refused_with_its_reason() {
        let with = |key: &str, value: serde_json::Value| {
            let mut body = request();
            body[key] = value;
            IssueRequest::parse(body.to_string().as_bytes())
        };
        assert_eq!(with("version", json!(2)), Err(BadRequest::Version(2)));
        assert_eq!(with("pods", json!([])), Err(BadRequest::PodCount(0)));
        assert_eq!(with("pods", json!(vec![request()["pods"][0].clone(); 251])), Err(BadRequest::PodCount(251)));
        assert!(matches!(with("node", json!("i-1")), Err(BadRequest::Malformed(_))));
        assert!(matches!(with("pods", json!([{"namespace": "a/b"}])), Err(BadRequest::Malformed(_))));
        assert!(matches!(IssueRequest::parse(b"{"), Err(BadRequest::Malformed(_))));
        assert_eq!(IssueRequest::parse(&vec![b' '; MAX_REQUEST_BYTES + 1]), Err(BadRequest::TooLong(262_145)));
    }

    #[test]
    fn a_refusal_quotes_no_request_whole() {
        for key in ["version", &"k".repeat(100_000)] {
            let mut body = request();
            body[key] = json!("x".repeat(100_000));
            let refusal = IssueRequest::parse(body.to_string().as_bytes()).unwrap_err().to_string();
            assert!(refusal.len() < 300, "{} bytes", refusal.len());
        }
    }

    #[test]
    fn patience_is_bounded() {
        let mut body = request();
        body["patience_ms"] = json!(4_000_000_000_u32);
        assert_eq!(IssueRequest::parse(body.to_string().as_bytes()).unwrap().patience(), MAX_PATIENCE);
    }

    fn response() -> serde_json::Value {
        json!({"version": 1,
            "sessions": [{"role": "arn:aws:iam::123456789012:role/app", "credentials": {"access_key_id": "ASIA1",
                "secret_access_key": "s3cret", "session_token": "t0ken", "expiration": 1_795_475_000_000_u64}}],
            "outcomes": [{"session": 0}]})
    }

    #[test]
    fn an_answer_is_read_back_with_its_secrets() {
        let request = IssueRequest::parse(request().to_string().as_bytes()).unwrap();
        let answer = IssueResponse::parse(response().to_string().as_bytes(), &request).unwrap();
        assert_eq!(answer.outcomes, [Outcome::Session(0)]);
        assert_eq!(answer.sessions[0].credentials.secret_access_key.expose_secret(), "s3cret");
        assert_eq!(answer.sessions[0].credentials.expiration, UnixMillis(1_795_475_000_000));
        assert_eq!(serde_json::to_value(&answer).unwrap(), response());
    }

    #[test]
    fn an_answer_that_does_not_fit_is_refused_and_never_quoted() {
        let request = IssueRequest::parse(request().to_string().as_bytes()).unwrap();
        let parse = |body: serde_json::Value| IssueResponse::parse(body.to_string().as_bytes(), &request).unwrap_err();
        let mut missing = response();
        missing["sessions"] = json!([]);
        assert_eq!(parse(missing), BadResponse::DoesNotFit);
        let mut more = response();
        more["outcomes"] = json!([{"session": 0}, {"session": 0}]);
        assert_eq!(parse(more), BadResponse::DoesNotFit);
        let mut version = response();
        version["version"] = json!(9);
        assert_eq!(parse(version), BadResponse::Version(9));
        let mut broken = response();
        broken["sessions"][0]["credentials"]["expiration"] = json!("s3cret");
        assert!(!parse(broken).to_string().contains("s3cret"));
    }

    #[test]
    fn a_refusal_has_a_readable_form() {
        let refusal = Refusal::new(RefusalCode::NoRole, "why");
        let outcome = Outcome::Refused(refusal);
        assert_eq!(
            serde_json::to_value(outcome).unwrap(),
            json!({"refused": {"code": "no_role", "message": "why", "retry": "on_edit"}})
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_not_fatal(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let request = IssueRequest::parse(request().to_string().as_bytes()).unwrap();
            let _ = IssueRequest::parse(&body);
            let _ = IssueResponse::parse(&body, &request);
        }
    }
}
