//! Delays, throttles and outages, switched on and off through the control port while the process runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
}

const fn always() -> u8 {
    100
}

impl Rule {
    /// A rule that strikes every request to `target`.
    pub const fn new(target: Target, effect: Effect) -> Self {
        Self { target, effect, count: None, percent: always(), matching: None }
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
    /// Requests that matched, struck or not.
    seen: u64,
}

impl Faults {
    /// Adds a rule behind those in force.
    pub fn add(&self, rule: Rule) {
        self.lock().push(Armed { rule, seen: 0 });
    }

    /// Puts `rules` in the place of all others.
    pub fn replace(&self, rules: Vec<Rule>) {
        *self.lock() = rules.into_iter().map(|rule| Armed { rule, seen: 0 }).collect();
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
            Effect::Delay(_) => None,
        }
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
            } else if effect.is_none() && armed.strikes() {
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
    fn matches(&self, target: Target, detail: &str) -> bool {
        self.rule.target == target && self.rule.matching.as_ref().is_none_or(|text| detail.contains(text.as_str()))
    }

    /// Whether the rule strikes this request; spends its count.
    fn strikes(&mut self) -> bool {
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
mod tests {
    use super::*;

    fn with(rules: Vec<Rule>) -> Faults {
        let faults = Faults::default();
        faults.replace(rules);
        faults
    }

    #[tokio::test]
    async fn a_counted_rule_strikes_so_many_times_and_goes() {
        let faults = with(vec![Rule { count: Some(2), ..Rule::new(Target::Sts, Effect::Throttle) }]);
        assert_eq!(faults.before(Target::Kms, "Decrypt").await, None);
        assert_eq!(faults.before(Target::Sts, "AssumeRole app").await, Some(Fault::Throttle));
        assert_eq!(faults.before(Target::Sts, "AssumeRole app").await, Some(Fault::Throttle));
        assert_eq!(faults.before(Target::Sts, "AssumeRole app").await, None);
        assert_eq!(faults.rules(), []);
    }

    #[tokio::test]
    async fn a_share_strikes_evenly_and_repeatably() {
        let faults = with(vec![Rule { percent: 25, ..Rule::new(Target::Gateway, Effect::Error(503)) }]);
        let mut struck = Vec::new();
        for _ in 0..8 {
            struck.push(faults.before(Target::Gateway, "/v1").await.is_some());
        }
        assert_eq!(struck, [false, false, false, true, false, false, false, true]);
    }

    #[tokio::test]
    async fn only_matching_details_are_struck() {
        let rule = Rule { matching: Some("directory".into()), ..Rule::new(Target::Dynamodb, Effect::Refuse) };
        let faults = with(vec![rule]);
        assert_eq!(faults.before(Target::Dynamodb, "PutItem cache").await, None);
        assert_eq!(faults.before(Target::Dynamodb, "BatchGetItem directory").await, Some(Fault::Refuse));
    }

    #[tokio::test(start_paused = true)]
    async fn delays_add_up_and_the_first_other_effect_wins() {
        let faults = with(vec![
            Rule::new(Target::Metadata, Effect::Delay(300)),
            Rule::new(Target::Metadata, Effect::Error(500)),
            Rule::new(Target::Metadata, Effect::Delay(200)),
            Rule { count: Some(1), ..Rule::new(Target::Metadata, Effect::Throttle) },
        ]);
        let start = tokio::time::Instant::now();
        assert_eq!(faults.before(Target::Metadata, "").await, Some(Fault::Error(500)));
        assert_eq!(start.elapsed(), Duration::from_millis(500));
        assert_eq!(faults.rules().len(), 4, "the rule that lost keeps its count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_ends_only_with_its_caller() {
        let faults = with(vec![Rule::new(Target::Lambda, Effect::Hang)]);
        let waited = tokio::time::timeout(Duration::from_hours(1), faults.before(Target::Lambda, "")).await;
        assert!(waited.is_err());
    }

    #[test]
    fn an_effect_has_its_own_targets() {
        for effect in [Effect::Kill(5), Effect::OutOfMemory(5), Effect::Stall] {
            assert_eq!(Rule::new(Target::Lambda, effect).wrong(), None);
            assert!(Rule::new(Target::Gateway, effect).wrong().is_some(), "{effect:?}");
        }
        assert_eq!(Rule::new(Target::Metadata, Effect::Expired).wrong(), None);
        assert_eq!(Rule::new(Target::Gateway, Effect::Expired).wrong(), None);
        assert!(Rule::new(Target::Sts, Effect::Expired).wrong().is_some());
    }

    #[test]
    fn the_form_that_the_control_port_takes() {
        let rule: Rule =
            serde_json::from_str(r#"{"target":"sts","effect":{"delay":900},"count":1,"matching":"app"}"#).unwrap();
        assert_eq!(
            rule,
            Rule { count: Some(1), matching: Some("app".into()), ..Rule::new(Target::Sts, Effect::Delay(900)) }
        );
        assert!(serde_json::from_str::<Rule>(r#"{"target":"sts","effect":"explode"}"#).is_err());
    }
}
