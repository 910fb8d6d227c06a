//! Many keys of one node come due together while STS throttles and fails.
//!
//! An hour is not waited for: STS's first sessions here have 36 minutes, so that they come due a minute after they were had.
//! All thresholds are the programs' own. The whole hour is in `outage`, on a clock that runs fast.

mod together;

use std::process::ExitCode;

use anyhow::Result;
use e2e::suite;

fn main() -> Result<ExitCode> {
    suite::run_alone(e2e::alone_tests![together::a_hundred_keys_that_expire_together_are_renewed_in_time])
}
