//! What pods get when the agent, and what keeps them from the node's metadata, fail.

use anyhow::Result;
use e2e::lab::READY;

use super::identity::has_role;
use super::permission::CREDENTIALS;
use super::{Seen, metadata_of};
use crate::stage::{POD_ROLE, Stage};

pub(crate) async fn agent_killed(stage: &mut Stage) -> Result<Seen> {
    stage.lab.agent("node-a")?.serve.kill().await?;
    let (tried, status, body) = metadata_of(&stage.example, &[], CREDENTIALS).await?;
    Ok(Seen { tried, ok: status == "000" && is_refused(&body), got: body })
}

pub(crate) async fn rules_flushed(stage: &mut Stage) -> Result<Seen> {
    stage.lab.agent("node-a")?.intercept.kill().await?;
    stage.lab.node("node-a")?.namespace().nft("flush ruleset").await?;
    let (tried, status, body) = metadata_of(&stage.example, &[], CREDENTIALS).await?;
    Ok(Seen { tried, ok: status == "000" && is_refused(&body), got: body })
}

pub(crate) async fn started_again(stage: &mut Stage) -> Result<Seen> {
    let agent = stage.lab.agent("node-a")?;
    agent.serve.restart()?;
    agent.intercept.restart()?;
    agent.ready(READY).await?;
    has_role(&stage.example, &["aws", "sts", "get-caller-identity"], POD_ROLE).await
}

/// Refused at once, and not left waiting: an SDK that waits keeps its program from starting.
fn is_refused(complaint: &str) -> bool {
    complaint.contains("Couldn't connect") || complaint.contains("Connection refused")
}
