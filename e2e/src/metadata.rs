//! The metadata service as a program in a pod, or on a node, sees it, through curl.

use std::time::Duration;

use crate::process::Place;
use anyhow::{Context, Result, ensure};

/// Where EC2 metadata is.
pub const IPV4: &str = "http://169.254.169.254";
/// Where it is for IPv6.
pub const IPV6: &str = "http://[fd00:ec2::254]";
/// The list of roles.
pub const LIST: &str = "/latest/meta-data/iam/security-credentials/";

/// Longer than any answer takes; a packet that nobody answers is noticed after it.
const PATIENCE: &str = "3";
const DEADLINE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A response: status and body.
    Answer(u16, String),
    /// The connection was refused, or forbidden.
    Refused,
    /// Nothing at all.
    Silence,
}

impl Seen {
    /// The body of a 200.
    pub fn ok(self) -> Result<String> {
        match self {
            Self::Answer(200, body) => Ok(body),
            other => anyhow::bail!("expected an answer with 200, got {other:?}"),
        }
    }
}

/// Runs curl with these arguments.
pub async fn curl(place: &Place, arguments: &[&str]) -> Result<Seen> {
    let fixed =
        ["curl", "--silent", "--globoff", "--path-as-is", "--max-time", PATIENCE, "--write-out", "\n%{http_code}"];
    let output = place.run(&[&fixed[..], arguments].concat(), DEADLINE).await?;
    match output.status.code() {
        Some(0) => {
            let (body, status) = output.stdout.rsplit_once('\n').context("curl printed no status")?;
            Ok(Seen::Answer(status.parse()?, body.to_owned()))
        }
        Some(7) => Ok(Seen::Refused),
        Some(28) => Ok(Seen::Silence),
        other => anyhow::bail!("curl ended with {other:?}: {}", output.stderr),
    }
}

/// A session token of IMDSv2.
pub async fn token(place: &Place, base: &str) -> Result<String> {
    let url = format!("{base}/latest/api/token");
    let arguments = ["--request", "PUT", "--header", "X-aws-ec2-metadata-token-ttl-seconds: 300", &url];
    let token = curl(place, &arguments).await?.ok().context("no token")?;
    ensure!(!token.is_empty(), "an empty token");
    Ok(token)
}

/// A path over IMDSv2.
pub async fn get(place: &Place, path: &str) -> Result<Seen> {
    get_at(place, IPV4, path).await
}

/// A path over IMDSv2 at `base`.
pub async fn get_at(place: &Place, base: &str, path: &str) -> Result<Seen> {
    let token = token(place, base).await?;
    get_with(place, base, path, &token).await
}

/// A path with this token.
pub async fn get_with(place: &Place, base: &str, path: &str, token: &str) -> Result<Seen> {
    let (header, url) = (format!("X-aws-ec2-metadata-token: {token}"), format!("{base}{path}"));
    curl(place, &["--header", &header, &url]).await
}

/// A path over IMDSv1.
pub async fn get_v1(place: &Place, base: &str, path: &str) -> Result<Seen> {
    curl(place, &[&format!("{base}{path}")]).await
}
