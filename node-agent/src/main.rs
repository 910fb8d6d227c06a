//! Parses the command line, starts one of the agent's programs, and turns failure into a non-zero exit.

use std::{process::ExitCode, time::SystemTime};

use clap::{Parser, Subcommand};
use node_agent::{app, check, clock::Clock, config::ServeArgs, intercept};
use tokio::signal::unix::{SignalKind, signal};
use tracing_appender::non_blocking::NonBlockingBuilder;
use tracing_subscriber::EnvFilter;

/// The agent of a node.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    /// What to log: a level, or a filter such as `info,node_agent=debug`.
    #[arg(long, env = "ROLECALL_LOG", default_value = "info", global = true)]
    log: EnvFilter,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the metadata calls of this node's pods.
    Serve(Box<ServeArgs>),
    /// Ask a running `serve` for its health: an exec probe.
    Check(check::CheckArgs),
    /// Bring the metadata calls of this node's pods to the agent, and keep it so.
    Intercept(intercept::Args),
}

/// Lines that wait for a reader of the log: about a megabyte. Beyond it they are lost, since pods that wait for the agent are
/// worth more than what it says of them.
const WAITING_LINES: usize = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // A thread of its own writes: whoever reads the other end of the pipe may be slow, or have stopped.
    let (writer, _written_at_the_end) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(std::io::stderr());
    let log = tracing_subscriber::fmt().json().with_env_filter(cli.log).with_writer(writer);
    // A line that cannot be written, as on a full disk, is lost: it would be complained of on the same output, by a panic.
    log.log_internal_errors(false).init();
    match run(cli.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => app::serve(*args, Clock::system(), shutdown()?).await,
        Command::Check(args) => check::run(&args),
        Command::Intercept(args) if args.remove => intercept::remove(args).await,
        Command::Intercept(args) => intercept::run(args, now, shutdown()?).await,
    }
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
