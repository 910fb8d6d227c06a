//! Plays a pod that opens a connection to the metadata service, and sees what comes back.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{LinkAddr, SockaddrLike as _, bind},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    family::{Family, METADATA_PORT},
    packet::{Answer, Attempt},
    veth::{FAR_END, Pair},
};

/// How long an answer may take. The agent's kernel answers in under 1 ms; a machine short of CPU may need a while.
const PATIENCE: Duration = Duration::from_millis(500);

/// Opening packets sent, so that one lost or sent just before a repair decides nothing.
const ATTEMPTS: usize = 3;

/// `ETH_P_ALL` of `linux/if_ether.h`: frames of every protocol.
const EVERY_PROTOCOL: u16 = 0x0003;

/// More than the headers of any answer.
const LONGEST_ANSWER: usize = 256;

/// Ports of the played pod: any that is not well known.
const LOWEST_PORT: u16 = 1024;

/// Opens a connection from the played pod and resets it. None: no answer came, however often it was tried.
pub(super) async fn connect(pair: Pair, family: Family) -> io::Result<Option<Answer>> {
    // A thread that may block: a packet socket is none of tokio's own kinds, and a check takes a millisecond.
    tokio::task::spawn_blocking(move || connect_blocking(pair, family)).await.map_err(io::Error::other)?
}

fn connect_blocking(pair: Pair, family: Family) -> io::Result<Option<Answer>> {
    let far_end = FarEnd::open()?;
    for _ in 0..ATTEMPTS {
        let attempt = attempt(family)?;
        far_end.send(&attempt.syn(pair.near_mac))?;
        let Some(answer) = far_end.answer(&attempt, Instant::now() + PATIENCE)? else { continue };
        if let Answer::Open { next_sequence } = answer {
            far_end.send(&attempt.reset(pair.near_mac, next_sequence))?;
        }
        return Ok(Some(answer));
    }
    Ok(None)
}

/// A packet socket on the far end.
struct FarEnd(Socket);

impl FarEnd {
    fn open() -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        bind(socket.as_raw_fd(), &address_of(FAR_END)?)?;
        Ok(Self(socket))
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }

    /// None once it is too late.
    fn answer(&self, attempt: &Attempt, deadline: Instant) -> io::Result<Option<Answer>> {
        let mut frame = [0; LONGEST_ANSWER];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.0.set_read_timeout(Some(left))?;
            match (&self.0).read(&mut frame) {
                Ok(length) => {
                    if let Some(answer) = frame.get(..length).and_then(|frame| attempt.answer(frame)) {
                        return Ok(Some(answer));
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A new port and sequence number for each, so that no packet of an earlier attempt, or of another `intercept`, answers.
fn attempt(family: Family) -> io::Result<Attempt> {
    let mut random = [0; 6];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
    let [p0, p1, s0, s1, s2, s3] = random;
    Ok(Attempt {
        pod: SocketAddr::new(family.played_pod(), u16::from_be_bytes([p0, p1]).max(LOWEST_PORT)),
        to: SocketAddr::new(family.metadata(), METADATA_PORT),
        sequence: u32::from_be_bytes([s0, s1, s2, s3]),
    })
}

/// The packet-socket address of an interface. The kernel's list of interfaces has it ready; its protocol is zero, which
/// leaves the socket with the one it was made with.
fn address_of(interface: &str) -> io::Result<LinkAddr> {
    let mut addresses =
        getifaddrs()?.filter(|entry| entry.interface_name == interface).filter_map(|entry| entry.address);
    let found = addresses.find_map(|address| address.as_link_addr().copied()).filter(|link| link.len() > 0);
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("the interface {interface} is gone")))
}
