use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::*;
use crate::config::Config;
use crate::faults::{Effect, Rule};
use crate::ledger::Ledger;
use crate::server::{Stopper, full, stop};

const START: u64 = 1_795_500_000;
const INSTANCE: &str = "i-0123456789abcdef0";
const LIST: &str = "/latest/meta-data/iam/security-credentials/";

/// An instance's service on a free port, and an STS that gives keys of one hour, numbered.
struct Lab {
    metadata: Metadata,
    address: std::net::SocketAddr,
    /// Seconds since the start.
    elapsed: Arc<AtomicU64>,
    faults: Faults,
    /// Whether STS answers.
    sts: Arc<std::sync::atomic::AtomicBool>,
    _stopper: Stopper,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

async fn lab() -> Lab {
    let (stopper, stop) = stop();
    let elapsed = Arc::new(AtomicU64::new(0));
    let ticks = Arc::clone(&elapsed);
    let now = move || SystemTime::UNIX_EPOCH + Duration::from_secs(START + ticks.load(Ordering::Relaxed));
    let sts = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config: Config = serde_json::from_value(serde_json::json!({
        "region": "eu-central-1", "account": "123456789012",
        "upstream": format!("http://{}", upstream.local_addr().unwrap()),
        "endpoint": {"listen": []}, "control": "127.0.0.1:0",
        "instances": [{"id": INSTANCE, "zone": "eu-central-1a", "local_ipv4": "10.0.1.10",
            "role_arn": "arn:aws:iam::123456789012:role/nodes/node", "user_data": "the-join-secret",
            "listen": [{"address": "127.0.0.1:0"}]}]
    }))
    .unwrap();
    tokio::spawn(serve(upstream, stop.clone(), {
        let (sts, now) = (Arc::clone(&sts), now.clone());
        let given = Arc::new(AtomicU64::new(0));
        move |_, _| {
            let (sts, now, given) = (Arc::clone(&sts), now.clone(), Arc::clone(&given));
            Ok(service_fn(move |request: Request<Incoming>| {
                let (sts, now, given) = (Arc::clone(&sts), now.clone(), Arc::clone(&given));
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8_lossy(&body).into_owned();
                    if !sts.load(Ordering::Relaxed) {
                        return Err(Closed);
                    }
                    Ok(Response::new(full(sts_answer(&body, now(), &given))))
                }
            }))
        }
    }));
    let faults = Faults::default();
    let clock = Clock::new(now);
    let endpoint = Endpoint::new(&config, clock.clone(), faults.clone(), Ledger::default()).unwrap();
    let surroundings =
        Surroundings { region: config.region, account: config.account, endpoint, faults: faults.clone(), clock };
    let metadata = Metadata::new(config.instances.into_iter().next().unwrap(), &surroundings).unwrap();
    let listener = metadata.listen().unwrap().remove(0);
    let address = listener.local_addr().unwrap();
    tokio::spawn(metadata.clone().serve(listener, stop));
    Lab { metadata, address, elapsed, faults, sts, _stopper: stopper }
}

fn sts_answer(body: &str, now: SystemTime, given: &AtomicU64) -> String {
    if body.contains("Action=GetRole") {
        return "<GetRoleResponse><GetRoleResult><Role><Arn>arn:aws:iam::123456789012:role/nodes/node</Arn>\
                <AssumeRolePolicyDocument>{}</AssumeRolePolicyDocument><MaxSessionDuration>3600</MaxSessionDuration></Role>\
                </GetRoleResult></GetRoleResponse>"
            .into();
    }
    assert!(body.contains(&format!("RoleSessionName={INSTANCE}")), "{body}");
    let number = given.fetch_add(1, Ordering::Relaxed) + 1;
    let expiration = humantime::format_rfc3339_seconds(now + Duration::from_hours(1));
    format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>s{number}\
         </SecretAccessKey><SessionToken>t{number}</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
         <AssumedRoleUser><AssumedRoleId>AROAEXAMPLEEXAMPLE12:{INSTANCE}</AssumedRoleId></AssumedRoleUser>\
         </AssumeRoleResult></AssumeRoleResponse>"
    )
}

impl Lab {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "169.254.169.254");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await?;
        let (parts, body) = answer.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    async fn token(&self) -> String {
        let answer = self.ask("PUT", "/latest/api/token", &[("x-aws-ec2-metadata-token-ttl-seconds", "21600")]).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["x-aws-ec2-metadata-token-ttl-seconds"], "21600");
        answer.body
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[("x-aws-ec2-metadata-token", &self.token().await)]).await.unwrap()
    }
}

#[tokio::test]
async fn nothing_is_told_without_a_token() {
    let lab = lab().await;
    for path in ["/", "/latest/meta-data/", LIST, "/latest/user-data", "/nowhere"] {
        let answer = lab.ask("GET", path, &[]).await.unwrap();
        assert_eq!((answer.status, &answer.headers["server"]), (401, &"EC2ws".parse().unwrap()), "{path}");
        assert!(answer.body.contains("<h1>401 - Unauthorized</h1>"));
    }
    let forged = lab.ask("GET", LIST, &[("x-aws-ec2-metadata-token", "AAAA")]).await.unwrap();
    assert_eq!(forged.status, 401);
}

#[tokio::test]
async fn tokens_are_given_as_ec2_gives_them() {
    let lab = lab().await;
    let ttl = "x-aws-ec2-metadata-token-ttl-seconds";
    for (path, headers, status) in [
        ("/latest/api/token", vec![(ttl, "1")], 200),
        ("/latest/api/token", vec![], 400),
        ("/latest/api/token", vec![(ttl, "0")], 400),
        ("/latest/api/token", vec![(ttl, "21601")], 400),
        ("/latest/api/token", vec![(ttl, "60"), ("x-forwarded-for", "10.1.1.2")], 403),
        ("/2021-03-23/api/token", vec![(ttl, "60")], 403),
        ("/latest/meta-data/", vec![(ttl, "60")], 403),
    ] {
        assert_eq!(lab.ask("PUT", path, &headers).await.unwrap().status, status, "{path} {headers:?}");
    }
    assert_eq!(lab.ask("POST", "/latest/api/token", &[(ttl, "60")]).await.unwrap().status, 405);
}

#[tokio::test]
async fn a_token_ends() {
    let lab = lab().await;
    let token = lab.token().await;
    lab.elapsed.store(21599, Ordering::Relaxed);
    let answer = lab.ask("GET", "/latest/meta-data/mac", &[("x-aws-ec2-metadata-token", &token)]).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "02:00:00:00:00:01"));
    assert_eq!(answer.headers["x-aws-ec2-metadata-token-ttl-seconds"], "1");
    lab.elapsed.store(21600, Ordering::Relaxed);
    let answer = lab.ask("GET", "/latest/meta-data/mac", &[("x-aws-ec2-metadata-token", &token)]).await.unwrap();
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn paths_answer_as_ec2s_do() {
    let lab = lab().await;
    for (path, expected) in [
        ("/latest/meta-data/instance-id", INSTANCE),
        ("/2021-03-23/meta-data/placement/region", "eu-central-1"),
        ("/latest/meta-data/placement/", "availability-zone\nregion"),
        ("/latest/meta-data/iam", "info\nsecurity-credentials/"),
        (LIST, "node"),
        ("/latest/meta-data/iam/security-credentials", "node"),
        ("//latest//meta-data/%6dac", "02:00:00:00:00:01"),
        ("/latest", "dynamic/\nmeta-data/\nuser-data"),
        ("/latest/user-data", "the-join-secret"),
        ("/latest/dynamic/instance-identity/pkcs7", "LOCAL-CLOUD-FAKE-IDENTITY-PKCS7"),
    ] {
        let answer = lab.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, expected), "{path}");
        assert_eq!(answer.headers["content-type"], "text/plain");
    }
    for path in ["/latest/meta-data/nothing", "/2021/meta-data/mac", &format!("{LIST}other"), "/latest/meta-data/ma"] {
        assert_eq!(lab.get(path).await.status, 404, "{path}");
    }
    let document: serde_json::Value =
        serde_json::from_str(&lab.get("/latest/dynamic/instance-identity/document").await.body).unwrap();
    assert_eq!(document["instanceId"], INSTANCE);
    assert_eq!(document["accountId"], "123456789012");
    assert_eq!(document["kernelId"], serde_json::Value::Null);
    let profile: serde_json::Value = serde_json::from_str(&lab.get("/latest/meta-data/iam/info").await.body).unwrap();
    assert_eq!(profile["InstanceProfileArn"], "arn:aws:iam::123456789012:instance-profile/node");
}

#[tokio::test]
async fn credentials_are_renewed_when_under_a_third_is_left() {
    let lab = lab().await;
    let path = format!("{LIST}node");
    let first = lab.get(&path).await.body;
    assert_eq!(
        first,
        "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2026-11-24T06:00:00Z\",\n  \"Type\" : \"AWS-HMAC\",\n  \
         \"AccessKeyId\" : \"ASIA1\",\n  \"SecretAccessKey\" : \"s1\",\n  \"Token\" : \"t1\",\n  \"Expiration\" : \
         \"2026-11-24T07:00:00Z\"\n}"
    );
    lab.elapsed.store(2400, Ordering::Relaxed);
    assert_eq!(lab.get(&path).await.body, first);
    lab.elapsed.store(2401, Ordering::Relaxed);
    assert!(lab.get(&path).await.body.contains("ASIA2"));
}

#[tokio::test]
async fn a_rule_lets_credentials_be_over() {
    let lab = lab().await;
    let path = format!("{LIST}node");
    lab.faults.add(Rule {
        count: Some(1),
        matching: Some(path.clone()),
        ..Rule::new(Target::Metadata, Effect::Expired)
    });
    let over: serde_json::Value = serde_json::from_str(&lab.get(&path).await.body).unwrap();
    assert_eq!((&over["AccessKeyId"], &over["Expiration"]), (&"ASIA1".into(), &"2026-11-24T05:59:00Z".into()));
    assert!(lab.get(&path).await.body.contains("2026-11-24T07:00:00Z"));
}

#[tokio::test]
async fn while_sts_is_out_the_old_ones_are_kept_to_their_end() {
    let lab = lab().await;
    let path = format!("{LIST}node");
    let first = lab.get(&path).await.body;
    lab.sts.store(false, Ordering::Relaxed);
    lab.elapsed.store(3599, Ordering::Relaxed);
    assert_eq!(lab.get(&path).await.body, first);
    lab.elapsed.store(3600, Ordering::Relaxed);
    let none = lab.get(&path).await;
    assert_eq!(none.status, 200);
    let document: serde_json::Value = serde_json::from_str(&none.body).unwrap();
    assert_eq!(document["Code"], "AssumeRoleUnauthorizedAccess");
    assert_eq!(document.get("AccessKeyId"), None);
}

#[tokio::test]
async fn faults_strike_and_requests_are_counted() {
    let lab = lab().await;
    lab.faults.add(Rule {
        count: Some(1),
        matching: Some(format!("{INSTANCE} {LIST}")),
        ..Rule::new(Target::Metadata, Effect::Error(503))
    });
    assert_eq!(lab.get(LIST).await.status, 503);
    assert_eq!(lab.get(LIST).await.status, 200);
    lab.faults.add(Rule::new(Target::Metadata, Effect::Refuse));
    assert!(lab.ask("GET", LIST, &[]).await.is_err_and(|error| error.is_incomplete_message()));
    let requests = lab.metadata.state().requests;
    assert_eq!(requests[&format!("GET {LIST} 503")], 1);
    assert_eq!(requests[&format!("GET {LIST} 200")], 1);
    assert_eq!(requests["PUT /latest/api/token 200"], 2);
}

#[tokio::test]
async fn the_hop_limit_is_low_until_a_token_is_shown() {
    let lab = lab().await;
    for listening in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(listening).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let hops = HopLimit::of(&listener.accept().await.unwrap().0, 1).unwrap();
        let usual = hops.current().unwrap();
        let request = |method: &str, token: &str| {
            let request = Request::builder().method(method).uri("/latest/api/token");
            let request = request.header("x-aws-ec2-metadata-token-ttl-seconds", "60");
            request.header("x-aws-ec2-metadata-token", token).body(()).unwrap()
        };
        let token = lab.metadata.answer(&request("PUT", ""), &hops).await.unwrap();
        assert_eq!(hops.current().unwrap(), 1, "for the token");
        lab.metadata.answer(&request("GET", "wrong"), &hops).await.unwrap();
        assert_eq!(hops.current().unwrap(), 1, "for one who has no token");
        let token = token.into_body().collect().await.unwrap().to_bytes();
        lab.metadata.answer(&request("GET", std::str::from_utf8(&token).unwrap()), &hops).await.unwrap();
        assert_eq!(hops.current().unwrap(), usual, "for one who has it");
    }
}
