//! The issuer's bootstrap: settings, then the Lambda runtime's loop.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::FutureExt;
use lambda_issuer::clock::SystemClock;
use lambda_issuer::config::{self, Settings};
use lambda_issuer::lines::JsonLines;
use lambda_issuer::{app, init_error};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(error) => return refuse_to_start(&error.to_string()),
    };
    log_to_stderr(settings.log_level);
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the Lambda runtime ended");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(settings: Settings) -> Result<(), String> {
    let lines = JsonLines::new(std::io::stdout());
    let issuer = app::start(settings, &app::aws_config().await, Arc::new(SystemClock), lines).await;
    let issuer = &issuer;
    let service = service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        Ok::<_, lambda_runtime::Error>(issuer.handle(&event.payload, &event.context.request_id).boxed().await)
    });
    lambda_runtime::run(service).await.map_err(|error| error.to_string())
}

/// The issuer's own messages at `level`; those of libraries only from warnings on, since at finer levels some of them write
/// whole requests and answers, secrets included.
fn log_to_stderr(level: LevelFilter) {
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("lambda_issuer", level);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
}

fn refuse_to_start(message: &str) -> ExitCode {
    log_to_stderr(LevelFilter::INFO);
    tracing::error!("{message}");
    if let Some(address) = config::runtime_api()
        && let Err(error) = init_error::post(&address, message)
    {
        tracing::error!(%error, "the Lambda Runtime API did not take the report of this failure");
    }
    ExitCode::FAILURE
}
