//! Budgets on new sessions: they keep one tenant from spending the account's STS rate, which all share.
//!
//! A counter is an item of the cache table per scope and minute, `budget/CLUSTER/SCOPE/NAME/MINUTE`.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use model::name::{ClusterName, InstanceId, Namespace};
use model::time::UnixMillis;
use tokio::time::timeout;

use crate::aws_error::describe;

/// How long a counter may keep a session waiting. A budget that cannot be counted is not spent: it guards a rate, and a rate
/// is no reason to leave a pod without credentials.
const COUNT_LIMIT: Duration = Duration::from_millis(250);
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
#[derive(Clone, Debug)]
pub(crate) struct Payer {
    /// The cluster.
    pub(crate) cluster: ClusterName,
    /// The namespace of the pod that needs the session first.
    pub(crate) namespace: Namespace,
    /// The instance that asks.
    pub(crate) instance: InstanceId,
}

/// The counters.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    client: Client,
    table: String,
    limits: Limits,
}

impl Budgets {
    /// Counters in `table`.
    pub(crate) fn new(client: Client, table: String, limits: Limits) -> Self {
        Self { client, table, limits }
    }

    /// Counts one new session. The error is the sentence that names the budget which was spent already; then nothing is
    /// counted, so that a namespace that keeps asking spends no budget of its neighbours on the instance, nor an instance
    /// one of a namespace.
    pub(crate) async fn spend(&self, payer: &Payer, now: UnixMillis) -> Result<(), String> {
        let spent = timeout(COUNT_LIMIT, self.spend_both(payer, now)).await;
        spent.unwrap_or_else(|_| {
            tracing::error!("a budget was not counted in time");
            Ok(())
        })
    }

    async fn spend_both(&self, payer: &Payer, now: UnixMillis) -> Result<(), String> {
        let minute = now.as_secs() / 60;
        let Payer { cluster, namespace, instance } = payer;
        let Limits { namespace_per_minute, instance_per_minute } = self.limits;
        let of_namespace = format!("budget/{cluster}/namespace/{namespace}/{minute}");
        let of_instance = format!("budget/{cluster}/instance/{instance}/{minute}");
        let over = |count: Option<i64>, limit| {
            count.is_some_and(|count| u64::try_from(count).is_ok_and(|count| count > limit))
        };
        if over(self.add(&of_namespace, 1, now).await, namespace_per_minute) {
            self.add(&of_namespace, -1, now).await;
            return Err(format!(
                "the namespace {namespace} has spent its budget of {namespace_per_minute} new sessions a minute: wait, or \
                 raise the issuer's BUDGET_NAMESPACE_PER_MINUTE"
            ));
        }
        if over(self.add(&of_instance, 1, now).await, instance_per_minute) {
            tokio::join!(self.add(&of_instance, -1, now), self.add(&of_namespace, -1, now));
            return Err(format!(
                "the instance {instance} has spent its budget of {instance_per_minute} new sessions a minute: wait, or \
                 raise the issuer's BUDGET_INSTANCE_PER_MINUTE"
            ));
        }
        Ok(())
    }

    /// The counter after `sessions` were added; none where it cannot be had.
    async fn add(&self, pk: &str, sessions: i64, now: UnixMillis) -> Option<i64> {
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
        match update.send().await {
            Ok(answer) => {
                let sessions = answer.attributes.and_then(|mut attributes| attributes.remove("sessions"));
                sessions.and_then(|n| n.as_n().ok().and_then(|n| n.parse().ok()))
            }
            Err(error) => {
                tracing::error!(error = describe(&error), "a budget could not be counted");
                None
            }
        }
    }
}
