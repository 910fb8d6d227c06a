use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::time::UnixMillis;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::clock::Clock;

/// Now, in all tests here: 2026-11-24T00:00:00Z.
pub(crate) const NOW: UnixMillis = UnixMillis::from_secs(1_795_478_400);

/// A server on a port of its own that answers with `handler`.
pub(crate) async fn serve(
    handler: impl Fn(Request<Bytes>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let handler = handler.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    Ok::<_, std::convert::Infallible>(handler(Request::from_parts(parts, body)))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// An EC2 metadata service: tokens required, one role, credentials that a test sets.
#[derive(Clone)]
pub(crate) struct FakeMetadata {
    state: Arc<Mutex<State>>,
    /// How many documents were given.
    documents: watch::Sender<usize>,
    pub(crate) endpoint: String,
}

struct State {
    token: String,
    tokens: usize,
    fails: bool,
    list: Option<String>,
    document: String,
}

impl FakeMetadata {
    pub(crate) async fn start() -> Self {
        let (token, document) = ("token-0".into(), document("ASIA0", "2026-11-24T06:00:00Z"));
        let state = State { token, tokens: 0, fails: false, list: Some("node-role".into()), document };
        let state = Arc::new(Mutex::new(state));
        let documents = watch::channel(0).0;
        let fake = Self { state, documents, endpoint: String::new() };
        let served = fake.clone();
        let address = serve(move |request| served.answer(&request)).await;
        Self { endpoint: format!("http://{address}"), ..fake }
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let respond = |status: u16, body: &str| {
            Response::builder()
                .status(status)
                .header("content-type", "text/plain")
                .body(Full::from(body.to_owned()))
                .unwrap()
        };
        let mut state = self.state.lock().unwrap();
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        let path = request.uri().path();
        if state.fails {
            return respond(500, "");
        }
        if request.method() == "PUT" && path == "/latest/api/token" {
            assert_eq!(header("x-aws-ec2-metadata-token-ttl-seconds"), Some("21600"));
            state.tokens += 1;
            return respond(200, &state.token);
        }
        if header("x-aws-ec2-metadata-token") != Some(&state.token) {
            return respond(401, "");
        }
        match (path, &state.list) {
            ("/latest/meta-data/iam/security-credentials/", Some(list)) => respond(200, list),
            ("/latest/meta-data/iam/security-credentials/node-role", Some(_)) => {
                self.documents.send_modify(|count| *count += 1);
                respond(200, &state.document)
            }
            ("/latest/meta-data/instance-id", _) => respond(200, "i-0123456789abcdef0"),
            ("/latest/meta-data/placement/region", _) => respond(200, "eu-central-1"),
            ("/latest/long", _) => respond(200, &"x".repeat(64 * 1024 + 1)),
            _ => respond(404, "absent"),
        }
    }

    pub(crate) fn set_document(&self, document: String) {
        self.state.lock().unwrap().document = document;
    }

    pub(crate) fn client(&self) -> Arc<NodeMetadata> {
        Arc::new(NodeMetadata::new(MetadataEndpoint::parse(&self.endpoint).unwrap(), http_client().unwrap()))
    }

    /// Credentials from here, at a time that is always [`NOW`].
    pub(crate) fn credentials(&self) -> Arc<NodeCredentials> {
        Arc::new(NodeCredentials::new(self.client(), Clock::new(|| NOW)))
    }

    pub(crate) fn documents(&self) -> usize {
        *self.documents.borrow()
    }
}

pub(crate) fn document(id: &str, expiration: &str) -> String {
    json!({"Code": "Success", "LastUpdated": "2026-11-23T23:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": id,
        "SecretAccessKey": "node-secret-key", "Token": "node-session-token", "Expiration": expiration})
    .to_string()
}

/// A clock that a test moves.
fn clock() -> (Clock, Arc<Mutex<UnixMillis>>) {
    let now = Arc::new(Mutex::new(NOW));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || *now.lock().unwrap()
    });
    (clock, now)
}

#[tokio::test]
async fn answers_come_with_their_status_and_type_and_one_token_serves_many() {
    let fake = FakeMetadata::start().await;
    let client = fake.client();
    let answer = client.get("/latest/meta-data/instance-id").await.unwrap();
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"i-0123456789abcdef0"[..]));
    assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
    assert_eq!(client.get("/latest/other").await.unwrap().status, StatusCode::NOT_FOUND);
    assert_eq!(client.instance_id().await.unwrap().as_str(), "i-0123456789abcdef0");
    assert_eq!(client.region().await.unwrap(), "eu-central-1");
    assert_eq!(fake.state.lock().unwrap().tokens, 1);
    assert!(matches!(client.get("/latest/long").await, Err(NodeError::TooLong(path)) if path == "/latest/long"));
}

#[tokio::test]
async fn a_forgotten_token_is_replaced_once_and_an_old_one_before_its_end() {
    let fake = FakeMetadata::start().await;
    let client = fake.client();
    client.region().await.unwrap();
    fake.state.lock().unwrap().token = "token-1".into();
    client.region().await.unwrap();
    assert_eq!(fake.state.lock().unwrap().tokens, 2);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(21_600 - 59)).await;
    tokio::time::resume();
    client.region().await.unwrap();
    assert_eq!(fake.state.lock().unwrap().tokens, 3);
}

#[tokio::test]
async fn a_path_that_would_become_another_is_not_asked_for() {
    let fake = FakeMetadata::start().await;
    let client = fake.client();
    for path in [
        "/latest/meta-data/../user-data",
        "/latest/%2e%2e/user-data",
        "/latest/a?b",
        "/latest/a b",
        "latest",
        "/latest/a#b",
    ] {
        assert!(matches!(client.get(path).await, Err(NodeError::NotFound(found)) if found == path), "{path}");
    }
    assert_eq!(fake.state.lock().unwrap().tokens, 0);
}

#[tokio::test]
async fn credentials_are_fetched_once_and_kept() {
    let fake = FakeMetadata::start().await;
    let node = fake.credentials();
    let (first, second) = tokio::join!(node.current(), node.current());
    let first = first.unwrap();
    assert_eq!(first.access_key_id(), "ASIA0");
    assert_eq!(first.secret_access_key(), "node-secret-key");
    assert_eq!(first.session_token(), Some("node-session-token"));
    assert_eq!(second.unwrap().access_key_id(), "ASIA0");
    assert_eq!(fake.documents(), 1);
    assert_eq!(node.renewed().await.unwrap().access_key_id(), "ASIA0");
    assert_eq!(fake.documents(), 1, "asked a moment ago");
}

#[tokio::test]
async fn a_failed_refresh_keeps_what_is_valid_and_expired_ones_are_never_given() {
    let fake = FakeMetadata::start().await;
    let (clock, now) = clock();
    let node = NodeCredentials::new(fake.client(), clock);
    node.current().await.unwrap();
    fake.state.lock().unwrap().fails = true;
    let six_hours = Duration::from_secs(6 * 3600);
    *now.lock().unwrap() = NOW.plus(six_hours).minus(Duration::from_millis(60_001));
    assert_eq!(node.current().await.unwrap().access_key_id(), "ASIA0");
    *now.lock().unwrap() = NOW.plus(six_hours).minus(Duration::from_secs(60));
    assert!(matches!(node.current().await, Err(NodeError::NoToken(_) | NodeError::Status { .. })));
    fake.state.lock().unwrap().fails = false;
    assert!(matches!(node.current().await, Err(NodeError::Expired)), "EC2 still gives the old ones");
    fake.set_document(document("ASIA1", "2026-11-24T12:00:00Z"));
    assert_eq!(node.current().await.unwrap().access_key_id(), "ASIA1");
}

#[tokio::test]
async fn they_are_refreshed_in_the_background_and_after_a_failure() {
    let fake = FakeMetadata::start().await;
    let node = fake.credentials();
    let mut documents = fake.documents.subscribe();
    let mut reach = async |count: usize| {
        tokio::time::timeout(Duration::from_secs(10), documents.wait_for(|found| *found >= count))
            .await
            .unwrap()
            .unwrap();
    };
    let runner = {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.run().await })
    };
    reach(1).await;
    node.current().await.unwrap();
    fake.set_document(document("ASIA1", "2026-11-24T12:00:00Z"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5 * 60)).await;
    tokio::time::resume();
    reach(2).await;
    assert_eq!(node.renewed().await.unwrap().access_key_id(), "ASIA1");
    runner.abort();
}

#[tokio::test]
async fn each_failure_has_its_own_sentence() {
    let fake = FakeMetadata::start().await;
    let fail = async |document: &str| {
        fake.set_document(document.to_owned());
        fake.credentials().current().await.unwrap_err().to_string()
    };
    let path = "/latest/meta-data/iam/security-credentials/node-role";
    assert_eq!(
        fail(r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role"}"#).await,
        "EC2 gives no credentials for the node role: AssumeRoleUnauthorizedAccess: EC2 cannot assume the role"
    );
    let malformed = format!("the EC2 metadata service's answer to {path} is not understood");
    assert_eq!(fail(r#"{"Code":"Success","SecretAccessKey":"node-secret-key"}"#).await, malformed);
    assert_eq!(fail("node-secret-key").await, malformed);
    assert_eq!(fail(&document("ASIA0", "tomorrow")).await, malformed);
    fake.state.lock().unwrap().list = None;
    assert_eq!(fail("").await, "this instance has no role: attach an instance profile with the node role");
    fake.state.lock().unwrap().fails = true;
    assert_eq!(
        fail("").await,
        "the EC2 metadata service gives no session token (status 500 Internal Server Error): IMDSv2 must be enabled on the \
         instance"
    );
    let closed = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let endpoint = MetadataEndpoint::parse(&format!("http://{closed}")).unwrap();
    let error = NodeMetadata::new(endpoint, http_client().unwrap()).region().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no answer from the EC2 metadata service at http://{closed}: is this an EC2 instance with metadata enabled?"
        )
    );
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let fake = FakeMetadata::start().await;
    let node = fake.credentials();
    let credentials = node.current().await.unwrap();
    let document =
        MetadataAnswer { status: StatusCode::OK, content_type: None, body: "node-secret-key".as_bytes().into() };
    let shown = format!("{node:?} {node:#?} {credentials:?} {document:?} {document:#?}");
    assert!(shown.contains("ASIA0"));
    for secret in ["node-secret-key", "node-session-token", "token-0"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn only_an_address_is_a_metadata_endpoint() {
    for text in ["http://169.254.169.254", "http://[fd00:ec2::254]", "http://127.0.0.1:1338"] {
        assert_eq!(MetadataEndpoint::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(MetadataEndpoint::default(), MetadataEndpoint::parse("http://169.254.169.254/").unwrap());
    for text in [
        "169.254.169.254",
        "https://169.254.169.254",
        "http://metadata.example.com",
        "http://1.2.3.4/x",
        "http://u@1.2.3.4",
        "http://1.2.3.4?x",
    ] {
        assert!(MetadataEndpoint::parse(text).is_err(), "{text}");
    }
}
