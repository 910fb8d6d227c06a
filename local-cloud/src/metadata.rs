//! The EC2 metadata service of each instance: version 2 alone, as on an instance with tokens required.
//!
//! ```text
//! listener   bound to the instance's interface; the hop limit of a token's answer
//! answer     method, token, path -> status and text, in EC2's shape
//! token      what a PUT gives, and how long it lasts
//! tree       what lies under which path
//! role       the instance's credentials, renewed before they end
//! ```

mod answer;
mod listener;
mod role;
mod token;
mod tree;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use http::{Request, Response};
use hyper::service::service_fn;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::config::{InstanceConfig, MetadataListener};
use crate::faults::{Fault, Faults, Target};
use crate::server::{Body, Closed, Stop, serve};
use crate::sts::Endpoint;
use answer::Lifetime;
use listener::HopLimit;

pub use tree::FAKE_PROOFS;

/// Distinct requests that are counted apart; a client that asks for ever new paths is counted as one.
const MAX_COUNTED: usize = 500;

/// How often each `METHOD PATH STATUS` was answered.
pub type Requests = BTreeMap<String, u64>;

/// The surroundings of an instance.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Such as `eu-central-1`.
    pub region: String,
    /// 12 digits.
    pub account: String,
    /// Gives the role's sessions.
    pub endpoint: Endpoint,
    /// The faults in force.
    pub faults: Faults,
    /// Tells the time.
    pub clock: Clock,
}

/// One instance's metadata service; clones share everything.
#[derive(Clone, Debug)]
pub struct Metadata {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    instance: InstanceConfig,
    answers: answer::Answers,
    faults: Faults,
    /// Held for a single count.
    requests: Mutex<Requests>,
}

/// What the control port shows of an instance.
#[derive(Debug, Serialize)]
pub struct InstanceState {
    /// `i-…`.
    pub instance_id: String,
    /// The answers so far.
    pub requests: Requests,
}

impl Metadata {
    /// The service of `instance`.
    pub fn new(instance: InstanceConfig, surroundings: &Surroundings) -> anyhow::Result<Self> {
        let answers = answer::Answers::new(&instance, surroundings)
            .with_context(|| format!("no metadata service for {}", instance.id))?;
        let faults = surroundings.faults.clone();
        Ok(Self { inner: Arc::new(Inner { instance, answers, faults, requests: Mutex::default() }) })
    }

    /// Opens the instance's listeners.
    pub fn listen(&self) -> anyhow::Result<Vec<TcpListener>> {
        let open = |at: &MetadataListener| listener::open(at).with_context(|| listener::advice(at));
        self.inner.instance.listen.iter().map(open).collect()
    }

    /// Serves one listener until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: Stop) {
        serve(listener, stop, |stream, remote| {
            let hops = Arc::new(HopLimit::of(stream, self.inner.instance.hop_limit)?);
            let metadata = self.clone();
            Ok(service_fn(move |request| {
                let (metadata, hops) = (metadata.clone(), Arc::clone(&hops));
                async move {
                    let answer = metadata.answer(&request, &hops).await?;
                    let (id, path) = (&metadata.inner.instance.id, request.uri().path());
                    let (method, status) = (request.method().as_str(), answer.status().as_u16());
                    tracing::debug!(instance = id, %remote, method, path, status, "metadata");
                    Ok(answer)
                }
            }))
        })
        .await;
    }

    /// What the control port shows.
    pub fn state(&self) -> InstanceState {
        let requests = self.inner.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        InstanceState { instance_id: self.inner.instance.id.clone(), requests }
    }

    async fn answer<B: Sync>(&self, request: &Request<B>, hops: &HopLimit) -> Result<Response<Body>, Closed> {
        let path = request.uri().path();
        let detail = format!("{} {path}", self.inner.instance.id);
        let answer = match self.inner.faults.before(Target::Metadata, &detail).await {
            None => self.inner.answers.answer(request, hops, Lifetime::Current).await,
            Some(Fault::Expired) => self.inner.answers.answer(request, hops, Lifetime::Over).await,
            Some(Fault::Throttle) => answer::error(http::StatusCode::TOO_MANY_REQUESTS),
            Some(Fault::Error(status)) => {
                answer::error(http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::SERVICE_UNAVAILABLE))
            }
            // No rule of metadata has a mishap.
            Some(Fault::Refuse | Fault::Mishap(_)) => return Err(Closed),
        };
        self.count(format!("{} {path} {}", request.method(), answer.status().as_u16()));
        Ok(answer)
    }

    fn count(&self, what: String) {
        let mut requests = self.inner.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let what = if requests.len() < MAX_COUNTED || requests.contains_key(&what) { what } else { "others".into() };
        *requests.entry(what).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;
