//! One environment's log file: what the program writes, and between it the platform's own lines, as in `CloudWatch` Logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The file. The program writes into it directly; it is opened for appending, so whole lines do not overwrite each other.
#[derive(Debug)]
pub(super) struct EnvironmentLog {
    file: File,
    path: PathBuf,
}

/// What `REPORT` says.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) request_id: &'a str,
    pub(super) duration: Duration,
    pub(super) memory_mb: u32,
    /// Unknown when the program is gone.
    pub(super) peak_memory_kb: Option<u64>,
    /// Only for an environment's first invocation.
    pub(super) init: Option<Duration>,
    pub(super) timed_out: bool,
}

impl EnvironmentLog {
    /// Creates `NAME-NNNN.log` in `dir`, readable by its owner alone, with the first number that is free.
    pub(super) fn create(dir: &Path, function: &str, number: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut number = number;
        loop {
            let path = dir.join(format!("{function}-{number:04}.log"));
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// For the program's output.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// One line of the platform. A full disk costs a line, not an invocation.
    pub(super) fn line(&self, text: &str) {
        let mut file = &self.file;
        if let Err(error) = file.write_all(format!("{text}\n").as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "an environment's log cannot be written");
        }
    }

    /// `END` and `REPORT`.
    pub(super) fn report(&self, report: &Report<'_>) {
        self.line(&format!("END RequestId: {}", report.request_id));
        self.line(&report.to_string());
    }
}

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let billed = self.duration + self.init.unwrap_or_default();
        write!(f, "REPORT RequestId: {}\tDuration: {} ms", self.request_id, millis(self.duration))?;
        write!(f, "\tBilled Duration: {:.0} ms\tMemory Size: {} MB", millis_f64(billed).ceil(), self.memory_mb)?;
        if let Some(kb) = self.peak_memory_kb {
            write!(f, "\tMax Memory Used: {} MB", kb.div_ceil(1024))?;
        }
        if let Some(init) = self.init {
            write!(f, "\tInit Duration: {} ms", millis(init))?;
        }
        if self.timed_out {
            f.write_str("\tStatus: timeout")?;
        }
        Ok(())
    }
}

fn millis_f64(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn millis(duration: Duration) -> String {
    format!("{:.2}", millis_f64(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_lambdas() {
        let report = Report {
            request_id: "id",
            duration: Duration::from_micros(12_340),
            memory_mb: 256,
            peak_memory_kb: Some(15 * 1024 + 1),
            init: Some(Duration::from_micros(20_100)),
            timed_out: false,
        };
        assert_eq!(
            report.to_string(),
            "REPORT RequestId: id\tDuration: 12.34 ms\tBilled Duration: 33 ms\tMemory Size: 256 MB\tMax Memory Used: 16 MB\tInit Duration: 20.10 ms"
        );
    }

    #[test]
    fn no_log_is_ever_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let first = EnvironmentLog::create(dir.path(), "f", 1).unwrap();
        first.line("kept");
        let second = EnvironmentLog::create(dir.path(), "f", 1).unwrap();
        assert_eq!(second.path().file_name().unwrap(), "f-0002.log");
        assert_eq!(std::fs::read_to_string(first.path()).unwrap(), "kept\n");
    }
}
