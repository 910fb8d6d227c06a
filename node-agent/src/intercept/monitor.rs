//! Wakes the repair when somebody changes the table or the routing rules.

use std::{io, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use rtnetlink::MulticastGroup;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::Notify,
    time::sleep,
};

use super::{nft, rules::TABLE};

/// Wait before `nft monitor` is started again, doubled from the first to the second. Meanwhile the periodic comparison
/// still runs, every few seconds.
const RESTART_AFTER: Duration = Duration::from_millis(100);
const RESTART_AFTER_AT_MOST: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub(super) async fn watch_tables(changed: Arc<Notify>) {
    let mut wait = RESTART_AFTER;
    loop {
        match follow(&changed).await {
            Ok(lines) => {
                tracing::warn!(lines, "nft monitor ended; starting it again");
                if lines > 0 {
                    wait = RESTART_AFTER;
                }
            }
            Err(error) => tracing::warn!(%error, "nft monitor cannot be run; trying again"),
        }
        // Whatever happened while nobody watched.
        changed.notify_one();
        sleep(wait).await;
        wait = (wait * 2).min(RESTART_AFTER_AT_MOST);
    }
}

/// Until it ends. Returns how many changes it reported.
async fn follow(changed: &Notify) -> io::Result<u64> {
    let mut monitor = nft::monitor()?;
    let Some(output) = monitor.stdout.take() else { return Ok(0) };
    let mut lines = BufReader::new(output).split(b'\n');
    let mut reported = 0;
    while let Some(line) = lines.next_segment().await? {
        reported += 1;
        if concerns_us(&line) {
            changed.notify_one();
        }
    }
    monitor.wait().await?;
    Ok(reported)
}

/// Runs until the socket fails.
pub(super) async fn watch_routing(changed: Arc<Notify>) -> io::Result<()> {
    let groups =
        [MulticastGroup::Ipv4Rule, MulticastGroup::Ipv6Rule, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, _handle, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
    let notify = async {
        while messages.next().await.is_some() {
            changed.notify_one();
        }
    };
    tokio::join!(connection, notify);
    Err(io::Error::other("the kernel closed the netlink socket"))
}

/// A line that is no JSON may be anything, so it counts.
fn concerns_us(line: &[u8]) -> bool {
    let Ok(Value::Object(change)) = serde_json::from_slice(line) else { return true };
    change.values().filter_map(Value::as_object).flatten().any(|(kind, body)| {
        let table = if kind == "table" { "name" } else { "table" };
        body.get(table).and_then(Value::as_str) == Some(TABLE)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_changes_of_our_table_wake() {
        assert!(concerns_us(br#"{"delete": {"rule": {"family": "inet", "table": "rolecall", "chain": "spoofed"}}}"#));
        assert!(concerns_us(br#"{"delete": {"table": {"family": "inet", "name": "rolecall", "handle": 3}}}"#));
        assert!(concerns_us(b"# new generation 4 by process 7 (nft)"));
        assert!(!concerns_us(br#"{"add": {"element": {"family": "ip", "table": "kube-proxy", "name": "rolecall"}}}"#));
        assert!(!concerns_us(br#"{"add": {"table": {"family": "ip", "name": "nat", "handle": 3}}}"#));
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = concerns_us(&line);
        }
    }
}
