//! What pods see while something fails: 200 requests a second of 20 pods that have their credentials, and new pods that ask
//! for the first time meanwhile, through one fault after the other. Each fault is a test and a row of the table at the end.
//!
//! RECOVERY is counted from the end of the fault, where it is a kill from the kill, to the sending of the first of 20 right
//! answers in a row after which none failed, of the slowest pod.

mod api;
mod clock;
mod fault;
mod function;
mod newcomers;
mod node;
mod row;
mod services;
mod shortage;
mod table;
mod warm;

use std::process::ExitCode;

use anyhow::Result;
use e2e::cloud::FunctionSettings;
use e2e::{Options, suite};

/// Far below Lambda's 29 s behind API Gateway, so that an environment that hangs is gone within its own row.
const TIMEOUT_MS: u64 = 3000;
/// More than all that hang at a time.
const ENVIRONMENTS: usize = 16;

fn main() -> Result<ExitCode> {
    let function =
        FunctionSettings { environments: ENVIRONMENTS, timeout_ms: TIMEOUT_MS, ..FunctionSettings::default() };
    let options = Options { function, ..Options::default() };
    let tests = e2e::shared_tests![
        node::agent_killed_and_restarted,
        node::intercept_killed,
        node::rules_flushed,
        function::environment_killed_mid_request,
        function::function_time_out,
        function::function_out_of_memory,
        services::dynamodb_throttling,
        services::dynamodb_errors,
        services::dynamodb_latency_of_5_s,
        services::kms_key_disabled,
        services::sts_errors,
        services::sts_throttling,
        services::sts_latency_of_10_s,
        api::api_gateway_403,
        api::api_gateway_429,
        api::api_gateway_500,
        api::api_gateway_503,
        api::connection_refused,
        api::half_open_connections,
        api::dns_gone,
        api::node_credentials_expired,
        clock::clock_10_minutes_ahead,
        clock::clock_10_minutes_behind,
        shortage::disk_full,
        shortage::file_descriptors_exhausted,
    ];
    let outcome = suite::run_shared(&options, tests);
    warm::end();
    table::print();
    outcome
}
