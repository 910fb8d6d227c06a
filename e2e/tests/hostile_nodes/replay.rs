//! A request that was seen on its way, sent again as it was.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::world::World;

use crate::callers::{Target, a_target};
use crate::request::{Request, Signed};
use crate::witness::{audit, refused_by_the_api, refused_by_the_issuer, with_sts_calls};

const MINUTE: Duration = Duration::from_secs(60);
/// Five minutes less the time between signing and judging, on a busy machine.
const NEARLY: Duration = Duration::from_secs(5 * 60 - 20);

pub(crate) async fn a_replay_after_five_minutes_is_refused(world: &mut World) -> Result<()> {
    let Target { keys, body, .. } = a_target(world, "node-a", "r-old").await?;
    let signed = |signed| Request { signed, ..Request::new(&keys, body.clone()) };
    with_sts_calls(world, 0, async |world| {
        for (age, message) in [
            (Signed::Ago(5 * MINUTE + Duration::from_secs(1)), "Signature expired: "),
            (Signed::Ago(60 * MINUTE), "Signature expired: "),
            (Signed::In(6 * MINUTE), "Signature not yet current: "),
        ] {
            let answer = signed(age).send(world, "node-a").await?;
            refused_by_the_api(world, &answer, (403, Some("InvalidSignatureException"), message)).await?;
        }
        Ok(())
    })
    .await
}

/// The very bytes again: from the node they give what the node has anyhow, without a call of STS; from elsewhere nothing.
pub(crate) async fn a_replay_within_five_minutes_yields_what_the_node_may_have(world: &mut World) -> Result<()> {
    let Target { keys, body, .. } = a_target(world, "node-a", "r-soon").await?;
    let recorded = Request { signed: Signed::Ago(NEARLY), ..Request::new(&keys, body) }.sign()?;
    let first = recorded.send(world, "node-a").await?;
    with_sts_calls(world, 0, async |world| {
        for _ in 0..3 {
            let again = recorded.send(world, "node-a").await?;
            ensure!(again.status == 200 && again.json()?["sessions"] == first.json()?["sessions"], "{}", again.status);
            ensure!(first.json()?["sessions"].as_array().is_some_and(|sessions| sessions.len() == 1));
            let audit = audit(world, &again.api_request_id)?;
            ensure!(audit.len() == 1 && audit[0]["audit"] == "issued" && audit[0]["pod"] == "r-soon", "{audit:?}");
        }
        let elsewhere = recorded.send(world, "node-b").await?;
        let cause = "sourceIp 10.0.2.10 is none of the addresses of ";
        refused_by_the_issuer(world, &elsewhere, (403, "caller_not_a_node", cause)).await.map(drop)
    })
    .await
}
