//! Which API, stage and method a request means.

use http::request::Parts;
use http::{Method, header};

use super::refusal::Refusal;
use crate::config::ApiConfig;

/// The one method that the API has.
const METHOD: Method = Method::POST;
/// Names the API where the host name is the endpoint's own.
const API_ID: &str = "x-apigw-api-id";

/// The API's names.
#[derive(Debug)]
pub(super) struct Route {
    api_id: String,
    vpce_id: String,
    /// `execute-api.REGION.amazonaws.com`.
    domain: String,
    /// The endpoint's own host names.
    endpoint_names: Vec<String>,
    /// `/STAGE/RESOURCE`.
    path: String,
    stage: String,
}

/// The host name that a request came by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Domain {
    pub(super) name: String,
    /// Its first label.
    pub(super) prefix: String,
}

impl Route {
    pub(super) fn new(config: &ApiConfig, region: &str) -> Self {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self {
            api_id: config.id.clone(),
            vpce_id: config.vpce_id.clone(),
            domain: format!("execute-api.{region}.{suffix}"),
            endpoint_names: config.tls.names.clone(),
            path: format!("/{}/{}", config.stage, config.resource.trim_start_matches('/')),
            stage: config.stage.clone(),
        }
    }

    /// The API's own host names: through the endpoint's alias, and with private DNS.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        [format!("{}-{}.{}", self.api_id, self.vpce_id, self.domain), format!("{}.{}", self.api_id, self.domain)]
            .into_iter()
    }

    /// Finds the method; what is refused here is refused before any signature is looked at.
    pub(super) fn find(&self, parts: &Parts) -> Result<Domain, Refusal> {
        let domain = self.domain(parts).ok_or(Refusal::Forbidden)?;
        let path = parts.uri.path();
        if path == self.path && parts.method == METHOD {
            return Ok(domain);
        }
        let stage = path.strip_prefix('/').unwrap_or(path).split('/').next().unwrap_or_default();
        // API Gateway has no other words for a resource or method that does not exist.
        Err(if stage == self.stage { Refusal::MissingAuthenticationToken } else { Refusal::Forbidden })
    }

    fn domain(&self, parts: &Parts) -> Option<Domain> {
        let host = parts.headers.get(header::HOST)?.to_str().ok()?;
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name).to_ascii_lowercase();
        let named = parts.headers.get(API_ID).is_some_and(|id| id.as_bytes() == self.api_id.as_bytes());
        let ours = self.names().any(|own| own == name) || named && self.endpoint_names.contains(&name);
        let prefix = name.split('.').next().unwrap_or_default().to_owned();
        ours.then_some(Domain { name, prefix })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn route() -> Route {
        Route {
            api_id: "abc123".into(),
            vpce_id: "vpce-1".into(),
            domain: "execute-api.eu-central-1.amazonaws.com".into(),
            endpoint_names: vec!["vpce-1-x.execute-api.eu-central-1.vpce.amazonaws.com".into()],
            path: "/v1/credentials".into(),
            stage: "v1".into(),
        }
    }

    fn find(method: &str, host: &str, path: &str) -> Result<Domain, Refusal> {
        let request = Request::builder().method(method).uri(path).header("host", host).body(()).unwrap();
        route().find(&request.into_parts().0)
    }

    #[test]
    fn both_host_names_lead_to_the_method() {
        for prefix in ["abc123-vpce-1", "abc123"] {
            let name = format!("{prefix}.execute-api.eu-central-1.amazonaws.com");
            let expected = Domain { name: name.clone(), prefix: prefix.into() };
            assert_eq!(find("POST", &name, "/v1/credentials").unwrap(), expected);
            assert_eq!(find("POST", &format!("{}:443", name.to_uppercase()), "/v1/credentials").unwrap(), expected);
        }
    }

    #[test]
    fn the_endpoints_own_name_needs_the_api_in_a_header() {
        let host = "vpce-1-x.execute-api.eu-central-1.vpce.amazonaws.com";
        assert!(matches!(find("POST", host, "/v1/credentials"), Err(Refusal::Forbidden)));
        let request = Request::post("/v1/credentials").header("host", host).header(API_ID, "abc123").body(()).unwrap();
        assert_eq!(route().find(&request.into_parts().0).unwrap().name, host);
    }

    #[test]
    fn what_is_not_there_is_refused_in_api_gateways_two_ways() {
        let host = "abc123.execute-api.eu-central-1.amazonaws.com";
        for (method, path) in
            [("GET", "/v1/credentials"), ("POST", "/v1/other"), ("POST", "/v1"), ("POST", "/v1/credentials/")]
        {
            assert!(matches!(find(method, host, path), Err(Refusal::MissingAuthenticationToken)), "{method} {path}");
        }
        for path in ["/", "/v2/credentials", "/credentials", "//v1/credentials"] {
            assert!(matches!(find("POST", host, path), Err(Refusal::Forbidden)), "{path}");
        }
        for host in [
            "other.execute-api.eu-central-1.amazonaws.com",
            "localhost",
            "",
            "abc123-vpce-2.execute-api.eu-central-1.amazonaws.com",
        ] {
            assert!(matches!(find("POST", host, "/v1/credentials"), Err(Refusal::Forbidden)), "{host}");
        }
    }
}
