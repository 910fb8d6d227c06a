//! The node's own identity and credentials, from the real EC2 metadata service.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::StatusCode;
use model::name::InstanceId;
use thiserror::Error;

use crate::clock::Clock;

/// Why the metadata service gave nothing.
#[derive(Debug, Error)]
pub enum NodeError {
    /// No connection, or no answer in time.
    #[error("no answer from the EC2 metadata service at {0}: is this an EC2 instance with metadata enabled?")]
    Unreachable(String),
    /// It gives no token.
    #[error("the EC2 metadata service gives no session token (status {0}): IMDSv2 must be enabled")]
    NoToken(StatusCode),
    /// It has no such path.
    #[error("the EC2 metadata service has no {0}")]
    NotFound(String),
    /// It answered with an error.
    #[error("the EC2 metadata service answered {path} with status {status}")]
    Status {
        /// What was asked.
        path: String,
        /// What came.
        status: StatusCode,
    },
    /// The instance has no role.
    #[error("this instance has no role: attach an instance profile with the node role")]
    NoRole,
    /// The credentials document is an error of EC2's own.
    #[error("EC2 gives no credentials for the node role: {code}: {message}")]
    Refused {
        /// EC2's code.
        code: String,
        /// EC2's message.
        message: String,
    },
    /// The answer is longer than this service's answers are.
    #[error("the EC2 metadata service's answer to {0} is too long")]
    TooLong(String),
    /// The answer is not understood. Its text is not kept: it may hold secrets.
    #[error("the EC2 metadata service's answer to {0} is not understood")]
    Malformed(String),
    /// What it gave has already expired.
    #[error("the node's credentials expired and could not be refreshed")]
    Expired,
}

/// An answer of the metadata service, whatever its status.
#[derive(Clone, Debug)]
pub struct MetadataAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its body, bounded.
    pub body: Bytes,
}

/// Where the metadata service is: `http://169.254.169.254` unless set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEndpoint(url::Url);

/// The real metadata service, asked with IMDSv2 only.
#[derive(Debug)]
pub struct NodeMetadata {}

impl NodeMetadata {
    /// A client of the service at `endpoint`.
    pub fn new(_endpoint: MetadataEndpoint) -> Result<Self, NodeError> {
        unimplemented!()
    }

    /// Asks for `path`, which begins with `/latest/` or a dated version. Any status is an answer.
    pub async fn get(&self, _path: &str) -> Result<MetadataAnswer, NodeError> {
        std::future::pending().await
    }

    /// This instance's id.
    pub async fn instance_id(&self) -> Result<InstanceId, NodeError> {
        std::future::pending().await
    }

    /// The region it runs in.
    pub async fn region(&self) -> Result<String, NodeError> {
        std::future::pending().await
    }
}

/// The node role's credentials, kept fresh.
#[derive(Debug)]
pub struct NodeCredentials {}

impl NodeCredentials {
    /// Takes them from `metadata`.
    pub fn new(_metadata: Arc<NodeMetadata>, _clock: Clock) -> Self {
        unimplemented!()
    }

    /// The credentials to sign with now; fetched first when there are none that are valid.
    pub async fn current(&self) -> Result<Arc<Credentials>, NodeError> {
        std::future::pending().await
    }

    /// The same, asked of EC2 again unless that was done within the last moment: for a signature refused as expired.
    pub async fn renewed(&self) -> Result<Arc<Credentials>, NodeError> {
        std::future::pending().await
    }

    /// Refreshes them in time. Runs until dropped; spawn it once.
    pub async fn run(&self) -> Infallible {
        let _ = Duration::ZERO;
        std::future::pending().await
    }
}
