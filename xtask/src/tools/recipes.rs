//! How each tool is made. A version is written here and nowhere else.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::Wanted;
use crate::command::{is_on_path, run_quietly};
use crate::workspace::cargo;

/// One tool: `install` fills an empty directory.
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// All that decides what comes out; a change makes the tool anew.
    pub(super) stamp: String,
    pub(super) install: fn(&Path) -> Result<()>,
}

// The two Python tools need different versions of the same libraries: each has an environment of its own.
const MINISTACK: &str = include_str!("ministack.txt");
const AWSCLI: &str = include_str!("awscli.txt");
const CNITOOL: &str = "v1.3.1";
const CARGO_DENY: &str = "0.20.2";

/// The tools that are wanted, the quick ones first.
pub(super) fn all(wanted: Wanted) -> Vec<Recipe> {
    let mut recipes = vec![
        Recipe {
            name: "ministack",
            version: "1.5.33",
            stamp: MINISTACK.into(),
            install: |to| python(to, "ministack.txt"),
        },
        Recipe { name: "awscli", version: "1.46.2", stamp: AWSCLI.into(), install: |to| python(to, "awscli.txt") },
        Recipe { name: "cnitool", version: CNITOOL, stamp: CNITOOL.into(), install: cnitool },
    ];
    if wanted == Wanted::Everything {
        let stamp = CARGO_DENY.into();
        recipes.push(Recipe { name: "cargo-deny", version: CARGO_DENY, stamp, install: cargo_deny });
    }
    recipes
}

/// A virtual environment with what the requirements file pins, hashes checked.
fn python(directory: &Path, requirements: &str) -> Result<()> {
    ensure!(is_on_path("python3"), "python3 is missing: please install python3 and python3-venv");
    let made = run_quietly(Command::new("python3").args(["-m", "venv"]).arg(directory));
    ensure!(made.is_ok(), "python3 cannot make a virtual environment: please install python3-venv");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools").join(requirements);
    let mut pip = Command::new(directory.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement"]);
    run_quietly(pip.arg(requirements))
}

/// cnitool runs CNI plugins through libcni, which writes the records that the agent reads.
fn cnitool(directory: &Path) -> Result<()> {
    ensure!(is_on_path("go"), "go is missing: please install Go 1.21 or newer");
    let package = format!("github.com/containernetworking/cni/cnitool@{CNITOOL}");
    run_quietly(Command::new("go").args(["install", &package]).env("GOBIN", directory).env("CGO_ENABLED", "0"))
}

fn cargo_deny(directory: &Path) -> Result<()> {
    ensure!(is_on_path("cc"), "cc is missing: please install gcc or another C compiler");
    let mut install = cargo();
    install.args(["install", "--locked", "--quiet", "cargo-deny", "--version", CARGO_DENY, "--root"]).arg(directory);
    // Its build must neither be found in nor disturb the workspace's own.
    run_quietly(install.env("CARGO_TARGET_DIR", directory.join("build")))?;
    std::fs::remove_dir_all(directory.join("build")).map_err(Into::into)
}
