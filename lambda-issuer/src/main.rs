//! The issuer's bootstrap: settings, then the Lambda runtime's loop.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::FutureExt;
use lambda_issuer::clock::SystemClock;
use lambda_issuer::config::{self, Settings};
use lambda_issuer::lines::JsonLines;
use lambda_issuer::{app, init_error, log};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(error) => return refuse_to_start(&error.to_string()),
    };
    log::subscriber(settings.log_level, std::io::stderr).init();
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

fn refuse_to_start(message: &str) -> ExitCode {
    log::subscriber(LevelFilter::INFO, std::io::stderr).init();
    tracing::error!("{message}");
    if let Some(address) = config::runtime_api()
        && let Err(error) = init_error::post(&address, message)
    {
        tracing::error!(%error, "the Lambda Runtime API did not take the report of this failure");
    }
    ExitCode::FAILURE
}
