use std::collections::HashMap;
use std::fs;
use std::path::Path;

use prometheus_client::registry::Registry;
use serde_json::json;
use tempfile::TempDir;

use super::*;

mod model;

pub(super) const ROLE: &str = "iam.amazonaws.com/role";

/// A routing table that a test edits: address to interface.
#[derive(Clone, Default)]
pub(super) struct FakeRoutes(Arc<Mutex<HashMap<IpAddr, String>>>);

impl FakeRoutes {
    pub(super) fn set(&self, address: &str, interface: &str) {
        self.0.lock().unwrap().insert(ip(address), interface.to_owned());
    }

    pub(super) fn unset(&self, address: &str) {
        self.0.lock().unwrap().remove(&ip(address));
    }
}

impl Routes for FakeRoutes {
    fn interface_to(&self, address: IpAddr) -> Result<Option<Interface>, RouteError> {
        Ok(self.0.lock().unwrap().get(&address).map(|name| Interface { index: 1, name: name.clone() }))
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One record to write: container id, pod, host-side interfaces and addresses.
pub(super) struct Written<'a> {
    pub(super) id: &'a str,
    pub(super) pod: &'a str,
    pub(super) interfaces: &'a [&'a str],
    pub(super) addresses: &'a [&'a str],
}

impl Written<'_> {
    pub(super) fn file(&self) -> String {
        format!("net-{}-eth0", self.id)
    }

    pub(super) fn text(&self, network: &str) -> String {
        let interfaces: Vec<_> = self.interfaces.iter().map(|name| json!({"name": name})).collect();
        let ips: Vec<_> = self.addresses.iter().map(|address| json!({"address": address})).collect();
        json!({
            "kind": "cniCacheV1", "containerId": self.id, "ifName": "eth0", "networkName": network,
            "cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", self.pod], ["K8S_POD_UID", format!("uid-{}", self.id)]],
            "result": {"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips},
        })
        .to_string()
    }
}

struct Node {
    dir: TempDir,
    routes: FakeRoutes,
}

impl Node {
    fn new() -> Self {
        let node = Self { dir: TempDir::new().unwrap(), routes: FakeRoutes::default() };
        fs::create_dir(node.results()).unwrap();
        node
    }

    fn results(&self) -> PathBuf {
        self.dir.path().join("results")
    }

    fn write(&self, id: &str, interfaces: &[&str], addresses: &[&str]) -> PathBuf {
        let record = Written { id, pod: "web-0", interfaces, addresses };
        let path = self.results().join(record.file());
        fs::write(&path, record.text("net")).unwrap();
        path
    }

    /// A pod as VPC CNI makes it: a record, an interface of its own, a route.
    fn pod(&self, id: &str, interface: &str, address: &str) -> PathBuf {
        self.routes.set(address, interface);
        self.write(id, &[interface], &[address])
    }

    fn start(&self) -> (Arc<Identity>, mpsc::UnboundedReceiver<SandboxChange>) {
        self.start_with(false)
    }

    fn start_with(&self, allow_shared_interface: bool) -> (Arc<Identity>, mpsc::UnboundedReceiver<SandboxChange>) {
        start_in(&self.results(), self.routes.clone(), allow_shared_interface).unwrap()
    }
}

fn start_in(
    cni_dir: &Path,
    routes: FakeRoutes,
    allow_shared_interface: bool,
) -> Result<(Arc<Identity>, mpsc::UnboundedReceiver<SandboxChange>), StartError> {
    let config = IdentityConfig { cni_dir: cni_dir.to_owned(), role_annotation: ROLE.into(), allow_shared_interface };
    Identity::start(config, routes, IdentityMetrics::default())
}

fn who(identity: &Identity, address: &str) -> Result<String, String> {
    match identity.who(ip(address)) {
        Ok(sandbox) => Ok(sandbox.id.as_str().to_owned()),
        Err(error) => Err(format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned()),
    }
}

fn set_written(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[tokio::test]
async fn a_pod_is_known_as_soon_as_its_record_is_closed() {
    let node = Node::new();
    let (identity, _changes) = node.start();
    node.routes.set("10.0.0.2", "eniA");
    assert_eq!(who(&identity, "10.0.0.2"), Err("Unknown".into()));
    node.pod("a", "eniA", "10.0.0.2");
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));
    assert_eq!(who(&identity, "::ffff:10.0.0.2"), Ok("a".into()), "as a dual-stack listener sees it");
    assert_eq!(who(&identity, "10.0.0.3"), Err("NotRouted".into()));
}

#[tokio::test]
async fn the_results_directory_may_appear_later_and_be_replaced() {
    let node = Node::new();
    fs::remove_dir(node.results()).unwrap();
    let (identity, mut changes) = node.start();
    fs::create_dir(node.results()).unwrap();
    node.pod("a", "eniA", "10.0.0.2");
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));

    fs::rename(node.results(), node.dir.path().join("old")).unwrap();
    assert_eq!(who(&identity, "10.0.0.2"), Err("Unknown".into()));
    fs::create_dir(node.results()).unwrap();
    fs::write(node.dir.path().join("old/net-b-eth0"), "{}").unwrap();
    node.pod("c", "eniC", "10.0.0.3");
    assert_eq!(who(&identity, "10.0.0.3"), Ok("c".into()));

    fs::remove_dir_all(node.results()).unwrap();
    assert_eq!(who(&identity, "10.0.0.3"), Err("Unknown".into()));
    let mut log = Vec::new();
    while let Ok(change) = changes.try_recv() {
        log.push(match change {
            SandboxChange::Added(sandbox) => format!("+{}", sandbox.id),
            SandboxChange::Removed(id) => format!("-{id}"),
        });
    }
    assert_eq!(log, ["+a", "-a", "+c", "-c"]);
}

#[tokio::test]
async fn changes_are_told_without_a_question() {
    let node = Node::new();
    node.pod("a", "eniA", "10.0.0.2");
    let (identity, mut changes) = node.start();
    let runner = {
        let identity = Arc::clone(&identity);
        tokio::spawn(async move { identity.run(|_| ()).await })
    };
    let mut next = async || tokio::time::timeout(Duration::from_secs(10), changes.recv()).await.unwrap().unwrap();
    let SandboxChange::Added(first) = next().await else { panic!("the sandbox that was there already") };
    assert_eq!((first.id.as_str(), first.pod.to_string()), ("a", "default/web-0".to_owned()));
    let path = node.pod("b", "eniB", "10.0.0.3");
    let SandboxChange::Added(second) = next().await else { panic!("the new one") };
    assert!(identity.is_current(&second.id));
    assert_eq!(identity.sandboxes().len(), 2);
    fs::remove_file(path).unwrap();
    assert_eq!(next().await, SandboxChange::Removed(second.id.clone()));
    assert!(!identity.is_current(&second.id));
    runner.abort();
}

#[tokio::test]
async fn a_torn_record_counts_once_it_is_whole() {
    let node = Node::new();
    let (identity, _changes) = node.start();
    let path = node.pod("a", "eniA", "10.0.0.2");
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(who(&identity, "10.0.0.2"), Err("Unknown".into()));
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));
}

#[tokio::test]
async fn a_superseded_record_never_speaks_for_its_address_again() {
    let node = Node::new();
    let (identity, _changes) = node.start();
    let _a = node.pod("a", "eniX", "10.0.0.2");
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));
    // The same pod name again: VPC CNI gives it the same interface name, and here also the same address.
    let b = node.pod("b", "eniX", "10.0.0.2");
    assert_eq!(who(&identity, "10.0.0.2"), Ok("b".into()));
    fs::remove_file(b).unwrap();
    assert_eq!(who(&identity, "10.0.0.2"), Err("NotARoutedPod".into()), "a was superseded");
}

#[tokio::test]
async fn a_record_left_over_on_another_interface_does_not_speak() {
    let node = Node::new();
    let (identity, _changes) = node.start();
    node.write("a", &["eniA"], &["10.0.0.2"]);
    node.routes.set("10.0.0.2", "eniB");
    assert_eq!(who(&identity, "10.0.0.2"), Err("NotARoutedPod".into()));
    node.routes.unset("10.0.0.2");
    assert_eq!(who(&identity, "10.0.0.2"), Err("NotRouted".into()));
}

#[tokio::test]
async fn the_kernels_route_decides_between_records_found_together() {
    let node = Node::new();
    let a = node.write("a", &["eniA"], &["10.0.0.2"]);
    let b = node.write("b", &["eniB"], &["10.0.0.2"]);
    set_written(&a, 2_000);
    set_written(&b, 1_000);
    node.routes.set("10.0.0.2", "eniB");
    assert_eq!(who(&node.start().0, "10.0.0.2"), Ok("b".into()), "whatever the clock said");
}

#[tokio::test]
async fn the_later_of_two_found_together_on_one_interface_speaks_and_equal_times_are_ambiguous() {
    let node = Node::new();
    let a = node.write("a", &["eniX"], &["10.0.0.2"]);
    let b = node.write("b", &["eniX"], &["10.0.0.2"]);
    node.routes.set("10.0.0.2", "eniX");
    set_written(&a, 2_000);
    set_written(&b, 1_000);
    let (identity, _changes) = node.start();
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));
    set_written(&b, 2_000);
    assert_eq!(who(&node.start().0, "10.0.0.2"), Err("Ambiguous".into()));
    fs::remove_file(b).unwrap();
    assert_eq!(who(&node.start().0, "10.0.0.2"), Ok("a".into()));
}

#[tokio::test]
async fn a_bridge_is_refused_unless_it_is_accepted() {
    let node = Node::new();
    set_written(&node.pod("a", "cni0", "10.0.0.2"), 1_000);
    set_written(&node.pod("b", "cni0", "10.0.0.3"), 2_000);
    let (identity, _changes) = node.start();
    let refused = identity.who(ip("10.0.0.2")).unwrap_err().to_string();
    assert_eq!(
        refused,
        "several pods share interface cni0, so they can take each other's address: use a CNI that gives each pod its own, \
         or accept it with --allow-shared-interface"
    );
    let (identity, _changes) = node.start_with(true);
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));
    assert_eq!(who(&identity, "10.0.0.3"), Ok("b".into()));
    node.routes.set("169.254.172.9", "cni0");
    assert_eq!(who(&identity, "169.254.172.9"), Err("SharedInterface".into()), "no record names it: anybody's");
}

#[tokio::test]
async fn an_address_that_no_record_names_is_that_of_the_one_live_record_of_its_interface() {
    let node = Node::new();
    let (identity, _changes) = node.start();
    node.routes.set("169.254.172.2", "eniX");
    let a = node.pod("a", "eniX", "fd00::2");
    assert_eq!(who(&identity, "169.254.172.2"), Ok("a".into()), "as on EKS with IPv6");
    // Replaced under the same interface name: the old record is still there for a moment.
    node.routes.unset("fd00::2");
    assert_eq!(who(&identity, "169.254.172.2"), Err("Unknown".into()), "no address of it is routed: left over");
    node.pod("b", "eniX", "fd00::3");
    assert_eq!(who(&identity, "169.254.172.2"), Ok("b".into()));
    node.routes.set("fd00::2", "eniX");
    assert_eq!(who(&identity, "169.254.172.2"), Err("SharedInterface".into()), "both live: a bridge");
    fs::remove_file(a).unwrap();
    assert_eq!(who(&identity, "169.254.172.2"), Ok("b".into()));
}

#[tokio::test]
async fn a_link_local_address_is_nobodys_whatever_interface_the_kernel_names() {
    let node = Node::new();
    node.pod("a", "eniA", "fd00:1::2");
    // Asked for such an address, the kernel names the first interface that has any.
    node.routes.set("fe80::1", "eniA");
    assert_eq!(who(&node.start().0, "fd00:1::2"), Ok("a".into()));
    assert_eq!(who(&node.start().0, "fe80::1"), Err("LinkLocal".into()));
}

#[tokio::test]
async fn several_networks_of_one_container_are_one_sandbox() {
    let node = Node::new();
    let (identity, _changes) = node.start();
    node.pod("a", "eniA", "10.0.0.2");
    let second = Written { id: "a", pod: "web-0", interfaces: &["vethA"], addresses: &["192.168.0.2"] };
    fs::write(node.results().join("multus-a-eth0"), second.text("multus")).unwrap();
    node.routes.set("192.168.0.2", "vethA");
    let sandbox = identity.who(ip("192.168.0.2")).unwrap();
    assert_eq!(sandbox.addresses, [ip("10.0.0.2"), ip("192.168.0.2")]);
    assert_eq!(sandbox.host_interfaces, ["eniA", "vethA"]);
    assert_eq!(identity.who(ip("10.0.0.2")).unwrap(), sandbox);

    let other_pod = Written { pod: "web-1", ..second };
    fs::write(node.results().join("multus-a-eth0"), other_pod.text("multus")).unwrap();
    assert_eq!(who(&identity, "10.0.0.2"), Err("Ambiguous".into()), "records of one container that name two pods");
}

#[tokio::test]
async fn an_overflow_of_the_queue_is_made_good_before_the_answer() {
    let node = Node::new();
    let (identity, _changes) = node.start();
    let a = node.pod("a", "eniX", "10.0.0.2");
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let noise = [node.results().join("x"), node.results().join("y")];
    for turn in 0..=limit {
        // In turn, since the kernel joins equal neighbours in its queue.
        fs::write(&noise[turn % 2], "").unwrap();
    }
    fs::remove_file(a).unwrap();
    node.pod("b", "eniX", "10.0.0.2");
    assert_eq!(who(&identity, "10.0.0.2"), Ok("b".into()));
}

#[tokio::test]
async fn nobody_is_answered_while_the_records_cannot_be_read() {
    let node = Node::new();
    node.pod("a", "eniA", "10.0.0.2");
    let (identity, _changes) = node.start();
    fs::rename(node.results(), node.dir.path().join("away")).unwrap();
    fs::write(node.results(), "no directory").unwrap();
    assert_eq!(who(&identity, "10.0.0.2"), Err("Unreadable".into()));
    assert_eq!(who(&identity, "10.0.0.2"), Err("Unreadable".into()));
    fs::remove_file(node.results()).unwrap();
    fs::rename(node.dir.path().join("away"), node.results()).unwrap();
    assert_eq!(who(&identity, "10.0.0.2"), Ok("a".into()));
}

#[tokio::test]
async fn links_and_pipes_are_no_records() {
    let node = Node::new();
    let elsewhere = node.dir.path().join("elsewhere");
    fs::write(&elsewhere, Written { id: "a", pod: "p", interfaces: &["eniA"], addresses: &["10.0.0.2"] }.text("net"))
        .unwrap();
    std::os::unix::fs::symlink(&elsewhere, node.results().join("net-a-eth0")).unwrap();
    nix::unistd::mkfifo(&node.results().join("net-b-eth0"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    node.routes.set("10.0.0.2", "eniA");
    assert_eq!(who(&node.start().0, "10.0.0.2"), Err("Unknown".into()));
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_stops_the_start_with_its_reason() {
    let dir = TempDir::new().unwrap();
    let error = |path: &Path| start_in(path, FakeRoutes::default(), false).map(drop).unwrap_err();
    assert!(matches!(error(Path::new("/")), StartError::BadPath(_)));
    assert!(matches!(error(&dir.path().join("missing/results")), StartError::Parent { .. }));
    fs::write(dir.path().join("results"), "").unwrap();
    assert!(matches!(error(&dir.path().join("results")), StartError::Results { .. }));
}

#[tokio::test]
async fn the_age_of_a_sandbox_is_that_of_its_first_record() {
    let node = Node::new();
    set_written(&node.pod("a", "eniA", "10.0.0.2"), 1_795_475_000);
    let (identity, _changes) = node.start();
    let sandbox = identity.who(ip("10.0.0.2")).unwrap();
    assert_eq!(sandbox.created, model_time(1_795_475_000));
}

fn model_time(seconds: u64) -> ::model::time::UnixMillis {
    ::model::time::UnixMillis::from_secs(seconds)
}

#[tokio::test]
async fn what_is_skipped_is_counted_by_reason() {
    let node = Node::new();
    fs::write(node.results().join("empty"), "").unwrap();
    fs::write(node.results().join("foreign"), "{}").unwrap();
    fs::write(node.results().join("long"), vec![b' '; 1024 * 1024 + 1]).unwrap();
    fs::create_dir(node.results().join("directory")).unwrap();
    node.pod("a", "eniA", "10.0.0.2");
    let mut registry = Registry::default();
    let metrics = IdentityMetrics::register(&mut registry);
    let config =
        IdentityConfig { cni_dir: node.results(), role_annotation: ROLE.into(), allow_shared_interface: false };
    let (_identity, _changes) = Identity::start(config, node.routes.clone(), metrics).unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "cni_records_skipped_total{reason=\"Empty\"} 1",
        "cni_records_skipped_total{reason=\"Foreign\"} 1",
        "cni_records_skipped_total{reason=\"TooLong\"} 1",
        "cni_records_skipped_total{reason=\"Unreadable\"} 1",
        "cni_rescans_total 1",
        "sandboxes 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}
