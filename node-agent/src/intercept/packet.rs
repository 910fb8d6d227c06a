//! The played pod's frames: pure.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader, TransportSlice};

use super::veth::POD_MAC;

/// No hop is between the pod and its node.
const HOP_LIMIT: u8 = 64;

const WINDOW: u16 = 1024;

/// One attempt of the played pod to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) pod: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Somebody listens; the number is what a reset must carry.
    Open { next_sequence: u32 },
    /// Nobody does, or a rule refuses.
    Reset,
}

impl Attempt {
    /// The frame that opens the connection.
    pub(super) fn syn(&self, near_mac: [u8; 6]) -> Vec<u8> {
        frame(self.tcp(near_mac, self.sequence).map(PacketBuilderStep::syn))
    }

    /// The frame that ends it, so that nothing waits for the played pod.
    pub(super) fn reset(&self, near_mac: [u8; 6], sequence: u32) -> Vec<u8> {
        frame(self.tcp(near_mac, sequence).map(PacketBuilderStep::rst))
    }

    /// The answer to this attempt that `frame` holds, if it holds one.
    pub(super) fn answer(&self, frame: &[u8]) -> Option<Answer> {
        // Exactly ours: the far end also shows what we sent, and frames of other checks.
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let (from, to): (IpAddr, IpAddr) = match packet.net? {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => return None,
        };
        let TransportSlice::Tcp(tcp) = packet.transport? else { return None };
        let ends = (SocketAddr::new(from, tcp.source_port()), SocketAddr::new(to, tcp.destination_port()));
        let expected = self.sequence.wrapping_add(1);
        if ends != (self.to, self.pod) || !tcp.ack() || tcp.acknowledgment_number() != expected {
            return None;
        }
        match (tcp.syn(), tcp.rst()) {
            (true, false) => Some(Answer::Open { next_sequence: expected }),
            (_, true) => Some(Answer::Reset),
            (false, false) => None,
        }
    }

    /// None if the two addresses are not of one family, which no caller does.
    fn tcp(&self, near_mac: [u8; 6], sequence: u32) -> Option<PacketBuilderStep<TcpHeader>> {
        let ethernet = PacketBuilder::ethernet2(POD_MAC, near_mac);
        let ip = match (self.pod.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), HOP_LIMIT),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), HOP_LIMIT),
            _ => return None,
        };
        Some(ip.tcp(self.pod.port(), self.to.port(), sequence, WINDOW))
    }
}

fn frame(step: Option<PacketBuilderStep<TcpHeader>>) -> Vec<u8> {
    let mut frame = Vec::new();
    if let Some(step) = step {
        step.write(&mut frame, &[]).expect("writing headers without payload to memory does not fail");
    }
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::intercept::family::Family;

    fn attempt(family: Family) -> Attempt {
        Attempt {
            pod: SocketAddr::new(family.played_pod(), 40_000),
            to: SocketAddr::new(family.metadata(), 80),
            sequence: u32::MAX,
        }
    }

    fn answer(
        to: &Attempt,
        change: impl FnOnce(PacketBuilderStep<TcpHeader>) -> PacketBuilderStep<TcpHeader>,
    ) -> Vec<u8> {
        let back = Attempt { pod: to.to, to: to.pod, sequence: 7 };
        frame(back.tcp([2; 6], 7).map(change))
    }

    #[test]
    fn answers_of_both_families_are_told_apart() {
        for family in Family::BOTH {
            let one = attempt(family);
            assert_eq!(one.answer(&answer(&one, |t| t.syn().ack(0))), Some(Answer::Open { next_sequence: 0 }));
            assert_eq!(one.answer(&answer(&one, |t| t.rst().ack(0))), Some(Answer::Reset));
        }
    }

    #[test]
    fn what_is_no_answer_to_this_attempt_is_not_taken_for_one() {
        let one = attempt(Family::V4);
        assert_eq!(one.answer(&one.syn([2; 6])), None, "our own packet");
        assert_eq!(one.answer(&answer(&one, |t| t.syn().ack(1))), None, "of another sequence");
        assert_eq!(one.answer(&answer(&one, PacketBuilderStep::rst)), None, "acknowledges nothing");
        let other = Attempt { pod: SocketAddr::new(one.pod.ip(), 40_001), ..one };
        assert_eq!(one.answer(&answer(&other, |t| t.syn().ack(0))), None, "of another check");
        assert_eq!(one.answer(&answer(&attempt(Family::V6), |t| t.syn().ack(0))), None, "of another family");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(attempt(Family::V4).answer(&bytes), None);
        }
    }
}
