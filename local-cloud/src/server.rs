//! Serves HTTP/1.1 on listeners that the wiring opened, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections of one listener at a time: far above what a load test opens, below the usual limit of open files.
const MAX_CONNECTIONS: usize = 4096;
/// A client that has not sent its headers by then is gone.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// What requests under way have after the stop.
const DRAIN: Duration = Duration::from_secs(2);
/// A pause after a failed accept, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An answer's body.
pub type Body = BoxBody<Bytes, hyper::Error>;

/// A body that is whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// The connection is closed on purpose, without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("connection closed by a fault rule")]
pub struct Closed;

/// Ends everything that holds the matching [`Stop`], when told to or when dropped.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Told once, when the process ends.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// A new pair.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Tells every [`Stop`].
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns when the process ends.
    pub async fn wait(&self) {
        // An error says that the stopper is gone, which means the same.
        let _ = self.0.clone().wait_for(|stopped| *stopped).await;
    }
}

/// Serves `listener` until `stop`; then nothing new is accepted, and what is under way has two seconds to end.
/// `connection` makes each connection's service.
pub async fn serve<M, S>(listener: TcpListener, stop: Stop, connection: M)
where
    M: Fn(&TcpStream, SocketAddr) -> io::Result<S>,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Closed> + Send + 'static,
    S::Future: Send,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let (stream, remote) = tokio::select! {
            () = stop.wait() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        match connection(&stream, remote) {
            Ok(service) => {
                let stop = stop.clone();
                connections.spawn(async move {
                    one(stream, service, stop).await;
                    drop(slot);
                });
            }
            Err(error) => tracing::debug!(%error, %remote, "connection lost before its first request"),
        }
    }
    drop(listener);
    // What is still there afterwards is aborted with the set.
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

async fn one<S>(stream: TcpStream, service: S, stop: Stop)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Closed> + Send + 'static,
    S::Future: Send,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
