//! A pod: a sandbox that real libcni and a real plugin connected, and the programs in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;

use super::namespace::Namespace;
use super::node::{ANNOTATIONS_CAPABILITY, CNI_NETWORK, Node};
use crate::process::{Output, Place};
use crate::registry::Registration;
use crate::settings::Tools;

/// What containerd leaves a container that asks for nothing.
const CAPABILITIES: [&str; 14] = [
    "chown",
    "dac_override",
    "fsetid",
    "fowner",
    "mknod",
    "net_raw",
    "setgid",
    "setuid",
    "setfcap",
    "setpcap",
    "net_bind_service",
    "sys_chroot",
    "kill",
    "audit_write",
];
/// Time for a plugin to connect or disconnect a sandbox.
const CNI_DEADLINE: Duration = Duration::from_secs(20);

/// What Kubernetes would tell the container runtime.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; [`PodSpec::new`] gives each pod another.
    pub uid: String,
    /// Its annotations; `None` plays a runtime that tells plugins nothing of annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

impl PodSpec {
    /// A pod without annotations.
    pub fn new(namespace: &str, name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { namespace, name, uid, annotations: Some(BTreeMap::new()) }
    }

    /// With this annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// The value of the annotation `iam.amazonaws.com/NAME`.
    pub fn annotation_of(&self, name: &str) -> Option<String> {
        self.annotations.as_ref()?.get(&format!("iam.amazonaws.com/{name}")).cloned()
    }

    /// With kiam's role annotation.
    #[must_use]
    pub fn role(self, role: &str) -> Self {
        self.annotation("iam.amazonaws.com/role", role)
    }
}

/// A running sandbox. Dropping it removes its network namespace, but, as when a node loses power, not its CNI record;
/// [`Pod::delete`] does both.
#[derive(Debug)]
pub struct Pod {
    spec: PodSpec,
    addresses: Vec<IpAddr>,
    namespace: Namespace,
    home: PathBuf,
    environment: Vec<(String, String)>,
    cni: Cni,
}

/// A sandbox without a network: what the container runtime has before it runs libcni.
#[derive(Debug)]
pub struct Sandbox {
    spec: PodSpec,
    namespace: Namespace,
    home: PathBuf,
    environment: Vec<(String, String)>,
    cni: Cni,
    /// Where libcni's records of this node are.
    results: PathBuf,
}

/// How libcni is run for this pod's node.
#[derive(Debug)]
struct Cni {
    place: Place,
    cnitool: PathBuf,
}

#[derive(Deserialize)]
struct CniResult {
    ips: Vec<CniIp>,
}

#[derive(Deserialize)]
struct CniIp {
    address: String,
}

impl Pod {
    /// Makes the sandbox on `node`. `environment` is what every program in it gets.
    pub async fn new(
        registration: &Registration,
        tools: &Tools,
        node: &Node,
        spec: PodSpec,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        Sandbox::new(registration, tools, node, spec, environment).await?.connect().await
    }

    /// As it was asked for.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The environment of its programs.
    pub fn environment(&self) -> impl Iterator<Item = (&str, String)> {
        let home = ("HOME", self.home.join("home").display().to_string());
        std::iter::once(home).chain(self.environment.iter().map(|(name, value)| (name.as_str(), value.clone())))
    }

    /// A program in this pod: its network, an empty home, its own hosts file, a container's capabilities, and nothing of
    /// this process's environment.
    pub fn place(&self) -> Place {
        let place = self.namespace.place().bind(self.home.join("hosts"), "/etc/hosts").capabilities(&CAPABILITIES);
        self.environment().fold(place, |place, (name, value)| place.env(name, value))
    }

    /// Runs a program in it.
    pub async fn run<S: AsRef<OsStr>>(&self, program: &[S], deadline: Duration) -> Result<Output> {
        self.place().run(program, deadline).await
    }

    /// Removes it as the container runtime does: network and record first, then the namespace.
    pub async fn delete(self) -> Result<()> {
        self.cni.run("del", &self.namespace).await.map(drop)
    }

    pub(crate) fn leave(&mut self) {
        self.namespace.leave();
    }
}

impl Sandbox {
    /// Makes it on `node`. `environment` is what every program in it gets.
    pub async fn new(
        registration: &Registration,
        tools: &Tools,
        node: &Node,
        spec: PodSpec,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // The number tells it from an earlier pod of that name: cnitool makes the sandbox id of the namespace's path.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-pod{number}-{}", registration.id(), spec.name);
        let home = node.directory().join("pods").join(&name);
        fs::create_dir_all(home.join("home"))?;
        fs::write(
            home.join("hosts"),
            format!("127.0.0.1 localhost\n::1 localhost\n{} aws.internal\n", super::SERVICES),
        )?;
        let namespace = Namespace::new(name).await?;
        let cni = Cni::new(tools, node, &spec);
        let results = node.cni_directory().join("results");
        Ok(Self { spec, namespace, home, environment, cni, results })
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Has libcni make its network, which makes it a pod's.
    pub async fn connect(self) -> Result<Pod> {
        let Self { spec, namespace, home, environment, cni, results: _ } = self;
        let addresses = cni.add(&namespace).await.with_context(|| format!("pod {} got no network", spec.name))?;
        Ok(Pod { spec, addresses, namespace, home, environment, cni })
    }

    /// The same, but libcni's record is held back: so that many networks can come to be in one moment on a machine whose
    /// cores could not make them in one.
    pub async fn connect_unseen(mut self) -> Result<Unseen> {
        let held_back = self.home.join("results");
        let directories = [&held_back, &self.results];
        directories.into_iter().try_for_each(fs::create_dir_all)?;
        let (place, results) = (self.cni.place.clone(), self.results.clone());
        self.cni.place = place.clone().bind(&held_back, "/var/lib/cni/results");
        let mut pod = self.connect().await?;
        pod.cni.place = place;
        let record = fs::read_dir(held_back)?.next().context("libcni wrote no record")??;
        Ok(Unseen { pod, name: record.file_name(), record: fs::read(record.path())?, results })
    }
}

/// A pod with a network, of which the agent does not know yet.
#[derive(Debug)]
pub struct Unseen {
    pod: Pod,
    name: OsString,
    record: Vec<u8>,
    results: PathBuf,
}

impl Unseen {
    /// Writes the record as libcni does, in place.
    pub fn appear(self) -> Result<Pod> {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.results.join(self.name))?;
        file.write_all(&self.record)?;
        Ok(self.pod)
    }
}

impl Cni {
    fn new(tools: &Tools, node: &Node, spec: &PodSpec) -> Self {
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
            spec.namespace, spec.name, spec.uid
        );
        let mut place = node.namespace().place().bind(node.cni_directory(), "/var/lib/cni");
        if let Some(annotations) = &spec.annotations {
            place = place.env("CAP_ARGS", json!({ANNOTATIONS_CAPABILITY: annotations}).to_string());
        }
        let place = place
            .env("NETCONFPATH", node.net_d())
            .env("CNI_PATH", "/usr/lib/cni")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", arguments);
        Self { place, cnitool: tools.cnitool() }
    }

    async fn add(&self, namespace: &Namespace) -> Result<Vec<IpAddr>> {
        let result: CniResult = serde_json::from_str(&self.run("add", namespace).await?)?;
        let address = |ip: &CniIp| ip.address.split('/').next().unwrap_or_default().parse().map_err(Into::into);
        result.ips.iter().map(address).collect()
    }

    async fn run(&self, verb: &str, namespace: &Namespace) -> Result<String> {
        let sandbox = PathBuf::from("/run/netns").join(namespace.name());
        let line = [self.cnitool.as_os_str(), verb.as_ref(), CNI_NETWORK.as_ref(), sandbox.as_os_str()];
        self.place.check(&line, CNI_DEADLINE).await
    }
}
