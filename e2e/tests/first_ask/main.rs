//! G6: a pod that has just started gets its credentials on its first ask, however many start with it, on a cold function and
//! with a directory that is behind.

mod cold;
mod crowd;
mod late;
mod unannotated;

use std::process::ExitCode;

use anyhow::Result;
use e2e::cloud::FunctionSettings;
use e2e::{Options, suite};

/// As many as the agent has requests in flight, of both kinds: Lambda's own limit is far above.
const ENVIRONMENTS: usize = 32;

fn main() -> Result<ExitCode> {
    let function = FunctionSettings { environments: ENVIRONMENTS, ..FunctionSettings::default() };
    let options = Options { nodes: vec!["node-a".to_owned()], function, ..Options::default() };
    let tests = e2e::shared_tests![
        cold::fifty_pods_at_once_on_a_cold_function,
        cold::fifty_pods_as_a_kubelet_starts_them_on_a_cold_function,
        late::fifty_pods_whose_records_come_up_to_500_ms_late,
        late::the_same_on_a_cold_function,
        unannotated::a_pod_without_a_role_hears_so_at_once,
    ];
    suite::run_shared(&options, tests)
}
