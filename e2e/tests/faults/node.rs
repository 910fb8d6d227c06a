//! The agent's two programs, and its clock.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::lab::READY;
use e2e::world::World;

use crate::fault::{CountedFrom, Fault, Harm, Plan};
use crate::row;
use crate::warm::NODES;

/// The node that these faults befall; the other one's pods are a part of the load all the same.
const NODE: &str = "node-b";
/// Start-up, and the prefetch for the pods that are there: with an issuer that answers, a second or two.
const STARTED: Duration = Duration::from_secs(5);
/// `intercept` puts its rules back within a second; a request that met none is given up after another.
const REPAIRED: Duration = Duration::from_secs(2);
/// A pod that asks brings its next attempt forward to a second after the last one; the attempt and a busy machine take
/// another.
const NEXT_ATTEMPT: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(10);

pub(crate) async fn agent_killed_and_restarted(world: &mut World) -> Result<()> {
    let plan = Plan {
        fault: "agent killed and restarted",
        lasts: Duration::from_secs(4),
        counted_from: CountedFrom::Begin,
        warm: Harm::Until(STARTED),
        new: Harm::Perhaps(STARTED),
    };
    row::run(world, plan, AgentKilled).await
}

struct AgentKilled;

impl Fault for AgentKilled {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        let serve = &mut world.lab.agent(NODE)?.serve;
        serve.kill().await?;
        serve.restart()
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        world.lab.agent(NODE)?.ready(READY).await
    }
}

/// The rules stay when it goes.
pub(crate) async fn intercept_killed(world: &mut World) -> Result<()> {
    let plan = Plan { counted_from: CountedFrom::Begin, ..Plan::behind_the_agent("intercept killed", Harm::Nothing) };
    row::run(world, plan, InterceptKilled).await
}

struct InterceptKilled;

impl Fault for InterceptKilled {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        for node in NODES {
            world.lab.agent(node)?.intercept.kill().await?;
        }
        Ok(())
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        for node in NODES {
            world.lab.agent(node)?.intercept.restart()?;
        }
        Ok(())
    }
}

pub(crate) async fn rules_flushed(world: &mut World) -> Result<()> {
    let plan = Plan {
        fault: "rules flushed",
        lasts: Duration::from_secs(4),
        counted_from: CountedFrom::Begin,
        warm: Harm::Perhaps(REPAIRED),
        new: Harm::Perhaps(REPAIRED),
    };
    row::run(world, plan, RulesFlushed).await
}

struct RulesFlushed;

impl Fault for RulesFlushed {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        for node in NODES {
            let place = world.lab.node(node)?.namespace().place();
            place.check(&["nft", "flush", "ruleset"], SOON).await?;
        }
        Ok(())
    }

    async fn end(&mut self, _: &mut World) -> Result<()> {
        Ok(())
    }
}

pub(crate) async fn clock_10_minutes_ahead(world: &mut World) -> Result<()> {
    clock_wrong(world, "clock 10 minutes ahead", "+600").await
}

pub(crate) async fn clock_10_minutes_behind(world: &mut World) -> Result<()> {
    clock_wrong(world, "clock 10 minutes behind", "-600").await
}

/// AWS refuses the agent's signatures while its clock is wrong.
async fn clock_wrong(world: &mut World, fault: &'static str, by: &'static str) -> Result<()> {
    let file = world.lab.registration().directory().join("clock");
    fs::write(&file, "+0")?;
    let path = file.to_string_lossy().into_owned();
    let preload = libfaketime()?.to_string_lossy().into_owned();
    let agent = world.lab.agent(NODE)?;
    agent.serve.stop(SOON).await?;
    agent.serve.restart_with(&[
        ("LD_PRELOAD", &preload),
        ("FAKETIME_TIMESTAMP_FILE", &path),
        ("FAKETIME_NO_CACHE", "1"),
        // Waiting and backing off run on this one, which nobody sets.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ])?;
    agent.ready(READY).await?;
    let plan = Plan::behind_the_agent(fault, Harm::Until(NEXT_ATTEMPT));
    let outcome = row::run(world, plan, Clock { file, by }).await;
    let agent = world.lab.agent(NODE)?;
    agent.serve.stop(SOON).await?;
    agent.serve.restart()?;
    agent.ready(READY).await?;
    outcome
}

struct Clock {
    file: PathBuf,
    by: &'static str,
}

impl Fault for Clock {
    async fn begin(&mut self, _: &mut World) -> Result<()> {
        fs::write(&self.file, self.by).map_err(Into::into)
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        let agent = world.lab.agent(NODE)?;
        let metrics = agent.health("/metrics").await;
        let log = agent.serve.log();
        fs::write(&self.file, "+0")?;
        let told = if self.by.starts_with('+') { "Signature not yet current" } else { "Signature expired" };
        ensure!(log.contains("the API refused the signature") && log.contains(told), "the log does not say {told:?}");
        let metrics = metrics?;
        ensure!(metrics.contains("signature_refused"), "no metric of refused signatures: {metrics}");
        ensure!(metrics.contains("rolecall_issuer_reached 0"), "the issuer counts as reached: {metrics}");
        Ok(())
    }
}

/// Where Debian puts it.
fn libfaketime() -> Result<PathBuf> {
    let mut directories =
        fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    directories.find(|path| path.is_file()).context("libfaketime is missing: please run cargo xtask tools")
}
