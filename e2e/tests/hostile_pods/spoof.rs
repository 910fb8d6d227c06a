//! Source addresses that are not the pod's. The pod shapes its own network as it likes: it takes the address, so that it could
//! read an answer if one came, announces it to the node, and asks from there.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::metadata::{self, IPV4, IPV6, LIST, Seen};
use e2e::net::Pod;
use e2e::world::{ROLE, World};

const OTHER_ROLE: &str = "example-rolecall-cluster-pod-role-other";
const QUICK: Duration = Duration::from_secs(20);

pub(crate) async fn a_forged_source_gets_no_answer(world: &mut World) -> Result<()> {
    let pod = world.pod("forger", ROLE).await?;
    let victim = world.pod("forged", OTHER_ROLE).await?;
    // Announces each address that it takes (gratuitous ARP), and may use those of loopback outside of it.
    for setting in ["arp_notify=1", "route_localnet=1"] {
        let setting = format!("net.ipv4.conf.eth0.{setting}");
        pod.namespace().place().check(&["sysctl", "-qw", &setting], QUICK).await?;
    }
    let (node, other) = (world.lab.node("node-a")?, world.lab.node("node-b")?);
    let mut forged: Vec<(&str, String)> = victim.addresses().iter().map(|ip| ("neighbour", ip.to_string())).collect();
    for (whose, ip) in node.addresses().into_iter().map(|ip| ("node", ip)) {
        forged.push((whose, ip.to_string()));
    }
    for (whose, ip) in other.addresses().into_iter().map(|ip| ("other node", ip)) {
        forged.push((whose, ip.to_string()));
    }
    for (whose, ip) in [
        ("gateway", "10.1.1.1"),
        ("link-local", "169.254.7.7"),
        ("nobody", "10.1.1.250"),
        ("service", "169.254.169.254"),
        ("loopback", "127.0.0.7"),
        ("outside", "198.51.100.7"),
        ("nobody", "fd00:1:0:1::fa"),
        ("outside", "2001:db8::7"),
    ] {
        forged.push((whose, ip.to_owned()));
    }
    let mut answered = Vec::new();
    for (whose, address) in &forged {
        let seen = ask_from(&pod, address).await?;
        // The pod's own kernel answers for the address that the pod has made its own.
        let expected = if *whose == "service" { Seen::Refused } else { Seen::Silence };
        if seen != expected {
            answered.push(format!("{whose}'s {address}: {seen:?}"));
        }
    }
    ensure!(answered.is_empty(), "{}", answered.join("\n"));
    for base in [IPV4, IPV6] {
        ensure!(metadata::get_at(&victim.place(), base, LIST).await? == Seen::Answer(200, OTHER_ROLE.into()), "{base}");
        ensure!(metadata::get_at(&pod.place(), base, LIST).await? == Seen::Answer(200, ROLE.into()), "{base}");
    }
    Ok(())
}

/// Takes the address, asks, and gives it back.
async fn ask_from(pod: &Pod, address: &str) -> Result<Seen> {
    let (base, prefix, more) = if address.contains(':') { (IPV6, 128, &["nodad"][..]) } else { (IPV4, 32, &[][..]) };
    let whole = format!("{address}/{prefix}");
    let change = async |verb: &str, more: &[&str]| {
        let line = [&["ip", "address", verb, &whole, "dev", "eth0"][..], more].concat();
        pod.namespace().place().check(&line, QUICK).await
    };
    change("add", more).await?;
    let seen = metadata::curl(&pod.place(), &["--interface", address, &format!("{base}{LIST}")]).await;
    change("del", &[]).await?;
    seen
}
