use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::*;

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

/// Runs `test` on a thread in a network namespace of its own, which ends with it.
fn in_namespace(test: fn()) {
    assert!(geteuid().is_root(), "this test makes a network namespace: run it as root");
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for line in [
            "link set lo up",
            "link add eth0 type veth peer name wire",
            "link set wire up",
            "addr add 10.9.0.1/24 dev eth0",
            "addr add fd00:9::1/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.9.0.254",
            "link add eniA type veth peer name peerA",
            "link set eniA up",
            "link set peerA up",
            "route add 10.1.0.2/32 dev eniA",
            "-6 route add fd00:1::2/128 dev eniA",
        ] {
            ip(line);
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn asked(routes: &KernelRoutes, address: &str) -> Option<String> {
    routes.interface_to(address.parse().unwrap()).unwrap().map(|interface| interface.name)
}

#[test]
fn a_pod_is_behind_its_interface_and_others_are_not() {
    in_namespace(|| {
        let routes = KernelRoutes::open().unwrap();
        for address in ["10.1.0.2", "fd00:1::2"] {
            assert_eq!(asked(&routes, address).as_deref(), Some("eniA"), "{address}");
        }
        for (address, why) in [
            ("10.9.0.1", "the host's own"),
            ("fd00:9::1", "the host's own"),
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("192.0.2.1", "behind a gateway"),
            ("2001:db8::1", "no route"),
            ("224.0.0.1", "multicast"),
            ("10.9.0.255", "broadcast"),
        ] {
            assert_eq!(asked(&routes, address), None, "{address}: {why}");
        }
        assert_eq!(
            asked(&routes, "10.9.0.7").as_deref(),
            Some("eth0"),
            "a neighbour on the uplink, which no record lists"
        );
    });
}

#[test]
fn what_is_prohibited_is_no_route() {
    in_namespace(|| {
        let routes = KernelRoutes::open().unwrap();
        for kind in ["prohibit", "unreachable", "blackhole"] {
            ip(&format!("route replace {kind} 10.1.0.9"));
            assert_eq!(asked(&routes, "10.1.0.9"), None, "{kind}");
            ip(&format!("-6 route replace {kind} fd00:1::9"));
            assert_eq!(asked(&routes, "fd00:1::9"), None, "{kind}");
        }
        ip("rule add pref 50 to 10.1.0.2 prohibit");
        assert_eq!(asked(&routes, "10.1.0.2"), None);
    });
}

#[test]
fn the_answer_is_always_of_now() {
    in_namespace(|| {
        let routes = KernelRoutes::open().unwrap();
        assert_eq!(asked(&routes, "10.1.0.2").as_deref(), Some("eniA"));
        ip("link set eniA name eniZ");
        assert_eq!(asked(&routes, "10.1.0.2").as_deref(), Some("eniZ"));
        ip("route replace 10.1.0.2/32 via 10.9.0.3");
        assert_eq!(asked(&routes, "10.1.0.2"), None);
        ip("route replace 10.1.0.2/32 dev eniZ");
        assert_eq!(asked(&routes, "10.1.0.2").as_deref(), Some("eniZ"));
        ip("link del eniZ");
        assert_eq!(asked(&routes, "10.1.0.2"), None);
    });
}
