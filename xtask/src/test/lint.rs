//! The checks that run no test program. Each counts as one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::tally::Tally;
use crate::command::{self, timed};
use crate::workspace;

type Check = fn() -> Result<()>;

const CHECKS: [(&str, Check); 4] = [
    ("formatting", formatting),
    ("clippy", clippy),
    ("licences, bans and sources (vulnerabilities: cargo xtask audit)", licences),
    ("shell scripts", shell_scripts),
];

pub(super) fn run(tally: &mut Tally) {
    for (name, check) in CHECKS {
        match timed(name, check).0 {
            Ok(()) => tally.pass(),
            Err(error) => tally.fail(format!("{name}: {error:#}")),
        }
    }
}

fn formatting() -> Result<()> {
    command::run(workspace::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    command::run(workspace::cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

fn licences() -> Result<()> {
    command::run(&mut cargo_deny(&["bans", "licenses", "sources"]))
}

/// `cargo-deny check` for the named checks.
pub(super) fn cargo_deny(checks: &[&str]) -> Command {
    let mut command = Command::new(workspace::tools().join("cargo-deny/bin/cargo-deny"));
    command.current_dir(workspace::root()).args(["--workspace", "check"]).args(checks);
    command
}

/// Every tracked file that is a shell script by its name or its first line.
fn shell_scripts() -> Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(workspace::root()).output();
    let listed = listed.context("git could not be started")?;
    ensure!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let files = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let scripts: Vec<_> = files.split_terminator('\0').filter(|file| is_shell(file)).collect();
    ensure!(!scripts.is_empty(), "no shell script was found, though .ci/run is one");
    command::run(Command::new("shellcheck").arg("--").args(scripts).current_dir(workspace::root()))
}

fn is_shell(file: &str) -> bool {
    let begins_so = |content: Vec<u8>| {
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        first.starts_with(b"#!") && (first.ends_with(b"bash") || first.ends_with(b"/sh") || first.ends_with(b" sh"))
    };
    Path::new(file).extension().is_some_and(|extension| extension == "sh")
        || std::fs::read(workspace::root().join(file)).is_ok_and(begins_so)
}
