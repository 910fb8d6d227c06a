//! What happens to the results directory.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::metadata::{self, LIST, Seen};
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

/// A hostNetwork pod is the node to its network: the real service answers it, with the node's role.
pub(crate) async fn the_node_itself_is_no_pod(world: &mut World) -> Result<()> {
    world.pod("beside", ROLE).await?;
    let seen = metadata::get(&world.lab.node("node-a")?.place(), LIST).await?;
    ensure!(seen == Seen::Answer(200, "rolecall-node".into()), "{seen:?}");
    Ok(())
}
