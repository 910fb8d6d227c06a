//! Who is answered at all: hosts, methods, tokens, peers, paths.

use super::*;
use crate::metadata::Hosts;

#[tokio::test(start_paused = true)]
async fn a_token_is_given_with_its_ttl() {
    let world = World::new();
    world.pod("app", "10.0.0.1");
    let put = async |path: &str, headers: &[(&str, &str)]| world.send("10.0.0.1", "PUT", path, headers).await;
    let reply = put("/latest/api/token", &[(TTL_HEADER, "21600")]).await;
    assert_eq!((reply.status, reply.body.len()), (200, 55));
    assert_eq!(reply.header(TTL_HEADER), Some("21600"));
    put("/latest/api/token", &[]).await.is(400, "rolecall: bad_ttl");
    put("/latest/api/token", &[(TTL_HEADER, "0")]).await.is(400, "rolecall: bad_ttl");
    put("/latest/api/token", &[(TTL_HEADER, "21601")]).await.is(400, "rolecall: bad_ttl");
    let forwarded = [(TTL_HEADER, "60"), ("x-forwarded-for", "10.9.9.9")];
    put("/latest/api/token", &forwarded).await.is(403, "rolecall: forwarded");
    put("/2021-03-23/api/token", &[(TTL_HEADER, "60")]).await.is(403, "rolecall: dated_token");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_the_pods_own_or_401() {
    let world = World::new();
    world.pod("a", "10.0.0.1");
    world.pod("b", "10.0.0.2");
    let token = world.token("10.0.0.1").await;
    world.get_with_token("10.0.0.1", LIST, &token).await.is(200, "a");
    world.get_with_token("10.0.0.2", LIST, &token).await.is(401, "rolecall: bad_token");
    for wrong in ["", "x", &token[1..], &format!("{token}A"), &"A".repeat(55), &"A".repeat(4000)] {
        world.get_with_token("10.0.0.1", LIST, wrong).await.is(401, "rolecall: bad_token");
    }
    let twice = [(TOKEN_HEADER, token.as_str()), (TOKEN_HEADER, token.as_str())];
    world.send("10.0.0.1", "GET", LIST, &twice).await.is(401, "rolecall: bad_token");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    world.get_with_token("10.0.0.1", LIST, &token).await.is(401, "rolecall: bad_token");
    world.get("10.0.0.1", LIST).await.is(200, "a");
}

#[tokio::test(start_paused = true)]
async fn imdsv2_can_be_required() {
    let world = World::with(Settings { require_token: true, ..Settings::default() });
    world.pod("a", "10.0.0.1");
    world.get("10.0.0.1", LIST).await.is(401, "rolecall: no_token");
    world.get("10.0.0.1", "/latest/meta-data/instance-id").await.is(401, "rolecall: no_token");
    let token = world.token("10.0.0.1").await;
    world.get_with_token("10.0.0.1", LIST, &token).await.is(200, "a");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_host_is_refused_before_anything_else() {
    let world = World::with(Settings { hosts: Hosts::new(vec!["127.0.0.1:8181".into()]), ..Settings::default() });
    world.pod("a", "10.0.0.1");
    for (host, status) in [("169.254.169.254", 200), ("127.0.0.1:8181", 200), ("attacker.example", 403), ("", 403)] {
        let request = Request::builder().uri(LIST).header("host", host).body(Empty::<Bytes>::new()).unwrap();
        let connection = Connection::from("10.0.0.1".parse().unwrap());
        let response = world.metadata.handle(&connection, request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{host}");
        if status == 403 {
            assert_eq!(response.headers()["connection"], "close");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn methods_are_get_head_and_put_of_a_token() {
    let world = World::new();
    world.pod("a", "10.0.0.1");
    for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"] {
        let reply = world.send("10.0.0.1", method, LIST, &[(TTL_HEADER, "60")]).await;
        reply.is(405, "rolecall: method_not_allowed");
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    }
    for method in ["GET", "HEAD", "POST"] {
        let reply = world.send("10.0.0.1", method, "/latest/api/token", &[(TTL_HEADER, "60")]).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("PUT")));
    }
    assert_eq!(world.send("10.0.0.1", "HEAD", LIST, &[]).await.status, 200);
    world
        .send("10.0.0.1", "GET", "http://169.254.169.254/latest/meta-data/instance-id", &[])
        .await
        .is(404, "rolecall: not_found");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_no_known_pod_gets_nothing() {
    let world = World::new();
    for (peer, status, code) in [
        ("192.0.2.9", 403, "unknown_peer"),
        ("192.0.2.1", 403, "not_routed"),
        ("192.0.2.2", 403, "not_a_routed_pod"),
        ("192.0.2.3", 503, "ambiguous_peer"),
        ("192.0.2.4", 403, "shared_interface"),
        ("192.0.2.5", 503, "records_unreadable"),
        ("192.0.2.6", 503, "route_unknown"),
    ] {
        for path in [LIST, "/latest/meta-data/instance-id", "/latest/meta-data/iam/info"] {
            world.get(peer, path).await.is(status, &format!("rolecall: {code}"));
        }
        let put = world.send(peer, "PUT", "/latest/api/token", &[(TTL_HEADER, "60")]).await;
        put.is(status, &format!("rolecall: {code}"));
    }
}

#[tokio::test(start_paused = true)]
async fn tricks_with_paths_lead_to_nothing() {
    let world = World::new();
    world.pod("a", "10.0.0.1");
    for path in [
        "/",
        "/latest",
        "/latest/",
        "/latest/user-data",
        "//latest//user-data",
        "/latest/user-data?x=/latest/meta-data/instance-id",
        "/latest/meta-data/instance-id/../../user-data",
        "/latest/meta-data/%2e%2e/user-data",
        "/latest/%75ser-data",
        "/LATEST/user-data",
        "/latest/USER-DATA",
        "/2009-04-04/user-data",
        "/latest/meta-data/iam",
        "/latest/meta-data/iam/",
        "/latest/meta-data/iam/security-credentials-extended/",
        "/latest/meta-data/iam/security-credentials-extended/a",
        "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
        "/latest/dynamic/instance-identity/signature",
        "/latest/dynamic/instance-identity/pkcs7",
        "/latest/dynamic/instance-identity/rsa2048",
        "/latest/dynamic/instance-identity/document/../signature",
    ] {
        world.get("10.0.0.1", path).await.is(404, "rolecall: not_found");
    }
    assert_eq!(*world.upstream.asked.lock().unwrap(), Vec::<String>::new(), "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_changes_hands_ends_without_an_answer() {
    let world = World::new();
    world.pod("a", "10.0.0.1");
    let connection = Connection::from("10.0.0.1".parse().unwrap());
    let request = || Request::builder().uri(LIST).header("host", "instance-data").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(world.metadata.handle(&connection, request()).await.unwrap().status(), 200);
    world.pod("b", "10.0.0.1");
    assert!(world.metadata.handle(&connection, request()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_asks_too_often_is_refused_late_and_its_neighbour_is_not() {
    let three = std::num::NonZeroU32::new(3).unwrap();
    let world = World::with(Settings { requests_per_second: three, ..Settings::default() });
    world.pod("loop", "10.0.0.1");
    world.pod("quiet", "10.0.0.2");
    for _ in 0..15 {
        world.get("10.0.0.1", LIST).await.is(200, "loop");
    }
    let began = tokio::time::Instant::now();
    world.get("10.0.0.1", LIST).await.is(503, "rolecall: too_many_requests");
    assert_eq!(began.elapsed(), std::time::Duration::from_millis(250));
    world.get("10.0.0.2", LIST).await.is(200, "quiet");
    assert_eq!(began.elapsed(), std::time::Duration::from_millis(250), "at once");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    world.get("10.0.0.1", LIST).await.is(200, "loop");
}
