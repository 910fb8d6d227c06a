//! Which `Host` headers are the metadata service's. A page in a browser inside a pod may resolve a name of its own to the
//! metadata address (DNS rebinding); its requests carry that name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::{HeaderMap, Version};

const NAMES: [&str; 2] = ["instance-data", "instance-data.ec2.internal"];
const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

/// Decides on `Host` headers.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    also: Vec<String>,
}

impl Hosts {
    /// The metadata service's own, and `also`: whole values such as `127.0.0.1:8181`, for machines without interception,
    /// where clients are sent to the agent's port.
    pub fn new(also: Vec<String>) -> Self {
        // An empty one would accept requests with an empty header.
        Self { also: also.into_iter().filter(|host| !host.is_empty()).collect() }
    }

    /// Whether a request with these headers is meant for the metadata service. HTTP/1.0 may come without the header: no
    /// browser speaks it.
    pub(super) fn accept(&self, version: Version, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(HOST).iter();
        match (values.next(), values.next()) {
            (Some(host), None) => host.to_str().is_ok_and(|host| self.is_ours(host)),
            (None, None) => version == Version::HTTP_10,
            _ => false,
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = host.strip_suffix(":80").unwrap_or(host);
        let is_address = name.parse::<Ipv4Addr>().is_ok_and(|address| ADDRESSES.contains(&address.into()))
            || name
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .and_then(|name| name.parse::<Ipv6Addr>().ok())
                .is_some_and(|address| ADDRESSES.contains(&address.into()));
        is_address
            || NAMES.iter().any(|ours| name.eq_ignore_ascii_case(ours))
            || self.also.iter().any(|ours| host.eq_ignore_ascii_case(ours))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accept(hosts: &Hosts, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HOST, value.parse().unwrap());
        }
        hosts.accept(Version::HTTP_11, &headers)
    }

    #[test]
    fn names_and_addresses_of_the_metadata_service() {
        let hosts = Hosts::new(vec!["127.0.0.1:8181".into(), String::new()]);
        for (host, ours) in [
            ("169.254.169.254", true),
            ("169.254.169.254:80", true),
            ("[fd00:ec2::254]", true),
            ("[fd00:ec2::254]:80", true),
            ("[FD00:0EC2:0::254]", true),
            ("instance-data", true),
            ("Instance-Data.EC2.internal:80", true),
            ("127.0.0.1:8181", true),
            ("127.0.0.1", false),
            ("127.0.0.1:8182", false),
            ("169.254.169.254:8181", false),
            ("169.254.169.254.", false),
            ("169.254.43518", false),
            ("0xa9fea9fe", false),
            ("2852039166", false),
            ("[::ffff:169.254.169.254]", false),
            ("fd00:ec2::254", false),
            ("169.254.169.254.evil.example", false),
            ("evil.example", false),
            ("instance-data.evil.example", false),
            ("user@169.254.169.254", false),
            ("", false),
        ] {
            assert_eq!(accept(&hosts, &[host]), ours, "{host:?}");
        }
    }

    #[test]
    fn one_header_exactly_unless_the_protocol_has_none() {
        let hosts = Hosts::default();
        assert!(!accept(&hosts, &["169.254.169.254", "169.254.169.254"]));
        assert!(!accept(&hosts, &[]));
        assert!(hosts.accept(Version::HTTP_10, &HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn any_text_but_ours_is_refused(host in "[ -~]{0,60}") {
            prop_assume!(!host.contains("254") && !host.to_ascii_lowercase().contains("instance-data"));
            prop_assert!(!accept(&Hosts::default(), &[&host]));
        }
    }
}
