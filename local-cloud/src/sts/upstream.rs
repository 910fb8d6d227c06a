//! Requests to ministack: those of clients, unchanged, and our own, signed as an account's root.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderName, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use thiserror::Error;
use url::form_urlencoded;

use crate::clock::Clock;

/// Ministack answers in milliseconds; one that does not is hung.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Of the answers that are read here: STS's and IAM's are a few kilobytes.
const MAX_READ: usize = 1 << 20;

/// Headers that belong to one connection; no client signs them.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// Why ministack gave no answer.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    #[error("ministack is not reachable")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    #[error("ministack gave no answer in {ANSWER_TIMEOUT:?}")]
    TooLate,
    #[error("ministack's answer broke off or is over {MAX_READ} bytes")]
    Unreadable,
    #[error("the request cannot be signed: {0}")]
    Unsigned(String),
}

/// Where ministack is.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    authority: Authority,
    region: String,
    clock: Clock,
}

impl Upstream {
    pub(crate) fn new(authority: Authority, region: String, clock: Clock) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, authority, region, clock }
    }

    /// Sends `request` on; its host, path, query and signed headers stay as they are.
    pub(crate) async fn forward(&self, mut request: Request<Bytes>) -> Result<Response<Incoming>, UpstreamError> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| UpstreamError::Unsigned(error.to_string()))?;
        *request.version_mut() = http::Version::HTTP_11;
        for name in HOP_BY_HOP {
            request.headers_mut().remove(name);
        }
        let sent = self.client.request(request.map(Full::new));
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, sent).await.map_err(|_| UpstreamError::TooLate)?;
        let mut answer = answer?;
        for name in HOP_BY_HOP {
            answer.headers_mut().remove(name);
        }
        Ok(answer)
    }

    /// Reads an answer whole.
    pub(crate) async fn read(answer: Response<Incoming>) -> Result<Response<Bytes>, UpstreamError> {
        let (parts, body) = answer.into_parts();
        let body = tokio::time::timeout(ANSWER_TIMEOUT, Limited::new(body, MAX_READ).collect()).await;
        let body = body.map_err(|_| UpstreamError::TooLate)?.map_err(|_| UpstreamError::Unreadable)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    /// A request to a query API, signed by the root of `account`: ministack takes an account's number for its root's key.
    pub(crate) fn as_root(
        &self,
        account: &str,
        service: &str,
        form: &[(&str, &str)],
    ) -> Result<Request<Bytes>, UpstreamError> {
        let failed = |error: &dyn std::fmt::Display| UpstreamError::Unsigned(error.to_string());
        let host = format!("{service}.{}.amazonaws.com", self.region);
        let body = Bytes::from(form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish());
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let identity = Credentials::new(account, "test", None, None, "local-cloud").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(self.clock.now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let signed_headers = [("content-type", kind), ("host", host.as_str())];
        let uri = format!("https://{host}/");
        let signable = SignableRequest::new("POST", uri, signed_headers.into_iter(), SignableBody::Bytes(&body))
            .map_err(|error| failed(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| failed(&error))?.into_parts();
        let mut request = Request::post("/")
            .header(header::HOST, &host)
            .header(header::CONTENT_TYPE, kind)
            .body(body)
            .map_err(|error| failed(&error))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}
