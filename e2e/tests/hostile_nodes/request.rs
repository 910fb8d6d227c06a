//! Requests to the API that nothing but a test makes: every part of the signature and of what is sent can be wrong.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use e2e::cloud::{self, REGION};
use e2e::metadata::{self, Seen};
use e2e::net::SERVICES;
use e2e::signer::Keys;
use e2e::world::World;
use model::time::UnixMillis;
use reqwest::Method;
use serde_json::Value;

/// When a request was signed, as seen from now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signed {
    Ago(Duration),
    In(Duration),
}

/// A request before it is signed. `Request::new` makes one that is in order.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The name that the request gives the API; it is sent to the API in any case.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) region: &'static str,
    pub(crate) service: &'static str,
    pub(crate) signed: Signed,
    pub(crate) body: Vec<u8>,
    pub(crate) credentials: Credentials,
}

/// A request that can be sent, once or again.
#[derive(Clone, Debug)]
pub(crate) struct Sendable {
    pub(crate) method: Method,
    host: String,
    path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// API Gateway's own word for its refusal.
    pub(crate) error_type: Option<String>,
    /// What the API's access log calls the request.
    pub(crate) request_id: String,
    /// What the issuer's audit calls it.
    pub(crate) api_request_id: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {}", self.body))
    }
}

impl Request {
    /// What an agent sends.
    pub(crate) fn new(keys: &Keys, body: impl Into<Vec<u8>>) -> Self {
        let [(_, id), (_, secret), (_, token)] = keys.variables();
        let token = (!token.is_empty()).then(|| token.to_owned());
        Self {
            method: Method::POST,
            host: cloud::api_host(),
            path: "/v1/credentials".into(),
            region: REGION,
            service: "execute-api",
            signed: Signed::Ago(Duration::ZERO),
            body: body.into(),
            credentials: Credentials::new(id, secret, token, None, "a thief"),
        }
    }

    /// Without a signature.
    pub(crate) fn unsigned(&self) -> Sendable {
        Sendable {
            method: self.method.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: self.body.clone(),
        }
    }

    pub(crate) fn sign(&self) -> Result<Sendable> {
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.signed.time())
            .settings(SigningSettings::default())
            .build()?;
        let url = format!("https://{}{}", self.host, self.path);
        let mut unsigned = self.unsigned();
        let headers = unsigned.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new(self.method.as_str(), &url, headers, SignableBody::Bytes(&self.body))?;
        let (instructions, _) = sign(signable, &parameters.into())?.into_parts();
        let more = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
        unsigned.headers.extend(more);
        Ok(unsigned)
    }

    /// Signs and sends from a node.
    pub(crate) async fn send(&self, world: &World, node: &str) -> Result<Answer> {
        self.sign()?.send(world, node).await
    }
}

impl Signed {
    #[expect(clippy::disallowed_methods, reason = "the API compares a signature's time with the real one")]
    fn time(self) -> SystemTime {
        match self {
            Self::Ago(age) => SystemTime::now() - age,
            Self::In(lead) => SystemTime::now() + lead,
        }
    }
}

impl Sendable {
    pub(crate) async fn send(&self, world: &World, node: &str) -> Result<Answer> {
        let address = format!("{SERVICES}:443").parse()?;
        let authority = reqwest::Certificate::from_pem(&std::fs::read(world.lab.ca_certificate())?)?;
        let api = cloud::api_host();
        // A second call finds the provider set, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().add_root_certificate(authority).resolve(&api, address);
        let mut request = client.build()?.request(self.method.clone(), format!("https://{api}{}", self.path));
        request = request.header("host", &self.host).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let send = async {
            let response = request.send().await?;
            let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
            let (status, error_type) = (response.status().as_u16(), header("x-amzn-errortype"));
            let (request_id, api_request_id) = (header("x-amzn-requestid"), header("x-amz-apigw-id"));
            Ok::<_, reqwest::Error>((status, error_type, request_id, api_request_id, response.text().await?))
        };
        let answer = world.inside(node)?.run(send).await?;
        let (status, error_type, request_id, api_request_id, body) = answer.context("the API does not answer")?;
        Ok(Answer {
            status,
            body,
            error_type,
            request_id: request_id.context("the API gave the request no id")?,
            api_request_id: api_request_id.context("the API gave the request no extended id")?,
        })
    }

    /// The same through curl, which asks first whether a large body is wanted (`Expect: 100-continue`), and so sees an answer
    /// that comes without the body having been read.
    pub(crate) async fn send_politely(&self, world: &World, node: &str) -> Result<Answer> {
        let file = world.lab.registration().directory().join("body");
        std::fs::write(&file, &self.body)?;
        let (host, certificate) = (&self.host, world.lab.ca_certificate());
        let certificate = certificate.to_str().context("a path that is text")?;
        let (resolve, body) = (format!("{host}:443:{SERVICES}"), format!("@{}", file.display()));
        let mut arguments = ["--include", "--cacert", certificate, "--resolve", &resolve, "--data-binary", &body]
            .map(str::to_owned)
            .to_vec();
        let expect = ("expect".to_owned(), "100-continue".to_owned());
        for (name, value) in self.headers.iter().chain([&expect]) {
            arguments.extend(["--header".to_owned(), format!("{name}: {value}")]);
        }
        arguments.push(format!("https://{host}{}", self.path));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let seen = metadata::curl(&world.lab.node(node)?.place(), &arguments).await?;
        let Seen::Answer(status, text) = seen else { anyhow::bail!("the API does not answer: {seen:?}") };
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
        let (head, body) = text.split_once("\r\n\r\n").context("an answer without a head")?;
        let header = |wanted: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
        };
        Ok(Answer {
            status,
            body: body.to_owned(),
            error_type: header("x-amzn-errortype"),
            request_id: header("x-amzn-requestid").context("the API gave the request no id")?,
            api_request_id: header("x-amz-apigw-id").context("the API gave the request no extended id")?,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the directory's as-of is a real time")]
pub(crate) fn now() -> UnixMillis {
    SystemTime::now().into()
}
