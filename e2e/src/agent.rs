//! The node agent's two programs on one node, each with no more power than its container has.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock::Clock;
use crate::cloud;
use crate::http;
use crate::net::{InsideRuntime, Node};
use crate::process::Daemon;
use crate::settings::Programs;

/// What `serve` may do beyond being UID 0: nothing.
const SERVE: [&str; 0] = [];
/// What `intercept` may do.
const INTERCEPT: [&str; 2] = ["net_admin", "net_raw"];
/// Where `serve` tells its health and metrics.
const HEALTH_PORT: u16 = 8182;

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    /// Answers pods.
    pub serve: Daemon,
    /// Brings their calls to it.
    pub intercept: Daemon,
    inside: InsideRuntime,
}

impl Agent {
    /// Starts both; [`Agent::ready`] waits for them. `intercept` lives by the real time: the kernel, which it watches, does.
    pub fn start(
        programs: &Programs,
        node: &Node,
        ca_certificate: &Path,
        arguments: &[String],
        clock: &Clock,
    ) -> Result<Self> {
        let program = programs.node_agent();
        let program = program.to_string_lossy();
        let line = |verb: &str, more: &[String]| [&[program.clone().into_owned(), verb.to_owned()], more].concat();
        let serve = node
            .place()
            .capabilities(&SERVE)
            .through(clock.launcher())
            .env("ROLECALL_ISSUER_URL", cloud::api_url())
            .env("ROLECALL_ISSUER_CA_FILE", ca_certificate);
        let intercept = node.place().capabilities(&INTERCEPT);
        let log = |name: &str| node.log_directory().join(format!("{name}.log"));
        Ok(Self {
            serve: Daemon::start("serve", serve, &line("serve", arguments), log("serve"))?,
            intercept: Daemon::start("intercept", intercept, &line("intercept", &[]), log("intercept"))?,
            inside: node.namespace().runtime()?,
        })
    }

    /// Waits until the agent says that it is ready.
    pub async fn ready(&mut self, deadline: Duration) -> Result<()> {
        let inside = &self.inside;
        self.serve.ready(deadline, async || health(inside, "/readyz").await.ok()).await.map(drop)
    }

    /// A page of the health port, such as `/readyz` or `/metrics`; an error unless it is answered with 200.
    pub async fn health(&self, path: &str) -> Result<String> {
        health(&self.inside, path).await
    }

    /// Lets both run on when this value is dropped.
    pub fn leave(&mut self) {
        self.serve.leave();
        self.intercept.leave();
    }
}

async fn health(inside: &InsideRuntime, path: &str) -> Result<String> {
    let url = format!("http://127.0.0.1:{HEALTH_PORT}{path}");
    let get = async move {
        let response = http::client().build()?.get(&url).send().await?;
        let status = response.status();
        Ok::<_, reqwest::Error>((status, response.text().await?))
    };
    let (status, text) = inside.run(get).await?.context("the agent's health port does not answer")?;
    ensure!(status.is_success(), "{path}: {status}: {text}");
    Ok(text)
}
