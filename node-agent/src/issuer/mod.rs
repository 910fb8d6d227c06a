//! The issuer's client: one signed request, one parsed answer.

mod error;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::wire::{IssueRequest, IssueResponse};
use thiserror::Error;

use crate::clock::Clock;
use crate::node::NodeCredentials;

pub use error::{IssuerError, Verdict};

/// Where the issuer is: `https://{api}-{vpce}.execute-api.{region}.amazonaws.com/v1/credentials`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl(url::Url);

/// The HTTP client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// A file of certificates cannot be used.
    #[error("the certificates in {path} cannot be used: {reason}")]
    Certificates {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// No trusted roots at all.
    #[error("no trusted root certificates: install ca-certificates, or name a PEM file")]
    NoRoots,
    /// The client could not be built.
    #[error("the HTTP client cannot be made")]
    Build(#[source] reqwest::Error),
}

/// A client that trusts the system's roots, and those of a PEM file where one is named.
pub fn http_client(_extra_roots: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    unimplemented!()
}

/// Asks the issuer.
#[derive(Debug)]
pub struct IssuerClient {}

impl IssuerClient {
    /// Asks at `url`, signing for `region` with the node's credentials.
    pub fn new(
        _url: IssuerUrl,
        _region: String,
        _http: reqwest::Client,
        _node: Arc<NodeCredentials>,
        _clock: Clock,
    ) -> Self {
        unimplemented!()
    }

    /// Sends `request` and waits for its answer, at most the request's patience and `margin` more.
    pub async fn issue(&self, _request: &IssueRequest, _margin: Duration) -> Result<IssueResponse, IssuerError> {
        std::future::pending().await
    }
}
