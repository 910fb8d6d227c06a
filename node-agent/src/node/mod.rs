//! The node's own identity and credentials, from the real EC2 metadata service.

mod credentials;
mod error;
mod metadata;

pub use credentials::NodeCredentials;
pub use error::NodeError;
pub use metadata::{InvalidEndpoint, MetadataAnswer, MetadataEndpoint, NodeMetadata, http_client};

#[cfg(test)]
pub(crate) mod tests;
