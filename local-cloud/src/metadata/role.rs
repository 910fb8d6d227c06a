//! The instance's role: its current credentials, renewed on demand.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::ledger::IssuedKey;
use crate::sts::Endpoint;

/// Credentials and when they were made.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) key: Arc<IssuedKey>,
    pub(super) updated: SystemTime,
}

impl Current {
    fn left(&self, now: SystemTime) -> Duration {
        self.key.expiration.duration_since(now).unwrap_or_default()
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        let whole = self.key.expiration.duration_since(self.updated).unwrap_or_default();
        self.left(now) * 3 >= whole
    }
}

/// The role of one instance profile.
#[derive(Debug)]
pub(super) struct Role {
    arn: String,
    instance_id: String,
    endpoint: Endpoint,
    clock: Clock,
    /// Held while STS is asked, so that one request renews for all.
    current: Mutex<Option<Current>>,
}

impl Role {
    pub(super) fn new(arn: &str, instance_id: &str, endpoint: Endpoint, clock: Clock) -> Self {
        Self { arn: arn.into(), instance_id: instance_id.into(), endpoint, clock, current: Mutex::default() }
    }

    /// The role's name.
    pub(super) fn name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }

    /// The credentials; new ones where under a third of their life is left. Old ones are kept until their end while no new
    /// ones are to be had; none: EC2 cannot assume the role.
    pub(super) async fn credentials(&self) -> Option<Current> {
        let now = self.clock.now();
        let mut current = self.current.lock().await;
        if !current.as_ref().is_some_and(|current| current.is_fresh(now)) {
            match self.endpoint.session(&self.arn, &self.instance_id).await {
                Ok(key) => *current = Some(Current { key, updated: now }),
                Err(error) => tracing::warn!(%error, instance = self.instance_id, "no credentials for the instance"),
            }
        }
        current.clone().filter(|current| !current.left(now).is_zero())
    }
}
