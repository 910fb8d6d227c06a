//! TLS and HTTP/1.1 in front of the handler, and how much a client may send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::handler::Handler;
use crate::server::{Closed, Stop};

/// API Gateway's limit for a body.
const MAX_BODY: usize = 10 * 1024 * 1024;
/// Connections of one listener at a time: far above what a load test opens, below the usual limit of open files.
const MAX_CONNECTIONS: usize = 4096;
/// A client that has not ended its handshake by then is gone.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// API Gateway keeps an idle connection open for 310 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(310);
/// A client that has not sent its body by then is gone.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A pause after a failed accept, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop`, which also ends the requests under way: the process is ending, and its function with it.
pub(super) async fn serve(listener: TcpListener, tls: TlsAcceptor, handler: Arc<Handler>, stop: Stop) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.wait() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => drop(connections.spawn(connection(stream, peer, tls.clone(), Arc::clone(&handler)))),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, handler: Arc<Handler>) {
    // Without it, small answers wait for the client's delayed acknowledgement.
    stream.set_nodelay(true).ok();
    let stream = match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { answer(request, &handler, peer).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

async fn answer(
    request: http::Request<Incoming>,
    handler: &Handler,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    // A length that is given is believed: the body is not read for nothing.
    let announced = body.size_hint().exact().is_none_or(|length| length <= MAX_BODY as u64);
    let body = if announced {
        let read = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await.map_err(|_| Closed)?;
        read.ok().map(http_body_util::Collected::to_bytes)
    } else {
        None
    };
    let response = handler.handle(&parts, body.as_ref(), peer.ip().to_canonical()).await?;
    Ok(response.map(|body| Full::new(Bytes::from(body))))
}
