//! Why the issuer gave no answer, and what that means for what is held.

use model::wire::BadResponse;
use thiserror::Error;

use crate::node::NodeError;

/// What a failed request means. No failure ever takes credentials away from a pod that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass by itself: ask again, with back-off.
    Retry,
    /// Only an operator can change it: ask again slowly and say it loudly.
    Operator,
}

/// Why the issuer gave no answer.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// The node has no credentials to sign with.
    #[error("no node credentials to sign with")]
    NoNodeCredentials(#[source] NodeError),
    /// No answer in time.
    #[error("the issuer did not answer in time")]
    Timeout,
    /// No connection.
    #[error("no connection to the issuer at {host}: {reason}")]
    Connect {
        /// The API's host name.
        host: String,
        /// What failed: name resolution, TCP or TLS.
        reason: String,
    },
    /// The API throttles.
    #[error("the API throttles")]
    Throttled,
    /// The API or the function failed, or the directory cannot be read.
    #[error("the issuer is unavailable (status {status}): {message}")]
    Unavailable {
        /// 5xx.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The API refused the signature.
    #[error("the API refused the signature ({kind}): {message}")]
    SignatureRefused {
        /// AWS's name for it.
        kind: String,
        /// AWS's sentence.
        message: String,
    },
    /// The API does not permit the node role to call.
    #[error("the API does not permit this node to call it: {message}")]
    AccessDenied {
        /// AWS's sentence.
        message: String,
    },
    /// The issuer does not take the signer for a node.
    #[error("the issuer does not know this node: {message}")]
    CallerNotANode {
        /// The issuer's sentence.
        message: String,
    },
    /// An operator has cut this node off.
    #[error("this node is quarantined: {message}")]
    NodeQuarantined {
        /// The issuer's sentence.
        message: String,
    },
    /// The issuer does not understand the request.
    #[error("the issuer refused the request: {message}")]
    BadRequest {
        /// The issuer's sentence.
        message: String,
    },
    /// The answer is not understood.
    #[error(transparent)]
    BadAnswer(#[from] BadResponse),
    /// A session that ends later than STS makes any.
    #[error("the issuer's answer has a session of more than 13 hours: is the node's clock right?")]
    EndlessSession,
    /// The answer is none of the issuer's.
    #[error(
        "the answer with status {status} is not the issuer's ({message}): check the API id, VPC endpoint and stage in the issuer URL"
    )]
    NotTheIssuer {
        /// The status.
        status: u16,
        /// What it said, cut.
        message: String,
    },
}

impl IssuerError {
    /// What it means for asking again.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::NoNodeCredentials(_)
            | Self::Timeout
            | Self::Connect { .. }
            | Self::Throttled
            | Self::Unavailable { .. } => Verdict::Retry,
            Self::SignatureRefused { .. }
            | Self::AccessDenied { .. }
            | Self::CallerNotANode { .. }
            | Self::NodeQuarantined { .. }
            | Self::BadRequest { .. }
            | Self::BadAnswer(_)
            | Self::EndlessSession
            | Self::NotTheIssuer { .. } => Verdict::Operator,
        }
    }

    /// A short name for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoNodeCredentials(_) => "no_node_credentials",
            Self::Timeout => "timeout",
            Self::Connect { .. } => "connect",
            Self::Throttled => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::SignatureRefused { .. } => "signature_refused",
            Self::AccessDenied { .. } => "access_denied",
            Self::CallerNotANode { .. } => "caller_not_a_node",
            Self::NodeQuarantined { .. } => "node_quarantined",
            Self::BadRequest { .. } => "bad_request",
            Self::BadAnswer(_) | Self::EndlessSession => "bad_answer",
            Self::NotTheIssuer { .. } => "not_the_issuer",
        }
    }
}
