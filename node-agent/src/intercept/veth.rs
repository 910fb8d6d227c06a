//! The pair of interfaces behind which the self-check plays a pod.
//!
//! ```text
//! far end (raw packets of the played pod) === near end (as a pod's host-side interface) -> kernel -> agent
//! ```
//! Both ends are in the node's own network namespace: another would take `CAP_SYS_ADMIN`. So that the kernel does not take
//! up at the far end what it sends to the played pod, the pod has a hardware address of its own, which the far end has
//! not: such frames are seen by packet sockets and by nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::{
    link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    route::RouteScope,
};
use nix::errno::Errno;
use rtnetlink::{Error, Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{family::Family, interface::InterfaceName};

/// The far end, and the mark by which `--remove` and a restart find the pair. No pattern for pods' interfaces is likely
/// to mean it, and nothing happens if one does.
pub(super) const FAR_END: &str = "rolecall-pod";

/// The played pod's hardware address: locally administered, and not that of either end.
pub(super) const POD_MAC: [u8; 6] = [0x02, b'r', b'o', b'l', b'e', 0x01];

#[derive(Debug, thiserror::Error)]
pub(super) enum VethError {
    #[error("the self-check's pair of interfaces cannot be kept")]
    Netlink(#[from] Error),
    #[error("an interface `{0}` exists and is not the self-check's: name another with --check-interface")]
    NameTaken(InterfaceName),
    #[error("the self-check's interface {0} vanished")]
    Vanished(InterfaceName),
}

/// The pair, up and routed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// Hardware address of the near end.
    pub(super) near_mac: [u8; 6],
    /// Index of the near end.
    near: u32,
}

/// Makes the pair be there, up, with a route and a fixed neighbour for the played pod's addresses. One that an earlier
/// run left is taken over if its name is right, else replaced.
pub(super) async fn keep(netlink: &Handle, near_end: &InterfaceName) -> Result<Pair, VethError> {
    let far = link(netlink, FAR_END).await?;
    let near = link(netlink, near_end.as_str()).await?;
    let pair = match (far, near) {
        (Some(far), Some(near)) if peer(&far) == Some(near.header.index) => {
            complete(netlink, far.header.index, &near, near_end).await?
        }
        (far, near) => {
            if near.is_some() {
                return Err(VethError::NameTaken(near_end.clone()));
            }
            if let Some(far) = far {
                netlink.link().del(far.header.index).execute().await?;
            }
            netlink.link().add(LinkVeth::new(near_end.as_str(), FAR_END).build()).execute().await?;
            let vanished = || VethError::Vanished(near_end.clone());
            let far = link(netlink, FAR_END).await?.ok_or_else(vanished)?;
            let near = link(netlink, near_end.as_str()).await?.ok_or_else(vanished)?;
            complete(netlink, far.header.index, &near, near_end).await?
        }
    };
    route_played_pod(netlink, pair.near).await?;
    Ok(pair)
}

/// Deletes the pair, whatever its near end is named. An interface of that name that is no veth is not ours.
pub(super) async fn remove(netlink: &Handle) -> Result<(), Error> {
    match link(netlink, FAR_END).await? {
        Some(far) if peer(&far).is_some() => {
            ignoring(netlink.link().del(far.header.index).execute().await, Errno::ENODEV)
        }
        _ => Ok(()),
    }
}

/// No addresses of its own, and up: idempotent.
async fn complete(netlink: &Handle, far: u32, near: &LinkMessage, near_end: &InterfaceName) -> Result<Pair, VethError> {
    for index in [far, near.header.index] {
        let no_addresses = vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])];
        let message =
            LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::AfSpecUnspec(no_addresses)).build();
        // A kernel without IPv6 makes no link-local addresses either.
        ignoring(netlink.link().set(message).execute().await, Errno::EAFNOSUPPORT)?;
        netlink.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
    }
    let near_mac = near.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
        _ => None,
    });
    let near_mac = near_mac.ok_or_else(|| VethError::Vanished(near_end.clone()))?;
    Ok(Pair { near_mac, near: near.header.index })
}

async fn route_played_pod(netlink: &Handle, near: u32) -> Result<(), Error> {
    for family in Family::BOTH {
        let route = match family.played_pod() {
            IpAddr::V4(pod) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(pod, family.whole_prefix())
                .scope(RouteScope::Link)
                .output_interface(near)
                .build(),
            IpAddr::V6(pod) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(pod, family.whole_prefix())
                .output_interface(near)
                .build(),
        };
        let routed = netlink.route().add(route).replace().execute().await;
        let known = netlink.neighbours().add(near, family.played_pod()).link_layer_address(&POD_MAC).replace();
        match (family, routed.and(known.execute().await)) {
            (_, Ok(())) => {}
            (Family::V4, Err(error)) => return Err(error),
            // IPv6 may be absent or switched off here; where the node has an IPv6 address, the check itself will fail.
            (Family::V6, Err(error)) => tracing::debug!(%error, "the played pod has no IPv6"),
        }
    }
    Ok(())
}

async fn link(netlink: &Handle, name: &str) -> Result<Option<LinkMessage>, Error> {
    match netlink.link().get().match_name(name).execute().try_next().await {
        Err(Error::NetlinkError(error)) if error.raw_code() == -(Errno::ENODEV as i32) => Ok(None),
        other => other,
    }
}

/// The index of the other end, if this is one end of a veth pair.
fn peer(link: &LinkMessage) -> Option<u32> {
    let is_veth = link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(info) if info.contains(&LinkInfo::Kind(InfoKind::Veth)))
    });
    let other = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    other.filter(|_| is_veth)
}

fn ignoring(result: Result<(), Error>, errno: Errno) -> Result<(), Error> {
    match result {
        Err(Error::NetlinkError(error)) if error.raw_code() == -(errno as i32) => Ok(()),
        other => other,
    }
}
