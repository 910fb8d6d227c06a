//! Development only. Stands in for the parts of AWS that Rolecall's path of one request meets and that ministack does not
//! play: EC2 metadata, the private API Gateway, the Lambda Runtime API, and the checks of STS that ministack leaves out.
//!
//! ```text
//! node, pod ---> metadata   one listener per instance      ---\
//! node, pod, function ---> sts   all AWS services, STS checked ---> ministack (signatures, IAM, data)
//! node ---> gateway   signature, policy, event ---> lambda   environments of the function's binary
//! control   faults in; counts, issued keys and secrets out
//! ```

pub mod app;
pub mod clock;
pub mod config;
pub mod control;
pub mod faults;
pub mod gateway;
pub mod lambda;
pub mod ledger;
pub mod metadata;
pub mod server;
pub mod sts;
