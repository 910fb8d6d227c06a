//! The issuer's client: one signed request, one parsed answer.

mod error;
mod refusal;
pub(crate) mod tls;
mod url;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{Method, StatusCode, header};
use model::wire::{IssueRequest, IssueResponse, Session};
use thiserror::Error;

use crate::clock::Clock;
use crate::node::NodeCredentials;

pub use error::{IssuerError, Verdict};
pub use url::{InvalidIssuerUrl, IssuerUrl};

/// A connection within the VPC takes milliseconds; one lost packet is sent again after a second.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2500);
/// Idle connections are closed before API Gateway's side closes them, so that none is used as it goes away.
const IDLE: Duration = Duration::from_secs(50);
/// The longest answer read: a function answers at most 6 MB.
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024;
/// The longest time that a session can last: STS gives 12 hours at most, and clocks differ.
const LONGEST_SESSION: Duration = Duration::from_hours(13);

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

/// A client that trusts the system's roots, and those of a PEM file where one is named. It follows no redirect and uses no
/// proxy: neither could be verified to be the issuer.
pub fn http_client(extra_roots: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config(tls::roots(extra_roots)?))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("rolecall-node-agent/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(ClientError::Build)
}

/// Asks the issuer.
#[derive(Debug)]
pub struct IssuerClient {
    url: IssuerUrl,
    region: String,
    http: reqwest::Client,
    node: Arc<NodeCredentials>,
    clock: Clock,
}

impl IssuerClient {
    /// Asks at `url`, signing for `region` with the node's credentials.
    pub fn new(
        url: IssuerUrl,
        region: String,
        http: reqwest::Client,
        node: Arc<NodeCredentials>,
        clock: Clock,
    ) -> Self {
        Self { url, region, http, node, clock }
    }

    /// Sends `request` and waits for its answer, at most the request's patience and `margin` more.
    pub async fn issue(&self, request: &IssueRequest, margin: Duration) -> Result<IssueResponse, IssuerError> {
        let deadline = request.patience() + margin;
        tokio::time::timeout(deadline, self.ask(request)).await.map_err(|_| IssuerError::Timeout)?
    }

    async fn ask(&self, request: &IssueRequest) -> Result<IssueResponse, IssuerError> {
        let body = serde_json::to_vec(request).expect("a request is plain data");
        let credentials = self.node.current().await.map_err(IssuerError::NoNodeCredentials)?;
        let outcome = self.send(request, &body, &credentials).await;
        if !outcome.as_ref().is_err_and(refusal::is_about_keys) {
            return outcome;
        }
        // EC2 may have put new ones in place that were not looked at yet. One try: else the clock is wrong.
        let credentials = self.node.renewed().await.map_err(IssuerError::NoNodeCredentials)?;
        self.send(request, &body, &credentials).await
    }

    async fn send(
        &self,
        request: &IssueRequest,
        body: &[u8],
        credentials: &Credentials,
    ) -> Result<IssueResponse, IssuerError> {
        let signed = self.signed(body, credentials)?;
        let response = self.http.execute(signed).await.map_err(|error| self.failed(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = self.read(response).await?;
        if status == StatusCode::OK {
            return self.parse(&answer, request);
        }
        Err(refusal::meaning(status, &headers, &answer))
    }

    /// What it refuses, no later code meets: a time that has no text, or a session that would never be renewed.
    fn parse(&self, answer: &[u8], request: &IssueRequest) -> Result<IssueResponse, IssuerError> {
        let response = IssueResponse::parse(answer, request)?;
        let now = self.clock.now();
        let is_endless = |session: &Session| session.credentials.expiration.since(now) > LONGEST_SESSION;
        if response.sessions.iter().any(is_endless) { Err(IssuerError::EndlessSession) } else { Ok(response) }
    }

    fn signed(&self, body: &[u8], credentials: &Credentials) -> Result<reqwest::Request, IssuerError> {
        let unsignable = |message: String| IssuerError::SignatureRefused { kind: "Unsignable".to_owned(), message };
        let identity = credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("execute-api")
            .time(self.clock.now().into())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsignable(error.to_string()))?;
        let content_type = "application/json";
        let headers = [("content-type", content_type)].into_iter();
        let signable = SignableRequest::new("POST", self.url.as_str(), headers, SignableBody::Bytes(body));
        let (instructions, _) = signable
            .and_then(|signable| sign(signable, &params.into()))
            .map_err(|error| unsignable(error.to_string()))?
            .into_parts();
        let mut request = http::Request::builder()
            .method(Method::POST)
            .uri(self.url.as_str())
            .header(header::CONTENT_TYPE, content_type)
            .body(body.to_vec())
            .map_err(|error| unsignable(error.to_string()))?;
        instructions.apply_to_request_http1x(&mut request);
        request.try_into().map_err(|error: reqwest::Error| unsignable(error.to_string()))
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Vec<u8>, IssuerError> {
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                let message = "the answer is longer than any of the issuer's".to_owned();
                return Err(IssuerError::NotTheIssuer { status: response.status().as_u16(), message });
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// No answer, or half of one. The whole chain is told: "connect error" alone helps nobody.
    fn failed(&self, error: &reqwest::Error) -> IssuerError {
        let mut reason = String::new();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(layer) = cause {
            if !reason.is_empty() {
                reason.push_str(": ");
            }
            reason.push_str(&layer.to_string());
            cause = layer.source();
        }
        IssuerError::Connect { host: self.url.host().to_owned(), reason }
    }
}

#[cfg(test)]
mod tests;
