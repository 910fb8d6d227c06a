//! Connections to the health pages. The port is open to every pod of the node, and none may keep it from the kubelet.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::{Readiness, answer};
use crate::metrics::Metrics;
use crate::peers::{Peers, Place, counted};

/// Connections of this host, which nobody else can take: the kubelet's probes and an exec probe.
const HOST_CONNECTIONS: usize = 16;
/// Connections of one other address: a scraper has one at a time.
const PEER_CONNECTIONS: usize = 4;
/// Connections of all other addresses.
const OTHER_CONNECTIONS: usize = 64;
/// How long a request's header may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest life of a connection, which is one request and its answer: as long as Prometheus waits by default.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long to rest when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This host: a socket file, loopback, or one of the host's addresses asking itself, as the kubelet does.
    Host,
    /// Anybody else.
    Other(IpAddr),
}

impl Peer {
    fn of(stream: &TcpStream) -> io::Result<Self> {
        let (peer, own) = (stream.peer_addr()?.ip().to_canonical(), stream.local_addr()?.ip().to_canonical());
        Ok(if peer.is_loopback() || peer == own { Self::Host } else { Self::Other(peer) })
    }
}

/// A listener for health: the port, or a socket of this container alone.
pub trait Accept: Send + Sync {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, _) = TcpListener::accept(self).await?;
        let peer = Peer::of(&stream)?;
        Ok((stream, peer))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        UnixListener::accept(self).await.map(|(stream, _)| (stream, Peer::Host))
    }
}

/// A listener at `path`. A socket that an earlier run of this container left there is taken away.
pub fn listen_at(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// Answers one request of each connection on `listener`, until dropped. Connections beyond a limit are closed.
pub async fn serve<L: Accept>(listener: L, readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> io::Result<()> {
    let (places, mut connections) = (Places::new(), JoinSet::new());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => if let Some(place) = places.of(peer) {
                    let (readiness, metrics) = (Arc::clone(&readiness), Arc::clone(&metrics));
                    connections.spawn(async move {
                        connection(stream, &readiness, &metrics).await;
                        drop(place);
                    });
                },
                Err(error) => {
                    debug!(%error, "no connection to the health port can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The places that are left.
struct Places {
    host: Arc<Semaphore>,
    others: Arc<Semaphore>,
    peers: Arc<Peers>,
}

impl Places {
    fn new() -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self { host: semaphore(HOST_CONNECTIONS), others: semaphore(OTHER_CONNECTIONS), peers: Arc::default() }
    }

    /// A place, given back when dropped.
    fn of(&self, peer: Peer) -> Option<(OwnedSemaphorePermit, Option<Place>)> {
        let one = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        match peer {
            Peer::Host => Some((one(&self.host)?, None)),
            Peer::Other(address) => {
                let place = Peers::place(&self.peers, counted(address), PEER_CONNECTIONS)?;
                Some((one(&self.others)?, Some(place)))
            }
        }
    }
}

async fn connection<S>(stream: S, readiness: &Readiness, metrics: &Metrics)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.uri().path(), readiness, metrics);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(LIFETIME, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "connection to the health port ended"),
        Err(_) => debug!("connection to the health port cut at the end of its life"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::clock::Clock;
    use crate::health::Interception;

    const GET: &[u8] = b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n";

    /// The agent's end of a connection, and this one.
    fn connected(buffer: usize) -> (DuplexStream, impl Future<Output = ()>) {
        let (client, server) = duplex(buffer);
        let readiness = Readiness::new(Interception::NotRequired, Clock::system());
        (client, async move { connection(server, &readiness, &Metrics::register()).await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_one_request_and_does_not_last() {
        let began = Instant::now();
        let (mut client, served) = connected(4096);
        client.write_all(GET).await.unwrap();
        served.await;
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok\n"), "{text}");
        assert_eq!(began.elapsed(), Duration::ZERO);
        let (mut dripping, served) = connected(4096);
        dripping.write_all(b"GET /li").await.unwrap();
        served.await;
        assert_eq!(began.elapsed(), HEADER_TIMEOUT);
        let (mut unread, served) = connected(GET.len());
        unread.write_all(GET).await.unwrap();
        served.await;
        assert_eq!(began.elapsed(), HEADER_TIMEOUT + LIFETIME);
    }

    #[test]
    fn neither_one_peer_nor_all_of_them_keep_the_host_out() {
        let places = Places::new();
        let pod = |number: usize| Peer::Other(format!("10.0.0.{number}").parse().unwrap());
        let mut taken: Vec<_> = (0..PEER_CONNECTIONS).map(|_| places.of(pod(0)).unwrap()).collect();
        assert!(places.of(pod(0)).is_none());
        for number in 1..OTHER_CONNECTIONS / PEER_CONNECTIONS {
            taken.extend((0..PEER_CONNECTIONS).map(|_| places.of(pod(number)).unwrap()));
        }
        assert!(places.of(pod(100)).is_none());
        let host: Vec<_> = (0..HOST_CONNECTIONS).map(|_| places.of(Peer::Host).unwrap()).collect();
        assert!(places.of(Peer::Host).is_none());
        drop((taken, host));
        assert!(places.of(pod(0)).is_some() && places.of(Peer::Host).is_some());
    }

    #[tokio::test]
    async fn the_host_is_known_by_its_own_address() {
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_client, accepted) = tokio::join!(TcpStream::connect(("127.0.0.1", port)), Accept::accept(&listener));
        assert_eq!(accepted.unwrap().1, Peer::Host);
    }
}
