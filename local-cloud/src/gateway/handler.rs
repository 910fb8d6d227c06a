//! The order in which API Gateway looks at a request, and the line that its access log gets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::time::{Instant, timeout};

use super::authorization::Authorization;
use super::event::{Api, Arrival};
use super::refusal::Refusal;
use super::route::Route;
use super::{StartError, Surroundings, answer, signature};
use crate::config::ApiConfig;
use crate::faults::Target;
use crate::lambda::{random_bytes, request_id, trace_header};
use crate::ledger::IssuedKey;
use crate::server::Closed;

/// API Gateway's default, and without a raised quota its largest.
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(29);
/// API Gateway's limit for the request line and the headers' values together.
const MAX_HEADERS: usize = 10_240;

/// The API.
pub(super) struct Handler {
    route: Route,
    api: Api,
    authorization: Authorization,
    surroundings: Surroundings,
    /// By status. Held for a single count.
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl Handler {
    pub(super) fn new(config: &ApiConfig, surroundings: Surroundings) -> Result<Self, StartError> {
        let Surroundings { region, account, upstream, clock, .. } = &surroundings;
        let resource = config.resource.trim_start_matches('/');
        let partition = if region.starts_with("cn-") { "aws-cn" } else { "aws" };
        let method =
            format!("arn:{partition}:execute-api:{region}:{account}:{}/{}/POST/{resource}", config.id, config.stage);
        let authorization = Authorization::new(upstream, region, clock.clone(), method, config.allowed_roles.clone())
            .ok_or_else(|| StartError::Upstream(upstream.clone()))?;
        let api = Api {
            id: config.id.clone(),
            account: account.clone(),
            stage: config.stage.clone(),
            resource: format!("/{resource}"),
            resource_id: "r1c2d3".into(),
            vpce_id: config.vpce_id.clone(),
            vpc_id: config.vpc_id.clone(),
            stage_variables: config.stage_variables.clone(),
        };
        let route = Route::new(config, region);
        Ok(Self { route, api, authorization, surroundings, answers: Mutex::default() })
    }

    pub(super) const fn route(&self) -> &Route {
        &self.route
    }

    pub(super) fn answers(&self) -> BTreeMap<u16, u64> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers one request; a body that was larger than allowed is none.
    pub(super) async fn handle(
        &self,
        parts: &Parts,
        body: Option<&Bytes>,
        peer: IpAddr,
    ) -> Result<Response<String>, Closed> {
        let started = Instant::now();
        let arrival = self.arrival(peer);
        let mut caller = None;
        let fault = self.surroundings.faults.before(Target::Gateway, parts.uri.path()).await;
        let answered = match fault.map(Refusal::from_fault) {
            Some(None) => return Err(Closed),
            Some(Some(refusal)) => Err(refusal),
            None => self.answer(parts, body, &arrival, &mut caller).await,
        };
        let mut response = answered.unwrap_or_else(|refusal| written(&refusal));
        stamp(response.headers_mut(), &arrival);
        let status = response.status().as_u16();
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
        tracing::info!(
            request_id = arrival.request_id,
            extended_request_id = arrival.extended_request_id,
            source_ip = %peer,
            method = %parts.method,
            path = parts.uri.path(),
            caller = caller.as_ref().map(|key| key.user_id()),
            status,
            error_type = response.headers().get("x-amzn-errortype").and_then(|value| value.to_str().ok()),
            latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "api request"
        );
        Ok(response)
    }

    async fn answer(
        &self,
        parts: &Parts,
        body: Option<&Bytes>,
        arrival: &Arrival,
        caller: &mut Option<Arc<IssuedKey>>,
    ) -> Result<Response<String>, Refusal> {
        check_headers(parts)?;
        let body = body.ok_or(Refusal::BodyTooLarge)?;
        let domain = self.route.find(parts)?;
        let Surroundings { region, ledger, .. } = &self.surroundings;
        let key = caller.insert(signature::verify(parts, body, region, ledger, arrival.time).await?);
        self.authorization.check(key).await?;
        let event = self.api.event(parts, body, &domain, key, arrival);
        self.integrate(event).await
    }

    async fn integrate(&self, event: Bytes) -> Result<Response<String>, Refusal> {
        let invoked = timeout(INTEGRATION_TIMEOUT, self.surroundings.function.invoke(event)).await;
        let answer = invoked.map_err(|_| Refusal::IntegrationTimeout)?.map_err(|error| {
            tracing::warn!(%error, "the function gave no answer");
            Refusal::from(&error)
        })?;
        answer::response(&answer).ok_or_else(|| {
            tracing::warn!(bytes = answer.len(), "the function's answer is malformed");
            Refusal::BadIntegrationAnswer
        })
    }

    fn arrival(&self, peer: IpAddr) -> Arrival {
        let time = self.surroundings.clock.now();
        Arrival {
            request_id: request_id(),
            extended_request_id: STANDARD.encode(random_bytes::<11>()),
            trace: trace_header(DateTime::<Utc>::from(time).timestamp()),
            time,
            peer,
        }
    }
}

/// What every answer of API Gateway carries.
fn stamp(headers: &mut HeaderMap, arrival: &Arrival) {
    let values = [
        ("x-amzn-requestid", &arrival.request_id),
        ("x-amz-apigw-id", &arrival.extended_request_id),
        ("x-amzn-trace-id", &arrival.trace),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

fn check_headers(parts: &Parts) -> Result<(), Refusal> {
    let line = parts.method.as_str().len() + parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let values: usize = parts.headers.values().map(HeaderValue::len).sum();
    if line + values > MAX_HEADERS { Err(Refusal::HeadersTooLarge) } else { Ok(()) }
}

fn written(refusal: &Refusal) -> Response<String> {
    let written = refusal.written();
    let mut response = Response::new(written.body);
    *response.status_mut() = written.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(error_type) = written.error_type {
        headers.insert("x-amzn-errortype", HeaderValue::from_static(error_type));
    }
    response
}
