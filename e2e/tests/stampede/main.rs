//! Stampedes: many who want one session cost very few calls of STS, and nobody who is slow, refused or greedy is felt by
//! others.

mod budget;
mod clients;
mod holder;
mod issuer;
mod many;
mod neighbours;

use std::process::ExitCode;

use anyhow::Result;
use e2e::suite;

fn main() -> Result<ExitCode> {
    suite::run_alone(e2e::alone_tests![
        many::a_thousand_cold_requests_for_one_role_over_fifty_environments,
        many::two_hundred_roles_at_once_over_eight_environments,
        holder::a_holder_that_dies_delays_nobody_by_more_than_a_second,
        neighbours::a_slow_and_a_throttled_role_hold_up_no_other_first_ask,
        budget::a_tenant_cannot_spend_more_than_its_budget,
        clients::one_access_denied_for_fifty_impatient_clients_is_one_call,
        clients::a_client_that_hangs_up_cancels_nobodys_fetch,
    ])
}
