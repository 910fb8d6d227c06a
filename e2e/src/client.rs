//! A pod's metadata client inside this process: the steps of an SDK, each with the time it took.

use std::time::Duration;

use anyhow::Result;
use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use crate::http;
use crate::metadata::{IPV4, LIST};
use crate::net::{InsideRuntime, Namespace, Pod};

/// How long botocore and the JavaScript SDK wait for a connection and for an answer.
pub const SDK_PATIENCE: Duration = Duration::from_secs(1);

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Timed {
    /// Status and body, or what went wrong on the way.
    pub answer: Result<(u16, String), String>,
    /// From before the connection was made, where a new one was, to the end of the body.
    pub took: Duration,
}

impl Timed {
    /// The status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|(status, _)| *status)
    }

    /// The body, where there was an answer.
    pub fn body(&self) -> Option<&str> {
        self.answer.as_ref().ok().map(|(_, body)| &**body)
    }
}

/// Whether connections are kept between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Kept, as Go's and Rust's SDKs do.
    Kept,
    /// One for each request, as botocore does.
    New,
}

/// A client in a pod's network, with a thread of its own there.
#[derive(Debug)]
pub struct PodClient {
    inside: InsideRuntime,
    http: reqwest::Client,
}

impl PodClient {
    /// In the network of `pod`; an answer is waited for as long as SDKs wait.
    pub fn new(pod: &Pod, connections: Connections) -> Result<Self> {
        Self::within(pod.namespace(), connections)
    }

    /// The same in a network namespace that may have no network yet.
    pub fn within(namespace: &Namespace, connections: Connections) -> Result<Self> {
        let idle = if connections == Connections::Kept { usize::MAX } else { 0 };
        let http = http::client()
            .no_proxy()
            .connect_timeout(SDK_PATIENCE)
            .timeout(SDK_PATIENCE)
            .pool_max_idle_per_host(idle)
            .build()?;
        Ok(Self { inside: namespace.runtime()?, http })
    }

    /// One request to `http://169.254.169.254PATH`.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Result<Timed> {
        let request = self.http.request(method, format!("{IPV4}{path}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let send = async move {
            let began = Instant::now();
            let answer = async {
                let response = request.send().await?;
                let status: StatusCode = response.status();
                Ok::<_, reqwest::Error>((status.as_u16(), response.text().await?))
            };
            let answer = answer.await.map_err(|error| describe(&error));
            Timed { answer, took: began.elapsed() }
        };
        self.inside.run(send).await
    }

    /// A path over IMDSv1.
    pub async fn get(&self, path: &str) -> Result<Timed> {
        self.ask(Method::GET, path, &[]).await
    }

    /// A session token.
    pub async fn token(&self) -> Result<Timed> {
        self.ask(Method::PUT, "/latest/api/token", &[("X-aws-ec2-metadata-token-ttl-seconds", "21600")]).await
    }

    /// A path with a session token.
    pub async fn get_with(&self, path: &str, token: &str) -> Result<Timed> {
        self.ask(Method::GET, path, &[("X-aws-ec2-metadata-token", token)]).await
    }

    /// Token, list and document, as an SDK asks for credentials; ends with the first that is not answered with 200. Returns
    /// the last answer and the time of all together.
    pub async fn credentials(&self) -> Result<Timed> {
        let token = self.token().await?;
        let Some((200, text)) = token.answer.as_ref().ok().map(|(status, text)| (*status, text)) else {
            return Ok(token);
        };
        let list = self.get_with(LIST, text).await?;
        let Some((200, role)) = list.answer.as_ref().ok().map(|(status, role)| (*status, role)) else {
            return Ok(Timed { took: token.took + list.took, ..list });
        };
        let document = self.get_with(&format!("{LIST}{role}"), text).await?;
        Ok(Timed { took: token.took + list.took + document.took, ..document })
    }
}

/// The error with its causes: reqwest's own text names only the request.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
