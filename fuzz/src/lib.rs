//! What must hold of every parser of outside input, whatever it is given.
//!
//! A target takes any bytes, hands them to a parser as the outside would, and asserts what the rest of Rolecall relies on. Where
//! it can, it compares with a second, simpler reading of the same bytes.
//!
//! ```text
//! targets/*    one file per parser
//! agent        a metadata service with one pod that has credentials, for the targets that speak HTTP
//! text         the text of an input
//! main         hands inputs from libFuzzer to a target (`cargo xtask fuzz`)
//! seeds/*      inputs to begin with, and those that once found a fault; the test `seeds` runs them all
//! ```

mod agent;
mod targets;
mod text;

pub use targets::{TARGETS, Target};
