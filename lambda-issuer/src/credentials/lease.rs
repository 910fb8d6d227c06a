//! The shared copy of a session and the lease on making it, which are one item of the cache table.
//!
//! ```text
//! pk              hex digest of the session's cache key
//! sealed          the sealed session                 } written together,
//! key_id          the data key it is sealed with     } when STS has answered;
//! fresh_until     until when it may be handed out    } the write ends the lease
//! lease_owner     who is asking STS
//! lease_until     until when the others wait for it
//! denied_until    until when STS's denial stands
//! denied_because  STS's own words, where it said more than "denied"
//! expires_at      when DynamoDB may delete the item, in seconds (the table's TTL attribute)
//! ```
//!
//! Times are milliseconds since 1970, of the writer's clock; those of Lambda's machines agree to far less than a lease.
//! `fresh_until` only steers: what counts is the expiry inside the sealed text.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_runtime_api::client::result::SdkError;
use model::session::CacheKey;
use model::time::UnixMillis;
use thiserror::Error;

use super::data_key::KeyId;
use super::random_hex;
use super::sts::StsFailure;
use crate::aws_error::describe;

/// How long a lease lasts without being renewed, which is how long others wait for an environment that died.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// How often a lease is renewed while STS is awaited: twice may be lost.
pub(crate) const RENEWAL: Duration = Duration::from_millis(300);
/// How long DynamoDB keeps an item that holds no session.
const KEEP_LEASE: Duration = Duration::from_secs(3600);

type Item = HashMap<String, AttributeValue>;

/// The items of the cache table that hold sessions.
#[derive(Clone, Debug)]
pub(crate) struct SharedCache {
    client: Client,
    table: String,
}

/// The cache table does not answer. For the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the cache table does not answer: {0}")]
pub(crate) struct CacheUnavailable(pub String);

/// A sealed session, as it lies in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedSession {
    /// The data key.
    pub(crate) key_id: KeyId,
    /// The sealed text.
    pub(crate) text: Vec<u8>,
}

/// The right to ask STS for a session, for as long as it is renewed.
#[derive(Debug)]
pub(crate) struct Lease {
    pk: String,
    owner: String,
}

/// What an item says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// A session that may be handed out, if it opens.
    Session(SealedSession),
    /// STS denied it a moment ago.
    Denied(StsFailure),
    /// Another environment is asking STS.
    Held,
    /// Nothing: whoever claims it may ask STS.
    Free,
}

/// What became of a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The lease is ours.
    Lease(Lease),
    /// It is not, and this is why.
    Found(View),
}

impl SharedCache {
    /// The sessions in `table`.
    pub(crate) fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Takes the lease on a session, or finds what the item holds instead: one write either way. A session with the sealed
    /// text `replacing` counts as none; it is one that did not open.
    pub(crate) async fn claim(
        &self,
        key: &CacheKey,
        replacing: Option<&SealedSession>,
        now: UnixMillis,
    ) -> Result<Claim, CacheUnavailable> {
        let lease = Lease { pk: key.digest_hex(), owner: random_hex() };
        let stale = if replacing.is_some() {
            "(attribute_not_exists(fresh_until) OR fresh_until < :now OR sealed = :replacing)"
        } else {
            "(attribute_not_exists(fresh_until) OR fresh_until < :now)"
        };
        let condition = format!(
            "(attribute_not_exists(lease_until) OR lease_until < :now) \
             AND (attribute_not_exists(denied_until) OR denied_until < :now) AND {stale}"
        );
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", text(&lease.pk))
            .update_expression("SET lease_owner = :owner, lease_until = :until, expires_at = :expires")
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_values(":owner", text(&lease.owner))
            .expression_attribute_values(":until", millis(now.plus(LEASE)))
            .expression_attribute_values(":expires", seconds(now.plus(KEEP_LEASE)))
            .expression_attribute_values(":now", millis(now));
        if let Some(sealed) = replacing {
            update =
                update.expression_attribute_values(":replacing", AttributeValue::B(Blob::new(sealed.text.clone())));
        }
        match found_instead(update.send().await)? {
            None => Ok(Claim::Lease(lease)),
            Some(item) => Ok(Claim::Found(View::of(&item, now))),
        }
    }

    /// What the item says, without claiming it: cheaper to ask often.
    pub(crate) async fn look(&self, key: &CacheKey, now: UnixMillis) -> Result<View, CacheUnavailable> {
        let asked = self.client.get_item().table_name(&self.table).key("pk", text(&key.digest_hex()));
        let answer = asked.consistent_read(true).send().await.map_err(|error| CacheUnavailable(describe(&error)))?;
        Ok(answer.item.map_or(View::Free, |item| View::of(&item, now)))
    }

    /// Makes the lease last a full term from `now`. Whether it still was ours.
    pub(crate) async fn renew(&self, lease: &Lease, now: UnixMillis) -> Result<bool, CacheUnavailable> {
        let update = self.update(lease, "SET lease_until = :until");
        let sent = update.expression_attribute_values(":until", millis(now.plus(LEASE))).send().await;
        Ok(found_instead(sent)?.is_none())
    }

    /// Writes the session, which ends the lease and any earlier denial. Whether the lease still was ours: if not, another
    /// environment is making a session of its own, and this one is only not shared.
    pub(crate) async fn publish(
        &self,
        lease: &Lease,
        sealed: SealedSession,
        fresh_until: UnixMillis,
        expires: UnixMillis,
    ) -> Result<bool, CacheUnavailable> {
        let update = self.update(
            lease,
            "SET sealed = :sealed, key_id = :key, fresh_until = :fresh, expires_at = :expires \
             REMOVE lease_owner, lease_until, denied_until, denied_because",
        );
        let sent = update
            .expression_attribute_values(":sealed", AttributeValue::B(Blob::new(sealed.text)))
            .expression_attribute_values(":key", text(&sealed.key_id.to_string()))
            .expression_attribute_values(":fresh", millis(fresh_until))
            .expression_attribute_values(":expires", seconds(expires))
            .send()
            .await;
        Ok(found_instead(sent)?.is_none())
    }

    /// Writes STS's denial, which ends the lease.
    pub(crate) async fn deny(
        &self,
        lease: &Lease,
        denial: &StsFailure,
        until: UnixMillis,
    ) -> Result<(), CacheUnavailable> {
        let update = match denial {
            StsFailure::Rejected(said) => self
                .update(lease, "SET denied_until = :denied, denied_because = :because REMOVE lease_owner, lease_until")
                .expression_attribute_values(":because", text(said)),
            _ => self.update(lease, "SET denied_until = :denied REMOVE lease_owner, lease_until, denied_because"),
        };
        let sent = update.expression_attribute_values(":denied", millis(until)).send().await;
        found_instead(sent).map(|_| ())
    }

    /// Gives the lease up at once, for somebody else to take.
    pub(crate) async fn release(&self, lease: &Lease) -> Result<(), CacheUnavailable> {
        let sent = self.update(lease, "REMOVE lease_owner, lease_until").send().await;
        found_instead(sent).map(|_| ())
    }

    /// A write that is done only while the lease is ours.
    fn update(&self, lease: &Lease, expression: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", text(&lease.pk))
            .update_expression(expression)
            .condition_expression("lease_owner = :me")
            .expression_attribute_values(":me", text(&lease.owner))
    }
}

impl View {
    fn of(item: &Item, now: UnixMillis) -> Self {
        let until = |attribute| match item.get(attribute) {
            Some(AttributeValue::N(number)) => number.parse().is_ok_and(|until| now <= UnixMillis(until)),
            _ => false,
        };
        // A lease on a session that is still there means that somebody found it not to open: the new one is awaited.
        if until("lease_until") {
            return Self::Held;
        }
        if until("denied_until") {
            return Self::Denied(match item.get("denied_because") {
                Some(AttributeValue::S(said)) => StsFailure::Rejected(said.clone()),
                _ => StsFailure::Denied,
            });
        }
        match (item.get("sealed"), item.get("key_id")) {
            (Some(AttributeValue::B(sealed)), Some(AttributeValue::S(key_id))) if until("fresh_until") => {
                let key_id = KeyId::parse(key_id);
                Self::Session(SealedSession { key_id, text: sealed.as_ref().to_vec() })
            }
            _ => Self::Free,
        }
    }
}

/// `None` where the write was done, the item where its condition did not hold.
fn found_instead<R>(
    sent: Result<UpdateItemOutput, SdkError<UpdateItemError, R>>,
) -> Result<Option<Item>, CacheUnavailable> {
    match sent {
        Ok(_) => Ok(None),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Some(failed.item().cloned().unwrap_or_default()))
            }
            _ => Err(CacheUnavailable(describe(&error))),
        },
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn millis(time: UnixMillis) -> AttributeValue {
    AttributeValue::N(time.0.to_string())
}

fn seconds(time: UnixMillis) -> AttributeValue {
    AttributeValue::N(time.as_secs().to_string())
}
