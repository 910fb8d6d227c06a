//! `cargo xtask`: everything that is done with this workspace, with nothing to install beforehand but Rust, Go and
//! Python.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks on its standard streams")]

mod command;
mod demo;
mod fuzz;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Rolecall's demo, tests and tools")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the whole path of a request on this machine, and every way in which it is refused
    Demo(demo::Arguments),
    /// Check and test the workspace; ends with the line `N passed, N failed`
    Test(test::Arguments),
    /// Look for inputs on which a parser of outside input breaks its promises
    Fuzz(fuzz::Arguments),
    /// Install what the demo and the tests need, into the directory `.tools` or `$ROLECALL_TOOLS`
    Tools,
    /// Look for known vulnerabilities in the dependencies; fetches a database, so it needs the internet
    Audit,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Tools => tools::install(tools::Wanted::Everything).map(|()| ExitCode::SUCCESS),
        Task::Audit => test::audit(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
