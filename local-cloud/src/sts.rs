//! The endpoint of every AWS service but API Gateway: what ministack leaves out is checked, then ministack answers.
//!
//! ```text
//! listener     reads the request whole
//! operation      which key, service and operation: from the signature, the target header, the form
//! (faults)       delays, throttles, outages
//! assume         what STS validates and ministack does not
//! upstream       unchanged to ministack, so that the signature stays valid; and requests of our own, signed as root
//! role           the role's longest session and its trust policy, for what is judged after ministack has permitted it
//! answer         the key into the ledger
//! refusal        every error document, as the service in question writes it
//! ```
//!
//! Parameters are checked before the signature is, so a request that is wrong twice is refused for its parameters.

mod answer;
mod assume;
mod endpoint;
mod operation;
mod refusal;
mod role;
mod upstream;

pub use endpoint::{Asked, Endpoint, EndpointError};
pub(crate) use upstream::Upstream;
