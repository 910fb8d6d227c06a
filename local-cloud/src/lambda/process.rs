//! The program of one environment, in a process group of its own.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::{ExposeSecret, SecretString};
use tokio::process::{Child, Command};

use super::log::EnvironmentLog;

/// A started program. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// The process group's id, which is the program's own.
    group: Pid,
}

impl Process {
    /// Starts `program` with these variables and nothing inherited.
    pub(super) fn start(
        program: &Path,
        variables: &BTreeMap<String, SecretString>,
        log: &EnvironmentLog,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value.expose_secret())))
            .stdin(Stdio::null())
            .stdout(log.stdio()?)
            .stderr(log.stdio()?)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = program.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            command.current_dir(directory);
        }
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, group: Pid::from_raw(pid) })
    }

    /// The program's process id.
    pub(super) const fn id(&self) -> i32 {
        self.group.as_raw()
    }

    /// Stops the whole group where it is, as Lambda freezes an environment.
    pub(super) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Whether it has not ended yet.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => describe(status),
            Err(error) => format!("unknown: {error}"),
        }
    }

    /// Kills the group, frozen or not, and reaps the program.
    pub(super) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }

    /// The most memory it ever had, in KiB.
    pub(super) fn peak_memory_kb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    }

    fn signal(&self, signal: Signal) {
        // Only a group that is gone cannot be signalled, and that shows where its end is awaited. Its id cannot be another
        // group's, since the program is reaped only through `child`.
        if self.child.id().is_some() {
            killpg(self.group, signal).ok();
        }
    }
}

/// As Go's `os` package words it, which Lambda's own supervisor is written with.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => Signal::try_from(signal)
            .map_or_else(|_| format!("signal: {signal}"), |signal| format!("signal: {}", signal_name(signal))),
        (None, None) => "unknown".into(),
    }
}

const fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::SIGKILL => "killed",
        Signal::SIGSEGV => "segmentation fault",
        Signal::SIGABRT => "aborted",
        Signal::SIGTERM => "terminated",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_worded_as_lambda_words_them() {
        assert_eq!(describe(ExitStatus::from_raw(1 << 8)), "exit status 1");
        assert_eq!(describe(ExitStatus::from_raw(9)), "signal: killed");
        assert_eq!(describe(ExitStatus::from_raw(1)), "signal: SIGHUP");
    }
}
