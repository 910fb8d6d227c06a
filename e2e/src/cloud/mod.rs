//! AWS: ministack behind local-cloud, in a namespace of its own.
//!
//! ```text
//! ministack :4570        IAM, STS, DynamoDB, KMS, SNS; takes the root key from everybody, so only this namespace reaches it
//! local-cloud :4566      the same services for nodes, pods and the function, without the root key
//!             :443       the private API, which runs the issuer function
//!             169.254.169.254:80, [fd00:ec2::254]:80   EC2 metadata, one service per node
//!             127.0.0.1:4571                           switches for delays and outages
//! ```

mod control;
mod directory;
mod local_cloud;
mod ministack;
mod stack;
mod table;

pub use control::Control;
pub use directory::Directory;
pub use local_cloud::{FunctionSettings, Plan};
pub use stack::Stack;
pub use table::{Item, Table};

pub(crate) use ministack::start as start_ministack;
pub(crate) use stack::as_root;

/// The region that everything is in.
pub const REGION: &str = "eu-central-1";
/// The account that owns everything.
pub const ACCOUNT: &str = "123456789012";
/// The cluster's name.
pub const CLUSTER: &str = "example-rolecall-cluster";
/// Another cluster of the same account, with the same issuer: its nodes have a role of their own.
pub const OTHER_CLUSTER: &str = "another-cluster";
/// The private API.
pub const API_ID: &str = "a1b2c3d4e5";
/// The endpoint in front of it.
pub const VPCE_ID: &str = "vpce-0123456789abcdef0";
/// What every program of a pod is told, since there is no real AWS here.
pub const ENDPOINT_URL: &str = "http://aws.internal:4566";

/// Where ministack listens.
const MINISTACK: &str = "127.0.0.1:4570";
/// Where local-cloud takes orders.
const CONTROL: &str = "127.0.0.1:4571";

/// The host name of the API, as agents are told it.
pub fn api_host() -> String {
    format!("{API_ID}-{VPCE_ID}.execute-api.{REGION}.amazonaws.com")
}

/// What agents are told to call.
pub fn api_url() -> String {
    format!("https://{}/v1/credentials", api_host())
}

#[cfg(test)]
mod tests;
