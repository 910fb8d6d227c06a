//! The data keys that seal the shared cache: one a day, made by whichever environment comes first.
//!
//! The wrapped key is an item of the cache table, `data-key/DAY`, written by a conditional put. KMS unwraps it once per
//! environment and day, in INIT where possible, and never once per request: after a failure it is left alone for a while, in
//! which sessions come straight from STS.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::types::DataKeySpec;
use model::time::UnixMillis;
use thiserror::Error;
use zeroize::Zeroizing;

use super::sealed::{SealError, SealingKey};
use crate::aws_error::describe;

/// The attribute that holds a wrapped key.
const WRAPPED: &str = "wrapped";
/// How long KMS and the table are left alone after a failure.
const BACKOFF: Duration = Duration::from_secs(30);
/// How long a wrapped key is kept: no session sealed with it lives longer.
const KEEP_KEY: Duration = Duration::from_secs(3 * 24 * 3600);

const DAY_MILLIS: u64 = 24 * 3600 * 1000;

/// The id of a data key: the day it was made on, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyId(u64);

impl KeyId {
    /// The key of the day of `now`.
    pub(crate) fn of_day(now: UnixMillis) -> Self {
        Self(now.0 / DAY_MILLIS)
    }

    /// Reads an id; what is no number is day 0, whose key nobody has.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.parse().unwrap_or_default())
    }

    /// Whether a session that is fresh now can have been sealed with this key, by any clock that is off by less than a day.
    fn is_near(self, today: Self) -> bool {
        self.0.abs_diff(today.0) <= 2
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The data keys of this environment.
pub(crate) struct KeyRing {
    dynamo: aws_sdk_dynamodb::Client,
    table: String,
    kms: aws_sdk_kms::Client,
    kms_key: String,
    /// A plain mutex: held for a look-up, never across an await.
    known: Mutex<Known>,
    /// Held while a key is loaded, so that one request's sessions load it once. An async mutex for that reason.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: BTreeMap<KeyId, Arc<SealingKey>>,
    /// Until when a key that could not be loaded is not tried again.
    failed_until: HashMap<KeyId, UnixMillis>,
}

#[derive(Debug, Error)]
enum LoadError {
    #[error("the cache table: {0}")]
    Table(String),
    #[error("KMS: {0}")]
    Kms(String),
    #[error("the item of the data key holds none")]
    Item,
    #[error(transparent)]
    Key(#[from] SealError),
}

impl KeyRing {
    /// No keys yet.
    pub(crate) fn new(
        dynamo: aws_sdk_dynamodb::Client,
        table: String,
        kms: aws_sdk_kms::Client,
        kms_key: String,
    ) -> Self {
        Self { dynamo, table, kms, kms_key, known: Mutex::default(), loading: tokio::sync::Mutex::default() }
    }

    /// The key to seal with: today's, made if need be; while that cannot be had, the newest that is known.
    pub(crate) async fn current(&self, now: UnixMillis) -> Option<(KeyId, Arc<SealingKey>)> {
        let today = KeyId::of_day(now);
        if let Some(key) = self.load(today, now, true).await {
            return Some((today, key));
        }
        self.known().keys.last_key_value().map(|(id, key)| (*id, Arc::clone(key)))
    }

    /// The key that an item names.
    pub(crate) async fn named(&self, id: KeyId, now: UnixMillis) -> Option<Arc<SealingKey>> {
        if !id.is_near(KeyId::of_day(now)) {
            return None;
        }
        self.load(id, now, false).await
    }

    async fn load(&self, id: KeyId, now: UnixMillis, make: bool) -> Option<Arc<SealingKey>> {
        if let Some(known) = self.recall(id, now) {
            return known;
        }
        let _alone = self.loading.lock().await;
        if let Some(known) = self.recall(id, now) {
            return known;
        }
        // Noted first: a request that gives up in the middle must not leave the next one to wait as long.
        self.known().failed_until.insert(id, now.plus(BACKOFF));
        match self.fetch(id, now, make).await {
            Ok(key) => {
                let key = Arc::new(key);
                let mut known = self.known();
                known.failed_until.remove(&id);
                known.keys.retain(|old, _| old.is_near(KeyId::of_day(now)));
                known.keys.insert(id, Arc::clone(&key));
                Some(key)
            }
            Err(error) => {
                tracing::error!(%error, key = %id, "no data key: sessions are not shared for a while");
                None
            }
        }
    }

    /// The outer `None` where nothing is known and loading is worth a try.
    #[allow(clippy::option_option)] // "unknown" and "known not to be had" differ
    fn recall(&self, id: KeyId, now: UnixMillis) -> Option<Option<Arc<SealingKey>>> {
        let known = self.known();
        match known.keys.get(&id) {
            Some(key) => Some(Some(Arc::clone(key))),
            None => known.failed_until.get(&id).is_some_and(|until| now < *until).then_some(None),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, id: KeyId, now: UnixMillis, make: bool) -> Result<SealingKey, LoadError> {
        if let Some(wrapped) = self.stored(id).await? {
            return self.unwrap(id, wrapped).await;
        }
        if !make {
            return Err(LoadError::Item);
        }
        match self.make(id, now).await? {
            Some(key) => Ok(key),
            // Another environment was faster: its key is everybody's.
            None => self.unwrap(id, self.stored(id).await?.ok_or(LoadError::Item)?).await,
        }
    }

    async fn stored(&self, id: KeyId) -> Result<Option<Blob>, LoadError> {
        let asked = self.dynamo.get_item().table_name(&self.table).key("pk", pk(id)).consistent_read(true);
        let answer = asked.send().await.map_err(|error| LoadError::Table(describe(&error)))?;
        match answer.item.map(|mut item| item.remove(WRAPPED)) {
            None => Ok(None),
            Some(Some(AttributeValue::B(wrapped))) => Ok(Some(wrapped)),
            Some(_) => Err(LoadError::Item),
        }
    }

    async fn unwrap(&self, id: KeyId, wrapped: Blob) -> Result<SealingKey, LoadError> {
        let asked = self.kms.decrypt().key_id(&self.kms_key).set_encryption_context(Some(context(id)));
        let answer = asked.ciphertext_blob(wrapped).send().await.map_err(|error| LoadError::Kms(describe(&error)))?;
        plain(answer.plaintext)
    }

    /// Makes the key of a day, unless somebody else has.
    async fn make(&self, id: KeyId, now: UnixMillis) -> Result<Option<SealingKey>, LoadError> {
        let asked = self.kms.generate_data_key().key_id(&self.kms_key).key_spec(DataKeySpec::Aes256);
        let answer = asked.set_encryption_context(Some(context(id))).send().await;
        let answer = answer.map_err(|error| LoadError::Kms(describe(&error)))?;
        let key = plain(answer.plaintext)?;
        let wrapped = answer.ciphertext_blob.ok_or(LoadError::Item)?;
        let put = self
            .dynamo
            .put_item()
            .table_name(&self.table)
            .item("pk", pk(id))
            .item(WRAPPED, AttributeValue::B(wrapped))
            .item("expires_at", AttributeValue::N(now.plus(KEEP_KEY).as_secs().to_string()))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        match put {
            Ok(_) => Ok(Some(key)),
            Err(error) if error.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) => {
                Ok(None)
            }
            Err(error) => Err(LoadError::Table(describe(&error))),
        }
    }
}

fn plain(plaintext: Option<Blob>) -> Result<SealingKey, LoadError> {
    let bytes = Zeroizing::new(plaintext.ok_or(LoadError::Item)?.into_inner());
    Ok(SealingKey::new(&bytes)?)
}

fn pk(id: KeyId) -> AttributeValue {
    AttributeValue::S(format!("data-key/{id}"))
}

/// What KMS binds a wrapped key to: an item moved to another day, or a key made for anything else, does not unwrap.
fn context(id: KeyId) -> HashMap<String, String> {
    HashMap::from([
        ("rolecall:purpose".to_owned(), "session-cache".to_owned()),
        ("rolecall:key".to_owned(), id.to_string()),
    ])
}
