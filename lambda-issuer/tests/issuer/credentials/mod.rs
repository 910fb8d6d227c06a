//! Where sessions come from: memory, the shared copy, STS; and what happens when each fails.

mod budgets;
mod crowded_table;
mod expiry;
mod lease;
mod sharing;
mod stampede;
mod sts_failures;
mod tampered;

use std::time::Duration;

use lambda_issuer::handler::Issuer;
use serde_json::Value;

use crate::lab::Lab;

/// More than anything takes here.
const PATIENCE: Duration = Duration::from_secs(5);
/// An agent's patience with the first ask of a pod.
const FIRST_ASK: Duration = Duration::from_millis(800);
const POD: &[&str] = &["default/web-0"];

fn sources(lab: &Lab) -> Vec<String> {
    lab.lines.audit().iter().filter_map(|line| Some(line.get("source")?.as_str()?.to_owned())).collect()
}

fn assumed(lab: &Lab) -> usize {
    lab.aws.state().assumed.len()
}

/// Execution environments that have started.
async fn environments(lab: &Lab, count: usize) -> Vec<Issuer> {
    let mut issuers = Vec::new();
    for _ in 0..count {
        issuers.push(lab.issuer().await);
    }
    issuers
}

/// The one item that holds a session.
fn session_item(lab: &Lab) -> (String, Value) {
    let state = lab.aws.state();
    let mut sessions = state.tables["cache"].iter().filter(|(_, item)| item.contains_key("sealed"));
    let (pk, item) = sessions.next().expect("a sealed session");
    assert!(sessions.next().is_none());
    (pk.clone(), Value::Object(item.clone()))
}
