//! The agent of a node: it answers the metadata calls of the node's pods, and brings them to it.

pub mod intercept;
