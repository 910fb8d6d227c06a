//! Many pods that together take every connection that the agent accepts, and a neighbour that makes a new one for each
//! request.

use std::io::ErrorKind::WouldBlock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use e2e::client::Connections;
use e2e::net::{InsideRuntime, Pod};
use e2e::suite::figure;
use e2e::world::{ROLE, World};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::flood::{SCHEDULING, memory};
use crate::neighbour::{Neighbour, p99};
use crate::raw::SERVICE;

/// With 64 connections each, they would have more than the agent's 4,000.
const PODS: usize = 64;
/// More than one pod may have.
const WANTED: usize = 80;
/// As much of a header as the agent keeps for a connection whose request is not whole.
const HALF_A_REQUEST: usize = 12 * 1024;
const ROUNDS: usize = 2;
/// With the making of the connections, less than the 15 s for which the agent waits for a header.
const PHASE: Duration = Duration::from_secs(4);
/// What the agent needs to see that the connections of a round are gone.
const REST: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(5);
/// Fewer would be no attack on the 4,000.
const MANY: usize = 3000;
/// About 15 MiB when idle, and 4,000 connections with 40 kB each.
const MOST_MEMORY_KIB: u64 = 175 * 1024;

pub(crate) async fn pods_that_take_every_connection_leave_some_to_a_neighbour(world: &mut World) -> Result<()> {
    let neighbour = Neighbour::new(&world.pod("quiet-among-many", ROLE).await?, Connections::New)?;
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push(world.pod(&format!("greedy-{number}"), ROLE).await?);
    }
    let runtimes = pods.iter().map(Pod::namespace).map(e2e::net::Namespace::runtime).collect::<Result<Vec<_>>>()?;
    let (before, _) = memory(world)?;
    let (mut quiet, mut loud, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        neighbour.asks(Instant::now() + PHASE, &mut quiet).await?;
        let mut streams = Vec::new();
        for inside in &runtimes {
            streams.extend(take(inside).await?);
        }
        let asked = neighbour.asks(Instant::now() + PHASE, &mut loud).await;
        held.push(streams.iter().filter(|stream| is_open(stream)).count());
        asked.with_context(|| format!("{held:?} connections held"))?;
        drop(streams);
        sleep(REST).await;
    }
    let (quiet, loud) = (p99(&mut quiet), p99(&mut loud));
    let (after, peak) = memory(world)?;
    let mut table = Table::new();
    table.set_header(["pods", "open", "quiet p99 ms", "p99 ms", "RSS before KiB", "RSS after KiB", "peak KiB"]);
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let memories = [before, after, peak].map(|kib| kib.to_string());
    let row = [PODS.to_string(), format!("{held:?}"), ms(quiet), ms(loud)].into_iter().chain(memories);
    figure(table.add_row(row));
    ensure!(held.iter().all(|held| *held >= MANY), "the attack was none: {held:?} connections");
    ensure!(loud <= (2 * quiet).max(SCHEDULING), "p99 {loud:?}, quiet {quiet:?}");
    ensure!(peak <= MOST_MEMORY_KIB, "{peak} KiB");
    Ok(())
}

/// As many connections as a pod can get, each with a request that does not end.
async fn take(inside: &InsideRuntime) -> Result<Vec<TcpStream>> {
    let connections = async {
        let start = format!("GET /latest/ HTTP/1.1\r\nX-A: {}", "a".repeat(HALF_A_REQUEST));
        let mut streams = Vec::new();
        for _ in 0..WANTED {
            let mut stream = timeout(CONNECT, TcpStream::connect(SERVICE)).await.context("no connection")??;
            // One that is refused may be closed by now.
            let _ = stream.write_all(start.as_bytes()).await;
            streams.push(stream);
        }
        Ok(streams)
    };
    inside.run(connections).await?
}

fn is_open(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == WouldBlock)
}
