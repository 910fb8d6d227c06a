//! The laboratory in which the demo and the end-to-end tests run the release programs: AWS, nodes and pods on one machine,
//! as network namespaces, with real CNI plugins, real nftables and an AWS that checks signatures and policies.
//!
//! Development only. It needs root; names carry the laboratory's id, so several run side by side.

pub mod agent;
pub mod client;
pub mod clock;
pub mod cloud;
pub mod crowd;
mod http;
pub mod lab;
pub mod load;
pub mod metadata;
pub mod net;
pub mod process;
pub mod registry;
pub mod settings;
pub mod signer;
pub mod suite;
pub mod world;

pub use lab::{Lab, Options};
