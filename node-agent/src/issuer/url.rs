//! Where the issuer is.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::{Host, Url};

/// The resource of the API that issues credentials; the stage comes before it.
const RESOURCE: &str = "/credentials";

/// Where the issuer is: `https://{api}-{vpce}.execute-api.{region}.amazonaws.com/v1/credentials`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl(Url);

/// A text that is no issuer's URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidIssuerUrl {
    /// Not a URL at all.
    #[error("{0:?} is no URL: expected https://API-VPCE.execute-api.REGION.amazonaws.com/v1/credentials")]
    NoUrl(String),
    /// Not encrypted.
    #[error(
        "the issuer's URL must begin with https:// (http:// only towards a loopback address): credentials travel back on it"
    )]
    NotHttps,
    /// Another path.
    #[error("the issuer's URL has the path {0:?}: it must be the stage and /credentials, such as /v1/credentials")]
    Path(String),
    /// Parts that a request does not have.
    #[error("the issuer's URL must have no user, query or fragment")]
    Surplus,
}

impl IssuerUrl {
    /// Parses and checks a URL.
    pub fn parse(text: &str) -> Result<Self, InvalidIssuerUrl> {
        let url = Url::parse(text).map_err(|_| InvalidIssuerUrl::NoUrl(text.chars().take(120).collect()))?;
        let is_loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(_)) | None => false,
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback) {
            return Err(InvalidIssuerUrl::NotHttps);
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidIssuerUrl::Surplus);
        }
        let stage = url.path().strip_suffix(RESOURCE).and_then(|rest| rest.strip_prefix('/'));
        if !stage.is_some_and(is_stage) {
            return Err(InvalidIssuerUrl::Path(url.path().chars().take(80).collect()));
        }
        Ok(Self(url))
    }

    /// The region in an API's own host name.
    pub fn region(&self) -> Option<&str> {
        let (_, rest) = self.host().split_once(".execute-api.")?;
        rest.strip_suffix(".amazonaws.com")
            .or_else(|| rest.strip_suffix(".amazonaws.com.cn"))
            .filter(|r| !r.contains('.'))
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A stage's name, as API Gateway allows it.
fn is_stage(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl FromStr for IssuerUrl {
    type Err = InvalidIssuerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidIssuerUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apis_url_is_accepted_with_its_region() {
        for (text, region) in [
            ("https://abc123-vpce-0123.execute-api.eu-central-1.amazonaws.com/v1/credentials", Some("eu-central-1")),
            ("https://abc123.execute-api.cn-north-1.amazonaws.com.cn/v1/credentials", Some("cn-north-1")),
            ("https://issuer.example.com/prod/credentials", None),
            ("https://a.execute-api.b.c.amazonaws.com/v1/credentials", None),
            ("http://127.0.0.1:8080/v1/credentials", None),
            ("http://[::1]:8080/v1/credentials", None),
        ] {
            let url = IssuerUrl::parse(text).unwrap();
            assert_eq!((url.region(), url.to_string().as_str()), (region, text));
        }
    }

    #[test]
    fn what_is_wrong_with_another_is_said() {
        let error = |text: &str| IssuerUrl::parse(text).unwrap_err();
        assert_eq!(error("issuer"), InvalidIssuerUrl::NoUrl("issuer".into()));
        assert_eq!(error("http://issuer.example.com/v1/credentials"), InvalidIssuerUrl::NotHttps);
        assert_eq!(error("http://localhost/v1/credentials"), InvalidIssuerUrl::NotHttps);
        assert_eq!(error("file:///v1/credentials"), InvalidIssuerUrl::NotHttps);
        assert_eq!(error("https://h/v1/credentials?x=1"), InvalidIssuerUrl::Surplus);
        assert_eq!(error("https://u:p@h/v1/credentials"), InvalidIssuerUrl::Surplus);
        for path in ["/", "/v1", "/credentials", "/v1/credentials/", "/a/v1/credentials", "/v%201/credentials"] {
            assert_eq!(error(&format!("https://h{path}")), InvalidIssuerUrl::Path(path.into()));
        }
    }
}
