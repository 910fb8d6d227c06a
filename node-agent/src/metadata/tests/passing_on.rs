//! What the real service is asked for.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;
use crate::metadata::AllowList;

#[tokio::test(start_paused = true)]
async fn its_answers_are_passed_on_and_its_faults_are_not() {
    let world = World::new();
    world.pod("a", "10.0.0.1");
    let reply = world.get("10.0.0.1", "//latest/meta-data/instance-id?x=1").await;
    reply.is(200, "i-0123456789abcdef0");
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    assert_eq!(*world.upstream.asked.lock().unwrap(), ["/latest/meta-data/instance-id"]);
    let reply = world.get("10.0.0.1", "/2021-03-23/meta-data/instance-type").await;
    reply.is(404, "<html>no</html>");
    world.get("10.0.0.1", "/latest/meta-data/placement/region").await.is(503, "rolecall: upstream_status");
    let document = "/latest/dynamic/instance-identity/document";
    world.get("10.0.0.1", document).await.is(503, "rolecall: upstream_unavailable");
}

#[tokio::test(start_paused = true)]
async fn a_loop_over_what_is_constant_asks_once_a_minute() {
    let world = World::new();
    world.pod("a", "10.0.0.1");
    let asked = || world.upstream.asked.lock().unwrap().len();
    for day in 10..32 {
        for version in ["latest", &format!("2021-03-{day}")] {
            let reply = world.get("10.0.0.1", &format!("/{version}/meta-data/instance-id")).await;
            reply.is(200, "i-0123456789abcdef0");
            assert_eq!(reply.header("content-type"), Some("text/plain"));
        }
    }
    assert_eq!(*world.upstream.asked.lock().unwrap(), ["/latest/meta-data/instance-id"]);
    sleep(Duration::from_secs(59)).await;
    world.get("10.0.0.1", "/latest/meta-data/instance-id").await.is(200, "i-0123456789abcdef0");
    assert_eq!(asked(), 1);
    sleep(Duration::from_secs(1)).await;
    world.get("10.0.0.1", "/latest/meta-data/instance-id").await.is(200, "i-0123456789abcdef0");
    assert_eq!(asked(), 2);
    for _ in 0..2 {
        world.get("10.0.0.1", "/latest/meta-data/placement/region").await.is(503, "rolecall: upstream_status");
    }
    assert_eq!(asked(), 4, "a fault is not kept");
}

#[tokio::test(start_paused = true)]
async fn it_has_as_long_as_credentials_have_and_few_ask_at_once() {
    let world = World::new();
    world.pod("a", "10.0.0.1");
    let zone = "/latest/meta-data/placement/availability-zone";
    let asked = Instant::now();
    world.get("10.0.0.1", zone).await.is(503, "rolecall: upstream_busy");
    assert_eq!(asked.elapsed(), Duration::from_millis(900));
    world.upstream.asked.lock().unwrap().clear();
    let many = futures_util::future::join_all((0..50).map(|_| world.get("10.0.0.1", zone)));
    let meanwhile = async {
        sleep(Duration::from_millis(800)).await;
        world.upstream.asked.lock().unwrap().len()
    };
    let (replies, asked) = tokio::join!(many, meanwhile);
    assert_eq!(asked, 8);
    for reply in replies {
        reply.is(503, "rolecall: upstream_busy");
    }
}

#[tokio::test(start_paused = true)]
async fn a_widened_list_reaches_further_but_never_to_secrets() {
    let allow = AllowList::new(vec!["/latest/.*".parse().unwrap()]);
    let world = World::with(Settings { allow, ..Settings::default() });
    world.pod("a", "10.0.0.1");
    let reply = world.get("10.0.0.1", "/latest/meta-data/local-hostname").await;
    reply.is(503, "rolecall: upstream_unavailable");
    for path in ["/latest/user-data", "/latest/meta-data/iam/", "/latest/dynamic/instance-identity/pkcs7"] {
        world.get("10.0.0.1", path).await.is(404, "rolecall: not_found");
    }
    assert_eq!(*world.upstream.asked.lock().unwrap(), ["/latest/meta-data/local-hostname"]);
}
