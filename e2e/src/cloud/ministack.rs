//! Starts ministack.

use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpStream;

use super::{ACCOUNT, MINISTACK, REGION};
use crate::net::{InsideRuntime, Namespace};
use crate::process::Daemon;
use crate::registry::Registration;
use crate::settings::Tools;

/// It is a Python program; half a second is usual, on a busy machine several.
const READY: Duration = Duration::from_secs(30);

/// Starts it in `aws` and waits until it listens. Only that namespace reaches it: everybody knows its root key.
pub(crate) async fn start(
    registration: &Registration,
    tools: &Tools,
    aws: &Namespace,
    inside: &InsideRuntime,
) -> Result<Daemon> {
    let state = registration.subdirectory("ministack")?;
    let place = aws
        .place()
        .env("AUTH", "true")
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", "4570")
        .env("HOME", &state)
        .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
        .env("MINISTACK_HOST", format!("{REGION}.amazonaws.com"))
        .env("MINISTACK_REGION", REGION)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("STATE_DIR", &state)
        // Its file with a process id would otherwise be one for all.
        .env("TMPDIR", &state);
    let log = registration.directory().join("ministack.log");
    let mut daemon = Daemon::start("ministack", place, &[tools.ministack()], log)?;
    daemon.ready(READY, async || inside.run(TcpStream::connect(MINISTACK)).await.ok()?.ok()).await?;
    Ok(daemon)
}
