//! The shared copy of a session and the lease on making it, which are one item of the cache table: `item` says what it holds.

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

use super::chance::random_hex;
use super::item::{Found, Item, SealedSession, Seen};
use super::sts::StsFailure;
use crate::aws_error::describe;

/// How long a lease lasts without being renewed. It is a second less the time in which others find that it has lapsed: an
/// environment that dies delays nobody by more than a second.
pub(crate) const LEASE: Duration = Duration::from_millis(950);
/// How often a lease is renewed while STS is awaited: twice may be lost.
pub(crate) const RENEWAL: Duration = Duration::from_millis(300);
/// How long DynamoDB keeps an item that holds no session.
const KEEP_LEASE: Duration = Duration::from_secs(3600);
/// The condition on a claim: neither leased, nor denied, nor a session to hand out.
const FREE: &str = "(attribute_not_exists(lease_until) OR lease_until < :now) \
                    AND (attribute_not_exists(denied_until) OR denied_until < :now) \
                    AND (attribute_not_exists(fresh_until) OR fresh_until < :now)";

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

/// The right to ask STS for a session, for as long as it is renewed.
#[derive(Debug)]
pub(crate) struct Lease {
    pk: String,
    owner: String,
}

/// What became of a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The lease is ours.
    Lease(Lease),
    /// It is not, and this is why.
    Found(Found),
}

impl SharedCache {
    /// The sessions in `table`.
    pub(crate) fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Takes the lease on a session, or finds what the item holds instead: one write either way. An item that was seen to be
    /// `unusable` is replaced, unless it has changed since.
    pub(crate) async fn claim(
        &self,
        key: &CacheKey,
        unusable: Option<&Seen>,
        now: UnixMillis,
    ) -> Result<Claim, CacheUnavailable> {
        let lease = Lease { pk: key.digest_hex(), owner: random_hex() };
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", text(&lease.pk))
            .update_expression(
                "SET lease_owner = :owner, lease_until = :until, expires_at = :expires \
                 REMOVE sealed, key_id, fresh_until, denied_until, denied_because",
            )
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_values(":owner", text(&lease.owner))
            .expression_attribute_values(":until", millis(now.plus(LEASE)))
            .expression_attribute_values(":expires", seconds(now.plus(KEEP_LEASE)));
        update = match unusable.map(Seen::condition) {
            None => update.condition_expression(FREE).expression_attribute_values(":now", millis(now)),
            Some((unchanged, values)) => {
                let update = update.condition_expression(unchanged);
                values.into_iter().fold(update, |update, (name, value)| update.expression_attribute_values(name, value))
            }
        };
        match found_instead(update.send().await)? {
            None => Ok(Claim::Lease(lease)),
            Some(item) => Ok(Claim::Found(Found::new(item, now))),
        }
    }

    /// What the item says, without claiming it: cheaper to ask often.
    pub(crate) async fn look(&self, key: &CacheKey, now: UnixMillis) -> Result<Found, CacheUnavailable> {
        let asked = self.client.get_item().table_name(&self.table).key("pk", text(&key.digest_hex()));
        let answer = asked.consistent_read(true).send().await.map_err(|error| CacheUnavailable(describe(&error)))?;
        Ok(Found::new(answer.item.unwrap_or_default(), now))
    }

    /// Makes the lease last until then. Whether it still was ours.
    pub(crate) async fn hold(&self, lease: &Lease, until: UnixMillis) -> Result<bool, CacheUnavailable> {
        let update = self.update(lease, "SET lease_until = :until");
        let sent = update.expression_attribute_values(":until", millis(until)).send().await;
        Ok(found_instead(sent)?.is_none())
    }

    /// Writes the session, which ends the lease. Whether the lease still was ours: if not, another
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
             REMOVE lease_owner, lease_until",
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
            _ => self.update(lease, "SET denied_until = :denied REMOVE lease_owner, lease_until"),
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
