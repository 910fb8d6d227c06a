//! The settings of local-cloud: which instances there are, the API, and the function behind it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{ACCOUNT, API_ID, CLUSTER, CONTROL, MINISTACK, OTHER_CLUSTER, REGION, Stack, VPCE_ID};
use crate::net::{Node, SERVICES};

/// How the issuer function is deployed.
#[derive(Clone, Debug)]
pub struct FunctionSettings {
    /// The most environments at a time.
    pub environments: usize,
    /// How long an invocation may take, in milliseconds.
    pub timeout_ms: u64,
    /// Variables that replace or add to the usual ones.
    pub env: BTreeMap<String, String>,
}

impl Default for FunctionSettings {
    fn default() -> Self {
        Self { environments: 4, timeout_ms: 29_000, env: BTreeMap::new() }
    }
}

/// What local-cloud is to play.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The nodes' instances.
    pub nodes: &'a [Node],
    /// What the template made.
    pub stack: &'a Stack,
    /// The function's program.
    pub function: PathBuf,
    /// How it is deployed.
    pub settings: &'a FunctionSettings,
    /// Where the authority of the API's certificate is to be written.
    pub ca_certificate: PathBuf,
    /// Where the function's logs go.
    pub log_directory: PathBuf,
}

/// The deploy-time secret that API Gateway's stage hands to the function.
const STAGE_SECRET: &str = "a-secret-of-this-laboratory-alone";

impl Plan<'_> {
    /// The settings as local-cloud reads them.
    pub fn to_json(&self) -> Value {
        json!({
            "region": REGION,
            "account": ACCOUNT,
            "upstream": format!("http://{MINISTACK}"),
            // The root key is taken from this namespace, where the account's other people are, and from no node.
            "endpoint": {"listen": [format!("{SERVICES}:4566")], "root_from": [SERVICES]},
            "control": CONTROL,
            "instances": self.nodes.iter().map(|node| self.instance(node)).collect::<Vec<_>>(),
            "api": {
                "id": API_ID,
                "vpce_id": VPCE_ID,
                "vpc_id": "vpc-0123456789abcdef0",
                "stage": "v1",
                "resource": "/credentials",
                "listen": [format!("{SERVICES}:443")],
                "stage_variables": {"rolecall_secret": STAGE_SECRET},
                "tls": {"ca_certificate_out": self.ca_certificate},
            },
            "function": self.function_json(),
        })
    }

    fn instance(&self, node: &Node) -> Value {
        let listen = |address: &str| json!({"address": address, "device": node.name()});
        let local_ipv4: Ipv4Addr = node.ipv4();
        json!({
            "id": node.instance(),
            "zone": format!("{REGION}a"),
            "local_ipv4": local_ipv4,
            "role_arn": self.stack.node_role_arn,
            "user_data": "#!/bin/bash\n/etc/eks/bootstrap.sh example-rolecall-cluster --token join-secret-of-the-node\n",
            "listen": [listen("169.254.169.254:80"), listen("[fd00:ec2::254]:80")],
        })
    }

    fn function_json(&self) -> Value {
        json!({
            "binary": self.function,
            "name": "rolecall-issuer",
            "arn": format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:rolecall-issuer"),
            "role_arn": self.stack.issuer_role_arn,
            "environments": self.settings.environments,
            "timeout_ms": self.settings.timeout_ms,
            "memory_mb": 256,
            "env": self.function_env(),
            "log_dir": self.log_directory,
        })
    }

    /// What a deployment tells the issuer.
    fn function_env(&self) -> BTreeMap<String, String> {
        let mut env = issuer_env(self.stack);
        env.extend(self.settings.env.clone());
        env
    }
}

/// The settings that a deployment derives from the template.
fn issuer_env(stack: &Stack) -> BTreeMap<String, String> {
    let node_roles = json!({
        (&stack.node_role_id): {"arn": stack.node_role_arn, "cluster": CLUSTER},
        (&stack.other_node_role_id): {"arn": stack.other_node_role_arn, "cluster": OTHER_CLUSTER},
    });
    let assumable = ["role/example-rolecall-cluster-pod-role-*", "role/team/*"];
    let assumable = assumable.map(|resource| format!("arn:aws:iam::{ACCOUNT}:{resource}"));
    [
        ("AWS_ENDPOINT_URL", format!("http://{SERVICES}:4566")),
        ("API_ID", API_ID.to_owned()),
        ("API_STAGE", "v1".to_owned()),
        ("VPCE_IDS", VPCE_ID.to_owned()),
        ("STAGE_SECRET", STAGE_SECRET.to_owned()),
        ("NODE_ROLES", node_roles.to_string()),
        ("ASSUMABLE_ROLES", json!({CLUSTER: assumable, OTHER_CLUSTER: assumable}).to_string()),
        ("DIRECTORY_TABLE", stack.directory_table.clone()),
        ("CACHE_TABLE", stack.cache_table.clone()),
        ("KMS_KEY_ID", stack.key_arn.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
