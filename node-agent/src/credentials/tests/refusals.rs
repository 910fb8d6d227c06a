//! What a refusal does: how long it is remembered, what it replaces, what replaces it.

use model::refusal::RefusalCode;
use tokio::time::Instant;

use super::*;
use crate::credentials::Fault;

fn code(found: &Found) -> RefusalCode {
    match found {
        Found::Refused(refusal) => refusal.code,
        other => panic!("no refusal: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_remembered_for_2_s_backing_off_to_30_and_asked_about_on_request_alone() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::NamespaceForbidsRole));
    let sandbox = node.annotated("a");
    let mut calls = Vec::new();
    for _ in 0..1200 {
        assert_eq!(code(&node.find(&sandbox).await), RefusalCode::NamespaceForbidsRole);
        calls.push(node.issuer.sizes().len());
        sleep(Duration::from_millis(100)).await;
    }
    let times: Vec<_> = node.issuer.log().iter().map(|(at, _)| *at).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
    node.issuer.clear();
    sleep(MINUTE * 60).await;
    assert_eq!(node.issuer.sizes(), [], "nobody asks, so nobody is asked");
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_seen_on_the_first_request_after_the_memory_ends() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::InvalidRole));
    let sandbox = node.annotated("a");
    assert_eq!(code(&node.find(&sandbox).await), RefusalCode::InvalidRole);
    // The person who edits one mistake away and meets the next waits 2 s for it, not 4.
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::NamespaceForbidsRole));
    sleep(Duration::from_millis(2001)).await;
    assert_eq!(code(&node.find(&sandbox).await), RefusalCode::NamespaceForbidsRole);
    node.issuer.reply("a-0", Reply::Session);
    sleep(Duration::from_millis(2001)).await;
    node.held(&sandbox).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_cannot_be_asked_about_again_is_still_given_at_the_end_of_the_hold() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::NoRole));
    let sandbox = node.annotated("a");
    assert_eq!(code(&node.find(&sandbox).await), RefusalCode::NoRole);
    node.issuer.set_down(true);
    sleep(MINUTE).await;
    let asked = Instant::now();
    assert_eq!(code(&node.find(&sandbox).await), RefusalCode::NoRole);
    assert_eq!(asked.elapsed(), HOLD);
}

#[tokio::test(start_paused = true)]
async fn a_retryable_code_replaces_a_refusal_since_a_record_may_still_arrive() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::NoRole));
    let sandbox = node.annotated("a");
    assert_eq!(code(&node.find(&sandbox).await), RefusalCode::NoRole);
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::DirectoryStale));
    sleep(Duration::from_secs(3)).await;
    let found = node.find(&sandbox).await;
    assert!(matches!(found, Found::NotReady(Some(Fault::NotNow(RefusalCode::DirectoryStale)))), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn on_renewal_only_a_final_refusal_replaces_credentials() {
    for code_at_renewal in RefusalCode::ALL {
        let node = Node::new();
        let sandbox = node.annotated("a");
        node.held(&sandbox).await;
        node.issuer.reply("a-0", Reply::Refused(*code_at_renewal));
        sleep(MINUTE * 26).await;
        assert!(node.issuer.sizes().len() >= 2, "renewal was tried");
        let is_final = model::refusal::Refusal::new(*code_at_renewal, "").retry == model::refusal::Retry::OnEdit;
        match node.find(&sandbox).await {
            Found::Held(_) => assert!(!is_final, "{code_at_renewal}"),
            Found::Refused(refusal) => assert!(is_final && refusal.code == *code_at_renewal, "{code_at_renewal}"),
            other => panic!("{code_at_renewal}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_shows_no_role_is_answered_at_once_and_asked_about_behind_its_back() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(300));
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::NoRole));
    let sandbox = node.add("a", 0, RoleHint::NotAnnotated);
    sleep(MINUTE).await;
    assert_eq!(node.issuer.sizes(), [], "no prefetch");
    let asked = Instant::now();
    assert!(matches!(node.find(&sandbox).await, Found::Unannotated));
    assert_eq!(asked.elapsed(), Duration::ZERO);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.issuer.sizes(), [(1, 10_000)]);
    // The answer has replaced the hint.
    assert_eq!(code(&node.find(&sandbox).await), RefusalCode::NoRole);
    node.issuer.reply("a-0", Reply::Session);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.held(&sandbox).await.role.name(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_role_annotated_later_works_from_the_next_ask() {
    let node = Node::new();
    let sandbox = node.add("a", 0, RoleHint::NotAnnotated);
    settle().await;
    assert!(matches!(node.find(&sandbox).await, Found::Unannotated));
    settle().await;
    node.held(&sandbox).await;
}

#[tokio::test(start_paused = true)]
async fn background_questions_back_off_from_2_to_30_s_and_never_hold_the_pod() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::PodUnknown));
    let sandbox = node.add("a", 0, RoleHint::NotAnnotated);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(130) {
        let asked = Instant::now();
        assert!(matches!(node.find(&sandbox).await, Found::Unannotated));
        assert_eq!(asked.elapsed(), Duration::ZERO);
        sleep(Duration::from_millis(100)).await;
    }
    let log: Vec<_> = node.issuer.log().into_iter().filter(|(_, request)| !request.pods.is_empty()).collect();
    let pauses: Vec<_> = log.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect();
    assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_issuer_has_named_a_role_for_is_never_told_that_it_has_none() {
    let node = Node::new();
    node.issuer.reply("late-0", Reply::Refused(RefusalCode::NamespaceForbidsRole));
    let sandbox = node.add("late", 0, RoleHint::NotAnnotated);
    assert!(matches!(node.find(&sandbox).await, Found::Unannotated));
    settle().await;
    assert!(matches!(node.find(&sandbox).await, Found::Refused(_)));
    node.issuer.reply("late-0", Reply::Refused(RefusalCode::StsThrottled));
    sleep(MINUTE).await;
    for _ in 0..3 {
        let found = node.find(&sandbox).await;
        assert!(matches!(found, Found::NotReady(_) | Found::Refused(_)), "{found:?}");
    }
    node.issuer.reply("late-0", Reply::Session);
    sleep(MINUTE).await;
    node.held(&sandbox).await;
}
