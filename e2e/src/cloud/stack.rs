//! The AWS side, made by one CloudFormation template (`e2e/cloud.yaml`).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{API_ID, MINISTACK, REGION};
use crate::net::Namespace;
use crate::process::{Place, wait_for};
use crate::settings::Tools;

const STACK: &str = "rolecall";
const ONE_CALL: Duration = Duration::from_secs(30);

/// What the template made: its outputs, by their names there.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stack {
    /// The directory's table.
    pub directory_table: String,
    /// The cache's table.
    pub cache_table: String,
    /// The key that wraps the cache's data keys.
    pub key_arn: String,
    /// The topic that the demo's pod may look at.
    pub topic_arn: String,
    /// The role of all nodes.
    pub node_role_arn: String,
    /// Its unique id.
    pub node_role_id: String,
    /// The role of the issuer function.
    pub issuer_role_arn: String,
    /// The role of the demo's pod.
    pub pod_role_arn: String,
    /// The role whose sessions can be named like instances.
    pub impostor_role_arn: String,
    /// Its unique id.
    pub impostor_role_id: String,
}

impl Stack {
    /// Makes everything.
    pub(crate) async fn create(tools: &Tools, aws: &Namespace) -> Result<Self> {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud.yaml");
        let body = format!("file://{}", template.display());
        let api = format!("ParameterKey=ApiId,ParameterValue={API_ID}");
        let create = ["create-stack", "--stack-name", STACK, "--capabilities", "CAPABILITY_NAMED_IAM"];
        let with = ["--template-body", &body, "--parameters", &api];
        cloudformation(tools, aws, &[&create[..], &with[..]].concat()).await?;
        let complete = async || match Self::describe(tools, aws).await {
            Ok(described) if described["StackStatus"] == "CREATE_IN_PROGRESS" => None,
            other => Some(other),
        };
        let described = wait_for("the CloudFormation stack", ONE_CALL, complete).await??;
        if described["StackStatus"] != "CREATE_COMPLETE" {
            bail!("the CloudFormation stack became {}: {}", described["StackStatus"], described["StackStatusReason"]);
        }
        let outputs = described["Outputs"].as_array().context("the CloudFormation stack has no outputs")?;
        let pair = |output: &Value| Some((output["OutputKey"].as_str()?.to_owned(), output["OutputValue"].clone()));
        serde_json::from_value(outputs.iter().filter_map(pair).collect()).context("outputs of the CloudFormation stack")
    }

    async fn describe(tools: &Tools, aws: &Namespace) -> Result<Value> {
        let text = cloudformation(tools, aws, &["describe-stacks", "--stack-name", STACK]).await?;
        let all: Value = serde_json::from_str(&text)?;
        Ok(all["Stacks"][0].clone())
    }
}

/// Runs the aws command line as the account's root.
async fn cloudformation(tools: &Tools, aws: &Namespace, words: &[&str]) -> Result<String> {
    let program = tools.aws();
    let program = program.to_string_lossy();
    as_root(aws.place()).check(&[&[&*program, "cloudformation"], words].concat(), ONE_CALL).await
}

/// ministack's root: this key id with any secret.
pub(crate) fn as_root(place: Place) -> Place {
    place
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_ENDPOINT_URL", format!("http://{MINISTACK}"))
}
