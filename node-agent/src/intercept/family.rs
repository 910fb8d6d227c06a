//! IPv4 and IPv6, which everything here is done for alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nftables::stmt::NATFamily;
use serde::{Deserialize, Serialize};

/// The two addresses of the EC2 metadata service.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The address of the played pod: the IPv4 dummy address of RFC 7600, which no interface is ever given, so that it can
/// collide with no VPC, pod or service range.
const PLAYED_POD_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// The same for IPv6, out of the discard-only block of RFC 6666.
const PLAYED_POD_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 8);

/// The port of the metadata service, the only one that is translated.
pub(super) const METADATA_PORT: u16 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(super) const fn metadata(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(METADATA_V4),
            Self::V6 => IpAddr::V6(METADATA_V6),
        }
    }

    pub(super) const fn played_pod(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(PLAYED_POD_V4),
            Self::V6 => IpAddr::V6(PLAYED_POD_V6),
        }
    }

    /// The length of a prefix that names one address.
    pub(super) const fn whole_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// Its name in nftables.
    pub(super) const fn protocol(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The name in nftables of the header field that counts hops.
    pub(super) const fn hop_field(self) -> &'static str {
        match self {
            Self::V4 => "ttl",
            Self::V6 => "hoplimit",
        }
    }

    pub(super) const fn nat(self) -> NATFamily {
        match self {
            Self::V4 => NATFamily::IP,
            Self::V6 => NATFamily::IP6,
        }
    }

    /// Its name in comments and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// One value for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PerFamily<T> {
    #[serde(rename = "ipv4")]
    pub(super) v4: T,
    #[serde(rename = "ipv6")]
    pub(super) v6: T,
}

impl<T: Copy> PerFamily<T> {
    pub(super) const fn of(&self, family: Family) -> T {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    pub(super) const fn set(&mut self, family: Family, value: T) {
        match family {
            Family::V4 => self.v4 = value,
            Family::V6 => self.v6 = value,
        }
    }
}
