//! Development only. Stands in for the parts of AWS that Rolecall's path of one request meets and that ministack does not
//! play: EC2 metadata, the private API Gateway, the Lambda Runtime API, and the checks of STS that ministack leaves out.

pub mod config;
pub mod faults;
pub mod ledger;
