//! How often each pod asks, so that none takes the node's processors, or the agent's log, from the others.
//!
//! A bucket is kept as the time at which it will be full again (GCRA), so that nothing has to fill it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::peers::counted;

/// Seconds' worth of requests that a pod may make at once: a pod that starts fifty processes makes some 150.
const BURST_SECONDS: u32 = 5;
/// Lines about one address: enough to follow an SDK's steps, and no flood of the node's log.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("not 0");
/// Addresses remembered before those with full buckets are forgotten: more than a node has pods.
const REMEMBERED: usize = 1024;

/// What each address has left.
#[derive(Debug)]
pub(super) struct Rates {
    requests: Rate,
    lines: Rate,
    /// Held for a few comparisons, never across an await.
    peers: Mutex<HashMap<IpAddr, Peer>>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    interval: Duration,
    burst: Duration,
}

#[derive(Debug)]
struct Peer {
    /// When the bucket of requests is full again.
    requests: Instant,
    /// When that of lines is.
    lines: Instant,
    /// Requests without a line since the last one.
    unlogged: u64,
}

impl Rate {
    fn per_second(number: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / number.get();
        Self { interval, burst: interval * number.get() * BURST_SECONDS }
    }

    /// Takes one, if there is one.
    fn take(self, full: &mut Instant, now: Instant) -> bool {
        let after = (*full).max(now) + self.interval;
        let is_there = after - now <= self.burst;
        if is_there {
            *full = after;
        }
        is_there
    }
}

impl Rates {
    /// Lets each address make so many requests a second.
    pub(super) fn new(requests_per_second: NonZeroU32) -> Self {
        Self {
            requests: Rate::per_second(requests_per_second),
            lines: Rate::per_second(LINES_PER_SECOND),
            peers: Mutex::default(),
        }
    }

    /// Whether `peer` may make a request now.
    pub(super) fn request(&self, peer: IpAddr) -> bool {
        let now = Instant::now();
        let mut peers = self.lock();
        if peers.len() >= REMEMBERED {
            peers.retain(|_, peer| peer.requests > now || peer.lines > now);
        }
        let peer = peers.entry(counted(peer)).or_insert(Peer { requests: now, lines: now, unlogged: 0 });
        self.requests.take(&mut peer.requests, now)
    }

    /// Whether a request of `peer` is told in the log, and how many before it were not.
    pub(super) fn line(&self, peer: IpAddr) -> Option<u64> {
        let now = Instant::now();
        let mut peers = self.lock();
        // It has made a request, so only a crowd of others can have pushed it out.
        let Some(peer) = peers.get_mut(&counted(peer)) else { return Some(0) };
        if self.lines.take(&mut peer.lines, now) {
            return Some(std::mem::take(&mut peer.unlogged));
        }
        peer.unlogged += 1;
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn rates(per_second: u32) -> Rates {
        Rates::new(NonZeroU32::new(per_second).unwrap())
    }

    fn granted(rates: &Rates, peer: IpAddr, asked: usize) -> usize {
        (0..asked).filter(|_| rates.request(peer)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_a_burst_and_then_its_rate() {
        let rates = rates(10);
        assert_eq!(granted(&rates, PEER, 1000), 50);
        assert_eq!(granted(&rates, OTHER, 1000), 50, "each has its own");
        let mut later = 0;
        for _ in 0..100 {
            advance(Duration::from_millis(50)).await;
            later += granted(&rates, PEER, 100);
        }
        assert_eq!(later, 50, "ten a second for five seconds");
        advance(Duration::from_secs(3600)).await;
        assert_eq!(granted(&rates, PEER, 1000), 50, "and a burst again, no more");
    }

    #[tokio::test(start_paused = true)]
    async fn link_local_addresses_share_the_rate_of_one() {
        let rates = rates(10);
        let all = (1..200_u16).map(|host| IpAddr::V6([0xfe80, 0, 0, 0, 0, 0, 0, host].into()));
        assert_eq!(all.filter(|peer| rates.request(*peer)).count(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_logged_in_part_and_counted_whole() {
        let rates = rates(1000);
        let mut told = 0;
        for _ in 0..500 {
            assert!(rates.request(PEER));
            told += u64::from(rates.line(PEER).is_some());
        }
        assert_eq!(told, 100);
        advance(Duration::from_secs(1)).await;
        assert!(rates.request(PEER));
        assert_eq!(rates.line(PEER), Some(400));
        assert_eq!(rates.line(PEER), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_a_flood_is_not_forgotten() {
        let rates = rates(10);
        assert_eq!(granted(&rates, PEER, 60), 50);
        for number in 0..20_000_u32 {
            assert!(rates.request(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + number))));
            // Each of these is full again after a tenth of a second.
            if number % 500 == 0 {
                advance(Duration::from_millis(101)).await;
            }
        }
        assert!(rates.lock().len() <= REMEMBERED + 1, "{}", rates.lock().len());
        assert!(granted(&rates, PEER, 60) < 50);
    }
}
