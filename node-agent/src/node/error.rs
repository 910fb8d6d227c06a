//! Why the metadata service gave nothing.

use http::StatusCode;
use thiserror::Error;

/// Why the metadata service gave nothing.
#[derive(Debug, Error)]
pub enum NodeError {
    /// No connection, or no answer in time.
    #[error("no answer from the EC2 metadata service at {0}: is this an EC2 instance with metadata enabled?")]
    Unreachable(String),
    /// It gives no token.
    #[error("the EC2 metadata service gives no session token (status {0}): IMDSv2 must be enabled on the instance")]
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
    #[error("EC2 gives credentials of the node role that have expired: is the node's clock right?")]
    Expired,
}
