//! The function is cold and STS takes 100 ms.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::client::SDK_PATIENCE;
use e2e::net::PodSpec;
use e2e::suite;
use e2e::world::{PERMITTED, World};
use local_cloud::faults::{Effect, Rule, Target};

use crate::crowd::{self, AT_ONCE, Networks, PODS, Started, spread};

/// How long STS takes.
pub(crate) const STS_MS: u64 = 100;

pub(crate) async fn fifty_pods_at_once_on_a_cold_function(world: &mut World) -> Result<()> {
    first_asks(world, "few", 5, Networks::InOneMoment).await
}

pub(crate) async fn fifty_pods_as_a_kubelet_starts_them_on_a_cold_function(world: &mut World) -> Result<()> {
    first_asks(world, "kubelet", 5, Networks::AsMade).await
}

/// Fifty pods, `roles` roles among them.
async fn first_asks(world: &World, name: &str, roles: usize, networks: Networks) -> Result<()> {
    let roles: Vec<_> = (0..roles).map(|n| format!("example-rolecall-cluster-pod-role-first-{name}-{n}")).collect();
    world.lab.make_pod_roles(&roles).await?;
    // One of its own: a namespace has a budget of new sessions.
    let namespace = format!("first-{name}");
    world.lab.directory().permit(&namespace, PERMITTED).await?;
    let specs: Vec<_> = roles
        .iter()
        .cycle()
        .take(PODS)
        .enumerate()
        .map(|(n, role)| PodSpec::new(&namespace, &format!("first-{n}")).role(role))
        .collect();
    for spec in &specs {
        announce(world, spec).await?;
    }
    let cold_before = cold_starts(world).await?;
    let sts = Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, Effect::Delay(STS_MS)) };
    let started = world
        .while_misbehaving(&[sts], Box::pin(crowd::start(world, specs, networks, world.lab.control().recycle())))
        .await?;
    let cold = cold_starts(world).await? - cold_before;
    let state = world.lab.control().state().await?;
    let calls: Vec<_> =
        roles.iter().map(|role| state["assume_role"][World::arn(role)]["asked"].as_u64().unwrap_or(0)).collect();
    suite::figure(format!(
        "{PODS} first asks, {} roles, cold function, STS {STS_MS} ms: {} answered; ask {} after the network; token, list and \
         document {}; {cold} cold starts, INIT at most {} ms; {} calls of STS, at most {} a role",
        roles.len(),
        started.iter().filter(|pod| pod.first.status() == Some(200)).count(),
        spread(started.iter().map(|pod| pod.gap)),
        spread(started.iter().map(|pod| pod.first.took)),
        state["function"]["max_init_ms"],
        calls.iter().sum::<u64>(),
        calls.iter().max().context("a role")?,
    ));
    judge(&started, networks)
}

fn judge(started: &[Started], networks: Networks) -> Result<()> {
    let slow: Vec<_> =
        started.iter().filter(|pod| pod.first.status() != Some(200) || pod.first.took > SDK_PATIENCE).collect();
    let seen: BTreeSet<_> =
        slow.iter().map(|pod| format!("{:?} after {:?}", pod.first.status(), pod.first.took)).collect();
    ensure!(slow.is_empty(), "{} of {} first asks: {seen:?}", slow.len(), started.len());
    // cnitool's own end comes after the record, and on busy cores takes longer than the promise is about.
    let late = started.iter().filter(|pod| pod.gap > AT_ONCE).count();
    ensure!(late == 0 || networks == Networks::AsMade, "{late} pods asked later than {AT_ONCE:?} after their network");
    Ok(())
}

/// Environments started so far.
async fn cold_starts(world: &World) -> Result<u64> {
    world.lab.control().state().await?["function"]["starts"].as_u64().context("cold starts")
}

/// Lets the issuer see a pod on node-a.
pub(crate) async fn announce(world: &World, spec: &PodSpec) -> Result<()> {
    let role = spec.annotation_of("role").context("an annotated pod")?;
    let record = world.lab.directory().record_of(spec, world.lab.node("node-a")?, &role)?;
    world.lab.directory().put_pod(&spec.namespace, &spec.name, &record).await
}
