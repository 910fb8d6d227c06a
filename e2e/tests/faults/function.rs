//! The function's environments.

use std::time::Duration;

use anyhow::Result;
use e2e::world::World;
use local_cloud::faults::{Effect, Rule, Target};

use crate::fault::{Aws, Harm, Plan};
use crate::row;

/// A pod that asks brings its next attempt forward to a second after the last one; the attempt, a cold environment for it and
/// a busy machine take another two.
const NEXT_ATTEMPT: Harm = Harm::Until(Duration::from_secs(3));
/// An attempt that hangs is given up first: the agent waits 3.8 s for an answer.
const GIVEN_UP: Harm = Harm::Until(Duration::from_secs(6));
/// When an environment dies: while DynamoDB, which is as slow as this, is reading the directory for it.
const MID_REQUEST_MS: u64 = 50;

async fn dying(world: &mut World, fault: &'static str, effect: Effect) -> Result<()> {
    let slow = Rule::new(Target::Dynamodb, Effect::Delay(2 * MID_REQUEST_MS));
    let rules = vec![Rule::new(Target::Lambda, effect), slow];
    row::run(world, Plan::behind_the_agent(fault, NEXT_ATTEMPT), Aws(rules)).await
}

pub(crate) async fn environment_killed_mid_request(world: &mut World) -> Result<()> {
    dying(world, "environment killed mid-request", Effect::Kill(MID_REQUEST_MS)).await
}

/// As Lambda ends an environment that uses more memory than it has: SIGKILL, and its message.
pub(crate) async fn function_out_of_memory(world: &mut World) -> Result<()> {
    dying(world, "function out of memory", Effect::OutOfMemory(MID_REQUEST_MS)).await
}

/// The environment hangs until the function's time-out ends it.
pub(crate) async fn function_time_out(world: &mut World) -> Result<()> {
    let rules = vec![Rule::new(Target::Lambda, Effect::Stall)];
    row::run(world, Plan::behind_the_agent("function time-out", GIVEN_UP), Aws(rules)).await
}
