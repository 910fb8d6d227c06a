//! What an agent can run out of.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::lab::READY;
use e2e::process::Place;
use e2e::world::World;

use crate::fault::{CountedFrom, Fault, Harm, Plan};
use crate::row;

/// The node that these faults befall; the other one's pods are a part of the load all the same.
const NODE: &str = "node-b";
const SOON: Duration = Duration::from_secs(10);
/// A request that waits in the queue of the port is given up after a second.
const ACCEPTED: Duration = Duration::from_secs(2);
/// A new pod's record is looked at again by then.
const READ_AGAIN: Duration = Duration::from_secs(4);

/// `/run/rolecall` and the logs of the node's agent are on a disk without a byte left.
pub(crate) async fn disk_full(world: &mut World) -> Result<()> {
    let node = world.lab.node(NODE)?;
    let disks = Disks(vec![node.run_directory(), node.log_directory()]);
    stop_agent(world).await?;
    disks.mount().await?;
    let started = start_agent(world).await;
    let outcome = match started {
        Ok(()) => row::run(world, Plan::behind_the_agent("disk full", Harm::Nothing), DiskFull(disks.clone())).await,
        Err(error) => Err(error),
    };
    stop_agent(world).await?;
    disks.unmount().await?;
    start_agent(world).await?;
    outcome
}

async fn stop_agent(world: &mut World) -> Result<()> {
    let agent = world.lab.agent(NODE)?;
    agent.serve.stop(SOON).await?;
    agent.intercept.stop(SOON).await.map(drop)
}

async fn start_agent(world: &mut World) -> Result<()> {
    let agent = world.lab.agent(NODE)?;
    agent.intercept.restart()?;
    agent.serve.restart()?;
    agent.ready(READY).await
}

/// Small disks, mounted over directories.
#[derive(Clone)]
struct Disks(Vec<PathBuf>);

impl Disks {
    /// With what is in the directories, so that the tokens that pods hold stay good.
    async fn mount(&self) -> Result<()> {
        for directory in &self.0 {
            let path = directory.to_string_lossy();
            let aside = format!("{path}.aside");
            // With owners and modes: the agent takes no token key that others could have read.
            Place::default().check(&["cp", "--archive", &*path, &aside], SOON).await?;
            Place::default().check(&["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", &*path], SOON).await?;
            Place::default().check(&["cp", "--archive", &format!("{aside}/."), &*path], SOON).await?;
            fs::remove_dir_all(aside)?;
        }
        Ok(())
    }

    async fn unmount(&self) -> Result<()> {
        for directory in &self.0 {
            Place::default().check(&["umount", &*directory.to_string_lossy()], SOON).await?;
        }
        Ok(())
    }
}

struct DiskFull(Disks);

impl Fault for DiskFull {
    async fn begin(&mut self, _: &mut World) -> Result<()> {
        for directory in &self.0.0 {
            let mut file = fs::File::create(directory.join("filler"))?;
            while file.write_all(&[0; 4096]).is_ok() {}
        }
        Ok(())
    }

    async fn end(&mut self, _: &mut World) -> Result<()> {
        self.0.0.iter().try_for_each(|directory| fs::remove_file(directory.join("filler"))).map_err(Into::into)
    }
}

/// The running agent may open nothing more. Connections that are open go on; new ones wait in vain.
pub(crate) async fn file_descriptors_exhausted(world: &mut World) -> Result<()> {
    let plan = Plan {
        fault: "file descriptors exhausted",
        node: Some(NODE),
        lasts: Duration::from_secs(4),
        counted_from: CountedFrom::End,
        warm: Harm::Until(ACCEPTED),
        new: Harm::Until(READ_AGAIN),
    };
    row::run(world, plan, NoDescriptors).await
}

struct NoDescriptors;

impl NoDescriptors {
    async fn limit(world: &mut World, soft: u32) -> Result<()> {
        let pid = world.lab.agent(NODE)?.serve.pid().context("the agent runs")?;
        let line = ["prlimit", "--pid", &pid.to_string(), &format!("--nofile={soft}:")];
        Place::default().check(&line, SOON).await.map(drop)
    }
}

impl Fault for NoDescriptors {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        // Less than are open.
        Self::limit(world, 8).await
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        Self::limit(world, 8192).await
    }
}
