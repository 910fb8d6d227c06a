//! One line and one count for each request, also for one whose client did not wait for the answer. Of a flood only the count is
//! whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;
use tracing::info;

use super::answer::Answer;
use super::metrics::{MetadataMetrics, RouteLabel};
use super::rate::Rates;
use crate::error_chain::Chain;
use crate::identity::{Sandbox, WhoError};

/// What is known of a request while it is answered. Writes its line when it is finished, or when it is dropped unfinished.
pub(super) struct Access<'a> {
    metrics: &'a MetadataMetrics,
    rates: &'a Rates,
    peer: IpAddr,
    method: Method,
    route: RouteLabel,
    began: Instant,
    sandbox: Option<Arc<Sandbox>>,
    error: Option<String>,
    /// IMDSv2, where a token came along.
    with_token: bool,
    held: Duration,
    finished: bool,
}

impl<'a> Access<'a> {
    pub(super) fn new(
        metrics: &'a MetadataMetrics,
        rates: &'a Rates,
        peer: IpAddr,
        method: Method,
        route: RouteLabel,
    ) -> Self {
        Self {
            metrics,
            rates,
            peer,
            method,
            route,
            began: Instant::now(),
            sandbox: None,
            error: None,
            with_token: false,
            held: Duration::ZERO,
            finished: false,
        }
    }

    pub(super) fn by(&mut self, sandbox: &Arc<Sandbox>) {
        self.sandbox = Some(Arc::clone(sandbox));
    }

    pub(super) fn unidentified(&mut self, error: &WhoError) {
        self.error = Some(Chain(error).to_string());
    }

    pub(super) fn failed(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.error = Some(Chain(error).to_string());
    }

    pub(super) fn with_token(&mut self) {
        self.with_token = true;
    }

    pub(super) fn held(&mut self, held: Duration) {
        self.held = held;
        self.metrics.held(held);
    }

    pub(super) fn finish(mut self, answer: &Answer) {
        self.finished = true;
        self.metrics.answered(self.route, answer.status, answer.code);
        self.line(answer.status.as_u16(), answer.code);
    }

    fn line(&self, status: u16, code: &str) {
        let Some(unlogged) = self.rates.line(self.peer) else { return };
        let pod = self.sandbox.as_ref().map(|sandbox| tracing::field::display(&sandbox.pod));
        info!(
            pod,
            sandbox = self.sandbox.as_ref().map(|sandbox| tracing::field::display(&sandbox.id)),
            peer = %self.peer,
            method = self.method.as_str(),
            route = self.route.as_str(),
            imds = if self.with_token { "v2" } else { "v1" },
            status,
            code,
            held_ms = millis(self.held),
            duration_ms = millis(self.began.elapsed()),
            error = self.error,
            unlogged = (unlogged > 0).then_some(unlogged),
            "request"
        );
    }
}

impl Drop for Access<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.metrics.hung_up(self.route);
            // No status was sent.
            self.line(0, "hung_up");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
