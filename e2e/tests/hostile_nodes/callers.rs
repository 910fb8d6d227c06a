//! Who signs: people, other roles, other clusters, other places.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cloud::{ACCOUNT, CLUSTER, OTHER_CLUSTER};
use e2e::net::PodSpec;
use e2e::signer::Keys;
use e2e::world::{NAMESPACE, PERMITTED, ROLE, World, ask_for};
use model::name::{ClusterName, InstanceId, NodeName, Uid};
use model::record::{HealthRecord, NodeRecord, RecordKey};
use serde_json::{Value, json};

use crate::request::Request;
use crate::witness::{all_pods_refused, refused_by_the_api, refused_by_the_issuer, with_sts_calls};

/// Old enough that nothing about a sandbox is still on its way.
const OLD: Duration = Duration::from_secs(60);
const AWS: Duration = Duration::from_secs(60);

/// A pod that a node may ask for, and the means to do so.
pub(crate) struct Target {
    /// The credentials of the pod's node.
    pub(crate) keys: Keys,
    /// A request for it.
    pub(crate) body: String,
    /// The pod.
    pub(crate) pod: PodSpec,
}

/// A pod on `node` that has a record and no sandbox.
pub(crate) async fn a_target(world: &World, node: &str, name: &str) -> Result<Target> {
    let pod = PodSpec::new(NAMESPACE, name).role(ROLE);
    let directory = world.lab.directory();
    directory.permit(NAMESPACE, PERMITTED).await?;
    directory.put_pod(NAMESPACE, name, &directory.record_of(&pod, world.lab.node(node)?, ROLE)?).await?;
    directory.up_to_date().await?;
    Ok(Target { keys: world.lab.node_keys(node).await?, body: body_for(std::slice::from_ref(&pod))?, pod })
}

/// What an agent asks for these pods.
pub(crate) fn body_for(pods: &[PodSpec]) -> Result<String> {
    let asks = pods.iter().map(|pod| ask_for(pod, OLD)).collect::<Result<Vec<_>>>()?;
    Ok(json!({"version": 1, "patience_ms": 10_000, "pods": asks}).to_string())
}

/// Here the API's stand-in knows no keys but those of sessions. That the issuer would refuse a user whom the API let through,
/// see `past_the_api`.
pub(crate) async fn an_iam_user_is_no_node(world: &mut World) -> Result<()> {
    let target = a_target(world, "node-a", "c-user").await?;
    let root = world.lab.outside();
    let aws = world.lab.tools().aws();
    let aws = aws.to_str().context("a path that is text")?;
    let policy = json!({"Version": "2012-10-17", "Statement":
        [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}]});
    let policy = policy.to_string();
    root.check(&[aws, "iam", "create-user", "--user-name", "mallory"], AWS).await?;
    let attach = ["--user-name", "mallory", "--policy-name", "call-the-issuer", "--policy-document", &policy];
    root.check(&[&[aws, "iam", "put-user-policy"][..], &attach].concat(), AWS).await?;
    let printed = root.check(&[aws, "iam", "create-access-key", "--user-name", "mallory"], AWS).await?;
    let key: Value = serde_json::from_str(&printed)?;
    let text = |member: &str| key["AccessKey"][member].as_str().unwrap_or_default().to_owned();
    let keys = Keys::new(text("AccessKeyId"), text("SecretAccessKey"), String::new());
    with_sts_calls(world, 0, async |world| {
        let answer = Request::new(&keys, target.body.clone()).send(world, "node-a").await?;
        let expected = "The security token included in the request is invalid.";
        refused_by_the_api(world, &answer, (403, Some("UnrecognizedClientException"), expected)).await.map(drop)
    })
    .await
}

/// It may call the API, names its sessions like node-a's instance, or like nothing, and asks from node-a.
pub(crate) async fn another_role_with_an_instances_session_name_is_no_node(world: &mut World) -> Result<()> {
    let target = a_target(world, "node-a", "c-impostor").await?;
    let stack = world.lab.stack();
    let (role, id) = (stack.impostor_role_arn.clone(), stack.impostor_role_id.clone());
    let instance = world.lab.node("node-a")?.instance().to_owned();
    for session in [&*instance, "i-00000000000000000", "somebody"] {
        let keys = world.lab.assume_as_root(&role, session).await?;
        let line = with_sts_calls(world, 0, async |world| {
            let answer = Request::new(&keys, target.body.clone()).send(world, "node-a").await?;
            let cause = format!("role id {id} is not in NODE_ROLES");
            refused_by_the_issuer(world, &answer, (403, "caller_not_a_node", &cause)).await
        });
        let line = line.await?;
        ensure!(line["caller"] == format!("{id}:{session}"), "{line}");
        ensure!(line["user_arn"] == format!("arn:aws:sts::{ACCOUNT}:assumed-role/impostor/{session}"), "{line}");
    }
    Ok(())
}

/// The issuer serves that cluster too. Its node names itself like node-a, and asks for pods of this cluster by name.
pub(crate) async fn another_clusters_node_gets_nothing_of_this_cluster(world: &mut World) -> Result<()> {
    let target = a_target(world, "node-a", "c-cluster").await?;
    let role = world.lab.stack().other_node_role_arn.clone();
    let instance = world.lab.node("node-a")?.instance().to_owned();
    let other = ClusterName::parse(OTHER_CLUSTER)?;
    let instances = [instance.as_str(), "i-0fedcba9876543210"];
    for session in instances {
        let keys = world.lab.assume_as_root(&role, session).await?;
        let request = Request::new(&keys, target.body.clone());
        with_sts_calls(world, 0, async |world| {
            // Its cluster does not know it.
            let answer = request.send(world, "node-b").await?;
            let cause = format!("the directory has no readable record of the node {session}");
            refused_by_the_issuer(world, &answer, (403, "caller_not_a_node", &cause)).await?;
            // Its cluster knows it, and has no such pod.
            let directory = world.lab.directory();
            let record = NodeRecord {
                name: NodeName::parse("node-b")?,
                uid: Uid::parse("other")?,
                addresses: vec![world.lab.node("node-b")?.ipv4().into()],
            };
            directory.put(RecordKey::node(&other, &InstanceId::parse(session)?), &record).await?;
            let answer = request.send(world, "node-b").await?;
            all_pods_refused(world, &answer, 1, "directory_stale")?;
            let now = crate::request::now();
            let health = HealthRecord { pods_as_of: now, namespaces_as_of: now };
            directory.put(RecordKey::health(&other), &health).await?;
            let answer = request.send(world, "node-b").await?;
            all_pods_refused(world, &answer, 1, "no_role")?;
            directory.delete(RecordKey::health(&other)).await
        })
        .await?;
    }
    for session in instances {
        let key = RecordKey::node(&other, &InstanceId::parse(session)?);
        world.lab.directory().delete(key).await?;
    }
    Ok(())
}

pub(crate) async fn another_source_address_is_refused(world: &mut World) -> Result<()> {
    let target = a_target(world, "node-a", "c-address").await?;
    with_sts_calls(world, 0, async |world| {
        let answer = Request::new(&target.keys, target.body.clone()).send(world, "node-b").await?;
        let instance = world.lab.node("node-a")?.instance().to_owned();
        let cause = format!("sourceIp 10.0.2.10 is none of the addresses of {instance}: [10.0.1.10, ");
        let line = refused_by_the_issuer(world, &answer, (403, "caller_not_a_node", &cause)).await?;
        ensure!(line["source_ip"] == "10.0.2.10" && line["vpce_id"] == e2e::cloud::VPCE_ID, "{line}");
        Ok(())
    })
    .await
}

pub(crate) async fn a_quarantined_node_is_refused(world: &mut World) -> Result<()> {
    let target = a_target(world, "node-b", "c-quarantine").await?;
    // Even what it had a moment ago, and what lies in the issuer's memory.
    let request = Request::new(&target.keys, target.body.clone());
    ensure!(request.send(world, "node-b").await?.json()?["sessions"][0]["role"] == World::arn(ROLE));
    world.lab.directory().quarantine(world.lab.node("node-b")?, "stolen").await?;
    let refused = with_sts_calls(world, 0, async |world| {
        for _ in 0..5 {
            let answer = request.send(world, "node-b").await?;
            let cause = "is in quarantine, by the laboratory because \"stolen\"";
            refused_by_the_issuer(world, &answer, (403, "node_quarantined", cause)).await?;
        }
        Ok(())
    });
    let refused = refused.await;
    world.lab.directory().release(world.lab.node("node-b")?).await?;
    refused?;
    ensure!(request.send(world, "node-b").await?.status == 200, "released, and refused in {CLUSTER}");
    Ok(())
}
