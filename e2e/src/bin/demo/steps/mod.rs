//! The steps, in the order in which they are shown.

mod identity;
mod metadata;
mod node;
mod outage;
mod permission;

use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;
use e2e::net::Pod;
use e2e::process::Output;

use crate::stage::Stage;

/// One thing that is tried.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) run: for<'a> fn(&'a mut Stage) -> Trying<'a>,
}

/// A step under way.
pub(crate) type Trying<'a> = Pin<Box<dyn Future<Output = Result<Seen>> + 'a>>;

/// What came of it.
pub(crate) struct Seen {
    /// What was tried, as a person would write it.
    pub(crate) tried: String,
    /// What came back.
    pub(crate) got: String,
    /// Whether that was as expected.
    pub(crate) ok: bool,
}

/// All steps. The outages come last, since they leave agents dead until the last one.
pub(crate) const ALL: &[Step] = &[
    step("an unmodified aws CLI in a pod", "it has the pod's own role", |s| Box::pin(identity::who_am_i(s))),
    step("the same over IPv6", "it has the pod's own role", |s| Box::pin(identity::over_ipv6(s))),
    step("what the role may do", "the topic's attributes", |s| Box::pin(identity::topic(s))),
    step("what the role may not do", "not authorized to perform: SNS:ListTopics", |s| {
        Box::pin(identity::list_topics(s))
    }),
    step("a pod of another role, beside it", "it has its own role", |s| Box::pin(identity::neighbour(s))),
    step(
        "a role that the namespace forbids: a star where .* was meant",
        "NamespaceForbidsRole, and the pattern to write",
        |s| Box::pin(permission::forbidden(s)),
    ),
    step("a pod without annotation", "404, no role", |s| Box::pin(permission::plain(s))),
    step("a pod asks for another pod's role by name", "404", |s| Box::pin(permission::other_role(s))),
    step("node B signs for a pod of node A", "pod_on_other_node", |s| Box::pin(node::other_nodes_pod(s))),
    step("node A's credentials used from node B's address", "403 caller_not_a_node", |s| Box::pin(node::stolen(s))),
    step("another role, its session named like node A", "403 caller_not_a_node", |s| Box::pin(node::impostor(s))),
    step("a perfectly forged event, past the API", "403 caller_not_a_node", |s| Box::pin(node::forged_event(s))),
    step("the node's credentials call STS AssumeRole", "AccessDenied", |s| Box::pin(node::assume_role(s))),
    step("a pod asks for the node's user data", "404", |s| Box::pin(metadata::user_data(s))),
    step("a pod asks for the node's own role", "404", |s| Box::pin(metadata::node_role(s))),
    step("a forged Host (DNS rebinding)", "403", |s| Box::pin(metadata::forged_host(s))),
    step("the agent is killed", "connection refused", |s| Box::pin(outage::agent_killed(s))),
    step("intercept is killed too, and all rules are flushed", "no way there", |s| Box::pin(outage::rules_flushed(s))),
    step("both are started again", "the pod has its role again", |s| Box::pin(outage::started_again(s))),
];

const fn step(name: &'static str, expected: &'static str, run: for<'a> fn(&'a mut Stage) -> Trying<'a>) -> Step {
    Step { name, expected, run }
}

/// An aws CLI asks the metadata service, STS and the service in question; on a cold machine it takes seconds to load.
const ONE_COMMAND: Duration = Duration::from_secs(30);

/// Runs a command line in a pod; also returns how a person would write it.
async fn in_pod(pod: &Pod, line: &[&str]) -> Result<(String, Output)> {
    let words =
        line.iter().map(|word| if word.contains([' ', '{']) { format!("'{word}'") } else { (*word).to_owned() });
    let shown = words.collect::<Vec<_>>().join(" ");
    let tried = format!("in pod {}/{}: {shown}", pod.spec().namespace, pod.spec().name);
    Ok((tried, pod.run(line, ONE_COMMAND).await?))
}

/// Asks the metadata address from a pod. Gives the status, 000 where there was no answer, and the body.
async fn metadata_of(pod: &Pod, more: &[&str], path: &str) -> Result<(String, String, String)> {
    let url = format!("http://169.254.169.254/latest/{path}");
    let line = [&["curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}"], more, &[&url]].concat();
    let output = pod.run(&line, ONE_COMMAND).await?;
    let (body, status) = output.stdout.rsplit_once('\n').unwrap_or(("", "000"));
    let tried =
        format!("in pod {}/{}: curl {}", pod.spec().namespace, pod.spec().name, [more, &[&url]].concat().join(" "));
    Ok((tried, status.to_owned(), if status == "000" { output.stderr } else { body.to_owned() }))
}
