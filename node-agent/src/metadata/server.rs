//! Connections of pods: how many, how long, and how they end.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::metrics::ConnectionLimit;
use super::service::{Connection, Metadata, Upstream};
use crate::peers::{Peers, counted};

/// How long the accept loop rests when the system has no descriptors or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The header section of a request: tokens and role ARNs are short, no SDK sends more than 1 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The header fields of a request: SDKs send about ten.
const MAX_HEADERS: usize = 64;
/// From the end of one answer, or the connection's beginning, to the end of the next request's header: the longest that an
/// idle or a dripping client keeps its place.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest life of a connection, and so of one whose client does not read its answers.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a connection at the end of its life may still bring a request. Closed at once, it would take one along that its
/// client has sent and the agent not yet read; so the next answer says that it is the last.
const LAST_CHANCE: Duration = Duration::from_secs(1);
/// How long a connection at the end of its life may finish the request that it is at: a held one takes 900 ms.
const LAST_REQUEST: Duration = Duration::from_secs(2);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From one address. SDKs open a few; a process that opens one per request and leaves them open is stopped here.
    pub per_peer: usize,
    /// In all: 250 pods with 16 each, about 40 kB a connection.
    pub total: usize,
}

/// An address has at most this part of the places that are free, so that many greedy pods together leave some to the next:
/// each of n has at most total / (n + 16), and as many are free sixteen times (the dynamic threshold of shared-memory
/// switches, Choudhury and Hahne, 1998). It is below [`Limits::per_peer`] only when three quarters of all places are taken.
const SHARE_OF_FREE: usize = 16;

impl Limits {
    /// How many connections an address may have when `free` places are left. One with none gets the last.
    fn of_peer(self, free: usize) -> usize {
        self.per_peer.min((free / SHARE_OF_FREE).max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_peer: 64, total: 4000 }
    }
}

/// Answers connections on `listener` until `shutdown` ends. Then it accepts what is queued, closes the listener, and gives
/// requests under way at most `drain`. An error is one of the listener that no waiting will mend.
pub async fn serve<U: Upstream>(
    listener: TcpListener,
    metadata: Arc<Metadata<U>>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> io::Result<()> {
    let mut server =
        Server { metadata, limits, peers: Arc::default(), tasks: JoinSet::new(), ending: watch::Sender::new(false) };
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => server.admit(stream, peer.ip().to_canonical()),
                Err(error) => rest_after(&error).await?,
            },
            Some(ended) = server.tasks.join_next() => report(ended),
        }
    }
    // Connections that the kernel has completed would be reset with the listener.
    while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept()).await {
        server.admit(stream, peer.ip().to_canonical());
    }
    drop(listener);
    server.drain(drain).await;
    Ok(())
}

struct Server<U> {
    metadata: Arc<Metadata<U>>,
    limits: Limits,
    peers: Arc<Peers>,
    tasks: JoinSet<()>,
    ending: watch::Sender<bool>,
}

impl<U: Upstream> Server<U> {
    fn admit(&mut self, stream: TcpStream, peer: IpAddr) {
        let metrics = self.metadata.metrics.clone();
        let free = self.limits.total.saturating_sub(self.tasks.len());
        if free == 0 {
            metrics.refused_connection(ConnectionLimit::Total);
            return;
        }
        let Some(place) = Peers::place(&self.peers, counted(peer), self.limits.of_peer(free)) else {
            metrics.refused_connection(ConnectionLimit::Peer);
            return;
        };
        // Answers are single small writes; waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY");
        }
        let metadata = Arc::clone(&self.metadata);
        let ending = self.ending.subscribe();
        self.tasks.spawn(async move {
            metrics.connections.inc();
            serve_connection(stream, peer, metadata, ending).await;
            metrics.connections.dec();
            drop(place);
        });
    }

    async fn drain(mut self, drain: Duration) {
        self.ending.send_replace(true);
        info!(connections = self.tasks.len(), "draining");
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                report(ended);
            }
        };
        if timeout(drain, all).await.is_err() {
            warn!(connections = self.tasks.len(), "connections were cut at the drain deadline");
        }
    }
}

/// Answers the requests of one connection of `peer`, until it or its time ends, or `ending` turns true.
pub async fn serve_connection<U: Upstream>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: IpAddr,
    metadata: Arc<Metadata<U>>,
    mut ending: watch::Receiver<bool>,
) {
    let connection = Connection::from(peer);
    let service = service_fn(|request| metadata.handle(&connection, request));
    let mut http = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = last_request(&mut ending) => {
            connection.ends();
            let last = async {
                if let Ok(ended) = timeout(LAST_CHANCE, http.as_mut()).await {
                    return ended;
                }
                http.as_mut().graceful_shutdown();
                http.await
            };
            let Ok(ended) = timeout(LAST_REQUEST, last).await else { return };
            ended
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended");
    }
}

/// Ends when a connection may take no further request.
async fn last_request(ending: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = ending.wait_for(|ending| *ending) => {}
        () = sleep(CONNECTION_LIFETIME) => {}
    }
}

/// A connection's task that panicked is a bug; it must not take the other pods' connections with it.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Whether accepting can go on. Linux hands over what has become of the connection that was next (reset, or its network
/// gone) as an error of accepting, and a shortage passes; only what is wrong with the listener itself is an end.
async fn rest_after(error: &io::Error) -> io::Result<()> {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        None | Some(Errno::EBADF | Errno::EFAULT | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP) => {
            Err(io::Error::new(error.kind(), error.to_string()))
        }
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
            warn!(%error, "no connection can be accepted just now");
            sleep(ACCEPT_PAUSE).await;
            Ok(())
        }
        Some(_) => {
            debug!(%error, "a connection ended before it was accepted");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::errno::Errno;

    use super::*;

    /// Takes places as [`Server::admit`] does.
    struct Node {
        peers: Arc<Peers>,
        places: Vec<crate::peers::Place>,
    }

    impl Node {
        fn new() -> Self {
            Self { peers: Arc::default(), places: Vec::new() }
        }

        /// Gives pod `number` up to `wanted` places.
        fn takes(&mut self, number: u32, wanted: usize) -> usize {
            let (limits, pod) = (Limits::default(), IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + number)));
            let before = self.places.len();
            for _ in 0..wanted {
                let free = limits.total - self.places.len();
                let place = Peers::place(&self.peers, pod, limits.of_peer(free)).filter(|_| free > 0);
                self.places.extend(place);
            }
            self.places.len() - before
        }
    }

    #[test]
    fn a_few_greedy_pods_have_what_one_may_have() {
        let mut node = Node::new();
        assert_eq!((0..46).map(|pod| node.takes(pod, 1000)).max(), Some(64));
        assert_eq!(node.places.len(), 46 * 64);
    }

    #[test]
    fn pods_that_take_all_they_can_leave_some_to_the_next() {
        // Sixty-three with 64 each would be more than all.
        let mut node = Node::new();
        for pod in 0..63 {
            node.takes(pod, 1000);
        }
        assert_eq!(node.takes(1000, 16), 16, "one after the other");

        let mut node = Node::new();
        for _ in 0..64 {
            for pod in 0..249 {
                node.takes(pod, 1);
            }
        }
        assert_eq!(node.takes(1000, 8), 8, "the whole node, in turns");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_broken_listener_ends_the_accepting() {
        let goes_on = async |errno: Errno| rest_after(&io::Error::from(errno)).await.is_ok();
        for errno in [Errno::ECONNABORTED, Errno::ENETDOWN, Errno::EHOSTUNREACH, Errno::ETIMEDOUT, Errno::EMFILE] {
            assert!(goes_on(errno).await, "{errno}");
        }
        for errno in [Errno::EBADF, Errno::EINVAL, Errno::ENOTSOCK] {
            assert!(!goes_on(errno).await, "{errno}");
        }
    }
}
