//! What the steps play on: two nodes and five pods.

use anyhow::Result;
use e2e::net::{Pod, PodSpec};
use e2e::{Lab, Options};

use crate::report::{PodEntry, Report};

/// The role of the seed's proof: it may look at one topic.
pub(crate) const POD_ROLE: &str = "example-rolecall-cluster-pod-role-somesuffix";
/// The role of the pod beside it.
pub(crate) const OTHER_ROLE: &str = "example-rolecall-cluster-pod-role-other";
/// The pattern that permits both.
pub(crate) const PERMITTED: &str = "example-rolecall-cluster-pod-role-.*";
/// The same with the famous mistake.
pub(crate) const MISTAKEN: &str = "example-rolecall-cluster-pod-role-*";

/// The laboratory and its pods.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    /// Has [`POD_ROLE`], on node-a.
    pub(crate) example: Pod,
    /// Has [`OTHER_ROLE`], on node-a.
    pub(crate) neighbour: Pod,
    /// Has no annotation, on node-a.
    pub(crate) plain: Pod,
    /// Wants [`POD_ROLE`] in a namespace whose pattern is mistaken, on node-a.
    pub(crate) forbidden: Pod,
    /// Has [`OTHER_ROLE`], on node-b.
    pub(crate) elsewhere: Pod,
}

impl Stage {
    /// Starts everything.
    pub(crate) async fn set(report: &Report) -> Result<Self> {
        report.preparing("starting AWS (ministack, local-cloud) and two nodes, each in a network namespace");
        let mut lab = Lab::start_cloud(Options::default()).await?;
        report.preparing("starting node-agent serve (no capability) and intercept (NET_ADMIN, NET_RAW) on each node");
        lab.start_agents().await?;
        report.preparing("starting five pods through CNI, and writing their records into the directory");
        lab.directory().permit("default", PERMITTED).await?;
        lab.directory().permit("mistaken", MISTAKEN).await?;
        let example = lab.schedule("node-a", PodSpec::new("default", "example").role(POD_ROLE)).await?;
        let neighbour = lab.schedule("node-a", PodSpec::new("default", "neighbour").role(OTHER_ROLE)).await?;
        let plain = lab.schedule("node-a", PodSpec::new("default", "plain")).await?;
        let forbidden = lab.schedule("node-a", PodSpec::new("mistaken", "example").role(POD_ROLE)).await?;
        let elsewhere = lab.schedule("node-b", PodSpec::new("default", "elsewhere").role(OTHER_ROLE)).await?;
        Ok(Self { lab, example, neighbour, plain, forbidden, elsewhere })
    }

    /// The pods, for the JSON.
    pub(crate) fn pods(&self) -> Vec<PodEntry> {
        let on = [
            ("node-a", &self.example),
            ("node-a", &self.neighbour),
            ("node-a", &self.plain),
            ("node-a", &self.forbidden),
            ("node-b", &self.elsewhere),
        ];
        let entry = |(node, pod): (&str, &Pod)| PodEntry {
            namespace: pod.spec().namespace.clone(),
            name: pod.spec().name.clone(),
            node: node.to_owned(),
            netns: pod.namespace().name().to_owned(),
            role: pod.spec().annotation_of("role"),
        };
        on.into_iter().map(entry).collect()
    }

    /// Leaves everything running and says how to use it.
    pub(crate) fn keep(self) -> Result<()> {
        let Self { lab, example, neighbour, plain, forbidden, elsewhere } = self;
        let pods = vec![example, neighbour, plain, forbidden, elsewhere];
        println!("\neverything is left running. To enter a pod, or to run a command in it, as root:");
        for pod in &pods {
            println!("  sh {}", lab.entrance(pod)?.display());
        }
        println!("for example: sh {} aws sts get-caller-identity", lab.entrance(&pods[0])?.display());
        println!("logs: {}", lab.registration().directory().display());
        println!("to end it: cargo xtask demo --stop");
        lab.keep(pods)
    }
}
