//! The time that a laboratory lives by: the real one, or one that runs faster, for promises about hours.
//!
//! A faster clock is Debian's `libfaketime`, preloaded into the release programs as they are: what they read, sleep and wait
//! for goes by it. A launcher sets each program's clock as it starts, so that one that starts later shows the same time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_smithy_async::time::TimeSource;

/// How a laboratory's time runs.
#[derive(Clone, Debug)]
pub struct Clock {
    /// When this clock showed the real time.
    began: SystemTime,
    /// How many of its seconds are in a real one.
    speed: u32,
    launcher: Option<PathBuf>,
}

impl Clock {
    /// The real time.
    pub fn real() -> Self {
        Self { began: now(), speed: 1, launcher: None }
    }

    /// From now on `speed` times as fast, for programs that are started by its launcher; that is written into `directory`.
    pub fn fast(speed: u32, directory: &Path) -> Result<Self> {
        let began = now();
        let library = library()?;
        let since_1970 = began.duration_since(UNIX_EPOCH)?.as_nanos();
        // The library begins to count at a program's start, so what the clock has gained until then is given to it.
        let script = format!(
            "#!/bin/sh\n# Starts a program whose clock runs {speed} times as fast as the real one.\n\
             gained=$(( ($(/bin/date +%s%N) - {since_1970}) * {} / 1000000 ))\n\
             export LD_PRELOAD='{}' FAKETIME=\"+$((gained / 1000)).$(printf %03d $((gained % 1000)))s x{speed}\"\n\
             exec \"$@\"\n",
            speed - 1,
            library.display(),
        );
        let launcher = directory.join("on-the-fast-clock");
        fs::write(&launcher, script)?;
        fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755))?;
        Ok(Self { began, speed, launcher: Some(launcher) })
    }

    /// The program that starts another on this clock; none for the real one.
    pub fn launcher(&self) -> Option<&Path> {
        self.launcher.as_deref()
    }

    /// What it shows.
    pub fn now(&self) -> SystemTime {
        let real = now().duration_since(self.began).unwrap_or_default();
        self.began + real * self.speed
    }

    /// How long `time` of this clock takes.
    pub fn real_duration(&self, time: Duration) -> Duration {
        time / self.speed
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        Clock::now(self)
    }
}

/// Where Debian puts the library for programs with threads; the directory is named for the machine.
pub fn library() -> Result<PathBuf> {
    let machines = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = machines.map(|directory| directory.join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.is_file()).context("libfaketime is missing: please run cargo xtask tools")
}

#[expect(clippy::disallowed_methods, reason = "the one clock of the laboratory")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Place;

    #[tokio::test]
    async fn a_program_on_the_fast_clock_shows_its_time_whenever_it_starts() {
        let directory = std::env::temp_dir().join(format!("rolecall-clock-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let clock = Clock::fast(60, &directory).unwrap();
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let place = Place::default().through(clock.launcher());
            let shown = place.check(&["date", "+%s"], Duration::from_secs(10)).await.unwrap();
            let shown = UNIX_EPOCH + Duration::from_secs(shown.trim().parse().unwrap());
            let apart = clock.now().duration_since(shown).unwrap_or_else(|error| error.duration());
            // A tenth of a real second passes while a program starts and ends.
            assert!(apart < Duration::from_secs(30), "{apart:?} apart");
        }
        assert!(clock.now().duration_since(now()).unwrap() > Duration::from_secs(50));
        fs::remove_dir_all(directory).unwrap();
    }
}
