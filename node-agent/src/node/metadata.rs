//! A client of the real EC2 metadata service, version 2 only.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use model::name::InstanceId;
use reqwest::Response;
use thiserror::Error;
use tokio::time::Instant;
use url::{Host, Url};

use super::error::NodeError;

/// The service answers from the machine below; a second is what AWS's own clients give it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Its longest answers are the instance identity documents, some kilobytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest life of a token, in seconds.
const TOKEN_TTL_SECONDS: u64 = 21_600;
/// A token is replaced this long before its end, so that none ends on its way.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// Where the metadata service is. It is an address, never a name: whoever answers for a name would be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEndpoint(Url);

/// A text that is no metadata endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no metadata endpoint: expected http://ADDRESS or http://ADDRESS:PORT, such as http://169.254.169.254"
)]
pub struct InvalidEndpoint(String);

impl MetadataEndpoint {
    /// Parses `http://169.254.169.254`, `http://[fd00:ec2::254]`, each with a port where wanted.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.chars().take(80).collect());
        let url = Url::parse(text).map_err(|_| invalid())?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_address = matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
        if url.scheme() == "http" && is_address && is_bare && !has_user { Ok(Self(url)) } else { Err(invalid()) }
    }
}

impl Default for MetadataEndpoint {
    /// EC2's own, over IPv4.
    fn default() -> Self {
        let address = Ipv4Addr::new(169, 254, 169, 254);
        Self(Url::parse(&format!("http://{address}")).expect("an address makes a URL"))
    }
}

impl FromStr for MetadataEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        Self::parse(text)
    }
}

impl fmt::Display for MetadataEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// An answer of the metadata service, whatever its status.
#[derive(Clone)]
pub struct MetadataAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its body, at most 64 KiB.
    pub body: Bytes,
}

impl fmt::Debug for MetadataAnswer {
    /// Without the body: it may hold the node's credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The real metadata service.
#[derive(Debug)]
pub struct NodeMetadata {
    endpoint: MetadataEndpoint,
    http: reqwest::Client,
    token: Mutex<Option<Arc<Token>>>,
}

#[derive(Debug)]
struct Token {
    /// Marked sensitive, so that it prints as such.
    value: HeaderValue,
    good_until: Instant,
}

/// A client fit for the metadata service: no TLS, no proxy, no redirect, a second for each request.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    // Plain HTTP alone is spoken, but the client wants to know its TLS: one that trusts nobody.
    let tls = crate::issuer::tls::config(rustls::RootCertStore::empty());
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT)
        .build()
}

impl NodeMetadata {
    /// A client of the service at `endpoint`; see [`http_client`].
    pub fn new(endpoint: MetadataEndpoint, http: reqwest::Client) -> Self {
        Self { endpoint, http, token: Mutex::new(None) }
    }

    /// Asks for `path`, which begins with a version: `/latest/meta-data/…`. Any status but 401 is an answer.
    ///
    /// # Errors
    /// No answer within a second, no token, or an answer that is too long. A path that is not in its canonical form is
    /// [`NodeError::NotFound`] and not asked for.
    pub async fn get(&self, path: &str) -> Result<MetadataAnswer, NodeError> {
        let url = self.url(path)?;
        let (token, is_new) = self.token().await?;
        let answer = self.get_with(&url, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED || is_new {
            return Ok(answer);
        }
        // The service forgets tokens when the instance is stopped or its metadata options change.
        self.forget(&token);
        let (token, _) = self.token().await?;
        self.get_with(&url, &token).await
    }

    /// This instance's id.
    pub async fn instance_id(&self) -> Result<InstanceId, NodeError> {
        let path = "/latest/meta-data/instance-id";
        InstanceId::parse(self.text(path).await?.trim()).map_err(|_| NodeError::Malformed(path.to_owned()))
    }

    /// The region it runs in: `eu-central-1`.
    pub async fn region(&self) -> Result<String, NodeError> {
        let path = "/latest/meta-data/placement/region";
        let region = self.text(path).await?.trim().to_owned();
        let is_region = (1..=32).contains(&region.len())
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_region { Ok(region) } else { Err(NodeError::Malformed(path.to_owned())) }
    }

    /// A path's text, where the answer is 200.
    pub(super) async fn text(&self, path: &str) -> Result<String, NodeError> {
        let answer = self.get(path).await?;
        match answer.status {
            StatusCode::OK => String::from_utf8(answer.body.into()).map_err(|_| NodeError::Malformed(path.to_owned())),
            StatusCode::NOT_FOUND => Err(NodeError::NotFound(path.to_owned())),
            status => Err(NodeError::Status { path: path.to_owned(), status }),
        }
    }

    fn url(&self, path: &str) -> Result<Url, NodeError> {
        let mut url = self.endpoint.0.clone();
        url.set_path(path);
        // `..` and the like would else become another path here, after whoever allowed this one looked at it.
        if url.path() == path { Ok(url) } else { Err(NodeError::NotFound(path.to_owned())) }
    }

    /// A token, and whether it was made just now.
    async fn token(&self) -> Result<(Arc<Token>, bool), NodeError> {
        let held = self.held().clone().filter(|token| token.good_until > Instant::now());
        if let Some(token) = held {
            return Ok((token, false));
        }
        let url = self.url("/latest/api/token")?;
        let asked = Instant::now();
        let request = self
            .http
            .request(Method::PUT, url)
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_SECONDS)
            .header(header::CONTENT_LENGTH, 0);
        let response = request.send().await.map_err(|_| self.unreachable())?;
        let status = response.status();
        let body = self.body(response, "/latest/api/token").await?;
        let mut value = HeaderValue::from_bytes(&body).map_err(|_| NodeError::NoToken(status))?;
        if status != StatusCode::OK || value.is_empty() {
            return Err(NodeError::NoToken(status));
        }
        value.set_sensitive(true);
        let good_until = asked + Duration::from_secs(TOKEN_TTL_SECONDS) - TOKEN_MARGIN;
        let token = Arc::new(Token { value, good_until });
        *self.held() = Some(Arc::clone(&token));
        Ok((token, true))
    }

    fn forget(&self, token: &Arc<Token>) {
        self.held().take_if(|held| Arc::ptr_eq(held, token));
    }

    /// Held for the copying of one pointer.
    fn held(&self) -> std::sync::MutexGuard<'_, Option<Arc<Token>>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get_with(&self, url: &Url, token: &Token) -> Result<MetadataAnswer, NodeError> {
        let request = self.http.get(url.clone()).header(TOKEN_HEADER, token.value.clone());
        let response = request.send().await.map_err(|_| self.unreachable())?;
        let status = response.status();
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(MetadataAnswer { status, content_type, body: self.body(response, url.path()).await? })
    }

    async fn body(&self, mut response: Response, path: &str) -> Result<Bytes, NodeError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| self.unreachable())? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(NodeError::TooLong(path.to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn unreachable(&self) -> NodeError {
        NodeError::Unreachable(self.endpoint.to_string())
    }
}
