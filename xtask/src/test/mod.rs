//! `cargo xtask test`: every check, from the quickest to the slowest. It goes on after a failure, so that one run shows
//! everything that is wrong.

mod lint;
mod tally;

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::command::{self, is_root, timed};
use crate::{fuzz, tools, workspace};
use tally::Tally;

/// What is to be run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run one part instead of all
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting, clippy, licences and bans, shell scripts
    Lint,
    /// Every crate's own tests
    Unit,
    /// The whole system
    E2e,
    /// Every parser of outside input, a few seconds each
    Fuzz,
}

/// Runs the parts and prints the total; the exit code is non-zero unless all passed and none was ignored.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    tools::install(tools::Wanted::Everything)?;
    let mut tally = Tally::default();
    if arguments.only.is_none_or(|part| part == Part::Lint) {
        lint::run(&mut tally);
    }
    if !matches!(arguments.only, Some(Part::Lint | Part::Fuzz)) {
        tests(arguments, &mut tally);
    }
    if arguments.only.is_none_or(|part| part == Part::Fuzz) {
        fuzzing(arguments.filter.as_deref().unwrap_or_default(), &mut tally);
    }
    println!();
    for complaint in tally.complaints() {
        println!("FAILED: {complaint}");
    }
    println!("{} passed, {} failed", tally.passed(), tally.failed());
    Ok(if tally.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tests(arguments: &Arguments, tally: &mut Tally) {
    if !is_root() {
        tally.fail("tests: they make network namespaces and need root: please run this as root");
        return;
    }
    let build = || command::run(workspace::cargo().args(["build", "--release", "--workspace", "--bins"]));
    let (outcome, _) = timed("build of the release programs", build);
    if let Err(error) = outcome {
        tally.fail(format!("build of the release programs: {error:#}"));
        return;
    }
    let mut command = workspace::cargo();
    command.args(["test", "--release", "--no-fail-fast"]);
    match arguments.only {
        Some(Part::Unit) => command.args(["--workspace", "--exclude", "e2e"]),
        Some(Part::E2e) => command.args(["--package", "e2e"]),
        _ => command.arg("--workspace"),
    };
    command.args(&arguments.filter);
    let (outcome, _) = timed("tests", || cargo_test(&mut command, tally));
    if let Err(error) = outcome {
        tally.fail(format!("tests: {error:#}"));
    }
}

/// Every target whose name contains `filter` counts as one test.
fn fuzzing(filter: &str, tally: &mut Tally) {
    let targets = fuzz::targets().map(|targets| targets.into_iter().filter(|target| target.contains(filter)));
    let targets: Vec<_> = match targets {
        Ok(targets) => targets.collect(),
        Err(error) => return tally.fail(format!("fuzzing: {error:#}")),
    };
    if targets.is_empty() {
        return;
    }
    let (program, _) = timed("build of the fuzz targets", fuzz::build);
    let program = match program {
        Ok(program) => program,
        Err(error) => return tally.fail(format!("build of the fuzz targets: {error:#}")),
    };
    timed("fuzz targets", || {
        for target in targets {
            match fuzz::briefly(&program, &target) {
                Ok(figures) => {
                    println!("fuzz {target} ... ok ({figures})");
                    tally.pass();
                }
                Err(error) => tally.fail(format!("fuzz {target}: {error:#}")),
            }
        }
    });
}

/// Runs `cargo test`, shows its output as it comes and counts what it reports.
fn cargo_test(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test could not be started")?;
    let failed_before = tally.failed();
    let stdout = child.stdout.take().context("the output was asked for one line above")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("the output of cargo test could not be read")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    let status = child.wait().context("cargo test could not be waited for")?;
    if !status.success() && tally.failed() == failed_before {
        // A compile error, or a test program that died without its closing line.
        tally.fail(format!("tests: cargo test failed: {status}"));
    }
    Ok(())
}

/// Checks the dependencies against the database of known vulnerabilities. It is apart from the tests because the database
/// comes from the internet, which a build machine may not reach.
pub(crate) fn audit() -> Result<ExitCode> {
    tools::install(tools::Wanted::Everything)?;
    command::run(&mut lint::cargo_deny(&["advisories"]))?;
    Ok(ExitCode::SUCCESS)
}
