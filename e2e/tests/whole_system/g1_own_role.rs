//! G1: a pod gets its own role and no other.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::net::Pod;
use serde_json::Value;

use e2e::metadata::{self, IPV4, IPV6, LIST, Seen};
use e2e::world::{ROLE, World};

const OTHER_ROLE: &str = "example-rolecall-cluster-pod-role-other";
const AWS: Duration = Duration::from_secs(60);

pub(crate) async fn g1_an_unmodified_client_gets_the_pods_own_role(world: &mut World) -> Result<()> {
    let pod = world.pod("g1-client", ROLE).await?;
    let printed = pod.place().check(&["aws", "sts", "get-caller-identity"], AWS).await?;
    let identity: Value = serde_json::from_str(&printed)?;
    let session = format!("arn:aws:sts::{}:assumed-role/{ROLE}/rolecall-{}", e2e::cloud::ACCOUNT, e2e::cloud::CLUSTER);
    ensure!(identity["Arn"] == session, "{identity}");

    let topic = world.lab.stack().topic_arn.clone();
    pod.place().check(&["aws", "sns", "get-topic-attributes", "--topic-arn", &topic], AWS).await?;
    let list = pod.run(&["aws", "sns", "list-topics"], AWS).await?;
    // AWS writes SNS:ListTopics here, ministack sns:ListTopics.
    let told = list.stderr.to_lowercase();
    ensure!(!list.status.success() && told.contains("not authorized to perform: sns:listtopics"), "{list:?}");
    Ok(())
}

pub(crate) async fn g1_every_version_and_address_family_gives_the_same_role(world: &mut World) -> Result<()> {
    let pod = world.pod("g1-families", ROLE).await?;
    let list = Seen::Answer(200, ROLE.to_owned());
    let dated = LIST.replace("latest", "2021-01-03");
    for base in [IPV4, IPV6] {
        for path in [LIST, LIST.trim_end_matches('/'), &dated] {
            ensure!(metadata::get_at(&pod.place(), base, path).await? == list, "v2 {base}{path}");
            ensure!(metadata::get_v1(&pod.place(), base, path).await? == list, "v1 {base}{path}");
        }
        let document = metadata::get_at(&pod.place(), base, &format!("{LIST}{ROLE}")).await?.ok()?;
        let document: Value = serde_json::from_str(&document)?;
        ensure!(document["Code"] == "Success" && document["Type"] == "AWS-HMAC", "{}", document["Code"]);
        let expiration = document["Expiration"].as_str().unwrap_or_default();
        ensure!(expiration.len() == 20 && expiration.ends_with('Z'), "expiration {expiration:?}");
    }
    Ok(())
}

pub(crate) async fn g1_another_pods_role_cannot_be_asked_for_by_name(world: &mut World) -> Result<()> {
    let pod = world.pod("g1-curious", ROLE).await?;
    let neighbour = world.pod("g1-neighbour", OTHER_ROLE).await?;
    ensure!(metadata::get(&neighbour.place(), LIST).await? == Seen::Answer(200, OTHER_ROLE.into()));
    for asked in [OTHER_ROLE.to_owned(), World::arn(OTHER_ROLE), "rolecall-node".into(), "rolecall-issuer".into()] {
        let seen = metadata::get(&pod.place(), &format!("{LIST}{asked}")).await?;
        ensure!(seen == Seen::Answer(404, "rolecall: another_role".into()), "{asked}: {seen:?}");
    }
    for own in [ROLE.to_owned(), World::arn(ROLE)] {
        world.keys_of(&pod, &own).await?;
    }
    Ok(())
}

pub(crate) async fn g1_a_token_of_another_pod_is_refused(world: &mut World) -> Result<()> {
    let pod = world.pod("g1-thief", ROLE).await?;
    let neighbour = world.pod("g1-victim", OTHER_ROLE).await?;
    let stolen = metadata::token(&neighbour.place(), IPV4).await?;
    let refused = Seen::Answer(401, "rolecall: bad_token".into());
    ensure!(metadata::get_with(&pod.place(), IPV4, LIST, &stolen).await? == refused);
    ensure!(metadata::get_with(&neighbour.place(), IPV4, LIST, &stolen).await? == Seen::Answer(200, OTHER_ROLE.into()));
    Ok(())
}

/// The thief may shape its network as it likes: it takes its neighbour's address and asks from there.
pub(crate) async fn g1_a_spoofed_source_address_gets_no_answer(world: &mut World) -> Result<()> {
    let pod = world.pod("g1-spoofer", ROLE).await?;
    let victim = world.pod("g1-spoofed", OTHER_ROLE).await?;
    for (base, address) in [IPV4, IPV6].into_iter().zip(victim.addresses()) {
        let length = if address.is_ipv4() { 32 } else { 128 };
        take_address(&pod, &format!("{address}/{length}")).await?;
        let spoofed = ["--interface", &address.to_string(), &format!("{base}{LIST}")];
        let seen = metadata::curl(&pod.place(), &spoofed).await?;
        ensure!(seen == Seen::Silence, "from {address}: {seen:?}");
        ensure!(metadata::get_at(&victim.place(), base, LIST).await? == Seen::Answer(200, OTHER_ROLE.into()));
    }
    ensure!(metadata::get(&pod.place(), LIST).await? == Seen::Answer(200, ROLE.into()));
    Ok(())
}

async fn take_address(pod: &Pod, address: &str) -> Result<()> {
    let line = ["ip", "address", "add", address, "dev", "eth0"];
    let nodad = if address.contains(':') { &["nodad"][..] } else { &[] };
    pod.namespace().place().check(&[&line[..], nodad].concat(), AWS).await.map(drop)
}
