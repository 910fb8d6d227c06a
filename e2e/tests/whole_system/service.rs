//! What else pods see of the metadata service.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::net::PodSpec;
use model::record::NamespaceRecord;
use model::refusal::RefusalCode;
use serde_json::Value;

use e2e::metadata::{self, IPV4, LIST, Seen};
use e2e::world::{NAMESPACE, ROLE, World, list_becomes};

pub(crate) async fn nothing_of_the_node_itself_is_served(world: &mut World) -> Result<()> {
    let pod = world.pod("service-node", ROLE).await?;
    let node = world.lab.node("node-a")?.namespace().place();
    for path in [
        "/latest/user-data",
        "/2021-01-03/user-data",
        "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
        "/latest/dynamic/instance-identity/signature",
        "/latest/dynamic/instance-identity/pkcs7",
        "/latest/dynamic/instance-identity/rsa2048",
        "/latest/meta-data/iam/security-credentials-extended/",
        "/latest/meta-data/mac",
        "/latest/meta-data/",
        "/LATEST/user-data",
        "/latest//user-data",
        "/latest/%75ser-data",
        "/latest/meta-data/../user-data",
        "/latest/meta-data/%2e%2e/user-data",
        "/latest/meta-data/instance-id/../../user-data",
    ] {
        let seen = metadata::get(&pod.place(), path).await?;
        ensure!(seen == Seen::Answer(404, "rolecall: not_found".into()), "{path}: {seen:?}");
    }
    let role = metadata::get(&pod.place(), &format!("{LIST}rolecall-node")).await?;
    ensure!(matches!(role, Seen::Answer(404, _)), "{role:?}");
    // They are there to be had: the node itself gets them.
    let data = metadata::get(&node, "/latest/user-data").await?.ok()?;
    ensure!(data.contains("join-secret-of-the-node"), "the stand-in serves no user-data");
    Ok(())
}

pub(crate) async fn what_sdks_need_of_the_instance_is_served(world: &mut World) -> Result<()> {
    let pod = world.pod("service-sdk", ROLE).await?;
    let instance = world.lab.node("node-a")?.instance().to_owned();
    for (path, expected) in [
        ("/latest/meta-data/placement/region", e2e::cloud::REGION),
        ("/latest/meta-data/placement/availability-zone", "eu-central-1a"),
        ("/latest/meta-data/instance-id", &instance),
    ] {
        let seen = metadata::get(&pod.place(), path).await?;
        ensure!(seen == Seen::Answer(200, expected.into()), "{path}: {seen:?}");
    }
    let document = metadata::get(&pod.place(), "/latest/dynamic/instance-identity/document").await?.ok()?;
    let document: Value = serde_json::from_str(&document)?;
    ensure!(document["instanceId"] == instance && document["region"] == e2e::cloud::REGION, "{document}");
    let info: Value = serde_json::from_str(&metadata::get(&pod.place(), "/latest/meta-data/iam/info").await?.ok()?)?;
    ensure!(
        info["Code"] == "Success" && info["InstanceProfileArn"].as_str().is_some_and(|arn| arn.ends_with(ROLE)),
        "{info}"
    );
    Ok(())
}

pub(crate) async fn a_forged_host_is_refused(world: &mut World) -> Result<()> {
    let pod = world.pod("service-host", ROLE).await?;
    let url = format!("{IPV4}{LIST}");
    for host in ["evil.example.com", "169.254.169.254.evil.example.com", "localhost", "10.0.1.10:8181"] {
        let seen = metadata::curl(&pod.place(), &["--header", &format!("Host: {host}"), &url]).await?;
        ensure!(seen == Seen::Answer(403, "rolecall: foreign_host".into()), "{host}: {seen:?}");
    }
    Ok(())
}

pub(crate) async fn a_session_is_shared_by_the_pods_of_a_role(world: &mut World) -> Result<()> {
    let first = world.pod("service-shared-1", ROLE).await?;
    let second = world.pod_on("node-b", PodSpec::new(NAMESPACE, "service-shared-2").role(ROLE)).await?;
    list_becomes(world, &first, &Seen::Answer(200, ROLE.into()), Duration::from_secs(10)).await?;
    list_becomes(world, &second, &Seen::Answer(200, ROLE.into()), Duration::from_secs(10)).await?;
    let key = async |pod| anyhow::Ok(world.keys_of(pod, ROLE).await?.variables()[0].1.to_owned());
    ensure!(key(&first).await? == key(&second).await?, "two pods of one role, on two nodes, share one session");
    Ok(())
}

pub(crate) async fn an_external_id_opens_a_role_that_demands_it(world: &mut World) -> Result<()> {
    let role = "example-rolecall-cluster-pod-role-external-id";
    let knows =
        PodSpec::new(NAMESPACE, "service-partner").role(role).annotation("iam.amazonaws.com/external-id", "partner-42");
    let knows = world.pod_on("node-a", knows).await?;
    let guesses = world.pod("service-stranger", role).await?;
    world.keys_of(&knows, role).await?;
    // The session that the first pod has is not the second's: the external id is part of what sessions are shared by.
    let document = metadata::get(&guesses.place(), &format!("{LIST}{role}")).await?.ok()?;
    let document: Value = serde_json::from_str(&document)?;
    ensure!(document["Code"] == "AssumeRoleDenied" && document.get("AccessKeyId").is_none(), "{}", document["Code"]);
    Ok(())
}

pub(crate) async fn kube2iams_annotation_is_understood(world: &mut World) -> Result<()> {
    let allowed = NamespaceRecord {
        allowed_roles: Some(r#"["example-rolecall-cluster-pod-role-some*"]"#.to_owned()),
        ..NamespaceRecord::default()
    };
    world.lab.directory().put_namespace("kube2iam", &allowed).await?;
    let pod = world.lab.schedule("node-a", PodSpec::new("kube2iam", "service-allowed").role(ROLE)).await?;
    world.keys_of(&pod, ROLE).await?;
    let other = "example-rolecall-cluster-pod-role-other";
    let other = world.lab.schedule("node-a", PodSpec::new("kube2iam", "service-not-allowed").role(other)).await?;
    let refusal = world.refusal(other.spec(), Duration::from_secs(60)).await?;
    ensure!(refusal.code == RefusalCode::NamespaceForbidsRole, "{refusal:?}");
    Ok(())
}
