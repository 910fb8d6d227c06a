//! The issuer on a fake that speaks AWS's protocols.

// Everything here is test code; clippy's own exemption reaches only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod clock;
mod fake_aws;
mod lab;

mod bootstrap;
mod credentials;
mod requests;
