//! The results directory, read into the table.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::OFlag;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

use super::metrics::{IdentityMetrics, Skip};
use super::record::{MAX_BYTES, Record};
use super::sandbox::SandboxChange;
use super::table::{Order, Table};

/// Everything read from the directory so far.
#[derive(Debug)]
pub(super) struct Records {
    directory: PathBuf,
    role_annotation: String,
    table: Table,
    seen: HashMap<Arc<str>, Seen>,
    /// Files that may not be read, and their place among others should that change, of which no event tells.
    forbidden: HashMap<Arc<str>, Place>,
    epoch: u64,
    metrics: IdentityMetrics,
    changes: UnboundedSender<SandboxChange>,
}

/// When a file came to be known, and which version of it was read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    place: Place,
    /// `None` when it could not be read at all.
    version: Option<Version>,
}

/// Where a file stands among others: see [`Order`].
#[derive(Clone, Copy, Debug)]
struct Place {
    epoch: u64,
    guessed: bool,
}

/// Tells one writing of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    written: i128,
    changed: i128,
}

/// What became of reading a file.
enum Reading {
    Absent,
    Read(Version, Result<Record, Skip>),
    /// It is there and is no record.
    Closed(Skip),
    /// It may not be read.
    Forbidden,
}

impl Records {
    pub(super) fn new(
        directory: PathBuf,
        role_annotation: String,
        metrics: IdentityMetrics,
        changes: UnboundedSender<SandboxChange>,
    ) -> Self {
        let (table, seen, forbidden) = (Table::default(), HashMap::new(), HashMap::new());
        Self { directory, role_annotation, table, seen, forbidden, epoch: 0, metrics, changes }
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Reads a file that was written just now: what it says is later than all that is known.
    ///
    /// # Errors
    /// The file could not be read for a reason that may pass. What it says is then missing, and nothing may be answered
    /// before a [`Records::rescan`] succeeds; its place in the order is kept for that.
    pub(super) fn written(&mut self, name: &str) -> io::Result<()> {
        self.epoch += 1;
        self.load(name, Place { epoch: self.epoch, guessed: false })
    }

    /// Forgets a file.
    pub(super) fn gone(&mut self, name: &str) {
        self.seen.remove(name);
        self.forbidden.remove(name);
        let change = self.table.remove(name);
        self.tell(change);
    }

    /// Tries again what could not be read for want of permission.
    ///
    /// # Errors
    /// As [`Records::written`].
    pub(super) fn retry_forbidden(&mut self) -> io::Result<()> {
        for (name, place) in self.forbidden.clone() {
            self.load(&name, place)?;
        }
        Ok(())
    }

    /// Reads the whole directory. Files whose version is known keep their place in the order.
    ///
    /// # Errors
    /// As [`Records::written`]; also when the directory cannot be listed.
    pub(super) fn rescan(&mut self) -> io::Result<()> {
        self.metrics.rescanned();
        self.epoch += 1;
        let epoch = self.epoch;
        let mut present = HashSet::new();
        for entry in self.list()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                self.metrics.skipped(Skip::Foreign);
                continue;
            };
            let seen = self.seen.get(name.as_str()).copied();
            let is_known = match (seen.and_then(|seen| seen.version), entry.metadata()) {
                (Some(known), Ok(metadata)) => known == Version::of(&metadata),
                _ => false,
            };
            if !is_known {
                let place = seen.filter(|seen| seen.version.is_none()).map(|seen| seen.place);
                self.load(&name, place.unwrap_or(Place { epoch, guessed: true }))?;
            }
            present.insert(name);
        }
        let absent: Vec<_> = self.seen.keys().filter(|name| !present.contains(&***name)).cloned().collect();
        for name in absent {
            self.gone(&name);
        }
        Ok(())
    }

    /// The directory's entries; none when it does not exist.
    fn list(&self) -> io::Result<impl Iterator<Item = io::Result<std::fs::DirEntry>> + use<>> {
        match std::fs::read_dir(&self.directory) {
            Ok(entries) => Ok(Some(entries).into_iter().flatten()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
            Err(error) => Err(error),
        }
    }

    fn load(&mut self, name: &str, place: Place) -> io::Result<()> {
        let reading = self.read(name).inspect_err(|_| {
            self.seen.insert(name.into(), Seen { place, version: None });
        })?;
        match reading {
            Reading::Absent => self.gone(name),
            Reading::Closed(skip) => self.skip(name, skip),
            Reading::Forbidden if self.forbidden.contains_key(name) => {}
            Reading::Forbidden => {
                self.skip(name, Skip::Unreadable);
                self.forbidden.insert(name.into(), place);
                warn!(
                    file = name,
                    "this CNI record may not be read, so its pod gets no credentials: does serve run as UID 0?"
                );
            }
            Reading::Read(version, Err(skip)) => {
                self.skip(name, skip);
                self.seen.insert(name.into(), Seen { place, version: Some(version) });
            }
            Reading::Read(version, Ok(record)) => {
                self.seen.insert(name.into(), Seen { place, version: Some(version) });
                self.forbidden.remove(name);
                let Place { epoch, guessed } = place;
                let change = self.table.insert(name, record, Order { epoch, written: version.written, guessed });
                self.tell(change);
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<Reading> {
        // A link could lead anywhere, and opening a pipe would wait for its writer.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let path = self.directory.join(name);
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
            Ok(file) => file,
            Err(error) => {
                return match error.raw_os_error().map(nix::errno::Errno::from_raw) {
                    Some(nix::errno::Errno::ENOENT) => Ok(Reading::Absent),
                    Some(nix::errno::Errno::EACCES | nix::errno::Errno::EPERM) => Ok(Reading::Forbidden),
                    Some(nix::errno::Errno::ELOOP | nix::errno::Errno::ENXIO) => Ok(Reading::Closed(Skip::Unreadable)),
                    _ => Err(error),
                };
            }
        };
        read_open(file, |text| Record::parse(name, text, &self.role_annotation))
    }

    /// Takes back what the file said before: it is no record now.
    fn skip(&mut self, name: &str, skip: Skip) {
        self.gone(name);
        self.metrics.skipped(skip);
        if skip == Skip::NoUid {
            warn!(
                file = name,
                "this CNI record names a pod without its UID, so the pod gets no credentials: the container runtime must \
                 pass K8S_POD_UID (containerd 1.4, CRI-O 1.20 or later)"
            );
        } else {
            debug!(file = name, reason = ?skip, "no pod's CNI record");
        }
    }

    fn tell(&self, change: Option<SandboxChange>) {
        if let Some(change) = change {
            self.metrics.set_sandboxes(self.table.sandboxes().len());
            // Nobody listens any more only while the program ends.
            let _ = self.changes.send(change);
        }
    }
}

fn read_open(file: File, parse: impl FnOnce(&[u8]) -> Result<Record, Skip>) -> io::Result<Reading> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Reading::Closed(Skip::Unreadable));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    let is_whole = u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MAX_BYTES);
    Ok(Reading::Read(Version::of(&metadata), if is_whole { parse(&text) } else { Err(Skip::TooLong) }))
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        Self {
            inode: metadata.ino(),
            bytes: metadata.size(),
            written: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
