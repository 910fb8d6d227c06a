//! Bytes to the metadata service over a socket, and the answers in them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::net::InsideRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where EC2 metadata is.
pub(crate) const SERVICE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80));
/// No answer takes longer; the agent holds a request for at most 900 ms.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request that ends the connection; its answer tells whether client and server agree on where they are.
const CANARY: &[u8] =
    b"GET /latest/meta-data/placement/region HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n";

/// Status and body.
pub(crate) type Answer = (u16, String);

/// What becomes of the connection after the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The server closes it.
    Closed,
    /// It goes on, and the next request gets its own answer.
    InStep,
}

/// Sends `bytes`, and the canary after `answers` answers where the connection goes on. Gives all that came until the server
/// closed, the canary's answer included.
pub(crate) async fn exchange(
    inside: &InsideRuntime,
    bytes: Vec<u8>,
    answers: usize,
    then: Then,
) -> Result<Vec<Answer>> {
    let talk = async move {
        let mut stream = TcpStream::connect(SERVICE).await.context("no connection")?;
        // A server that has already refused may have closed.
        let _ = stream.write_all(&bytes).await;
        let mut received = Vec::new();
        if then == Then::InStep {
            while parse(&received)?.len() < answers {
                ensure!(stream.read_buf(&mut received).await? > 0, "closed after {:?}", parse(&received)?);
            }
            stream.write_all(CANARY).await?;
        }
        // Input that the server has not read makes its close a reset, which is as definite.
        while matches!(stream.read_buf(&mut received).await, Ok(1..)) {}
        parse(&received)
    };
    inside.run(timeout(PATIENCE, talk)).await?.context("neither an answer nor a close in time")?
}

/// The whole answers in `bytes`. An answer with 100 is counted as one.
fn parse(bytes: &[u8]) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = std::str::from_utf8(&rest[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)).context("no status")?;
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        let from = end + 4;
        let to = from + length.transpose()?.unwrap_or(0);
        let Some(body) = rest.get(from..to) else { break };
        answers.push((status.parse()?, String::from_utf8_lossy(body).into_owned()));
        rest = &rest[to..];
    }
    if !rest.is_empty() && !rest.starts_with(b"HTTP/1.") {
        bail!("what follows {answers:?} is no answer: {:?}", String::from_utf8_lossy(rest));
    }
    Ok(answers)
}

/// A GET in order.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n").into_bytes()
}
