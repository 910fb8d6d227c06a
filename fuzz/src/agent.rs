//! A metadata service with two pods, of which one has credentials, over a stream in memory.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use model::arn::RoleArn;
use model::credentials::SessionCredentials;
use model::time::UnixMillis;
use model::wire::{IssueRequest, IssueResponse, Outcome, Session, VERSION};
use node_agent::clock::Clock;
use node_agent::credentials::{Chance, Credentials, CredentialsMetrics, Found, Issuer, Keeper};
use node_agent::identity::{RoleHint, Sandbox, SandboxId, WhoError};
use node_agent::issuer::IssuerError;
use node_agent::metadata::{
    AllowList, KEY_BYTES, Metadata, MetadataMetrics, Pods, Settings, Tokens, Upstream, serve_connection,
};
use node_agent::node::{MetadataAnswer, NodeError};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;

/// In every credentials document, and nowhere else.
pub(crate) const SECRET: &str = "the-secret-access-key";
/// In every answer of the real metadata service, and nowhere else.
pub(crate) const PASSED_ON: &str = "from-the-real-service";
/// Whose requests the targets send.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// A pod beside it.
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const START: UnixMillis = UnixMillis(1_795_475_000_000);
/// What the pipe holds: more than a request's header section may have.
const PIPE_BYTES: usize = 32 * 1024;
/// After so many turns of the one thread without a byte, the service has nothing left to do: it waits for nothing but its client.
const QUIET_TURNS: usize = 8;

/// Tokens that the service itself gave out.
pub(crate) struct GivenTokens {
    /// The pod's.
    pub(crate) own: String,
    /// The neighbour's.
    pub(crate) neighbours: String,
    /// The pod's, from a clock that is a day behind.
    pub(crate) expired: String,
}

/// The service, where a missing token is refused or not.
pub(crate) struct Agent {
    runtime: Runtime,
    lenient: Arc<Metadata<RealService>>,
    strict: Arc<Metadata<RealService>>,
    pub(crate) tokens: GivenTokens,
    /// The keeper lives as long as somebody can tell it of sandboxes.
    _changes: mpsc::UnboundedSender<node_agent::identity::SandboxChange>,
}

thread_local! {
    static AGENT: RefCell<Option<Agent>> = const { RefCell::new(None) };
}

/// Lends the one agent of this thread: it is the same for every input.
pub(crate) fn with_agent<T>(work: impl FnOnce(&Agent) -> T) -> T {
    AGENT.with_borrow_mut(|agent| work(agent.get_or_insert_with(Agent::start)))
}

impl Agent {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let guard = runtime.enter();
        let clock = Clock::new(|| START);
        let (changes, receiver) = mpsc::unbounded_channel();
        let metrics = CredentialsMetrics::register(&mut Registry::default());
        let (keeper, credentials) =
            Keeper::new(Arc::new(OneRole), receiver, |_| true, clock.clone(), Chance::new(1), metrics);
        runtime.spawn(keeper.run());
        // Held before the first question: a connection that its client has ended waits for nothing.
        let found = runtime.block_on(credentials.find(&sandbox("web-0"), Duration::from_secs(60)));
        assert!(matches!(found, Ok(Found::Held(_))), "the pod has credentials");
        let yesterday = Clock::new(|| START.minus(Duration::from_secs(24 * 3600)));
        let lenient = metadata(&credentials, &clock, false);
        let tokens = GivenTokens {
            own: token(&runtime, &lenient, POD),
            neighbours: token(&runtime, &lenient, NEIGHBOUR),
            expired: token(&runtime, &metadata(&credentials, &yesterday, false), POD),
        };
        let strict = metadata(&credentials, &clock, true);
        drop(guard);
        Self { runtime, lenient, strict, tokens, _changes: changes }
    }

    /// Sends `bytes` as one connection of the pod, ends it, and returns all that came back.
    pub(crate) fn converse(&self, bytes: &[u8], require_token: bool) -> Vec<u8> {
        let metadata = if require_token { &self.strict } else { &self.lenient };
        converse(&self.runtime, metadata, POD, bytes)
    }
}

fn metadata(credentials: &Credentials, clock: &Clock, require_token: bool) -> Arc<Metadata<RealService>> {
    let everything = AllowList::new(vec![".*".parse().expect("a regular expression")]);
    Arc::new(Metadata::new(
        Arc::new(TwoPods([sandbox("web-0"), sandbox("web-1")])),
        credentials.clone(),
        Arc::new(RealService),
        Tokens::new(&[7; KEY_BYTES]),
        Settings { allow: everything, require_token, requests_per_second: NonZeroU32::MAX, ..Settings::default() },
        clock.clone(),
        MetadataMetrics::register(&mut Registry::default()),
    ))
}

fn converse(runtime: &Runtime, metadata: &Arc<Metadata<RealService>>, peer: IpAddr, bytes: &[u8]) -> Vec<u8> {
    let (client, server) = duplex(PIPE_BYTES);
    let (_ending, ended) = watch::channel(false);
    runtime.block_on(async {
        let (answers, ()) =
            tokio::join!(talk(client, bytes), serve_connection(server, peer, Arc::clone(metadata), ended));
        answers
    })
}

/// Sends `bytes`, and ends the stream when nothing comes back any more: the service drops a request whose client has ended it.
async fn talk(client: DuplexStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(client);
    let received = Cell::new(0);
    let write = async {
        // The service may close before it has read everything.
        let _ = writer.write_all(bytes).await;
        let mut before = usize::MAX;
        while before != received.get() {
            before = received.get();
            for _ in 0..QUIET_TURNS {
                yield_now().await;
            }
        }
        let _ = writer.shutdown().await;
    };
    let read = async {
        let mut answers = Vec::new();
        while reader.read_buf(&mut answers).await.is_ok_and(|count| count > 0) {
            received.set(answers.len());
        }
        answers
    };
    tokio::join!(write, read).1
}

fn token(runtime: &Runtime, metadata: &Arc<Metadata<RealService>>, peer: IpAddr) -> String {
    let request = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\
                   X-aws-ec2-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(converse(runtime, metadata, peer, request.as_bytes())).expect("a token is text");
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

fn sandbox(name: &str) -> Arc<Sandbox> {
    let pod = model::name::PodRef {
        namespace: "default".parse().expect("a namespace"),
        name: name.parse().expect("a pod's name"),
        uid: "uid-1".parse().expect("a UID"),
    };
    let id = SandboxId::parse(name).expect("a sandbox's id");
    let (addresses, host_interfaces) = (Vec::new(), Vec::new());
    Arc::new(Sandbox { id, pod, created: START, hint: RoleHint::Annotated, role: None, addresses, host_interfaces })
}

struct TwoPods([Arc<Sandbox>; 2]);

impl Pods for TwoPods {
    fn who(&self, peer: IpAddr) -> Result<Arc<Sandbox>, WhoError> {
        let [pod, neighbour] = &self.0;
        Ok(Arc::clone(if peer == NEIGHBOUR { neighbour } else { pod }))
    }
}

/// An issuer that gives every pod one role.
struct OneRole;

impl Issuer for OneRole {
    async fn issue(&self, request: &IssueRequest) -> Result<IssueResponse, IssuerError> {
        let role = RoleArn::parse("arn:aws:iam::123456789012:role/team/app").expect("an ARN");
        let credentials = SessionCredentials {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: SECRET.into(),
            session_token: "the-session-token".into(),
            expiration: START.plus(Duration::from_secs(3600)),
        };
        let outcomes = request.pods.iter().map(|_| Outcome::Session(0)).collect();
        Ok(IssueResponse { version: VERSION, sessions: vec![Session { role, credentials }], outcomes })
    }
}

/// A metadata service that may never be asked for certain things.
struct RealService;

impl Upstream for RealService {
    async fn get(&self, path: &str) -> Result<MetadataAnswer, NodeError> {
        assert_may_be_passed_on(path);
        Ok(MetadataAnswer {
            status: StatusCode::OK,
            content_type: None,
            body: Bytes::from_static(PASSED_ON.as_bytes()),
        })
    }
}

/// Asserts that `path` is plain and names nothing of the node's own, however the real service may read it.
pub(crate) fn assert_may_be_passed_on(path: &str) {
    assert!(
        path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b';' | b'?' | b'#')),
        "{path:?}"
    );
    let folded = path.to_ascii_lowercase();
    let parts: Vec<&str> = folded.split('/').filter(|part| !part.is_empty()).collect();
    assert!(!parts.iter().any(|part| matches!(*part, "." | "..")), "{path:?}");
    let is_never = match parts.as_slice() {
        [_, "user-data" | "api", ..] | [_, "meta-data", "iam" | "identity-credentials", ..] => true,
        [_, "dynamic", "instance-identity", rest @ ..] => rest != ["document"],
        _ => false,
    };
    assert!(!is_never, "{path:?}");
}
