//! The function: which environment gets an event, and when there is one more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{Notify, oneshot, watch};

use super::environment::{Environment, Invocation};
use super::{InvokeError, Platform, request_id, variables};
use crate::config::FunctionConfig;
use crate::faults::{Fault, Target};

/// Lambda's limit for the event of a synchronous invocation: 6 MiB.
const MAX_EVENT: usize = 6 * 1024 * 1024;

/// Settings with which there can be no function; the text says what to change.
#[derive(Debug, Error)]
pub enum StartError {
    /// The program is not there.
    #[error("function.binary {0} is no file; build the function first")]
    NoProgram(String),
    /// Lambda would refuse this variable.
    #[error("function.env cannot set {0}: Lambda sets it; remove it")]
    Reserved(String),
    /// A function that may have no environment answers nothing.
    #[error("function.environments must be at least 1")]
    NoEnvironments,
}

/// What the environments are doing and have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Environments that are starting or handle an event now.
    pub busy: usize,
    /// Environments that are frozen now.
    pub frozen: usize,
    /// The process ids of the frozen ones, the next to be used last.
    pub frozen_pids: Vec<i32>,
    /// Environments started since the beginning: cold starts.
    pub starts: u64,
    /// Events given to an environment.
    pub invocations: u64,
    /// Events refused because every environment was busy.
    pub throttles: u64,
    /// How long the latest INIT took.
    pub last_init_ms: u64,
    /// How long the longest INIT took.
    pub max_init_ms: u64,
}

/// The function. Clones are the same function.
#[derive(Clone)]
pub struct Function {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<FunctionConfig>,
    platform: Platform,
    /// Held for a single change of the books, never across an await.
    pool: Mutex<Pool>,
    /// Some environment became idle or ended.
    changed: Notify,
    /// `true` kills every environment.
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Pool {
    /// The last used is the first to be used again, as on Lambda few environments then stay warm.
    idle: Vec<(u64, Environment)>,
    busy: usize,
    /// Of the busy ones: answered, but not yet frozen.
    finishing: usize,
    /// Environments of an earlier generation are not used again.
    generation: u64,
    starts: u64,
    invocations: u64,
    throttles: u64,
    last_init: Duration,
    max_init: Duration,
}

/// Where an event goes.
enum Slot {
    Warm(u64, Box<Environment>),
    /// A new environment, with its generation and number.
    Cold(u64, u64),
}

impl Function {
    /// A function without any environment yet: the first event starts the first one.
    pub fn start(config: FunctionConfig, platform: Platform) -> Result<Self, StartError> {
        if !config.binary.is_file() {
            return Err(StartError::NoProgram(config.binary.display().to_string()));
        }
        if let Some(name) = variables::reserved(&config.env) {
            return Err(StartError::Reserved(name.to_owned()));
        }
        if config.environments == 0 {
            return Err(StartError::NoEnvironments);
        }
        let shared = Shared {
            config: Arc::new(config),
            platform,
            pool: Mutex::default(),
            changed: Notify::new(),
            stop: watch::Sender::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gives the event to an environment and waits for the answer. A caller that stops waiting ends nothing: the
    /// environment handles the event to its end, as on Lambda.
    pub async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        if event.len() > MAX_EVENT {
            return Err(InvokeError::EventTooLarge(event.len()));
        }
        let shared = &self.shared;
        match shared.platform.faults.before(Target::Lambda, &shared.config.name).await {
            None => {}
            Some(Fault::Throttle) => return Err(InvokeError::Throttled),
            Some(Fault::Error(status)) => return Err(InvokeError::Service(status)),
            Some(Fault::Refuse) => return Err(InvokeError::Unreachable),
        }
        let slot = shared.slot().await?;
        let invocation = Invocation { request_id: request_id(), event };
        let (sender, answer) = oneshot::channel();
        tokio::spawn(Arc::clone(shared).run(slot, invocation, sender));
        answer.await.unwrap_or(Err(InvokeError::Stopped))
    }

    /// Ends every environment, so that the next event finds none: frozen ones at once, busy ones after their event.
    pub async fn recycle(&self) {
        let idle = {
            let mut pool = self.shared.lock();
            pool.generation += 1;
            std::mem::take(&mut pool.idle)
        };
        kill_all(idle).await;
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        let pool = self.shared.lock();
        Stats {
            busy: pool.busy,
            frozen: pool.idle.len(),
            frozen_pids: pool.idle.iter().map(|(_, environment)| environment.process_id()).collect(),
            starts: pool.starts,
            invocations: pool.invocations,
            throttles: pool.throttles,
            last_init_ms: millis(pool.last_init),
            max_init_ms: millis(pool.max_init),
        }
    }

    /// Kills and reaps every environment; nothing can be invoked afterwards.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (idle, busy) = {
                let mut pool = self.shared.lock();
                (std::mem::take(&mut pool.idle), pool.busy)
            };
            kill_all(idle).await;
            if busy == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Shared {
    /// An idle environment; else a new one; else, when one is about to be idle, that one; else none.
    async fn slot(&self) -> Result<Slot, InvokeError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the books are read, so that no change between the two is missed.
            changed.as_mut().enable();
            if let Some(found) = self.try_slot() {
                return found;
            }
            changed.await;
        }
    }

    fn try_slot(&self) -> Option<Result<Slot, InvokeError>> {
        let mut pool = self.lock();
        if *self.stop.borrow() {
            return Some(Err(InvokeError::Stopped));
        }
        while let Some((generation, mut environment)) = pool.idle.pop() {
            // One that died while frozen is dropped here.
            if environment.is_alive() {
                pool.busy += 1;
                return Some(Ok(Slot::Warm(generation, Box::new(environment))));
            }
        }
        if pool.busy < self.config.environments {
            pool.busy += 1;
            pool.starts += 1;
            return Some(Ok(Slot::Cold(pool.generation, pool.starts)));
        }
        if pool.finishing > 0 {
            return None;
        }
        pool.throttles += 1;
        Some(Err(InvokeError::Throttled))
    }

    async fn run(
        self: Arc<Self>,
        slot: Slot,
        invocation: Invocation,
        sender: oneshot::Sender<Result<Bytes, InvokeError>>,
    ) {
        let (generation, mut environment) = match slot {
            Slot::Warm(generation, environment) => (generation, environment),
            Slot::Cold(generation, number) => match self.environment(number, &invocation.request_id).await {
                Ok(environment) => (generation, Box::new(environment)),
                Err(error) => {
                    tracing::warn!(function = self.config.name, %error, "an environment did not start");
                    self.release(false);
                    sender.send(Err(error)).ok();
                    return;
                }
            },
        };
        self.lock().invocations += 1;
        let answer = environment.answer(invocation).await;
        self.lock().finishing += 1;
        sender.send(answer).ok();
        let settled = environment.settle().await;
        if let Some(mut retired) = self.keep(generation, *environment, settled) {
            if settled {
                retired.kill().await;
            }
            self.release(true);
        }
    }

    /// Makes the environment idle; one that cannot be used again comes back, still counted as busy until it is gone.
    fn keep(&self, generation: u64, environment: Environment, settled: bool) -> Option<Environment> {
        let mut pool = self.lock();
        if !settled || generation != pool.generation || *self.stop.borrow() {
            return Some(environment);
        }
        pool.idle.push((generation, environment));
        drop(pool);
        self.release(true);
        None
    }

    async fn environment(&self, number: u64, request_id: &str) -> Result<Environment, InvokeError> {
        let stop = self.stop.subscribe();
        let started = Environment::start(Arc::clone(&self.config), &self.platform, number, request_id, stop).await?;
        let mut pool = self.lock();
        pool.last_init = started.init().unwrap_or_default();
        pool.max_init = pool.max_init.max(pool.last_init);
        Ok(started)
    }

    /// Ends a slot; `answered` when its invocation got as far as an answer.
    fn release(&self, answered: bool) {
        let mut pool = self.lock();
        pool.busy -= 1;
        pool.finishing -= usize::from(answered);
        drop(pool);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn kill_all(environments: Vec<(u64, Environment)>) {
    for (_, mut environment) in environments {
        environment.kill().await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
