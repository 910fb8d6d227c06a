//! Credentials of the node's pods: fetched before they are asked for, renewed before they get old, one fetch for everybody
//! who waits.
//!
//! ```text
//! identity --SandboxChange--> Keeper (one task) --IssueRequest--> Issuer
//! metadata --Credentials::find--> a watch channel per sandbox <--View-- Keeper
//! ```
//!
//! The keeper alone decides when to ask and what an answer means. Who waits only watches, so a client that hangs up cancels
//! nothing and fifty of them cause one fetch. Everything is keyed by sandbox, never by address.

mod backoff;
mod entry;
mod issuer;
mod keeper;
mod lanes;
mod metrics;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

pub use backoff::Chance;
pub use issuer::{Fault, Issuer};
pub use keeper::Keeper;
pub use metrics::CredentialsMetrics;
pub use store::{Contact, Credentials, Found, Held, Stopped};

/// For how long the issuer's answer to a first question is useful: a pod's request is held for 900 ms, and the answer needs
/// time to come back.
const FIRST_PATIENCE: Duration = Duration::from_millis(800);
/// The same for what nobody waits for: renewals, and what was not ready within the first patience.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
