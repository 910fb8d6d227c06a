//! `cargo xtask demo`: installs, builds, and hands over to the demo, which is a program of the laboratory (`e2e`), so that
//! this one stays small and all of Rolecall is built once, in one profile.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::command;
use crate::{tools, workspace};

/// What the demo can be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
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

/// Returns only on failure: the demo takes this process's place, so that Ctrl-C and the exit code are its own.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    tools::install(tools::Wanted::Demo)?;
    command::run(workspace::cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let mut demo = Command::new(workspace::release_programs()?.join("demo"));
    if let Some(file) = &arguments.json {
        demo.arg("--json").arg(file);
    }
    for (flag, given) in [("--keep", arguments.keep), ("--stop", arguments.stop)] {
        if given {
            demo.arg(flag);
        }
    }
    Err(demo.exec()).context("the demo could not be started")
}
