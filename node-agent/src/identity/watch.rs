//! Changes in the results directory, from inotify.
//!
//! libcni writes a record in place, so a record counts when it is closed after writing. The kernel has queued that event
//! before libcni returns to the runtime, so it is in the queue before any container of the pod runs.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask};

use super::error::StartError;

/// Room for some hundred events a read; each is 16 bytes and a file name of at most 255 bytes.
const BUFFER_BYTES: usize = 32 * 1024;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file was written and closed, or moved here.
    Written(OsString),
    /// A file went away.
    Gone(OsString),
    /// Events were lost, or the directory is another: only reading all of it tells.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    parent: PathBuf,
    results: PathBuf,
    /// The results directory's name in its parent.
    name: OsString,
    on_parent: Option<WatchDescriptor>,
    on_results: Option<WatchDescriptor>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Makes the descriptor; nothing is watched before [`Watch::arm`].
    pub(super) fn new(results: &Path) -> Result<Self, StartError> {
        let bad = || StartError::BadPath(results.to_owned());
        let parent = results.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or_else(bad)?;
        let name = results.file_name().ok_or_else(bad)?;
        Ok(Self {
            inotify: Inotify::init().map_err(StartError::Inotify)?,
            parent: parent.to_owned(),
            results: results.to_owned(),
            name: name.to_owned(),
            on_parent: None,
            on_results: None,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// A second handle of the descriptor, to wait on.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        self.inotify.as_fd().try_clone_to_owned()
    }

    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    pub(super) fn results(&self) -> &Path {
        &self.results
    }

    /// Watches the directory above, in which the results appear with the first pod.
    pub(super) fn arm_parent(&mut self) -> io::Result<()> {
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        self.on_parent = Some(self.inotify.watches().add(&self.parent, mask)?);
        Ok(())
    }

    /// Watches the results, where they exist. To be called before they are read, so that no change falls between.
    pub(super) fn arm_results(&mut self) -> io::Result<()> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let watch = match self.inotify.watches().add(&self.results, mask) {
            Ok(watch) => Some(watch),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(old) =
            std::mem::replace(&mut self.on_results, watch).filter(|old| Some(old) != self.on_results.as_ref())
        {
            // It fails where the kernel has ended that watch already, with its directory.
            let _ = self.inotify.watches().remove(old);
        }
        Ok(())
    }

    /// Everything in the kernel's queue, in its order. What follows an [`Change::Unknown`] is left out: reading the
    /// directory tells it too, and only that way in an order that does not depend on the lost events.
    pub(super) fn drain(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        loop {
            let events = match self.inotify.read_events(&mut self.buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in events {
                if changes.last() == Some(&Change::Unknown) {
                    continue;
                }
                let watches = (self.on_parent.as_ref(), self.on_results.as_ref());
                changes.extend(change_of(&event, watches, &self.name));
            }
        }
    }
}

type Watches<'a> = (Option<&'a WatchDescriptor>, Option<&'a WatchDescriptor>);

fn change_of(event: &Event<&OsStr>, (parent, results): Watches<'_>, results_name: &OsStr) -> Option<Change> {
    let lost = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
    if event.mask.contains(EventMask::Q_OVERFLOW) {
        return Some(Change::Unknown);
    }
    if Some(&event.wd) == results {
        if event.mask.intersects(lost) {
            return Some(Change::Unknown);
        }
        let name = event.name?.to_owned();
        let is_written = event.mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO);
        return Some(if is_written { Change::Written(name) } else { Change::Gone(name) });
    }
    let is_about_results = event.mask.intersects(lost) || event.name == Some(results_name);
    (Some(&event.wd) == parent && is_about_results).then_some(Change::Unknown)
}
