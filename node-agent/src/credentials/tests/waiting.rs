//! First asks: prefetch, sharing one fetch, hanging up, retries, limits.

use model::refusal::RefusalCode;
use tokio::time::{Instant, timeout};

use super::*;
use crate::credentials::{Contact, Fault};

#[tokio::test(start_paused = true)]
async fn a_new_sandbox_is_prefetched_unless_it_shows_no_role() {
    let node = Node::new();
    node.annotated("a");
    node.add("b", 0, RoleHint::Unknown);
    node.add("c", 0, RoleHint::NotAnnotated);
    settle().await;
    let mut asked: Vec<_> =
        node.issuer.log().into_iter().flat_map(|(_, r)| r.pods).map(|a| a.pod.to_string()).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["default/a-0", "default/b-0"]);
    assert_eq!(node.issuer.sizes(), [(1, 800), (1, 800)]);
}

#[tokio::test(start_paused = true)]
async fn a_prefetched_pod_is_answered_without_a_wait_or_another_call() {
    let node = Node::new();
    let sandbox = node.annotated("a");
    settle().await;
    let asked = Instant::now();
    let held = node.held(&sandbox).await;
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(held.role.name(), "a");
    assert_eq!(node.issuer.sizes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn fifty_waiters_share_one_fetch_and_those_who_hang_up_cancel_nothing() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(600));
    let sandbox = node.annotated("a");
    let waiter = |patience| {
        let (credentials, sandbox) = (node.credentials.clone(), Arc::clone(&sandbox));
        tokio::spawn(async move { timeout(patience, credentials.find(&sandbox, HOLD)).await })
    };
    let impatient: Vec<_> = (0..25).map(|_| waiter(Duration::from_millis(50))).collect();
    let patient: Vec<_> = (0..50).map(|_| waiter(HOLD)).collect();
    for task in impatient {
        assert!(task.await.unwrap().is_err(), "hung up");
    }
    for task in patient {
        assert!(matches!(task.await.unwrap(), Ok(Ok(Found::Held(_)))));
    }
    assert_eq!(node.issuer.sizes(), [(1, 800)]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_nobody_waited_for_is_kept() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(700));
    let sandbox = node.annotated("a");
    assert!(timeout(Duration::from_millis(10), node.find(&sandbox)).await.is_err());
    sleep(Duration::from_secs(1)).await;
    node.held(&sandbox).await;
    assert_eq!(node.issuer.sizes(), [(1, 800)]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_ahead_of_the_news_of_its_sandbox_is_answered() {
    let node = Node::new();
    let early = sandbox("a", 0, RoleHint::Annotated, node.clock.now());
    node.current.lock().unwrap().insert(early.id.clone());
    node.held(&early).await;
    node.changes.send(SandboxChange::Added(early)).unwrap();
    settle().await;
    assert_eq!(node.issuer.sizes(), [(1, 800)]);
}

#[tokio::test(start_paused = true)]
async fn at_most_16_first_asks_are_in_flight() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(100));
    let sandboxes: Vec<_> = (0..100).map(|nth| node.add(&format!("role{nth}"), 0, RoleHint::Annotated)).collect();
    sleep(Duration::from_millis(750)).await;
    assert_eq!(node.issuer.most_in_flight(), 16);
    assert_eq!(node.issuer.sizes(), vec![(1, 800); 100]);
    for sandbox in &sandboxes {
        node.held(sandbox).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_one_role_that_start_together_are_two_requests() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(100));
    let mut sandboxes = vec![node.annotated("a")];
    settle().await;
    sandboxes.extend((1..30).map(|nth| node.add("a", nth, RoleHint::Annotated)));
    settle().await;
    // While both are on their way, no third goes; when the first is back, who came meanwhile goes together.
    sandboxes.extend((30..50).map(|nth| node.add("a", nth, RoleHint::Annotated)));
    sleep(Duration::from_millis(250)).await;
    assert_eq!(node.issuer.sizes(), [(1, 800), (29, 800), (20, 800)]);
    assert_eq!(node.issuer.most_in_flight(), 2);
    for sandbox in &sandboxes {
        node.held(sandbox).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_role_takes_no_room_of_others() {
    let node = Node::new();
    let slow: Vec<_> = (0..100).map(|nth| node.add("slow", nth, RoleHint::Annotated)).collect();
    node.issuer.set_delay(Duration::from_millis(800));
    for sandbox in &slow {
        node.issuer.reply(sandbox.pod.name.as_str(), Reply::Refused(RefusalCode::Pending));
    }
    settle().await;
    node.issuer.set_delay(Duration::from_millis(100));
    let others: Vec<_> = (0..14).map(|nth| node.add(&format!("role{nth}"), 0, RoleHint::Annotated)).collect();
    let asked = Instant::now();
    for sandbox in &others {
        node.held(sandbox).await;
    }
    assert!(asked.elapsed() <= Duration::from_millis(101), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_goes_before_prefetches() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(100));
    let sandboxes: Vec<_> = (0..100).map(|nth| node.add(&format!("role{nth}"), 0, RoleHint::Annotated)).collect();
    settle().await;
    let asked = Instant::now();
    for sandbox in sandboxes.iter().rev().take(1) {
        node.held(sandbox).await;
    }
    assert!(asked.elapsed() <= Duration::from_millis(200), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_asked_again_at_once_with_long_patience() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::Pending));
    node.issuer.set_delay(Duration::from_millis(800));
    let sandbox = node.annotated("a");
    let asked = Instant::now();
    let found = node.find(&sandbox).await;
    assert!(matches!(found, Found::NotReady(Some(Fault::NotNow(RefusalCode::Pending)))), "{found:?}");
    assert_eq!(asked.elapsed(), HOLD);
    node.issuer.reply("a-0", Reply::Session);
    sleep(Duration::from_secs(1)).await;
    node.held(&sandbox).await;
    let log = node.issuer.log();
    assert_eq!(node.issuer.sizes(), [(1, 800), (1, 10_000)]);
    assert_eq!(log[1].0 - log[0].0, Duration::from_millis(800));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_says_pending_without_waiting_is_not_asked_in_a_loop() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::Pending));
    node.annotated("a");
    sleep(Duration::from_secs(60)).await;
    assert!(node.issuer.sizes().len() <= 10, "{}", node.issuer.sizes().len());
}

#[tokio::test(start_paused = true)]
async fn retries_come_after_100_200_400_ms_and_then_slowly() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::PodUnknown));
    node.annotated("a");
    sleep(Duration::from_secs(200)).await;
    let log = node.issuer.log();
    let pauses: Vec<_> = log.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
    assert_eq!(millis[..3], [100, 200, 400]);
    for (pause, most) in pauses[3..].iter().zip([1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30]) {
        let most = Duration::from_secs(most);
        // Timers have a resolution of a millisecond.
        assert!(*pause >= most / 2 && *pause <= most + Duration::from_millis(1), "{pauses:?}");
    }
    assert!(pauses.len() > 9, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pods_own_ask_cuts_a_long_back_off_but_not_more_than_once_a_second() {
    let node = Node::new();
    node.issuer.reply("a-0", Reply::Refused(RefusalCode::PodUnknown));
    let sandbox = node.annotated("a");
    sleep(Duration::from_secs(120)).await;
    node.issuer.clear();
    let asked = Instant::now();
    node.issuer.reply("a-0", Reply::Session);
    node.held(&sandbox).await;
    assert!(asked.elapsed() < Duration::from_millis(5), "{:?}", asked.elapsed());

    node.issuer.reply("b-0", Reply::Refused(RefusalCode::PodUnknown));
    let other = node.annotated("b");
    sleep(Duration::from_secs(120)).await;
    node.issuer.clear();
    for _ in 0..100 {
        let _ = timeout(Duration::from_millis(100), node.find(&other)).await;
    }
    assert!((9..=12).contains(&node.issuer.sizes().len()), "{} in 10 s", node.issuer.sizes().len());
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_does_not_answer_ends_in_503_within_the_hold() {
    let node = Node::new();
    node.issuer.set_down(true);
    let sandbox = node.annotated("a");
    let asked = Instant::now();
    let found = node.find(&sandbox).await;
    assert!(matches!(found, Found::NotReady(Some(Fault::Failed("timeout")))), "{found:?}");
    assert_eq!(asked.elapsed(), HOLD);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_goes_wakes_its_waiters_and_is_forgotten() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(500));
    let sandbox = node.annotated("a");
    let waiter = {
        let (credentials, sandbox) = (node.credentials.clone(), Arc::clone(&sandbox));
        tokio::spawn(async move { credentials.find(&sandbox, HOLD).await })
    };
    settle().await;
    let gone = Instant::now();
    node.remove(&sandbox);
    assert!(matches!(waiter.await.unwrap(), Ok(Found::Gone)));
    assert!(gone.elapsed() < Duration::from_millis(5));
    sleep(MINUTE).await;
    // A request that was identified before the end of its sandbox brings nothing back.
    assert!(matches!(node.find(&sandbox).await, Found::Gone));
    node.issuer.clear();
    sleep(MINUTE * 60).await;
    assert_eq!(node.issuer.sizes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_pods_finds_out_whether_the_issuer_knows_it() {
    let node = Node::new();
    let mut contact = node.credentials.contact();
    node.issuer.set_down(true);
    contact.wait_for(|contact| matches!(contact, Contact::Failed(_))).await.unwrap();
    assert_eq!(*contact.borrow(), Contact::Failed("the issuer did not answer in time".into()));
    node.issuer.set_down(false);
    timeout(MINUTE, contact.wait_for(|contact| *contact == Contact::Reached)).await.unwrap().unwrap();
    node.issuer.clear();
    sleep(MINUTE * 60).await;
    assert!(node.issuer.log().is_empty(), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_prefetch_is_settled_by_an_outcome_or_by_the_word_that_there_is_none_yet() {
    let node = Node::new();
    node.issuer.set_delay(Duration::from_millis(300));
    node.issuer.reply("b-0", Reply::Refused(RefusalCode::NoRole));
    node.issuer.reply("d-0", Reply::Refused(RefusalCode::NamespaceUnknown));
    node.issuer.reply("e-0", Reply::Refused(RefusalCode::Pending));
    let quick =
        [node.annotated("a"), node.annotated("b"), node.add("c", 0, RoleHint::NotAnnotated), node.annotated("d")];
    let pending = node.annotated("e");
    let began = Instant::now();
    for sandbox in &quick {
        node.credentials.settled(sandbox).await;
    }
    assert!(began.elapsed() < Duration::from_millis(310), "{:?}", began.elapsed());
    assert!(timeout(MINUTE, node.credentials.settled(&pending)).await.is_err(), "the issuer is still at it");
    node.issuer.set_down(true);
    let away = node.annotated("f");
    assert!(timeout(MINUTE, node.credentials.settled(&away)).await.is_err(), "the issuer is away");
}

#[tokio::test(start_paused = true)]
async fn the_prefetch_of_a_sandbox_that_is_gone_ends_at_once_and_leaves_nothing() {
    let node = Node::new();
    let sandbox = node.annotated("a");
    node.remove(&sandbox);
    settle().await;
    let began = Instant::now();
    node.credentials.settled(&sandbox).await;
    assert!(began.elapsed() < Duration::from_millis(5), "{:?}", began.elapsed());
    assert_eq!(node.credentials.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_only_an_operator_can_end_is_asked_about_slowly() {
    let node = Node::new();
    node.issuer.quarantine(true);
    let sandbox = node.annotated("a");
    let found = node.find(&sandbox).await;
    assert!(matches!(found, Found::NotReady(Some(Fault::Failed("node_quarantined")))), "{found:?}");
    sleep(MINUTE * 10).await;
    let calls = node.issuer.sizes().len();
    assert!((20..=42).contains(&calls), "{calls} in ten minutes");
    node.issuer.quarantine(false);
    node.held(&sandbox).await;
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_changes_starts_a_prefetch() {
    let node = Node::new();
    let sandbox = node.add("a", 0, RoleHint::NotAnnotated);
    sleep(MINUTE).await;
    assert_eq!(node.issuer.sizes(), []);
    // A second network's record, which shows the annotation, was written later.
    let more = Arc::new(Sandbox { hint: RoleHint::Annotated, ..(*sandbox).clone() });
    node.changes.send(SandboxChange::Added(Arc::clone(&more))).unwrap();
    settle().await;
    assert_eq!(node.issuer.sizes(), [(1, 800)]);
    node.held(&more).await;
}
