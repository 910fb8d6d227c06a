//! Flags and environment of `node-agent intercept`, and the settings they become.

use std::{
    net::IpAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use super::{
    family::{Family, PerFamily},
    interface::{InterfaceError, InterfaceName, InterfacePattern, PodInterfaces},
};

/// Bring the metadata calls of this node's pods to the agent, and keep it so.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Interfaces that pods are behind: `eni+` (VPC CNI), `cali+`, or `!eth0` for any but this one; repeatable. Default:
    /// any but `lo` and those with a default route.
    #[arg(long, env = "ROLECALL_HOST_INTERFACE", value_name = "PATTERN", value_delimiter = ',')]
    pub host_interface: Vec<InterfacePattern>,

    /// Port of `node-agent serve`.
    #[arg(long, env = "ROLECALL_AGENT_PORT", default_value = "8181")]
    pub agent_port: NonZeroU16,

    /// Address of this node that `node-agent serve` listens on, one for each of IPv4 and IPv6. Default: the source
    /// address of the default route.
    #[arg(long, env = "ROLECALL_AGENT_ADDRESS", value_name = "IP", value_delimiter = ',')]
    pub agent_address: Vec<IpAddr>,

    /// Directory shared with `node-agent serve`, for `intercept.ok` and `intercept.status`.
    #[arg(long, env = "ROLECALL_STATE_DIR", value_name = "DIR", default_value = "/run/rolecall")]
    pub state_dir: PathBuf,

    /// What to do when the instance's hop limit is not 1 or tokens are not required: `warn` says so and goes on;
    /// `required` also withholds `intercept.ok`, so that the agent is not ready; `off` does not look.
    #[arg(long, env = "ROLECALL_HOP_LIMIT_CHECK", value_enum, default_value = "warn")]
    pub hop_limit_check: HopLimitCheck,

    /// Preference of the first of two routing rules; the second has the next one. They must come before every rule that
    /// could route a pod's packet. VPC CNI's begin at 10 (pods with security groups of their own), the kernel's own is 0.
    #[arg(long, env = "ROLECALL_RULE_PREFERENCE", default_value = "5",
          value_parser = clap::value_parser!(u32).range(1..=32764))]
    pub rule_preference: u32,

    /// Name of the interface behind which the self-check plays a pod. Default: one that fits `--host-interface`. Give
    /// one outside of it where a firewall drops what comes from interfaces of that pattern which it does not know
    /// (Calico).
    #[arg(long, env = "ROLECALL_CHECK_INTERFACE", value_name = "NAME")]
    pub check_interface: Option<InterfaceName>,

    /// Take everything away again (table, routing rules, self-check interfaces, status files), and end. Stop `intercept`
    /// first: it would put everything back.
    #[arg(long)]
    pub remove: bool,
}

/// How much the lock behind matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HopLimitCheck {
    /// Without it, the agent is not ready.
    Required,
    /// Say so and go on. The default: interception is whole without it, and clusters that need hop limit 2 exist.
    Warn,
    /// Do not ask.
    Off,
}

/// Arguments that are each well-formed and do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// See [`InterfaceError`].
    #[error("--host-interface: {0}")]
    Interface(#[from] InterfaceError),
    /// Two of one family.
    #[error("--agent-address: {0} and {1} are of one family; give at most one IPv4 and one IPv6 address")]
    TwoAddresses(IpAddr, IpAddr),
    /// Pods' packets cannot be sent there.
    #[error("--agent-address: {0} cannot be reached from a pod; give an address of one of the node's interfaces")]
    UnusableAddress(IpAddr),
}

/// What [`Args`] say, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) pods: PodInterfaces,
    pub(super) agent_port: u16,
    /// Both empty: to be found out.
    pub(super) agent_address: PerFamily<Option<IpAddr>>,
    pub(super) state_dir: PathBuf,
    pub(super) hop_limit_check: HopLimitCheck,
    pub(super) rule_preference: u32,
}

impl TryFrom<Args> for Settings {
    type Error = SettingsError;

    fn try_from(args: Args) -> Result<Self, SettingsError> {
        let mut agent_address = PerFamily::default();
        for address in args.agent_address {
            check_address(address)?;
            let family = Family::of(address);
            if let Some(other) = agent_address.of(family) {
                return Err(SettingsError::TwoAddresses(other, address));
            }
            agent_address.set(family, Some(address));
        }
        Ok(Self {
            pods: PodInterfaces::new(args.host_interface, args.check_interface)?,
            agent_port: args.agent_port.get(),
            agent_address,
            state_dir: args.state_dir,
            hop_limit_check: args.hop_limit_check,
            rule_preference: args.rule_preference,
        })
    }
}

impl Settings {
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }
}

/// DNAT to a loopback address is dropped as martian, and one to a link-local IPv6 address lacks its interface.
fn check_address(address: IpAddr) -> Result<(), SettingsError> {
    let link_local = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let is_metadata = Family::BOTH.iter().any(|family| family.metadata() == address);
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local || is_metadata {
        return Err(SettingsError::UnusableAddress(address));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn settings(args: &[&str]) -> Result<Settings, SettingsError> {
        Cli::try_parse_from([&["intercept"], args].concat()).unwrap().args.try_into()
    }

    #[test]
    fn one_address_for_each_family() {
        let both = settings(&["--agent-address", "10.0.0.1,fd00::1"]).unwrap();
        assert_eq!(both.agent_address.v4, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(both.agent_address.v6, Some("fd00::1".parse().unwrap()));
        assert_eq!(
            settings(&["--agent-address", "10.0.0.1", "--agent-address", "10.0.0.2"]).unwrap_err(),
            SettingsError::TwoAddresses("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
        );
        for address in ["127.0.0.1", "0.0.0.0", "::", "::1", "224.0.0.1", "fe80::1", "169.254.169.254"] {
            assert_eq!(
                settings(&["--agent-address", address]).unwrap_err(),
                SettingsError::UnusableAddress(address.parse().unwrap())
            );
        }
    }
}
