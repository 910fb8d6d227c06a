//! The EC2 metadata service as pods see it.
//!
//! ```text
//! server    connections: how many, how long, from whom
//! service   one request: host, who asks, token, route -> answer
//!   path      the path, read once into a closed list
//!   rate      how often each pod asks
//!   host      is it meant for the metadata service?
//!   token     IMDSv2's session tokens
//!   allow     what the real service may be asked for;  constants: what it said lately
//! answer    every outcome's status and text;  document: the JSON of the credential paths
//! access    one line and one count for each request
//! ```

mod access;
mod allow;
mod answer;
mod constants;
mod document;
mod host;
mod metrics;
mod path;
mod rate;
mod server;
mod service;
#[cfg(test)]
mod tests;
mod token;
mod token_key;

pub use allow::{AllowList, AllowedPath};
pub use host::Hosts;
pub use metrics::MetadataMetrics;
pub use path::{MetadataPath, RequestedRole, Route};
pub use server::{Limits, serve, serve_connection};
pub use service::{Metadata, Pods, REQUESTS_PER_SECOND, Settings, Upstream};
pub use token::{KEY_BYTES, Tokens};
pub use token_key::{TokenKeyError, load_or_create};
