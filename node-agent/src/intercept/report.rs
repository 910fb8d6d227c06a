//! What is told to others: `intercept.ok` to `serve`, `intercept.status` to people and to another `intercept`.
//!
//! ```text
//! intercept.ok       renewed every 5 s, and only while interception is proven: `serve` is ready while it is fresh, and
//!                    while it names no family whose agent is down
//! intercept.status   the same JSON, always renewed: says what is wrong, and who keeps the rules
//! ```
//! During a roll two programs run, perhaps with different rules. The one that started last keeps them; the other waits
//! until that one has gone, or has not renewed `intercept.status` for 15 s.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use model::time::UnixMillis;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{
    family::{Family, PerFamily},
    lock::Lock,
};

/// File names in the state directory.
const OK_FILE: &str = "intercept.ok";
const STATUS_FILE: &str = "intercept.status";
/// Held while the status is read and written, so that no program overwrites the claim of one that started later.
const LOCK_FILE: &str = "intercept.lock";

/// A file not renewed for this long says nothing any more: three renewals missed.
pub(super) const FRESH: Duration = Duration::from_secs(15);

/// The version of the JSON.
const VERSION: u32 = 1;
/// The longest file read: it is written with a few hundred bytes.
const MAX_BYTES: u64 = 4096;

/// What became of the metadata calls of pods, in one IP family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Interception {
    /// The rules are not in the kernel and cannot be put there.
    #[default]
    RulesMissing,
    /// The node has no address in this family that could be translated to, so pods are refused.
    Refused,
    /// The rules are there and a played pod's packets did not arrive translated.
    NotIntercepted,
    /// They did, and nobody listens on the agent's port.
    InterceptedAgentDown,
    /// They did, and the agent answered.
    Intercepted,
}

impl Interception {
    /// Whether pods' calls are known to come to the agent's port.
    pub(super) const fn is_proven(self) -> bool {
        matches!(self, Self::InterceptedAgentDown | Self::Intercepted)
    }

    /// Its name in files and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RulesMissing => "rules_missing",
            Self::Refused => "refused",
            Self::NotIntercepted => "not_intercepted",
            Self::InterceptedAgentDown => "intercepted_agent_down",
            Self::Intercepted => "intercepted",
        }
    }

    pub(super) const fn explanation(self) -> &'static str {
        match self {
            Self::RulesMissing => "the nftables rules or routing rules cannot be put in place",
            Self::Refused => "the node has no address of this family for the agent: pods' metadata calls are refused",
            Self::NotIntercepted => {
                "the rules are in place, but what a pod sends to the metadata address does not arrive at the agent's \
                 port: look for another firewall or NAT rule that takes it first (kiam, kube2iam, Calico: see \
                 --check-interface)"
            }
            Self::InterceptedAgentDown => "pods' metadata calls come to the agent's port, but nothing answers there",
            Self::Intercepted => "pods' metadata calls come to the agent",
        }
    }
}

/// Which program keeps the rules: the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Keeper {
    pub(super) started_ms: UnixMillis,
    pub(super) pid: u32,
}

/// How often something had to be put back since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Repairs {
    pub(super) table: u64,
    pub(super) routing: u64,
}

/// The content of both files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    #[serde(flatten)]
    pub(super) keeper: Keeper,
    pub(super) time_ms: UnixMillis,
    #[serde(flatten)]
    pub(super) interception: PerFamily<Interception>,
    pub(super) lock: Lock,
    pub(super) repairs: Repairs,
    /// Whether a named interface is there besides the self-check's; only where some are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_interface_found: Option<bool>,
    pub(super) proven: bool,
}

impl Report {
    pub(super) fn new(
        keeper: Keeper,
        now: SystemTime,
        interception: PerFamily<Interception>,
        lock: Lock,
        repairs: Repairs,
    ) -> Self {
        let (version, time_ms) = (VERSION, now.into());
        Self { version, keeper, time_ms, interception, lock, repairs, host_interface_found: None, proven: false }
    }
}

/// What `serve` reads of `intercept.ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Proof {
    version: u32,
    #[serde(flatten)]
    interception: PerFamily<Interception>,
    proven: bool,
}

/// Why a content of `intercept.ok` proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is longer than any that is written.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It is not of the form that is written.
    #[error("its JSON is not understood")]
    Malformed(#[source] serde_json::Error),
    /// It has another version, or says itself that nothing is proven.
    #[error("it is no proof of version {VERSION}")]
    NoProof,
}

impl Proof {
    /// Reads one.
    ///
    /// # Errors
    /// On whatever `intercept` does not write there.
    pub fn read(file: impl Read) -> Result<Self, ProofError> {
        let mut json = Vec::new();
        let length = file.take(MAX_BYTES + 1).read_to_end(&mut json)?;
        if u64::try_from(length).is_ok_and(|length| length > MAX_BYTES) {
            return Err(ProofError::TooLong);
        }
        let proof: Self = serde_json::from_slice(&json).map_err(ProofError::Malformed)?;
        if proof.version == VERSION && proof.proven { Ok(proof) } else { Err(ProofError::NoProof) }
    }

    /// The IP family, if there is one, whose calls came to the agent's port when nothing answered there.
    pub fn without_agent(&self) -> Option<&'static str> {
        let is_down = |family: &Family| self.interception.of(*family) == Interception::InterceptedAgentDown;
        Family::BOTH.into_iter().find(is_down).map(Family::name)
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{0} cannot be written: mount a writable directory there, shared with `serve`, or name another with --state-dir"
)]
pub(super) struct StateDirError(PathBuf, #[source] io::Error);

/// The state directory.
#[derive(Debug)]
pub(super) struct StateDir {
    dir: PathBuf,
    me: Keeper,
}

impl StateDir {
    pub(super) fn open(dir: &Path, me: Keeper) -> Result<Self, StateDirError> {
        fs::create_dir_all(dir).map_err(|error| StateDirError(dir.to_owned(), error))?;
        Ok(Self { dir: dir.to_owned(), me })
    }

    /// Another program that has to keep the rules instead of this one.
    pub(super) fn successor(&self, now: SystemTime) -> Option<Keeper> {
        let path = self.dir.join(STATUS_FILE);
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        let age = now.duration_since(modified).or_else(|_| modified.duration_since(now)).ok()?;
        let other: Keeper = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        (age < FRESH && other > self.me).then_some(other)
    }

    /// Writes the status, and `intercept.ok` if it is proven; nothing if another program has to keep the rules.
    pub(super) fn renew(&self, report: &Report, now: SystemTime) -> Result<(), StateDirError> {
        let json = serde_json::to_vec(report).map_err(|error| StateDirError(self.dir.clone(), error.into()))?;
        let _lock = self.lock().map_err(|error| StateDirError(self.dir.join(LOCK_FILE), error))?;
        if self.successor(now).is_some() {
            return Ok(());
        }
        self.write(STATUS_FILE, &json)?;
        if report.proven { self.write(OK_FILE, &json) } else { Ok(()) }
    }

    /// Ends the claim to keep the rules. `intercept.ok` stays until it is old: the rules stay, too.
    pub(super) fn release(&self) -> io::Result<()> {
        let _lock = self.lock()?;
        let path = self.dir.join(STATUS_FILE);
        match fs::read(&path).map(|json| serde_json::from_slice::<Keeper>(&json).is_ok_and(|keeper| keeper == self.me))
        {
            Ok(true) => fs::remove_file(path),
            _ => Ok(()),
        }
    }

    /// For a few small reads and writes in memory: others wait for microseconds.
    fn lock(&self) -> io::Result<Flock<File>> {
        let file = File::options().create(true).truncate(false).write(true).open(self.dir.join(LOCK_FILE))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
    }

    /// Atomically: a reader sees the old content or the new.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateDirError> {
        // In two containers both programs may be process 1.
        let temporary = self.dir.join(format!(".{name}.{}.{}", self.me.started_ms.0, self.me.pid));
        let path = self.dir.join(name);
        fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, &path)).map_err(|e| StateDirError(path, e))
    }
}

/// Deletes the files, if they are there.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    for name in [OK_FILE, STATUS_FILE, LOCK_FILE] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn keeper(started: u64) -> Keeper {
        Keeper { started_ms: UnixMillis(started), pid: 7 }
    }

    fn state(dir: &Path, started: u64) -> StateDir {
        StateDir::open(dir, keeper(started)).unwrap()
    }

    fn report(keeper: Keeper, proven: bool) -> Report {
        let interception = PerFamily { v4: Interception::Intercepted, v6: Interception::Refused };
        Report { proven, ..Report::new(keeper, SystemTime::UNIX_EPOCH, interception, Lock::Holds, Repairs::default()) }
    }

    /// The modification time of the status file, as "now".
    fn written(dir: &Path) -> SystemTime {
        fs::metadata(dir.join(STATUS_FILE)).unwrap().modified().unwrap()
    }

    #[test]
    fn the_last_started_keeps_the_rules_while_it_renews() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, third] = [1, 2, 3].map(|started| state(dir.path(), started));
        assert_eq!(first.successor(SystemTime::UNIX_EPOCH), None, "nobody yet");
        second.renew(&report(keeper(2), false), SystemTime::UNIX_EPOCH).unwrap();
        let now = written(dir.path());
        assert_eq!(first.successor(now), Some(keeper(2)));
        assert_eq!(second.successor(now), None, "itself");
        assert_eq!(third.successor(now), None, "an older one");
        first.renew(&report(keeper(1), true), now).unwrap();
        assert_eq!(first.successor(now), Some(keeper(2)), "its claim is not overwritten");
        assert!(!dir.path().join(OK_FILE).exists());
        assert_eq!(first.successor(now + FRESH), None, "one that stopped renewing");
        assert_eq!(first.successor(now - FRESH), None, "the clock was set back");
    }

    #[test]
    fn only_its_own_claim_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [1, 2].map(|started| state(dir.path(), started));
        second.renew(&report(keeper(2), false), SystemTime::UNIX_EPOCH).unwrap();
        first.release().unwrap();
        assert_eq!(first.successor(written(dir.path())), Some(keeper(2)));
        second.release().unwrap();
        assert_eq!(first.successor(SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn ok_is_written_only_when_proven() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path(), 1);
        state.renew(&report(keeper(2), false), SystemTime::UNIX_EPOCH).unwrap();
        assert!(!dir.path().join(OK_FILE).exists());
        state.renew(&report(keeper(2), true), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join(OK_FILE)).unwrap(),
            r#"{"version":1,"started_ms":2,"pid":7,"time_ms":0,"ipv4":"intercepted","ipv6":"refused","lock":"holds","repairs":{"table":0,"routing":0},"proven":true}"#
        );
        remove(dir.path()).unwrap();
        remove(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_written_is_read_as_a_proof_and_nothing_else_is() {
        let json = |v4, v6, proven| {
            let mut report = report(keeper(1), proven);
            report.interception = PerFamily { v4, v6 };
            serde_json::to_string(&report).unwrap()
        };
        let without_agent = |json: String| Proof::read(json.as_bytes()).unwrap().without_agent();
        let (down, up, refused) =
            (Interception::InterceptedAgentDown, Interception::Intercepted, Interception::Refused);
        assert_eq!(without_agent(json(up, refused, true)), None);
        assert_eq!(without_agent(json(down, refused, true)), Some("IPv4"));
        assert_eq!(without_agent(json(up, down, true)), Some("IPv6"));
        let written = json(up, up, true);
        for wrong in [
            String::new(),
            json(up, up, false),
            written.replace("\"version\":1", "\"version\":2"),
            written.replace("intercepted", "sound"),
            format!("{written}{}", " ".repeat(4096)),
        ] {
            assert!(Proof::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_broken_status_file_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path(), 1);
        fs::write(dir.path().join(STATUS_FILE), "{\"started_ms\":").unwrap();
        assert_eq!(state.successor(written(dir.path())), None);
    }
}
