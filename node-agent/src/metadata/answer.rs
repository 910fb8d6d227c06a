//! The one place where outcomes become HTTP: status, text, and the code that the access line and the metrics name.

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, SERVER};
use http::{Response, StatusCode};
use http_body_util::Full;
use model::refusal::{Refusal, RefusalCode};
use model::time::UnixMillis;

use super::document;
use super::path::RequestedRole;
use super::token::{TTL_HEADER, Ttl};
use crate::credentials::{Fault, Found, Held};
use crate::identity::WhoError;
use crate::node::{MetadataAnswer, NodeError};

/// Listed for a refused pod where the role's name would tell of another pod, or is no name.
const REFUSED_ROLE: &str = "rolecall-refused";

/// An answer, and why it is that one.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// A word from a closed set: `ok`, a refusal's code, or the rule that refused.
    pub(super) code: &'static str,
    body: Bytes,
    content_type: Option<HeaderValue>,
    extra: Option<(&'static str, HeaderValue)>,
    /// Whether the connection ends with it.
    closes: bool,
}

impl fmt::Debug for Answer {
    /// Without the body: it may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("code", &self.code).finish_non_exhaustive()
    }
}

impl Answer {
    fn new(status: StatusCode, code: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, code, body: body.into(), content_type: None, extra: None, closes: false }
    }

    fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, "ok", body)
    }

    fn refuse(status: StatusCode, code: &'static str) -> Self {
        Self::new(status, code, format!("rolecall: {code}"))
    }

    /// No such path, or none that pods may read: SDKs that probe for newer paths fall back on 404 alone.
    pub(super) fn not_found() -> Self {
        Self::refuse(StatusCode::NOT_FOUND, "not_found")
    }

    /// A method that the path does not have.
    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let mut answer = Self::refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
        answer.extra = Some((ALLOW.as_str(), HeaderValue::from_static(allowed)));
        answer
    }

    /// A `Host` that is not the metadata service's.
    pub(super) fn foreign_host() -> Self {
        Self::refuse(StatusCode::FORBIDDEN, "foreign_host").closing()
    }

    /// A body longer than any client of the metadata service sends.
    pub(super) fn body_too_large() -> Self {
        Self::refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").closing()
    }

    /// A token asked for through a proxy.
    pub(super) fn forwarded() -> Self {
        Self::refuse(StatusCode::FORBIDDEN, "forwarded")
    }

    /// A token asked for at a dated version.
    pub(super) fn dated_token() -> Self {
        Self::refuse(StatusCode::FORBIDDEN, "dated_token")
    }

    /// The one 400 there is: SDKs take it as final.
    pub(super) fn bad_ttl() -> Self {
        Self::refuse(StatusCode::BAD_REQUEST, "bad_ttl")
    }

    /// A wrong, expired or foreign token.
    pub(super) fn bad_token() -> Self {
        Self::refuse(StatusCode::UNAUTHORIZED, "bad_token")
    }

    /// No token where one is required.
    pub(super) fn no_token() -> Self {
        Self::refuse(StatusCode::UNAUTHORIZED, "no_token")
    }

    /// A token, with its lifetime: one SDK fails without the echo.
    pub(super) fn token(token: String, ttl: Ttl) -> Self {
        Self { extra: Some((TTL_HEADER, ttl.as_secs().into())), ..Self::ok(token) }
    }

    /// Nobody whom we know asks, or it cannot be told who. The sentence is for the operator's log, not for the peer.
    pub(super) fn unidentified(error: &WhoError) -> Self {
        match error {
            WhoError::Unknown { .. } => Self::refuse(StatusCode::FORBIDDEN, "unknown_peer"),
            WhoError::NotRouted { .. } => Self::refuse(StatusCode::FORBIDDEN, "not_routed"),
            WhoError::LinkLocal { .. } => Self::refuse(StatusCode::FORBIDDEN, "link_local_peer"),
            WhoError::NotARoutedPod { .. } => Self::refuse(StatusCode::FORBIDDEN, "not_a_routed_pod"),
            WhoError::SharedInterface { .. } => Self::refuse(StatusCode::FORBIDDEN, "shared_interface"),
            // These pass: a record left over goes, a directory or the kernel can be read again.
            WhoError::Ambiguous { .. } => Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "ambiguous_peer"),
            WhoError::Unreadable { .. } => Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "records_unreadable"),
            WhoError::Route(_) => Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "route_unknown"),
        }
    }

    /// The list of the pod's roles.
    pub(super) fn role_list(found: &Found) -> Self {
        match found {
            Found::Held(held) => Self::ok(held.role.name().to_owned()),
            Found::Refused(refusal) if refusal.code == RefusalCode::NoRole => Self::no_role(refusal),
            Found::Refused(refusal) => {
                Self::new(StatusCode::OK, refusal.code.as_str(), listed_name(refusal).to_owned())
            }
            Found::Unannotated => Self::unannotated(),
            Found::NotReady(fault) => Self::not_ready(*fault),
            Found::Gone => Self::gone(),
        }
    }

    /// The document of the role that was asked for.
    pub(super) fn role(found: &Found, asked: &RequestedRole, now: UnixMillis) -> Self {
        match found {
            Found::Held(held) if asked.is(&held.role) => Self::ok(document::credentials(held)),
            Found::Refused(refusal) if refusal.code == RefusalCode::NoRole => Self::no_role(refusal),
            Found::Refused(refusal) if is_refused_role(refusal, asked) => {
                Self::new(StatusCode::OK, refusal.code.as_str(), document::refusal(refusal, now))
            }
            Found::Held(_) | Found::Refused(_) => Self::refuse(StatusCode::NOT_FOUND, "another_role"),
            Found::Unannotated => Self::unannotated(),
            Found::NotReady(fault) => Self::not_ready(*fault),
            Found::Gone => Self::gone(),
        }
    }

    /// `iam/info`.
    pub(super) fn instance_profile(found: &Found, now: UnixMillis) -> Self {
        match found {
            Found::Held(held) => Self::ok(document::instance_profile(&held.role, held.obtained)),
            Found::Refused(refusal) if refusal.code == RefusalCode::NoRole => Self::no_role(refusal),
            Found::Refused(refusal) => {
                Self::new(StatusCode::OK, refusal.code.as_str(), document::refusal(refusal, now))
            }
            Found::Unannotated => Self::unannotated(),
            Found::NotReady(fault) => Self::not_ready(*fault),
            Found::Gone => Self::gone(),
        }
    }

    fn no_role(refusal: &Refusal) -> Self {
        Self::new(StatusCode::NOT_FOUND, refusal.code.as_str(), format!("rolecall: no_role: {}", refusal.message))
    }

    fn unannotated() -> Self {
        Self::refuse(StatusCode::NOT_FOUND, "not_annotated")
    }

    fn not_ready(fault: Option<Fault>) -> Self {
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, fault.map_or("not_ready", Fault::as_str))
    }

    /// The sandbox ended while its request was held; nobody is left to read this.
    pub(super) fn gone() -> Self {
        Self::refuse(StatusCode::FORBIDDEN, "sandbox_gone").closing()
    }

    /// The agent is about to end.
    pub(super) fn stopping() -> Self {
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "stopping").closing()
    }

    /// What the real service said.
    pub(super) fn passed_on(answer: MetadataAnswer) -> Self {
        // A status other than these two (401, 5xx) is between the node and the service.
        if answer.status != StatusCode::OK && answer.status != StatusCode::NOT_FOUND {
            return Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "upstream_status");
        }
        let code = if answer.status == StatusCode::OK { "ok" } else { "upstream_not_found" };
        let content_type = answer.content_type.and_then(|text| HeaderValue::try_from(text).ok());
        Self { content_type, ..Self::new(answer.status, code, answer.body) }
    }

    /// The real service did not answer.
    pub(super) fn not_passed_on(error: &NodeError) -> Self {
        match error {
            NodeError::NotFound(_) => Self::refuse(StatusCode::NOT_FOUND, "upstream_not_found"),
            NodeError::Unreachable(_)
            | NodeError::NoToken(_)
            | NodeError::Status { .. }
            | NodeError::NoRole
            | NodeError::Refused { .. }
            | NodeError::TooLong(_)
            | NodeError::Malformed(_)
            | NodeError::Expired => Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "upstream_unavailable"),
        }
    }

    /// The pod asks more often than a pod may. 5xx, since more SDKs try again after one than after a 429.
    pub(super) fn too_many_requests() -> Self {
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "too_many_requests")
    }

    /// The real service is asked enough already.
    pub(super) fn upstream_busy() -> Self {
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "upstream_busy")
    }

    /// With the connection's end behind it.
    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The response. The service says `text/plain` of everything, JSON included, and `EC2ws` of itself.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.unwrap_or(HeaderValue::from_static("text/plain")));
        headers.insert(SERVER, HeaderValue::from_static("EC2ws"));
        if let Some((name, value)) = self.extra {
            headers.insert(name, value);
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The name that the list gives a refused pod.
fn listed_name(refusal: &Refusal) -> &str {
    match (&refusal.role, tells_of_another(refusal.code)) {
        (Some(role), false) => role.name(),
        _ => REFUSED_ROLE,
    }
}

fn is_refused_role(refusal: &Refusal, asked: &RequestedRole) -> bool {
    match (&refusal.role, tells_of_another(refusal.code)) {
        (Some(role), false) => asked.is(role),
        _ => asked.is_text(REFUSED_ROLE),
    }
}

/// Whether the role of such a refusal is another pod's, or is none.
fn tells_of_another(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::InvalidRole | RefusalCode::PodReplaced | RefusalCode::PodOnOtherNode)
}

/// How long what is served will last, for the metrics.
pub(super) fn time_left(found: &Found, now: UnixMillis) -> Option<std::time::Duration> {
    match found {
        Found::Held(held) => Some(left(held, now)),
        Found::Refused(_) | Found::Unannotated | Found::NotReady(_) | Found::Gone => None,
    }
}

fn left(held: &Held, now: UnixMillis) -> std::time::Duration {
    held.credentials.expiration.since(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_shown_without_its_body() {
        assert_eq!(format!("{:?}", Answer::ok("secret")), "Answer { status: 200, code: \"ok\", .. }");
    }
}
