//! Where things are: the workspace, the tools, the built programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The directory of the workspace's Cargo.toml.
pub(crate) fn root() -> &'static Path {
    // CARGO_MANIFEST_DIR is xtask's own directory, one below.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The directory of the installed tools: `$ROLECALL_TOOLS`, so that several clones can share one, or `.tools`.
/// The laboratory (`e2e/src/settings.rs`) looks in the same place.
pub(crate) fn tools() -> PathBuf {
    std::env::var_os("ROLECALL_TOOLS").map_or_else(|| root().join(".tools"), PathBuf::from)
}

/// The cargo that runs this program, so that the toolchain is the same.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo told this program about itself: ring's build script reads it, and a build from a shell would differ.
    let told = std::env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| is_of_this_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

fn is_of_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// Where cargo puts release programs; asked of cargo, since `CARGO_TARGET_DIR` and configuration can move it.
pub(crate) fn release_programs() -> Result<PathBuf> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata could not be started")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let metadata = String::from_utf8(output.stdout).context("cargo metadata is not UTF-8")?;
    let target = target_directory(&metadata).context("cargo metadata names no target_directory")?;
    Ok(PathBuf::from(target).join("release"))
}

/// Reads one string from the metadata. A JSON library would be a dependency for one field; paths with quotes or
/// backslashes are not supported.
fn target_directory(metadata: &str) -> Option<&str> {
    metadata.split_once("\"target_directory\":\"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_directory_is_found_in_the_metadata() {
        let metadata = r#"{"packages":[],"target_directory":"/somewhere/target","version":1}"#;
        assert_eq!(target_directory(metadata), Some("/somewhere/target"));
        assert_eq!(target_directory("{}"), None);
    }

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        assert!(root().join("Cargo.lock").is_file());
    }
}
