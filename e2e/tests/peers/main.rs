//! Where kiam and kube2iam failed: every row of the table of failures, in its order, each named after its row. The numbers
//! are those of kiam's and kube2iam's issues.
//!
//! Some rows are the subject of a whole test program beside this one, which goes further: `first_ask`, `node_races`,
//! `stampede`, `expiry`, `hostile_pods`.

mod answers;
mod node;
mod pods;
mod sts;

use std::process::ExitCode;

use anyhow::Result;
use e2e::{Options, suite};

fn main() -> Result<ExitCode> {
    let tests = e2e::shared_tests![
        pods::pod_asks_before_the_watch_has_seen_it,
        pods::unknown_pod_is_answered_past_the_sdks_one_second,
        pods::ip_reuse_gives_a_pod_anothers_credentials,
        pods::namespace_not_cached_yet_crashes_the_whole_server,
        sts::one_impatient_client_cancels_everyones_fetch,
        sts::fifty_cold_requests_are_fifty_sts_calls,
        sts::one_access_denied_is_sixteen_sts_calls,
        sts::throttled_sts_turns_into_five_second_500s,
        sts::after_a_bulk_expiry_refreshes_are_dropped,
        sts::credentials_are_too_close_to_expiry,
        node::agent_crash_loop_gives_pods_the_nodes_role,
        node::rule_is_not_there_before_the_first_pods,
        node::tls_certificates_expire_mismatch_rotate,
        node::server_and_agent_on_one_node,
        answers::path_tricks,
        answers::expiration_with_fractions_or_local_time,
        answers::session_names_of_64_characters_are_cut_to_63,
    ];
    suite::run_shared(&Options::default(), tests)
}
