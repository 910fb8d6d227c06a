//! Programs in a place: a network namespace, a private mount namespace, a set of capabilities, a clean environment.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Where Debian keeps programs, administrators' ones included.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Binds each pair before `--`, then becomes the program behind it.
const BIND_AND_EXEC: &str =
    r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@""#;
/// How often a state that is waited for is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where and as what a program runs.
#[derive(Clone, Debug, Default)]
pub struct Place {
    network: Option<PathBuf>,
    binds: Vec<(PathBuf, PathBuf)>,
    capabilities: Option<&'static [&'static str]>,
    launcher: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
}

impl Place {
    /// In the network namespace with this name.
    pub fn in_network(name: &str) -> Self {
        Self { network: Some(Path::new("/run/netns").join(name)), ..Self::default() }
    }

    /// With `from` seen at `at`, which must exist, by this program alone.
    #[must_use]
    pub fn bind(mut self, from: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        self.binds.push((from.into(), at.into()));
        self
    }

    /// As UID 0 with these capabilities and no way to others; by default with all.
    #[must_use]
    pub fn capabilities(mut self, only: &'static [&'static str]) -> Self {
        self.capabilities = Some(only);
        self
    }

    /// Started by `launcher`, a program that becomes the one named by its arguments.
    #[must_use]
    pub fn through(mut self, launcher: Option<&Path>) -> Self {
        self.launcher = launcher.map(Path::to_owned);
        self
    }

    /// With this variable in the environment, which otherwise holds `PATH` alone.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The whole command line, as a person could type it.
    pub fn command_line<S: AsRef<OsStr>>(&self, program: &[S]) -> Vec<OsString> {
        let mut line: Vec<OsString> = Vec::new();
        let mut push = |words: &[&str]| line.extend(words.iter().map(OsString::from));
        if let Some(network) = &self.network {
            push(&["nsenter", &format!("--net={}", network.display()), "--"]);
        }
        if !self.binds.is_empty() {
            push(&["unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", BIND_AND_EXEC, "sh"]);
            for (from, at) in &self.binds {
                push(&[&from.to_string_lossy(), &at.to_string_lossy()]);
            }
            push(&["--"]);
        }
        if let Some(only) = self.capabilities {
            let plus: String = only.iter().flat_map(|name| [",+", name]).collect();
            push(&["setpriv", "--no-new-privs", &format!("--inh-caps=-all{plus}")]);
            push(&[&format!("--bounding-set=-all{plus}"), "--ambient-caps=-all", "--"]);
        }
        line.extend(self.launcher.iter().map(|launcher| launcher.clone().into_os_string()));
        line.extend(program.iter().map(|word| word.as_ref().to_owned()));
        line
    }

    /// The program, ready to start.
    pub fn command<S: AsRef<OsStr>>(&self, program: &[S]) -> Command {
        let line = self.command_line(program);
        let mut words = line.iter();
        let mut command = Command::new(words.next().map_or(OsStr::new("true"), OsString::as_os_str));
        command.args(words).env_clear().env("PATH", PATH).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end. It is killed, and an error returned, where that takes longer than `deadline`.
    pub async fn run<S: AsRef<OsStr>>(&self, program: &[S], deadline: Duration) -> Result<Output> {
        let mut command = self.command(program);
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = shown(program);
        let child = command.spawn().with_context(|| format!("{shown} could not be started"))?;
        let Ok(output) = timeout(deadline, child.wait_with_output()).await else {
            bail!("{shown} did not end within {deadline:?}");
        };
        let output = output.with_context(|| format!("{shown} could not be waited for"))?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the program, which must succeed, and gives what it printed.
    pub async fn check<S: AsRef<OsStr>>(&self, program: &[S], deadline: Duration) -> Result<String> {
        let output = self.run(program, deadline).await?;
        if !output.status.success() {
            bail!("{} failed: {}: {}{}", shown(program), output.status, output.stderr, output.stdout);
        }
        Ok(output.stdout)
    }
}

fn shown<S: AsRef<OsStr>>(program: &[S]) -> String {
    program.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What a finished program left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// A program that runs until it is told to end; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    command: (Place, Vec<OsString>),
    log: PathBuf,
    child: Child,
    leave: bool,
}

impl Daemon {
    /// Starts it; both its outputs are appended to `log`.
    pub fn start<S: AsRef<OsStr>>(name: &str, place: Place, program: &[S], log: PathBuf) -> Result<Self> {
        let words: Vec<OsString> = program.iter().map(|word| word.as_ref().to_owned()).collect();
        let child = spawn(&place, &words, &log).with_context(|| format!("{name} could not be started"))?;
        Ok(Self { name: name.to_owned(), command: (place, words), log, child, leave: false })
    }

    /// Its name in the laboratory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// All it has printed so far, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().with_context(|| format!("{} is not running", self.name))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("{} cannot be signalled", self.name))
    }

    /// Ends it as Kubernetes does: SIGTERM, and after `grace` SIGKILL. Returns how it ended.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if self.child.id().is_some() {
            self.signal(Signal::SIGTERM)?;
        }
        match timeout(grace, self.child.wait()).await {
            Ok(status) => status.map_err(Into::into),
            Err(_) => self.kill().await,
        }
    }

    /// Ends it at once.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        if self.child.id().is_some() {
            self.signal(Signal::SIGKILL)?;
        }
        self.child.wait().await.map_err(Into::into)
    }

    /// Starts it again, as it was; it must have ended.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_with(&[])
    }

    /// The same, this once with these variables in its environment.
    pub fn restart_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        if self.ended().is_none() {
            bail!("{} is still running", self.name);
        }
        let place = variables.iter().fold(self.command.0.clone(), |place, (name, value)| place.env(name, value));
        self.child = spawn(&place, &self.command.1, &self.log)?;
        Ok(())
    }

    /// Lets it run on when this value is dropped.
    pub fn leave(&mut self) {
        self.leave = true;
    }

    /// Waits until `ready` gives a value; an error where the program ends before, or `deadline` passes.
    pub async fn ready<T>(&mut self, deadline: Duration, mut ready: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(value) = ready().await {
                return Ok(value);
            }
            if let Some(status) = self.ended() {
                bail!("{} ended ({status}) before it was ready: {}", self.name, self.log_tail());
            }
            if Instant::now() >= end {
                bail!("{} was not ready within {deadline:?}: {}", self.name, self.log_tail());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.leave && self.child.id().is_some() {
            let _ = self.signal(Signal::SIGKILL);
        }
    }
}

fn spawn(place: &Place, words: &[OsString], log: &Path) -> Result<Child> {
    let log: File = OpenOptions::new().create(true).append(true).open(log)?;
    place.command(words).stdout(log.try_clone()?).stderr(log).spawn().map_err(Into::into)
}

/// Waits until `state` gives a value; an error that says `what` where `deadline` passes first.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut state: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = state().await {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {deadline:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}
