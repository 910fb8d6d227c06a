use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::net::{self, Node};
use crate::registry::Registration;
use crate::settings::Tools;

#[tokio::test(flavor = "multi_thread")]
async fn the_template_makes_what_the_laboratory_needs() {
    let tools = Tools::find().unwrap();
    let registration = Registration::new().unwrap();
    let aws = net::aws(&registration).await.unwrap();
    let inside = Arc::new(aws.runtime().unwrap());
    let node = Node::new(&registration, &aws, "node-a", 1).await.unwrap();
    let _ministack = start_ministack(&registration, &tools, &aws, &inside).await.unwrap();
    let stack = Stack::create(&tools, &aws).await.unwrap();

    assert_eq!(stack.topic_arn, "arn:aws:sns:eu-central-1:123456789012:example-rolecall-cluster-example-topic");
    assert_eq!(stack.pod_role_arn, "arn:aws:iam::123456789012:role/example-rolecall-cluster-pod-role-somesuffix");
    model::name::RoleId::parse(&stack.node_role_id).unwrap();

    let directory = Directory::new(stack.directory_table.clone(), inside, Clock::real()).unwrap();
    directory.put_node(&node).await.unwrap();
    directory.permit("default", "example-.*").await.unwrap();
    directory.quarantine(&node, "a test").await.unwrap();
    directory.release(&node).await.unwrap();
    let aws_program = tools.aws();
    let scan = [&*aws_program.to_string_lossy(), "dynamodb", "scan", "--table-name", &stack.directory_table]
        .map(str::to_owned);
    let found = as_root(aws.place()).check(&scan, Duration::from_secs(20)).await.unwrap();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let mut keys: Vec<_> =
        found["Items"].as_array().unwrap().iter().map(|item| item["pk"]["S"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, [format!("{CLUSTER}/namespace/default"), format!("{CLUSTER}/node/{}", node.instance())]);
}
