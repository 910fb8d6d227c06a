use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::*;
use crate::faults::{Effect, Rule};

const ROLE: &str = "arn:aws:iam::123456789012:role/team/app";
const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 2));

/// One request as the upstream saw it.
#[derive(Clone, Debug)]
struct Seen {
    uri: String,
    headers: HeaderMap,
    body: String,
}

struct Lab {
    endpoint: Endpoint,
    ledger: Ledger,
    faults: Faults,
    seen: Arc<Mutex<Vec<Seen>>>,
    _stopper: crate::server::Stopper,
}

/// An endpoint in front of an upstream that assumes every role but `denied`; `trust` is every role's policy.
async fn lab(trust: &'static str) -> Lab {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let (stopper, stop) = crate::server::stop();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(serve(listener, stop, move |_, _| {
        let log = Arc::clone(&log);
        Ok(service_fn(move |request: Request<Incoming>| {
            let log = Arc::clone(&log);
            async move {
                let (parts, body) = request.into_parts();
                let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
                log.lock().unwrap().push(Seen {
                    uri: parts.uri.to_string(),
                    headers: parts.headers,
                    body: body.clone(),
                });
                Ok(ministack(&body, trust))
            }
        }))
    }));
    let config: Config = serde_json::from_value(serde_json::json!({
        "region": "eu-central-1", "account": "123456789012", "upstream": format!("http://{upstream}"),
        "endpoint": {"listen": [], "root_from": ["10.0.0.9"]}, "control": "127.0.0.1:0"
    }))
    .unwrap();
    let (faults, ledger) = (Faults::default(), Ledger::default());
    let clock = Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_500_000));
    let endpoint = Endpoint::new(&config, clock, faults.clone(), ledger.clone()).unwrap();
    Lab { endpoint, ledger, faults, seen, _stopper: stopper }
}

fn ministack(body: &str, trust: &str) -> Response<Body> {
    let xml = |status: u16, text: String| Response::builder().status(status).body(full(text)).unwrap();
    if body.contains("Action=GetRole") {
        let trust = percent_encoding::utf8_percent_encode(trust, percent_encoding::NON_ALPHANUMERIC);
        return xml(
            200,
            format!(
                "<GetRoleResponse><GetRoleResult><Role><Arn>{ROLE}</Arn><AssumeRolePolicyDocument>{trust}\
                 </AssumeRolePolicyDocument><MaxSessionDuration>7200</MaxSessionDuration></Role></GetRoleResult>\
                 </GetRoleResponse>"
            ),
        );
    }
    if body.contains("denied") {
        return xml(
            403,
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>".into(),
        );
    }
    if body.contains("Action=AssumeRole") {
        return xml(
            200,
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIANEW</AccessKeyId><SecretAccessKey>new-secret\
             </SecretAccessKey><SessionToken>new-token</SessionToken><Expiration>2026-11-24T07:00:00Z</Expiration>\
             </Credentials><AssumedRoleUser><AssumedRoleId>AROAEXAMPLEEXAMPLE12:web-0</AssumedRoleId><Arn>arn</Arn>\
             </AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
                .into(),
        );
    }
    xml(200, "<Other/>".into())
}

fn signed(key: &str, service: &str, body: String) -> Request<Bytes> {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={key}/20261124/eu-central-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
    );
    Request::post("/a%2Fb?x=%20y")
        .header("host", "sts.eu-central-1.amazonaws.com")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", authorization)
        .header("connection", "keep-alive")
        .body(body.into())
        .unwrap()
}

fn assume(more: &str) -> String {
    format!("Action=AssumeRole&Version=2011-06-15&RoleSessionName=web-0&RoleArn={ROLE}{more}")
}

async fn text(answer: Response<Body>) -> (u16, String) {
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

/// The code of the error document, or nothing.
async fn code(lab: &Lab, request: Request<Bytes>) -> (u16, String) {
    let (status, body) = text(lab.endpoint.answer(request, POD).await.unwrap()).await;
    let xml = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let json = serde_json::from_str::<serde_json::Value>(&body).ok();
    let json = json.as_ref().and_then(|json| json["__type"].as_str());
    (status, xml.or(json).unwrap_or_default().to_owned())
}

const ANYONE: &str = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:*"}}"#;
const ASSUME_ONLY: &str = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}"#;

#[tokio::test]
async fn a_request_reaches_ministack_as_it_was_signed_and_its_key_the_ledger() {
    let lab = lab(ANYONE).await;
    let request = signed("AKIACALLER", "sts", assume("&SourceIdentity=web.prod"));
    let (status, body) = text(lab.endpoint.answer(request, POD).await.unwrap()).await;
    assert_eq!(status, 200);
    assert!(body.contains("<SourceIdentity>web.prod</SourceIdentity></AssumeRoleResult>"), "{body}");
    let seen = lab.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.uri, "/a%2Fb?x=%20y");
    assert_eq!(seen.headers["host"], "sts.eu-central-1.amazonaws.com");
    assert!(seen.headers["authorization"].to_str().unwrap().contains("AKIACALLER"));
    assert_eq!(seen.body, assume("&SourceIdentity=web.prod"));
    let key = lab.ledger.find("ASIANEW").unwrap();
    assert_eq!((key.role_arn.as_str(), key.source_identity.as_deref()), (ROLE, Some("web.prod")));
    assert_eq!(lab.ledger.all_secrets(), ["new-secret", "new-token"]);
    assert_eq!(lab.endpoint.asked()[ROLE], Asked { asked: 1, issued: 1 });
}

#[tokio::test]
async fn a_refusal_of_ministack_is_passed_on_and_issues_nothing() {
    let lab = lab(ANYONE).await;
    let request = signed("AKIACALLER", "sts", assume("&ExternalId=denied"));
    assert_eq!(code(&lab, request).await, (403, "AccessDenied".into()));
    assert_eq!(lab.endpoint.asked()[ROLE], Asked { asked: 1, issued: 0 });
    assert!(lab.ledger.all().is_empty());
}

#[tokio::test]
async fn what_ministack_does_not_judge_is_refused() {
    let lab = lab(ASSUME_ONLY).await;
    for (key, more, expected) in [
        ("AKIACALLER", "&DurationSeconds=899", (400, "ValidationError")),
        ("AKIACALLER", "&DurationSeconds=7201", (400, "ValidationError")),
        ("ASIACALLER", "&DurationSeconds=3601", (400, "ValidationError")),
        ("AKIACALLER", "&SourceIdentity=web", (403, "AccessDenied")),
        ("AKIACALLER", "&RoleSessionName=again", (400, "MalformedInput")),
    ] {
        let (status, found) = code(&lab, signed(key, "sts", assume(more))).await;
        assert_eq!((status, found.as_str()), expected, "{key} {more}");
    }
    assert!(lab.ledger.all().is_empty(), "a refused session stays unknown");
    assert_eq!(code(&lab, signed("AKIACALLER", "sts", assume("&DurationSeconds=7200"))).await.0, 200);
}

#[tokio::test]
async fn ministack_finds_roles_by_name_but_aws_by_path_and_name() {
    let lab = lab(ANYONE).await;
    let body = assume("").replace("role/team/app", "role/app");
    assert_eq!(code(&lab, signed("AKIACALLER", "sts", body)).await, (403, "AccessDenied".into()));
}

#[tokio::test]
async fn a_source_identity_is_inherited_and_cannot_be_changed() {
    let lab = lab(ANYONE).await;
    lab.endpoint.answer(signed("AKIACALLER", "sts", assume("&SourceIdentity=web")), POD).await.unwrap();
    let (_, body) = text(lab.endpoint.answer(signed("ASIANEW", "sts", assume("")), POD).await.unwrap()).await;
    assert!(body.contains("<SourceIdentity>web</SourceIdentity>"), "{body}");
    let other = signed("ASIANEW", "sts", assume("&SourceIdentity=other"));
    assert_eq!(code(&lab, other).await, (403, "AccessDenied".into()));
}

#[tokio::test]
async fn signatures_for_another_service_or_region_are_refused() {
    let lab = lab(ANYONE).await;
    let identity = || "Action=GetCallerIdentity&Version=2011-06-15".to_owned();
    assert_eq!(code(&lab, signed("AKIACALLER", "s3", identity())).await, (403, "SignatureDoesNotMatch".into()));
    assert_eq!(code(&lab, signed("AKIACALLER", "sts", identity())).await.0, 200);
    let mut table = signed("AKIACALLER", "sts", "{}".into());
    table.headers_mut().insert("x-amz-target", "DynamoDB_20120810.GetItem".parse().unwrap());
    let expected = "com.amazonaws.dynamodb.v20120810#InvalidSignatureException";
    assert_eq!(code(&lab, table).await, (400, expected.into()));
    let mut elsewhere = signed("AKIACALLER", "sts", identity());
    let moved = elsewhere.headers()["authorization"].to_str().unwrap().replace("eu-central-1", "us-east-1");
    elsewhere.headers_mut().insert("authorization", moved.parse().unwrap());
    assert_eq!(code(&lab, elsewhere).await, (403, "SignatureDoesNotMatch".into()));
    let mut unsigned = signed("AKIACALLER", "sts", identity());
    unsigned.headers_mut().remove("authorization");
    assert_eq!(code(&lab, unsigned).await, (403, "MissingAuthenticationToken".into()));
}

#[tokio::test]
async fn root_and_administration_are_for_the_own_side_alone() {
    let lab = lab(ANYONE).await;
    let root = || signed("test", "sts", "Action=GetCallerIdentity&Version=2011-06-15".into());
    assert_eq!(code(&lab, root()).await, (403, "InvalidClientTokenId".into()));
    for own in ["127.0.0.1", "::1", "10.0.0.9"] {
        assert_eq!(lab.endpoint.answer(root(), own.parse().unwrap()).await.unwrap().status(), 200, "{own}");
    }
    for path in ["/_ministack/reset", "//_ministack/reset", "/%5fministack/reset"] {
        let request = Request::post(path).body(Bytes::new()).unwrap();
        assert_eq!(lab.endpoint.answer(request, POD).await.unwrap().status(), 404, "{path}");
    }
}

#[tokio::test]
async fn aws_itself_gets_sessions_past_the_faults() {
    let lab = lab(ANYONE).await;
    lab.faults.add(Rule::new(Target::Sts, Effect::Throttle));
    let request = signed("AKIACALLER", "sts", assume(""));
    assert_eq!(code(&lab, request).await, (400, "Throttling".into()));
    let key = lab.endpoint.session(ROLE, "web-0").await.unwrap();
    assert_eq!(key.access_key_id, "ASIANEW");
    assert!(
        lab.seen.lock().unwrap()[0].headers["authorization"].to_str().unwrap().contains("Credential=123456789012/")
    );
    let denied = lab.endpoint.session(ROLE, "denied").await.unwrap_err();
    assert_eq!(denied.reason, "AccessDenied: no");
}

#[tokio::test]
async fn an_outage_closes_the_connection() {
    let lab = lab(ANYONE).await;
    lab.faults.add(Rule { matching: Some("app".into()), ..Rule::new(Target::Sts, Effect::Refuse) });
    assert_eq!(lab.endpoint.answer(signed("AKIACALLER", "sts", assume("")), POD).await.unwrap_err(), Closed);
}
