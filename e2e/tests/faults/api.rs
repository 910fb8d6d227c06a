//! The way to the issuer: name, network, API Gateway and the node's own credentials.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use e2e::world::World;
use local_cloud::faults::{Effect, Rule, Target};

use crate::fault::{Aws, Fault, Harm, Plan};
use crate::row;
use crate::warm::NODES;

/// A pod that asks brings its next attempt forward to a second after the last one; the attempt and a busy machine take
/// another.
const NEXT_ATTEMPT: Harm = Harm::Until(Duration::from_secs(3));
/// An attempt that hangs is given up first: the agent waits 2.5 s for a connection, name included, and 3.8 s for an answer.
const GIVEN_UP: Harm = Harm::Until(Duration::from_secs(6));
const SOON: Duration = Duration::from_secs(10);

async fn answering(world: &mut World, fault: &'static str, effect: Effect) -> Result<()> {
    let rules = vec![Rule::new(Target::Gateway, effect)];
    row::run(world, Plan::behind_the_agent(fault, NEXT_ATTEMPT), Aws(rules)).await
}

pub(crate) async fn api_gateway_403(world: &mut World) -> Result<()> {
    answering(world, "API Gateway 403", Effect::Error(403)).await
}

pub(crate) async fn api_gateway_429(world: &mut World) -> Result<()> {
    answering(world, "API Gateway 429", Effect::Throttle).await
}

pub(crate) async fn api_gateway_500(world: &mut World) -> Result<()> {
    answering(world, "API Gateway 500", Effect::Error(500)).await
}

pub(crate) async fn api_gateway_503(world: &mut World) -> Result<()> {
    answering(world, "API Gateway 503", Effect::Error(503)).await
}

/// EC2 hands out credentials that have expired, and AWS takes those that the agent holds as expired.
pub(crate) async fn node_credentials_expired(world: &mut World) -> Result<()> {
    let rules = [Target::Metadata, Target::Gateway].map(|target| Rule::new(target, Effect::Expired));
    let plan = Plan::behind_the_agent("node credentials expired", NEXT_ATTEMPT);
    row::run(world, plan, Aws(rules.to_vec())).await
}

pub(crate) async fn connection_refused(world: &mut World) -> Result<()> {
    let plan = Plan::behind_the_agent("connection refused", NEXT_ATTEMPT);
    row::run(world, plan, Packets("reject with tcp reset")).await
}

/// What is sent to the API is lost, on connections that were open before as on new ones.
pub(crate) async fn half_open_connections(world: &mut World) -> Result<()> {
    row::run(world, Plan::behind_the_agent("half-open connections", GIVEN_UP), Packets("drop")).await
}

/// What becomes of packets to the API.
struct Packets(&'static str);

impl Fault for Packets {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        let chain = "type filter hook input priority 0; tcp dport 443";
        nft(world, &format!("table inet fault {{ chain input {{ {chain} {}; }}; }}", self.0)).await
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        nft(world, "delete table inet fault").await
    }
}

/// In the network of AWS.
async fn nft(world: &World, rules: &str) -> Result<()> {
    world.lab.outside().check(&["nft", rules], SOON).await.map(drop)
}

/// The nodes' hosts files no longer know the API's name, and no name server answers. Open connections are ended too: they
/// would need no name.
pub(crate) async fn dns_gone(world: &mut World) -> Result<()> {
    row::run(world, Plan::behind_the_agent("DNS gone", GIVEN_UP), NameGone(Vec::new())).await
}

struct NameGone(Vec<String>);

impl Fault for NameGone {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        for name in NODES {
            let node = world.lab.node(name)?;
            let hosts = fs::read_to_string(node.hosts_file())?;
            let others: String =
                hosts.lines().filter(|line| !line.contains("execute-api")).flat_map(|l| [l, "\n"]).collect();
            // In place: the node's programs see this very file.
            fs::write(node.hosts_file(), others)?;
            self.0.push(hosts);
            let end = ["ss", "--kill", "--no-header", "dport", "=", ":443"];
            node.namespace().place().check(&end, SOON).await?;
        }
        Ok(())
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        for (name, hosts) in NODES.iter().zip(self.0.drain(..)) {
            fs::write(world.lab.node(name)?.hosts_file(), hosts)?;
        }
        Ok(())
    }
}
