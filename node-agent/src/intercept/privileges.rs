//! What the program needs to be allowed.

use std::{fs, io};

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

#[derive(Debug, thiserror::Error)]
pub(super) enum PrivilegeError {
    #[error("the capabilities of this process cannot be read from /proc/self/status")]
    Unreadable(#[source] io::Error),
    #[error("/proc/self/status does not tell this process's capabilities")]
    Untold,
    #[error(
        "{0} is missing: run as root, or in Kubernetes as UID 0 with securityContext.capabilities.add [NET_ADMIN, \
         NET_RAW]"
    )]
    Missing(&'static str),
}

/// `CAP_NET_ADMIN` for rules, routes and interfaces; `CAP_NET_RAW` for the packets of the self-check.
pub(super) fn check() -> Result<(), PrivilegeError> {
    let status = fs::read_to_string("/proc/self/status").map_err(PrivilegeError::Unreadable)?;
    check_status(&status)
}

fn check_status(status: &str) -> Result<(), PrivilegeError> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).ok_or(PrivilegeError::Untold)?;
    let effective = u64::from_str_radix(line.trim(), 16).map_err(|_| PrivilegeError::Untold)?;
    for (capability, name) in [(CAP_NET_ADMIN, "CAP_NET_ADMIN"), (CAP_NET_RAW, "CAP_NET_RAW")] {
        if effective & (1 << capability) == 0 {
            return Err(PrivilegeError::Missing(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_capabilities_are_needed() {
        let of = |mask: &str| check_status(&format!("Name:\tx\nCapInh:\t0\nCapEff:\t{mask}\n"));
        assert!(of("0000000000003000").is_ok());
        assert!(of("000001ffffffffff").is_ok());
        assert!(matches!(of("0000000000001000"), Err(PrivilegeError::Missing("CAP_NET_RAW"))));
        assert!(matches!(of("0000000000002000"), Err(PrivilegeError::Missing("CAP_NET_ADMIN"))));
        assert!(matches!(of("none"), Err(PrivilegeError::Untold)));
        assert!(matches!(check_status(""), Err(PrivilegeError::Untold)));
    }

    proptest! {
        #[test]
        fn any_status_is_read(status in ".*") {
            let _ = check_status(&status);
        }
    }
}
