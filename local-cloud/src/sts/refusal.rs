//! Error documents, as each service writes them. The only file that knows their status codes.

use http::{Response, StatusCode};
use serde_json::json;

use super::operation::Service;
use crate::faults::Fault;
use crate::server::{Body, full};

/// A request that does not reach ministack, or whose answer is withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Parameters that STS's own model forbids.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    pub(super) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    pub(super) fn duplicate_parameter() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MalformedInput", "A parameter was given more than once")
    }

    pub(super) fn duplicate_tag() -> Self {
        let message = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", message)
    }

    pub(super) fn unknown_protocol() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UnknownOperationException", "This service speaks the query protocol")
    }

    pub(super) fn incomplete_signature() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "IncompleteSignature",
            "Authorization header requires one complete 'Credential' of AWS4-HMAC-SHA256",
        )
    }

    pub(super) fn unsigned() -> Self {
        Self::new(StatusCode::FORBIDDEN, "MissingAuthenticationToken", "Request is missing Authentication Token")
    }

    /// An unknown key, or one that may not be used from where the request came.
    pub(super) fn unknown_key(service: Service) -> Self {
        let code = match service {
            Service::Dynamodb | Service::Kms => "UnrecognizedClientException",
            _ => "InvalidClientTokenId",
        };
        Self::new(StatusCode::FORBIDDEN, code, "The security token included in the request is invalid.")
    }

    /// A signature made for something else; `what` ends the sentence "Credential should be scoped to".
    pub(super) fn wrong_scope(service: Service, what: &str) -> Self {
        let code = match service {
            Service::Dynamodb | Service::Kms => "InvalidSignatureException",
            _ => "SignatureDoesNotMatch",
        };
        Self::new(StatusCode::FORBIDDEN, code, format!("Credential should be scoped to {what}. "))
    }

    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "The request is too large")
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", "There is no such path")
    }

    /// Ministack gave no answer, or one that cannot be read.
    pub(super) fn upstream(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "ServiceUnavailable", message)
    }

    /// What a fault rule asks for; `Refuse` has no document.
    pub(super) fn fault(service: Service, fault: Fault) -> Option<Self> {
        let status = match fault {
            Fault::Refuse => return None,
            Fault::Throttle => return Some(Self::throttled(service)),
            Fault::Error(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            // No rule of these services has them.
            Fault::Mishap(_) | Fault::Expired => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let json = matches!(service, Service::Dynamodb | Service::Kms);
        let code = match status.as_u16() {
            503 => "ServiceUnavailable",
            500..=599 if service == Service::Dynamodb => "InternalServerError",
            500..=599 if service == Service::Kms => "KMSInternalException",
            500..=599 => "InternalFailure",
            400 | 403 if json => "AccessDeniedException",
            403 => "AccessDenied",
            _ => "ValidationError",
        };
        Some(Self::new(status, code, "A fault rule of local-cloud"))
    }

    fn throttled(service: Service) -> Self {
        let (code, message) = match service {
            Service::Dynamodb => (
                "ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded.",
            ),
            Service::Kms => ("ThrottlingException", "You have exceeded the rate at which you may call KMS."),
            _ => ("Throttling", "Rate exceeded"),
        };
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The document in the protocol of `service`.
    pub(super) fn document(&self, service: Service, request_id: &str) -> Response<Body> {
        let mut status = self.status;
        let (kind, body) = match service {
            Service::Dynamodb | Service::Kms => {
                // These two answer all the caller's own mistakes with 400.
                if status.is_client_error() {
                    status = StatusCode::BAD_REQUEST;
                }
                let (prefix, kind) = match service {
                    Service::Dynamodb => ("com.amazonaws.dynamodb.v20120810#", "application/x-amz-json-1.0"),
                    _ => ("", "application/x-amz-json-1.1"),
                };
                (kind, json!({ "__type": format!("{prefix}{}", self.code), "message": self.message }).to_string())
            }
            Service::Sts | Service::Sns | Service::Iam | Service::Other => ("text/xml", self.xml(request_id)),
        };
        let mut response = Response::new(full(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        if let Ok(id) = http::HeaderValue::from_str(request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }

    fn xml(&self, request_id: &str) -> String {
        let fault = if self.status.is_server_error() { "Receiver" } else { "Sender" };
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>{fault}</Type>\n    \
             <Code>{}</Code>\n    <Message>{}</Message>\n  </Error>\n  <RequestId>{request_id}</RequestId>\n\
             </ErrorResponse>\n",
            self.code,
            quick_xml::escape::escape(self.message.as_str()),
        )
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
