//! The wiring: settings in, listeners open, everything served until the process is told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Control, Parts};
use crate::faults::Faults;
use crate::gateway::{self, Gateway};
use crate::lambda::{Function, Platform};
use crate::ledger::Ledger;
use crate::metadata::{Metadata, Surroundings};
use crate::server::{Stop, stop};
use crate::sts::Endpoint;

/// A part of the process that serves until it is stopped.
type Tasks = JoinSet<&'static str>;

/// Opens everything, serves, and ends when `told_to_stop` does; the function's environments are ended too.
pub async fn run(mut config: Config, clock: Clock, told_to_stop: impl Future<Output = ()>) -> Result<()> {
    let (stopper, stop) = stop();
    let (faults, ledger, mut tasks) = (Faults::default(), Ledger::default(), Tasks::new());
    let configured_secrets = config.secrets();
    let endpoint = Endpoint::new(&config, clock.clone(), faults.clone(), ledger.clone())?;
    for address in &config.endpoint.listen {
        let listener = listen(*address, "endpoint.listen").await?;
        serve(&mut tasks, "endpoint", endpoint.clone().serve(listener, stop.clone()));
    }
    let surroundings = Surroundings {
        region: config.region.clone(),
        account: config.account.clone(),
        endpoint: endpoint.clone(),
        faults: faults.clone(),
        clock: clock.clone(),
    };
    let mut instances = Vec::new();
    for instance in std::mem::take(&mut config.instances) {
        let metadata = Metadata::new(instance, &surroundings)?;
        for listener in metadata.listen()? {
            serve(&mut tasks, "metadata", metadata.clone().serve(listener, stop.clone()));
        }
        instances.push(metadata);
    }
    let control = listen(config.control, "control").await?;
    let api = api(config, &surroundings, &ledger, &mut tasks, &stop).await?;
    let function = api.as_ref().map(|(_, function)| function.clone());
    let parts = Parts { faults, ledger, endpoint, instances, api, configured_secrets };
    serve(&mut tasks, "control", Control::new(parts).serve(control, stop.clone()));
    tracing::info!("local-cloud is ready: a stand-in for AWS, for development only");

    let ended = tokio::select! {
        () = told_to_stop => Ok(()),
        Some(ended) = tasks.join_next() => Err(ended),
    };
    stopper.stop();
    if let Some(function) = function {
        function.stop().await;
    }
    while tasks.join_next().await.is_some() {}
    match ended {
        Ok(()) => Ok(()),
        Err(ended) => bail!("the {} listener ended by itself", ended.unwrap_or("a")),
    }
}

/// The function and the API in front of it. The API's listeners are the last to open: who can connect finds all the rest.
async fn api(
    config: Config,
    surroundings: &Surroundings,
    ledger: &Ledger,
    tasks: &mut Tasks,
    stop: &Stop,
) -> Result<Option<(Gateway, Function)>> {
    let (Some(api), Some(function)) = (config.api, config.function) else { return Ok(None) };
    let Surroundings { region, account, endpoint, faults, clock } = surroundings.clone();
    let platform =
        Platform { region: region.clone(), role: Arc::new(endpoint), faults: faults.clone(), clock: clock.clone() };
    let function = Function::start(function, platform)?;
    let around = gateway::Surroundings {
        region,
        account,
        upstream: config.upstream,
        ledger: ledger.clone(),
        faults,
        clock,
        function: function.clone(),
    };
    let gateway = Gateway::new(&api, around)?;
    for address in &api.listen {
        let listener = listen(*address, "api.listen").await?;
        let (gateway, stop) = (gateway.clone(), stop.clone());
        serve(tasks, "api", async move { gateway.serve(listener, stop).await });
    }
    Ok(Some((gateway, function)))
}

fn serve(tasks: &mut Tasks, name: &'static str, serving: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        serving.await;
        name
    });
}

async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}; change {setting}"))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;

    async fn start(control: SocketAddr) -> Result<()> {
        let config = serde_json::from_value(json!({
            "region": "eu-central-1", "account": "123456789012", "upstream": "http://127.0.0.1:1",
            "endpoint": {"listen": ["127.0.0.1:0", "[::1]:0"]}, "control": control,
            "instances": [{"id": "i-0123456789abcdef0", "zone": "eu-central-1a", "local_ipv4": "10.0.1.10",
                "listen": [{"address": "127.0.0.1:0"}]}]
        }))?;
        run(config, Clock::new(|| SystemTime::UNIX_EPOCH), std::future::ready(())).await
    }

    #[tokio::test]
    async fn it_ends_when_told_to() {
        start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_setting() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = start(address).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}; change control"));
    }
}
