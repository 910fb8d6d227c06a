//! One network namespace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::process::Place;
use crate::registry::remove_namespace;

/// Time for one of the small programs that shape a network.
const QUICK: Duration = Duration::from_secs(20);

/// A network namespace; removed, with all that runs in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    launcher: Option<PathBuf>,
    leave: bool,
}

impl Namespace {
    /// Makes it. IPv6 addresses are used at once there: duplicate-address detection would take two seconds a pod.
    pub async fn new(name: String) -> Result<Self> {
        Place::default().check(&["ip", "netns", "add", &name], QUICK).await?;
        let namespace = Self { name, launcher: None, leave: false };
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0").await?;
        namespace.sysctl("net.ipv6.conf.default.dad_transmits", "0").await?;
        namespace.ip("link set lo up").await?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets `launcher` start all programs here from now on.
    pub(crate) fn start_through(&mut self, launcher: Option<&Path>) {
        self.launcher = launcher.map(Path::to_owned);
    }

    /// A program here, with nothing else changed.
    pub fn place(&self) -> Place {
        Place::in_network(&self.name).through(self.launcher.as_deref())
    }

    /// `ip WORDS` here.
    pub async fn ip(&self, words: &str) -> Result<String> {
        let line: Vec<_> = std::iter::once("ip").chain(words.split(' ')).collect();
        self.place().check(&line, QUICK).await
    }

    /// Loads nftables rules here.
    pub async fn nft(&self, rules: &str) -> Result<()> {
        self.place().check(&["nft", rules], QUICK).await.map(drop)
    }

    pub(crate) async fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.place().check(&["sysctl", "-qw", &format!("{key}={value}")], QUICK).await.map(drop)
    }

    /// A runtime all of whose threads, and so whose sockets, are in this namespace. Give it work with `spawn`.
    pub fn runtime(&self) -> Result<InsideRuntime> {
        let path = format!("/run/netns/{}", self.name);
        let entrance = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        #[expect(clippy::missing_panics_doc, reason = "only the runtime's own thread would end, which run() reports")]
        let enter =
            move || setns(&entrance, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace that it made");
        let runtime = Builder::new_multi_thread().worker_threads(1).on_thread_start(enter).enable_all().build()?;
        Ok(InsideRuntime(Some(runtime)))
    }

    pub(crate) fn leave(&mut self) {
        self.leave = true;
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.leave {
            remove_namespace(&self.name);
        }
    }
}

/// A runtime inside a namespace; may be dropped anywhere, in async code too.
#[derive(Debug)]
pub struct InsideRuntime(Option<Runtime>);

impl InsideRuntime {
    /// Runs `work` inside. Dropping the future ends the work: a client that hangs up closes its connection.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let runtime = self.0.as_ref().context("present until dropped")?;
        let mut work = Work(runtime.spawn(work));
        (&mut work.0).await.context("the work panicked")
    }
}

/// A task that ends with who waits for it.
struct Work<T>(JoinHandle<T>);

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for InsideRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
