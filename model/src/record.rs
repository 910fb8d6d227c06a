//! What the directory table holds. annotation-sync alone writes it, an operator writes quarantines, the issuer reads it.
//!
//! An item has a key attribute `pk` and one attribute `record`: JSON with a version. One text keeps every writer and reader,
//! and a person at a console, on the same form, and DynamoDB needs to know none of it.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::{ClusterName, InstanceId, Namespace, NodeName, PodName, ServiceAccount, Uid};
use crate::time::UnixMillis;
use crate::wire::short_reason;

/// The name of the key attribute.
pub const KEY_ATTRIBUTE: &str = "pk";
/// The name of the attribute that holds the record's JSON.
pub const RECORD_ATTRIBUTE: &str = "record";
/// The version of the records. A record of another version is not read: an old issuer must not guess at a newer sync's meaning.
pub const VERSION: u32 = 1;

/// The key of an item. Names of Kubernetes objects hold no slash, so no two objects share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(String);

impl RecordKey {
    /// A pod's.
    pub fn pod(cluster: &ClusterName, namespace: &Namespace, name: &PodName) -> Self {
        Self(format!("{cluster}/pod/{namespace}/{name}"))
    }

    /// A namespace's.
    pub fn namespace(cluster: &ClusterName, namespace: &Namespace) -> Self {
        Self(format!("{cluster}/namespace/{namespace}"))
    }

    /// A node's, by its EC2 instance, since that is what a request proves.
    pub fn node(cluster: &ClusterName, instance: &InstanceId) -> Self {
        Self(format!("{cluster}/node/{instance}"))
    }

    /// The directory's freshness.
    pub fn health(cluster: &ClusterName) -> Self {
        Self(format!("{cluster}/health"))
    }

    /// A node's quarantine.
    pub fn quarantine(cluster: &ClusterName, instance: &InstanceId) -> Self {
        Self(format!("{cluster}/quarantine/{instance}"))
    }

    /// The value of the key attribute.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A pod that carries the role annotation. Texts of annotations are kept as they were written: what they mean is decided
/// where they are used, so that an unreadable one is refused with its reason and not lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Its UID.
    pub uid: Uid,
    /// The role annotation.
    pub role: String,
    /// The external-id annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The session-name annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// Its service account.
    pub service_account: ServiceAccount,
    /// The node it is bound to.
    pub node: NodeName,
    /// That node's EC2 instance; none while the node has not told it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Its resource version, for people who compare.
    pub resource_version: String,
}

/// A namespace's permissions, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// kiam's annotation: a regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted: Option<String>,
    /// kube2iam's annotation: a JSON array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_roles: Option<String>,
    /// The external id of all its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name in Kubernetes.
    pub name: NodeName,
    /// Its UID.
    pub uid: Uid,
    /// Its internal addresses, from which its requests come.
    pub addresses: Vec<IpAddr>,
}

/// How fresh the directory is: every event of a watch up to its time has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// Of the pod watch: a pod made before it is here, if it is annotated.
    pub pods_as_of: UnixMillis,
    /// Of the namespace watch.
    pub namespaces_as_of: UnixMillis,
}

/// An operator's order to give a node nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// Who ordered it.
    pub by: String,
    /// Why, for the message and the audit.
    pub reason: String,
    /// When.
    pub since: UnixMillis,
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadRecord {
    /// Not JSON, or not of this shape.
    #[error("the record is not understood: {0}")]
    Malformed(String),
    /// Of another version.
    #[error("the record has version {0}, this program reads version {VERSION}: deploy sync and issuer of one release")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

mod sealed {
    pub trait Record {}
}

/// A record of the directory: text in the table, a type everywhere else.
pub trait Record: sealed::Record + Serialize + DeserializeOwned {
    /// The value of the record attribute.
    fn to_json(&self) -> String {
        // Serialising these plain structs to memory cannot fail; an empty text would be refused by every reader.
        serde_json::to_string(&Versioned { version: VERSION, record: self }).unwrap_or_default()
    }

    /// Reads the value of the record attribute.
    fn from_json(text: &str) -> Result<Self, BadRecord> {
        #[derive(Deserialize)]
        struct OnlyVersion {
            version: u32,
        }
        let malformed = |error: serde_json::Error| BadRecord::Malformed(short_reason(&error));
        let OnlyVersion { version } = serde_json::from_str(text).map_err(malformed)?;
        if version != VERSION {
            return Err(BadRecord::Version(version));
        }
        let versioned: Versioned<Self> = serde_json::from_str(text).map_err(malformed)?;
        Ok(versioned.record)
    }
}

macro_rules! records {
    ($($type:ty),+) => { $(impl sealed::Record for $type {} impl Record for $type {})+ };
}
records!(PodRecord, NamespaceRecord, NodeRecord, HealthRecord, QuarantineRecord);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pod() -> PodRecord {
        PodRecord {
            uid: Uid::parse("uid-1").unwrap(),
            role: "app".into(),
            external_id: None,
            session_name: Some("me".into()),
            service_account: ServiceAccount::parse("default").unwrap(),
            node: NodeName::parse("node-a").unwrap(),
            instance: Some(InstanceId::parse("i-0123456789abcdef0").unwrap()),
            resource_version: "7".into(),
        }
    }

    #[test]
    fn records_round_trip_with_their_version() {
        let text = pod().to_json();
        assert!(text.starts_with(r#"{"version":1,"uid":"uid-1","role":"app","session_name":"me","#), "{text}");
        assert_eq!(PodRecord::from_json(&text), Ok(pod()));
        let health = HealthRecord { pods_as_of: UnixMillis(5), namespaces_as_of: UnixMillis(6) };
        assert_eq!(HealthRecord::from_json(&health.to_json()), Ok(health));
        let node = NodeRecord {
            name: NodeName::parse("node-a").unwrap(),
            uid: Uid::parse("u").unwrap(),
            addresses: vec!["10.0.1.10".parse().unwrap(), "fd00::10".parse().unwrap()],
        };
        assert_eq!(NodeRecord::from_json(&node.to_json()), Ok(node));
        assert_eq!(NamespaceRecord::from_json(r#"{"version":1}"#), Ok(NamespaceRecord::default()));
    }

    #[test]
    fn another_version_and_another_form_are_told_apart() {
        assert_eq!(
            PodRecord::from_json(&pod().to_json().replace("\"version\":1", "\"version\":2")),
            Err(BadRecord::Version(2))
        );
        assert!(matches!(PodRecord::from_json("{}"), Err(BadRecord::Malformed(_))));
        assert!(matches!(PodRecord::from_json(r#"{"version":1}"#), Err(BadRecord::Malformed(_))));
        assert!(matches!(PodRecord::from_json(""), Err(BadRecord::Malformed(_))));
    }

    #[test]
    fn keys_name_their_object() {
        let cluster = ClusterName::parse("prod").unwrap();
        let namespace = Namespace::parse("default").unwrap();
        let instance = InstanceId::parse("i-01234567").unwrap();
        assert_eq!(
            RecordKey::pod(&cluster, &namespace, &PodName::parse("web-0").unwrap()).as_str(),
            "prod/pod/default/web-0"
        );
        assert_eq!(RecordKey::namespace(&cluster, &namespace).as_str(), "prod/namespace/default");
        assert_eq!(RecordKey::node(&cluster, &instance).as_str(), "prod/node/i-01234567");
        assert_eq!(RecordKey::health(&cluster).as_str(), "prod/health");
        assert_eq!(RecordKey::quarantine(&cluster, &instance).as_str(), "prod/quarantine/i-01234567");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_refused_not_fatal(text in ".{0,200}") {
            let _ = PodRecord::from_json(&text);
            let _ = NodeRecord::from_json(&text);
        }
    }
}
