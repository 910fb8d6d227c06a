//! The network: AWS in one namespace, each node in one, each pod in one.
//!
//! ```text
//!  pod 10.1.N.x ── veth (ptp) ── node-N 10.0.N.10 ── veth ── aws: 10.0.N.1, 169.254.169.254, 10.255.0.1 (services)
//! ```
//! IPv6 beside it: `fd00:1:0:N::/64`, `fd00:0:0:N::10`, `fd00:0:0:N::1`, `fd00:ec2::254`. All addresses are the same in
//! every laboratory, since nothing of it touches the host's own network.

mod namespace;
mod node;
mod pod;

pub use namespace::{InsideRuntime, Namespace};
pub use node::Node;
pub use pod::{Pod, PodSpec, Sandbox, Unseen};

use anyhow::Result;

use crate::registry::Registration;

/// Where AWS's services listen.
pub const SERVICES: &str = "10.255.0.1";

/// Makes the namespace of AWS: it has the metadata addresses, and routes between nodes as a VPC does.
pub async fn aws(registration: &Registration) -> Result<Namespace> {
    let aws = Namespace::new(format!("{}-aws", registration.id())).await?;
    for address in ["169.254.169.254/32", &format!("{SERVICES}/32")] {
        aws.ip(&format!("addr add {address} dev lo")).await?;
    }
    aws.ip("-6 addr add fd00:ec2::254/128 dev lo").await?;
    aws.sysctl("net.ipv4.ip_forward", "1").await?;
    aws.sysctl("net.ipv6.conf.all.forwarding", "1").await?;
    Ok(aws)
}
