//! The agent of a node: it answers the metadata calls of the node's pods, and brings them to it.

pub mod app;
pub mod check;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod error_chain;
pub mod health;
pub mod identity;
pub mod intercept;
pub mod issuer;
pub mod metadata;
pub mod metrics;
pub mod node;
mod peers;
