//! What the kernel says about this node: its own interfaces and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::{
    link::LinkAttribute,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use rtnetlink::{Error, Handle, IpVersion, RouteMessageBuilder};

use super::family::{Family, PerFamily};

/// Somewhere beyond the default route: documentation addresses (RFC 5737, RFC 3849), which nobody routes to specially.
const BEYOND_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BEYOND_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Names of the interfaces that carry a default route, in any routing table (VPC CNI gives each further network
/// interface a table of its own), sorted.
pub(super) async fn host_interfaces(netlink: &Handle) -> Result<Vec<String>, Error> {
    let mut indices = Vec::new();
    for family in Family::BOTH {
        let mut routes = netlink.route().get(every_route(family)).execute();
        while let Some(route) = routes.try_next().await? {
            if route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast {
                indices.extend(exits(&route));
            }
        }
    }
    let links = links(netlink).await?;
    Ok(links.into_iter().filter(|(index, _)| indices.contains(index)).map(|(_, name)| name).collect())
}

/// Names of all interfaces, sorted.
pub(super) async fn interfaces(netlink: &Handle) -> Result<Vec<String>, Error> {
    Ok(links(netlink).await?.into_iter().map(|(_, name)| name).collect())
}

/// Indices and names of all interfaces, sorted by name.
async fn links(netlink: &Handle) -> Result<Vec<(u32, String)>, Error> {
    let mut named = Vec::new();
    let mut links = netlink.link().get().execute();
    while let Some(link) = links.try_next().await? {
        named.extend(link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some((link.header.index, name)),
            _ => None,
        }));
    }
    named.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
    Ok(named)
}

/// For each family the source address that the kernel uses for the default route; none where there is no such route.
pub(super) async fn addresses(netlink: &Handle) -> PerFamily<Option<IpAddr>> {
    PerFamily { v4: source_address(netlink, Family::V4).await, v6: source_address(netlink, Family::V6).await }
}

async fn source_address(netlink: &Handle, family: Family) -> Option<IpAddr> {
    let to = match family {
        Family::V4 => {
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(BEYOND_V4, family.whole_prefix()).build()
        }
        Family::V6 => {
            RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(BEYOND_V6, family.whole_prefix()).build()
        }
    };
    // An error is the kernel's way to say that there is no route.
    let route = netlink.route().get(to).execute().try_next().await.ok()??;
    let address = route.attributes.into_iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(address)) => Some(IpAddr::V4(address)),
        RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    })?;
    let reachable = match address {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    (route.header.kind == RouteType::Unicast && reachable).then_some(address)
}

fn every_route(family: Family) -> RouteMessage {
    match family {
        Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    }
}

fn exits(route: &RouteMessage) -> Vec<u32> {
    let of = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    };
    route.attributes.iter().flat_map(of).collect()
}

/// [`IpVersion`] of a family, for dumps.
pub(super) const fn version(family: Family) -> IpVersion {
    match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    }
}
