//! G3: even a cluster administrator cannot reach a role outside the issuer's own list. The administrator here writes into
//! the directory whatever the cluster could say.

use std::time::Duration;

use anyhow::{Result, ensure};
use model::refusal::RefusalCode;
use serde_json::Value;

use e2e::metadata::{self, LIST, Seen};
use e2e::world::World;

pub(crate) async fn g3_a_role_outside_the_issuers_list_is_refused_whatever_the_cluster_says(
    world: &mut World,
) -> Result<()> {
    for (name, role, listed) in [
        ("g3-unlisted", "unlisted-by-the-issuer".to_owned(), "unlisted-by-the-issuer"),
        ("g3-foreign", "arn:aws:iam::999999999999:role/admin".to_owned(), "admin"),
    ] {
        let pod = world.pod_in("g3", ".*", name, &role).await?;
        let seen = metadata::get(&pod.place(), LIST).await?;
        ensure!(seen == Seen::Answer(200, listed.into()), "{seen:?}");
        let document: Value =
            serde_json::from_str(&metadata::get(&pod.place(), &format!("{LIST}{listed}")).await?.ok()?)?;
        ensure!(document["Code"] == "IssuerForbidsRole" && document.get("AccessKeyId").is_none(), "{document}");
    }
    Ok(())
}

pub(crate) async fn g3_rolecalls_own_roles_are_refused_whatever_the_cluster_says(world: &mut World) -> Result<()> {
    for (name, role) in
        [("g3-node", "rolecall-node"), ("g3-issuer", "rolecall-issuer"), ("g3-alias", "x/Rolecall-Node")]
    {
        let pod = world.pod_in("g3", ".*", name, role).await?;
        let refusal = world.refusal(pod.spec(), Duration::from_secs(60)).await?;
        let sentence = format!(
            "Pod g3/{name} asks for {}, which is a role of Rolecall itself or of a node and is never handed out. Give the pod a \
             role of its own.",
            World::arn(role)
        );
        ensure!(refusal.code == RefusalCode::IssuerForbidsRole && refusal.message == sentence, "{refusal:?}");
    }
    Ok(())
}
