//! Requests to the API as an agent, or a thief, makes them: signed with any credentials, from any namespace.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use model::wire::IssueRequest;
use reqwest::StatusCode;
use serde::Deserialize;

use crate::cloud::{self, REGION};
use crate::http;
use crate::net::{InsideRuntime, SERVICES};

/// Keys as EC2 metadata and STS hand them out.
#[derive(Clone, Debug)]
pub struct Keys(Credentials);

impl Keys {
    /// From the three texts.
    pub fn new(access_key_id: String, secret_access_key: String, session_token: String) -> Self {
        Self(Credentials::new(access_key_id, secret_access_key, Some(session_token), None, "laboratory"))
    }

    /// The three texts as the environment variables that AWS's tools read.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", self.0.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", self.0.secret_access_key()),
            ("AWS_SESSION_TOKEN", self.0.session_token().unwrap_or_default()),
        ]
    }

    /// Reads the document that EC2 metadata answers with.
    pub fn from_metadata(document: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Document {
            access_key_id: String,
            secret_access_key: String,
            token: String,
        }
        let keys: Document = serde_json::from_str(document).context("no credentials document")?;
        Ok(Self::new(keys.access_key_id, keys.secret_access_key, keys.token))
    }

    /// Reads what `aws sts assume-role` prints.
    pub fn from_assume_role(printed: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Printed {
            credentials: Inner,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inner {
            access_key_id: String,
            secret_access_key: String,
            session_token: String,
        }
        let Printed { credentials: keys } = serde_json::from_str(printed).context("no answer of assume-role")?;
        Ok(Self::new(keys.access_key_id, keys.secret_access_key, keys.session_token))
    }
}

/// Sends `request` to the issuer's API from the namespace of `inside`, signed with `keys`. Returns status and body.
pub async fn ask_issuer(
    inside: &InsideRuntime,
    ca_certificate: &Path,
    keys: &Keys,
    request: &IssueRequest,
) -> Result<(StatusCode, String)> {
    send_to_issuer(inside, ca_certificate, keys, serde_json::to_string(request)?).await
}

/// The same with any body.
pub async fn send_to_issuer(
    inside: &InsideRuntime,
    ca_certificate: &Path,
    keys: &Keys,
    body: String,
) -> Result<(StatusCode, String)> {
    let url = cloud::api_url();
    let identity = keys.0.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("execute-api")
        .time(now())
        .settings(SigningSettings::default())
        .build()?;
    let headers = [("content-type", "application/json")];
    let signable = SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))?;
    let (instructions, _) = sign(signable, &parameters.into())?.into_parts();
    let address = format!("{SERVICES}:443").parse()?;
    let authority = reqwest::Certificate::from_pem(&std::fs::read(ca_certificate)?)?;
    let client = http::client().add_root_certificate(authority).resolve(&cloud::api_host(), address).build()?;
    let mut request = client.post(&url).body(body);
    for (name, value) in headers.into_iter().chain(instructions.headers()) {
        request = request.header(name, value);
    }
    let send = async {
        let response = request.send().await?;
        let status = response.status();
        Ok::<_, reqwest::Error>((status, response.text().await?))
    };
    inside.run(send).await?.context("the API does not answer")
}

#[expect(clippy::disallowed_methods, reason = "a signature carries the real time, which the API compares with its own")]
fn now() -> SystemTime {
    SystemTime::now()
}
