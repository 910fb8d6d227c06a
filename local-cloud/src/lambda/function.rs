//! The function: takes events, finds each an environment, and ends them all.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use super::environment::{Environment, Invocation};
use super::pool::{Pool, Slot};
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
    pool: Pool,
    /// `true` makes every busy environment end.
    stop: watch::Sender<bool>,
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
        let pool = Pool::new(config.environments);
        let shared = Shared { config: Arc::new(config), platform, pool, stop: watch::Sender::new(false) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gives the event to an environment and waits for the answer. A caller that stops waiting ends nothing: the
    /// environment handles the event to its end, as on Lambda.
    pub async fn invoke(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        if event.len() > MAX_EVENT {
            return Err(InvokeError::EventTooLarge(event.len()));
        }
        let shared = &self.shared;
        let mishap = match shared.platform.faults.before(Target::Lambda, &shared.config.name).await {
            None => None,
            Some(Fault::Mishap(mishap)) => Some(mishap),
            Some(Fault::Throttle) => return Err(InvokeError::Throttled),
            Some(Fault::Error(status)) => return Err(InvokeError::Service(status)),
            // No rule of Lambda has expired credentials.
            Some(Fault::Refuse | Fault::Expired) => return Err(InvokeError::Unreachable),
        };
        let slot = shared.pool.slot().await?;
        let invocation = Invocation { request_id: request_id(), event, mishap };
        let (sender, answer) = oneshot::channel();
        tokio::spawn(Arc::clone(shared).run(slot, invocation, sender));
        answer.await.unwrap_or(Err(InvokeError::Stopped))
    }

    /// Ends every environment, so that the next event finds none: frozen ones at once, busy ones after their event.
    pub async fn recycle(&self) {
        kill_all(self.shared.pool.recycle()).await;
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        self.shared.pool.stats()
    }

    /// Kills and reaps every environment; nothing can be invoked afterwards.
    pub async fn stop(&self) {
        let idle = self.shared.pool.close();
        self.shared.stop.send_replace(true);
        kill_all(idle).await;
        self.shared.pool.at_rest().await;
    }
}

impl Shared {
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
                    self.pool.release(false);
                    sender.send(Err(error)).ok();
                    return;
                }
            },
        };
        self.pool.invoked();
        let answer = environment.answer(invocation).await;
        self.pool.answered();
        sender.send(answer).ok();
        if !environment.settle().await {
            self.pool.release(true);
        } else if let Err(mut retired) = self.pool.keep(generation, environment) {
            retired.kill().await;
            self.pool.release(true);
        }
    }

    async fn environment(&self, number: u64, request_id: &str) -> Result<Environment, InvokeError> {
        let (config, stop) = (Arc::clone(&self.config), self.stop.subscribe());
        let started = Environment::start(config, &self.platform, number, request_id, stop).await?;
        self.pool.started(started.init().unwrap_or_default());
        Ok(started)
    }
}

async fn kill_all(environments: Vec<Environment>) {
    for mut environment in environments {
        environment.kill().await;
    }
}
