//! A node's clock that is wrong by 10 minutes, which is twice what AWS accepts.
//!
//! The agent does not sign by AWS's time then, as some SDKs would: the same clock says when keys end, and an agent that goes on
//! by it would hand out keys that have ended. It says what is wrong, and serves what it has.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clock;
use e2e::lab::READY;
use e2e::process::wait_for;
use e2e::world::World;

use crate::fault::{Fault, Harm, Plan};
use crate::row;

/// The node whose clock it is; the other one's pods are a part of the load all the same.
const NODE: &str = "node-b";
/// A pod that asks brings its next attempt forward to a second after the last one; the attempt and a busy machine take
/// another.
const NEXT_ATTEMPT: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(10);
/// What the agent says of it.
const REFUSED: &str = "the API refused the signature";

pub(crate) async fn clock_10_minutes_ahead(world: &mut World) -> Result<()> {
    wrong(world, "clock 10 minutes ahead", "+600", "Signature not yet current").await
}

pub(crate) async fn clock_10_minutes_behind(world: &mut World) -> Result<()> {
    wrong(world, "clock 10 minutes behind", "-600", "Signature expired").await
}

async fn wrong(world: &mut World, fault: &'static str, by: &'static str, told: &'static str) -> Result<()> {
    let clock = Clock { file: world.lab.registration().directory().join("clock"), by, told };
    clock.start_agent(world, RIGHT).await?;
    world.lab.agent(NODE)?.ready(READY).await?;
    let plan = Plan::behind_the_agent(fault, Harm::Until(NEXT_ATTEMPT));
    let outcome = row::run(world, plan, clock.clone()).await;
    let readiness = clock.told_by_readiness(world).await;
    let agent = world.lab.agent(NODE)?;
    agent.serve.stop(SOON).await?;
    agent.serve.restart()?;
    agent.ready(READY).await?;
    outcome.and(readiness)
}

/// No time apart from the real one.
const RIGHT: &str = "+0";

/// A clock that can be set while the agent runs: the library reads this file each time.
#[derive(Clone)]
struct Clock {
    file: PathBuf,
    by: &'static str,
    told: &'static str,
}

impl Clock {
    async fn start_agent(&self, world: &mut World, apart: &str) -> Result<()> {
        fs::write(&self.file, apart)?;
        let library = clock::library()?;
        let serve = &mut world.lab.agent(NODE)?.serve;
        serve.stop(SOON).await?;
        serve.restart_with(&[
            ("LD_PRELOAD", &library.to_string_lossy()),
            ("FAKETIME_TIMESTAMP_FILE", &self.file.to_string_lossy()),
            ("FAKETIME_NO_CACHE", "1"),
            // Waiting and backing off run on this one, which nobody sets.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ])
    }

    /// An agent that starts with this clock is not ready, and says why.
    async fn told_by_readiness(&self, world: &mut World) -> Result<()> {
        self.start_agent(world, self.by).await?;
        let agent = world.lab.agent(NODE)?;
        let told = async || {
            let not_ready = format!("{:#}", agent.health("/readyz").await.err()?);
            (not_ready.contains(REFUSED) && not_ready.contains(self.told)).then_some(())
        };
        wait_for("the readiness that names the clock", SOON, told).await
    }
}

impl Fault for Clock {
    async fn begin(&mut self, _: &mut World) -> Result<()> {
        fs::write(&self.file, self.by).map_err(Into::into)
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        let agent = world.lab.agent(NODE)?;
        let metrics = agent.health("/metrics").await;
        let log = agent.serve.log();
        fs::write(&self.file, RIGHT)?;
        let (metrics, told) = (metrics?, self.told);
        ensure!(log.contains(REFUSED) && log.contains(told), "the log does not say {told:?}");
        ensure!(metrics.contains("signature_refused"), "no metric of refused signatures: {metrics}");
        ensure!(metrics.contains("rolecall_issuer_reached 0"), "the issuer counts as reached: {metrics}");
        Ok(())
    }
}
