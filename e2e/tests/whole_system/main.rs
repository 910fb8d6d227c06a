//! The promises of the design, and every refusal, shown on the release programs: two nodes with real CNI pods, real nftables,
//! and an AWS that checks signatures and policies.
//!
//! The tests share one laboratory and run one after the other: several of them switch on outages, kill an agent or edit
//! the directory. Each makes pods of its own and puts back what it changed. The last one greps all logs for every secret.

mod g1_own_role;
mod g2_stolen_node;
mod g3_issuers_list;
mod g4_no_way_around;
mod g5_fails_closed;
mod refusals;
mod secrets;
mod service;

use std::process::ExitCode;

use anyhow::Result;
use e2e::{Options, suite};

fn main() -> Result<ExitCode> {
    let tests = e2e::shared_tests![
        g1_own_role::g1_an_unmodified_client_gets_the_pods_own_role,
        g1_own_role::g1_every_version_and_address_family_gives_the_same_role,
        g1_own_role::g1_another_pods_role_cannot_be_asked_for_by_name,
        g1_own_role::g1_a_token_of_another_pod_is_refused,
        g1_own_role::g1_a_spoofed_source_address_gets_no_answer,
        g2_stolen_node::g2_a_nodes_credentials_get_the_roles_of_its_own_pods,
        g2_stolen_node::g2_a_node_is_refused_a_pod_of_another_node,
        g2_stolen_node::g2_a_nodes_credentials_are_refused_from_another_address,
        g2_stolen_node::g2_a_quarantined_node_is_refused,
        g3_issuers_list::g3_a_role_outside_the_issuers_list_is_refused_whatever_the_cluster_says,
        g3_issuers_list::g3_rolecalls_own_roles_are_refused_whatever_the_cluster_says,
        g4_no_way_around::g4_neither_node_nor_pod_can_assume_a_pods_role,
        g4_no_way_around::g4_neither_node_nor_pod_can_write_the_directory,
        g4_no_way_around::g4_a_perfectly_forged_event_is_refused,
        g4_no_way_around::g4_another_role_with_an_instances_session_name_is_refused,
        g5_fails_closed::g5_a_dead_agent_means_a_refused_connection,
        g5_fails_closed::g5_flushed_rules_too_mean_a_refused_connection,
        g5_fails_closed::g5_flushed_rules_are_repaired,
        service::nothing_of_the_node_itself_is_served,
        service::what_sdks_need_of_the_instance_is_served,
        service::a_forged_host_is_refused,
        service::a_session_is_shared_by_the_pods_of_a_role,
        service::an_external_id_opens_a_role_that_demands_it,
        service::kube2iams_annotation_is_understood,
        refusals::directory_stale,
        refusals::pod_unknown,
        refusals::no_role,
        refusals::pod_replaced,
        refusals::pod_on_other_node,
        refusals::invalid_role,
        refusals::namespace_unknown,
        refusals::namespace_permits_nothing,
        refusals::invalid_permitted_pattern,
        refusals::namespace_forbids_role,
        refusals::issuer_forbids_role,
        refusals::assume_role_denied,
        refusals::sts_throttled,
        refusals::sts_unavailable,
        refusals::pending,
        refusals::bad_request,
        refusals::unavailable,
        refusals::a_spent_budget_is_named,
        refusals::a_later_annotation_works,
        secrets::no_secret_is_in_any_log,
    ];
    suite::run_shared(&Options::default(), tests)
}
