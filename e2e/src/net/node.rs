//! A node: a namespace with an address in the VPC, a CNI configuration and directories of its own.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::namespace::Namespace;
use crate::process::Place;
use crate::registry::Registration;

/// The CNI network's name on EKS, and so the first part of a record's file name.
pub(super) const CNI_NETWORK: &str = "aws-cni";
/// The capability under which containerd hands a pod's annotations to plugins.
pub(super) const ANNOTATIONS_CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";

/// An EC2 instance that is a node.
#[derive(Debug)]
pub struct Node {
    name: String,
    number: u8,
    instance: String,
    namespace: Namespace,
    directory: PathBuf,
}

impl Node {
    /// Makes node `number` (1 to 254) and connects it to `aws`.
    pub async fn new(registration: &Registration, aws: &Namespace, name: &str, number: u8) -> Result<Self> {
        let namespace = Namespace::new(format!("{}-{name}", registration.id())).await?;
        let directory = registration.subdirectory(name)?;
        let instance = format!("i-0{number:016x}");
        let node = Self { name: name.to_owned(), number, instance, namespace, directory };
        node.connect(aws).await?;
        node.write_files()?;
        Ok(node)
    }

    async fn connect(&self, aws: &Namespace) -> Result<()> {
        let Self { name, number: n, namespace: own, .. } = self;
        let far = own.name();
        aws.ip(&format!("link add {name} type veth peer name eth0 netns {far}")).await?;
        aws.ip(&format!("addr add 10.0.{n}.1/24 dev {name}")).await?;
        aws.ip(&format!("-6 addr add fd00:0:0:{n}::1/64 dev {name} nodad")).await?;
        aws.ip(&format!("link set {name} up")).await?;
        own.ip(&format!("addr add {}/24 dev eth0", self.ipv4())).await?;
        own.ip(&format!("-6 addr add {}/64 dev eth0 nodad", self.ipv6())).await?;
        own.ip("link set eth0 up").await?;
        own.ip(&format!("route add default via 10.0.{n}.1")).await?;
        own.ip(&format!("-6 route add default via fd00:0:0:{n}::1")).await?;
        for (key, value) in [
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            // As VPC CNI leaves it: the laboratory must not be safer than a real node.
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ] {
            own.sysctl(key, value).await?;
        }
        aws.ip(&format!("route add 10.1.{n}.0/24 via {}", self.ipv4())).await?;
        aws.ip(&format!("-6 route add fd00:1:0:{n}::/64 via {}", self.ipv6())).await.map(drop)
    }

    fn write_files(&self) -> Result<()> {
        for directory in [self.cni_directory(), self.run_directory(), self.net_d(), self.log_directory()] {
            fs::create_dir_all(directory)?;
        }
        // Where the node's own directories are seen by its programs; they exist on every real node.
        for at in ["/var/lib/cni", "/run/rolecall"] {
            fs::create_dir_all(at)?;
        }
        let n = self.number;
        let ranges = json!([[{"subnet": format!("10.1.{n}.0/24")}], [{"subnet": format!("fd00:1:0:{n}::/64")}]]);
        let plugin = json!({
            "type": "ptp", "ipMasq": false, "mtu": 1500, "capabilities": {ANNOTATIONS_CAPABILITY: true},
            "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]},
        });
        let list = json!({"cniVersion": "1.0.0", "name": CNI_NETWORK, "plugins": [plugin]});
        fs::write(self.net_d().join("10-aws-cni.conflist"), list.to_string())?;
        fs::write(self.hosts_file(), "127.0.0.1 localhost\n::1 localhost\n").map_err(Into::into)
    }

    /// Lets this node's programs find `host` at `address`.
    pub fn knows_host(&self, address: &str, host: &str) -> Result<()> {
        let mut hosts = fs::OpenOptions::new().append(true).open(self.hosts_file())?;
        writeln!(hosts, "{address} {host}").map_err(Into::into)
    }

    /// Its name in Kubernetes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its EC2 instance id.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(crate) fn namespace_mut(&mut self) -> &mut Namespace {
        &mut self.namespace
    }

    /// Its address in the VPC.
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.number, 10)
    }

    /// Its IPv6 address in the VPC.
    pub fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, u16::from(self.number), 0, 0, 0, 0x10)
    }

    /// Its internal addresses, as Kubernetes lists them.
    pub fn addresses(&self) -> Vec<IpAddr> {
        vec![self.ipv4().into(), self.ipv6().into()]
    }

    /// A program on this node, in its host network: it sees the node's own CNI directory, state and hosts file.
    pub fn place(&self) -> Place {
        self.namespace
            .place()
            .bind(self.cni_directory(), "/var/lib/cni")
            .bind(self.run_directory(), "/run/rolecall")
            .bind(self.hosts_file(), "/etc/hosts")
    }

    /// What `/var/lib/cni` is to this node's programs.
    pub fn cni_directory(&self) -> PathBuf {
        self.directory.join("cni")
    }

    /// What `/run/rolecall` is to this node's programs.
    pub fn run_directory(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// What `/etc/hosts` is to this node's programs.
    pub fn hosts_file(&self) -> PathBuf {
        self.directory.join("hosts")
    }

    /// Where the logs of this node's programs are.
    pub fn log_directory(&self) -> PathBuf {
        self.directory.join("log")
    }

    pub(super) fn net_d(&self) -> PathBuf {
        self.directory.join("net.d")
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}
