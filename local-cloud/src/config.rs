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
    /// The roles, as ARNs, that the API's resource policy lets in; it denies all others. Absent: it denies none.
    #[serde(default)]
    pub allowed_roles: Option<Vec<String>>,
    /// Handed to the function with every event. They may hold a secret.
    #[serde(default)]
    pub stage_variables: BTreeMap<String, SecretString>,
    /// The certificate that is made at start.
    pub tls: TlsConfig,
}

/// The certificate of the API's listeners: made anew at each start, signed by an authority made at the first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Where the authority's certificate is (PEM), for clients to trust; its key lies beside it (`.key`). Written where there is none.
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
    #[error("cannot read the settings {path}; give --config a readable JSON file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no such JSON.
    #[error("the settings {path} are wrong")]
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

    /// The secrets in the settings that are served or handed on.
    pub fn secrets(&self) -> Vec<SecretString> {
        let user_data = self.instances.iter().filter_map(|instance| instance.user_data.clone());
        let variables = self.api.iter().flat_map(|api| api.stage_variables.values().cloned());
        user_data.chain(variables).collect()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        if !is_account(&self.account) {
            return invalid(format!("account {:?} must be 12 digits", self.account));
        }
        let upstream = &self.upstream;
        if upstream.scheme() != "http" || upstream.path() != "/" || !upstream.username().is_empty() {
            return invalid(format!("upstream {upstream} must be http://HOST:PORT of ministack"));
        }
        if self.api.is_some() != self.function.is_some() {
            return invalid("api and function go together: give both or neither".into());
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
            && !is_role_arn(arn)
        {
            return Err(format!("role_arn {arn:?} of {} must be arn:aws:iam::ACCOUNT:role/NAME", self.id));
        }
        Ok(())
    }
}

/// Only as far as this process relies on it: ministack judges the rest.
fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    matches!(parts.as_slice(), ["arn", _, "iam", "", account, resource]
        if is_account(account) && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty()))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Result<Config, ConfigError> {
        let mut settings = json!({
            "region": "eu-central-1", "account": "123456789012", "upstream": "http://127.0.0.1:4570",
            "endpoint": {"listen": ["10.0.0.1:4566"]}, "control": "127.0.0.1:4571",
            "instances": [{"id": "i-0123456789abcdef0", "zone": "eu-central-1a", "local_ipv4": "10.0.1.10",
                "role_arn": "arn:aws:iam::123456789012:role/node", "user_data": "secret-user-data",
                "listen": [{"address": "169.254.169.254:80", "device": "aws-a"}, {"address": "[fd00:ec2::254]:80"}]}],
        });
        change(&mut settings);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("local-cloud.json");
        std::fs::write(&path, settings.to_string()).unwrap();
        Config::read(&path)
    }

    #[test]
    fn right_settings_are_read_and_their_secrets_not_shown() {
        let config = read(|_| ()).unwrap();
        assert_eq!(config.instances[0].hop_limit, 1);
        assert_eq!(config.secrets().len(), 1);
        assert!(!format!("{config:?}").contains("secret-user-data"));
    }

    #[test]
    fn wrong_settings_are_named() {
        let mut found = Vec::new();
        let changes: [fn(&mut Value); 7] = [
            |s| s["account"] = json!("12"),
            |s| s["upstream"] = json!("https://127.0.0.1:4570"),
            |s| s["upstream"] = json!("http://127.0.0.1:4570/path"),
            |s| s["instances"][0]["id"] = json!("node-a"),
            |s| s["instances"][0]["hop_limit"] = json!(65),
            |s| s["instances"][0]["role_arn"] = json!("node"),
            |s| {
                s["api"] = json!({"id": "a", "vpce_id": "v", "vpc_id": "v", "stage": "v1", "resource": "/c", "listen": [],
                "tls": {"ca_certificate_out": "ca.pem"}});
            },
        ];
        for change in changes {
            match read(change) {
                Err(ConfigError::Invalid(text)) => found.push(text),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            found,
            [
                "account \"12\" must be 12 digits",
                "upstream https://127.0.0.1:4570/ must be http://HOST:PORT of ministack",
                "upstream http://127.0.0.1:4570/path must be http://HOST:PORT of ministack",
                "instance id \"node-a\" must be i- and 8 or 17 hex digits",
                "hop_limit 65 of i-0123456789abcdef0 must be 1 to 64",
                "role_arn \"node\" of i-0123456789abcdef0 must be arn:aws:iam::ACCOUNT:role/NAME",
                "api and function go together: give both or neither",
            ]
        );
    }

    #[test]
    fn an_unknown_setting_and_a_missing_file_are_errors() {
        let error = format!("{:#}", anyhow::Error::from(read(|s| s["conrtol"] = json!(1)).unwrap_err()));
        assert!(error.contains("are wrong: unknown field `conrtol`, expected one of `region`"), "{error}");
        let error = anyhow::Error::from(Config::read(Path::new("/nowhere/local-cloud.json")).unwrap_err());
        assert_eq!(
            format!("{error:#}"),
            "cannot read the settings /nowhere/local-cloud.json; give --config a readable JSON file: No such file or \
             directory (os error 2)"
        );
    }
}
