//! One request to an instance's metadata service. The only file that knows its status codes.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::Surroundings;
use super::listener::HopLimit;
use super::role::Role;
use super::token::Tokens;
use super::tree::{self, Found, Tree};
use crate::clock::Clock;
use crate::config::InstanceConfig;
use crate::server::{Body, full};

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// The versions that EC2 lists, each of them with the same tree here.
const VERSIONS: [&str; 26] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-03-23",
    "2022-09-24",
    "latest",
];

/// Whether the role's credentials are told as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// They are.
    Current,
    /// They ended a minute ago, as when EC2 has not renewed them.
    Over,
}

impl Lifetime {
    fn end(self, expiration: SystemTime, now: SystemTime) -> SystemTime {
        match self {
            Self::Current => expiration,
            Self::Over => now - Duration::from_secs(60),
        }
    }
}

/// Everything that one instance answers.
#[derive(Debug)]
pub(super) struct Answers {
    tokens: Tokens,
    tree: Tree,
    role: Option<Role>,
    clock: Clock,
}

impl Answers {
    pub(super) fn new(instance: &InstanceConfig, surroundings: &Surroundings) -> anyhow::Result<Self> {
        let Surroundings { endpoint, clock, .. } = surroundings;
        let role = instance.role_arn.as_deref();
        let role = role.map(|arn| Role::new(arn, &instance.id, endpoint.clone(), clock.clone()));
        Ok(Self { tokens: Tokens::new()?, tree: Tree::new(instance, surroundings), role, clock: clock.clone() })
    }

    /// Answers as EC2 does; `hops` is the connection's hop limit, `lifetime` that of the role's credentials.
    pub(super) async fn answer<B: Sync>(
        &self,
        request: &Request<B>,
        hops: &HopLimit,
        lifetime: Lifetime,
    ) -> Response<Body> {
        let now = self.clock.now();
        let path = canonical(request.uri().path());
        match *request.method() {
            Method::PUT => {
                // On every PUT, not only where a token is given: EC2 lets none of these answers travel further.
                hops.lower();
                self.put(&path, request.headers(), now)
            }
            Method::GET | Method::HEAD => {
                let shown = request.headers().get(TOKEN).and_then(|token| token.to_str().ok());
                let Some(left) = shown.and_then(|token| self.tokens.left(token, now)) else {
                    return error(StatusCode::UNAUTHORIZED);
                };
                hops.restore();
                with_ttl(self.get(&path, now, lifetime).await, left.as_secs())
            }
            _ => error(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    fn put(&self, path: &str, headers: &HeaderMap, now: SystemTime) -> Response<Body> {
        // A proxy that was talked into a PUT gives itself away by this header.
        if headers.contains_key("x-forwarded-for") || path != "latest/api/token" {
            return error(StatusCode::FORBIDDEN);
        }
        let asked = headers.get(TOKEN_TTL).and_then(|ttl| ttl.to_str().ok());
        match Tokens::lifetime(asked) {
            Some(lifetime) => with_ttl(text(self.tokens.issue(now, lifetime)), lifetime.as_secs()),
            None => error(StatusCode::BAD_REQUEST),
        }
    }

    async fn get(&self, path: &str, now: SystemTime, lifetime: Lifetime) -> Response<Body> {
        if path.is_empty() {
            return text(VERSIONS.join("\n"));
        }
        let (version, rest) = path.split_once('/').unwrap_or((path, ""));
        if !VERSIONS.contains(&version) {
            return error(StatusCode::NOT_FOUND);
        }
        match self.tree.find(rest) {
            Some(Found::Text(found)) => text(found.to_owned()),
            Some(Found::Listing(names)) => text(names),
            Some(Found::Credentials) => match &self.role {
                Some(role) => text(match role.credentials().await {
                    Some(current) => {
                        tree::credentials(&current.key, current.updated, lifetime.end(current.key.expiration, now))
                    }
                    None => tree::no_credentials(role.name(), now),
                }),
                None => error(StatusCode::NOT_FOUND),
            },
            None => error(StatusCode::NOT_FOUND),
        }
    }
}

/// The path without escapes, without a slash at its beginning, and with single slashes: the service is lenient, as the
/// ones behind EC2 may be, so that a proxy before it cannot rely on its strictness.
fn canonical(path: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let slash = if decoded.ends_with('/') { "/" } else { "" };
    let parts: Vec<&str> = decoded.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { String::new() } else { parts.join("/") + slash }
}

fn text(body: String) -> Response<Body> {
    answer(StatusCode::OK, "text/plain", body)
}

/// EC2's page for a status.
pub(super) fn error(status: StatusCode) -> Response<Body> {
    let title = format!("{} - {}", status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    let page = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
         \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n <head>\n  <title>{title}</title>\n \
         </head>\n <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
    );
    answer(status, "text/html", page)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut answer = Response::new(full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(SERVER, HeaderValue::from_static("EC2ws"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn with_ttl(mut answer: Response<Body>, seconds: u64) -> Response<Body> {
    answer.headers_mut().insert(TOKEN_TTL, seconds.into());
    answer
}
