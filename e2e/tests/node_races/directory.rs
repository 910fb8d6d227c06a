//! What happens to the results directory.

use std::fs;
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::metadata::{self, IPV4, LIST, Seen};
use e2e::world::{ROLE, World, list_becomes};
use nix::sys::signal::Signal;

use crate::records::{metric, of, results};

const OTHER_ROLE: &str = "example-rolecall-cluster-pod-role-other";
const SOON: Duration = Duration::from_secs(10);
/// More than inotify's queue holds, which is 16,384 everywhere.
const EVENTS: usize = 20_000;

fn own() -> Seen {
    Seen::Answer(200, ROLE.into())
}

pub(crate) async fn files_that_are_no_records_are_skipped_and_counted(world: &mut World) -> Result<()> {
    let pod = world.pod("among-junk", ROLE).await?;
    let results = results(world)?;
    let (_, text) = of(&pod, &results)?;
    let at = |name: &str| results.join(format!("aws-cni-{name}-eth0"));
    let reasons = ["Empty", "Torn", "TooLong", "Foreign", "Unreadable"];
    let series = |reason: &str| format!("rolecall_cni_records_skipped_total{{reason=\"{reason}\"}}");
    let mut before = Vec::new();
    for reason in reasons {
        before.push(metric(world, &series(reason)).await?);
    }
    fs::write(at("empty"), "")?;
    fs::write(at("torn"), &text[..text.len() / 2])?;
    fs::write(at("long"), " ".repeat(32 << 20))?;
    fs::write(at("foreign"), &text)?;
    fs::create_dir(at("directory"))?;
    fs::rename(at("directory"), at("unreadable"))?;
    let later = world.pod("after-junk", OTHER_ROLE).await?;
    list_becomes(world, &later, &Seen::Answer(200, OTHER_ROLE.into()), SOON).await?;
    list_becomes(world, &pod, &own(), SOON).await?;
    for (reason, before) in reasons.into_iter().zip(before) {
        let now = metric(world, &series(reason)).await?;
        ensure!(now > before, "{reason}: {before}, then {now}");
    }
    for name in ["empty", "torn", "long", "foreign"] {
        fs::remove_file(at(name))?;
    }
    fs::remove_dir(at("unreadable")).map_err(Into::into)
}

pub(crate) async fn lost_events_are_made_up_for(world: &mut World) -> Result<()> {
    let results = results(world)?;
    let stays = world.pod("stays", ROLE).await?;
    let rescans = metric(world, "rolecall_cni_rescans_total").await?;
    world.lab.agent("node-a")?.serve.signal(Signal::SIGSTOP)?;
    // Two names in turn: the kernel makes one of equal events that follow one another.
    let filled = (0..EVENTS).try_for_each(|n| fs::write(results.join(format!("noise-{}", n % 2)), ""));
    let later = world.pod("unheard", OTHER_ROLE).await;
    world.lab.agent("node-a")?.serve.signal(Signal::SIGCONT)?;
    filled?;
    list_becomes(world, &later?, &Seen::Answer(200, OTHER_ROLE.into()), SOON).await?;
    list_becomes(world, &stays, &own(), SOON).await?;
    let now = metric(world, "rolecall_cni_rescans_total").await?;
    ensure!(now > rescans, "no rescan: {rescans}, then {now}");
    ["noise-0", "noise-1"].into_iter().try_for_each(|name| fs::remove_file(results.join(name))).map_err(Into::into)
}

pub(crate) async fn the_directory_is_replaced(world: &mut World) -> Result<()> {
    let results = results(world)?;
    let aside = results.with_file_name("results-aside");
    let before = world.pod("before", ROLE).await?;
    list_becomes(world, &before, &own(), SOON).await?;
    fs::rename(&results, &aside)?;
    fs::create_dir(&results)?;
    let after = world.pod("after", OTHER_ROLE).await?;
    list_becomes(world, &after, &Seen::Answer(200, OTHER_ROLE.into()), SOON).await?;
    for entry in fs::read_dir(&aside)? {
        let entry = entry?;
        fs::rename(entry.path(), results.join(entry.file_name()))?;
    }
    fs::remove_dir(&aside)?;
    list_becomes(world, &before, &own(), SOON).await?;
    list_becomes(world, &after, &Seen::Answer(200, OTHER_ROLE.into()), SOON).await
}

/// Two records claim one pod's address on its own interface: the later speaks for it, though it names a pod that the issuer
/// does not have on this node, so the pod is refused rather than given what another may have.
pub(crate) async fn two_records_claim_one_address(world: &mut World) -> Result<()> {
    let pod = world.pod("claimed", ROLE).await?;
    list_becomes(world, &pod, &own(), SOON).await?;
    let (path, text) = of(&pod, &results(world)?)?;
    let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
    let id = name.strip_prefix("aws-cni-").and_then(|name| name.strip_suffix("-eth0")).context("an id")?;
    let claim = text.replace(id, "another").replace(&pod.spec().uid, "00000000-0000-4000-8000-000000000000");
    fs::write(path.with_file_name("aws-cni-another-eth0"), claim)?;
    let refused = Seen::Answer(503, "rolecall: pod_replaced".into());
    let seen = metadata::get_v1(&pod.place(), IPV4, LIST).await?;
    ensure!(seen == refused, "{seen:?}");
    // A record once superseded never speaks for its address again, also when the claim goes: it may be a leftover.
    fs::remove_file(path.with_file_name("aws-cni-another-eth0"))?;
    let seen = metadata::get_v1(&pod.place(), IPV4, LIST).await?;
    ensure!(matches!(seen, Seen::Answer(403, _)), "{seen:?}");
    let neighbour = world.pod("unclaimed", OTHER_ROLE).await?;
    list_becomes(world, &neighbour, &Seen::Answer(200, OTHER_ROLE.into()), SOON).await
}

/// A record that may not be read: no event tells when that changes, so it is tried again every few seconds.
pub(crate) async fn a_record_may_not_be_read_at_first(world: &mut World) -> Result<()> {
    const NOBODY: u32 = 65_534;
    world.lab.agent("node-a")?.serve.signal(Signal::SIGSTOP)?;
    let pod = world.pod("closed", ROLE).await;
    let closed = pod.as_ref().ok().and_then(|pod| Some(of(pod, &results(world).ok()?).ok()?.0));
    let changed = closed.as_ref().map(|path| chown(path, Some(NOBODY), None));
    world.lab.agent("node-a")?.serve.signal(Signal::SIGCONT)?;
    let (pod, path) = (pod?, closed.context("the pod's record")?);
    changed.transpose()?;
    let seen = metadata::get_v1(&pod.place(), IPV4, LIST).await?;
    ensure!(seen == Seen::Answer(403, "rolecall: unknown_peer".into()), "{seen:?}");
    let neighbour = world.pod("open", OTHER_ROLE).await?;
    list_becomes(world, &neighbour, &Seen::Answer(200, OTHER_ROLE.into()), SOON).await?;
    chown(&path, Some(0), None)?;
    list_becomes(world, &pod, &own(), SOON).await
}

/// A hostNetwork pod is the node to its network: the real service answers it, with the node's role.
pub(crate) async fn the_node_itself_is_no_pod(world: &mut World) -> Result<()> {
    world.pod("beside", ROLE).await?;
    let seen = metadata::get(&world.lab.node("node-a")?.place(), LIST).await?;
    ensure!(seen == Seen::Answer(200, "rolecall-node".into()), "{seen:?}");
    Ok(())
}
