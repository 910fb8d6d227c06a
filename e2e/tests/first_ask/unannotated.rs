//! A pod whose record shows annotations, and no role among them.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::client::{Connections, PodClient};
use e2e::metadata::LIST;
use e2e::net::PodSpec;
use e2e::suite;
use e2e::world::{NAMESPACE, World};

use crate::crowd::spread;

/// How long it may take to hear that there is no role.
const AT_ONCE: Duration = Duration::from_millis(50);
const PODS: usize = 20;

pub(crate) async fn a_pod_without_a_role_hears_so_at_once(world: &mut World) -> Result<()> {
    let mut took = Vec::new();
    for number in 0..PODS {
        let spec = PodSpec::new(NAMESPACE, &format!("first-unannotated-{number}"));
        let spec = spec.annotation("prometheus.io/scrape", "true");
        let sandbox = world.lab.bare_sandbox("node-a", spec).await?;
        let client = PodClient::within(sandbox.namespace(), Connections::New)?;
        let _pod = sandbox.connect().await?;
        for asking in ["first", "again"] {
            let seen = client.get(LIST).await?;
            ensure!(seen.answer == Ok((404, "rolecall: not_annotated".to_owned())), "{asking}: {seen:?}");
            ensure!(seen.took < AT_ONCE, "{asking}: {seen:?}");
            took.push(seen.took);
        }
    }
    suite::figure(format!("{PODS} pods without a role, two asks each: all 404, {}", spread(took.into_iter())));
    Ok(())
}
