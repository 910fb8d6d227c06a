//! One fault under load: before, during, after; then what the pods saw is counted and judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::load::{Asker, Issued, Load, Sample, Verdict, well_from};
use e2e::process::wait_for;
use e2e::world::World;
use tokio::time::{Instant, sleep};

use crate::fault::{CountedFrom, Fault, Harm, Plan};
use crate::newcomers;
use crate::table::{self, Row};
use crate::warm;

/// How long the load runs before the fault.
const BEFORE: Duration = Duration::from_millis(1500);
/// The longest that a row waits for a recovery, whatever is allowed: it then tells how long it really took.
const PATIENCE: Duration = Duration::from_secs(25);

/// What some pods saw of a fault.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pods: usize,
    pub(crate) requests: usize,
    /// Each kind of failure, and how often.
    pub(crate) failed: BTreeMap<String, usize>,
    /// What must never be.
    pub(crate) wrong: BTreeMap<String, usize>,
    /// Pods whose first request failed.
    pub(crate) first_failed: usize,
    /// None where they were not well again.
    pub(crate) recovery: Option<Duration>,
}

/// What answers are measured by.
struct Measured {
    issued: Issued,
    began: Instant,
    counted_from: Instant,
}

/// Runs the fault, puts its row into the table, and compares it with what is expected.
pub(crate) async fn run(world: &mut World, plan: Plan, mut fault: impl Fault) -> Result<()> {
    let askers = warm::pods(world).await?;
    let load = Load::start(&askers, warm::EACH);
    sleep(BEFORE).await;
    let began = Instant::now();
    let deadline = began + plan.lasts + PATIENCE;
    let begun = fault.begin(world).await;
    let come = if begun.is_ok() { newcomers::come(world, plan.lasts, deadline).await } else { Ok(Vec::new()) };
    let over = fault.end(world).await;
    let counted_from = if plan.counted_from == CountedFrom::Begin { began } else { Instant::now() };
    begun.and(over)?;
    let (mut pods, mut stories) = (Vec::new(), Vec::new());
    for newcomer in come? {
        let (asker, samples) = newcomer.story().await?;
        pods.push(asker);
        stories.push(samples);
    }
    // An error is a deadline that has passed, which the missing recovery tells.
    let left = deadline.saturating_duration_since(Instant::now());
    wait_for("recovery", left, async || load.well_from(began)).await.ok();
    let samples = load.stop().await?;
    let issued = Issued::from_state(&world.lab.control().state().await?)?;
    let fault = Measured { issued, began, counted_from };
    let warm = Seen::of(askers.iter().zip(&samples), &fault);
    let is_spared = |number: usize| plan.node.is_some_and(|node| warm::node_of(number) != node);
    let of_all = (0..).zip(askers.iter().zip(&samples));
    let spared = Seen::of(of_all.filter(|(number, _)| is_spared(*number)).map(|(_, asked)| asked), &fault);
    let new = Seen::of(pods.iter().zip(&stories), &fault);
    for pod in pods.into_iter().filter_map(Arc::into_inner) {
        pod.into_pod().delete().await?;
    }
    table::add(Row { fault: plan.fault, warm: warm.clone(), new: new.clone() });
    warm.judge(plan.warm, "pods with credentials")?;
    spared.judge(Harm::Nothing, "pods with credentials on the other node")?;
    new.judge(plan.new, "new pods")
}

impl Seen {
    fn of<'a>(asked: impl Iterator<Item = (&'a Arc<Asker>, &'a Vec<Sample>)>, fault: &Measured) -> Self {
        let mut seen = Self { recovery: Some(Duration::ZERO), ..Self::default() };
        for (pod, samples) in asked {
            seen.pods += 1;
            for sample in samples {
                seen.requests += 1;
                match fault.issued.check(sample, &World::arn(pod.role())) {
                    Verdict::Right(_) => {}
                    Verdict::Failed(why) => *seen.failed.entry(why).or_default() += 1,
                    Verdict::Wrong(why) => *seen.wrong.entry(why).or_default() += 1,
                }
            }
            seen.first_failed += usize::from(samples.first().is_some_and(|first| !first.is_right()));
            let recovery =
                well_from(samples, fault.began).map(|well| well.saturating_duration_since(fault.counted_from));
            seen.recovery = seen.recovery.zip(recovery).map(|(slowest, own)| slowest.max(own));
        }
        seen
    }

    pub(crate) fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    pub(crate) fn wrongs(&self) -> usize {
        self.wrong.values().sum()
    }

    fn judge(&self, harm: Harm, who: &str) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{who} were answered wrongly: {:?}", self.wrong);
        let failures = self.failures();
        match harm {
            Harm::Nothing => ensure!(failures == 0, "{failures} requests of {who} failed: {:?}", self.failed),
            Harm::Until(_) => ensure!(failures > 0, "no request of {who} failed: the fault does not bite"),
            Harm::Perhaps(_) => {}
        }
        let (recovery, bound) = (self.recovery, harm.bound());
        ensure!(
            recovery.is_some_and(|r| r <= bound),
            "{who} were well after {recovery:?}, not within {bound:?}: {:?}",
            self.failed
        );
        Ok(())
    }
}
