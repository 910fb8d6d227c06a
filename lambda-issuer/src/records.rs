//! Everything a request needs from the directory, in one strongly consistent read.
//!
//! A record that cannot be read never permits anything: a quarantine that cannot be read is a quarantine, a pod that cannot
//! be read is no pod without a role (which would take away the credentials it has) but a pod to ask about again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures_util::future::try_join_all;
use model::name::{ClusterName, InstanceId, PodRef};
use model::record::{
    BadRecord, HealthRecord, KEY_ATTRIBUTE, NamespaceRecord, NodeRecord, PodRecord, QuarantineRecord, RECORD_ATTRIBUTE,
    Record, RecordKey,
};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

use crate::aws_error::describe;

/// DynamoDB's limit for one `BatchGetItem`.
const BATCH: usize = 100;
/// The first wait before unprocessed keys are asked for again; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
/// The longest such wait.
const LONGEST_BACKOFF: Duration = Duration::from_millis(320);

/// The directory table.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    client: Client,
    table: String,
}

/// The directory cannot be read just now. For the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum DirectoryUnavailable {
    /// DynamoDB refused or failed.
    #[error("the directory could not be read: {0}")]
    Failed(String),
    /// DynamoDB did not answer in time, or left keys unprocessed.
    #[error("the directory was not read in time")]
    TooSlow,
}

/// What the directory says of one object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup<T> {
    /// Its record.
    Found(T),
    /// It has none.
    Absent,
    /// It has one that this program cannot read.
    Unreadable(BadRecord),
}

impl<T> Lookup<T> {
    /// The record, where there is one that can be read.
    pub(crate) fn found(&self) -> Option<&T> {
        match self {
            Self::Found(record) => Some(record),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// The same, to keep.
    pub(crate) fn into_found(self) -> Option<T> {
        match self {
            Self::Found(record) => Some(record),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// The records of one request.
#[derive(Debug)]
pub(crate) struct Records {
    cluster: ClusterName,
    /// By key; an item without a record attribute is an empty text, which no record can be.
    items: HashMap<String, String>,
}

impl Directory {
    /// The directory in `table`.
    pub(crate) fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Reads the records of `pods` and their namespaces, of the node, its quarantine and the directory's health.
    pub(crate) async fn read(
        &self,
        cluster: &ClusterName,
        instance: &InstanceId,
        pods: impl Iterator<Item = &PodRef>,
        deadline: Instant,
    ) -> Result<Records, DirectoryUnavailable> {
        let mut keys = BTreeSet::from([
            RecordKey::node(cluster, instance),
            RecordKey::quarantine(cluster, instance),
            RecordKey::health(cluster),
        ]);
        for pod in pods {
            keys.insert(RecordKey::pod(cluster, &pod.namespace, &pod.name));
            keys.insert(RecordKey::namespace(cluster, &pod.namespace));
        }
        let keys: Vec<_> = keys.iter().collect();
        let batches = try_join_all(keys.chunks(BATCH).map(|batch| self.read_batch(batch)));
        let batches = timeout_at(deadline, batches).await.map_err(|_| DirectoryUnavailable::TooSlow)??;
        Ok(Records { cluster: cluster.clone(), items: batches.into_iter().flatten().collect() })
    }

    /// Opens a connection with a read of the kind that requests do, and so under the same permission.
    pub(crate) async fn warm(&self, cluster: &ClusterName) -> Result<(), DirectoryUnavailable> {
        self.read_batch(&[&RecordKey::health(cluster)]).await.map(|_| ())
    }

    /// Reads at most [`BATCH`] keys, however often DynamoDB leaves some out: the caller's deadline ends it.
    async fn read_batch(&self, keys: &[&RecordKey]) -> Result<Vec<(String, String)>, DirectoryUnavailable> {
        let key =
            |key: &&RecordKey| HashMap::from([(KEY_ATTRIBUTE.to_owned(), AttributeValue::S(key.as_str().to_owned()))]);
        let mut wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys.iter().map(key).collect()))
            .consistent_read(true)
            .build()
            .map_err(|error| DirectoryUnavailable::Failed(error.to_string()))?;
        let mut found = Vec::with_capacity(keys.len());
        let mut backoff = FIRST_BACKOFF;
        loop {
            let answer = self.client.batch_get_item().request_items(&self.table, wanted).send().await;
            let answer = answer.map_err(|error| DirectoryUnavailable::Failed(describe(&error)))?;
            let items = answer.responses.into_iter().flat_map(HashMap::into_values).flatten();
            found.extend(items.filter_map(key_and_record));
            match answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.table)) {
                Some(mut rest) if !rest.keys.is_empty() => {
                    // Asked for again by us, not by whoever wrote the answer: a stale read would let an edit or a quarantine wait.
                    rest.consistent_read = Some(true);
                    wanted = rest;
                }
                _ => return Ok(found),
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }
}

fn key_and_record(mut item: HashMap<String, AttributeValue>) -> Option<(String, String)> {
    let mut text = |attribute| match item.remove(attribute) {
        Some(AttributeValue::S(text)) => Some(text),
        _ => None,
    };
    Some((text(KEY_ATTRIBUTE)?, text(RECORD_ATTRIBUTE).unwrap_or_default()))
}

impl Records {
    /// A pod's record.
    pub(crate) fn pod(&self, pod: &PodRef) -> Lookup<PodRecord> {
        self.lookup(&RecordKey::pod(&self.cluster, &pod.namespace, &pod.name))
    }

    /// The record of a pod's namespace.
    pub(crate) fn namespace(&self, pod: &PodRef) -> Lookup<NamespaceRecord> {
        self.lookup(&RecordKey::namespace(&self.cluster, &pod.namespace))
    }

    /// A node's record.
    pub(crate) fn node(&self, instance: &InstanceId) -> Lookup<NodeRecord> {
        self.lookup(&RecordKey::node(&self.cluster, instance))
    }

    /// The order to give a node nothing.
    pub(crate) fn quarantine(&self, instance: &InstanceId) -> Lookup<QuarantineRecord> {
        self.lookup(&RecordKey::quarantine(&self.cluster, instance))
    }

    /// How fresh the directory is.
    pub(crate) fn health(&self) -> Lookup<HealthRecord> {
        self.lookup(&RecordKey::health(&self.cluster))
    }

    fn lookup<T: Record>(&self, key: &RecordKey) -> Lookup<T> {
        let Some(text) = self.items.get(key.as_str()) else { return Lookup::Absent };
        match T::from_json(text) {
            Ok(record) => Lookup::Found(record),
            Err(error) => {
                tracing::error!(key = key.as_str(), %error, "a record of the directory cannot be read");
                Lookup::Unreadable(error)
            }
        }
    }
}
