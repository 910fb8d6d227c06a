//! Races on one node, with records that real libcni wrote: whatever happens to the results directory, each pod gets its own
//! role, nobody gets another's, and the agent goes on.

mod directory;
mod records;
mod reuse;

use std::process::ExitCode;

use anyhow::Result;
use e2e::{Options, suite};

fn main() -> Result<ExitCode> {
    let tests = e2e::shared_tests![
        reuse::an_address_is_reused_before_the_old_record_goes,
        directory::files_that_are_no_records_are_skipped_and_counted,
        directory::two_records_claim_one_address,
        directory::a_record_may_not_be_read_at_first,
        directory::lost_events_are_made_up_for,
        directory::the_directory_is_replaced,
        directory::the_node_itself_is_no_pod,
    ];
    suite::run_shared(&Options { nodes: vec!["node-a".to_owned()], ..Options::default() }, tests)
}
