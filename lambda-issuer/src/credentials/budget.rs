//! Budgets on new sessions: they keep one tenant from spending the account's STS rate, which all share.
//!
//! A counter is an item of the cache table per scope and minute, `budget/CLUSTER/SCOPE/NAME/MINUTE`.
//!
//! A session that pods of several namespaces share is paid for by one of them that has a budget left. None of them pays for
//! what its own pods do not need, since a namespace pays only for orders that its own pods are part of; and none is refused
//! for what another has spent.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use model::name::{ClusterName, InstanceId, Namespace};
use model::time::UnixMillis;

use super::chance::place_in;
use super::turns::Turns;
use crate::aws_error::describe;

/// How long a counter may take to answer, once it is our turn to ask. A budget that cannot be counted is not spent: it guards
/// a rate, and a rate is no reason to leave a pod without credentials.
const COUNT_LIMIT: Duration = Duration::from_millis(250);
/// How many namespaces of an order are asked to pay: more would take too much of a first ask's patience. The first is chosen at
/// random, so that among more than these, too, the one that can pay is found by asking again.
const MAX_PAYERS: usize = 4;
/// How long DynamoDB keeps a counter.
const KEEP_COUNTER: Duration = Duration::from_secs(600);

/// New sessions a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For the pods of a namespace.
    pub(crate) namespace_per_minute: u64,
    /// For the pods of an EC2 instance.
    pub(crate) instance_per_minute: u64,
}

/// For whom a session is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer<'a> {
    /// The cluster.
    pub(crate) cluster: &'a ClusterName,
    /// The namespaces of the pods that need the session.
    pub(crate) namespaces: &'a [Namespace],
    /// The instance that asks.
    pub(crate) instance: &'a InstanceId,
}

/// The counters.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    client: Client,
    table: String,
    limits: Limits,
    turns: Arc<Turns>,
}

/// A counter does not answer in time: the others, which are in the same table, are not waited for either.
struct Silent;

impl Budgets {
    /// Counters in `table`.
    pub(crate) fn new(client: Client, table: String, limits: Limits, turns: Arc<Turns>) -> Self {
        Self { client, table, limits, turns }
    }

    /// Counts one new session. The error is the sentence that names the budget which was spent already; then nothing is
    /// counted, so that a namespace that keeps asking spends no budget of its neighbours on the instance, nor an instance
    /// one of a namespace.
    pub(crate) async fn spend(&self, payer: Payer<'_>, now: UnixMillis) -> Result<(), String> {
        self.spend_both(payer, now).await.unwrap_or_else(|Silent| {
            tracing::error!("a budget was not counted in time");
            Ok(())
        })
    }

    async fn spend_both(&self, payer: Payer<'_>, now: UnixMillis) -> Result<Result<(), String>, Silent> {
        let minute = now.as_secs() / 60;
        let Payer { cluster, namespaces, instance } = payer;
        let mut paid = None;
        let first = place_in(namespaces);
        for namespace in namespaces.iter().cycle().skip(first).take(namespaces.len().min(MAX_PAYERS)) {
            let counter = format!("budget/{cluster}/namespace/{namespace}/{minute}");
            if self.take(&counter, self.limits.namespace_per_minute, now).await? {
                paid = Some(counter);
                break;
            }
        }
        let Some(paid) = paid else { return Ok(Err(self.spent_by(namespaces))) };
        let of_instance = format!("budget/{cluster}/instance/{instance}/{minute}");
        let limit = self.limits.instance_per_minute;
        if self.take(&of_instance, limit, now).await? {
            return Ok(Ok(()));
        }
        self.add(&paid, -1, now).await?;
        Ok(Err(format!(
            "the instance {instance} has spent its budget of {limit} new sessions a minute: wait, or raise the issuer's \
             BUDGET_INSTANCE_PER_MINUTE"
        )))
    }

    fn spent_by(&self, namespaces: &[Namespace]) -> String {
        let limit = self.limits.namespace_per_minute;
        // Which others share the session is not for every pod to know.
        let whose = match namespaces {
            [namespace] => format!("the namespace {namespace} has spent its budget"),
            _ => "the namespaces that share this session have spent their budgets".to_owned(),
        };
        format!("{whose} of {limit} new sessions a minute: wait, or raise the issuer's BUDGET_NAMESPACE_PER_MINUTE")
    }

    /// Counts one session against `limit`, or none where that is reached. What cannot be counted is taken.
    async fn take(&self, counter: &str, limit: u64, now: UnixMillis) -> Result<bool, Silent> {
        let count = self.add(counter, 1, now).await?;
        let over = count.is_some_and(|count| u64::try_from(count).is_ok_and(|count| count > limit));
        if over {
            self.add(counter, -1, now).await?;
        }
        Ok(!over)
    }

    /// The counter after `sessions` were added; none where it cannot be had.
    async fn add(&self, pk: &str, sessions: i64, now: UnixMillis) -> Result<Option<i64>, Silent> {
        let expires = now.plus(KEEP_COUNTER).as_secs().to_string();
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(pk.to_owned()))
            .update_expression("SET expires_at = :expires ADD sessions :sessions")
            .expression_attribute_values(":expires", AttributeValue::N(expires))
            .expression_attribute_values(":sessions", AttributeValue::N(sessions.to_string()))
            .return_values(ReturnValue::UpdatedNew);
        let answer = self.turns.seeker().await.call(COUNT_LIMIT, update.send()).await.map_err(|_| Silent)?;
        Ok(match answer {
            Ok(answer) => {
                let sessions = answer.attributes.and_then(|mut attributes| attributes.remove("sessions"));
                sessions.and_then(|n| n.as_n().ok().and_then(|n| n.parse().ok()))
            }
            Err(error) => {
                tracing::error!(error = describe(&error), "a budget could not be counted");
                None
            }
        })
    }
}
