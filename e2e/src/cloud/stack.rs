//! The AWS side, made by one CloudFormation template (`e2e/cloud.yaml`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

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
    /// The role of the nodes of another cluster, which the account's root may play.
    pub other_node_role_arn: String,
    /// Its unique id.
    pub other_node_role_id: String,
}

impl Stack {
    /// Makes everything.
    pub(crate) async fn create(tools: &Tools, aws: &Namespace) -> Result<Self> {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud.yaml");
        let api = format!("ParameterKey=ApiId,ParameterValue={API_ID}");
        let described = make(tools, aws, STACK, &template, &["--parameters", &api]).await?;
        let outputs = described["Outputs"].as_array().context("the CloudFormation stack has no outputs")?;
        let pair = |output: &Value| Some((output["OutputKey"].as_str()?.to_owned(), output["OutputValue"].clone()));
        serde_json::from_value(outputs.iter().filter_map(pair).collect()).context("outputs of the CloudFormation stack")
    }

    /// Makes more roles that the issuer's own may assume; their template is written into `directory`.
    pub(crate) async fn make_pod_roles(
        &self,
        tools: &Tools,
        aws: &Namespace,
        directory: &Path,
        names: &[String],
    ) -> Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];
        let statement = json!([{"Effect": "Allow", "Principal": {"AWS": self.issuer_role_arn}, "Action": actions}]);
        let trust = json!({"Version": "2012-10-17", "Statement": statement});
        let role = |name: &String| json!({"Type": "AWS::IAM::Role", "Properties": {"RoleName": name, "AssumeRolePolicyDocument": trust}});
        let resources: BTreeMap<_, _> =
            (0..).zip(names).map(|(number, name)| (format!("Role{number}"), role(name))).collect();
        let stack = format!("{STACK}-pod-roles-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let template = directory.join(format!("{stack}.json"));
        fs::write(&template, json!({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}).to_string())?;
        make(tools, aws, &stack, &template, &[]).await.map(drop)
    }
}

/// Makes a stack and describes it once it is complete.
async fn make(tools: &Tools, aws: &Namespace, stack: &str, template: &Path, more: &[&str]) -> Result<Value> {
    let body = format!("file://{}", template.display());
    let create = ["create-stack", "--stack-name", stack, "--capabilities", "CAPABILITY_NAMED_IAM"];
    cloudformation(tools, aws, &[&create[..], &["--template-body", &body], more].concat()).await?;
    let complete = async || match describe(tools, aws, stack).await {
        Ok(described) if described["StackStatus"] == "CREATE_IN_PROGRESS" => None,
        other => Some(other),
    };
    let described = wait_for("the CloudFormation stack", ONE_CALL, complete).await??;
    if described["StackStatus"] != "CREATE_COMPLETE" {
        bail!("the CloudFormation stack became {}: {}", described["StackStatus"], described["StackStatusReason"]);
    }
    Ok(described)
}

async fn describe(tools: &Tools, aws: &Namespace, stack: &str) -> Result<Value> {
    let text = cloudformation(tools, aws, &["describe-stacks", "--stack-name", stack]).await?;
    let all: Value = serde_json::from_str(&text)?;
    Ok(all["Stacks"][0].clone())
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
