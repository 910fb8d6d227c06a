//! The proof: who the pod is, what it may do, and what it may not.

use anyhow::Result;
use e2e::net::Pod;

use super::{Seen, in_pod};
use crate::stage::{OTHER_ROLE, POD_ROLE, Stage};

const WHO: [&str; 3] = ["aws", "sts", "get-caller-identity"];

pub(crate) async fn who_am_i(stage: &mut Stage) -> Result<Seen> {
    has_role(&stage.example, &WHO, POD_ROLE).await
}

pub(crate) async fn over_ipv6(stage: &mut Stage) -> Result<Seen> {
    let ipv6 = ["env", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6"];
    has_role(&stage.example, &[&ipv6[..], &WHO].concat(), POD_ROLE).await
}

pub(crate) async fn neighbour(stage: &mut Stage) -> Result<Seen> {
    has_role(&stage.neighbour, &WHO, OTHER_ROLE).await
}

/// Runs `line`, which must print an identity with `role`.
pub(super) async fn has_role(pod: &Pod, line: &[&str], role: &str) -> Result<Seen> {
    let (tried, output) = in_pod(pod, line).await?;
    let ok = output.status.success() && output.stdout.contains(&format!(":assumed-role/{role}/"));
    Ok(Seen { tried, got: output.stdout + &output.stderr, ok })
}

pub(crate) async fn topic(stage: &mut Stage) -> Result<Seen> {
    let topic = stage.lab.stack().topic_arn.clone();
    let line = ["aws", "sns", "get-topic-attributes", "--topic-arn", &topic];
    let (tried, output) = in_pod(&stage.example, &line).await?;
    let ok = output.status.success() && output.stdout.contains(&format!("\"TopicArn\": \"{topic}\""));
    Ok(Seen { tried, got: output.stdout + &output.stderr, ok })
}

pub(crate) async fn list_topics(stage: &mut Stage) -> Result<Seen> {
    let (tried, output) = in_pod(&stage.example, &["aws", "sns", "list-topics"]).await?;
    // AWS writes SNS:, ministack sns:.
    let refusal = "not authorized to perform: sns:listtopics";
    let ok = !output.status.success() && output.stderr.to_lowercase().contains(refusal);
    Ok(Seen { tried, got: output.stdout + &output.stderr, ok })
}
