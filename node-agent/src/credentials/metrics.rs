//! Numbers about fetching and renewing.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::lanes::Lane;

/// One of a closed set of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) &'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    lane: Lane,
    result: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Name,
}

/// Counts and times of the issuer's answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CredentialsMetrics {
    calls: Family<CallLabels, Counter>,
    call_seconds: Histogram,
    outcomes: Family<OutcomeLabel, Counter>,
    late_seconds: Histogram,
    reached: Gauge,
}

impl CredentialsMetrics {
    /// Makes them known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            call_seconds: Histogram::new([0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]),
            outcomes: Family::default(),
            late_seconds: Histogram::new([1.0, 5.0, 15.0, 60.0, 300.0, 600.0, 1200.0, 1800.0]),
            reached: Gauge::default(),
        };
        registry.register("issuer_calls", "Requests to the issuer, by kind and result", metrics.calls.clone());
        registry.register_with_unit(
            "issuer_call_duration",
            "How long the issuer took to answer, or not to",
            Unit::Seconds,
            metrics.call_seconds.clone(),
        );
        registry.register("issuer_outcomes", "The issuer's outcomes for single pods", metrics.outcomes.clone());
        registry.register_with_unit(
            "renewal_late",
            "How long after its due time a session was renewed",
            Unit::Seconds,
            metrics.late_seconds.clone(),
        );
        registry.register("issuer_reached", "1 when the last request was answered", metrics.reached.clone());
        metrics
    }

    pub(super) fn called(&self, lane: Lane, result: &'static str, took: Duration, answered: bool) {
        self.calls.get_or_create(&CallLabels { lane, result: Name(result) }).inc();
        self.call_seconds.observe(took.as_secs_f64());
        self.reached.set(i64::from(answered));
    }

    pub(super) fn outcome(&self, outcome: &'static str) {
        self.outcomes.get_or_create(&OutcomeLabel { outcome: Name(outcome) }).inc();
    }

    pub(super) fn renewed(&self, late: Duration) {
        self.late_seconds.observe(late.as_secs_f64());
    }
}
