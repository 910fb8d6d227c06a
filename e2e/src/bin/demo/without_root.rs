//! Without root: the same demo inside a user namespace, in which an ordinary user is root over a network of their own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

/// Inside: `/run` and `/var/lib` belong to the real root, so the demo gets empty ones. Then it starts again, as root there.
const INSIDE: &str = "mount -t tmpfs run /run && mkdir /run/netns && mount -t tmpfs lib /var/lib && exec \"$@\"";
/// The first process of the process namespace is the demo; all ends with it, whatever ends it.
const NAMESPACES: [&str; 7] = ["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"];

/// Takes this process's place; returns only where that cannot be.
pub(crate) fn run(json: Option<&Path>) -> Result<ExitCode> {
    let allowed = Command::new("unshare").args(NAMESPACES).arg("true").stderr(Stdio::null()).status();
    ensure!(
        allowed.is_ok_and(|status| status.success()),
        "without root, the demo needs a user namespace, and this machine allows none: please run it as root"
    );
    println!(
        "without root: nodes and pods live in a user namespace, where interception is shown all the same. Not shown:\n\
         --keep, since nobody outside could enter such a pod; and that a cluster's nodes let an agent do as much."
    );
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let mut inside = Command::new("unshare");
    inside.args(NAMESPACES).args(["--mount-proc", "--", "sh", "-c", INSIDE, "sh"]).arg(own);
    if let Some(file) = json {
        inside.arg("--json").arg(file);
    }
    Err(inside.exec()).context("unshare could not be started")
}
