//! Each kind of load, with the neighbour's times and the agent's memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use e2e::client::Connections;
use e2e::suite::figure;
use e2e::world::{ROLE, World};
use tokio::time::{Instant, sleep};

use crate::load::{Outcome, kinds};
use crate::neighbour::{Neighbour, p99};

/// Quiet and loud phases take turns, so that what else the machine does falls on both.
const ROUNDS: usize = 2;
const PHASE: Duration = Duration::from_secs(2);
/// What a load leaves behind (connections that the agent is about to drop) is not the next quiet phase's.
const REST: Duration = Duration::from_millis(300);
/// A p99 below this is no sign of the agent: on two cores that others share, a wait for a processor takes some slices of the
/// scheduler, 3 ms each; quiet p99s vary from 1 to 7 ms.
pub(crate) const SCHEDULING: Duration = Duration::from_millis(10);
/// What `serve` may ever occupy here: about 15 MiB when idle, and as many pods' places as attack, with 40 kB each.
const MOST_MEMORY_KIB: u64 = 64 * 1024;
/// Connections that one pod may keep open, the agent's limit for one address, and those whose refusal is on its way when a
/// phase ends.
const PLACES: usize = 64 + 16;

pub(crate) async fn a_neighbour_keeps_its_speed_and_the_agent_its_memory(world: &mut World) -> Result<()> {
    let neighbour = Neighbour::new(&world.pod("quiet", ROLE).await?, Connections::Kept)?;
    let mut table = Table::new();
    table.set_header([
        "load",
        "connections",
        "answered",
        "closed",
        "open",
        "quiet p99 ms",
        "p99 ms",
        "RSS KiB",
        "peak KiB",
    ]);
    let mut wrong = Vec::new();
    for (number, load) in kinds().into_iter().enumerate() {
        // Another pod for each: what one has left open, or spent of its rate, is not the next one's.
        let attacker = world.pod(&format!("loud-{number}"), ROLE).await?;
        let inside = attacker.namespace().runtime()?;
        let outcome = Arc::new(Outcome::default());
        let (mut quiet, mut loud) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            neighbour.asks(Instant::now() + PHASE, &mut quiet).await?;
            let end = Instant::now() + PHASE;
            let attack = load.run(&inside, end, Arc::clone(&outcome));
            let (attacked, asked) = tokio::join!(attack, neighbour.asks(end, &mut loud));
            attacked?;
            asked.with_context(|| load.name)?;
            sleep(REST).await;
        }
        let (quiet, loud) = (p99(&mut quiet), p99(&mut loud));
        let (now, peak) = memory(world)?;
        let count = |of: &std::sync::atomic::AtomicUsize| of.load(Relaxed).to_string();
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        table.add_row([
            load.name.to_owned(),
            count(&outcome.made),
            count(&outcome.answered),
            count(&outcome.closed),
            outcome.open().to_string(),
            ms(quiet),
            ms(loud),
            now.to_string(),
            peak.to_string(),
        ]);
        if outcome.silent.load(Relaxed) > 0 || (load.reads && outcome.open() > PLACES * ROUNDS) {
            wrong.push(format!("{}: {} silent, {} open", load.name, count(&outcome.silent), outcome.open()));
        }
        if loud > (2 * quiet).max(SCHEDULING) {
            wrong.push(format!("{}: p99 {loud:?}, quiet {quiet:?}", load.name));
        }
        if peak > MOST_MEMORY_KIB {
            wrong.push(format!("{}: {peak} KiB", load.name));
        }
    }
    figure(table);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What `serve` occupies, and the most that it ever did, in KiB.
pub(crate) fn memory(world: &mut World) -> Result<(u64, u64)> {
    let pid = world.lab.agent("node-a")?.serve.pid().context("serve is not running")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Ok((field("VmRSS:").context("VmRSS")?, field("VmHWM:").context("VmHWM")?))
}
