//! What the real service says that does not change while the instance runs, kept for a while. Its packets share one limit
//! with the node's DNS and clock: a pod that asks in a loop must not use it up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::service::Upstream;
use crate::node::{MetadataAnswer, NodeError};

/// How long an answer is kept. An instance that is stopped and changed starts with a new agent.
const KEPT: Duration = Duration::from_secs(60);

/// Kept answers, each of at most 64 KiB, by the paths of the default allow-list: no more than it has.
#[derive(Debug, Default)]
pub(super) struct Constants(
    // A plain mutex: held for one look, never across an await.
    Mutex<HashMap<&'static str, (Instant, MetadataAnswer)>>,
);

impl Constants {
    /// What is kept of `path`.
    pub(super) fn kept(&self, path: &'static str) -> Option<MetadataAnswer> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(path).filter(|(at, _)| at.elapsed() < KEPT).map(|(_, answer)| answer.clone())
    }

    /// Asks `upstream` for `path` in the latest version, whichever the pod named: each date that a pod can think of would
    /// else be a question of its own. Keeps a 200.
    pub(super) async fn ask(&self, path: &'static str, upstream: &impl Upstream) -> Result<MetadataAnswer, NodeError> {
        // Whoever had the slot before may have brought it.
        if let Some(kept) = self.kept(path) {
            return Ok(kept);
        }
        let answer = upstream.get(&format!("/latest{path}")).await?;
        if answer.status == StatusCode::OK {
            let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            answers.insert(path, (Instant::now(), answer.clone()));
        }
        Ok(answer)
    }
}
