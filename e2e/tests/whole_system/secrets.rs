//! No secret is in any log. This runs last, over the logs of everything before.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;

use e2e::metadata::{self, IPV4};
use e2e::world::{ROLE, World};

/// A secret shorter than this could be found by chance.
const SHORTEST: usize = 12;

pub(crate) async fn no_secret_is_in_any_log(world: &mut World) -> Result<()> {
    let pod = world.pod("secrets", ROLE).await?;
    let mut secrets = world.lab.control().secrets().await?;
    ensure!(secrets.len() > 20, "the run before this issued {} secrets only", secrets.len());
    secrets.push(metadata::token(&pod.place(), IPV4).await?);
    let key = fs::read(world.lab.node("node-a")?.run_directory().join("token.key"))?;
    ensure!(key.len() >= 32, "a token key of {} bytes", key.len());
    secrets.extend(forms(&key));
    secrets.retain(|secret| secret.len() >= SHORTEST);

    let mut logs = Vec::new();
    collect(world.lab.registration().directory(), &mut logs)?;
    for name in ["serve.log", "intercept.log", "local-cloud.log"] {
        let found = logs.iter().find(|path| path.ends_with(name)).with_context(|| format!("there is no {name}"))?;
        ensure!(fs::metadata(found)?.len() > 0, "{name} is empty");
    }
    ensure!(logs.iter().any(|path| path.to_string_lossy().contains("/function/")), "the function has no log: {logs:?}");
    for log in &logs {
        let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        let leaked = secrets.iter().filter(|secret| text.contains(secret.as_str())).count();
        ensure!(leaked == 0, "{} holds {leaked} secrets", log.display());
    }
    Ok(())
}

/// Bytes as a log might show them.
fn forms(bytes: &[u8]) -> [String; 4] {
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    let hex = format!("{bytes:02x?}").replace(['[', ']', ',', ' '], "");
    [base64, hex.to_uppercase(), hex, format!("{bytes:?}")]
}

fn collect(directory: &Path, logs: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, logs)?;
        } else if path.extension().is_some_and(|extension| extension == "log") {
            logs.push(path);
        }
    }
    Ok(())
}
