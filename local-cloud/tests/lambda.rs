//! The Lambda stand-in against a real program on the real runtime client (`examples/echo_bootstrap.rs`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a test's helper must end the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use local_cloud::clock::Clock;
use local_cloud::config::FunctionConfig;
use local_cloud::faults::{Effect, Faults, Rule, Target};
use local_cloud::lambda::{ExecutionRole, Function, InvokeError, Platform, RoleError, RoleSession, StartError};
use local_cloud::ledger::IssuedKey;
use serde_json::{Value, json};

const ARN: &str = "arn:aws:lambda:eu-central-1:123456789012:function:echo";
const ROLE: &str = "arn:aws:iam::123456789012:role/echo-role";
/// For what must happen at all; far above what it takes.
const SOON: Duration = Duration::from_secs(10);

/// 2026-11-23T23:00:00Z.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_474_800)
}

struct Role;

impl ExecutionRole for Role {
    fn session<'a>(&'a self, role_arn: &'a str, session_name: &'a str) -> RoleSession<'a> {
        Box::pin(async move {
            if role_arn != ROLE {
                return Err(RoleError(format!("{role_arn} does not trust lambda.amazonaws.com")));
            }
            Ok(Arc::new(IssuedKey {
                access_key_id: "ASIAFUNCTION".into(),
                secret_access_key: "function-secret".into(),
                session_token: "function-token".into(),
                account: "123456789012".into(),
                role_arn: role_arn.into(),
                role_name: "echo-role".into(),
                role_id: "AROAFUNCTION".into(),
                session_name: session_name.into(),
                source_identity: None,
                expiration: now() + Duration::from_hours(1),
            }))
        })
    }
}

struct Lab {
    function: Function,
    faults: Faults,
    logs: tempfile::TempDir,
}

fn config(logs: &tempfile::TempDir, environments: usize) -> FunctionConfig {
    FunctionConfig {
        binary: bootstrap(),
        name: "echo".into(),
        arn: ARN.into(),
        role_arn: ROLE.into(),
        environments,
        timeout_ms: 5000,
        memory_mb: 256,
        env: [("SETTING".to_owned(), "own".into())].into(),
        log_dir: logs.path().to_owned(),
    }
}

/// Cargo builds a package's examples with its tests, unless `--test` picks some of them.
fn bootstrap() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/echo_bootstrap");
    assert!(program.is_file(), "not built: cargo build --release -p local-cloud --examples");
    program
}

fn lab(environments: usize, change: impl FnOnce(&mut FunctionConfig)) -> Lab {
    let logs = tempfile::tempdir().unwrap();
    let mut config = config(&logs, environments);
    change(&mut config);
    let faults = Faults::default();
    let function = Function::start(config, platform(&faults)).unwrap();
    Lab { function, faults, logs }
}

fn platform(faults: &Faults) -> Platform {
    Platform { region: "eu-central-1".into(), role: Arc::new(Role), faults: faults.clone(), clock: Clock::new(now) }
}

impl Lab {
    async fn call(&self, event: Value) -> Result<Value, InvokeError> {
        let answer = self.function.invoke(Bytes::from(event.to_string())).await?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    /// Waits until so many environments are frozen, and nothing is busy; their process ids.
    async fn frozen(&self, count: usize) -> Vec<i32> {
        let function = &self.function;
        until("the environments are frozen", || {
            let stats = function.stats();
            (stats.busy == 0 && stats.frozen == count).then_some(stats.frozen_pids)
        })
        .await
    }

    fn log(&self) -> String {
        let mut files: Vec<_> = std::fs::read_dir(self.logs.path()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }
}

async fn until<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let reached = async {
        loop {
            if let Some(found) = state() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("not reached: {what}"))
}

/// The letter of a process's state: `T` when it is stopped, `S` when it waits; none when there is no such process.
fn process_state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn pid(answer: &Value) -> i32 {
    i32::try_from(answer["pid"].as_i64().unwrap()).unwrap()
}

#[tokio::test]
async fn the_first_event_starts_an_environment_and_later_ones_reuse_it() {
    let lab = lab(2, |_| {});
    assert_eq!(lab.function.stats().starts, 0);
    let first = lab.call(json!({ "n": 1 })).await.unwrap();
    assert_eq!(first["echo"], json!({ "n": 1 }));
    assert_eq!(lab.frozen(1).await, [pid(&first)]);
    let second = lab.call(json!({ "n": 2 })).await.unwrap();
    assert_eq!((second["echo"].clone(), pid(&second)), (json!({ "n": 2 }), pid(&first)));
    lab.frozen(1).await;
    let stats = lab.function.stats();
    assert_eq!((stats.starts, stats.invocations, stats.throttles), (1, 2, 0));
    lab.function.stop().await;
}

#[tokio::test]
async fn a_program_is_frozen_between_events_with_the_work_it_left() {
    let lab = lab(1, |_| {});
    lab.call(json!({ "do": "leave-work" })).await.unwrap();
    let pid = lab.frozen(1).await[0];
    until("the process is stopped", || (process_state(pid) == Some('T')).then_some(())).await;
    let at_rest = lab.log().matches("still at work").count();
    lab.call(json!({ "do": "sleep", "ms": 100 })).await.unwrap();
    assert!(lab.log().matches("still at work").count() > at_rest, "it goes on with the next event");
    lab.function.stop().await;
    assert_eq!(process_state(pid), None);
}

#[tokio::test]
async fn environments_take_one_event_each_and_there_are_no_more_than_allowed() {
    let lab = lab(2, |_| {});
    let hold = || lab.call(json!({ "do": "sleep", "ms": 600 }));
    let busy = async {
        until("both are busy", || (lab.function.stats().invocations == 2).then_some(())).await;
        let refused = lab.call(json!({})).await.unwrap_err();
        assert!(matches!(refused, InvokeError::Throttled), "{refused:?}");
        assert_eq!((refused.status(), lab.function.stats().busy), (429, 2));
    };
    let (first, second, ()) = tokio::join!(hold(), hold(), busy);
    assert_ne!(pid(&first.unwrap()), pid(&second.unwrap()));
    lab.frozen(2).await;
    assert_eq!(lab.function.stats().starts, 2);
    lab.function.stop().await;
}

#[tokio::test]
async fn events_one_after_the_other_never_meet_a_throttle_or_need_a_second_environment() {
    for environments in [1, 3] {
        let lab = lab(environments, |_| {});
        for n in 0..50 {
            assert_eq!(lab.call(json!({ "n": n })).await.unwrap()["echo"]["n"], n);
        }
        assert_eq!(lab.function.stats().starts, 1);
        lab.function.stop().await;
    }
}

#[tokio::test]
async fn what_takes_too_long_is_killed_and_replaced() {
    let lab = lab(1, |config| config.timeout_ms = 300);
    let first = pid(&lab.call(json!({})).await.unwrap());
    let error = lab.call(json!({ "do": "sleep", "ms": 60_000 })).await.unwrap_err();
    let InvokeError::TimedOut { request_id, .. } = &error else { panic!("{error:?}") };
    assert_eq!(error.to_string(), format!("2026-11-23T23:00:00.000Z {request_id} Task timed out after 0.30 seconds"));
    let second = lab.call(json!({})).await.unwrap();
    assert_ne!(pid(&second), first);
    assert_eq!(process_state(first), None, "killed and reaped");
    assert!(lab.log().contains("Status: timeout"));
    lab.function.stop().await;
}

#[tokio::test]
async fn a_program_that_ends_is_an_exit_error_and_replaced() {
    let lab = lab(1, |_| {});
    let error = lab.call(json!({ "do": "exit" })).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Exited { status, .. } if status == "exit status 3"), "{error:?}");
    let document: Value = serde_json::from_slice(&error.document()).unwrap();
    assert_eq!((error.status(), document["errorType"].as_str()), (200, Some("Runtime.ExitError")));
    lab.call(json!({})).await.unwrap();
    assert_eq!(lab.function.stats().starts, 2);
    lab.function.stop().await;
}

#[tokio::test]
async fn a_program_that_died_frozen_is_not_given_an_event() {
    let lab = lab(1, |_| {});
    lab.call(json!({})).await.unwrap();
    let pid = lab.frozen(1).await[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("it is dead", || matches!(process_state(pid), None | Some('Z')).then_some(())).await;
    lab.call(json!({})).await.unwrap();
    assert_eq!(lab.function.stats().starts, 2);
    lab.function.stop().await;
}

#[tokio::test]
async fn an_error_of_the_function_comes_back_unchanged_and_keeps_the_environment() {
    let lab = lab(1, |_| {});
    let error = lab.call(json!({ "do": "fail" })).await.unwrap_err();
    assert!(error.is_function_error() && matches!(error, InvokeError::Reported { .. }), "{error:?}");
    let document: Value = serde_json::from_slice(&error.document()).unwrap();
    assert_eq!(document["errorMessage"], "this is what the event asked for");
    lab.call(json!({})).await.unwrap();
    assert_eq!(lab.function.stats().starts, 1);
    lab.function.stop().await;
}

#[tokio::test]
async fn init_that_fails_is_the_invocations_error() {
    let failing = |how: &'static str| lab(1, |config| drop(config.env.insert("INIT".into(), how.into())));
    let lab = failing("exit");
    let error = lab.call(json!({})).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Exited { status, .. } if status == "exit status 7"), "{error:?}");
    assert_eq!(lab.function.stats().busy, 0);

    let lab = failing("error");
    let error = lab.call(json!({})).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Reported { error_type, .. } if error_type == "Config.Missing"), "{error:?}");
    let document = r#"{"errorType":"Config.Missing","errorMessage":"NODE_ROLES is not set"}"#;
    assert_eq!(error.document(), Bytes::from_static(document.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn init_has_ten_seconds() {
    let lab = lab(1, |config| drop(config.env.insert("INIT".into(), "hang".into())));
    let started = tokio::time::Instant::now();
    let error = lab.call(json!({})).await.unwrap_err();
    assert!(matches!(error, InvokeError::InitTimedOut { .. }), "{error:?}");
    assert_eq!((started.elapsed().as_secs(), lab.function.stats().busy), (10, 0));
}

#[tokio::test]
async fn stopping_kills_also_what_is_busy() {
    let lab = lab(1, |_| {});
    let caller = lab.call(json!({ "do": "sleep", "ms": 60_000 }));
    let stop = async {
        until("it is busy", || (lab.function.stats().invocations == 1).then_some(())).await;
        lab.function.stop().await;
    };
    let (answer, ()) = tokio::time::timeout(SOON, async { tokio::join!(caller, stop) }).await.unwrap();
    assert!(matches!(answer, Err(InvokeError::Stopped)), "{answer:?}");
    assert!(matches!(lab.call(json!({})).await, Err(InvokeError::Stopped)));
}

#[tokio::test]
async fn recycling_makes_the_next_event_a_cold_start() {
    let lab = lab(1, |_| {});
    let first = pid(&lab.call(json!({})).await.unwrap());
    lab.frozen(1).await;
    lab.function.recycle().await;
    assert_eq!(process_state(first), None);
    assert_ne!(pid(&lab.call(json!({})).await.unwrap()), first);
    assert_eq!(lab.function.stats().starts, 2);
    lab.function.stop().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_nothing() {
    let lab = lab(1, |_| {});
    let call = lab.call(json!({ "do": "sleep", "ms": 200 }));
    let hung_up = async { until("it is busy", || (lab.function.stats().invocations == 1).then_some(())).await };
    tokio::select! { _ = call => panic!("answered early"), () = hung_up => {} }
    lab.frozen(1).await;
    assert!(lab.log().contains("REPORT RequestId: "));
    lab.function.stop().await;
}

#[tokio::test]
async fn a_program_sees_lambdas_variables_and_nothing_else() {
    let lab = lab(1, |_| {});
    let mut seen = lab.call(json!({ "do": "variables" })).await.unwrap();
    let api = seen["AWS_LAMBDA_RUNTIME_API"].take();
    assert!(api.as_str().unwrap().starts_with("127.0.0.1:"), "{api}");
    let task_root = bootstrap().parent().unwrap().display().to_string();
    // The runtime client sets the trace's variable before it calls the handler.
    seen.as_object_mut().unwrap().remove("_X_AMZN_TRACE_ID");
    assert_eq!(
        seen,
        json!({
            "_HANDLER": "bootstrap",
            "AWS_ACCESS_KEY_ID": "ASIAFUNCTION",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_NAME": "echo",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/echo",
            "AWS_LAMBDA_LOG_STREAM_NAME": "echo-0001",
            "AWS_LAMBDA_RUNTIME_API": null,
            "AWS_REGION": "eu-central-1",
            "AWS_SECRET_ACCESS_KEY": "function-secret",
            "AWS_SESSION_TOKEN": "function-token",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "LAMBDA_TASK_ROOT": task_root,
            "LANG": "en_US.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
            "SETTING": "own",
            "TZ": ":UTC",
        })
    );
    let context = lab.call(json!({ "do": "context" })).await.unwrap();
    assert_eq!(context["arn"], ARN);
    assert_eq!(context["deadline"], 1_795_474_805_000_u64);
    assert!(context["trace"].as_str().unwrap().starts_with("Root=1-6b04"), "{context}");
    let log = lab.log();
    let id = context["request_id"].as_str().unwrap();
    assert!(log.contains(&format!("START RequestId: {id} Version: $LATEST\n")), "{log}");
    assert!(!log.contains("function-secret") && !log.contains("function-token"));
    lab.function.stop().await;
}

#[tokio::test]
async fn answers_and_events_have_lambdas_limits() {
    let lab = lab(1, |_| {});
    let error = lab.call(json!({ "do": "large" })).await.unwrap_err();
    assert!(matches!(error, InvokeError::AnswerTooLarge(6_291_556)), "{error:?}");
    let error = lab.function.invoke(Bytes::from(vec![b' '; 6 * 1024 * 1024 + 1])).await.unwrap_err();
    assert!(matches!(error, InvokeError::EventTooLarge(_)) && error.status() == 413, "{error:?}");
    lab.function.stop().await;
}

#[tokio::test]
async fn faults_strike_before_an_environment_is_asked() {
    let lab = lab(1, |_| {});
    let rule = |effect| Rule { count: Some(1), ..Rule::new(Target::Lambda, effect) };
    lab.faults.replace(vec![rule(Effect::Throttle)]);
    assert!(matches!(lab.call(json!({})).await, Err(InvokeError::Throttled)));
    lab.faults.replace(vec![rule(Effect::Error(503))]);
    assert!(matches!(lab.call(json!({})).await, Err(InvokeError::Service(503))));
    lab.faults.replace(vec![rule(Effect::Refuse)]);
    assert!(matches!(lab.call(json!({})).await, Err(InvokeError::Unreachable)));
    assert_eq!(lab.function.stats().starts, 0);
    lab.call(json!({})).await.unwrap();
    lab.function.stop().await;
}

#[tokio::test]
async fn faults_strike_an_environment_that_has_an_event() {
    let lab = lab(1, |config| config.timeout_ms = 300);
    let rule = |effect| Rule { count: Some(1), ..Rule::new(Target::Lambda, effect) };
    let slow = json!({ "do": "sleep", "ms": 60_000 });
    lab.faults.replace(vec![rule(Effect::Kill(50))]);
    let error = lab.call(slow.clone()).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Exited { status, .. } if status == "signal: killed"), "{error:?}");
    lab.faults.replace(vec![rule(Effect::OutOfMemory(50))]);
    let error = lab.call(slow).await.unwrap_err();
    assert!(matches!(&error, InvokeError::OutOfMemory { .. }), "{error:?}");
    lab.faults.replace(vec![rule(Effect::Stall)]);
    let error = lab.call(json!({})).await.unwrap_err();
    assert!(matches!(&error, InvokeError::TimedOut { .. }), "{error:?}");
    lab.call(json!({})).await.unwrap();
    assert_eq!(lab.function.stats().starts, 4, "each of them ended its environment");
    let log = lab.log();
    for told in ["signal: killed\nRuntime.ExitError", "signal: killed\nRuntime.OutOfMemory", "Status: timeout"] {
        assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
    }
    lab.function.stop().await;
}

#[tokio::test]
async fn a_role_without_a_session_is_said() {
    let lab = lab(1, |config| config.role_arn = "arn:aws:iam::123456789012:role/other".into());
    let error = lab.call(json!({})).await.unwrap_err();
    assert!(matches!(error, InvokeError::Role(_)), "{error:?}");
    assert_eq!(lab.function.stats().busy, 0);
}

#[tokio::test]
async fn settings_that_lambda_would_refuse_stop_the_start() {
    let logs = tempfile::tempdir().unwrap();
    let start = |config| Function::start(config, platform(&Faults::default())).err().unwrap().to_string();
    let mut reserved = config(&logs, 1);
    reserved.env.insert("AWS_REGION".into(), "eu-west-1".into());
    assert_eq!(start(reserved), StartError::Reserved("AWS_REGION".into()).to_string());
    let missing = FunctionConfig { binary: "/nowhere/bootstrap".into(), ..config(&logs, 1) };
    assert_eq!(start(missing), "function.binary /nowhere/bootstrap is no file; build the function first");
    assert_eq!(start(config(&logs, 0)), "function.environments must be at least 1");
}
