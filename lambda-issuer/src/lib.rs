//! The issuer: the only holder of `sts:AssumeRole`, a Lambda function behind a private API.
//!
//! ```text
//! event        what API Gateway hands on
//! caller       requestContext -> cluster and EC2 instance that signed
//! records      pods, namespaces, node, quarantine, health: one strongly consistent read
//! (model)      decide: a permit for each pod, or a refusal
//! credentials  permits -> orders -> memory, the sealed shared cache, STS
//! outcomes     one per pod, audited and counted
//! http         the answer
//!
//! policies, identity   what differs from cluster to cluster, and who the issuer is
//! config, app, main    settings, wiring, the Lambda runtime's loop
//! ```

pub mod app;
pub mod caller;
pub mod clock;
pub mod config;
pub mod event;
pub mod handler;
pub mod http;
pub mod init_error;
pub mod lines;
pub mod log;

mod audit;
mod aws_error;
mod credentials;
mod identity;
mod metrics;
mod outcomes;
mod policies;
mod records;

pub use credentials::{SealError, SealingKey};
