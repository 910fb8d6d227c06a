//! node-agent

pub mod clock;
pub mod identity;
pub mod issuer;
pub mod node;
