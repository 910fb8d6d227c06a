//! Installs what the demo and the tests need, pinned, in a directory of the project's own. What is there already is left
//! alone: each tool carries a stamp that says what it was made from.

mod debian;
mod recipes;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::workspace;
use recipes::Recipe;

/// How much is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What the demo runs.
    Demo,
    /// That, and the linters.
    Everything,
}

/// Installs what is missing.
pub(crate) fn install(wanted: Wanted) -> Result<()> {
    let directory = workspace::tools();
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // Two clones may share the directory: the second waits for the first.
    let lock = fs::File::create(directory.join(".lock")).context("cannot make the lock file of the tools")?;
    let lock =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("cannot lock the tools")?;
    debian::install(wanted)?;
    for recipe in recipes::all(wanted) {
        make(&directory, &recipe).with_context(|| format!("{} could not be installed", recipe.name))?;
    }
    drop(lock);
    Ok(())
}

/// Makes one tool in its own directory, unless its stamp says that it was made just so and there.
fn make(tools: &Path, recipe: &Recipe) -> Result<()> {
    let directory = tools.join(recipe.name);
    let stamp = directory.join(".stamp");
    // A virtual environment does not work elsewhere than where it was made, so the place belongs to the stamp.
    let content = format!("{}\n{}", directory.display(), recipe.stamp);
    if fs::read_to_string(&stamp).is_ok_and(|found| found == content) {
        return Ok(());
    }
    println!("tools: {} {} …", recipe.name, recipe.version);
    let start = Instant::now();
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    (recipe.install)(&directory)?;
    fs::write(&stamp, content)?;
    println!("tools: {} {}: {:.1} s", recipe.name, recipe.version, start.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_a_line(directory: &Path) -> Result<()> {
        let made = directory.join("made");
        let before = fs::read_to_string(&made).unwrap_or_default();
        fs::write(made, before + "once\n").map_err(Into::into)
    }

    fn fail(_: &Path) -> Result<()> {
        anyhow::bail!("no network")
    }

    #[test]
    fn a_tool_is_made_once_and_again_for_another_stamp() {
        let tools = tempfile::tempdir().unwrap();
        let recipe = |stamp: &str| Recipe { name: "x", version: "1", stamp: stamp.into(), install: write_a_line };
        let marker = tools.path().join("x/leftover");
        make(tools.path(), &recipe("1")).unwrap();
        fs::write(&marker, "").unwrap();
        make(tools.path(), &recipe("1")).unwrap();
        assert!(marker.exists(), "made again though the stamp was right");
        make(tools.path(), &recipe("2")).unwrap();
        assert!(!marker.exists(), "the old version must go");
        assert_eq!(fs::read_to_string(tools.path().join("x/made")).unwrap(), "once\n");
    }

    #[test]
    fn a_failed_install_leaves_no_stamp() {
        let tools = tempfile::tempdir().unwrap();
        let recipe = Recipe { name: "x", version: "1", stamp: "1".into(), install: fail };
        assert_eq!(make(tools.path(), &recipe).unwrap_err().to_string(), "no network");
        assert!(!tools.path().join("x/.stamp").exists());
    }
}
