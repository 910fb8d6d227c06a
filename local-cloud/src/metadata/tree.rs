//! What lies under which path of one instance's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

use super::Surroundings;
use crate::config::InstanceConfig;

/// Proofs of being the instance, which no proxy may pass on. On EC2 they are signatures; these are texts to search for.
pub const FAKE_PROOFS: [(&str, &str); 4] = [
    ("dynamic/instance-identity/signature", "LOCAL-CLOUD-FAKE-IDENTITY-SIGNATURE"),
    ("dynamic/instance-identity/pkcs7", "LOCAL-CLOUD-FAKE-IDENTITY-PKCS7"),
    ("dynamic/instance-identity/rsa2048", "LOCAL-CLOUD-FAKE-IDENTITY-RSA2048"),
    (
        "meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
        "{\n  \"Code\" : \"Success\",\n  \"AccessKeyId\" : \"LOCAL-CLOUD-FAKE-IDENTITY-KEY\"\n}",
    ),
];

/// What a path holds.
#[derive(Debug)]
pub(super) enum Leaf {
    Text(String),
    Secret(SecretString),
    /// The role's credentials, which change.
    Credentials,
}

/// What is found at a path.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Text(&'a str),
    Credentials,
    Listing(String),
}

/// All paths below a version, without a slash before them.
#[derive(Debug)]
pub(super) struct Tree(BTreeMap<String, Leaf>);

impl Tree {
    pub(super) fn new(instance: &InstanceConfig, surroundings: &Surroundings) -> Self {
        let mut tree = Self(BTreeMap::new());
        let region = &surroundings.region;
        let name = format!("ip-{}.{region}.compute.internal", instance.local_ipv4.to_string().replace('.', "-"));
        tree.add("dynamic/instance-identity/document", identity_document(instance, surroundings));
        for (path, text) in FAKE_PROOFS {
            tree.add(path, text);
        }
        tree.add("meta-data/ami-id", "ami-0123456789abcdef0");
        tree.add("meta-data/hostname", name.as_str());
        tree.add("meta-data/instance-id", instance.id.as_str());
        tree.add("meta-data/instance-type", instance.instance_type.as_str());
        tree.add("meta-data/local-hostname", name);
        tree.add("meta-data/local-ipv4", instance.local_ipv4.to_string());
        tree.add("meta-data/mac", instance.mac.as_str());
        let interface = format!("meta-data/network/interfaces/macs/{}", instance.mac);
        tree.add(&format!("{interface}/device-number"), "0");
        tree.add(&format!("{interface}/local-ipv4s"), instance.local_ipv4.to_string());
        tree.add(&format!("{interface}/mac"), instance.mac.as_str());
        tree.add("meta-data/placement/availability-zone", instance.zone.as_str());
        tree.add("meta-data/placement/region", region.as_str());
        tree.add("meta-data/services/domain", "amazonaws.com");
        tree.add("meta-data/services/partition", "aws");
        if let Some(arn) = &instance.role_arn {
            let role = arn.rsplit('/').next().unwrap_or_default();
            tree.add("meta-data/iam/info", profile(role, surroundings));
            tree.0.insert(format!("meta-data/iam/security-credentials/{role}"), Leaf::Credentials);
        }
        if let Some(secret) = &instance.user_data {
            tree.0.insert("user-data".into(), Leaf::Secret(secret.clone()));
        }
        tree
    }

    fn add(&mut self, path: &str, text: impl Into<String>) {
        self.0.insert(path.to_owned(), Leaf::Text(text.into()));
    }

    /// What lies at `path`: a leaf, or the names below it. A directory is listed with and without a slash at its end.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        match self.0.get(path) {
            Some(Leaf::Text(text)) => return Some(Found::Text(text)),
            Some(Leaf::Secret(secret)) => return Some(Found::Text(secret.expose_secret())),
            Some(Leaf::Credentials) => return Some(Found::Credentials),
            None => {}
        }
        let directory = match path.strip_suffix('/').unwrap_or(path) {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let below = self.0.keys().filter_map(|key| key.strip_prefix(&directory));
        let names: BTreeSet<&str> = below.map(|rest| rest.split_inclusive('/').next().unwrap_or(rest)).collect();
        // Without a newline at the end, as EC2 writes every list.
        (!names.is_empty()).then(|| Found::Listing(names.into_iter().collect::<Vec<_>>().join("\n")))
    }
}

/// A JSON object as EC2 writes it: one field a line, ` : ` between name and value; `null` stays bare.
fn document(fields: &[(&str, Option<&str>)]) -> String {
    let mut text = String::from("{");
    for (at, (name, value)) in fields.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let value = value.map_or("null".into(), |value| serde_json::Value::from(value).to_string());
        let _ = write!(text, "{comma}\n  \"{name}\" : {value}");
    }
    text + "\n}"
}

fn identity_document(instance: &InstanceConfig, surroundings: &Surroundings) -> String {
    let started = timestamp(surroundings.clock.now());
    let address = instance.local_ipv4.to_string();
    document(&[
        ("accountId", Some(&surroundings.account)),
        ("architecture", Some("arm64")),
        ("availabilityZone", Some(&instance.zone)),
        ("billingProducts", None),
        ("devpayProductCodes", None),
        ("marketplaceProductCodes", None),
        ("imageId", Some("ami-0123456789abcdef0")),
        ("instanceId", Some(&instance.id)),
        ("instanceType", Some(&instance.instance_type)),
        ("kernelId", None),
        ("pendingTime", Some(&started)),
        ("privateIp", Some(&address)),
        ("ramdiskId", None),
        ("region", Some(&surroundings.region)),
        ("version", Some("2017-09-30")),
    ])
}

fn profile(role: &str, surroundings: &Surroundings) -> String {
    document(&[
        ("Code", Some("Success")),
        ("LastUpdated", Some(&timestamp(surroundings.clock.now()))),
        ("InstanceProfileArn", Some(&format!("arn:aws:iam::{}:instance-profile/{role}", surroundings.account))),
        ("InstanceProfileId", Some("AIPAEXAMPLEEXAMPLE12")),
    ])
}

/// The credentials as EC2 writes them, with this end.
pub(super) fn credentials(key: &crate::ledger::IssuedKey, updated: SystemTime, end: SystemTime) -> String {
    document(&[
        ("Code", Some("Success")),
        ("LastUpdated", Some(&timestamp(updated))),
        ("Type", Some("AWS-HMAC")),
        ("AccessKeyId", Some(&key.access_key_id)),
        ("SecretAccessKey", Some(key.secret_access_key.expose_secret())),
        ("Token", Some(key.session_token.expose_secret())),
        ("Expiration", Some(&timestamp(end))),
    ])
}

/// What EC2 writes, with status 200, when it cannot assume the role.
pub(super) fn no_credentials(role: &str, now: SystemTime) -> String {
    let message = format!(
        "EC2 cannot assume the role {role}. Please see documentation at https://docs.aws.amazon.com/IAM/latest/UserGuide/\
         troubleshoot_iam-ec2.html#troubleshoot_iam-ec2_errors-info-doc."
    );
    document(&[
        ("Code", Some("AssumeRoleUnauthorizedAccess")),
        ("Message", Some(&message)),
        ("LastUpdated", Some(&timestamp(now))),
    ])
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
