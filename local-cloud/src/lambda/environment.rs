//! One environment: INIT, then one event after another, frozen in between. All its states are here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::log::{self, EnvironmentLog};
use super::process::Process;
use super::request_id::trace_header;
use super::runtime_api::{Call, Delivery, MAX_ANSWER, Report, RuntimeApi, Verdict};
use super::variables::Setting;
use super::{InvokeError, Platform};
use crate::clock::Clock;
use crate::config::FunctionConfig;
use crate::faults::Mishap;

/// Lambda's limit for INIT.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// An environment gets its role's keys when it starts, and no others. It is given no event any more when they last only so
/// long; Lambda replaces environments long before their keys end.
const RETIREMENT: Duration = Duration::from_secs(5 * 60);

/// One event and how it is told from others.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) request_id: String,
    pub(super) event: Bytes,
    /// What befalls the environment meanwhile.
    pub(super) mishap: Option<Mishap>,
}

/// A live environment. Between two invocations its program is frozen.
#[derive(Debug)]
pub(super) struct Environment {
    process: Process,
    /// Held so that the listener lives as long as the program.
    _api: RuntimeApi,
    calls: mpsc::Receiver<Call>,
    /// The program's open `next`; none while it handles an event.
    waiting: Option<oneshot::Sender<Delivery>>,
    log: EnvironmentLog,
    /// How long INIT took; reported once.
    init: Option<Duration>,
    function: Arc<FunctionConfig>,
    stop: watch::Receiver<bool>,
    clock: Clock,
    /// When its keys end.
    keys_end: SystemTime,
    /// The invocation that has been answered and not ended yet.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    request_id: String,
    started: Instant,
    deadline: Instant,
}

/// What came first.
enum Happened {
    Called(Call),
    Ended(String),
    TooLate,
    Stopped,
}

impl Environment {
    /// Starts the program and waits until it asks for its first event. `number` tells the log files apart; `request_id` is
    /// of the invocation that needs the environment.
    pub(super) async fn start(
        function: Arc<FunctionConfig>,
        platform: &Platform,
        number: u64,
        request_id: &str,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, InvokeError> {
        let role = platform.role.session(&function.role_arn, &function.name).await?;
        let not_runnable = |source| InvokeError::NotRunnable {
            request_id: request_id.to_owned(),
            program: function.binary.display().to_string(),
            source,
        };
        let log = EnvironmentLog::create(&function.log_dir, &function.name, number).map_err(not_runnable)?;
        let (api, calls) = RuntimeApi::start().await.map_err(not_runnable)?;
        let setting = Setting {
            function: &function,
            region: &platform.region,
            role: &role,
            runtime_api: api.address(),
            log_stream: &log.path().file_stem().unwrap_or_default().to_string_lossy(),
        };
        log.line("INIT_START Runtime Version: provided:al2023 (local-cloud)");
        let started = Instant::now();
        let process = Process::start(&function.binary, &setting.variables(), &log).map_err(not_runnable)?;
        let (clock, keys_end) = (platform.clock.clone(), role.expiration);
        let (waiting, init, current) = (None, None, None);
        let mut environment =
            Self { process, _api: api, calls, waiting, log, init, function, stop, clock, keys_end, current };
        match environment.initialise(request_id, started + INIT_LIMIT).await {
            Ok(()) => environment.init = Some(started.elapsed()),
            Err(error) => {
                environment.kill().await;
                return Err(error);
            }
        }
        Ok(environment)
    }

    async fn initialise(&mut self, request_id: &str, deadline: Instant) -> Result<(), InvokeError> {
        loop {
            match self.happens(deadline).await {
                Happened::Called(Call::Next(sender)) => {
                    self.waiting = Some(sender);
                    return Ok(());
                }
                Happened::Called(Call::InitError { report, verdict }) => {
                    verdict.send(Verdict::Accepted).ok();
                    self.log.line(&format!("INIT_REPORT Status: error Error Type: {}", report.error_type));
                    return Err(reported(report));
                }
                Happened::Called(call) => refuse(call, Verdict::WrongState),
                Happened::Ended(status) => return Err(self.exited(request_id, status)),
                Happened::TooLate => {
                    self.log.line(&format!("INIT_REPORT Phase: init Status: timeout ({} ms)", INIT_LIMIT.as_millis()));
                    return Err(InvokeError::InitTimedOut { request_id: request_id.to_owned(), within: INIT_LIMIT });
                }
                Happened::Stopped => return Err(InvokeError::Stopped),
            }
        }
    }

    /// Thaws the program, gives it the event and waits for its answer. Whatever comes back, [`Self::settle`] must follow.
    pub(super) async fn answer(&mut self, invocation: Invocation) -> Result<Bytes, InvokeError> {
        let Invocation { request_id, event, mishap } = invocation;
        let timeout = Duration::from_millis(self.function.timeout_ms);
        let now = DateTime::<Utc>::from(self.clock.now());
        let started = Instant::now();
        let current = Current { request_id: request_id.clone(), started, deadline: started + timeout };
        let deadline = current.deadline;
        self.current = Some(current);
        self.log.line(&format!("START RequestId: {request_id} Version: $LATEST"));
        let mut delivery = Some(Delivery {
            request_id: request_id.clone(),
            deadline_ms: (now + timeout).timestamp_millis(),
            function_arn: self.function.arn.clone(),
            trace: trace_header(now.timestamp()),
            event,
        });
        let until = match mishap {
            Some(Mishap::Kill(after) | Mishap::OutOfMemory(after)) => deadline.min(started + after),
            Some(Mishap::Stall) | None => deadline,
        };
        match mishap {
            // One that is new was never frozen.
            Some(Mishap::Stall) => self.process.freeze(),
            _ => self.process.thaw(),
        }
        loop {
            if let (Some(_), Some(sender)) = (&delivery, self.waiting.take()) {
                // A sender whose connection is gone gives the event back; the program will ask again.
                delivery = delivery.take().and_then(|event| sender.send(event).err());
            }
            match self.happens(until).await {
                Happened::Called(Call::Next(sender)) if delivery.is_some() => self.waiting = Some(sender),
                Happened::Called(Call::Response { id, answer, verdict }) if id == request_id => {
                    verdict.send(Verdict::Accepted).ok();
                    return answer.map_err(|_| InvokeError::AnswerTooLarge(MAX_ANSWER));
                }
                Happened::Called(Call::Error { id, report, verdict }) if id == request_id => {
                    verdict.send(Verdict::Accepted).ok();
                    return Err(reported(report));
                }
                Happened::Called(call) => refuse(call, Verdict::UnknownRequest),
                Happened::Ended(status) => return Err(self.exited(&request_id, status)),
                Happened::TooLate if until < deadline => return Err(self.killed(request_id, mishap).await),
                Happened::TooLate => return Err(self.timed_out(request_id, timeout)),
                Happened::Stopped => return Err(InvokeError::Stopped),
            }
        }
    }

    /// Ends the invocation: when the program asks for the next event it is frozen, and the environment can be used again
    /// (`true`); when it ends or is too slow for that, the environment is killed.
    pub(super) async fn settle(&mut self) -> bool {
        let Some(current) = self.current.take() else { return false };
        let (ready, timed_out) = loop {
            match self.happens(current.deadline).await {
                Happened::Called(Call::Next(sender)) => {
                    self.waiting = Some(sender);
                    break (true, false);
                }
                Happened::Called(call) => refuse(call, Verdict::UnknownRequest),
                Happened::TooLate => break (false, true),
                Happened::Ended(_) | Happened::Stopped => break (false, false),
            }
        };
        if ready {
            self.process.freeze();
        }
        self.log.report(&log::Report {
            request_id: &current.request_id,
            duration: current.started.elapsed(),
            memory_mb: self.function.memory_mb,
            peak_memory_kb: self.process.peak_memory_kb(),
            init: self.init.take(),
            timed_out,
        });
        if !ready {
            self.kill().await;
        }
        ready
    }

    /// How long INIT took, while that is not reported yet.
    pub(super) const fn init(&self) -> Option<Duration> {
        self.init
    }

    /// The program's process id.
    pub(super) const fn process_id(&self) -> i32 {
        self.process.id()
    }

    /// Whether it may have another event: its program still runs, frozen or not, and its keys will outlast the answer.
    pub(super) fn is_usable(&mut self) -> bool {
        self.process.is_alive() && self.clock.now() + RETIREMENT < self.keys_end
    }

    /// Kills the program, whatever it does, and reaps it.
    pub(super) async fn kill(&mut self) {
        self.process.kill().await;
    }

    async fn happens(&mut self, deadline: Instant) -> Happened {
        tokio::select! {
            // An answer that has arrived counts, even when the program ended right after it.
            biased;
            call = self.calls.recv() => call.map_or(Happened::Stopped, Happened::Called),
            status = self.process.ended() => Happened::Ended(status),
            // The sender is gone with the function, which is the same.
            _ = self.stop.wait_for(|stop| *stop) => Happened::Stopped,
            () = sleep_until(deadline) => Happened::TooLate,
        }
    }

    /// Kills the program in the midst of an event, as a fault rule asks.
    async fn killed(&mut self, request_id: String, mishap: Option<Mishap>) -> InvokeError {
        self.kill().await;
        if matches!(mishap, Some(Mishap::OutOfMemory(_))) {
            let error = InvokeError::OutOfMemory { request_id };
            self.log.line(&format!("{error}\nRuntime.OutOfMemory"));
            return error;
        }
        self.exited(&request_id, "signal: killed".to_owned())
    }

    fn exited(&self, request_id: &str, status: String) -> InvokeError {
        let error = InvokeError::Exited { request_id: request_id.to_owned(), status };
        self.log.line(&format!("{error}\nRuntime.ExitError"));
        error
    }

    fn timed_out(&self, request_id: String, after: Duration) -> InvokeError {
        let time = DateTime::<Utc>::from(self.clock.now()).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let error = InvokeError::TimedOut { time, request_id, after };
        self.log.line(&error.to_string());
        error
    }
}

fn reported(report: Report) -> InvokeError {
    InvokeError::Reported { error_type: report.error_type, document: report.document }
}

/// Answers a call that has no place now. A `next` is refused by dropping its sender.
fn refuse(call: Call, with: Verdict) {
    match call {
        Call::Next(_) => {}
        Call::Response { verdict, .. } | Call::Error { verdict, .. } => drop(verdict.send(with)),
        Call::InitError { verdict, .. } => drop(verdict.send(Verdict::WrongState)),
    }
}
