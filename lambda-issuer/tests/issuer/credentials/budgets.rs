//! Budgets on new sessions: nobody spends more than their own, and nobody pays for a neighbour.

use std::collections::BTreeMap;
use std::time::Duration;

use lambda_issuer::clock::Clock;
use tokio::time::Instant;

use super::{PATIENCE, POD, assumed, environments};
use crate::lab::Lab;

#[tokio::test(start_paused = true)]
async fn budgets_bound_new_sessions_and_not_shared_ones() {
    let mut lab = Lab::new();
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "1");
    lab.put_pod("default", "job", "other");
    lab.put_pod("second", "job", "other");
    lab.put_namespace("second", ".*");
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    let answer = lab.ask(&issuer, &["default/job"], PATIENCE).await;
    assert_eq!(answer.code(0), "sts_throttled");
    let expected = "the namespace default has spent its budget of 1 new sessions a minute: wait, or raise the issuer's \
                    BUDGET_NAMESPACE_PER_MINUTE";
    assert_eq!(answer.message(0), expected);
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    // The lease was given up at once: another namespace's pod need not wait for it.
    let began = Instant::now();
    assert_eq!(lab.ask(&issuer, &["second/job"], PATIENCE).await.code(0), "issued");
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(lab.ask(&issuer, &["default/job"], PATIENCE).await.code(0), "issued");
    assert_eq!(assumed(&lab), 2);
}

#[tokio::test(start_paused = true)]
async fn the_instance_has_a_budget_of_its_own() {
    let mut lab = Lab::new();
    lab.set("BUDGET_INSTANCE_PER_MINUTE", "1");
    lab.put_pod("default", "job", "other");
    let issuer = lab.issuer().await;
    assert_eq!(lab.ask(&issuer, POD, PATIENCE).await.code(0), "issued");
    let answer = lab.ask(&issuer, &["default/job"], PATIENCE).await;
    assert_eq!(answer.code(0), "sts_throttled");
    assert!(answer.message(0).contains("BUDGET_INSTANCE_PER_MINUTE"));
}

#[tokio::test(start_paused = true)]
async fn who_keeps_asking_beyond_a_budget_spends_no_neighbours() {
    let mut lab = Lab::new();
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "2");
    lab.set("BUDGET_INSTANCE_PER_MINUTE", "4");
    lab.put_namespace("second", ".*");
    for role in ["one", "two", "three"] {
        lab.put_pod("default", role, role);
        lab.put_pod("second", role, role);
    }
    let issuer = lab.issuer().await;
    for role in ["one", "two"] {
        assert_eq!(lab.ask(&issuer, &[&format!("default/{role}")], PATIENCE).await.code(0), "issued");
    }
    for _ in 0..4 {
        let answer = lab.ask(&issuer, &["default/three"], PATIENCE).await;
        assert!(answer.message(0).contains("BUDGET_NAMESPACE_PER_MINUTE"), "{}", answer.message(0));
    }
    // Two of the instance's four are left for the other namespace; sessions of shared roles cost nothing.
    for (role, code) in [("one", "issued"), ("two", "issued"), ("three", "issued")] {
        assert_eq!(lab.ask(&issuer, &[&format!("second/{role}")], PATIENCE).await.code(0), code, "{role}");
    }
    assert_eq!(assumed(&lab), 3);
}

/// The counters of this minute, by scope and name.
pub(super) fn spent(lab: &Lab) -> BTreeMap<String, String> {
    let minute = format!("/{}", lab.clock.now().as_secs() / 60);
    let state = lab.aws.state();
    let counters = state.tables["cache"].iter().filter_map(|(pk, item)| {
        let counter = pk.strip_prefix("budget/prod/")?.strip_suffix(&minute)?;
        Some((counter.to_owned(), item["sessions"]["N"].as_str()?.to_owned()))
    });
    counters.collect()
}

pub(super) fn counters<const N: usize>(expected: [(&str, u32); N]) -> BTreeMap<String, String> {
    expected.map(|(counter, sessions)| (counter.to_owned(), sessions.to_string())).into()
}

/// A hundred pods of a tenant, each with a session name and an external id of its own: each a session of its own.
pub(super) fn put_loud_tenant(lab: &Lab) -> Vec<String> {
    lab.put_namespace("loud", ".*");
    let pods = (0..100).map(|n| {
        let name = format!("p-{n}");
        lab.put_pod_with("loud", &name, "app", |record| {
            record.session_name = Some(format!("name-{n}"));
            record.external_id = Some(format!("id-{n}"));
        });
        format!("loud/{name}")
    });
    pods.collect()
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_varies_names_and_ids_spends_its_own_budget_and_no_neighbours() {
    let lab = Lab::new();
    let mut pods = put_loud_tenant(&lab);
    lab.put_namespace("quiet", ".*");
    for role in ["app", "other"] {
        lab.put_pod("quiet", role, role);
        pods.push(format!("quiet/{role}"));
    }
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let issuers = environments(&lab, 4).await;
    // The neighbour is last in every request.
    for minute in 0..2 {
        for issuer in &issuers {
            let answer = lab.ask(issuer, &pods, PATIENCE).await;
            let issued = (0..100).filter(|place| answer.code(*place) == "issued").count();
            let throttled: Vec<usize> = (0..100).filter(|place| answer.code(*place) == "sts_throttled").collect();
            let expected = if minute == 0 { (60, 40) } else { (100, 0) };
            assert_eq!((issued, throttled.len()), expected);
            for place in throttled {
                assert!(
                    answer.message(place).starts_with("the namespace loud has spent its budget of 60 new sessions")
                );
            }
            assert_eq!((answer.code(100), answer.code(101)), ("issued", "issued"));
        }
        let expected = if minute == 0 {
            counters([("instance/i-0123456789abcdef0", 62), ("namespace/loud", 60), ("namespace/quiet", 2)])
        } else {
            counters([("instance/i-0123456789abcdef0", 40), ("namespace/loud", 40)])
        };
        assert_eq!(spent(&lab), expected);
        lab.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(assumed(&lab), 102);
}

/// Pods of two namespaces share a session, and the first of them is a tenant's that has spent its budget.
#[tokio::test(start_paused = true)]
async fn who_shares_a_session_is_not_refused_for_what_the_other_has_spent() {
    let lab = Lab::new();
    let loud = put_loud_tenant(&lab);
    let loud: Vec<&str> = loud.iter().map(String::as_str).collect();
    let issuer = lab.issuer().await;
    lab.ask(&issuer, &loud, PATIENCE).await;
    assert_eq!(assumed(&lab), 60);
    lab.put_namespace("quiet", ".*");
    lab.put_pod("loud", "shared", "app");
    lab.put_pod("quiet", "shared", "app");
    // Nobody pays for what its own pods do not need.
    let answer = lab.ask(&issuer, &["loud/shared"], PATIENCE).await;
    assert_eq!(answer.code(0), "sts_throttled");
    let answer = lab.ask(&issuer, &["loud/shared", "quiet/shared"], PATIENCE).await;
    assert_eq!((answer.code(0), answer.code(1)), ("issued", "issued"));
    assert_eq!(answer.access_key(0), answer.access_key(1));
    let expected = [("instance/i-0123456789abcdef0", 61), ("namespace/loud", 60), ("namespace/quiet", 1)];
    assert_eq!(spent(&lab), counters(expected));
    assert_eq!(assumed(&lab), 61);
}

#[tokio::test(start_paused = true)]
async fn among_many_that_have_spent_theirs_the_one_that_has_not_is_found() {
    let mut lab = Lab::new();
    lab.set("BUDGET_NAMESPACE_PER_MINUTE", "1");
    let names: Vec<String> = (0..8).map(|n| format!("team-{n}")).collect();
    for name in &names {
        lab.put_namespace(name, ".*");
        lab.put_pod(name, "own", name);
        lab.put_pod(name, "shared", "app");
    }
    let issuer = lab.issuer().await;
    for name in &names[..7] {
        assert_eq!(lab.ask(&issuer, &[&format!("{name}/own")], PATIENCE).await.code(0), "issued");
    }
    let shared: Vec<String> = names.iter().map(|name| format!("{name}/shared")).collect();
    let shared: Vec<&str> = shared.iter().map(String::as_str).collect();
    // Four are asked each time, from one chosen at random: it is a matter of 2^-64 that all tries miss it.
    for attempt in 0.. {
        let answer = lab.ask(&issuer, &shared, PATIENCE).await;
        if answer.code(7) == "issued" {
            break;
        }
        let expected = "the namespaces that share this session have spent their budgets of 1 new sessions a minute: wait, or \
                        raise the issuer's BUDGET_NAMESPACE_PER_MINUTE";
        assert_eq!((answer.code(0), answer.message(0)), ("sts_throttled", expected));
        assert!(attempt < 64);
    }
    assert_eq!(spent(&lab)["namespace/team-7"], "1");
    assert_eq!(assumed(&lab), 8);
}
