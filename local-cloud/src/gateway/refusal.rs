//! Every answer that API Gateway gives itself: the one place for its statuses, error types and texts.

use http::StatusCode;
use serde_json::json;

use crate::faults::Fault;
use crate::lambda::InvokeError;

/// Why the function's answer does not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No signature; also what API Gateway says when there is no such resource or method.
    MissingAuthenticationToken,
    /// The access key id is unknown, or its token is not the one that came with it.
    UnrecognizedClient,
    /// The session is over.
    ExpiredToken,
    /// The signature is wrong, too old, too new or for something else; the text says which.
    InvalidSignature(String),
    /// The signature is no signature.
    IncompleteSignature(String),
    /// A policy denies it.
    AccessDenied(String),
    /// There is no such API or stage.
    Forbidden,
    /// More headers than API Gateway takes.
    HeadersTooLarge,
    /// More body than API Gateway takes.
    BodyTooLarge,
    /// The API's own throttle.
    Throttled,
    /// The function's error, or an answer that is none.
    BadIntegrationAnswer,
    /// The function took longer than API Gateway waits.
    IntegrationTimeout,
    /// The function could not be invoked, or IAM could not be asked.
    Internal,
    /// What a fault rule asks for.
    Fault(StatusCode),
}

/// A refusal on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) status: StatusCode,
    /// `x-amzn-ErrorType`.
    pub(super) error_type: Option<&'static str>,
    pub(super) body: String,
}

const INTERNAL: &str = "Internal server error";
const INTERNAL_TYPE: Option<&str> = Some("InternalServerErrorException");

impl Refusal {
    /// As API Gateway writes it.
    pub(super) fn written(&self) -> Written {
        let (status, error_type, message) = match self {
            Self::MissingAuthenticationToken => {
                (StatusCode::FORBIDDEN, Some("MissingAuthenticationTokenException"), "Missing Authentication Token")
            }
            Self::UnrecognizedClient => (
                StatusCode::FORBIDDEN,
                Some("UnrecognizedClientException"),
                "The security token included in the request is invalid.",
            ),
            Self::ExpiredToken => (
                StatusCode::FORBIDDEN,
                Some("ExpiredTokenException"),
                "The security token included in the request is expired",
            ),
            Self::InvalidSignature(text) => (StatusCode::FORBIDDEN, Some("InvalidSignatureException"), text.as_str()),
            Self::IncompleteSignature(text) => {
                (StatusCode::FORBIDDEN, Some("IncompleteSignatureException"), text.as_str())
            }
            Self::AccessDenied(text) => (StatusCode::FORBIDDEN, Some("AccessDeniedException"), text.as_str()),
            Self::Forbidden => (StatusCode::FORBIDDEN, Some("ForbiddenException"), "Forbidden"),
            Self::HeadersTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, None, "Request Header Fields Too Large")
            }
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Some("RequestTooLargeException"), "Request Too Long"),
            Self::Throttled => (StatusCode::TOO_MANY_REQUESTS, Some("TooManyRequestsException"), "Too Many Requests"),
            Self::BadIntegrationAnswer => (StatusCode::BAD_GATEWAY, INTERNAL_TYPE, INTERNAL),
            Self::IntegrationTimeout => (StatusCode::GATEWAY_TIMEOUT, INTERNAL_TYPE, "Endpoint request timed out"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, INTERNAL_TYPE, INTERNAL),
            Self::Fault(status) => fault(*status),
        };
        // API Gateway spells this one member with a capital.
        let member = if matches!(self, Self::AccessDenied(_)) { "Message" } else { "message" };
        Written { status, error_type, body: json!({ member: message }).to_string() }
    }
}

fn fault(status: StatusCode) -> (StatusCode, Option<&'static str>, &'static str) {
    match status {
        StatusCode::FORBIDDEN => (status, Some("ForbiddenException"), "Forbidden"),
        StatusCode::TOO_MANY_REQUESTS => (status, Some("LimitExceededException"), "Limit Exceeded"),
        StatusCode::SERVICE_UNAVAILABLE => (status, Some("ServiceUnavailableException"), "Service Unavailable"),
        StatusCode::GATEWAY_TIMEOUT => (status, INTERNAL_TYPE, "Endpoint request timed out"),
        _ if status.is_server_error() => (status, INTERNAL_TYPE, INTERNAL),
        _ => (status, Some("BadRequestException"), "Bad Request"),
    }
}

impl From<&InvokeError> for Refusal {
    fn from(error: &InvokeError) -> Self {
        match error {
            InvokeError::TimedOut { .. }
            | InvokeError::Exited { .. }
            | InvokeError::OutOfMemory { .. }
            | InvokeError::InitTimedOut { .. }
            | InvokeError::Reported { .. }
            | InvokeError::AnswerTooLarge(_)
            | InvokeError::NotRunnable { .. } => Self::BadIntegrationAnswer,
            InvokeError::EventTooLarge(_) => Self::BodyTooLarge,
            // API Gateway does not pass a Lambda throttle on as 429, which would be its own.
            InvokeError::Throttled
            | InvokeError::Role(_)
            | InvokeError::Service(_)
            | InvokeError::Unreachable
            | InvokeError::Stopped => Self::Internal,
        }
    }
}

impl Refusal {
    /// The answer that a fault asks for; none when the connection must break.
    pub(super) fn from_fault(fault: Fault) -> Option<Self> {
        match fault {
            Fault::Throttle => Some(Self::Throttled),
            Fault::Error(status) => Some(StatusCode::from_u16(status).map_or(Self::Internal, Self::Fault)),
            Fault::Expired => Some(Self::ExpiredToken),
            // No rule of the gateway has it.
            Fault::Mishap(_) => Some(Self::Internal),
            Fault::Refuse => None,
        }
    }
}
