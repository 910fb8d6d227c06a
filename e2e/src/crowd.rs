//! Many pods whose networks come to be in one moment.

use anyhow::Result;

use crate::client::{Connections, PodClient, Timed};
use crate::lab::Lab;
use crate::net::{Pod, PodSpec, Unseen};

/// A pod that is about to have a network, and a client in it.
#[derive(Debug)]
pub struct Ready {
    unseen: Unseen,
    client: PodClient,
}

impl Ready {
    /// The network comes to be, and the pod asks for credentials at once, as an SDK does.
    pub async fn start(self) -> Result<(Pod, PodClient, Timed)> {
        let pod = self.unseen.appear()?;
        let first = self.client.credentials().await?;
        Ok((pod, self.client, first))
    }
}

/// Prepares pods on a node; touches no record of the directory.
pub async fn prepare(lab: &Lab, node: &str, specs: impl IntoIterator<Item = PodSpec>) -> Result<Vec<Ready>> {
    let mut ready = Vec::new();
    for spec in specs {
        let sandbox = lab.bare_sandbox(node, spec).await?;
        let client = PodClient::within(sandbox.namespace(), Connections::New)?;
        ready.push(Ready { unseen: sandbox.connect_unseen().await?, client });
    }
    Ok(ready)
}
