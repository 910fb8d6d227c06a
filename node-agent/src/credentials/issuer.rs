//! The edge to the issuer, and why an attempt there gave a pod nothing.

use std::future::Future;
use std::time::Duration;

use model::refusal::RefusalCode;
use model::wire::{IssueRequest, IssueResponse};

use crate::issuer::{IssuerClient, IssuerError};

/// How much longer than the request's patience an answer is waited for: a connection, its TLS handshake and one lost packet
/// each way. The patience itself begins when the API has received the request.
const MARGIN: Duration = Duration::from_secs(3);

/// Asks the issuer.
pub trait Issuer: Send + Sync + 'static {
    /// Sends `request`. The answer fits it (one outcome per pod, each with its session) and comes, or fails, a bounded time
    /// after the request's patience.
    fn issue(&self, request: &IssueRequest) -> impl Future<Output = Result<IssueResponse, IssuerError>> + Send;
}

impl Issuer for IssuerClient {
    async fn issue(&self, request: &IssueRequest) -> Result<IssueResponse, IssuerError> {
        IssuerClient::issue(self, request, MARGIN).await
    }
}

/// Why the last attempt gave no credentials although asking again may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The issuer answered for this pod: not now.
    NotNow(RefusalCode),
    /// The request failed, or was refused as a whole; [`IssuerError::reason`].
    Failed(&'static str),
    /// The session has expired already: the clocks of node and issuer differ, or the issuer is at fault.
    Expired,
}

impl Fault {
    /// The fault in logs and in what the pod is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotNow(code) => code.as_str(),
            Self::Failed(reason) => reason,
            Self::Expired => "session_expired",
        }
    }
}
