//! A listener behind which only one instance is, and the hop limit of what it sends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config::MetadataListener;

const BACKLOG: i32 = 1024;
/// What Linux sends where nothing else is said.
const USUAL_HOPS: u32 = 64;

/// Opens the listener. With a device, it sees only what arrives by that interface, so that several instances' services
/// share one address.
pub(super) fn open(at: &MetadataListener) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if at.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(device) = &at.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.bind(&at.address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What to do when it cannot be opened.
pub(super) fn advice(at: &MetadataListener) -> String {
    let MetadataListener { address, device } = at;
    match device {
        Some(device) => format!(
            "cannot listen on {address} behind {device}; the address must be on lo, {device} must exist, and binding to it \
             takes root"
        ),
        None => format!("cannot listen on {address}; give the instance a free address of this machine"),
    }
}

/// One connection's hop limit.
///
/// It goes down before a token is sent and up again only for a client that has shown one. Until then the token may be
/// unacknowledged, and the kernel would send it again with the limit of that moment: whoever sat too far away to receive
/// the token would get it with the next answer.
#[derive(Debug)]
pub(super) struct HopLimit {
    /// A duplicate: socket options belong to the socket, not to the descriptor.
    socket: OwnedFd,
    ipv6: bool,
    tokens: u32,
}

impl HopLimit {
    /// Of `stream`, with `tokens` hops for a token.
    pub(super) fn of(stream: &TcpStream, tokens: u8) -> io::Result<Self> {
        let ipv6 = matches!(stream.local_addr()?, SocketAddr::V6(_));
        Ok(Self { socket: stream.as_fd().try_clone_to_owned()?, ipv6, tokens: tokens.into() })
    }

    /// Before an answer with a token.
    pub(super) fn lower(&self) {
        self.set(self.tokens);
    }

    /// Before an answer to a client that has shown a token.
    pub(super) fn restore(&self) {
        self.set(USUAL_HOPS);
    }

    fn set(&self, hops: u32) {
        let socket = SockRef::from(&self.socket);
        let set = if self.ipv6 { socket.set_unicast_hops_v6(hops) } else { socket.set_ttl_v4(hops) };
        if let Err(error) = set {
            tracing::warn!(%error, "cannot set the hop limit");
        }
    }

    #[cfg(test)]
    pub(super) fn current(&self) -> io::Result<u32> {
        let socket = SockRef::from(&self.socket);
        if self.ipv6 { socket.unicast_hops_v6() } else { socket.ttl_v4() }
    }
}
