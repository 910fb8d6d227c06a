//! The agent's two programs and their rules.

use std::time::Duration;

use anyhow::Result;
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
const SOON: Duration = Duration::from_secs(10);

pub(crate) async fn agent_killed_and_restarted(world: &mut World) -> Result<()> {
    let plan = Plan {
        fault: "agent killed and restarted",
        node: Some(NODE),
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
        node: None,
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
