//! The directory table, written through `model` as annotation-sync will.

use std::sync::Arc;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_http_client::{Builder, tls};
use model::name::{ClusterName, InstanceId, Namespace, NodeName, PodName, ServiceAccount, Uid};
use model::record::{
    HealthRecord, KEY_ATTRIBUTE, NamespaceRecord, NodeRecord, PodRecord, QuarantineRecord, RECORD_ATTRIBUTE, Record,
    RecordKey,
};
use model::time::UnixMillis;

use super::{CLUSTER, MINISTACK, REGION, Table};
use crate::clock::Clock;
use crate::net::{InsideRuntime, Node, PodSpec};

/// Writes records.
#[derive(Clone, Debug)]
pub struct Directory {
    client: Client,
    inside: Arc<InsideRuntime>,
    table: String,
    cluster: ClusterName,
    clock: Clock,
}

impl Directory {
    /// Of this laboratory's cluster. `inside` is a runtime in the namespace of AWS.
    pub(crate) fn new(table: String, inside: Arc<InsideRuntime>, clock: Clock) -> Result<Self> {
        let https = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{MINISTACK}"))
            .time_source(clock.clone())
            .credentials_provider(Credentials::new("test", "test", None, None, "ministack's root"))
            .http_client(https.build_https())
            .build();
        Ok(Self { client: Client::from_conf(config), inside, table, cluster: ClusterName::parse(CLUSTER)?, clock })
    }

    /// The cluster whose records these are.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Another table of the account.
    pub fn table(&self, name: &str) -> Table {
        Table::new(self.client.clone(), Arc::clone(&self.inside), name.to_owned())
    }

    /// Writes a record.
    pub async fn put(&self, key: RecordKey, record: &impl Record) -> Result<()> {
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(KEY_ATTRIBUTE, AttributeValue::S(key.as_str().to_owned()))
            .item(RECORD_ATTRIBUTE, AttributeValue::S(record.to_json()));
        self.inside.run(request.send()).await?.map(drop).with_context(|| format!("cannot write {}", key.as_str()))
    }

    /// Deletes a record.
    pub async fn delete(&self, key: RecordKey) -> Result<()> {
        let value = AttributeValue::S(key.as_str().to_owned());
        let request = self.client.delete_item().table_name(&self.table).key(KEY_ATTRIBUTE, value);
        self.inside.run(request.send()).await?.map(drop).with_context(|| format!("cannot delete {}", key.as_str()))
    }

    /// Writes a node with its addresses.
    pub async fn put_node(&self, node: &Node) -> Result<()> {
        let record = NodeRecord {
            name: NodeName::parse(node.name())?,
            uid: Uid::parse(node.instance())?,
            addresses: node.addresses(),
        };
        self.put(RecordKey::node(&self.cluster, &InstanceId::parse(node.instance())?), &record).await
    }

    /// The record that annotation-sync would write for an annotated pod on `node`.
    pub fn record_of(&self, pod: &PodSpec, node: &Node, role: &str) -> Result<PodRecord> {
        Ok(PodRecord {
            uid: Uid::parse(&pod.uid)?,
            role: role.to_owned(),
            external_id: pod.annotation_of("external-id"),
            session_name: pod.annotation_of("session-name"),
            service_account: ServiceAccount::parse("default")?,
            node: NodeName::parse(node.name())?,
            instance: Some(InstanceId::parse(node.instance())?),
            resource_version: "1".into(),
        })
    }

    /// Writes a pod's record.
    pub async fn put_pod(&self, namespace: &str, name: &str, record: &PodRecord) -> Result<()> {
        self.put(self.pod_key(namespace, name)?, record).await
    }

    /// Deletes a pod's record.
    pub async fn delete_pod(&self, namespace: &str, name: &str) -> Result<()> {
        self.delete(self.pod_key(namespace, name)?).await
    }

    /// Writes a namespace's permissions.
    pub async fn put_namespace(&self, namespace: &str, record: &NamespaceRecord) -> Result<()> {
        self.put(RecordKey::namespace(&self.cluster, &Namespace::parse(namespace)?), record).await
    }

    /// Writes a namespace that has kiam's annotation alone.
    pub async fn permit(&self, namespace: &str, permitted: &str) -> Result<()> {
        let record = NamespaceRecord { permitted: Some(permitted.to_owned()), ..NamespaceRecord::default() };
        self.put_namespace(namespace, &record).await
    }

    /// Deletes a namespace's record.
    pub async fn delete_namespace(&self, namespace: &str) -> Result<()> {
        self.delete(RecordKey::namespace(&self.cluster, &Namespace::parse(namespace)?)).await
    }

    /// Says that all records are as of `as_of`.
    pub async fn put_health(&self, as_of: UnixMillis) -> Result<()> {
        let record = HealthRecord { pods_as_of: as_of, namespaces_as_of: as_of };
        self.put(RecordKey::health(&self.cluster), &record).await
    }

    /// Says that all records are as of now.
    pub async fn up_to_date(&self) -> Result<()> {
        self.put_health(self.clock.now().into()).await
    }

    /// Quarantines a node.
    pub async fn quarantine(&self, node: &Node, reason: &str) -> Result<()> {
        let record =
            QuarantineRecord { by: "the laboratory".into(), reason: reason.to_owned(), since: self.clock.now().into() };
        self.put(self.quarantine_key(node)?, &record).await
    }

    /// Ends a node's quarantine.
    pub async fn release(&self, node: &Node) -> Result<()> {
        self.delete(self.quarantine_key(node)?).await
    }

    fn quarantine_key(&self, node: &Node) -> Result<RecordKey> {
        Ok(RecordKey::quarantine(&self.cluster, &InstanceId::parse(node.instance())?))
    }

    fn pod_key(&self, namespace: &str, name: &str) -> Result<RecordKey> {
        Ok(RecordKey::pod(&self.cluster, &Namespace::parse(namespace)?, &PodName::parse(name)?))
    }
}
