//! G7: an outage of the control plane of 25 minutes fails no request of a running pod.
//!
//! Nearly two hours of the release programs' own time, thirty times as fast as the real one: a normal part, an outage of
//! 25 of 60 minutes, and what comes after it. Thresholds are those of every node; only the clock that the programs read is
//! faster. At that speed an agent's 800 ms are 27 real ones, so first asks are not judged here. The same on a paused clock,
//! for outages that begin at any minute: `node-agent/src/credentials/tests/outage.rs`.

mod calls;
mod pods;
mod sessions;
mod story;

use std::process::ExitCode;

use anyhow::Result;
use e2e::suite;

fn main() -> Result<ExitCode> {
    suite::run_alone(e2e::alone_tests![story::g7_an_outage_of_25_minutes_fails_no_request_of_a_running_pod])
}
