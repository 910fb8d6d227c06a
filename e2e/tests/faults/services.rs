//! What the function needs: DynamoDB, KMS and STS.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::world::World;
use local_cloud::faults::{Effect, Rule, Target};

use crate::fault::{Aws, Fault, Harm, Plan};
use crate::row;

/// A pod that asks brings its next attempt forward to a second after the last one; the attempt, a cold environment for it and
/// a busy machine take another two.
const NEXT_ATTEMPT: Harm = Harm::Until(Duration::from_secs(3));
/// An attempt that has begun is given up first: STS has 5 s for a try (`STS_TRY_LIMIT`).
const STS_TRY: Harm = Harm::Until(Duration::from_secs(8));
const AWS_CLI: Duration = Duration::from_secs(20);

async fn misbehaving(world: &mut World, fault: &'static str, new: Harm, rule: Rule) -> Result<()> {
    row::run(world, Plan::behind_the_agent(fault, new), Aws(vec![rule])).await
}

pub(crate) async fn dynamodb_throttling(world: &mut World) -> Result<()> {
    let rule = Rule::new(Target::Dynamodb, Effect::Throttle);
    misbehaving(world, "DynamoDB throttling", NEXT_ATTEMPT, rule).await
}

pub(crate) async fn dynamodb_errors(world: &mut World) -> Result<()> {
    let rule = Rule::new(Target::Dynamodb, Effect::Error(500));
    misbehaving(world, "DynamoDB errors", NEXT_ATTEMPT, rule).await
}

pub(crate) async fn dynamodb_latency_of_5_s(world: &mut World) -> Result<()> {
    let rule = Rule::new(Target::Dynamodb, Effect::Delay(5000));
    misbehaving(world, "DynamoDB 5 s latency", NEXT_ATTEMPT, rule).await
}

pub(crate) async fn sts_errors(world: &mut World) -> Result<()> {
    misbehaving(world, "STS errors", NEXT_ATTEMPT, Rule::new(Target::Sts, Effect::Error(500))).await
}

pub(crate) async fn sts_throttling(world: &mut World) -> Result<()> {
    misbehaving(world, "STS throttling", NEXT_ATTEMPT, Rule::new(Target::Sts, Effect::Throttle)).await
}

pub(crate) async fn sts_latency_of_10_s(world: &mut World) -> Result<()> {
    misbehaving(world, "STS 10 s latency", STS_TRY, Rule::new(Target::Sts, Effect::Delay(10_000))).await
}

/// The key is disabled in the account, and no environment has a data key in its memory. Sessions are then not shared, and
/// nobody notices.
pub(crate) async fn kms_key_disabled(world: &mut World) -> Result<()> {
    let plan = Plan { lasts: Duration::from_secs(6), ..Plan::behind_the_agent("KMS key disabled", Harm::Nothing) };
    row::run(world, plan, KeyDisabled { complaints: complaints(world)? }).await
}

/// What the function says without a data key.
const NO_DATA_KEY: &str = "no data key: sessions are not shared for a while";

/// How often it has said so.
fn complaints(world: &World) -> Result<usize> {
    let mut said = 0;
    for log in fs::read_dir(world.lab.registration().directory().join("function"))? {
        said += String::from_utf8_lossy(&fs::read(log?.path())?).matches(NO_DATA_KEY).count();
    }
    Ok(said)
}

struct KeyDisabled {
    /// Before the key was disabled.
    complaints: usize,
}

impl KeyDisabled {
    async fn order(world: &World, verb: &str) -> Result<()> {
        let aws = world.lab.tools().aws();
        let line = [&*aws.to_string_lossy(), "kms", verb, "--key-id", &world.lab.stack().key_arn].map(str::to_owned);
        world.lab.outside().check(&line, AWS_CLI).await?;
        world.lab.control().recycle().await
    }
}

impl Fault for KeyDisabled {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        Self::order(world, "disable-key").await
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        let said = complaints(world)?;
        Self::order(world, "enable-key").await?;
        ensure!(said > self.complaints, "the function had a data key all the same");
        Ok(())
    }
}
