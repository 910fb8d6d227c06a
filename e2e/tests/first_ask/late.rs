//! The directory hears of the pods only after their sandboxes are made: first asks before there is anything to answer.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::client::SDK_PATIENCE;
use e2e::net::PodSpec;
use e2e::suite;
use e2e::world::{PERMITTED, World};
use futures_util::future::join_all;
use local_cloud::faults::{Effect, Rule, Target};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::cold::{STS_MS, announce};
use crate::crowd::{self, AT_ONCE, Networks, PODS, Started, spread};

/// The latest record comes so long after its sandbox.
const LATEST: Duration = Duration::from_millis(500);
/// A record that comes by then is found within the hold by a warm function, however busy the machine: the agent asks again 100,
/// 200 and 400 ms after each answer that there is none.
const SURELY_IN_TIME: Duration = Duration::from_millis(100);
/// When Go's SDK tries again, at the latest, and the earliest that a next process of botocore asks.
const NEXT_TRY: Duration = Duration::from_millis(1500);

pub(crate) async fn fifty_pods_whose_records_come_up_to_500_ms_late(world: &mut World) -> Result<()> {
    first_asks(world, "warm", false).await
}

pub(crate) async fn the_same_on_a_cold_function(world: &mut World) -> Result<()> {
    first_asks(world, "cold", true).await
}

async fn first_asks(world: &World, name: &str, cold: bool) -> Result<()> {
    let roles: Vec<_> = (0..5).map(|n| format!("example-rolecall-cluster-pod-role-late-{name}-{n}")).collect();
    world.lab.make_pod_roles(&roles).await?;
    // One of its own: a namespace has a budget of new sessions.
    let namespace = format!("late-{name}");
    world.lab.directory().permit(&namespace, PERMITTED).await?;
    let specs: Vec<_> = (0..PODS)
        .zip(roles.iter().cycle())
        .map(|(n, role)| PodSpec::new(&namespace, &format!("late-{n}")).role(role))
        .collect();
    let sts = Rule { matching: Some("AssumeRole".into()), ..Rule::new(Target::Sts, Effect::Delay(STS_MS)) };
    let test = start_unheard_of(world, specs, cold);
    let started = world.while_misbehaving(&[sts], Box::pin(test)).await?;
    show(&started, name);
    for pod in &started {
        ensure!(pod.first.gap <= AT_ONCE, "asked {:?} after its network", pod.first.gap);
        ensure!(pod.first.first.took <= SDK_PATIENCE, "{:?}: {:?}", pod.late, pod.first.first);
        match pod.first.first.status() {
            Some(200) => {}
            Some(503) => {
                ensure!(cold || pod.late > SURELY_IN_TIME, "503 for a record that was {:?} late", pod.late);
                ensure!(pod.next == Some(200), "the next try: {:?}", pod.next);
            }
            _ => anyhow::bail!("{:?}: {:?}", pod.late, pod.first.first),
        }
    }
    Ok(())
}

struct Unheard {
    first: Started,
    /// By how much its record came after its network.
    late: Duration,
    /// The status of the next try, where the first was refused.
    next: Option<u16>,
}

/// Starts the pods; the n-th's record comes n/50 of [`LATEST`] later. Whoever is refused asks again at [`NEXT_TRY`].
async fn start_unheard_of(world: &World, specs: Vec<PodSpec>, cold: bool) -> Result<Vec<Unheard>> {
    let lateness: Vec<_> = (1..).zip(&specs).map(|(n, _)| LATEST * n / u32::try_from(PODS).unwrap_or(1)).collect();
    let announced = specs.clone();
    let (go, gone) = oneshot::channel();
    let announcing = async {
        let begin: Instant = gone.await?;
        for (spec, late) in announced.iter().zip(&lateness) {
            sleep_until(begin + *late).await;
            announce(world, spec).await?;
        }
        // Not before: as-of covers what is written, and all sandboxes are of one moment.
        world.lab.directory().up_to_date().await
    };
    let before = async {
        if cold {
            world.lab.control().recycle().await?;
        }
        // Nobody hears of it only where the test has failed.
        let _ = go.send(Instant::now());
        Ok(())
    };
    let (started, announced) = tokio::join!(crowd::start(world, specs, Networks::InOneMoment, before), announcing);
    announced?;
    let again = started?.into_iter().zip(lateness).map(async |(first, late)| {
        let next = if first.first.status() == Some(200) {
            None
        } else {
            sleep_until(first.asked + NEXT_TRY).await;
            first.client.credentials().await?.status()
        };
        Ok(Unheard { first, late, next })
    });
    join_all(again).await.into_iter().collect()
}

fn show(pods: &[Unheard], name: &str) {
    let with = |status| pods.iter().filter(move |pod| pod.first.first.status() == Some(status));
    let latest = with(200).map(|pod| pod.late).max().unwrap_or_default();
    let earliest = with(503).map(|pod| pod.late).min();
    suite::figure(format!(
        "{PODS} first asks, {name} function, records up to {} ms late: {} answered 200 ({}; records up to {} ms late), {} answered 503 ({}; \
         records from {earliest:?} late), of which {} were answered 200 at their next try",
        LATEST.as_millis(),
        with(200).count(),
        spread(with(200).map(|pod| pod.first.first.took)),
        latest.as_millis(),
        with(503).count(),
        spread(with(503).map(|pod| pod.first.first.took)),
        pods.iter().filter(|pod| pod.next == Some(200)).count(),
    ));
}
