//! What the metadata service keeps from pods.

use anyhow::Result;

use super::permission::CREDENTIALS;
use super::{Seen, metadata_of};
use crate::stage::{POD_ROLE, Stage};

pub(crate) async fn user_data(stage: &mut Stage) -> Result<Seen> {
    let (tried, status, body) = metadata_of(&stage.example, &[], "user-data").await?;
    Ok(Seen { tried, ok: status == "404", got: format!("{status} {body}") })
}

pub(crate) async fn node_role(stage: &mut Stage) -> Result<Seen> {
    let (tried, status, body) = metadata_of(&stage.example, &[], &format!("{CREDENTIALS}rolecall-node")).await?;
    Ok(Seen { tried, ok: status == "404", got: format!("{status} {body}") })
}

pub(crate) async fn forged_host(stage: &mut Stage) -> Result<Seen> {
    let (tried, status, body) = metadata_of(&stage.example, &["-H", "Host: attacker.example"], CREDENTIALS).await?;
    Ok(Seen { tried, ok: status == "403" && !body.contains(POD_ROLE), got: format!("{status} {body}") })
}
