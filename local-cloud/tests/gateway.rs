//! The API Gateway stand-in as its clients meet it: over TLS, signed with the SDK's own signer, in front of a real function
//! (`examples/echo_bootstrap.rs`) and an IAM that answers over HTTP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a test's helper must end the test")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use local_cloud::clock::Clock;
use local_cloud::config::{ApiConfig, FunctionConfig, TlsConfig};
use local_cloud::faults::{Effect, Faults, Rule, Target};
use local_cloud::gateway::{Gateway, Surroundings};
use local_cloud::lambda::{ExecutionRole, Function, Platform, RoleSession};
use local_cloud::ledger::{IssuedKey, Ledger};
use local_cloud::server::{Stopper, stop};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const HOST: &str = "abc123-vpce-0a1b.execute-api.eu-central-1.amazonaws.com";
const PATH: &str = "/v1/credentials";
const NODE_ROLE: &str = "arn:aws:iam::123456789012:role/node";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const METHOD_ARN: &str = "arn:aws:execute-api:eu-central-1:123456789012:abc123/v1/POST/credentials";

/// 2026-11-23T23:00:00Z.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_474_800)
}

fn key(id: &str, role: &str, session: &str, expiration: SystemTime) -> IssuedKey {
    IssuedKey {
        access_key_id: id.into(),
        secret_access_key: SECRET.into(),
        session_token: format!("session-token-of-{session}").into(),
        account: "123456789012".into(),
        role_arn: format!("arn:aws:iam::123456789012:role/{role}"),
        role_name: role.into(),
        role_id: format!("AROA{}", role.to_uppercase()),
        session_name: session.into(),
        source_identity: None,
        expiration,
    }
}

struct Role;

impl ExecutionRole for Role {
    fn session<'a>(&'a self, _role_arn: &'a str, session_name: &'a str) -> RoleSession<'a> {
        let key = key("ASIAFUNCTION", "function", session_name, now() + Duration::from_hours(1));
        Box::pin(async move { Ok(Arc::new(key)) })
    }
}

struct Lab {
    gateway: Gateway,
    function: Function,
    faults: Faults,
    address: SocketAddr,
    client: reqwest::Client,
    _stopper: Stopper,
    _directory: tempfile::TempDir,
}

/// A request to sign and then perhaps to spoil.
struct Ask {
    method: &'static str,
    host: &'static str,
    target: String,
    key: &'static str,
    secret: &'static str,
    token: String,
    region: &'static str,
    service: &'static str,
    time: SystemTime,
    body: Vec<u8>,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            method: "POST",
            host: HOST,
            target: PATH.into(),
            key: "ASIANODEA",
            secret: SECRET,
            token: "session-token-of-node-a".into(),
            region: "eu-central-1",
            service: "execute-api",
            time: now(),
            body: br#"{"pods":["a"]}"#.to_vec(),
        }
    }
}

impl Ask {
    fn unsigned(&self) -> Request<Vec<u8>> {
        Request::builder()
            .method(self.method)
            .uri(format!("https://{}{}", self.host, self.target))
            .header("host", self.host)
            .header("content-type", "application/json")
            .body(self.body.clone())
            .unwrap()
    }

    fn signed(&self) -> Request<Vec<u8>> {
        let mut request = self.unsigned();
        let identity = Credentials::new(self.key, self.secret, Some(self.token.clone()), None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.time)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let headers = [("host", self.host), ("content-type", "application/json")];
        let uri = request.uri().to_string();
        let signable =
            SignableRequest::new(self.method, uri, headers.into_iter(), SignableBody::Bytes(&self.body)).unwrap();
        let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
        instructions.apply_to_request_http1x(&mut request);
        request
    }
}

/// An answer, with the headers that say who gave it.
#[derive(Debug)]
struct Answer {
    status: u16,
    error_type: Option<String>,
    headers: reqwest::header::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }

    fn expect(&self, status: u16, error_type: &str, body: &Value) {
        let got: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((self.status, self.error_type.as_deref(), &got), (status, Some(error_type), body));
        assert_eq!(self.header("x-amzn-requestid").len(), 36);
        assert_eq!(self.header("content-type"), "application/json");
    }
}

impl Lab {
    async fn start(allowed_roles: Option<Vec<String>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (faults, clock) = (Faults::default(), Clock::new(now));
        let platform = Platform {
            region: "eu-central-1".into(),
            role: Arc::new(Role),
            faults: faults.clone(),
            clock: clock.clone(),
        };
        let function = Function::start(function_config(&directory), platform).unwrap();
        let surroundings = Surroundings {
            region: "eu-central-1".into(),
            account: "123456789012".into(),
            upstream: iam().await.parse().unwrap(),
            ledger: ledger(),
            faults: faults.clone(),
            clock,
            function: function.clone(),
        };
        let config = api_config(&directory, allowed_roles);
        let gateway = Gateway::new(&config, surroundings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stopper, stop) = stop();
        let served = gateway.clone();
        tokio::spawn(async move { served.serve(listener, stop).await });
        let client = client(&config.tls.ca_certificate_out);
        Self { gateway, function, faults, address, client, _stopper: stopper, _directory: directory }
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    async fn try_send(&self, request: Request<Vec<u8>>) -> reqwest::Result<Answer> {
        let (mut parts, body) = request.into_parts();
        // The connection goes to the certificate's name on the test's port; the header stays the one that was signed.
        let target = parts.uri.path_and_query().unwrap().clone();
        parts.uri = format!("https://{HOST}:{}{target}", self.address.port()).parse().unwrap();
        let request = reqwest::Request::try_from(Request::from_parts(parts, body)).unwrap();
        let answer = self.client.execute(request).await?;
        Ok(Answer {
            status: answer.status().as_u16(),
            error_type: answer.headers().get("x-amzn-errortype").map(|value| value.to_str().unwrap().to_owned()),
            headers: answer.headers().clone(),
            body: answer.bytes().await?,
        })
    }

    async fn ordered(&self, order: Value) -> Answer {
        self.send(Ask { body: order.to_string().into_bytes(), ..Ask::default() }.signed()).await
    }
}

fn function_config(directory: &tempfile::TempDir) -> FunctionConfig {
    let test = std::env::current_exe().unwrap();
    let binary: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/echo_bootstrap");
    assert!(binary.is_file(), "not built: cargo build --release -p local-cloud --examples");
    FunctionConfig {
        binary,
        name: "issuer".into(),
        arn: "arn:aws:lambda:eu-central-1:123456789012:function:issuer".into(),
        role_arn: "arn:aws:iam::123456789012:role/function".into(),
        environments: 1,
        timeout_ms: 500,
        memory_mb: 256,
        env: BTreeMap::new(),
        log_dir: directory.path().join("logs"),
    }
}

fn api_config(directory: &tempfile::TempDir, allowed_roles: Option<Vec<String>>) -> ApiConfig {
    ApiConfig {
        id: "abc123".into(),
        vpce_id: "vpce-0a1b".into(),
        vpc_id: "vpc-0c1d".into(),
        stage: "v1".into(),
        resource: "/credentials".into(),
        listen: Vec::new(),
        allowed_roles,
        stage_variables: [("caller_secret".to_owned(), "stage-secret".into())].into(),
        tls: TlsConfig { ca_certificate_out: directory.path().join("ca.pem"), names: Vec::new() },
    }
}

fn ledger() -> Ledger {
    let ledger = Ledger::default();
    let later = now() + Duration::from_mins(30);
    ledger.insert(IssuedKey {
        session_token: "session-token-of-node-a".to_owned().into(),
        ..key("ASIANODEA", "node", "i-0123456789abcdef0", later)
    });
    ledger.insert(key("ASIAOVER", "node", "over", now()));
    ledger.insert(key("ASIAPOD", "pod", "pod-session", later));
    ledger.insert(key("ASIADENIED", "denied", "denied-session", later));
    ledger
}

fn client(authority: &std::path::Path) -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(authority).unwrap()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([authority])
        .resolve(HOST, SocketAddr::from(([127, 0, 0, 1], 0)))
        .user_agent("node-agent/0.1")
        .build()
        .unwrap()
}

/// An IAM with three roles; its address.
async fn iam() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(simulate)));
        }
    });
    format!("http://{address}")
}

async fn simulate(request: Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let form = request.into_body().collect().await.unwrap().to_bytes();
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&form).into_owned().collect();
    assert_eq!((form["Action"].as_str(), form["Version"].as_str()), ("SimulatePrincipalPolicy", "2010-05-08"));
    assert_eq!(form["ActionNames.member.1"], "execute-api:Invoke");
    assert_eq!(form["ResourceArns.member.1"], METHOD_ARN);
    let decision = match form["PolicySourceArn"].as_str() {
        NODE_ROLE => "allowed",
        "arn:aws:iam::123456789012:role/denied" => "explicitDeny",
        _ => "implicitDeny",
    };
    Ok(http::Response::new(Full::from(format!(
        "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults><member><EvalDecision>{decision}</EvalDecision></member></EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    ))))
}

#[tokio::test]
async fn the_event_is_aws_documented_field_for_field() {
    let lab = Lab::start(None).await;
    let mut request = Ask { target: format!("{PATH}?a=1&b=x%20y&a=3"), ..Ask::default() }.signed();
    request.headers_mut().insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    // A client cannot say through which endpoint it came.
    request.headers_mut().insert("x-amzn-vpce-id", "vpce-forged".parse().unwrap());
    let answer = lab.send(request).await;
    assert_eq!((answer.status, answer.header("x-from")), (200, "function"));
    let mut event: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut swap = |pointer: &str, header: &str, placeholder: &str| {
        let value = event.pointer_mut(pointer).unwrap();
        assert_eq!(value.as_str().unwrap(), answer.header(header), "{pointer}");
        *value = placeholder.into();
    };
    swap("/requestContext/requestId", "x-amzn-requestid", "REQUEST-ID");
    swap("/requestContext/extendedRequestId", "x-amz-apigw-id", "EXTENDED-REQUEST-ID");
    swap("/headers/X-Amzn-Trace-Id", "x-amzn-trace-id", "TRACE");
    swap("/multiValueHeaders/X-Amzn-Trace-Id/0", "x-amzn-trace-id", "TRACE");
    let golden: Value = serde_json::from_str(include_str!("data/apigw_event.json")).unwrap();
    assert_eq!(event, golden, "{event:#}");
    lab.function.stop().await;
}

#[tokio::test]
async fn without_query_and_body_they_are_null() {
    let lab = Lab::start(None).await;
    let answer = lab.send(Ask { body: Vec::new(), ..Ask::default() }.signed()).await;
    let event: Value = serde_json::from_slice(&answer.body).unwrap();
    for member in ["queryStringParameters", "multiValueQueryStringParameters", "body"] {
        assert_eq!(event[member], Value::Null, "{member}");
    }
    lab.function.stop().await;
}

#[tokio::test]
async fn what_is_not_a_session_of_sts_is_refused() {
    let lab = Lab::start(None).await;
    let missing = json!({ "message": "Missing Authentication Token" });
    lab.send(Ask::default().unsigned()).await.expect(403, "MissingAuthenticationTokenException", &missing);

    let unknown = json!({ "message": "The security token included in the request is invalid." });
    let ask = Ask { key: "ASIANOBODY", ..Ask::default() };
    lab.send(ask.signed()).await.expect(403, "UnrecognizedClientException", &unknown);
    let ask = Ask { token: "another-token".into(), ..Ask::default() };
    lab.send(ask.signed()).await.expect(403, "UnrecognizedClientException", &unknown);
    let mut request = Ask::default().signed();
    request.headers_mut().remove("x-amz-security-token");
    lab.send(request).await.expect(403, "UnrecognizedClientException", &unknown);

    let expired = json!({ "message": "The security token included in the request is expired" });
    let ask = Ask { key: "ASIAOVER", token: "session-token-of-over".into(), ..Ask::default() };
    lab.send(ask.signed()).await.expect(403, "ExpiredTokenException", &expired);
    assert_eq!(lab.function.stats().invocations, 0);
}

#[tokio::test]
async fn what_was_altered_is_refused() {
    let lab = Lab::start(None).await;
    let mismatch = json!({ "message": "The request signature we calculated does not match the signature you provided. \
        Check your AWS Secret Access Key and signing method. Consult the service documentation for details." });
    let ask = Ask { secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEXXX", ..Ask::default() };
    lab.send(ask.signed()).await.expect(403, "InvalidSignatureException", &mismatch);

    let mut request = Ask::default().signed();
    *request.body_mut() = br#"{"pods":["b"]}"#.to_vec();
    lab.send(request).await.expect(403, "InvalidSignatureException", &mismatch);

    let mut request = Ask::default().signed();
    *request.uri_mut() = format!("https://{HOST}{PATH}?added=1").parse().unwrap();
    lab.send(request).await.expect(403, "InvalidSignatureException", &mismatch);

    let mut request = Ask::default().signed();
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    lab.send(request).await.expect(403, "InvalidSignatureException", &mismatch);

    // A signature for this API is none for it under its other name.
    let mut request = Ask::default().signed();
    let other = "abc123.execute-api.eu-central-1.amazonaws.com";
    request.headers_mut().insert("host", other.parse().unwrap());
    lab.send(request).await.expect(403, "InvalidSignatureException", &mismatch);
    assert_eq!(lab.function.stats().invocations, 0);
}

#[tokio::test]
async fn what_was_signed_at_another_time_or_for_something_else_is_refused() {
    let lab = Lab::start(None).await;
    let cases = [
        (
            Ask { time: now() - Duration::from_secs(301), ..Ask::default() },
            "Signature expired: 20261123T225459Z is now earlier than 20261123T225500Z (20261123T230000Z - 5 min.)",
        ),
        (
            Ask { time: now() + Duration::from_secs(301), ..Ask::default() },
            "Signature not yet current: 20261123T230501Z is still later than 20261123T230500Z (20261123T230000Z + 5 min.)",
        ),
        (
            Ask { region: "eu-west-1", ..Ask::default() },
            "Credential should be scoped to a valid region, not 'eu-west-1'.",
        ),
        (Ask { service: "sts", ..Ask::default() }, "Credential should be scoped to correct service: 'execute-api'."),
    ];
    for (ask, message) in cases {
        lab.send(ask.signed()).await.expect(403, "InvalidSignatureException", &json!({ "message": message }));
    }
    let mut request = Ask::default().signed();
    request.headers_mut().insert("authorization", "AWS4-HMAC-SHA256 Credential=ASIANODEA".parse().unwrap());
    let answer = lab.send(request).await;
    assert_eq!((answer.status, answer.error_type.as_deref()), (403, Some("IncompleteSignatureException")));
    assert_eq!(lab.function.stats().invocations, 0);

    // At the edge it is still good.
    let ask = Ask { time: now() - Duration::from_secs(300), ..Ask::default() };
    assert_eq!(lab.send(ask.signed()).await.status, 200);
    lab.function.stop().await;
}

#[tokio::test]
async fn what_the_api_does_not_have_is_refused() {
    let lab = Lab::start(None).await;
    let missing = json!({ "message": "Missing Authentication Token" });
    for (method, target) in [("GET", PATH), ("POST", "/v1/nope"), ("DELETE", PATH)] {
        let ask = Ask { method, target: target.into(), ..Ask::default() };
        lab.send(ask.signed()).await.expect(403, "MissingAuthenticationTokenException", &missing);
    }
    let forbidden = json!({ "message": "Forbidden" });
    let ask = Ask { target: "/v2/credentials".into(), ..Ask::default() };
    lab.send(ask.signed()).await.expect(403, "ForbiddenException", &forbidden);
    let ask = Ask { host: "other.execute-api.eu-central-1.amazonaws.com", ..Ask::default() };
    lab.send(ask.signed()).await.expect(403, "ForbiddenException", &forbidden);
}

#[tokio::test]
async fn who_may_not_invoke_is_refused() {
    let shown =
        "execute-api:Invoke on resource: arn:aws:execute-api:eu-central-1:********9012:abc123/v1/POST/credentials";
    let denied = |user: &str, reason: &str| {
        let user = format!("arn:aws:sts::123456789012:assumed-role/{user}");
        json!({ "Message": format!("User: {user} is not authorized to perform: {shown} {reason}") })
    };
    let lab = Lab::start(None).await;
    let pod = || Ask { key: "ASIAPOD", token: "session-token-of-pod-session".into(), ..Ask::default() };
    lab.send(pod().signed()).await.expect(
        403,
        "AccessDeniedException",
        &denied("pod/pod-session", "because no identity-based policy allows the execute-api:Invoke action"),
    );
    let ask = Ask { key: "ASIADENIED", token: "session-token-of-denied-session".into(), ..Ask::default() };
    lab.send(ask.signed()).await.expect(
        403,
        "AccessDeniedException",
        &denied("denied/denied-session", "with an explicit deny in an identity-based policy"),
    );

    let lab = Lab::start(Some(vec![NODE_ROLE.into()])).await;
    lab.send(pod().signed()).await.expect(
        403,
        "AccessDeniedException",
        &denied("pod/pod-session", "with an explicit deny in a resource-based policy"),
    );
    assert_eq!(lab.send(Ask::default().signed()).await.status, 200);
    lab.function.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let lab = Lab::start(None).await;
    let long = json!({ "message": "Request Too Long" });
    let ask = Ask { body: vec![b'x'; 10 * 1024 * 1024 + 1], ..Ask::default() };
    lab.send(ask.signed()).await.expect(413, "RequestTooLargeException", &long);
    let mut request = Ask::default().signed();
    request.headers_mut().insert("x-padding", "x".repeat(10_240).parse().unwrap());
    let answer = lab.send(request).await;
    assert_eq!((answer.status, &*answer.body), (431, &b"{\"message\":\"Request Header Fields Too Large\"}"[..]));
}

#[tokio::test]
async fn the_functions_answer_is_passed_on_and_its_failures_are_not() {
    let lab = Lab::start(None).await;
    let answer = lab
        .ordered(json!({ "do": "answer", "answer": {
            "statusCode": 403, "multiValueHeaders": { "x-many": ["1", "2"] }, "body": "{\"code\":\"caller_not_a_node\"}",
        }}))
        .await;
    assert_eq!((answer.status, &*answer.body), (403, &b"{\"code\":\"caller_not_a_node\"}"[..]));
    assert_eq!(answer.headers.get_all("x-many").iter().count(), 2);
    assert_eq!(answer.error_type, None, "the function's own answer has no error type");

    let internal = json!({ "message": "Internal server error" });
    for order in [
        json!({ "do": "answer", "answer": { "status": 200 } }),
        json!({ "do": "fail" }),
        json!({ "do": "exit" }),
        json!({ "do": "sleep", "ms": 60_000 }),
    ] {
        lab.ordered(order).await.expect(502, "InternalServerErrorException", &internal);
    }
    assert_eq!(lab.gateway.answers(), BTreeMap::from([(403, 1), (502, 4)]));
    lab.function.stop().await;
}

#[tokio::test]
async fn the_gateway_waits_29_seconds() {
    let lab = Lab::start(None).await;
    // Opens the connection and lets IAM's answer be remembered, so that afterwards only the one timer is left to run.
    assert_eq!(lab.send(Ask::default().signed()).await.status, 200);
    lab.function.stop().await;
    lab.faults.replace(vec![Rule::new(Target::Lambda, Effect::Hang)]);
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let answer = lab.send(Ask::default().signed()).await;
    answer.expect(504, "InternalServerErrorException", &json!({ "message": "Endpoint request timed out" }));
    assert_eq!(started.elapsed().as_secs(), 29);
}

#[tokio::test]
async fn faults_strike_before_the_signature_is_looked_at() {
    let lab = Lab::start(None).await;
    let cases = [
        (Target::Gateway, Effect::Throttle, 429, "TooManyRequestsException", "Too Many Requests"),
        (Target::Gateway, Effect::Error(403), 403, "ForbiddenException", "Forbidden"),
        (Target::Gateway, Effect::Error(503), 503, "ServiceUnavailableException", "Service Unavailable"),
        (Target::Lambda, Effect::Throttle, 500, "InternalServerErrorException", "Internal server error"),
        (Target::Lambda, Effect::Refuse, 500, "InternalServerErrorException", "Internal server error"),
    ];
    for (target, effect, status, error_type, message) in cases {
        lab.faults.replace(vec![Rule::new(target, effect)]);
        let answer = lab.send(Ask::default().signed()).await;
        answer.expect(status, error_type, &json!({ "message": message }));
    }
    lab.faults.replace(vec![Rule::new(Target::Gateway, Effect::Refuse)]);
    let broken = lab.try_send(Ask::default().unsigned()).await.unwrap_err();
    assert!(broken.is_request(), "{broken:?}");
    assert_eq!(lab.function.stats().starts, 0);
}
