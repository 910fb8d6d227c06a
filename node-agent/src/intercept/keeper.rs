//! One look after another at what is in the kernel: put right what is wrong, prove that it works, tell.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rtnetlink::Handle;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    args::{HopLimitCheck, Settings},
    conntrack,
    family::{Family, PerFamily},
    listing,
    lock::Lock,
    nft::{self, InstalledTable, Kept, NftError},
    node,
    packet::Answer,
    probe,
    report::{Interception, Keeper, Repairs, Report, StateDir},
    routing,
    rules::{RuleSet, self_check_comment},
    veth,
};

/// A table that compares equal and does not work is replaced all the same, but not more often than this: if that does
/// not help, the cause is elsewhere.
const FORCE_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// Keeps the rules of one node.
pub(super) struct RuleKeeper {
    pub(super) settings: Settings,
    pub(super) netlink: Handle,
    pub(super) state_dir: StateDir,
    pub(super) me: Keeper,
    pub(super) now: fn() -> SystemTime,
    pub(super) lock: watch::Receiver<Lock>,
    pub(super) memory: Memory,
}

/// What it remembers from look to look.
#[derive(Default)]
pub(super) struct Memory {
    table: InstalledTable,
    repairs: Repairs,
    /// Set once the rules have been in place: what is wrong after that is a repair.
    installed: bool,
    last: Option<(PerFamily<Interception>, Lock)>,
    successor: Option<Keeper>,
    forced: Option<Instant>,
    force: bool,
    /// Set by a replacement until older flows are forgotten.
    flows_due: bool,
    complaint: Option<String>,
    /// See [`Report::host_interface_found`].
    host_interface_found: Option<bool>,
}

impl RuleKeeper {
    /// One look. What goes wrong in it is logged and told; the next look tries again.
    pub(super) async fn look(&mut self) {
        if self.is_succeeded() {
            return;
        }
        let interception = match self.keep_and_prove().await {
            Ok(interception) => {
                self.memory.complaint = None;
                interception
            }
            Err(error) => {
                self.complain(&error);
                PerFamily::default()
            }
        };
        self.tell(interception);
    }

    /// Claims the rules before the first look.
    pub(super) fn claim(&mut self) {
        if !self.is_succeeded() {
            self.tell(PerFamily::default());
        }
    }

    /// Leaves the rules, takes the self-check's interfaces away.
    pub(super) async fn leave(self) {
        if let Err(error) = self.state_dir.release() {
            tracing::warn!(%error, "intercept.status could not be removed");
        }
        if self.memory.successor.is_none()
            && let Err(error) = veth::remove(&self.netlink).await
        {
            tracing::warn!(%error, "the self-check's interfaces could not be removed");
        }
    }

    fn is_succeeded(&mut self) -> bool {
        let successor = self.state_dir.successor((self.now)());
        if successor != self.memory.successor {
            if let Some(other) = successor {
                tracing::info!(pid = other.pid, "another intercept, started later, keeps the rules; waiting");
            } else {
                tracing::info!("the other intercept is gone; keeping the rules again");
            }
            self.memory.successor = successor;
        }
        successor.is_some()
    }

    async fn keep_and_prove(&mut self) -> anyhow::Result<PerFamily<Interception>> {
        // The routing rules first: from then on, nothing is open. If they fail, the table is all the more needed.
        let routing = self.keep_routing().await;
        let rules = self.wanted().await?;
        let kept = self.keep_table(&rules).await?;
        self.forget_older_flows(&rules).await;
        self.memory.installed = true;
        self.find_host_interface().await?;
        routing.context("the routing rules cannot be kept")?;
        self.prove(&rules, kept).await
    }

    async fn keep_routing(&mut self) -> Result<(), rtnetlink::Error> {
        let wrong = routing::keep(&self.netlink, self.settings.rule_preference).await?;
        if !wrong.is_empty() {
            self.memory.repairs.routing += u64::from(self.memory.installed);
            tracing::warn!(repair = self.memory.installed, ?wrong, "routing rules put in place");
        }
        Ok(())
    }

    async fn keep_table(&mut self, rules: &RuleSet) -> Result<Kept, NftError> {
        let force = std::mem::take(&mut self.memory.force);
        let kept = self.memory.table.keep(rules, force).await?;
        if let Some(wrong) = &kept.replaced {
            self.memory.repairs.table += u64::from(self.memory.installed);
            self.memory.flows_due = true;
            tracing::warn!(repair = self.memory.installed, ?wrong, "nftables table put in place");
        }
        Ok(kept)
    }

    /// Until it has worked once after each replacement. Meanwhile the forward chain refuses those flows.
    async fn forget_older_flows(&mut self, rules: &RuleSet) {
        if !self.memory.flows_due {
            return;
        }
        match conntrack::forget_older(rules.agent, rules.agent_port).await {
            Ok(flows) => {
                self.memory.flows_due = false;
                tracing::info!(flows, "flows older than the rules are cut");
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "flows older than the rules cannot be forgotten: load the kernel module nf_conntrack_netlink; the \
                     rules refuse them; trying again"
                );
            }
        }
    }

    /// The rules for this node as it is now.
    async fn wanted(&self) -> anyhow::Result<RuleSet> {
        let settings = &self.settings;
        let host =
            if settings.pods.need_host_interfaces() { node::host_interfaces(&self.netlink).await? } else { Vec::new() };
        let agent = if settings.agent_address == PerFamily::default() {
            node::addresses(&self.netlink).await
        } else {
            settings.agent_address
        };
        Ok(RuleSet {
            from_pods: settings.pods.alternatives(&host),
            agent,
            agent_port: settings.agent_port,
            near_end: settings.pods.near_end().to_string(),
        })
    }

    /// Only told: a node without pods has no interface of theirs.
    async fn find_host_interface(&mut self) -> Result<(), rtnetlink::Error> {
        let found = self.settings.pods.matches_any(&node::interfaces(&self.netlink).await?);
        let before = std::mem::replace(&mut self.memory.host_interface_found, found);
        match found {
            Some(false) if before != found => tracing::warn!(
                "no interface of this node matches --host-interface, the self-check's own apart: unless no pod runs \
                 here, the pattern is wrong, and pods are refused"
            ),
            Some(true) if before == Some(false) => tracing::info!("an interface matches --host-interface now"),
            _ => {}
        }
        Ok(())
    }

    async fn prove(&mut self, rules: &RuleSet, kept: Kept) -> anyhow::Result<PerFamily<Interception>> {
        anyhow::ensure!(
            rules.agent != PerFamily::default(),
            "this node has no default route, and so no address for the agent: until it has one, or one is given with \
             --agent-address, pods' metadata calls are refused"
        );
        let pair = veth::keep(&self.netlink, self.settings.pods.near_end()).await?;
        let mut answers = PerFamily::default();
        for family in Family::BOTH.into_iter().filter(|family| rules.agent.of(*family).is_some()) {
            answers.set(family, probe::connect(pair, family).await?);
        }
        let after = nft::list().await?.unwrap_or(Value::Null);
        anyhow::ensure!(
            listing::table_handle(&kept.listing) == listing::table_handle(&after),
            "somebody replaced the nftables table during the self-check"
        );
        let mut interception = PerFamily::default();
        for family in Family::BOTH {
            let arrived = |listing: &Value| listing::packets(listing, &self_check_comment(family));
            let state = match (rules.agent.of(family), arrived(&kept.listing), arrived(&after)) {
                (None, ..) => Interception::Refused,
                (Some(_), Some(before), Some(after)) if before < after => match answers.of(family) {
                    Some(Answer::Open { .. }) => Interception::Intercepted,
                    Some(Answer::Reset) | None => Interception::InterceptedAgentDown,
                },
                _ => Interception::NotIntercepted,
            };
            interception.set(family, state);
        }
        self.consider_force(interception, kept.replaced.is_some());
        Ok(interception)
    }

    fn consider_force(&mut self, interception: PerFamily<Interception>, replaced: bool) {
        let fails = Family::BOTH.iter().any(|family| interception.of(*family) == Interception::NotIntercepted);
        let lately = self.memory.forced.is_some_and(|at| at.elapsed() < FORCE_AT_MOST_EVERY);
        if fails && !replaced && !lately {
            self.memory.force = true;
            self.memory.forced = Some(Instant::now());
        }
    }

    fn tell(&mut self, interception: PerFamily<Interception>) {
        let now = (self.now)();
        let lock = *self.lock.borrow_and_update();
        let states = Family::BOTH.map(|family| interception.of(family));
        let intercepted = states.iter().any(|state| state.is_proven())
            && states.iter().all(|state| state.is_proven() || *state == Interception::Refused);
        let locked = self.settings.hop_limit_check != HopLimitCheck::Required || lock == Lock::Holds;
        let report = Report {
            host_interface_found: self.memory.host_interface_found,
            proven: intercepted && locked,
            ..Report::new(self.me, now, interception, lock, self.memory.repairs)
        };
        if let Err(error) = self.state_dir.renew(&report, now) {
            self.complain(&error.into());
        }
        self.log_change(interception, lock);
    }

    fn log_change(&mut self, interception: PerFamily<Interception>, lock: Lock) {
        let before = self.memory.last.replace((interception, lock));
        for family in Family::BOTH {
            let state = interception.of(family);
            if before.is_some_and(|(last, _)| last.of(family) == state) || (before.is_none() && !state.is_proven()) {
                continue;
            }
            let (family, name, explanation) = (family.name(), state.name(), state.explanation());
            match state {
                Interception::Intercepted | Interception::Refused => {
                    tracing::info!(family, state = name, explanation, "interception");
                }
                _ => tracing::warn!(family, state = name, explanation, "interception"),
            }
        }
        if before.is_none_or(|(_, last)| last != lock) {
            if let Some(advice) = lock.advice() {
                tracing::warn!(state = lock.name(), advice, "lock behind the interception");
            } else {
                tracing::info!(state = lock.name(), "lock behind the interception");
            }
        }
    }

    /// Logs an error, and the same one again only after it has been gone.
    fn complain(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if self.memory.complaint.as_ref() != Some(&text) {
            tracing::error!(error = text, "interception cannot be kept; trying again");
            self.memory.complaint = Some(text);
        }
    }
}
