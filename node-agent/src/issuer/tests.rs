use std::collections::VecDeque;
use std::sync::Mutex;

use ::model::name::PodRef;
use ::model::time::UnixMillis;
use ::model::wire::{Ask, BadResponse, Outcome};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use proptest::prelude::*;
use ring::{digest, hmac};
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::node::tests::{FakeMetadata, NOW, document, serve};

type Answer = Response<Full<Bytes>>;

/// An API that gives prepared answers in turn, the last one again and again, and keeps what it was sent.
#[derive(Clone)]
struct FakeApi {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

struct World {
    api: FakeApi,
    metadata: FakeMetadata,
    client: IssuerClient,
}

impl World {
    async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let api = FakeApi { answers: Arc::new(Mutex::new(answers.into_iter().collect())), seen: Arc::default() };
        let served = api.clone();
        let address = serve(move |request| {
            served.seen.lock().unwrap().push(request);
            let mut answers = served.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
        })
        .await;
        let metadata = FakeMetadata::start().await;
        let url = IssuerUrl::parse(&format!("http://{address}/v1/credentials")).unwrap();
        let client = client(url, &metadata);
        Self { api, metadata, client }
    }

    async fn error(&self) -> IssuerError {
        self.client.issue(&request(), Duration::from_secs(5)).await.unwrap_err()
    }
}

fn client(url: IssuerUrl, metadata: &FakeMetadata) -> IssuerClient {
    // The metadata service's client speaks plain HTTP as this one does towards a loopback address.
    let http = crate::node::http_client().unwrap();
    IssuerClient::new(url, "eu-central-1".into(), http, metadata.credentials(), Clock::new(|| NOW))
}

fn request() -> IssueRequest {
    let pod: PodRef = serde_json::from_value(json!({"namespace": "default", "name": "web-0", "uid": "uid-1"})).unwrap();
    IssueRequest::new(Duration::from_millis(800), vec![Ask { pod, sandbox_age_ms: 5 }])
}

fn answer(status: u16, error_type: &str, body: impl Into<String>) -> Answer {
    let mut response = Response::builder().status(status);
    if !error_type.is_empty() {
        response = response.header("x-amzn-ErrorType", error_type);
    }
    response.body(Full::from(body.into())).unwrap()
}

fn success() -> Answer {
    session_until(1_795_482_000_000)
}

fn session_until(expiration: u64) -> Answer {
    answer(
        200,
        "",
        json!({"version": 1,
        "sessions": [{"role": "arn:aws:iam::123456789012:role/app", "credentials": {"access_key_id": "ASIA1",
            "secret_access_key": "s3cret", "session_token": "t0ken", "expiration": expiration}}],
        "outcomes": [{"session": 0}]})
        .to_string(),
    )
}

fn expired() -> Answer {
    let message = json!({"message": "The security token included in the request is expired"});
    answer(403, "ExpiredTokenException", message.to_string())
}

#[tokio::test]
async fn the_answer_is_parsed_and_the_request_is_whole_and_signed() {
    let world = World::new([success()]).await;
    let response = world.client.issue(&request(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(response.outcomes, [Outcome::Session(0)]);
    assert_eq!(response.sessions[0].credentials.secret_access_key.expose_secret(), "s3cret");
    assert_eq!(response.sessions[0].credentials.expiration, UnixMillis(1_795_482_000_000));
    let seen = world.api.seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method().as_str(), seen[0].uri().path()), ("POST", "/v1/credentials"));
    assert_eq!(IssueRequest::parse(seen[0].body()).unwrap(), request());
    assert_eq!(seen[0].headers()["x-amz-security-token"], "node-session-token");
    assert_eq!(seen[0].headers()["x-amz-date"], "20261124T000000Z");
    assert_eq!(seen[0].headers()["authorization"].to_str().unwrap(), authorization(&seen[0], "ASIA0"));
}

fn hex_digit(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap()
}

/// The `Authorization` header that this request must have, computed here from AWS's description of Signature Version 4.
fn authorization(request: &Request<Bytes>, id: &str) -> String {
    let hex = |bytes: &[u8]| bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hex_digit).collect::<String>();
    let sha256 = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let names = ["content-type", "host", "x-amz-date", "x-amz-security-token"];
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let headers = names.map(|name| format!("{name}:{}\n", header(name))).concat();
    let signed = names.join(";");
    let canonical = format!("POST\n/v1/credentials\n\n{headers}\n{signed}\n{}", sha256(request.body()));
    let scope = "20261124/eu-central-1/execute-api/aws4_request";
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", header("x-amz-date"), sha256(canonical.as_bytes()));
    let mut key = b"AWS4node-secret-key".to_vec();
    for part in scope.split('/') {
        key = mac(&key, part).as_ref().to_vec();
    }
    let signature = hex(mac(&key, &to_sign).as_ref());
    format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}")
}

#[tokio::test]
async fn each_refusal_has_its_own_meaning() {
    let own =
        |status: u16, code: &str| answer(status, "", json!({"version": 1, "code": code, "message": "why"}).to_string());
    let gateway = |status, kind: &str, message: &str| answer(status, kind, json!({"message": message}).to_string());
    let url = "https://api.example.com/errors/";
    for (answer, reason, verdict, text) in [
        (
            own(403, "caller_not_a_node"),
            "caller_not_a_node",
            Verdict::Operator,
            "the issuer does not know this node: why",
        ),
        (own(403, "node_quarantined"), "node_quarantined", Verdict::Operator, "this node is quarantined: why"),
        (own(400, "bad_request"), "bad_request", Verdict::Operator, "the issuer refused the request: why"),
        (own(503, "unavailable"), "unavailable", Verdict::Retry, "the issuer is unavailable (status 503): why"),
        (
            gateway(429, "TooManyRequestsException", "Too Many Requests"),
            "throttled",
            Verdict::Retry,
            "the API throttles",
        ),
        (gateway(429, "", "Limit Exceeded"), "throttled", Verdict::Retry, "the API throttles"),
        (
            gateway(502, "InternalServerErrorException", "Internal server error"),
            "unavailable",
            Verdict::Retry,
            "the issuer is unavailable (status 502): Internal server error",
        ),
        (
            gateway(504, "", "Endpoint request timed out"),
            "unavailable",
            Verdict::Retry,
            "the issuer is unavailable (status 504): Endpoint request timed out",
        ),
        (answer(503, "", "<html>"), "unavailable", Verdict::Retry, "the issuer is unavailable (status 503): "),
        (
            gateway(403, "InvalidSignatureException", "Signature expired:\n20261123T235000Z is now earlier than"),
            "signature_refused",
            Verdict::Operator,
            "the API refused the signature (InvalidSignatureException): Signature expired: 20261123T235000Z is now earlier than",
        ),
        (
            gateway(
                403,
                &format!("UnrecognizedClientException:{url}"),
                "The security token included in the request is invalid.",
            ),
            "signature_refused",
            Verdict::Operator,
            "the API refused the signature (UnrecognizedClientException): The security token included in the request is invalid.",
        ),
        (
            gateway(403, "MissingAuthenticationTokenException", "Missing Authentication Token"),
            "signature_refused",
            Verdict::Operator,
            "the API refused the signature (MissingAuthenticationTokenException): Missing Authentication Token",
        ),
        (
            answer(
                403,
                "AccessDeniedException",
                json!({"Message": "not authorized to perform: execute-api:Invoke"}).to_string(),
            ),
            "access_denied",
            Verdict::Operator,
            "the API does not permit this node to call it: not authorized to perform: execute-api:Invoke",
        ),
        (
            gateway(403, "ForbiddenException", "Forbidden"),
            "not_the_issuer",
            Verdict::Operator,
            "the answer with status 403 is not the issuer's (Forbidden): check the API id, VPC endpoint and stage in the issuer URL",
        ),
        (
            answer(302, "", ""),
            "not_the_issuer",
            Verdict::Operator,
            "the answer with status 302 is not the issuer's (): check the API id, VPC endpoint and stage in the issuer URL",
        ),
        (
            own(200, "bad_request"),
            "bad_answer",
            Verdict::Operator,
            "the issuer's answer is not understood (line 1, column 50)",
        ),
    ] {
        let error = World::new([answer]).await.error().await;
        assert_eq!((error.reason(), error.verdict(), error.to_string().as_str()), (reason, verdict, text));
    }
}

#[tokio::test]
async fn old_or_unknown_keys_are_renewed_once_and_the_request_sent_again() {
    for kind in ["ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"] {
        renewed_after(answer(403, kind, json!({"message": "the security token is no good"}).to_string())).await;
    }
}

async fn renewed_after(refusal: Answer) {
    let world = World::new([success(), refusal, success()]).await;
    world.client.issue(&request(), Duration::from_secs(5)).await.unwrap();
    world.metadata.set_document(document("ASIA1", "2026-11-24T12:00:00Z"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    world.client.issue(&request(), Duration::from_secs(5)).await.unwrap();
    let seen = world.api.seen.lock().unwrap();
    let ids: Vec<_> =
        seen.iter().map(|request| request.headers()["authorization"].to_str().unwrap()[28..33].to_owned()).collect();
    assert_eq!(ids, ["ASIA0", "ASIA0", "ASIA1"]);
}

#[tokio::test]
async fn an_expired_token_that_stays_so_is_told_after_one_more_try() {
    let world = World::new([expired()]).await;
    assert_eq!(world.error().await.reason(), "signature_refused");
    assert_eq!(world.api.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_or_is_too_long_is_refused() {
    let more = answer(200, "", json!({"version": 1, "sessions": [], "outcomes": []}).to_string());
    assert!(matches!(World::new([more]).await.error().await, IssuerError::BadAnswer(BadResponse::DoesNotFit)));
    let long = answer(200, "", "x".repeat(MAX_ANSWER_BYTES + 1));
    assert!(matches!(World::new([long]).await.error().await, IssuerError::NotTheIssuer { status: 200, .. }));
}

#[tokio::test]
async fn a_session_longer_than_any_of_sts_is_no_answer() {
    let longest = NOW.plus(LONGEST_SESSION).0;
    let world = World::new([session_until(longest)]).await;
    world.client.issue(&request(), Duration::from_secs(5)).await.unwrap();
    for expiration in [longest + 1, 253_402_300_800_000, u64::MAX] {
        let error = World::new([session_until(expiration)]).await.error().await;
        assert!(matches!(error, IssuerError::EndlessSession), "{expiration}: {error}");
        assert_eq!((error.reason(), error.verdict()), ("bad_answer", Verdict::Operator));
    }
}

#[tokio::test]
async fn no_connection_and_no_answer_are_told_apart() {
    let metadata = FakeMetadata::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = IssuerUrl::parse(&format!("http://{address}/v1/credentials")).unwrap();
    let silent = client(url.clone(), &metadata);
    let short = IssueRequest::new(Duration::from_millis(1), request().pods);
    assert!(matches!(silent.issue(&short, Duration::from_millis(200)).await, Err(IssuerError::Timeout)));
    drop(listener);
    let error = client(url, &metadata).issue(&request(), Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.reason(), "connect");
    assert!(error.to_string().contains("127.0.0.1") && error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn without_node_credentials_nothing_is_sent() {
    let world = World::new([success()]).await;
    world.metadata.set_document(r#"{"Code":"Failed"}"#.into());
    assert!(matches!(world.error().await, IssuerError::NoNodeCredentials(crate::node::NodeError::Refused { .. })));
    assert!(world.api.seen.lock().unwrap().is_empty());
}

#[test]
fn roots_are_the_systems_and_a_files() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no certificate").unwrap();
    let error = http_client(Some(file.path())).unwrap_err().to_string();
    assert!(error.ends_with("it holds no certificate in PEM form"), "{error}");
    assert!(matches!(http_client(Some(Path::new("/missing.pem"))), Err(ClientError::Certificates { .. })));
}

proptest! {
    #[test]
    fn any_refusal_is_read_without_harm(
        status in 300_u16..600,
        kind in "[ -~]{0,100}",
        body in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-amzn-errortype", kind.parse().unwrap());
        let error = refusal::meaning(StatusCode::from_u16(status).unwrap(), &headers, &body);
        prop_assert!(error.to_string().chars().count() < 700);
    }
}
