//! Wakes the repair when somebody changes the table or the routing rules.
//!
//! It hears the kernel itself, not `nft monitor`: that would keep a copy of every table of the node (kube-proxy's are
//! large), and be one more process that can die, or outlive a killed parent.

use std::{io, sync::Arc};

use bytes::BytesMut;
use nix::errno::Errno;
use rtnetlink::{
    MulticastGroup,
    sys::{
        AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket,
        protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
    },
};
use tokio::sync::Notify;

use super::rules::TABLE;

/// `NFNLGRP_NFTABLES` of the kernel's `nfnetlink.h`: every change of a rule set.
const NFTABLES_GROUP: u32 = 7;

/// More than the kernel puts into one notification (a page or two).
const LONGEST_NOTIFICATION: usize = 64 * 1024;

/// Runs until the socket fails. Tells of every change of our table.
pub(super) async fn watch_tables(changed: Arc<Notify>) -> io::Result<()> {
    watch(NETLINK_NETFILTER, &[NFTABLES_GROUP], concerns_us, &changed).await
}

/// Runs until the socket fails. Tells of every change of routing rules and addresses.
pub(super) async fn watch_routing(changed: Arc<Notify>) -> io::Result<()> {
    let groups =
        [MulticastGroup::Ipv4Rule, MulticastGroup::Ipv6Rule, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr]
            .map(|group| group as u32);
    watch(NETLINK_ROUTE, &groups, |_| true, &changed).await
}

async fn watch(protocol: isize, groups: &[u32], concerns: fn(&[u8]) -> bool, changed: &Notify) -> io::Result<()> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, groups.iter().fold(0, |mask, group| mask | 1 << (group - 1))))?;
    let mut notification = BytesMut::new();
    loop {
        notification.clear();
        notification.reserve(LONGEST_NOTIFICATION);
        match socket.recv(&mut notification).await {
            Ok(()) if concerns(&notification) => changed.notify_one(),
            Ok(()) => {}
            // Some were lost, ours perhaps among them.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => changed.notify_one(),
            Err(error) => return Err(error),
        }
    }
}

/// Every message about a table, or something in one, carries the table's name, ended by a zero byte. A name that merely
/// ends like ours wakes too, and costs one look.
fn concerns_us(notification: &[u8]) -> bool {
    let name = [TABLE.as_bytes(), b"\0"].concat();
    notification.windows(name.len()).any(|window| window == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_that_name_our_table_concern_us() {
        assert!(concerns_us(b"\x0d\0\x01\0rolecall\0\0\0\0"));
        assert!(!concerns_us(b"\x0f\0\x01\0kube-proxy\0"));
        assert!(!concerns_us(b"\x0f\0\x01\0rolecallers\0"));
        assert!(!concerns_us(b""));
    }
}
