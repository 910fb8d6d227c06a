//! Runs other programs, and says how long they took.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Runs `command` with its output shown; an error unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{name} could not be started"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}

/// Runs `command` with its output kept back, and shown only where it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} could not be started"))?;
    ensure!(
        output.status.success(),
        "{name} failed: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Whether a program of that name is on the path.
pub(crate) fn is_on_path(program: &str) -> bool {
    // Debian keeps nft and conntrack in sbin, which is not on every user's path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
}

/// Prints a headline, does the work, prints how long it took.
pub(crate) fn timed<T>(headline: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    println!("\n── {headline}");
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed();
    println!("── {headline}: {:.1} s", elapsed.as_secs_f64());
    (result, elapsed)
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
