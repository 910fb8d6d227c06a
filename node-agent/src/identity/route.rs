//! What the kernel says about the way to an address.

use std::net::IpAddr;

use thiserror::Error;

/// A network interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index now.
    pub index: u32,
    /// Its name now.
    pub name: String,
}

/// The kernel gave no usable answer.
#[derive(Debug, Error)]
pub enum RouteError {
    /// The netlink socket failed.
    #[error("the kernel could not be asked for the route to {address}")]
    Socket {
        /// The address asked about.
        address: IpAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The answer is not understood.
    #[error("the kernel's answer about the route to {0} is not understood")]
    Answer(IpAddr),
}

/// The kernel's routing table. One question is one netlink round trip, answered by the kernel at once, so the call is
/// synchronous: between a record that was looked up and the route that confirms it nothing else runs.
pub trait Routes: Send + Sync {
    /// The interface on which `address` is a direct neighbour; `None` when it is reached through a gateway, is the host's
    /// own, or not at all.
    fn interface_to(&self, address: IpAddr) -> Result<Option<Interface>, RouteError>;
}
