//! The settings: one JSON file, given by `--config`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;
use thiserror::Error;
use url::Url;

/// Everything that the process is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The region that every endpoint plays.
    pub region: String,
    /// The account that owns everything: 12 digits.
    pub account: String,
    /// Where ministack listens: `http://127.0.0.1:4570`.
    pub upstream: Url,
    /// The address of the AWS endpoint that nodes, pods and the function use.
    pub endpoint: EndpointConfig,
    /// Where the control port listens. It shows secrets: keep it out of the pods' reach.
    pub control: SocketAddr,
    /// The EC2 instances whose metadata is served.
    #[serde(default)]
    pub instances: Vec<InstanceConfig>,
    /// The private API; absent: none is played.
    #[serde(default)]
    pub api: Option<ApiConfig>,
    /// The function behind the API; absent: none is run.
    #[serde(default)]
    pub function: Option<FunctionConfig>,
}

/// The endpoint of all AWS services but API Gateway: the checks before STS, then ministack.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Plain HTTP listeners.
    pub listen: Vec<SocketAddr>,
    /// Addresses from which ministack's root key is let through, besides loopback. It is the key `test` with any secret,
    /// so everybody knows it.
    #[serde(default)]
    pub root_from: Vec<IpAddr>,
}

/// One EC2 instance.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceConfig {
    /// `i-` and 8 or 17 hex digits.
    pub id: String,
    /// Such as `m7g.large`.
    #[serde(default = "default_instance_type")]
    pub instance_type: String,
    /// Such as `eu-central-1a`.
    pub zone: String,
    /// The primary address.
    pub local_ipv4: Ipv4Addr,
    /// The primary interface's hardware address.
    #[serde(default = "default_mac")]
    pub mac: String,
    /// The ARN of the role in the instance profile; absent: the instance has none.
    #[serde(default)]
    pub role_arn: Option<String>,
    /// The number of hops that a token's answer travels, 1 to 64.
    #[serde(default = "default_hop_limit")]
    pub hop_limit: u8,
    /// What only the instance may read.
    #[serde(default)]
    pub user_data: Option<SecretString>,
    /// Where this instance's metadata service listens.
    pub listen: Vec<MetadataListener>,
}

/// A listener of one instance's metadata service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataListener {
    /// `169.254.169.254:80`, or for tests any other.
    pub address: SocketAddr,
    /// The interface behind which the instance is; it lets several instances share one address, and takes root.
    #[serde(default)]
    pub device: Option<String>,
}

/// The private REST API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// The API's id: the first label of its host name.
    pub id: String,
    /// The endpoint through which it is reached.
    pub vpce_id: String,
    /// The network of that endpoint.
    pub vpc_id: String,
    /// The stage's name: the first part of the path.
    pub stage: String,
    /// The one resource: the path after the stage.
    pub resource: String,
    /// TLS listeners.
    pub listen: Vec<SocketAddr>,
    /// Handed to the function with every event. They may hold a secret.
    #[serde(default)]
    pub stage_variables: BTreeMap<String, SecretString>,
    /// The certificate that is made at start.
    pub tls: TlsConfig,
}

/// The certificate of the API's listeners: made anew at each start, signed by an authority made with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Where the authority's certificate is written (PEM), for clients to trust.
    pub ca_certificate_out: PathBuf,
    /// Host names of the certificate, besides the API's own.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The function and its environments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// The program: what a bundle calls `bootstrap`.
    pub binary: PathBuf,
    /// The function's name.
    pub name: String,
    /// The function's ARN.
    pub arn: String,
    /// The ARN of the role that it runs as.
    pub role_arn: String,
    /// The most environments at a time: its reserved concurrency.
    pub environments: usize,
    /// How long one invocation may take.
    pub timeout_ms: u64,
    /// What the function is told about its memory; nothing enforces it.
    pub memory_mb: u32,
    /// The function's settings.
    #[serde(default)]
    pub env: BTreeMap<String, SecretString>,
    /// Where each environment's output is written.
    pub log_dir: PathBuf,
}

fn default_instance_type() -> String {
    "m7g.large".into()
}

fn default_mac() -> String {
    "02:00:00:00:00:01".into()
}

const fn default_hop_limit() -> u8 {
    1
}

/// Settings that cannot be used; the text says what to change.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings {path}: {source}; give --config a readable JSON file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no such JSON.
    #[error("the settings {path} are wrong: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value cannot be.
    #[error("the settings are wrong: {0}")]
    Invalid(String),
}

impl Config {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let config: Self =
            serde_json::from_slice(&text).map_err(|source| ConfigError::Malformed { path: path.to_owned(), source })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        if self.account.len() != 12 || !self.account.bytes().all(|b| b.is_ascii_digit()) {
            return invalid(format!("account {:?} must be 12 digits", self.account));
        }
        if self.upstream.scheme() != "http" {
            return invalid(format!("upstream {} must be an http:// address of ministack", self.upstream));
        }
        for instance in &self.instances {
            instance.check().or_else(invalid)?;
        }
        Ok(())
    }
}

impl InstanceConfig {
    fn check(&self) -> Result<(), String> {
        let digits = self.id.strip_prefix("i-").unwrap_or_default();
        if !matches!(digits.len(), 8 | 17) || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(format!("instance id {:?} must be i- and 8 or 17 hex digits", self.id));
        }
        if !(1..=64).contains(&self.hop_limit) {
            return Err(format!("hop_limit {} of {} must be 1 to 64", self.hop_limit, self.id));
        }
        if let Some(arn) = &self.role_arn
            && !(arn.starts_with("arn:") && arn.contains(":role/"))
        {
            return Err(format!("role_arn {arn:?} of {} must be arn:aws:iam::ACCOUNT:role/NAME", self.id));
        }
        Ok(())
    }
}
