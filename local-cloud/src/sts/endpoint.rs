//! The path of one request through the endpoint.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpListener;

use super::answer;
use super::assume::AssumeRole;
use super::operation::{Operation, Service};
use super::refusal::Refusal;
use super::role::Role;
use super::upstream::{Upstream, UpstreamError};
use crate::clock::Clock;
use crate::config::Config;
use crate::faults::{Faults, Target};
use crate::lambda::{ExecutionRole, RoleError, RoleSession, request_id};
use crate::ledger::{IssuedKey, Ledger};
use crate::server::{Body, Closed, Stop, full, serve};

/// DynamoDB's largest request, 16 MB, is the largest of those that Rolecall sends.
const MAX_REQUEST: usize = 16 << 20;

/// How often a role was asked for and given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// AssumeRole requests that reached ministack.
    pub asked: u64,
    /// Those that were answered with a key.
    pub issued: u64,
}

/// Why a session of our own was not given.
#[derive(Debug, Error)]
#[error("STS gave no session of {role_arn}: {reason}")]
pub struct EndpointError {
    /// The role.
    pub role_arn: String,
    /// STS's code and message.
    pub reason: String,
}

/// The endpoint; clones share everything.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    region: String,
    root_from: Vec<IpAddr>,
    upstream: Upstream,
    faults: Faults,
    ledger: Ledger,
    /// By role ARN. Held for a single count.
    asked: Mutex<BTreeMap<String, Asked>>,
}

/// What became of an AssumeRole.
enum Assumed {
    Issued(Arc<IssuedKey>, Response<Body>),
    /// Ministack's own refusal.
    Refused(Response<Bytes>),
}

impl Endpoint {
    /// An endpoint in front of the ministack that `config` names.
    pub fn new(config: &Config, clock: Clock, faults: Faults, ledger: Ledger) -> anyhow::Result<Self> {
        let authority = config.upstream.authority().parse()?;
        let upstream = Upstream::new(authority, config.region.clone(), clock);
        let root_from = config.endpoint.root_from.clone();
        let inner =
            Inner { region: config.region.clone(), root_from, upstream, faults, ledger, asked: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Serves one listener until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: Stop) {
        serve(listener, stop, |_, remote: SocketAddr| {
            let endpoint = self.clone();
            Ok(service_fn(move |request| {
                let endpoint = endpoint.clone();
                async move { endpoint.whole(request, remote.ip().to_canonical()).await }
            }))
        })
        .await;
    }

    /// AssumeRole requests so far, by role ARN.
    pub fn asked(&self) -> BTreeMap<String, Asked> {
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A session of a role for AWS itself: EC2 for an instance, Lambda for an environment. No fault rule applies, since on
    /// AWS these do not come over the public endpoint.
    pub async fn session(&self, role_arn: &str, session_name: &str) -> Result<Arc<IssuedKey>, EndpointError> {
        let failed = |reason: String| EndpointError { role_arn: role_arn.to_owned(), reason };
        let account = role_arn.split(':').nth(4).unwrap_or_default();
        let form = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", role_arn),
            ("RoleSessionName", session_name),
        ];
        let request = self.inner.upstream.as_root(account, "sts", &form).map_err(|error| failed(error.to_string()))?;
        let operation = Operation::read(&request).map_err(|refusal| failed(refusal.to_string()))?;
        match self
            .assume_role(&operation, request, Duration::ZERO)
            .await
            .map_err(|refusal| failed(refusal.to_string()))?
        {
            Assumed::Issued(key, _) => Ok(key),
            Assumed::Refused(answer) => {
                Err(failed(answer::error_text(answer.body()).unwrap_or_else(|| format!("status {}", answer.status()))))
            }
        }
    }

    async fn whole(&self, request: Request<Incoming>, remote: IpAddr) -> Result<Response<Body>, Closed> {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_REQUEST).collect().await else {
            return Ok(Refusal::too_large().document(Service::Other, &request_id()));
        };
        self.answer(Request::from_parts(parts, body.to_bytes()), remote).await
    }

    /// Answers a request that came from `remote`.
    pub async fn answer(&self, request: Request<Bytes>, remote: IpAddr) -> Result<Response<Body>, Closed> {
        let id = request_id();
        let operation = match self.read(&request, remote) {
            Ok(operation) => operation,
            Err((service, refusal)) => {
                tracing::info!(%remote, ?service, %refusal, "refused");
                return Ok(refusal.document(service, &id));
            }
        };
        let service = operation.service;
        if let Some(refusal) = self.fault(&operation, request.body()).await? {
            tracing::info!(%remote, ?service, operation = operation.name, %refusal, "refused by a fault rule");
            return Ok(refusal.document(service, &id));
        }
        let name = operation.name.clone();
        let answer = if service == Service::Sts && name == "AssumeRole" {
            let sooner = self.inner.faults.shortened_by(&operation.detail(request.body()));
            self.assume_role(&operation, request, sooner).await.map(Assumed::into_response)
        } else {
            self.inner.upstream.forward(request).await.map(|answer| answer.map(BodyExt::boxed)).map_err(Refusal::from)
        };
        let answer = answer.unwrap_or_else(|refusal| {
            tracing::info!(%remote, ?service, operation = name, %refusal, "refused");
            refusal.document(service, &id)
        });
        tracing::debug!(%remote, ?service, operation = name, status = answer.status().as_u16(), "answered");
        Ok(answer)
    }

    /// What a request asks, or why it may not be asked: in the order in which AWS finds out.
    fn read(&self, request: &Request<Bytes>, remote: IpAddr) -> Result<Operation, (Service, Refusal)> {
        let operation = Operation::read(request).map_err(|refusal| (Service::Other, refusal))?;
        let refused = |refusal| Err((operation.service, refusal));
        let from_root = remote.is_loopback() || self.inner.root_from.contains(&remote);
        if !from_root && is_ministacks_own(request.uri().path()) {
            return refused(Refusal::not_found());
        }
        match &operation.credential {
            None if operation.service == Service::Other || operation.name.starts_with("AssumeRoleWith") => {}
            None => return refused(Refusal::unsigned()),
            Some(credential) => {
                if credential.is_root() && !from_root {
                    return refused(Refusal::unknown_key(operation.service));
                }
                if let Some(name) = operation.service.signing_name()
                    && credential.service != name
                {
                    return refused(Refusal::wrong_scope(operation.service, &format!("correct service: '{name}'")));
                }
                // IAM is global: its scope is us-east-1, wherever the caller is.
                let regional = !matches!(operation.service, Service::Iam | Service::Other);
                if regional && credential.region != self.inner.region {
                    let what = format!("a valid region, not '{}'", credential.region);
                    return refused(Refusal::wrong_scope(operation.service, &what));
                }
            }
        }
        Ok(operation)
    }

    /// Waits and fails as the rules say.
    async fn fault(&self, operation: &Operation, body: &[u8]) -> Result<Option<Refusal>, Closed> {
        let target = match operation.service {
            Service::Sts => Target::Sts,
            Service::Dynamodb => Target::Dynamodb,
            Service::Kms => Target::Kms,
            Service::Sns | Service::Iam | Service::Other => return Ok(None),
        };
        match self.inner.faults.before(target, &operation.detail(body)).await {
            None => Ok(None),
            Some(fault) => Refusal::fault(operation.service, fault).map(Some).ok_or(Closed),
        }
    }

    /// A session, which ends `sooner` than was asked for.
    async fn assume_role(
        &self,
        operation: &Operation,
        request: Request<Bytes>,
        sooner: Duration,
    ) -> Result<Assumed, Refusal> {
        let wanted = AssumeRole::read(&operation.parameters)?;
        self.count(&wanted.role_arn, |asked| asked.asked += 1);
        let answer = Upstream::read(self.inner.upstream.forward(request).await?).await?;
        if !answer.status().is_success() {
            return Ok(Assumed::Refused(answer));
        }
        // Judged afterwards, as STS does: who may not assume the role learns nothing about it. The key that ministack has
        // made by now is never told to anybody.
        let source_identity = self.judge(operation, &wanted).await?;
        let answer = if sooner.is_zero() { answer } else { answer.map(|body| answer::shortened(body, sooner)) };
        let key = answer::read(answer.body(), &wanted.role_arn, source_identity.as_deref())
            .ok_or_else(|| Refusal::upstream("ministack's answer to AssumeRole cannot be read"))?;
        let key = self.inner.ledger.insert(key);
        self.count(&wanted.role_arn, |asked| asked.issued += 1);
        tracing::info!(access_key_id = key.access_key_id, role = key.role_arn, session = key.session_name, "issued");
        let answer = answer.map(|body| match &source_identity {
            Some(identity) => answer::with_source_identity(body, identity),
            None => body,
        });
        Ok(Assumed::Issued(key, whole(answer)))
    }

    /// What STS judges once the caller is authorised. Returns the session's source identity: the one asked for, or the
    /// caller's own, which cannot be changed.
    async fn judge(&self, operation: &Operation, wanted: &AssumeRole) -> Result<Option<String>, Refusal> {
        let credential = operation.credential.as_ref().ok_or_else(Refusal::unsigned)?;
        let caller = self.inner.ledger.find(&credential.access_key_id);
        let name = caller.as_ref().map_or_else(|| credential.access_key_id.clone(), |key| key.assumed_role_arn());
        let denied = |action: &str| {
            let role_arn = &wanted.role_arn;
            Refusal::access_denied(format!(
                "User: {name} is not authorized to perform: sts:{action} on resource: {role_arn}"
            ))
        };
        let role = self.role(&wanted.role_arn).await?;
        // Ministack finds a role by its name alone; on AWS the path is a part of the ARN.
        if role.arn != wanted.role_arn {
            return Err(denied("AssumeRole"));
        }
        wanted.check_duration(role.longest, credential.access_key_id.starts_with("ASIA"))?;
        let inherited = caller.as_ref().and_then(|key| key.source_identity.clone());
        let changed = inherited.is_some() && wanted.source_identity.is_some() && inherited != wanted.source_identity;
        let identity = wanted.source_identity.clone().or(inherited);
        let unpermitted =
            identity.is_some() && !credential.is_root() && !role.permits_source_identity(caller.as_deref());
        if changed || unpermitted { Err(denied("SetSourceIdentity")) } else { Ok(identity) }
    }

    async fn role(&self, arn: &str) -> Result<Role, Refusal> {
        let account = arn.split(':').nth(4).unwrap_or_default();
        let name = arn.rsplit('/').next().unwrap_or_default();
        let form = [("Action", "GetRole"), ("Version", "2010-05-08"), ("RoleName", name)];
        let request = self.inner.upstream.as_root(account, "iam", &form)?;
        let answer = Upstream::read(self.inner.upstream.forward(request).await?).await?;
        let role = (answer.status() == StatusCode::OK).then(|| Role::read(answer.body())).flatten();
        role.ok_or_else(|| Refusal::upstream(format!("ministack's answer to GetRole of {name} cannot be read")))
    }

    fn count(&self, role_arn: &str, add: impl FnOnce(&mut Asked)) {
        add(self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(role_arn.to_owned()).or_default());
    }
}

impl Assumed {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Issued(_, answer) => answer,
            Self::Refused(answer) => whole(answer),
        }
    }
}

impl ExecutionRole for Endpoint {
    fn session<'a>(&'a self, role_arn: &'a str, session_name: &'a str) -> RoleSession<'a> {
        Box::pin(async move { Self::session(self, role_arn, session_name).await.map_err(|e| RoleError(e.to_string())) })
    }
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        let message = error.to_string();
        tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "no answer of ministack");
        Self::upstream(message)
    }
}

/// A whole answer; its length may have changed.
fn whole(answer: Response<Bytes>) -> Response<Body> {
    let mut answer = answer.map(full);
    answer.headers_mut().remove(http::header::CONTENT_LENGTH);
    answer
}

/// Ministack's administration (reset, settings) lies under names that no AWS service has.
fn is_ministacks_own(path: &str) -> bool {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().trim_start_matches('/').starts_with('_')
}

#[cfg(test)]
mod tests;
