//! The pure core of Rolecall: what a name, a role, a permission and a decision are.
//!
//! Nothing here reads a clock, a file, a socket or the environment; time and facts are arguments. The issuer, the node
//! agent, the sync and the command-line tools all decide and speak through these types, so that they cannot disagree.
//!
//! ```text
//! annotations (text) -> name, arn, pattern, permission   parsed once, at the edge
//! record                                                 what the directory table holds
//! policy::decide(policy, caller, ask, facts, now)        -> Permit | Refusal
//! Permit -> session::SessionSpec -> STS                  the only way to a session
//! wire                                                   what agent and issuer say to each other
//! ```

pub mod annotation;
pub mod arn;
pub mod assumable;
pub mod credentials;
pub mod name;
pub mod pattern;
pub mod permission;
pub mod policy;
pub mod record;
pub mod refusal;
pub mod session;
pub mod time;
pub mod wire;
