//! Delays, throttles and outages, switched on and off through the control port while the process runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The service that misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The EC2 metadata service; the detail is `INSTANCE-ID PATH`.
    Metadata,
    /// API Gateway, before the signature is checked; the detail is the path.
    Gateway,
    /// The function, before an environment is given the event; the detail is the function's name.
    Lambda,
    /// STS; the detail is `ACTION ROLE-NAME`, or only the action.
    Sts,
    /// DynamoDB; the detail is `OPERATION TABLE…`, such as `BatchGetItem directory`.
    Dynamodb,
    /// KMS; the detail is the operation.
    Kms,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The answer comes this many milliseconds later.
    Delay(u64),
    /// The service's own throttling error.
    Throttle,
    /// The service's own error document with this HTTP status, 400 to 599.
    Error(u16),
    /// The connection is closed without an answer.
    Refuse,
    /// No answer ever comes.
    Hang,
    /// Lambda: the environment is killed this many milliseconds after it was given the event.
    Kill(u64),
    /// Lambda: the same, as for an environment that uses more memory than it has.
    OutOfMemory(u64),
    /// Lambda: the environment does nothing with the event until its time is out.
    Stall,
    /// Metadata: the role's credentials have expired. Gateway: those of the caller have.
    Expired,
    /// STS: the session is given, and ends so many seconds sooner.
    Shorten(u64),
}

/// One rule, as the control port takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where it applies.
    pub target: Target,
    /// What happens.
    pub effect: Effect,
    /// Only the next so many requests; absent: until the rules change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Only so many of a hundred requests, spread evenly and always the same ones, so that a run can be repeated.
    #[serde(default = "always")]
    pub percent: u8,
    /// Only requests whose detail (see [`Target`]) contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// Only what goes beyond so many requests a second, as a service's rate limit does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<u32>,
}

const fn always() -> u8 {
    100
}

impl Rule {
    /// A rule that strikes every request to `target`.
    pub const fn new(target: Target, effect: Effect) -> Self {
        Self { target, effect, count: None, percent: always(), matching: None, beyond: None }
    }

    /// What is wrong with the rule, if anything is.
    pub fn wrong(&self) -> Option<&'static str> {
        match self {
            Self { effect: Effect::Error(status), .. } if !(400..=599).contains(status) => {
                Some("an error's status must be 400 to 599")
            }
            Self { effect: Effect::Kill(_) | Effect::OutOfMemory(_) | Effect::Stall, target, .. }
                if *target != Target::Lambda =>
            {
                Some("only lambda's environments can be killed or stalled")
            }
            Self { effect: Effect::Expired, target, .. } if !matches!(target, Target::Metadata | Target::Gateway) => {
                Some("only credentials of metadata and of the gateway's callers can be expired")
            }
            Self { effect: Effect::Shorten(_), target, .. } if *target != Target::Sts => {
                Some("only sessions of sts can be shortened")
            }
            Self { percent, .. } if !(1..=100).contains(percent) => Some("percent must be 1 to 100"),
            Self { count: Some(0), .. } => Some("count must be at least 1"),
            _ => None,
        }
    }
}

/// What the service must do instead of answering. Delays and hangs have already happened inside [`Faults::before`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answer with the service's throttling error.
    Throttle,
    /// Answer with the service's error document and this status.
    Error(u16),
    /// Close the connection without an answer.
    Refuse,
    /// Give the event to an environment that does not live to answer it.
    Mishap(Mishap),
    /// Take or give the credentials as expired.
    Expired,
}

/// What befalls an environment that has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It is killed after this time.
    Kill(Duration),
    /// It is killed after this time for the memory that it uses.
    OutOfMemory(Duration),
    /// It does nothing.
    Stall,
}

/// The rules in force. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Held while one request is matched, never across an await.
    rules: Arc<Mutex<Vec<Armed>>>,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    /// Requests that matched, struck or not; of those within `beyond` none.
    seen: u64,
    /// When the second began in which so many requests matched.
    second: Option<(Instant, u32)>,
}

impl Faults {
    /// Adds a rule behind those in force.
    pub fn add(&self, rule: Rule) {
        self.lock().push(Armed::new(rule));
    }

    /// Puts `rules` in the place of all others.
    pub fn replace(&self, rules: Vec<Rule>) {
        *self.lock() = rules.into_iter().map(Armed::new).collect();
    }

    /// The rules in force; one that has struck its `count` is gone.
    pub fn rules(&self) -> Vec<Rule> {
        self.lock().iter().map(|armed| armed.rule.clone()).collect()
    }

    /// Waits as the rules say, then names what the service must do instead of answering. Delays of several rules add up;
    /// of several other effects the first rule's wins, and only that rule's count is spent.
    pub async fn before(&self, target: Target, detail: &str) -> Option<Fault> {
        let (delay, effect) = self.strike(target, detail);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match effect? {
            Effect::Throttle => Some(Fault::Throttle),
            Effect::Error(status) => Some(Fault::Error(status)),
            Effect::Refuse => Some(Fault::Refuse),
            Effect::Kill(ms) => Some(Fault::Mishap(Mishap::Kill(Duration::from_millis(ms)))),
            Effect::OutOfMemory(ms) => Some(Fault::Mishap(Mishap::OutOfMemory(Duration::from_millis(ms)))),
            Effect::Stall => Some(Fault::Mishap(Mishap::Stall)),
            Effect::Expired => Some(Fault::Expired),
            // Ends when the caller's connection does, which drops this future.
            Effect::Hang => std::future::pending().await,
            Effect::Delay(_) | Effect::Shorten(_) => None,
        }
    }

    /// By how much a session that is given now ends sooner.
    pub fn shortened_by(&self, detail: &str) -> Duration {
        let mut rules = self.lock();
        let matching = rules.iter_mut().filter(|armed| armed.matches(Target::Sts, detail));
        let seconds = matching.filter_map(|armed| match armed.rule.effect {
            Effect::Shorten(seconds) => armed.strikes().then_some(seconds),
            _ => None,
        });
        let shortened = seconds.sum();
        rules.retain(|armed| armed.rule.count != Some(0));
        Duration::from_secs(shortened)
    }

    fn strike(&self, target: Target, detail: &str) -> (Duration, Option<Effect>) {
        let mut delay = Duration::ZERO;
        let mut effect = None;
        let mut rules = self.lock();
        for armed in rules.iter_mut().filter(|armed| armed.matches(target, detail)) {
            if let Effect::Delay(ms) = armed.rule.effect {
                if armed.strikes() {
                    delay += Duration::from_millis(ms);
                }
            } else if effect.is_none() && !armed.shortens() && armed.strikes() {
                effect = Some(armed.rule.effect);
            }
        }
        rules.retain(|armed| armed.rule.count != Some(0));
        (delay, effect)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Armed {
    fn new(rule: Rule) -> Self {
        Self { rule, seen: 0, second: None }
    }

    fn shortens(&self) -> bool {
        matches!(self.rule.effect, Effect::Shorten(_))
    }

    /// Whether the request is one of those that the rule's rate allows.
    fn is_within_rate(&mut self) -> bool {
        let Some(rate) = self.rule.beyond else { return false };
        let now = Instant::now();
        let (began, requests) = match self.second {
            Some((began, requests)) if now - began < Duration::from_secs(1) => (began, requests.saturating_add(1)),
            _ => (now, 1),
        };
        self.second = Some((began, requests));
        requests <= rate
    }

    fn matches(&self, target: Target, detail: &str) -> bool {
        self.rule.target == target && self.rule.matching.as_ref().is_none_or(|text| detail.contains(text.as_str()))
    }

    /// Whether the rule strikes this request; spends its count.
    fn strikes(&mut self) -> bool {
        if self.is_within_rate() {
            return false;
        }
        let share = |seen: u64| seen.saturating_mul(u64::from(self.rule.percent)) / 100;
        let strikes = share(self.seen + 1) > share(self.seen);
        self.seen += 1;
        if strikes && let Some(count) = &mut self.rule.count {
            *count = count.saturating_sub(1);
        }
        strikes
    }
}

#[cfg(test)]
mod tests;
