//! What annotations do not permit.

use anyhow::Result;

use super::{Seen, metadata_of};
use crate::stage::{OTHER_ROLE, PERMITTED, POD_ROLE, Stage};

pub(crate) const CREDENTIALS: &str = "meta-data/iam/security-credentials/";

pub(crate) async fn forbidden(stage: &mut Stage) -> Result<Seen> {
    let (tried, status, body) = metadata_of(&stage.forbidden, &[], &format!("{CREDENTIALS}{POD_ROLE}")).await?;
    let ok = status == "200"
        && body.contains("\"NamespaceForbidsRole\"")
        && body.contains(PERMITTED)
        && !body.contains("SecretAccessKey");
    Ok(Seen { tried, got: format!("{status} {body}"), ok })
}

pub(crate) async fn plain(stage: &mut Stage) -> Result<Seen> {
    let (tried, status, body) = metadata_of(&stage.plain, &[], CREDENTIALS).await?;
    Ok(Seen { tried, ok: status == "404", got: format!("{status} {body}") })
}

pub(crate) async fn other_role(stage: &mut Stage) -> Result<Seen> {
    let (tried, status, body) = metadata_of(&stage.example, &[], &format!("{CREDENTIALS}{OTHER_ROLE}")).await?;
    Ok(Seen { tried, ok: status == "404", got: format!("{status} {body}") })
}
