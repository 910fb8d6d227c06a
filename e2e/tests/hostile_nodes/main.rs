//! What whoever holds a node's credentials, or thinks so, can try: each attempt has its status and code, leaves its line in
//! the issuer's audit or in the API's access log, and none makes the issuer ask STS. And what whoever can write the cache
//! table can do there: nothing of it is served.
//!
//! What `whole_system` proves of G2 and G4 is here with its traces. Targets are records alone, without sandboxes: no agent asks
//! for them, so that every call of STS is an attempt's.

mod bodies;
mod cache;
mod callers;
mod doors;
mod past_the_api;
mod replay;
mod request;
mod witness;

use std::process::ExitCode;

use anyhow::Result;
use e2e::{Options, suite};

fn main() -> Result<ExitCode> {
    let tests = e2e::shared_tests![
        doors::a_request_without_a_valid_signature_is_refused,
        doors::another_api_stage_path_or_method_is_not_there,
        doors::more_than_the_api_takes_is_refused,
        doors::a_pods_credentials_may_not_call_the_api,
        replay::a_replay_after_five_minutes_is_refused,
        replay::a_replay_within_five_minutes_yields_what_the_node_may_have,
        callers::an_iam_user_is_no_node,
        callers::another_role_with_an_instances_session_name_is_no_node,
        callers::another_clusters_node_gets_nothing_of_this_cluster,
        callers::another_source_address_is_refused,
        callers::a_quarantined_node_is_refused,
        bodies::other_nodes_pods_are_refused_in_one_request_and_in_a_thousand,
        bodies::a_thousand_names_in_one_request_are_refused,
        bodies::forged_bodies_are_refused,
        past_the_api::events_past_the_api_are_refused,
        cache::items_that_no_issuer_wrote_are_not_served,
        cache::a_rolled_back_item_is_served_only_if_it_is_fresh,
    ];
    suite::run_shared(&Options::default(), tests)
}
