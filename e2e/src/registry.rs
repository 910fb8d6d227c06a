//! Which laboratories there are on this machine, and the removal of those whose owner is gone.
//!
//! A laboratory is a directory and some network namespaces that carry its name; what runs in these namespaces is its own.
//! So a later run needs no list of processes to clean up after one that was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// All laboratories' directories. It is emptied by a reboot, as the namespaces are.
const DIRECTORY: &str = "/run/rolecall-lab";
/// In a laboratory's directory: the process that made it, as [`process_identity`] says it.
const OWNER: &str = "owner";
/// There instead, when it is to outlive its owner.
const KEPT: &str = "kept";

/// A laboratory's name and directory. When dropped, everything of it is removed.
#[derive(Debug)]
pub struct Registration {
    id: String,
    directory: PathBuf,
    keep: bool,
}

impl Registration {
    /// Registers a new laboratory of this process, after removing those of processes that are gone.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root: please run this as root");
        sweep();
        let own = std::process::id();
        let id = format!("rc-{own}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = Path::new(DIRECTORY).join(&id);
        // Renamed when it is whole: one without an owner is what a removal left that was killed, and anybody removes it.
        let making = Path::new(DIRECTORY).join(format!(".{id}"));
        fs::create_dir_all(&making).with_context(|| format!("cannot make {}", making.display()))?;
        fs::write(making.join(OWNER), process_identity(own).context("this process is not in /proc")?)?;
        fs::rename(&making, &directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { id, directory, keep: false })
    }

    /// The name, which all names of this laboratory begin with.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory: logs, state of nodes, settings.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory below, made when it is missing.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    }

    /// Lets it outlive this process; [`stop_kept`] ends it.
    pub fn keep(&mut self) -> Result<()> {
        fs::rename(self.directory.join(OWNER), self.directory.join(KEPT))?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.keep {
            remove(&self.directory);
        }
    }
}

/// Removes the laboratories whose owner is gone. Returns their names.
pub fn sweep() -> Vec<String> {
    remove_where(|directory| match fs::read_to_string(directory.join(OWNER)) {
        Ok(owner) => !is_alive(&owner),
        Err(_) => !directory.join(KEPT).exists(),
    })
}

/// Ends the laboratories that were kept. Returns their names.
pub fn stop_kept() -> Vec<String> {
    remove_where(|directory| directory.join(KEPT).exists())
}

fn remove_where(condition: impl Fn(&Path) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    let whole = entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let chosen = whole.map(|entry| entry.path()).filter(|directory| condition(directory));
    chosen.map(|directory| remove(&directory)).collect()
}

/// Ends all that runs in the laboratory's namespaces, then removes these and its directory.
fn remove(directory: &Path) -> String {
    let id = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{id}-");
    let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in namespaces.filter_map(|entry| entry.file_name().into_string().ok()) {
        if name.starts_with(&prefix) {
            remove_namespace(&name);
        }
    }
    let _ = fs::remove_dir_all(directory);
    id
}

/// Kills what runs in a namespace and removes it. Children may be born while the list is read, hence the rounds.
pub(crate) fn remove_namespace(name: &str) {
    for _ in 0..8 {
        let Ok(listed) = Command::new("ip").args(["netns", "pids", name]).output() else { break };
        let text = String::from_utf8_lossy(&listed.stdout);
        let pids: Vec<i32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).output();
}

/// A process by its id and its start, since ids are used again.
fn process_identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; the start is the 20th after it.
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{pid} {start}"))
}

fn is_alive(identity: &str) -> bool {
    let pid = identity.split(' ').next().and_then(|pid| pid.parse().ok());
    pid.and_then(process_identity).is_some_and(|found| found == identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_id_and_start() {
        let own = process_identity(std::process::id()).unwrap();
        assert!(is_alive(&own));
        assert!(!is_alive(&format!("{} 1", std::process::id())), "another process had this id before");
        assert!(!is_alive("no pid"));
        assert_eq!(process_identity(u32::MAX), None);
    }
}
