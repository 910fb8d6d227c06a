//! The 20 pods that have their credentials before anything fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::client::Connections;
use e2e::load::{Asked, Asker};
use e2e::net::PodSpec;
use e2e::process::wait_for;
use e2e::world::World;

/// How many, on two nodes.
const PODS: usize = 20;
/// Ten a second each: 200 a second.
pub(crate) const EACH: Duration = Duration::from_millis(100);
/// Their roles, and the new pods'. Each has a namespace of its own, so that none spends another's budget of new sessions.
pub(crate) const ROLES: [&str; 4] = [
    "example-rolecall-cluster-pod-role-fault-0",
    "example-rolecall-cluster-pod-role-fault-1",
    "example-rolecall-cluster-pod-role-fault-2",
    "example-rolecall-cluster-pod-role-fault-3",
];
pub(crate) const NODES: [&str; 2] = ["node-a", "node-b"];
const SOON: Duration = Duration::from_secs(20);

/// Shared by the rows; given up before the program ends.
static WARM: Mutex<Vec<Arc<Asker>>> = Mutex::new(Vec::new());

/// The pods, made when they are first asked for.
pub(crate) async fn pods(world: &World) -> Result<Vec<Arc<Asker>>> {
    let made = WARM.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !made.is_empty() {
        return Ok(made);
    }
    world.lab.make_pod_roles(&ROLES.map(str::to_owned)).await?;
    let mut pods = Vec::new();
    for (number, role) in ROLES.iter().cycle().take(PODS).enumerate() {
        pods.push(Arc::new(pod(world, number, role, node_of(number)).await?));
    }
    WARM.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&pods);
    Ok(pods)
}

/// Every other one keeps its connections and asks with a token.
async fn pod(world: &World, number: usize, role: &str, node: &str) -> Result<Asker> {
    let kept = number.is_multiple_of(2);
    let spec = PodSpec::new(&namespace_of(role), &format!("warm-{number}")).role(role);
    let pod = world.pod_on(node, spec).await?;
    let asker = Asker::new(pod, role, if kept { Connections::Kept } else { Connections::New })?;
    let served = async || asker.ask(Asked::Document).await.ok().filter(e2e::load::Sample::is_right);
    wait_for("a warm pod's credentials", SOON, served).await.with_context(|| format!("pod {number}"))?;
    if kept { asker.with_token().await } else { Ok(asker) }
}

/// Where the pod of this number is: two on one node, two on the other.
pub(crate) fn node_of(number: usize) -> &'static str {
    NODES.get(number / 2 % NODES.len()).copied().unwrap_or_default()
}

/// The namespace that pods of a role are in.
pub(crate) fn namespace_of(role: &str) -> String {
    format!("faults-{}", role.rsplit('-').next().unwrap_or_default())
}

/// Gives the pods up.
pub(crate) fn end() {
    WARM.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
