//! `node-agent intercept`, the program itself, in network namespaces: needs root, `nft` and `ip`, and fails without.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail by panics"
)]

mod netns;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use netns::{AGENT_PORT, Connection, METADATA_V4, METADATA_V6, Metadata, NODE_V4, Net, POD_V4, wait_at_most, wait_for};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

const BOTH: [&str; 2] = [METADATA_V4, METADATA_V6];
/// A repair takes some 100 ms; on a machine that is busy with other tests perhaps a second.
const REPAIR: Duration = Duration::from_secs(3);

/// A node whose pods are intercepted, with an agent, beside an open metadata service: what is not stopped, is seen.
fn intercepted() -> (Net, netns::Intercept) {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    net.agent();
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted", "intercepted");
    (net, intercept)
}

/// The form in which an answer is compared.
#[allow(clippy::unnecessary_wraps, reason = "it is compared with results")]
fn answers(who: &str) -> Result<String, io::ErrorKind> {
    Ok(who.to_owned())
}

/// Neither an answer nor silence: somebody said no.
fn is_refused(result: &Result<String, io::ErrorKind>) -> bool {
    result.as_ref().is_err_and(|kind| !matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
}

#[test]
fn pods_reach_the_agent_and_the_node_the_metadata_service() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    net.agent();
    for address in BOTH {
        assert_eq!(net.get("pod", address, 80), answers("real"), "before, pods reach the metadata service");
    }
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted", "intercepted");
    for address in BOTH {
        assert_eq!(net.get("pod", address, 80), answers("agent"));
        assert_eq!(net.get("node", address, 80), answers("real"));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", intercept.pid())).unwrap();
    assert!(status.contains("CapEff:\t0000000000003000\n"), "two capabilities are enough: {status}");
}

#[test]
fn ok_is_renewed_while_interception_is_proven() {
    let (_net, intercept) = intercepted();
    let modified = || fs::metadata(intercept.ok_file()).unwrap().modified().unwrap();
    let (first, content) = (modified(), intercept.status());
    assert_eq!(content["version"], 1);
    assert_eq!(content["proven"], true);
    wait_at_most(Duration::from_secs(8), "a renewal of intercept.ok", || modified() > first);
}

#[test]
fn without_an_agent_pods_are_refused_at_once() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted_agent_down", "intercepted_agent_down");
    assert!(intercept.ok_file().exists(), "that nobody listens yet says nothing about the interception");
    for address in BOTH {
        assert_eq!(net.get("pod", address, 80), Err(io::ErrorKind::ConnectionRefused));
    }
}

#[test]
fn other_ports_and_protocols_of_the_metadata_address_are_refused() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    for address in BOTH {
        net.udp_echo(address);
        assert_eq!(net.get("pod", address, 8080), answers("real"), "before");
        assert!(net.udp_is_answered(address), "before");
    }
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted_agent_down", "intercepted_agent_down");
    for address in BOTH {
        let refused = net.get("pod", address, 8080);
        assert!(is_refused(&refused), "{refused:?}");
        assert!(!net.udp_is_answered(address));
    }
}

#[test]
fn the_forward_chain_refuses_alone_too() {
    let (net, intercept) = intercepted();
    intercept.signal(Signal::SIGSTOP);
    net.ip("node", &format!("rule del pref 6 to {METADATA_V4}"));
    net.ip("node", &format!("-6 rule del pref 6 to {METADATA_V6}"));
    for (address, family) in [(METADATA_V4, "IPv4"), (METADATA_V6, "IPv6")] {
        assert_eq!(net.get("pod", address, 8080), Err(io::ErrorKind::ConnectionRefused));
        let (_, packets) = net.rule(&format!("{family}: metadata, untranslated TCP")).unwrap();
        assert_ne!(packets, 0);
    }
}

#[test]
fn a_spoofed_source_is_dropped() {
    let (net, intercept) = intercepted();
    // The self-check's own packets would be counted too.
    intercept.signal(Signal::SIGSTOP);
    for (spoofed, metadata, family) in [("10.1.1.77", METADATA_V4, "IPv4"), ("fd00:1::77", METADATA_V6, "IPv6")] {
        let bits = if spoofed.contains(':') { 128 } else { 32 };
        net.ip("pod", &format!("addr add {spoofed}/{bits} dev eth0"));
        wait_for("the address", || !net.ip("pod", &format!("addr show to {spoofed}")).contains("tentative"));
        let packets = |what: &str| net.rule(&format!("{family}: {what}")).unwrap().1;
        let translated = packets("metadata to the agent");
        assert_eq!(connect_from(&net, spoofed, metadata), Err(io::ErrorKind::TimedOut));
        assert_eq!(packets("metadata to the agent"), translated, "nothing gets past the first chain");
        assert_ne!(packets("source not routed back to its interface"), 0, "dropped by the rule that is for it");
    }
    assert_eq!(net.get("pod", METADATA_V4, 80), answers("agent"), "the pod's own address still works");
}

/// A connection of the pod from an address of choice.
fn connect_from(net: &Net, from: &str, to: &str) -> Result<(), io::ErrorKind> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let connected = net.inside("pod", move || {
        let socket = Socket::new(if from.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&SocketAddr::new(to, 80).into(), Duration::from_millis(500))
    });
    connected.map_err(|error| error.kind())
}

#[test]
fn the_agents_port_is_open_to_translated_flows_only() {
    let net = Net::new();
    net.agent();
    let others =
        [("aws", NODE_V4), ("pod", NODE_V4), ("node", "127.0.0.1"), ("aws", "fd00:0:0:1::10"), ("node", "::1")];
    for (from, address) in others {
        assert_eq!(net.get(from, address, AGENT_PORT), answers("agent"), "before: {from} to {address}");
    }
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted", "intercepted");
    for (from, address) in others {
        let refused = Err(io::ErrorKind::ConnectionRefused);
        assert_eq!(net.get(from, address, AGENT_PORT), refused, "{from} to {address}");
    }
}

#[test]
fn flows_older_than_the_rules_are_cut() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    net.agent();
    // Without a user of connection tracking no flow is known, and DNAT would apply to the next packet anyway.
    net.nft("add table inet firewall");
    net.nft("add chain inet firewall forward { type filter hook forward priority 10; }");
    net.nft("add rule inet firewall forward ct state established counter accept");
    let mut kept = BOTH.map(|address| {
        let to = SocketAddr::new(address.parse().unwrap(), 80);
        net.inside("pod", move || Connection::open(to)).unwrap()
    });
    for connection in &mut kept {
        assert_eq!(connection.get().unwrap(), "real");
    }
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted", "intercepted");
    assert!(intercept.log().contains(r#""flows":2}"#), "connection tracking forgot one flow of each family");
    for connection in &mut kept {
        let kind = connection.get().unwrap_err().kind();
        assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof), "{kind:?}");
    }
    for family in ["IPv4", "IPv6"] {
        let (_, packets) = net.rule(&format!("{family}: metadata, untranslated TCP")).unwrap();
        assert_eq!(packets, 0, "forgotten flows come to the agent; the forward chain is for those that are not");
    }
}

#[test]
fn a_repair_does_not_cut_the_agents_own_flows() {
    let (net, intercept) = intercepted();
    let to = SocketAddr::new(METADATA_V4.parse().unwrap(), 80);
    let mut kept = net.inside("pod", move || Connection::open(to)).unwrap();
    assert_eq!(kept.get().unwrap(), "agent");
    net.nft("flush ruleset");
    wait_at_most(REPAIR, "the repair", || intercept.status()["repairs"]["table"] == 1);
    assert_eq!(kept.get().unwrap(), "agent");
}

#[test]
fn a_flushed_ruleset_is_repaired_and_meanwhile_refused() {
    let (net, intercept) = intercepted();
    intercept.signal(Signal::SIGSTOP);
    net.nft("flush ruleset");
    assert_eq!(net.table("rolecall"), None);
    for address in BOTH {
        let refused = net.get("pod", address, 80);
        assert!(is_refused(&refused), "the routing rules refuse: {refused:?}");
        assert_eq!(net.get("node", address, 80), answers("real"));
    }
    intercept.signal(Signal::SIGCONT);
    wait_at_most(REPAIR, "the repair", || net.get("pod", METADATA_V4, 80) == answers("agent"));
    assert_eq!(net.get("pod", METADATA_V6, 80), answers("agent"));
    wait_for("the count", || intercept.status()["repairs"]["table"] == 1);
    assert!(intercept.log().contains("the table is missing"));
}

#[test]
fn every_deleted_rule_is_put_back() {
    let (net, intercept) = intercepted();
    net.nft("add table inet others");
    net.nft("add chain inet others input { type filter hook input priority 5; }");
    let others = net.table("others");
    for (repairs, (chain, comment)) in [
        ("translate", "IPv4: metadata to the agent"),
        ("spoofed", "IPv6: source not routed back to its interface"),
        ("forwarded", "IPv6: metadata, untranslated"),
        ("arriving", "agent's port, not translated"),
    ]
    .into_iter()
    .enumerate()
    {
        let (handle, _) = net.rule(comment).unwrap();
        net.nft(&format!("delete rule inet rolecall {chain} handle {handle}"));
        wait_at_most(REPAIR, "the repair", || net.rule(comment).is_some());
        wait_for("the count", || intercept.status()["repairs"]["table"] == repairs + 1);
        assert!(intercept.log().contains(&comment.replace('"', "\\\"")), "the log says what was missing");
    }
    assert_eq!(net.table("others"), others, "other tables are untouched");
}

#[test]
fn added_rules_chains_and_flags_are_taken_away() {
    let (net, intercept) = intercepted();
    for (repairs, change) in [
        "insert rule inet rolecall arriving accept",
        "add chain inet rolecall extra",
        "add table inet rolecall { flags dormant; }",
        "add chain inet rolecall forwarded { policy drop; }",
    ]
    .into_iter()
    .enumerate()
    {
        net.nft(change);
        wait_at_most(REPAIR, change, || intercept.status()["repairs"]["table"] == repairs + 1);
        intercept.wait_for_states("intercepted", "intercepted");
    }
}

#[test]
fn deleted_routing_rules_are_put_back() {
    let (net, intercept) = intercepted();
    net.ip("node", &format!("rule del pref 6 to {METADATA_V4}"));
    net.ip("node", &format!("-6 rule del pref 5 to {METADATA_V6}"));
    let whole = |family: &str| {
        let rules = net.ip("node", &format!("{family} rule show"));
        rules.contains("iif lo lookup main") && rules.contains("prohibit")
    };
    wait_at_most(REPAIR, "the repair", || whole("-4") && whole("-6"));
    wait_for("the count", || intercept.status()["repairs"]["routing"].as_u64() >= Some(1));
}

#[test]
fn two_with_the_same_rules_leave_the_table_alone() {
    let (net, first) = intercepted();
    let handle = net.table_handle().unwrap();
    let second = net.intercept_as("another", "+net_admin,+net_raw", &[]);
    second.wait_for_states("intercepted", "intercepted");
    first.wait_for_renewals(2);
    second.wait_for_renewals(2);
    assert_eq!(net.table_handle(), Some(handle));
    second.wait_for_states("intercepted", "intercepted");
    first.wait_for_states("intercepted", "intercepted");
}

#[test]
fn of_two_with_different_rules_the_last_started_keeps_them_and_the_first_takes_over() {
    let (net, first) = intercepted();
    let second = net.intercept(&["--host-interface", "vpod+"]);
    let only_vpod = || net.nft("list table inet rolecall").contains(r#"iifname "vpod*""#);
    wait_for("the rules of the second", only_vpod);
    second.wait_for_states("intercepted", "intercepted");
    let handle = net.table_handle().unwrap();
    second.wait_for_renewals(3);
    assert_eq!(net.table_handle(), Some(handle), "they do not fight");
    assert!(first.log().contains("another intercept, started later, keeps the rules"));
    assert!(second.end(Signal::SIGTERM).success());
    wait_for("the rules of the first", || !only_vpod());
    first.wait_for_states("intercepted", "intercepted");
    assert_eq!(net.get("pod", METADATA_V4, 80), answers("agent"));
}

#[test]
fn the_rules_outlive_the_program() {
    let (net, first) = intercepted();
    first.end(Signal::SIGKILL);
    assert!(net.ip("node", "link show").contains("rolecall-pod"), "a kill leaves the self-check's interfaces");
    for address in BOTH {
        assert_eq!(net.get("pod", address, 80), answers("agent"), "after a kill");
    }
    let handle = net.table_handle();
    let second = net.intercept(&[]);
    second.wait_for_states("intercepted", "intercepted");
    assert_eq!(net.table_handle(), handle, "a restart replaces nothing that is right");
    assert!(second.end(Signal::SIGTERM).success());
    assert!(!net.ip("node", "link show").contains("rolecall"), "an orderly end takes them away");
    for address in BOTH {
        assert_eq!(net.get("pod", address, 80), answers("agent"), "after an orderly end");
    }
}

#[test]
fn remove_takes_away_what_is_ours_and_nothing_else() {
    let (net, intercept) = intercepted();
    net.nft("add table inet others");
    net.ip("node", "rule add pref 60 to 203.0.113.1 prohibit");
    net.ip("node", &format!("rule add pref 61 to {METADATA_V4} lookup main"));
    let ok = intercept.ok_file();
    intercept.end(Signal::SIGKILL);
    net.remove();
    let rules = net.ip("node", "rule show") + &net.ip("node", "-6 rule show");
    assert!(rules.contains("\n60:\t") && rules.contains("\n61:\t"), "others' rules stay: {rules}");
    assert!(!rules.contains("\n5:\t") && !rules.contains("\n6:\t"), "{rules}");
    assert_eq!(net.table("rolecall"), None);
    assert!(net.table("others").is_some());
    assert!(!net.ip("node", "link show").contains("rolecall"));
    assert!(!ok.exists());
    assert_eq!(net.get("pod", METADATA_V4, 80), answers("real"), "as if it had never been there");
    net.remove();
}

#[test]
fn a_changed_preference_moves_the_routing_rules() {
    let (net, intercept) = intercepted();
    intercept.end(Signal::SIGKILL);
    let again = net.intercept(&["--rule-preference", "70"]);
    again.wait_for_states("intercepted", "intercepted");
    for family in ["-4", "-6"] {
        let rules = net.ip("node", &format!("{family} rule show"));
        assert!(rules.contains("\n70:\t") && rules.contains("\n71:\t"), "{rules}");
        assert!(!rules.contains("\n5:\t") && !rules.contains("\n6:\t"), "{rules}");
    }
}

#[test]
fn patterns_name_the_pods_interfaces_and_the_self_check() {
    let net = Net::new();
    net.agent();
    for (args, near_end) in [
        (&["--host-interface", "vpod+"][..], "vpodrolecall0"),
        (&["--host-interface", "!eth0"], "rolecall0"),
        (&["--host-interface", "vpod0"], "rolecall0"),
        (&["--host-interface", "vpod0", "--check-interface", "self0"], "self0"),
    ] {
        let intercept = net.intercept(args);
        intercept.wait_for_states("intercepted", "intercepted");
        assert!(net.ip("node", "link show").contains(&format!("{near_end}@rolecall-pod")), "{args:?}");
        assert_eq!(net.get("pod", METADATA_V4, 80), answers("agent"), "{args:?}");
        intercept.end(Signal::SIGKILL);
    }
}

#[test]
fn a_pattern_that_misses_the_pods_refuses_them() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    net.agent();
    let intercept = net.intercept(&["--host-interface", "eni+"]);
    intercept.wait_for_states("intercepted", "intercepted");
    for address in BOTH {
        let refused = net.get("pod", address, 80);
        assert!(is_refused(&refused), "{refused:?}");
    }
    assert_eq!(intercept.status()["host_interface_found"], false);
    assert_eq!(intercept.status()["proven"], true, "a node without pods has none");
    intercept.wait_for_renewals(2);
    assert_eq!(intercept.log().matches("no interface of this node matches --host-interface").count(), 1);
    net.ip("node", "link add eni1 type veth peer name other0");
    wait_at_most(Duration::from_secs(8), "the interface", || intercept.status()["host_interface_found"] == true);
}

#[test]
fn without_an_ipv6_address_ipv6_is_refused() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    net.agent();
    net.ip("node", "-6 route del default");
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted", "refused");
    assert!(intercept.ok_file().exists());
    assert_eq!(net.get("pod", METADATA_V4, 80), answers("agent"));
    let refused = net.get("pod", METADATA_V6, 80);
    assert!(is_refused(&refused), "{refused:?}");
}

#[test]
fn without_a_default_route_pods_are_refused_until_there_is_one() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    net.agent();
    for family in ["-4", "-6"] {
        net.ip("node", &format!("{family} route del default"));
    }
    let intercept = net.intercept(&[]);
    wait_for("the message", || intercept.log().contains("this node has no default route"));
    assert!(intercept.log().contains("--agent-address"), "the message says what to change");
    assert!(!intercept.ok_file().exists());
    let refused = net.get("pod", METADATA_V4, 80);
    assert!(is_refused(&refused), "{refused:?}");
    net.ip("node", "route add default via 10.0.1.1");
    intercept.wait_for_states("intercepted", "refused");
    assert_eq!(net.get("pod", METADATA_V4, 80), answers("agent"));
}

#[test]
fn agent_addresses_can_be_given() {
    let net = Net::new();
    net.agent();
    let intercept = net.intercept(&["--agent-address", "10.1.1.1", "--agent-address", "fd00:1::1"]);
    intercept.wait_for_states("intercepted", "intercepted");
    assert!(net.nft("list table inet rolecall").contains("dnat ip to 10.1.1.1:8181"));
    assert_eq!(net.get("pod", METADATA_V6, 80), answers("agent"));
}

#[test]
fn what_takes_the_flow_first_is_seen() {
    let net = Net::new();
    net.agent();
    // As kiam's or kube2iam's rule, but earlier than anybody's.
    net.nft("add table ip earlier");
    net.nft("add chain ip earlier nat { type nat hook prerouting priority -150; }");
    net.nft(&format!("add rule ip earlier nat ip daddr {METADATA_V4} tcp dport 80 dnat to 10.0.1.1:9999"));
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("not_intercepted", "intercepted");
    assert!(!intercept.ok_file().exists());
    net.nft("delete table ip earlier");
    intercept.wait_for_states("intercepted", "intercepted");
    wait_for("intercept.ok", || intercept.ok_file().exists());
}

#[test]
fn a_rule_that_kiam_left_does_not_take_the_flow() {
    let net = Net::new();
    net.agent();
    net.nft("add table ip kiam");
    net.nft("add chain ip kiam nat { type nat hook prerouting priority dstnat; }");
    net.nft(&format!("add rule ip kiam nat ip daddr {METADATA_V4} tcp dport 80 dnat to 10.0.1.1:9999"));
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted", "intercepted");
    assert_eq!(net.get("pod", METADATA_V4, 80), answers("agent"));
}

#[test]
fn strict_reverse_path_filtering_does_no_harm() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    net.agent();
    net.at("node", "sysctl", &["-qw", "net.ipv4.conf.all.rp_filter=1"]);
    let intercept = net.intercept(&[]);
    intercept.wait_for_states("intercepted", "intercepted");
    assert_eq!(net.get("pod", METADATA_V4, 80), answers("agent"));
    assert_eq!(net.get("node", METADATA_V4, 80), answers("real"));
}

#[test]
fn the_lock_behind_is_looked_at() {
    for (service, verdict) in [
        (Metadata::LOCKED, "holds"),
        (Metadata { hop_limit: 2, ..Metadata::LOCKED }, "hop_limit_not_1"),
        (Metadata { tokens_required: false, ..Metadata::LOCKED }, "tokens_not_required"),
    ] {
        let net = Net::new();
        net.metadata_service(service);
        let intercept = net.intercept(&[]);
        wait_for("the verdict, which is a warning by default", || {
            let status = intercept.status();
            status["lock"] == verdict && status["proven"] == true
        });
        // It is logged just after it is told.
        let verdict_logged = || intercept.log().contains(&format!(r#""state":"{verdict}""#));
        wait_for("the verdict in the log", verdict_logged);
        let advised = intercept.log().contains("--http-put-response-hop-limit 1");
        assert_eq!(advised, verdict != "holds", "{}", intercept.log());
    }
}

#[test]
fn a_required_lock_withholds_ok() {
    let net = Net::new();
    net.metadata_service(Metadata { hop_limit: 2, ..Metadata::LOCKED });
    let intercept = net.intercept(&["--hop-limit-check", "required"]);
    wait_for("the verdict", || intercept.status()["lock"] == "hop_limit_not_1");
    intercept.wait_for_states("intercepted_agent_down", "intercepted_agent_down");
    assert!(!intercept.ok_file().exists());
    intercept.end(Signal::SIGTERM);

    let net = Net::new();
    let intercept = net.intercept(&["--hop-limit-check", "required"]);
    wait_for("the verdict", || intercept.status()["lock"] == "unreachable");
    assert!(!intercept.ok_file().exists());
    net.metadata_service(Metadata::LOCKED);
    wait_for("intercept.ok", || intercept.ok_file().exists());
    assert_eq!(intercept.status()["lock"], "holds");
}

#[test]
fn a_switched_off_check_asks_nobody() {
    let net = Net::new();
    net.metadata_service(Metadata::OPEN);
    let intercept = net.intercept(&["--hop-limit-check", "off"]);
    intercept.wait_for_states("intercepted_agent_down", "intercepted_agent_down");
    assert_eq!(intercept.status()["lock"], "unknown");
}

/// The exit code and what was said.
fn fails(net: &Net, capabilities: &str, args: &[&str], path: Option<&str>) -> (Option<i32>, String) {
    let mut command = net.command(capabilities);
    if let Some(path) = path {
        let program = env!("CARGO_BIN_EXE_node-agent");
        command = std::process::Command::new(program);
        command.arg("intercept").env("PATH", path);
    }
    let output = command.arg("--state-dir").arg(net.dir.path().join("main")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn bad_settings_end_the_program_and_say_what_to_change() {
    let net = Net::new();
    let both = "+net_admin,+net_raw";
    for (capabilities, args, code, message) in [
        (both, &["--hots-interface", "eni+"][..], 2, "--host-interface"),
        (both, &["--host-interface", "eni*"], 2, "a pattern may end in `+`"),
        (both, &["--host-interface", "+"], 2, "write `!eth0`"),
        (both, &["--host-interface", "eni+,!eth0"], 1, "cannot be combined"),
        (both, &["--agent-address", "127.0.0.1"], 1, "cannot be reached from a pod"),
        (both, &["--agent-address", "10.0.0.1,10.0.0.2"], 1, "at most one IPv4 and one IPv6"),
        (both, &["--agent-address", "ten"], 2, "invalid IP address"),
        (both, &["--agent-port", "0"], 2, "agent-port"),
        (both, &["--hop-limit-check", "maybe"], 2, "required, warn, off"),
        ("+net_admin", &[], 1, "CAP_NET_RAW is missing"),
        ("+net_raw", &[], 1, "CAP_NET_ADMIN is missing"),
    ] {
        let (status, said) = fails(&net, capabilities, args, None);
        assert_eq!(status, Some(code), "{args:?}: {said}");
        assert!(said.contains(message), "{args:?}: {said}");
    }
    assert_eq!(net.table("rolecall"), None, "and nothing was touched");
}

#[test]
fn an_unwritable_state_directory_ends_the_program() {
    let net = Net::new();
    fs::write(net.dir.path().join("main"), "a file, not a directory").unwrap();
    let mut intercept = net.intercept(&[]);
    assert_eq!(intercept.wait().code(), Some(1));
    assert!(intercept.log().contains("--state-dir"), "{}", intercept.log());
}

#[test]
fn without_a_fit_nft_the_program_ends() {
    let net = Net::new();
    let bin = net.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let path = bin.to_str().unwrap();
    let (status, said) = fails(&net, "", &[], Some(path));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("`nft` is not on PATH"), "{said}");

    fs::write(bin.join("nft"), "#!/bin/sh\necho 'nftables v0.9.8 (E.D.S.)'\n").unwrap();
    fs::set_permissions(bin.join("nft"), fs::Permissions::from_mode(0o755)).unwrap();
    let (status, said) = fails(&net, "", &[], Some(path));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("nft is too old (nftables v0.9.8 (E.D.S.))"), "{said}");
}

#[test]
fn an_interface_of_the_same_name_is_not_taken() {
    let net = Net::new();
    net.ip("node", "link add rolecall0 type veth peer name other0");
    let intercept = net.intercept(&[]);
    wait_for("the message", || intercept.log().contains("--check-interface"));
    assert!(net.ip("node", "link show rolecall0").contains("rolecall0@other0"), "it stays as it was");
    assert!(!intercept.ok_file().exists(), "nothing is proven");
    net.remove();
    assert!(net.ip("node", "link show rolecall0").contains("rolecall0@other0"));
    assert_eq!(net.get("pod", POD_V4, 1), Err(io::ErrorKind::ConnectionRefused), "the pod's network still works");
}
