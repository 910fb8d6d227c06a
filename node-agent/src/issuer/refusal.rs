//! What an answer that is no answer means: API Gateway's own errors, and the issuer's.

use http::HeaderMap;
use http::StatusCode;
use model::refusal::RequestRefusalCode;
use model::wire::ErrorBody;
use serde::Deserialize;

use super::error::IssuerError;

/// The longest part of a foreign sentence that is repeated.
const MAX_MESSAGE_CHARS: usize = 400;

/// API Gateway's error: the body has the sentence, a header the name.
#[derive(Deserialize)]
struct GatewayError {
    #[serde(alias = "Message")]
    message: Option<String>,
}

/// The meaning of an answer whose status is not 200.
pub(super) fn meaning(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> IssuerError {
    if let Ok(own) = serde_json::from_slice::<ErrorBody>(body) {
        return of_the_issuer(status, &own);
    }
    let message = serde_json::from_slice::<GatewayError>(body).ok().and_then(|error| error.message);
    let message = readable(&message.unwrap_or_default());
    let kind = error_type(headers);
    match (status, kind.as_str()) {
        (StatusCode::TOO_MANY_REQUESTS, _) => IssuerError::Throttled,
        (status, _) if status.is_server_error() => IssuerError::Unavailable { status: status.as_u16(), message },
        (StatusCode::FORBIDDEN, "AccessDeniedException") => IssuerError::AccessDenied { message },
        (StatusCode::FORBIDDEN, kind) if is_about_signature(kind) => {
            IssuerError::SignatureRefused { kind: kind.to_owned(), message }
        }
        (status, _) => IssuerError::NotTheIssuer { status: status.as_u16(), message },
    }
}

/// Whether new credentials of the node may help: those that signed are old, or AWS no longer knows them, as after the instance
/// profile was replaced.
pub(super) fn is_about_keys(error: &IssuerError) -> bool {
    const KINDS: [&str; 3] = ["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient"];
    matches!(error, IssuerError::SignatureRefused { kind, .. } if KINDS.iter().any(|known| kind.starts_with(known)))
}

fn of_the_issuer(status: StatusCode, body: &ErrorBody) -> IssuerError {
    let message = readable(&body.message);
    match body.code {
        RequestRefusalCode::BadRequest => IssuerError::BadRequest { message },
        RequestRefusalCode::CallerNotANode => IssuerError::CallerNotANode { message },
        RequestRefusalCode::NodeQuarantined => IssuerError::NodeQuarantined { message },
        RequestRefusalCode::Unavailable => IssuerError::Unavailable { status: status.as_u16(), message },
    }
}

/// The error's name: what follows a colon is a namespace's URL.
fn error_type(headers: &HeaderMap) -> String {
    let value = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(':').next().unwrap_or_default().chars().take(80).collect()
}

fn is_about_signature(kind: &str) -> bool {
    const KINDS: [&str; 8] = [
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignature",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClient",
    ];
    KINDS.contains(&kind.strip_suffix("Exception").unwrap_or(kind))
}

fn readable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_CHARS).collect()
}
