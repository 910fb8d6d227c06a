//! The real routing table, over a netlink socket of our own. It needs no capability.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily as SocketFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

use super::route::{Interface, RouteError, Routes};

/// The kernel answers while `send` runs; a second is for a machine that has stopped.
const ANSWER_WITHIN: TimeVal = TimeVal::new(1, 0);
/// An answer about one route comes to some hundred bytes.
const ANSWER_BYTES: usize = 4096;
/// Answers to questions that were given up on may come first; more than this is no such case.
const MAX_STALE_ANSWERS: usize = 16;

/// The kernel's routing table.
#[derive(Debug)]
pub struct KernelRoutes {
    socket: Mutex<Socket>,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl KernelRoutes {
    /// Opens the socket.
    pub fn open() -> io::Result<Self> {
        let fd = socket(SocketFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        setsockopt(&fd, ReceiveTimeout, &ANSWER_WITHIN)?;
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket: Mutex::new(Socket { fd, sequence: 0 }) })
    }
}

impl Routes for KernelRoutes {
    fn interface_to(&self, address: IpAddr) -> Result<Option<Interface>, RouteError> {
        // A question that panicked leaves at worst its answer behind, and answers are matched to questions.
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |errno: Errno| RouteError::Socket { address, source: errno.into() };
        let Some(route) = socket.ask(address).map_err(|error| error.about(address))? else { return Ok(None) };
        let Some(index) = direct_interface(&route) else { return Ok(None) };
        // Asked each time: a name that was remembered could be another interface's by now. The kernel gives out indexes in
        // turn, so this one is not another's within the microsecond.
        match if_indextoname(index) {
            Ok(name) => match name.into_string() {
                Ok(name) => Ok(Some(Interface { index, name })),
                Err(_) => Err(RouteError::Answer(address)),
            },
            Err(Errno::ENXIO | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }
}

enum AskError {
    Errno(Errno),
    Answer,
}

impl AskError {
    fn about(self, address: IpAddr) -> RouteError {
        match self {
            Self::Errno(errno) => RouteError::Socket { address, source: errno.into() },
            Self::Answer => RouteError::Answer(address),
        }
    }
}

impl From<Errno> for AskError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Socket {
    /// The route to `address`; `None` where there is none or a rule prohibits it.
    fn ask(&mut self, address: IpAddr) -> Result<Option<RouteMessage>, AskError> {
        self.sequence = self.sequence.wrapping_add(1);
        send(self.fd.as_raw_fd(), &question(address, self.sequence), MsgFlags::empty())?;
        let mut buffer = [0; ANSWER_BYTES];
        for _ in 0..MAX_STALE_ANSWERS {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let bytes = buffer.get(..length).ok_or(AskError::Answer)?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(|_| AskError::Answer)?;
            if answer.header.sequence_number == self.sequence {
                return route_of(answer.payload);
            }
        }
        Err(AskError::Answer)
    }
}

fn question(address: IpAddr, sequence: u32) -> Vec<u8> {
    let mut route = RouteMessage::default();
    (route.header.address_family, route.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    route.attributes.push(RouteAttribute::Destination(address.into()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetRoute(route)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn route_of(payload: NetlinkPayload<RouteNetlinkMessage>) -> Result<Option<RouteMessage>, AskError> {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => Ok(Some(route)),
        NetlinkPayload::Error(error) => match Errno::from_raw(-error.code.map_or(0, std::num::NonZeroI32::get)) {
            // No route; unreachable, prohibited and blackholed ones.
            Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL => Ok(None),
            errno => Err(errno.into()),
        },
        _ => Err(AskError::Answer),
    }
}

/// The interface of a route that goes straight to its destination.
fn direct_interface(route: &RouteMessage) -> Option<u32> {
    let is_indirect = |attribute: &RouteAttribute| {
        matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_))
    };
    if route.header.kind != RouteType::Unicast || route.attributes.iter().any(is_indirect) {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
