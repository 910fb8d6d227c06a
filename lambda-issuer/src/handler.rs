//! The path of one request, from top to bottom: caller, records, decision, credentials, answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use model::name::ClusterName;
use model::policy::{ClusterPolicy, Facts, NamespaceRules, Permit, decide};
use model::refusal::{Refusal, RefusalCode, RequestRefusalCode};
use model::time::UnixMillis;
use model::wire::{Ask, ErrorBody, IssueRequest, IssueResponse};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::audit::Audit;
use crate::caller::{Caller, Gate, NotANode};
use crate::clock::Clock;
use crate::credentials::{Asking, Order, Sessions};
use crate::event::ProxyEvent;
use crate::http::ProxyResponse;
use crate::lines::JsonLines;
use crate::metrics::Tally;
use crate::outcomes::{Outcomes, Scene};
use crate::policies::Policies;
use crate::records::{Directory, Lookup, Records};

/// How many sessions of a request are worked on at once: what this environment takes of the account's rate at STS, which all
/// share, and how many leases it has to renew. (How many calls of the cache table are open at once is bounded there. What waits
/// behind as many slow ones is another part of the request when it is asked again: see [`Order::all`].)
const MAX_SESSIONS_AT_ONCE: usize = 16;
/// What the directory gets even when the request's patience was spent before the function began (a cold start): the answer
/// "pending" is worth more to the agent than a failure.
const LEAST_READING_TIME: Duration = Duration::from_millis(500);

/// The issuer.
pub struct Issuer {
    pub(crate) gate: Gate,
    pub(crate) policies: Policies,
    pub(crate) directory: Directory,
    pub(crate) sessions: Sessions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lines: JsonLines,
}

/// A refusal of the whole request.
struct RequestRefusal {
    code: RequestRefusalCode,
    /// What the caller is told.
    message: String,
    /// What the audit says.
    cause: String,
}

impl RequestRefusal {
    fn new(code: RequestRefusalCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, cause: message.clone(), message }
    }

    fn because(self, cause: &impl ToString) -> Self {
        Self { cause: cause.to_string(), ..self }
    }
}

impl From<NotANode> for RequestRefusal {
    fn from(cause: NotANode) -> Self {
        Self::new(RequestRefusalCode::CallerNotANode, cause.public_message()).because(&cause)
    }
}

/// What became of a request: who asked, where that was found out, and the answer.
struct Answered {
    cluster: Option<ClusterName>,
    answer: Result<IssueResponse, RequestRefusal>,
}

impl Issuer {
    /// Answers one event. Every refusal is an answer; nothing is left running when it returns.
    pub async fn handle(&self, event: &RawValue, invocation: &str) -> ProxyResponse {
        let now = self.clock.now();
        let tally = Tally::default();
        let event = ProxyEvent::parse(event);
        let malformed = ProxyEvent::default();
        let context = &event.as_ref().unwrap_or(&malformed).request_context;
        let received = context.request_time_epoch.map_or(now, UnixMillis);
        let audit = Audit { lines: &self.lines, invocation, context, now };
        let Answered { cluster, answer } = match &event {
            Ok(event) => self.answer(event, &audit, &tally, now.since(received)).await,
            Err(error) => {
                Answered { cluster: None, answer: Err(RequestRefusal::from(NotANode::MalformedEvent).because(error)) }
            }
        };
        let response = match answer {
            Ok(response) => ProxyResponse::outcomes(&response),
            Err(refusal) => {
                tally.outcome(refusal.code.as_str());
                audit.request_refused(refusal.code, &refusal.cause);
                ProxyResponse::refusal(&ErrorBody::new(refusal.code, refusal.message))
            }
        };
        let ended = self.clock.now();
        let cluster = cluster.as_ref().map(ClusterName::as_str);
        tally.write(&self.lines, cluster, ended.since(received), ended);
        response
    }

    async fn answer(&self, event: &ProxyEvent, audit: &Audit<'_>, tally: &Tally, waited: Duration) -> Answered {
        match self.gate.identify(event) {
            Err(cause) => Answered { cluster: None, answer: Err(cause.into()) },
            Ok(caller) => {
                let answer = self.answer_node(&caller, event, audit, tally, waited).await;
                Answered { cluster: Some(caller.cluster), answer }
            }
        }
    }

    async fn answer_node(
        &self,
        caller: &Caller,
        event: &ProxyEvent,
        audit: &Audit<'_>,
        tally: &Tally,
        waited: Duration,
    ) -> Result<IssueResponse, RequestRefusal> {
        let bad = |message: String| RequestRefusal::new(RequestRefusalCode::BadRequest, message);
        let body =
            event.body().ok_or_else(|| bad("the request's body is not the base64 it is said to be".to_owned()))?;
        let request = IssueRequest::parse(&body).map_err(|error| bad(error.to_string()))?;
        let began = Instant::now();
        let deadline = began + request.patience().saturating_sub(waited);
        let reading_deadline = deadline.max(began + LEAST_READING_TIME);
        let records = self.read(caller, &request, reading_deadline).await?;
        self.check_node(caller, &records)?;
        let (policy, issuer) = self.policy(caller, reading_deadline).await?;
        let asking = Asking { cluster: &caller.cluster, instance: &caller.instance, issuer, deadline, tally };
        let scene = Scene { asks: &request.pods, caller, records: &records, audit, tally };
        Ok(self.issue(policy, scene, &asking).await)
    }

    async fn read(
        &self,
        caller: &Caller,
        request: &IssueRequest,
        deadline: Instant,
    ) -> Result<Records, RequestRefusal> {
        let pods = request.pods.iter().map(|ask| &ask.pod);
        let read = self.directory.read(&caller.cluster, &caller.instance, pods, deadline).await;
        read.map_err(|error| {
            tracing::error!(%error, "the directory was not read");
            unavailable("the directory cannot be read just now: ask again").because(&error)
        })
    }

    /// What must hold of the node before any of its pods is looked at.
    fn check_node(&self, caller: &Caller, records: &Records) -> Result<(), RequestRefusal> {
        let instance = &caller.instance;
        let because = match records.quarantine(instance) {
            Lookup::Absent => None,
            Lookup::Found(order) => Some(format!("by {} because {:?}", order.by, order.reason)),
            Lookup::Unreadable(error) => Some(format!("by an order that cannot be read ({error})")),
        };
        if let Some(because) = because {
            let message = format!(
                "the node {instance} is in quarantine, {because}: end it with kubectl rolecall quarantine --release NODE"
            );
            return Err(RequestRefusal::new(RequestRefusalCode::NodeQuarantined, message));
        }
        Ok(self.gate.check_source(caller, records.node(instance).found())?)
    }

    async fn policy(&self, caller: &Caller, deadline: Instant) -> Result<(&ClusterPolicy, &str), RequestRefusal> {
        let policies =
            timeout_at(deadline, self.policies.known()).await.map_err(|_| "STS did not answer in time".into());
        let policies = policies.and_then(|known| known.map_err(|error| error.to_string()));
        let policies = policies.map_err(|error: String| {
            tracing::error!(error, "the issuer does not know its own account");
            unavailable("the issuer cannot ask STS who it is: ask again").because(&error)
        })?;
        // Start-up checks that every cluster of a node role has a policy.
        let policy =
            policies.of(&caller.cluster).ok_or_else(|| unavailable("the issuer has no policy for this cluster"))?;
        Ok((policy, policies.issuer()))
    }

    /// Decides on every pod, and gets the session of every pod that may have one.
    async fn issue(&self, policy: &ClusterPolicy, scene: Scene<'_>, asking: &Asking<'_>) -> IssueResponse {
        let mut outcomes = Outcomes::new(scene);
        let mut permits = Vec::new();
        let now = self.clock.now();
        let mut namespaces = HashMap::new();
        for (place, ask) in scene.asks.iter().enumerate() {
            let rules = namespaces
                .entry(&ask.pod.namespace)
                .or_insert_with(|| scene.records.namespace(&ask.pod).into_found().map(NamespaceRules::from));
            match judge(policy, scene, ask, rules.as_ref(), now) {
                Ok(permit) => permits.push((place, permit)),
                Err(refusal) => outcomes.refuse(place, refusal),
            }
        }
        let mut obtained = stream::iter(Order::all(permits))
            .map(|order| async move {
                let result = self.sessions.obtain(&order, asking).boxed().await;
                (order, result)
            })
            .buffer_unordered(MAX_SESSIONS_AT_ONCE);
        while let Some((order, result)) = obtained.next().await {
            match result {
                Ok(issued) => outcomes.issue(&order, issued),
                Err(refusal) => order.places().iter().for_each(|place| outcomes.refuse(*place, refusal.clone())),
            }
        }
        outcomes.response()
    }
}

/// The decision on one pod, with the one case that the pure policy cannot know: a record that is there and cannot be read.
fn judge(
    policy: &ClusterPolicy,
    scene: Scene<'_>,
    ask: &Ask,
    namespace: Option<&NamespaceRules>,
    now: UnixMillis,
) -> Result<Permit, Refusal> {
    let pod = scene.records.pod(&ask.pod);
    if let Lookup::Unreadable(error) = &pod {
        let message = format!("the directory's record of the pod {} cannot be read: {error}", ask.pod);
        return Err(Refusal::new(RefusalCode::PodUnknown, message));
    }
    let health = scene.records.health();
    let facts = Facts { pod: pod.found(), namespace, health: health.found() };
    decide(policy, &scene.caller.instance, ask, facts, now)
}

fn unavailable(message: &str) -> RequestRefusal {
    RequestRefusal::new(RequestRefusalCode::Unavailable, message)
}
