//! Who may import whom (ARCHITECTURE.md): the manifests are the architecture, and this keeps them so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// The crates that are deployed. Each is one program that shares only `model` with the others.
const DEPLOYABLES: [&str; 5] = ["node-agent", "lambda-issuer", "annotation-sync", "loadtest", "kubectl-rolecall"];
/// What no deployable may carry: the development stand-in, and any TLS or cryptography but rustls with ring.
const NEVER_DEPLOYED: [&str; 8] =
    ["local-cloud", "e2e", "fuzz", "libfuzzer-sys", "openssl-sys", "openssl", "aws-lc-sys", "aws-lc-rs"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .exec()
        .expect("cargo metadata works in this workspace")
}

/// Which of ours each of ours imports, in programs, tests and build scripts alike.
fn imports(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let ours: BTreeSet<_> = metadata.workspace_packages().iter().map(|p| p.name.to_string()).collect();
    let of = |package: &&Package| {
        let names = package.dependencies.iter().map(|d| d.name.clone()).filter(|name| ours.contains(name));
        (package.name.to_string(), names.collect())
    };
    metadata.workspace_packages().iter().map(of).collect()
}

#[test]
fn arrows_point_down_only() {
    let only_model = BTreeSet::from(["model".to_owned()]);
    for (package, imported) in imports(&metadata()) {
        match package.as_str() {
            "model" => assert_eq!(imported, BTreeSet::new(), "model is pure and the lowest"),
            "e2e" | "fuzz" | "xtask" => {}
            _ => assert!(imported.is_subset(&only_model), "{package} may import only model of ours: {imported:?}"),
        }
    }
}

#[test]
fn a_deployable_carries_no_stand_in_and_one_cryptography() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        if DEPLOYABLES.contains(&package.name.as_str()) {
            let carried = shipped_with(&metadata, &package.id);
            for never in NEVER_DEPLOYED {
                assert!(!carried.contains(never), "{} carries {never}: see cargo tree -i {never}", package.name);
            }
        }
    }
}

/// The names of all packages that end up in the programs of `root`.
fn shipped_with(metadata: &Metadata, root: &PackageId) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("asked for with dependencies");
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![root];
    while let Some(id) = waiting.pop() {
        if seen.insert(id) {
            let normal = |kinds: &[cargo_metadata::DepKindInfo]| kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            waiting.extend(nodes[id].deps.iter().filter(|dep| normal(&dep.dep_kinds)).map(|dep| &dep.pkg));
        }
    }
    seen.into_iter().map(|id| metadata[id].name.to_string()).collect()
}

#[test]
fn every_file_is_named_after_what_is_in_it() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let directory = package.manifest_path.parent().unwrap();
        for room in ["src", "tests", "benches"] {
            check_names(directory.join(room).as_std_path());
        }
    }
}

fn check_names(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.expect("the directory is being listed").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(!EMPTY_NAMES.contains(&name.as_str()), "{} says nothing about what is inside", path.display());
        if path.is_dir() {
            check_names(&path);
        }
    }
}
