//! The agent of a node: it answers the metadata calls of the node's pods, and brings them to it.

pub mod clock;
pub mod identity;
pub mod intercept;
pub mod issuer;
pub mod node;
