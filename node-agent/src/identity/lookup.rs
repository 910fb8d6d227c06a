//! The decision who asks, from the table and the kernel's routes.

use std::net::IpAddr;
use std::sync::Arc;

use super::error::WhoError;
use super::route::{RouteError, Routes};
use super::sandbox::{Sandbox, SandboxId};
use super::table::Table;

/// Which sandbox `peer` is.
pub(super) fn who(
    table: &Table,
    routes: &dyn Routes,
    allow_shared_interface: bool,
    peer: IpAddr,
) -> Result<Arc<Sandbox>, WhoError> {
    let address = peer.to_canonical();
    // The kernel would name the first interface of the host, which may well be another pod's.
    if is_link_local(address) {
        return Err(WhoError::LinkLocal { address });
    }
    let interface = routes.interface_to(address)?.ok_or(WhoError::NotRouted { address })?.name;
    let by_name = table.names(address);
    let claims = if by_name { table.speakers(address, &interface) } else { table.listing(&interface, true) };
    let mut claims = claims.into_iter();
    let id = match (claims.next(), claims.next()) {
        (Some(id), None) => id,
        (Some(_), Some(_)) => return Err(WhoError::Ambiguous { address, interface }),
        (None, _) if by_name => return Err(WhoError::NotARoutedPod { address, interface }),
        (None, _) => return Err(WhoError::Unknown { address, interface }),
    };
    // An address that no record names is somebody's only if nobody else can be on that interface, and if that one is.
    if !by_name && !lives_on(table, routes, id, &interface)? {
        return Err(WhoError::Unknown { address, interface });
    }
    if !(allow_shared_interface && by_name) {
        for other in table.listing(&interface, false).into_iter().filter(|other| *other != id) {
            if lives_on(table, routes, other, &interface)? {
                return Err(WhoError::SharedInterface { address, interface });
            }
        }
    }
    table.sandbox(id).cloned().ok_or(WhoError::Ambiguous { address, interface })
}

/// Whether `address` has a meaning on its own interface alone. IPv4's are not such: the host routes each to one interface.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether the kernel routes one of the sandbox's addresses to `interface`: a record that is left over has none.
fn lives_on(table: &Table, routes: &dyn Routes, id: &SandboxId, interface: &str) -> Result<bool, RouteError> {
    for address in table.addresses_on(id, interface) {
        if routes.interface_to(address)?.is_some_and(|found| found.name == interface) {
            return Ok(true);
        }
    }
    Ok(false)
}
