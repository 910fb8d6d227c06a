//! How many connections each peer has, so that none has them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The address that a connection counts for. A pod has as many IPv6 link-local addresses as it likes, and none of them is
/// ever answered: they count as one.
pub(crate) fn counted(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
        other => other,
    }
}

/// How many connections each address has.
#[derive(Default)]
pub(crate) struct Peers(
    // A plain mutex: held for one count, never across an await.
    Mutex<HashMap<IpAddr, usize>>,
);

impl Peers {
    /// A place for one more connection of `peer`; none when it has `most`.
    pub(crate) fn place(peers: &Arc<Self>, peer: IpAddr, most: usize) -> Option<Place> {
        let mut counts = peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { peers: Arc::clone(peers), peer })
    }
}

/// A connection's place in the count of its address; given back when dropped.
pub(crate) struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_share_the_places_of_one() {
        let peers = Arc::default();
        let place = |text: &str| Peers::place(&peers, counted(text.parse().unwrap()), 1);
        let (first, own) = (place("fe80::1"), place("fd00:1::2"));
        assert!(first.is_some() && own.is_some());
        assert!(place("fe80::2").is_none());
        drop(first);
        assert!(place("fe80::2").is_some());
    }
}
