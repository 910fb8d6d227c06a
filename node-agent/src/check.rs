//! `node-agent check`: asks a running `serve` for one page of its health, for a container's exec probe.
//!
//! During a roll two agents share the host's network and so the health port: a probe of that port may be answered by the other
//! one, and the new agent would count as ready before it is. The socket is a file of one container.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

/// How long the answer may take: kubelet's own limit for a probe is 1 s unless set.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer read: a few sentences.
const MAX_ANSWER: u64 = 64 * 1024;

/// Ask a running `serve` for its health: an exec probe.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The socket of `serve --health-socket`.
    #[arg(long, env = "ROLECALL_HEALTH_SOCKET", value_name = "FILE")]
    pub health_socket: PathBuf,

    /// Which page: /readyz or /livez.
    #[arg(default_value = "/readyz", value_name = "PAGE")]
    pub page: String,
}

/// Success when the page says so; otherwise an error with what it says.
pub fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let socket = &args.health_socket;
    let answer = ask(socket, &args.page).with_context(|| format!("{}: is serve running?", socket.display()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    bail!("{}: {}", args.page, body.trim_end().replace('\n', "; "))
}

fn ask(socket: &Path, page: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
