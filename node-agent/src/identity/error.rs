//! Why it is not known who asks, and why identity cannot start.

use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

use super::route::RouteError;

/// Why a peer is not a known pod. Each sentence names what to look at.
#[derive(Debug, Error)]
pub enum WhoError {
    /// No record names the address, nor the interface it is routed to.
    #[error(
        "no CNI record names {address} together with its interface {interface}: look whether the pod's record in the CNI's results directory lists that interface, without a sandbox"
    )]
    Unknown {
        /// Who asked.
        address: IpAddr,
        /// Where the kernel routes it.
        interface: String,
    },
    /// The kernel does not route the address to an interface of the host as a direct neighbour.
    #[error(
        "{address} is no directly routed neighbour: `ip route get {address}` must show the pod's interface and no gateway"
    )]
    NotRouted {
        /// Who asked.
        address: IpAddr,
    },
    /// An IPv6 link-local address is anybody's: each interface has all of them, and the route to one says nothing about who
    /// has it.
    #[error("{address} is a link-local address, which names no pod: the client must ask from its pod's own address")]
    LinkLocal {
        /// Who asked.
        address: IpAddr,
    },
    /// A record names the address, but the kernel routes it to an interface that the record does not list.
    #[error(
        "the CNI record of {address} does not list interface {interface}, to which the kernel routes it: the record is left over, or the CNI does not list its host-side interface"
    )]
    NotARoutedPod {
        /// Who asked.
        address: IpAddr,
        /// Where the kernel routes it.
        interface: String,
    },
    /// Several records have an equal claim.
    #[error(
        "{address} on interface {interface} could be any of several pods: remove the CNI records that are left over"
    )]
    Ambiguous {
        /// Who asked.
        address: IpAddr,
        /// Where the kernel routes it.
        interface: String,
    },
    /// Several live pods share the interface.
    #[error(
        "several pods share interface {interface}, so they can take each other's address: use a CNI that gives each pod its own, or accept it with --allow-shared-interface"
    )]
    SharedInterface {
        /// Who asked.
        address: IpAddr,
        /// The interface.
        interface: String,
    },
    /// The records cannot be read just now, so nothing that they said before counts.
    #[error("the CNI records in {directory} cannot be read: {reason}", directory = directory.display())]
    Unreadable {
        /// Where they should be.
        directory: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// Why identity cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The directory has no parent to watch, or no name.
    #[error("{} is no directory below another: expected a path such as /var/lib/cni/results", .0.display())]
    BadPath(PathBuf),
    /// The directory above the results does not exist or cannot be watched.
    #[error("{} cannot be watched: mount the host's directory there (hostPath, type DirectoryOrCreate)", directory.display())]
    Parent {
        /// That directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The results cannot be listed or watched.
    #[error("the CNI records in {} cannot be read: run as UID 0, which needs no capability for it", directory.display())]
    Results {
        /// The results directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel gives no inotify descriptor.
    #[error("no inotify descriptor: raise fs.inotify.max_user_instances")]
    Inotify(#[source] std::io::Error),
}
