//! The credential paths: what a pod is told in each case, exactly.

use std::time::Duration;

use model::arn::RoleArn;
use model::refusal::{Refusal, RefusalCode};
use tokio::time::{Instant, sleep};

use super::*;
use crate::credentials::tests::Reply as Issuer;

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_name_of_its_role_and_the_document() {
    let world = World::new();
    world.pod("app", "10.0.0.1");
    world.get("10.0.0.1", LIST).await.is(200, "app");
    world.get("10.0.0.1", "/latest/meta-data/iam/security-credentials").await.is(200, "app");
    world.get("10.0.0.1", "/2021-03-23/meta-data/iam/security-credentials/").await.is(200, "app");
    let document = "{\"Code\":\"Success\",\"LastUpdated\":\"2026-11-23T23:03:20Z\",\"Type\":\"AWS-HMAC\",\
                    \"AccessKeyId\":\"ASIAapp1795475000000\",\"SecretAccessKey\":\"secret\",\"Token\":\"token\",\
                    \"Expiration\":\"2026-11-24T00:03:20Z\"}";
    for name in ["app", "arn:aws:iam::123456789012:role/app", "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fapp"] {
        let reply = world.get("10.0.0.1", &format!("{LIST}{name}")).await;
        reply.is(200, document);
        assert_eq!(reply.header("content-type"), Some("text/plain"));
        assert_eq!(reply.header("server"), Some("EC2ws"));
        assert_eq!(reply.header("connection"), None);
    }
    let info = world.get("10.0.0.1", "/latest/meta-data/iam/info").await;
    info.is(
        200,
        "{\"Code\":\"Success\",\"LastUpdated\":\"2026-11-23T23:03:20Z\",\"InstanceProfileArn\":\
         \"arn:aws:iam::123456789012:instance-profile/app\",\"InstanceProfileId\":\"AIPAROLECALLHASNONE00\"}",
    );
}

#[tokio::test(start_paused = true)]
async fn another_role_is_404_whatever_it_is_called() {
    let world = World::new();
    world.pod("app", "10.0.0.1");
    world.pod("other", "10.0.0.2");
    for name in ["other", "app/", "APP", "arn:aws:iam::999999999999:role/app", "rolecall-refused", "%61pp%2F.."] {
        world.get("10.0.0.1", &format!("{LIST}{name}")).await.is(404, "rolecall: another_role");
    }
    world.get("10.0.0.2", LIST).await.is(200, "other");
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_is_told_the_name_and_then_why() {
    let world = World::new();
    let role = RoleArn::parse("arn:aws:iam::123456789012:role/team/app").unwrap();
    for code in RefusalCode::ALL {
        let refusal = Refusal::new(*code, "write this instead");
        let pod = code.as_str().replace('_', "-");
        let address = format!("10.0.0.{}", pod.len());
        world.node.issuer.reply(&format!("{pod}-0"), Issuer::Refusal(refusal.clone().for_role(&role)));
        world.pod(&pod, &address);
        let asked = Instant::now();
        let list = world.get(&address, LIST).await;
        let held = asked.elapsed();
        let document = |name: &str| format!("{LIST}{name}");
        if refusal.retry == model::refusal::Retry::Soon {
            list.is(503, &format!("rolecall: {code}"));
            assert_eq!(held, Duration::from_millis(900));
            world.get(&address, &document("app")).await.is(503, &format!("rolecall: {code}"));
            continue;
        }
        if *code == RefusalCode::NoRole {
            list.is(404, "rolecall: no_role: write this instead");
            world.get(&address, &document("app")).await.is(404, "rolecall: no_role: write this instead");
            continue;
        }
        let hides = [RefusalCode::InvalidRole, RefusalCode::PodReplaced, RefusalCode::PodOnOtherNode].contains(code);
        let (name, wrong) = if hides { ("rolecall-refused", "app") } else { ("app", "rolecall-refused") };
        list.is(200, name);
        let why = world.get(&address, &document(name)).await;
        assert_eq!(why.status, 200);
        let (head, tail) = why.body.split_once(",\"LastUpdated\":\"").unwrap();
        assert_eq!(head, format!("{{\"Code\":\"{}\",\"Message\":\"write this instead\"", code.document_code()));
        assert!(tail.ends_with("Z\"}") && !why.body.contains("AccessKeyId"));
        world.get(&address, &document(wrong)).await.is(404, "rolecall: another_role");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_held_until_the_answer_comes() {
    let world = World::new();
    world.node.issuer.set_delay(Duration::from_millis(600));
    world.pod("app", "10.0.0.1");
    let asked = Instant::now();
    world.get("10.0.0.1", LIST).await.is(200, "app");
    assert!(asked.elapsed() >= Duration::from_millis(600) && asked.elapsed() < Duration::from_millis(610));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_is_503_and_never_404() {
    let world = World::new();
    world.node.issuer.set_down(true);
    world.pod("app", "10.0.0.1");
    let asked = Instant::now();
    world.get("10.0.0.1", LIST).await.is(503, "rolecall: timeout");
    assert_eq!(asked.elapsed(), Duration::from_millis(900));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_shows_no_role_is_404_at_once() {
    let world = World::new();
    world.hinted("app", "10.0.0.1", RoleHint::NotAnnotated);
    let asked = Instant::now();
    world.get("10.0.0.1", LIST).await.is(404, "rolecall: not_annotated");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    sleep(Duration::from_millis(10)).await;
    world.get("10.0.0.1", LIST).await.is(200, "app");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_changes_hands_while_its_request_is_held_is_not_answered() {
    let world = World::new();
    world.node.issuer.set_delay(Duration::from_millis(500));
    let old = world.pod("old", "10.0.0.1");
    let request = Request::builder().uri(LIST).header("host", "169.254.169.254").body(Empty::<Bytes>::new()).unwrap();
    let connection = Connection::from("10.0.0.1".parse().unwrap());
    let asked = world.metadata.handle(&connection, request);
    let moved = async {
        sleep(Duration::from_millis(100)).await;
        world.node.remove(&old);
        world.pod("new", "10.0.0.1");
    };
    let (answer, ()) = tokio::join!(asked, moved);
    assert!(answer.is_err(), "neither the old pod's answer nor the new one's");
}
