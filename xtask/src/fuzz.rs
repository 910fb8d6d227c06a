//! `cargo xtask fuzz`: the targets of the crate `fuzz`, under libFuzzer.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::command;
use crate::{tools, workspace};

/// How long the test command runs each target.
const BRIEF_SECS: u64 = 5;
/// An input that takes longer is a fault: they all take microseconds, and a loaded machine may stop for a while.
const INPUT_SECS: u64 = 10;
/// More memory than this is a fault: all targets run in less than 100 MB.
const MEMORY_MB: u64 = 512;
/// The longest input. Limits of parsers lie below (a pattern's 4,096 bytes), or are reached by a unit test.
const MAX_INPUT_BYTES: u64 = 16 * 1024;

/// What is to be run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A target: a directory of fuzz/seeds; without it each of them
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Run the target on FILE alone: a crash, or a seed
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

/// Runs the targets with their progress shown. What they learn stays beside the build, for the next run.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let targets = match &arguments.target {
        Some(target) => vec![target.clone()],
        None => targets()?,
    };
    tools::install(tools::Wanted::Everything)?;
    let program = build()?;
    if let (Some(input), [target]) = (&arguments.input, targets.as_slice()) {
        let input = std::path::absolute(input)?;
        ensure!(input.is_file(), "{} is no file", input.display());
        command::run(fuzzer(&program, target)?.arg(input))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = Vec::new();
    for target in targets {
        println!("\n── {target}");
        let corpus = room("corpus", &target)?;
        let mut command = fuzzer(&program, &target)?;
        command.arg(&corpus).arg(seeds(&target)).arg(option("max_total_time", arguments.seconds));
        if let Err(error) = command::run(&mut command).with_context(|| how_to_repeat(&target)) {
            println!("{error:#}");
            failed.push(target);
        }
    }
    ensure!(failed.is_empty(), "these targets found a fault: {}", failed.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// The targets: each has a directory of seeds, which a test of the crate holds to be so.
pub(crate) fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(seeds("")).context("fuzz/seeds cannot be listed")?;
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut targets = entries.map(name).collect::<Result<Vec<_>>>()?;
    targets.sort_unstable();
    Ok(targets)
}

/// Builds the fuzzer. All of the workspace is selected, as for the release programs, so that dependencies have the same
/// features and most are not built again.
pub(crate) fn build() -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--workspace", "--bin", "fuzz", "--features", "fuzz/libfuzzer"]);
    command::run(cargo.env("RUSTC_WORKSPACE_WRAPPER", workspace::root().join("fuzz/instrument")))?;
    Ok(workspace::release_programs()?.join("fuzz"))
}

/// Runs a target for a few seconds from its seeds alone, and says what it did.
pub(crate) fn briefly(program: &Path, target: &str) -> Result<String> {
    let corpus = room("brief", target)?;
    fs::remove_dir_all(&corpus).and_then(|()| fs::create_dir(&corpus)).context("the last run's corpus")?;
    let mut command = fuzzer(program, target)?;
    // What is found goes to the first directory. The same choices in every run, as far as time allows.
    command.arg(corpus).arg(seeds(target)).arg(option("max_total_time", BRIEF_SECS)).arg("-seed=1");
    let output = command.stdout(Stdio::null()).output().context("the fuzzer could not be started")?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("{log}");
        bail!("{}: {}", output.status, how_to_repeat(target));
    }
    figures(&log).context("the fuzzer ended without figures")
}

fn fuzzer(program: &Path, target: &str) -> Result<Command> {
    ensure!(targets()?.iter().any(|known| known == target), "no target {target}: there are {}", targets()?.join(", "));
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(room("crashes", target)?);
    // What follows is put before a file's name.
    prefix.push("/");
    let mut command = Command::new(program);
    command.env("FUZZ_TARGET", target).current_dir(workspace::root()).arg(prefix);
    command.args([
        option("timeout", INPUT_SECS),
        option("rss_limit_mb", MEMORY_MB),
        option("max_len", MAX_INPUT_BYTES),
    ]);
    Ok(command)
}

fn option(name: &str, value: u64) -> String {
    format!("-{name}={value}")
}

fn seeds(target: &str) -> PathBuf {
    workspace::root().join("fuzz/seeds").join(target)
}

/// A directory of the target's beside the build, out of git and kept from run to run.
fn room(what: &str, target: &str) -> Result<PathBuf> {
    let programs = workspace::release_programs()?;
    let room = programs.parent().unwrap_or(&programs).join("fuzz").join(what).join(target);
    fs::create_dir_all(&room).with_context(|| format!("cannot make {}", room.display()))?;
    Ok(room)
}

fn how_to_repeat(target: &str) -> String {
    format!(
        "a fault was found. Repeat it with: cargo xtask fuzz {target} --input FILE (the file is named above). When it is mended, \
         put the file into fuzz/seeds/{target}"
    )
}

/// What a run of libFuzzer says at its end: `#356950 DONE cov: 1203 ft: 3461 corp: 817/27Kb … exec/s: 39661 rss: 34Mb`.
fn figures(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("\tDONE "))?;
    let inputs = line.strip_prefix('#')?.split('\t').next()?;
    let after = |key: &str| line.split_once(key)?.1.split_whitespace().next();
    let corpus = after("corp: ")?.split('/').next()?;
    let (edges, speed, memory) = (after("cov: ")?, after("exec/s: ")?, after("rss: ")?);
    Some(format!("{inputs} inputs, {speed}/s, {edges} edges, {corpus} kept, {memory}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_run_is_understood() {
        let log = "#18\tINITED cov: 763 ft: 1300 corp: 17/386b exec/s: 0 rss: 32Mb\n\
                   #356950\tDONE   cov: 1203 ft: 3461 corp: 817/27Kb lim: 265 exec/s: 39661 rss: 34Mb\n";
        assert_eq!(figures(log).unwrap(), "356950 inputs, 39661/s, 1203 edges, 817 kept, 34Mb");
        assert_eq!(figures("#18\tINITED cov: 763"), None);
    }

    #[test]
    fn targets_are_the_directories_of_seeds() {
        assert!(targets().unwrap().contains(&"metadata_path".to_owned()));
    }
}
