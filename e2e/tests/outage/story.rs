//! What happens, in order, and what must have been seen.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use comfy_table::Table;
use e2e::net::{Pod, PodSpec};
use e2e::world::{NAMESPACE, PERMITTED, World};
use e2e::{Lab, Options, suite};
use local_cloud::faults::{Effect, Rule, Target};
use tokio::time::sleep;

use crate::calls::{self, Call};
use crate::pods::{Asking, Served};
use crate::sessions;

const SPEED: u32 = 30;
const NODES: usize = 8;
const PODS_PER_NODE: usize = 4;
/// Roles of the whole cluster; each node's pods have half of them.
const ROLES: usize = 8;

const MINUTE: Duration = Duration::from_secs(60);
/// From one renewal of all keys until after the next one; the renewal that would follow falls into the outage.
const NORMAL: Duration = Duration::from_secs(35 * 60);
/// A minute before the earliest renewal, which is 37 minutes before a key ends: what lasts no longer has the least left when
/// an outage that begins now is over.
const ABOUT_TO_BE_RENEWED: Duration = Duration::from_secs(38 * 60);
/// More than lies between two renewals.
const RENEWED: Duration = Duration::from_secs(30 * 60);
const OUTAGE: Duration = Duration::from_secs(25 * 60);
const AFTER: Duration = Duration::from_secs(15 * 60);
/// Time, by the laboratory's clock, for all pods to have their first credentials at this speed.
const SETTLED: Duration = Duration::from_secs(20 * 60);

/// What is counted in the normal part.
struct Counts {
    /// Requests of all nodes to the API, for each hour of one of them.
    calls_per_node_hour: f64,
    /// Sessions that were needed, for each day of one role.
    sts_per_role_day: f64,
    /// All sessions that STS made, and those of them that were needed.
    made: usize,
    needed: usize,
    /// Lines of the issuer that say why there was one more.
    explained: usize,
}

pub(crate) async fn g7_an_outage_of_25_minutes_fails_no_request_of_a_running_pod() -> Result<()> {
    let (world, pods) = start().await?;
    let (clock, control) = (world.lab.clock().clone(), world.lab.control());
    let asking = Asking::start(&pods, &clock)?;
    until_renewal(&world, &asking).await?;
    let began = clock.now();
    pass(&world, NORMAL).await?;
    until_renewal(&world, &asking).await?;
    let away = clock.now();
    control.misbehave(&[Rule::new(Target::Gateway, Effect::Refuse), Rule::new(Target::Sts, Effect::Refuse)]).await?;
    pass(&world, OUTAGE).await?;
    control.misbehave(&[]).await?;
    let back = clock.now();
    pass(&world, AFTER).await?;

    let served = asking.stop().await?;
    let calls = calls::read(&world.lab.local_cloud_log())?;
    let counts = counts(&world, &calls, began..away)?;
    let returned = calls::first_after(&calls, back);
    show(&served, &counts, &returned, (away, back));
    suite::figure(statuses(&calls, away, back));
    check_served(&served, away, back)?;
    check_counts(&counts)?;
    check_return(&returned)
}

/// A laboratory in which every pod has its credentials.
async fn start() -> Result<(World, Vec<Pod>)> {
    let options = Options {
        nodes: (1..=NODES).map(|number| format!("node-{number}")).collect(),
        speed: SPEED,
        // The file that `intercept` renews has the kernel's times, which no library changes: to `serve` it would be old.
        serve_arguments: ["--require-intercept", "false"].map(str::to_owned).into(),
        ..Options::default()
    };
    let world = World::new(Lab::start(options).await?);
    let roles: Vec<_> = (0..ROLES).map(|role| format!("example-rolecall-cluster-pod-role-outage-{role}")).collect();
    world.lab.make_pod_roles(&roles).await?;
    world.lab.directory().permit(NAMESPACE, PERMITTED).await?;
    let mut pods = Vec::new();
    for pod in 0..NODES * PODS_PER_NODE {
        let (node, role) = (format!("node-{}", pod % NODES + 1), &roles[(pod % NODES + 2 * (pod / NODES)) % ROLES]);
        pods.push(world.lab.schedule(&node, PodSpec::new(NAMESPACE, &format!("outage-{pod}")).role(role)).await?);
    }
    let limit = world.lab.clock().real_duration(SETTLED);
    let asking = Asking::start(&pods, world.lab.clock())?;
    let settled = pass(&world, SETTLED / 2).await;
    let served = asking.stop().await?;
    settled?;
    let mut latest = served.iter().rev().take(pods.len());
    let missing = latest.find_map(|served| served.left.as_ref().err());
    ensure!(missing.is_none(), "within {limit:?} not every pod has its first credentials: {missing:?}");
    Ok((world, pods))
}

/// Lets time pass, while the directory hears from the cluster as always.
async fn pass(world: &World, time: Duration) -> Result<()> {
    let end = world.lab.clock().now() + time;
    while world.lab.clock().now() < end {
        world.lab.directory().up_to_date().await?;
        sleep(world.lab.clock().real_duration(MINUTE / 4)).await;
    }
    Ok(())
}

/// Lets time pass until the first keys are about to be renewed.
async fn until_renewal(world: &World, asking: &Asking) -> Result<()> {
    let end = world.lab.clock().now() + RENEWED;
    while asking.least_left().is_none_or(|left| left > ABOUT_TO_BE_RENEWED) {
        ensure!(world.lab.clock().now() < end, "no key came near its renewal: {:?} left", asking.least_left());
        pass(world, MINUTE / 4).await?;
    }
    Ok(())
}

fn counts(world: &World, calls: &[Call], normal: Range<SystemTime>) -> Result<Counts> {
    let made = sessions::made(&world.lab.local_cloud_log(), &normal)?;
    let needed = sessions::needed(&made);
    let hours = normal.end.duration_since(normal.start)?.as_secs_f64() / 3600.0;
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let per = |count: usize, of: usize| count as f64 / of as f64 / hours;
    Ok(Counts {
        calls_per_node_hour: per(calls.iter().filter(|call| normal.contains(&call.at)).count(), NODES),
        sts_per_role_day: per(needed, ROLES) * 24.0,
        made: made.len(),
        needed,
        explained: sessions::explained(&world.lab, &normal)?,
    })
}

fn check_served(served: &[Served], away: SystemTime, back: SystemTime) -> Result<()> {
    let failed: Vec<_> = served.iter().filter_map(|served| served.left.as_ref().err()).collect();
    ensure!(failed.is_empty(), "{} of {} requests failed: {:?}", failed.len(), served.len(), failed.first());
    let least = |from: SystemTime, to: SystemTime| {
        let within = served.iter().filter(|served| served.at >= from && served.at < to);
        within.filter_map(|served| served.left.as_ref().ok()).min().copied().unwrap_or_default()
    };
    let (normal, outage) = (least(SystemTime::UNIX_EPOCH, away), least(away, back));
    ensure!(normal >= 25 * MINUTE, "in normal running something was served with {normal:?} left");
    ensure!(outage >= 10 * MINUTE, "during the outage something was served with {outage:?} left");
    ensure!(outage < 14 * MINUTE, "the outage ended with {outage:?} left: it did not begin at the worst moment");
    Ok(())
}

/// DESIGN section 7 simulated 2.9 calls per node-hour and 63 STS calls per role-day. What may be: four calls an hour, and no
/// session of a role that another one could have served, unless the issuer's log says why.
fn check_counts(counts: &Counts) -> Result<()> {
    let Counts { calls_per_node_hour, sts_per_role_day, made, needed, explained } = counts;
    ensure!((1.0..=4.0).contains(calls_per_node_hour), "{calls_per_node_hour:.2} calls per node-hour");
    ensure!((24.0..=96.0).contains(sts_per_role_day), "{sts_per_role_day:.0} STS calls per role-day");
    let more = made - needed;
    ensure!(more <= *explained, "{more} sessions more than needed, of which the issuer's log explains {explained}");
    Ok(())
}

/// No herd: at most half of the nodes come back within any one second, and all do within the longest back-off.
fn check_return(returned: &BTreeMap<String, f64>) -> Result<()> {
    ensure!(returned.len() == NODES, "{} of {NODES} nodes came back: {returned:?}", returned.len());
    let crowd = most_within_a_second(returned);
    ensure!(crowd <= NODES / 2, "{crowd} of {NODES} nodes came back within one second: {returned:?}");
    let last = returned.values().copied().fold(0.0, f64::max);
    ensure!(last <= 60.0, "the last node came back after {last:.0} s");
    Ok(())
}

/// How the API answered, part by part.
fn statuses(calls: &[Call], away: SystemTime, back: SystemTime) -> String {
    let mut seen: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for call in calls {
        let part = if call.at < away {
            "before"
        } else if call.at < back {
            "outage"
        } else {
            "after"
        };
        *seen.entry((part, call.status)).or_default() += 1;
    }
    format!("answers of the API: {seen:?}")
}

fn most_within_a_second(returned: &BTreeMap<String, f64>) -> usize {
    let after = |from: f64| returned.values().filter(|at| (from..from + 1.0).contains(*at)).count();
    returned.values().map(|at| after(*at)).max().unwrap_or(0)
}

fn show(served: &[Served], counts: &Counts, returned: &BTreeMap<String, f64>, (away, back): (SystemTime, SystemTime)) {
    let mut table = Table::new();
    table.set_header(["part", "requests", "failed", "least minutes left"]);
    let parts =
        [("normal", SystemTime::UNIX_EPOCH, away), ("outage", away, back), ("after", back, back + 24 * 60 * MINUTE)];
    for (part, from, to) in parts {
        let within: Vec<_> = served.iter().filter(|served| served.at >= from && served.at < to).collect();
        let failed = within.iter().filter(|served| served.left.is_err()).count();
        let least = within.iter().filter_map(|served| served.left.as_ref().ok()).min().copied().unwrap_or_default();
        let least = format!("{:.1}", least.as_secs_f64() / 60.0);
        table.add_row([part.to_owned(), within.len().to_string(), failed.to_string(), least]);
    }
    suite::figure(format!(
        "\n{table}\n{:.2} API calls per node-hour, {:.0} STS calls per role-day, and {} of {} in all because the table was late for this \
         speed; nodes back {} s after the outage",
        counts.calls_per_node_hour,
        counts.sts_per_role_day,
        counts.made - counts.needed,
        counts.made,
        returned.values().map(|after| format!("{after:.1}")).collect::<Vec<_>>().join(", "),
    ));
}
