//! What a node's own credentials can say in a request.

use anyhow::{Result, ensure};
use e2e::net::PodSpec;
use e2e::world::{NAMESPACE, PERMITTED, ROLE, World};
use model::wire::{MAX_PODS, MAX_REQUEST_BYTES};
use serde_json::{Value, json};

use crate::callers::{Target, a_target, body_for};
use crate::request::Request;
use crate::witness::{all_pods_refused, refused_by_the_issuer, with_sts_calls};

/// Of the thousand names that are tried one by one, so many are those of pods.
const EXISTING: usize = MAX_PODS;
const TRIED: usize = 1_000;

/// Pods of node-b, and names that nobody has.
async fn strangers(world: &World) -> Result<Vec<PodSpec>> {
    let directory = world.lab.directory();
    directory.permit(NAMESPACE, PERMITTED).await?;
    let mut pods = Vec::new();
    for n in 0..TRIED {
        let pod = PodSpec::new(NAMESPACE, &format!("b-stranger-{n}")).role(ROLE);
        if n < EXISTING {
            directory
                .put_pod(NAMESPACE, &pod.name, &directory.record_of(&pod, world.lab.node("node-b")?, ROLE)?)
                .await?;
        }
        pods.push(pod);
    }
    directory.up_to_date().await?;
    Ok(pods)
}

pub(crate) async fn other_nodes_pods_are_refused_in_one_request_and_in_a_thousand(world: &mut World) -> Result<()> {
    let pods = strangers(world).await?;
    let keys = world.lab.node_keys("node-a").await?;
    with_sts_calls(world, 0, async |world| {
        let answer = Request::new(&keys, body_for(&pods[..EXISTING])?).send(world, "node-a").await?;
        all_pods_refused(world, &answer, EXISTING, "pod_on_other_node")?;
        let mut answers = Vec::new();
        for pod in &pods {
            answers.push(Request::new(&keys, body_for(std::slice::from_ref(pod))?).send(world, "node-a").await?);
            if answers.len().is_multiple_of(100) {
                world.lab.directory().up_to_date().await?;
            }
        }
        let codes = answers.iter().map(|answer| Ok(answer.json()?["outcomes"][0]["refused"]["code"].clone()));
        let codes = codes.collect::<Result<Vec<Value>>>()?;
        ensure!(codes[..EXISTING].iter().all(|code| code == "pod_on_other_node"), "{codes:?}");
        ensure!(codes[EXISTING..].iter().all(|code| code == "no_role"), "{codes:?}");
        for n in [0, EXISTING - 1, EXISTING, TRIED - 1] {
            let code = codes[n].as_str().unwrap_or_default();
            all_pods_refused(world, &answers[n], 1, code)?;
        }
        Ok(())
    })
    .await
}

pub(crate) async fn a_thousand_names_in_one_request_are_refused(world: &mut World) -> Result<()> {
    let Target { keys, pod, .. } = a_target(world, "node-a", "b-many").await?;
    with_sts_calls(world, 0, async |world| {
        for count in [MAX_PODS + 1, 1_000] {
            let answer = Request::new(&keys, body_for(&vec![pod.clone(); count])?).send(world, "node-a").await?;
            let cause = format!("the request names {count} pods; 1 to {MAX_PODS} are answered");
            refused_by_the_issuer(world, &answer, (400, "bad_request", &cause)).await?;
        }
        Ok(())
    })
    .await
}

/// A request in order, with members put over those of the whole or of its one pod.
fn with(genuine: &Value, whole: &Value, of_pod: &Value) -> String {
    let put = |target: &mut Value, members: &Value| {
        for (name, value) in members.as_object().into_iter().flatten() {
            target[name] = value.clone();
        }
    };
    let mut forged = genuine.clone();
    put(&mut forged["pods"][0], of_pod);
    put(&mut forged, whole);
    forged.to_string()
}

pub(crate) async fn forged_bodies_are_refused(world: &mut World) -> Result<()> {
    let Target { keys, body, .. } = a_target(world, "node-a", "b-forged").await?;
    let genuine: Value = serde_json::from_str(&body)?;
    let whole = |members: Value| with(&genuine, &members, &Value::Null).into_bytes();
    let of_pod = |members: Value| with(&genuine, &Value::Null, &members).into_bytes();
    let deep = |opened: &str, closed: &str| format!("{}1{}", opened.repeat(20_000), closed.repeat(20_000));
    let long = format!("{body}{}", " ".repeat(MAX_REQUEST_BYTES + 1 - body.len()));
    let too_long = format!("the request has {} bytes; at most {MAX_REQUEST_BYTES} are read", MAX_REQUEST_BYTES + 1);
    let twice = |member: &str| body.replacen('{', &format!("{{{member},"), 1).into_bytes();
    let forged: Vec<(&str, Vec<u8>, &str)> = vec![
        ("another cluster", whole(json!({"cluster": e2e::cloud::OTHER_CLUSTER})), "unknown field `cluster`"),
        ("another instance", whole(json!({"instance": "i-0fedcba9876543210"})), "unknown field `instance`"),
        ("a role", whole(json!({"role": World::arn(ROLE)})), "unknown field `role`"),
        ("a pod's cluster", of_pod(json!({"cluster": e2e::cloud::OTHER_CLUSTER})), "unknown field `cluster`"),
        ("a pod's instance", of_pod(json!({"instance": "i-0fedcba9876543210"})), "unknown field `instance`"),
        ("a pod's role", of_pod(json!({"role": World::arn(ROLE)})), "unknown field `role`"),
        ("a pod's node", of_pod(json!({"node": "node-b"})), "unknown field `node`"),
        ("a path for a name", of_pod(json!({"name": "../node/i-0fedcba9876543210"})), "name"),
        ("a path for a namespace", of_pod(json!({"namespace": "example/other"})), "namespace"),
        ("a name of another type", of_pod(json!({"name": ["b-forged"]})), "invalid type"),
        ("an age before birth", of_pod(json!({"sandbox_age_ms": -1})), "invalid value"),
        ("another version", whole(json!({"version": 2})), "the request has version 2, this issuer speaks version 1"),
        ("no pods", whole(json!({"pods": []})), "the request names 0 pods"),
        ("pods of another type", whole(json!({"pods": {"0": genuine["pods"][0]}})), "invalid type"),
        ("pods twice", twice(r#""pods":[]"#), "duplicate field `pods`"),
        ("version twice", twice(r#""version":2"#), "duplicate field `version`"),
        ("nothing", Vec::new(), "the request is not understood"),
        ("null", b"null".to_vec(), "the request is not understood"),
        ("half of it", body.as_bytes()[..body.len() / 2].to_vec(), "the request is not understood"),
        ("more after it", format!("{body}{body}").into_bytes(), "trailing characters"),
        ("no text", b"\xff\xfe\x00".to_vec(), "the request is not understood"),
        ("over the issuer's limit", long.into_bytes(), &too_long),
        ("nested arrays", deep("[", "]").into_bytes(), "the request is not understood"),
        ("nested objects", deep(r#"{"pods":"#, "}").into_bytes(), "missing field `version`"),
        ("a nested pod", body.replace("\"b-forged\"", &deep("[", "]")).into_bytes(), "the request is not understood"),
    ];
    with_sts_calls(world, 0, async |world| {
        for (what, body, cause) in forged {
            let answer = Request::new(&keys, body).send(world, "node-a").await?;
            let refused = refused_by_the_issuer(world, &answer, (400, "bad_request", cause)).await;
            let line = refused.map_err(|error| error.context(what))?;
            ensure!(line.to_string().len() < 1_500, "{what}: an audit line of {} bytes", line.to_string().len());
        }
        Ok(())
    })
    .await
}
