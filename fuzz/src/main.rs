//! A fuzzer of one target, which `FUZZ_TARGET` names; its arguments are libFuzzer's. `cargo xtask fuzz` builds it with the
//! coverage that libFuzzer steers by, and runs it.
#![no_main]

use std::sync::OnceLock;

use fuzz::{TARGETS, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn named_target() -> &'static Target {
    let name = std::env::var_os("FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| name == target.name).expect("FUZZ_TARGET names one of the directories of fuzz/seeds")
}

libfuzzer_sys::fuzz_target!(init: { TARGET.get_or_init(named_target) }, |input: &[u8]| {
    (TARGET.get_or_init(named_target).run)(input);
});
