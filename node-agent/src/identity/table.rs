//! All records of the node, and who may speak for which address. Pure: no file, no kernel, no clock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::time::UnixMillis;

use super::record::Record;
use super::sandbox::{RoleHint, Sandbox, SandboxChange, SandboxId};

/// When a record came, relative to others. Each event has an epoch of its own; all that one reading of the directory
/// finds share theirs, and only among those do the files' times count. Those times are a guess (the clock may have been set
/// back), which the event of the same writing, where it is still to come, replaces by what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) epoch: u64,
    /// Nanoseconds since 1970.
    pub(super) written: i128,
    /// Whether it was found by reading the directory, and no event has told its place yet.
    pub(super) guessed: bool,
}

/// A record's file.
type File = Arc<str>;

#[derive(Debug)]
struct Entry {
    record: Record,
    order: Order,
    /// Addresses for which a later record of another sandbox has come. It never speaks for them again.
    lost: HashSet<IpAddr>,
    /// Interfaces that a later record of another sandbox lists too. It speaks on them for no address that no record names.
    lost_interfaces: HashSet<String>,
}

/// Records by file, address, interface and sandbox.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<File, Entry>,
    by_address: HashMap<IpAddr, BTreeSet<File>>,
    by_interface: HashMap<String, BTreeSet<File>>,
    by_sandbox: HashMap<SandboxId, BTreeSet<File>>,
    sandboxes: HashMap<SandboxId, Arc<Sandbox>>,
}

impl Table {
    /// Puts what `file` now says in place of what it said before; what it has lost stays lost, unless it was lost by a guess.
    pub(super) fn insert(&mut self, file: &str, record: Record, order: Order) -> Option<SandboxChange> {
        let is_placed = |entry: &Entry| entry.order.guessed && !order.guessed;
        if self.entries.get(file).is_some_and(|entry| entry.record == record && !is_placed(entry)) {
            return None;
        }
        let file: File = file.into();
        let before = self.detach(&file);
        let changed_id = before.as_ref().map(|e| e.record.id.clone()).filter(|id| *id != record.id);
        debug_assert!(changed_id.is_none(), "a file's name holds its sandbox's id");
        let kept = before.filter(|entry| !is_placed(entry));
        let (lost, lost_interfaces) = kept.map(|e| (e.lost, e.lost_interfaces)).unwrap_or_default();
        let id = record.id.clone();
        let mut entry = Entry { record, order, lost, lost_interfaces };
        self.settle(&mut entry);
        self.attach(file, entry);
        self.refresh(&id)
    }

    /// Forgets `file`.
    pub(super) fn remove(&mut self, file: &str) -> Option<SandboxChange> {
        let entry = self.detach(file)?;
        self.refresh(&entry.record.id)
    }

    /// Lets the later of two records have what both claim. Two that one reading found and that no interface tells apart
    /// are told apart by their files' times, and not at all when those are equal; with an interface of its own each, the
    /// kernel's route will decide.
    fn settle(&mut self, new: &mut Entry) {
        for address in &new.record.addresses {
            for file in self.by_address.get(address).into_iter().flatten() {
                let Some(other) = self.entries.get_mut(file).filter(|other| other.record.id != new.record.id) else {
                    continue;
                };
                let ordered = other.order.epoch != new.order.epoch || other.shares_interface(new);
                if ordered && other.order < new.order {
                    other.lost.insert(*address);
                } else if ordered && new.order < other.order {
                    new.lost.insert(*address);
                }
            }
        }
        for interface in &new.record.host_interfaces {
            for file in self.by_interface.get(interface).into_iter().flatten() {
                let Some(other) = self.entries.get_mut(file).filter(|other| other.record.id != new.record.id) else {
                    continue;
                };
                if other.order < new.order {
                    other.lost_interfaces.insert(interface.clone());
                } else if new.order < other.order {
                    new.lost_interfaces.insert(interface.clone());
                }
            }
        }
    }

    fn attach(&mut self, file: File, entry: Entry) {
        // Without an end on the host no packet comes from it, so it must not take an address from one that has.
        if !entry.record.host_interfaces.is_empty() {
            for address in &entry.record.addresses {
                self.by_address.entry(*address).or_default().insert(file.clone());
            }
        }
        for interface in &entry.record.host_interfaces {
            self.by_interface.entry(interface.clone()).or_default().insert(file.clone());
        }
        self.by_sandbox.entry(entry.record.id.clone()).or_default().insert(file.clone());
        self.entries.insert(file, entry);
    }

    fn detach(&mut self, file: &str) -> Option<Entry> {
        let entry = self.entries.remove(file)?;
        for address in &entry.record.addresses {
            drop_from(&mut self.by_address, address, file);
        }
        for interface in &entry.record.host_interfaces {
            drop_from(&mut self.by_interface, interface, file);
        }
        drop_from(&mut self.by_sandbox, &entry.record.id, file);
        Some(entry)
    }

    /// Puts the sandbox together again from its records.
    fn refresh(&mut self, id: &SandboxId) -> Option<SandboxChange> {
        let entries = self.by_sandbox.get(id).into_iter().flatten().filter_map(|file| self.entries.get(file));
        match Sandbox::from_entries(entries) {
            Some(sandbox) if self.sandboxes.get(id).is_some_and(|known| **known == sandbox) => None,
            Some(sandbox) => {
                let sandbox = Arc::new(sandbox);
                self.sandboxes.insert(id.clone(), Arc::clone(&sandbox));
                Some(SandboxChange::Added(sandbox))
            }
            None => self.sandboxes.remove(id).map(|_| SandboxChange::Removed(id.clone())),
        }
    }

    /// Whether any record names `address`, also one that no longer speaks for it.
    pub(super) fn names(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// The sandboxes that speak for `address` on `interface` because a record names both.
    pub(super) fn speakers(&self, address: IpAddr, interface: &str) -> BTreeSet<&SandboxId> {
        let files = self.by_address.get(&address).into_iter().flatten();
        files
            .filter_map(|file| self.entries.get(file))
            .filter(|entry| !entry.lost.contains(&address) && entry.lists(interface))
            .map(|entry| &entry.record.id)
            .collect()
    }

    /// The sandboxes that list `interface`; with `latest`, without those that a later one has replaced on it.
    pub(super) fn listing(&self, interface: &str, latest: bool) -> BTreeSet<&SandboxId> {
        let files = self.by_interface.get(interface).into_iter().flatten();
        files
            .filter_map(|file| self.entries.get(file))
            .filter(|entry| !latest || !entry.lost_interfaces.contains(interface))
            .map(|entry| &entry.record.id)
            .collect()
    }

    /// The addresses that the sandbox's records name together with `interface` and have not lost.
    pub(super) fn addresses_on(&self, id: &SandboxId, interface: &str) -> Vec<IpAddr> {
        let files = self.by_sandbox.get(id).into_iter().flatten();
        files
            .filter_map(|file| self.entries.get(file))
            .filter(|entry| entry.lists(interface))
            .flat_map(|entry| entry.record.addresses.iter().filter(|address| !entry.lost.contains(address)))
            .copied()
            .collect()
    }

    /// The sandbox of that id.
    pub(super) fn sandbox(&self, id: &SandboxId) -> Option<&Arc<Sandbox>> {
        self.sandboxes.get(id)
    }

    /// All sandboxes.
    pub(super) fn sandboxes(&self) -> impl ExactSizeIterator<Item = &Arc<Sandbox>> {
        self.sandboxes.values()
    }
}

impl Entry {
    fn lists(&self, interface: &str) -> bool {
        self.record.host_interfaces.iter().any(|name| name == interface)
    }

    fn shares_interface(&self, other: &Self) -> bool {
        self.record.host_interfaces.iter().any(|name| other.lists(name))
    }
}

impl Sandbox {
    /// All records of one id together: several networks (Multus) are one sandbox. Records that name different pods are
    /// no sandbox at all.
    fn from_entries<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<Self> {
        let mut whole: Option<Self> = None;
        for Entry { record, order, .. } in entries {
            let created = UnixMillis(u64::try_from(order.written / 1_000_000).unwrap_or_default());
            let sandbox = whole.get_or_insert_with(|| Self {
                id: record.id.clone(),
                pod: record.pod.clone(),
                created,
                hint: record.hint,
                role: record.role,
                addresses: Vec::new(),
                host_interfaces: Vec::new(),
            });
            if sandbox.pod != record.pod {
                return None;
            }
            sandbox.created = sandbox.created.min(created);
            sandbox.hint = sandbox.hint.or(record.hint);
            sandbox.role = sandbox.role.or(record.role);
            sandbox.addresses.extend(&record.addresses);
            sandbox.host_interfaces.extend(record.host_interfaces.iter().cloned());
        }
        let mut sandbox = whole?;
        sandbox.addresses.sort_unstable();
        sandbox.addresses.dedup();
        sandbox.host_interfaces.sort_unstable();
        sandbox.host_interfaces.dedup();
        Some(sandbox)
    }
}

impl RoleHint {
    /// What two records of one sandbox say together: one that has the annotations knows, one without does not.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Annotated, _) | (_, Self::Annotated) => Self::Annotated,
            (Self::NotAnnotated, _) | (_, Self::NotAnnotated) => Self::NotAnnotated,
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }
}

fn drop_from<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<File>>, key: &K, file: &str) {
    if let Some(files) = index.get_mut(key) {
        files.remove(file);
        if files.is_empty() {
            index.remove(key);
        }
    }
}
