//! `node-agent intercept`: the metadata calls of pods come to the agent, whatever becomes of the agent.
//!
//! ```text
//! args -> Settings
//!    |                      woken every 5 s, and by every change of the table or the routing rules (monitor)
//!    v
//! keeper: routing   two routing rules: nothing is routed to a metadata address
//!         nft       our table, compared (listing) with what it should be (rules, node), replaced when it differs
//!         conntrack flows older than the table are cut
//!         probe     plays a pod (veth, packet) and sees its packets arrive translated, and who answers
//!         lock      the instance's own lock: hop limit 1, tokens required
//!         report -> intercept.ok (only while proven), intercept.status
//! ```
//! It listens nowhere. The rules stay when it ends, however it ends; [`remove`] is the only deletion.

mod args;
mod conntrack;
mod family;
mod interface;
mod keeper;
mod listing;
mod lock;
mod monitor;
mod nft;
mod node;
mod packet;
mod privileges;
mod probe;
mod report;
mod routing;
mod rules;
mod veth;

use std::{
    process,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    args::Settings,
    keeper::{Memory, RuleKeeper},
    lock::Lock,
    report::{Keeper, StateDir},
};
pub use self::{
    args::{Args, HopLimitCheck, SettingsError},
    interface::{InterfaceError, InterfaceName, InterfacePattern},
    report::{Proof, ProofError},
};

/// How often everything is looked at without being woken; a third of the time for which `serve` believes a look.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long further changes are awaited after one: a flush and a reload of rules come as many.
const SETTLE: Duration = Duration::from_millis(50);

/// How often the instance's options are looked at: they change by hand only.
const LOCK_EVERY: Duration = Duration::from_mins(5);
/// And while no metadata service answers.
const LOCK_RETRY: Duration = Duration::from_secs(5);
/// And while there is no verdict: the table is not there yet, or was replaced in between.
const LOCK_AGAIN: Duration = Duration::from_millis(500);

/// Installs, watches, repairs and proves, until `shutdown`. The rules stay.
///
/// # Errors
/// On settings that do not fit together, a missing capability, an unfit `nft`, or an unwritable state directory. What can
/// heal (no default route, no metadata service, a refused transaction) is logged and tried again.
pub async fn run(args: Args, now: fn() -> SystemTime, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let settings = Settings::try_from(args)?;
    privileges::check()?;
    let nft = nft::version().await?;
    let me = Keeper { started_ms: now().into(), pid: process::id() };
    let state_dir = StateDir::open(settings.state_dir(), me)?;
    let (connection, netlink, _) = rtnetlink::new_connection().context("no netlink socket for routes")?;
    let changed = Arc::new(Notify::new());
    let (lock_sender, lock) = watch::channel(Lock::Unknown);
    let look_at_lock = settings.hop_limit_check != HopLimitCheck::Off;
    let near_end = settings.pods.near_end().to_string();
    tracing::info!(nft, near_end, settings = ?settings, "intercept starts");
    let mut keeper = RuleKeeper { settings, netlink, state_dir, me, now, lock, memory: Memory::default() };
    let result = tokio::select! {
        () = shutdown => Ok(()),
        () = keep(&mut keeper, &changed) => Ok(()),
        result = monitor::watch_tables(Arc::clone(&changed)) => result.context("the nftables rules cannot be watched"),
        result = monitor::watch_routing(Arc::clone(&changed)) => result.context("the routing rules cannot be watched"),
        () = watch_lock(lock_sender, &changed), if look_at_lock => Ok(()),
        () = connection => Err(anyhow::anyhow!("the kernel closed the netlink socket")),
    };
    if result.is_ok() {
        let (connection, netlink, _) = rtnetlink::new_connection().context("no netlink socket for routes")?;
        keeper.netlink = netlink;
        tokio::select! { () = keeper.leave() => {}, () = connection => {} }
        tracing::info!("intercept ends; the rules stay");
    }
    result
}

/// Takes away, once no [`run`] is left that would put it back, the table, the routing rules, the self-check's interfaces and the status files, as far as they are there.
///
/// # Errors
/// When something that is there cannot be taken away.
pub async fn remove(args: Args) -> anyhow::Result<()> {
    let settings = Settings::try_from(args)?;
    privileges::check()?;
    nft::version().await?;
    let (connection, netlink, _) = rtnetlink::new_connection().context("no netlink socket for routes")?;
    let work = async {
        // First what says that all is well, and last what refuses.
        report::remove(settings.state_dir()).context("the status files cannot be removed")?;
        veth::remove(&netlink).await.context("the self-check's interfaces cannot be removed")?;
        nft::delete().await.context("the nftables table cannot be removed")?;
        routing::remove(&netlink).await.context("the routing rules cannot be removed")
    };
    tokio::select! {
        result = work => result?,
        () = connection => anyhow::bail!("the kernel closed the netlink socket"),
    }
    tracing::info!("table, routing rules and self-check interfaces are removed");
    Ok(())
}

async fn keep(keeper: &mut RuleKeeper, changed: &Notify) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keeper.claim();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = changed.notified() => sleep(SETTLE).await,
        }
        keeper.look().await;
    }
}

async fn watch_lock(found: watch::Sender<Lock>, changed: &Notify) {
    loop {
        let lock = lock::look().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the lock behind could not be looked at");
            Lock::Unknown
        });
        if found.send_replace(lock) != lock {
            // So that it is told at once.
            changed.notify_one();
        }
        sleep(match lock {
            Lock::Unknown => LOCK_AGAIN,
            Lock::Unreachable => LOCK_RETRY,
            Lock::Holds | Lock::HopLimitNot1 | Lock::TokensNotRequired => LOCK_EVERY,
        })
        .await;
    }
}
