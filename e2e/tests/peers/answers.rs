//! The answer, to the letter.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::metadata::{self, LIST, Seen};
use e2e::net::{Pod, PodSpec};
use e2e::world::{NAMESPACE, ROLE, World, list_becomes};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);

/// kiam #42 #75 #383: what is not the one canonical form of an allowed path is not there. `hostile_pods` has many more.
pub(crate) async fn path_tricks(world: &mut World) -> Result<()> {
    let pod = world.pod("peers-paths", ROLE).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    for path in [
        "/latest/meta-data/iam/security-credentials/../../../user-data",
        "/latest/meta-data/instance-id/..%2f..%2fuser-data",
        "/latest/./user-data",
        "//latest//user-data",
        "/Latest/User-Data",
        "/latest/%2575ser-data",
        "/latest/meta-data;x/iam/security-credentials/rolecall-node",
        "/latest/meta-data/iam/security-credentials/rolecall-node%00",
        "/latest\\user-data",
    ] {
        let seen = metadata::get(&pod.place(), path).await?;
        ensure!(matches!(seen, Seen::Answer(400 | 404, _)), "{path}: {seen:?}");
    }
    Ok(())
}

/// kiam and kube2iam wrote `LastUpdated` with fractions, or in local time.
pub(crate) async fn expiration_with_fractions_or_local_time(world: &mut World) -> Result<()> {
    // A session of its own: local-cloud forgets what it issued when it is restarted.
    let pod = PodSpec::new(NAMESPACE, "peers-times").role(ROLE).annotation("iam.amazonaws.com/session-name", "times");
    let pod = world.pod_on("node-a", pod).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let document = metadata::get(&pod.place(), &format!("{LIST}{ROLE}")).await?.ok()?;
    let document: Value = serde_json::from_str(&document)?;
    let text = |name: &str| document[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
    let id = text("AccessKeyId")?;
    let state = world.lab.control().state().await?;
    let key = state["keys"].as_array().context("keys")?.iter().find(|key| key["access_key_id"] == id);
    let issued = key.and_then(|key| key["expiration"].as_str()).context("the key as it was issued")?;
    ensure!(text("Expiration")? == issued, "{} is not {issued}", text("Expiration")?);
    for name in ["Expiration", "LastUpdated"] {
        let time = text(name)?;
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        ensure!(shape == "0000-00-00T00:00:00Z", "{name} is {time}");
    }
    Ok(())
}

/// The session's name that STS was told for a pod with this annotation.
async fn session_name(world: &World, pod: &str, annotation: &str) -> Result<String> {
    let pod = PodSpec::new(NAMESPACE, pod).role(ROLE).annotation("iam.amazonaws.com/session-name", annotation);
    let pod: Pod = world.pod_on("node-a", pod).await?;
    list_becomes(world, &pod, &Seen::Answer(200, ROLE.into()), SOON).await?;
    let keys = world.keys_of(&pod, ROLE).await?;
    let id = keys.variables()[0].1.to_owned();
    let state = world.lab.control().state().await?;
    let key = state["keys"].as_array().context("keys")?.iter().find(|key| key["access_key_id"] == id.as_str());
    key.and_then(|key| key["session_name"].as_str()).map(str::to_owned).context("the key as it was issued")
}

/// kiam cut at 63 and dropped what STS does not take, so that two names could become one.
pub(crate) async fn session_names_of_64_characters_are_cut_to_63(world: &mut World) -> Result<()> {
    let whole = "a".repeat(64);
    ensure!(session_name(world, "peers-name-64", &whole).await? == whole);
    let long = session_name(world, "peers-name-65", &"a".repeat(65)).await?;
    let longer = session_name(world, "peers-name-66", &"a".repeat(66)).await?;
    ensure!(long.len() == 64 && longer.len() == 64 && long != longer, "{long} {longer}");
    let odd = session_name(world, "peers-name-odd", "team/app:blue ü").await?;
    ensure!(odd.starts_with("team-app-blue--") && odd.len() <= 64, "{odd}");
    let again = session_name(world, "peers-name-again", "team/app:blue ü").await?;
    ensure!(again == odd, "{again} is not {odd}");
    let other = session_name(world, "peers-name-other", "team/app/blue ü").await?;
    ensure!(other != odd, "{other}");
    Ok(())
}
