//! Every seed runs through its target in the ordinary tests, without libFuzzer: what once found a fault stays found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

#[test]
fn every_target_has_seeds_and_every_directory_a_target() {
    let names = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let directories: BTreeSet<String> = fs::read_dir(seeds()).unwrap().map(|entry| names(entry.unwrap())).collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(directories, targets);
}

#[test]
fn no_seed_finds_a_fault() {
    for target in TARGETS {
        let files = fs::read_dir(seeds().join(target.name)).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = files.collect();
        assert!(files.len() >= 3, "{} has too few seeds", target.name);
        for file in files {
            let input = fs::read(&file).unwrap();
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{} finds a fault", file.display());
        }
    }
}
