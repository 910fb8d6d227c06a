//! What a program in a pod can do to the agent and to its neighbours: forged source addresses, requests that two readers
//! could read in two ways, targets and paths that mean something else, guessed tokens, and floods. Each attempt has its exact
//! answer; a quiet neighbour on the same node keeps its speed, and the agent its memory.

mod cases;
mod flood;
mod load;
mod many;
mod neighbour;
mod paths;
mod raw;
mod requests;
mod spoof;
mod tokens;

use std::process::ExitCode;

use anyhow::Result;
use e2e::{Options, suite};

fn main() -> Result<ExitCode> {
    let tests = e2e::shared_tests![
        requests::every_form_has_its_exact_answer,
        requests::a_hundred_pipelined_requests_are_each_answered_right,
        requests::tricks_with_paths_lead_nowhere,
        tokens::only_the_pods_own_fresh_token_is_taken,
        spoof::a_forged_source_gets_no_answer,
        flood::a_neighbour_keeps_its_speed_and_the_agent_its_memory,
        many::pods_that_take_every_connection_leave_some_to_a_neighbour,
    ];
    suite::run_shared(&Options::default(), tests)
}
