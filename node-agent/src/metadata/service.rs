//! One request of a pod: does it ask too often, is it meant for us, who asks, has it a token, what is asked for.

use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::access::Access;
use super::allow::{self, AllowList};
use super::answer::{Answer, time_left};
use super::constants::Constants;
use super::host::Hosts;
use super::metrics::{MetadataMetrics, RouteLabel};
use super::path::{MetadataPath, Route};
use super::rate::Rates;
use super::token::{TOKEN_HEADER, Tokens, Ttl};
use crate::clock::Clock;
use crate::credentials::{Credentials, Found};
use crate::identity::{Identity, Sandbox, SandboxId, WhoError};
use crate::node::{MetadataAnswer, NodeError, NodeMetadata};

/// How long a request waits for credentials. Most SDKs give the metadata service one second, and the answer must reach them
/// within it.
const HOLD: Duration = Duration::from_millis(900);
/// Questions that the real service is asked at once. Its packets share one limit with the node's DNS and clock, so pods must
/// not be able to use it up.
const MAX_PASSED_ON: usize = 8;
/// How long the refusal of a request too many is kept back: a client in a loop then costs next to nothing, and one that
/// waits for a second still gets a definite answer.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);
/// The longest body read past. The one request with a body is an SDK's PUT for a token, and that is empty.
const MAX_BODY_BYTES: u64 = 1024;

/// Says which pod a peer is.
pub trait Pods: Send + Sync + 'static {
    /// See [`Identity::who`].
    fn who(&self, peer: IpAddr) -> Result<Arc<Sandbox>, WhoError>;
}

impl Pods for Identity {
    fn who(&self, peer: IpAddr) -> Result<Arc<Sandbox>, WhoError> {
        Identity::who(self, peer)
    }
}

/// The real metadata service.
pub trait Upstream: Send + Sync + 'static {
    /// Asks for `path`, in bounded time and for a bounded answer.
    fn get(&self, path: &str) -> impl Future<Output = Result<MetadataAnswer, NodeError>> + Send;
}

impl Upstream for NodeMetadata {
    async fn get(&self, path: &str) -> Result<MetadataAnswer, NodeError> {
        NodeMetadata::get(self, path).await
    }
}

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Accepted `Host` headers.
    pub hosts: Hosts,
    /// What is passed on to the real service.
    pub allow: AllowList,
    /// Whether requests without a token are refused.
    pub require_token: bool,
    /// How many requests each pod may make, on average.
    pub requests_per_second: NonZeroU32,
}

/// EC2 takes 1,024 packets a second from a whole instance; a pod's SDKs ask a few times an hour, and in a loop a few times for
/// each of their own processes.
pub const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not 0");

impl Default for Settings {
    fn default() -> Self {
        let (hosts, allow) = (Hosts::default(), AllowList::default());
        Self { hosts, allow, require_token: false, requests_per_second: REQUESTS_PER_SECOND }
    }
}

/// Answers pods.
pub struct Metadata<U> {
    pods: Arc<dyn Pods>,
    credentials: Credentials,
    upstream: Arc<U>,
    upstream_slots: Semaphore,
    constants: Constants,
    tokens: Tokens,
    rates: Rates,
    settings: Settings,
    clock: Clock,
    pub(super) metrics: MetadataMetrics,
}

/// A connection: its peer, and the sandbox whose requests it carries.
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    sandbox: OnceLock<SandboxId>,
    /// Whether the next answer is the last.
    ending: AtomicBool,
}

impl Connection {
    pub(super) fn from(peer: IpAddr) -> Self {
        Self { peer, sandbox: OnceLock::new(), ending: AtomicBool::new(false) }
    }

    /// The next answer is the last.
    pub(super) fn ends(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// `answer`, which says so where it is the last.
    fn closing(&self, answer: Answer) -> Answer {
        if self.ending.load(Ordering::Relaxed) { answer.closing() } else { answer }
    }

    /// Whether every request so far came from `sandbox`.
    fn belongs_to(&self, sandbox: &Sandbox) -> bool {
        *self.sandbox.get_or_init(|| sandbox.id.clone()) == sandbox.id
    }
}

/// The address of a connection has become another sandbox's: the connection ends without an answer, since whoever reads it is
/// not who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection's address belongs to another sandbox now")]
pub(super) struct SandboxChanged;

impl<U: Upstream> Metadata<U> {
    /// A service over these parts.
    pub fn new(
        pods: Arc<dyn Pods>,
        credentials: Credentials,
        upstream: Arc<U>,
        tokens: Tokens,
        settings: Settings,
        clock: Clock,
        metrics: MetadataMetrics,
    ) -> Self {
        let upstream_slots = Semaphore::new(MAX_PASSED_ON);
        let constants = Constants::default();
        let rates = Rates::new(settings.requests_per_second);
        Self { pods, credentials, upstream, upstream_slots, constants, tokens, rates, settings, clock, metrics }
    }

    /// Answers one request.
    pub(super) async fn handle<B: Body>(
        &self,
        connection: &Connection,
        request: Request<B>,
    ) -> Result<Response<Full<Bytes>>, SandboxChanged> {
        // A request in absolute form is meant for a proxy.
        let is_origin_form = request.uri().authority().is_none() && request.uri().scheme().is_none();
        let route = if is_origin_form { Route::parse(request.uri().path()) } else { Route::Unknown };
        let method = request.method().clone();
        let mut access = Access::new(&self.metrics, &self.rates, connection.peer, method, RouteLabel::of(&route));
        if !self.rates.request(connection.peer) {
            sleep(REFUSAL_DELAY).await;
            let answer = Answer::too_many_requests();
            access.finish(&answer);
            return Ok(connection.closing(answer).into_response());
        }
        let answer = self.answer(connection, &request, route, &mut access).await?;
        access.finish(&answer);
        Ok(connection.closing(answer).into_response())
    }

    async fn answer<B: Body>(
        &self,
        connection: &Connection,
        request: &Request<B>,
        route: Route,
        access: &mut Access<'_>,
    ) -> Result<Answer, SandboxChanged> {
        if !self.settings.hosts.accept(request.version(), request.headers()) {
            return Ok(Answer::foreign_host());
        }
        if request.body().size_hint().lower() > MAX_BODY_BYTES {
            return Ok(Answer::body_too_large());
        }
        let sandbox = match self.pods.who(connection.peer) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                access.unidentified(&error);
                return Ok(Answer::unidentified(&error));
            }
        };
        access.by(&sandbox);
        if !connection.belongs_to(&sandbox) {
            return Err(SandboxChanged);
        }
        if matches!(route, Route::Token | Route::DatedToken) {
            return Ok(self.token(request.method(), request.headers(), &route, &sandbox));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(Answer::method_not_allowed("GET, HEAD"));
        }
        if let Some(refused) = self.check_token(request.headers(), &sandbox, access) {
            return Ok(refused);
        }
        match route {
            Route::RoleList | Route::Role(_) | Route::InstanceProfile => {
                self.credentials(connection, &sandbox, &route, access).await
            }
            Route::Other(path) if self.settings.allow.permits(&path) => Ok(self.pass_on(&path, access).await),
            Route::Other(_) | Route::Unknown | Route::Token | Route::DatedToken => Ok(Answer::not_found()),
        }
    }

    fn token(&self, method: &Method, headers: &HeaderMap, route: &Route, sandbox: &Sandbox) -> Answer {
        if method != Method::PUT {
            return Answer::method_not_allowed("PUT");
        }
        if *route == Route::DatedToken {
            return Answer::dated_token();
        }
        // A proxy that forwards for the outside must not be able to fetch one.
        if headers.contains_key("x-forwarded-for") {
            return Answer::forwarded();
        }
        match Ttl::from_headers(headers) {
            Some(ttl) => Answer::token(self.tokens.issue(&sandbox.id, ttl, self.clock.now()), ttl),
            None => Answer::bad_ttl(),
        }
    }

    fn check_token(&self, headers: &HeaderMap, sandbox: &Sandbox, access: &mut Access<'_>) -> Option<Answer> {
        let mut values = headers.get_all(TOKEN_HEADER).iter();
        match (values.next(), values.next()) {
            (None, _) => self.settings.require_token.then(Answer::no_token),
            (Some(token), None) if self.tokens.verify(token.as_bytes(), &sandbox.id, self.clock.now()) => {
                access.with_token();
                None
            }
            (Some(_), _) => Some(Answer::bad_token()),
        }
    }

    async fn credentials(
        &self,
        connection: &Connection,
        sandbox: &Arc<Sandbox>,
        route: &Route,
        access: &mut Access<'_>,
    ) -> Result<Answer, SandboxChanged> {
        let began = Instant::now();
        let Ok(found) = self.credentials.find(sandbox, HOLD).await else { return Ok(Answer::stopping()) };
        access.held(began.elapsed());
        // The address may have changed hands while the request waited. Nothing is awaited between this and the answer.
        match self.pods.who(connection.peer) {
            Ok(now) if now.id == sandbox.id => {}
            Ok(_) => return Err(SandboxChanged),
            Err(error) => {
                access.unidentified(&error);
                return Ok(Answer::unidentified(&error));
            }
        }
        let now = self.clock.now();
        let answer = match route {
            Route::Role(asked) => Answer::role(&found, asked, now),
            Route::InstanceProfile => Answer::instance_profile(&found, now),
            _ => Answer::role_list(&found),
        };
        self.note_served(route, &answer, &found);
        Ok(answer)
    }

    fn note_served(&self, route: &Route, answer: &Answer, found: &Found) {
        let is_served = matches!(route, Route::Role(_)) && answer.code == "ok";
        if let Some(left) = time_left(found, self.clock.now()).filter(|_| is_served) {
            self.metrics.served(left);
        }
    }

    async fn pass_on(&self, path: &MetadataPath, access: &mut Access<'_>) -> Answer {
        let constant = allow::constant(path);
        if let Some(kept) = constant.and_then(|constant| self.constants.kept(constant)) {
            return Answer::passed_on(kept);
        }
        let asked = timeout(HOLD, async {
            let _slot = self.upstream_slots.acquire().await.ok()?;
            Some(match constant {
                Some(constant) => self.constants.ask(constant, &*self.upstream).await,
                None => self.upstream.get(path.as_str()).await,
            })
        });
        match asked.await {
            Ok(Some(Ok(answer))) => Answer::passed_on(answer),
            Ok(Some(Err(error))) => {
                access.failed(&error);
                Answer::not_passed_on(&error)
            }
            Ok(None) | Err(_) => Answer::upstream_busy(),
        }
    }
}
