//! Random lives of pods against a reference that remembers only who has an address now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::super::lookup;
use super::super::records::Records;
use super::{FakeRoutes, IdentityMetrics, ROLE, Written, ip, set_written};

const ADDRESSES: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const NAMES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A pod of that name gets the address; its record is written at once, or torn first.
    Start { name: usize, address: usize, torn: bool },
    /// The record of the pod of that name, torn so far, is completed.
    Complete { name: usize },
    /// The pod of that name ends: its address and route are free, its record stays.
    Stop { name: usize },
    /// One of the records that are left over is deleted.
    Delete { which: usize },
    /// The queue overflows: what was not delivered is lost, and known to be. The last of it comes nevertheless, after the
    /// reading that has seen those files already.
    Overflow { late: usize },
    /// Another agent starts on the same directory.
    Restart,
    /// Somebody asks, so that the queue is drained here.
    Ask,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..NAMES, 0..ADDRESSES.len(), prop::bool::weighted(0.3)).prop_map(|(name, address, torn)| Step::Start { name, address, torn }),
        3 => (0..NAMES).prop_map(|name| Step::Complete { name }),
        5 => (0..NAMES).prop_map(|name| Step::Stop { name }),
        4 => (0_usize..8).prop_map(|which| Step::Delete { which }),
        2 => (0_usize..5).prop_map(|late| Step::Overflow { late }),
        1 => Just(Step::Restart),
        4 => Just(Step::Ask),
    ]
}

struct Pod {
    id: String,
    address: usize,
    is_whole: bool,
}

struct World {
    dir: TempDir,
    routes: FakeRoutes,
    records: Records,
    /// Running pods by name.
    pods: BTreeMap<usize, Pod>,
    /// Files of pods that have ended.
    leftovers: BTreeSet<String>,
    /// Files that were written or deleted, in order and not yet delivered.
    queue: Vec<String>,
    count: u64,
    /// Whether a reading of the whole directory uses the files' times; equal times may make it ambiguous.
    has_equal_times: bool,
}

fn records(dir: &TempDir) -> Records {
    let changes = mpsc::unbounded_channel().0;
    Records::new(dir.path().to_owned(), ROLE.into(), IdentityMetrics::default(), changes)
}

impl World {
    fn new(has_equal_times: bool) -> Self {
        let dir = TempDir::new().unwrap();
        let records = records(&dir);
        let (pods, leftovers) = (BTreeMap::new(), BTreeSet::new());
        Self { dir, routes: FakeRoutes::default(), records, pods, leftovers, queue: vec![], count: 0, has_equal_times }
    }

    fn write(&mut self, id: &str, name: usize, address: usize, is_whole: bool) {
        let (pod, interface) = (format!("web-{name}"), format!("eni{name}"));
        let record = Written { id, pod: &pod, interfaces: &[&interface], addresses: &[ADDRESSES[address]] };
        let text = record.text("net");
        let path = self.dir.path().join(record.file());
        fs::write(&path, if is_whole { text.as_str() } else { &text[..text.len() / 2] }).unwrap();
        set_written(&path, if self.has_equal_times { 1_000 } else { 1_000 + self.count });
        self.queue.push(record.file());
    }

    fn take(&mut self, step: &Step) {
        self.count += 1;
        match *step {
            Step::Start { name, address, torn } => {
                let is_free = !self.pods.contains_key(&name) && self.pods.values().all(|pod| pod.address != address);
                if is_free {
                    let id = format!("c{}", self.count);
                    self.routes.set(ADDRESSES[address], &format!("eni{name}"));
                    self.write(&id, name, address, !torn);
                    self.pods.insert(name, Pod { id, address, is_whole: !torn });
                }
            }
            Step::Complete { name } => {
                if let Some(pod) = self.pods.get_mut(&name).filter(|pod| !pod.is_whole) {
                    pod.is_whole = true;
                    let (id, address) = (pod.id.clone(), pod.address);
                    self.write(&id, name, address, true);
                }
            }
            Step::Stop { name } => {
                if let Some(pod) = self.pods.remove(&name) {
                    self.routes.unset(ADDRESSES[pod.address]);
                    self.leftovers.insert(format!("net-{}-eth0", pod.id));
                }
            }
            Step::Delete { which } => {
                if let Some(file) = self.leftovers.iter().nth(which).cloned() {
                    self.leftovers.remove(&file);
                    fs::remove_file(self.dir.path().join(&file)).unwrap();
                    self.queue.push(file);
                }
            }
            Step::Overflow { late } => {
                self.queue.drain(..self.queue.len().saturating_sub(late));
                self.records.rescan().unwrap();
            }
            Step::Restart => {
                self.queue.clear();
                self.records = records(&self.dir);
                self.records.rescan().unwrap();
            }
            Step::Ask => self.deliver(),
        }
    }

    fn deliver(&mut self) {
        for file in std::mem::take(&mut self.queue) {
            // An event of a file that is gone by now reads nothing, as with inotify.
            self.records.written(&file).unwrap();
        }
    }

    fn check(&mut self) {
        self.deliver();
        for (place, address) in ADDRESSES.iter().enumerate() {
            let pod = self.pods.values().find(|pod| pod.address == place);
            if pod.is_some_and(|pod| !pod.is_whole) {
                // libcni has not returned, so no container of it runs: nobody can ask from there.
                continue;
            }
            let owner = pod.map(|pod| pod.id.as_str());
            let said = lookup::who(self.records.table(), &self.routes, false, ip(address));
            let said = said.as_ref().map(|sandbox| sandbox.id.as_str());
            if self.has_equal_times {
                assert!(said.is_err() || said.ok() == owner, "{address}: said {said:?}, owner {owner:?}");
            } else {
                assert_eq!(said.as_ref().ok().copied(), owner, "{address}: {said:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn only_the_owner_of_an_address_is_ever_named(
        steps in prop::collection::vec(step(), 1..60),
        has_equal_times in prop::bool::weighted(0.2),
    ) {
        let mut world = World::new(has_equal_times);
        for step in &steps {
            world.take(step);
            if matches!(step, Step::Ask | Step::Overflow { .. } | Step::Restart) {
                world.check();
            }
        }
        world.check();
    }
}
