//! The demo (`cargo xtask demo`): the whole path of a request on this machine, and every way in which it is refused.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks on its standard streams")]

mod report;
mod stage;
mod steps;
mod without_root;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use e2e::registry;
use tokio::signal::unix::{SignalKind, signal};

use report::Report;
use stage::Stage;

/// Shows Rolecall at work on this machine.
#[derive(Parser)]
struct Arguments {
    /// Write what was tried and what came back to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave everything running, and say how to enter a pod
    #[arg(long, conflicts_with = "stop")]
    keep: bool,
    /// End what --keep left running
    #[arg(long)]
    stop: bool,
}

/// The exit code of a program that Ctrl-C ended, as shells know it.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::select! {
        outcome = run(&arguments) => outcome,
        _ = told_to_end() => {
            // What `run` had made was removed when it was dropped.
            eprintln!("\ninterrupted; everything was removed");
            return ExitCode::from(INTERRUPTED);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.stop {
        let stopped = registry::stop_kept();
        println!(
            "{}",
            if stopped.is_empty() { "nothing was kept".into() } else { format!("ended {}", stopped.join(", ")) }
        );
        return Ok(ExitCode::SUCCESS);
    }
    if !nix::unistd::geteuid().is_root() {
        ensure!(!arguments.keep, "--keep needs root: without it, nobody could enter what is kept");
        return without_root::run(arguments.json.as_deref());
    }
    for id in registry::sweep() {
        println!("removed what an earlier run left: {id}");
    }
    let mut report = Report::new(steps::ALL.len());
    let mut stage = Stage::set(&report).await?;
    for step in steps::ALL {
        report.show(step, (step.run)(&mut stage).await);
    }
    if let Some(file) = &arguments.json {
        report.write_json(file, &stage.pods())?;
    }
    report.conclude();
    if arguments.keep {
        stage.keep()?;
    } else {
        Report::suggest();
    }
    Ok(if report.all_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ends with Ctrl-C or SIGTERM.
async fn told_to_end() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    Ok(())
}
