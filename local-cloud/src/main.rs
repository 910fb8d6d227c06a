//! Development only: a stand-in for parts of AWS. The library says which.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use local_cloud::app;
use local_cloud::clock::Clock;
use local_cloud::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A laptop's stand-in for EC2 metadata, API Gateway, Lambda and the checks of STS, in front of ministack.
/// For development only.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The settings, a JSON file; local-cloud/README.md describes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What to log: a level, or a filter such as `info,local_cloud=debug`.
    #[arg(long, env = "LOCAL_CLOUD_LOG", default_value = "info")]
    log: EnvFilter,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt().json().with_env_filter(cli.log).with_writer(std::io::stderr).init();
    match run(&cli.config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: &std::path::Path) -> anyhow::Result<()> {
    let config = Config::read(config)?;
    app::run(config, Clock::new(now), shutdown()?).await
}

/// Ends with SIGTERM or SIGINT.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
}

#[allow(clippy::disallowed_methods, reason = "the one clock that is handed to everything below")]
fn now() -> SystemTime {
    SystemTime::now()
}
