//! The files that libcni leaves of the pods of a node.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use e2e::net::Pod;
use e2e::world::World;

/// Where they are.
pub(crate) fn results(world: &World) -> Result<PathBuf> {
    Ok(world.lab.node("node-a")?.cni_directory().join("results"))
}

/// The record of a pod: its file and its text.
pub(crate) fn of(pod: &Pod, results: &Path) -> Result<(PathBuf, String)> {
    for entry in fs::read_dir(results)? {
        let path = entry?.path();
        if let Some(text) = fs::read_to_string(&path).ok().filter(|text| text.contains(&pod.spec().uid)) {
            return Ok((path, text));
        }
    }
    anyhow::bail!("{} has no record", pod.spec().name)
}

/// A number of the agent's; 0 before it was ever counted.
pub(crate) async fn metric(world: &mut World, name: &str) -> Result<f64> {
    let page = world.lab.agent("node-a")?.health("/metrics").await?;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(Ok(0.0), |value| value.trim().parse().context("no number"))
}
