//! The programs that come from Debian's packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::Wanted;
use crate::command::{is_on_path, is_root, run_quietly};

/// A program, or a file where it is on no path, and the package that brings it.
struct Packaged {
    program: &'static str,
    package: &'static str,
    wanted: Wanted,
}

const PACKAGED: [Packaged; 10] = [
    Packaged { program: "ip", package: "iproute2", wanted: Wanted::Demo },
    Packaged { program: "nft", package: "nftables", wanted: Wanted::Demo },
    Packaged { program: "conntrack", package: "conntrack", wanted: Wanted::Demo },
    Packaged { program: "curl", package: "curl", wanted: Wanted::Demo },
    Packaged { program: "/usr/sbin/sysctl", package: "procps", wanted: Wanted::Demo },
    Packaged { program: "/usr/lib/cni/ptp", package: "containernetworking-plugins", wanted: Wanted::Demo },
    Packaged { program: "/usr/lib/cni/host-local", package: "containernetworking-plugins", wanted: Wanted::Demo },
    Packaged { program: "faketime", package: "faketime", wanted: Wanted::Everything }, // and its library
    Packaged { program: "c++", package: "g++", wanted: Wanted::Everything },           // libFuzzer's language
    Packaged { program: "shellcheck", package: "shellcheck", wanted: Wanted::Everything },
];

/// Installs the packages whose programs are missing. Without root it says what to install.
pub(super) fn install(wanted: Wanted) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() || !is_on_path("apt-get") {
        bail!("please install these (the names are Debian's packages): {packages}");
    }
    println!("tools: Debian packages {packages} …");
    run_quietly(apt().arg("update"))?;
    run_quietly(apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
}

fn missing(wanted: Wanted) -> Vec<&'static str> {
    let needed = |p: &&Packaged| wanted == Wanted::Everything || p.wanted == Wanted::Demo;
    let absent = |p: &&Packaged| !(is_on_path(p.program) || Path::new(p.program).is_file());
    let mut packages: Vec<_> = PACKAGED.iter().filter(needed).filter(absent).map(|p| p.package).collect();
    packages.dedup();
    packages
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}
