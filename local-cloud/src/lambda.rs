//! AWS Lambda as a function sees it: environments of the real program behind the Runtime API, one event at a time each,
//! started on demand, frozen between events, killed when they take too long.
//!
//! ```text
//! function       takes events, finds each an environment
//!   pool           which one: idle, new, or none (throttled)
//!   environment    one life: INIT, then event after event; every state change is here
//!     process        the program: start, SIGSTOP, SIGCONT, SIGKILL
//!     runtime_api    what the program asks over HTTP, as calls to the environment
//!     log            the environment's log file, with the platform's own lines
//! failure        how an invocation fails, in Lambda's words
//! ```

mod environment;
mod failure;
mod function;
mod log;
mod pool;
mod process;
mod request_id;
mod runtime_api;
mod variables;

pub use failure::InvokeError;
pub use function::{Function, StartError, Stats};
pub(crate) use request_id::{random_bytes, request_id, trace_header};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

use crate::clock::Clock;
use crate::faults::Faults;
use crate::ledger::IssuedKey;

/// Why the function's role gave no session.
#[derive(Debug, Error)]
#[error("no session of the function's role: {0}")]
pub struct RoleError(pub String);

/// A session of the function's role, in the making.
pub type RoleSession<'a> = Pin<Box<dyn Future<Output = Result<Arc<IssuedKey>, RoleError>> + Send + 'a>>;

/// Where a new environment's credentials come from. On AWS the Lambda service assumes the role; here STS is asked as root.
pub trait ExecutionRole: Send + Sync {
    /// A fresh session of the role `role_arn`; Lambda names it after the function.
    fn session<'a>(&'a self, role_arn: &'a str, session_name: &'a str) -> RoleSession<'a>;
}

/// What surrounds the function.
#[derive(Clone)]
pub struct Platform {
    /// Such as `eu-central-1`.
    pub region: String,
    /// The role's sessions.
    pub role: Arc<dyn ExecutionRole>,
    /// The faults in force.
    pub faults: Faults,
    /// Tells the time.
    pub clock: Clock,
}
