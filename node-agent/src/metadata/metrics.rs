//! Numbers about the metadata service.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::path::Route;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum RouteLabel {
    Token,
    RoleList,
    Role,
    InstanceProfile,
    Other,
    Unknown,
}

impl RouteLabel {
    pub(super) const fn of(route: &Route) -> Self {
        match route {
            Route::Token | Route::DatedToken => Self::Token,
            Route::RoleList => Self::RoleList,
            Route::Role(_) => Self::Role,
            Route::InstanceProfile => Self::InstanceProfile,
            Route::Other(_) => Self::Other,
            Route::Unknown => Self::Unknown,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::RoleList => "role_list",
            Self::Role => "role",
            Self::InstanceProfile => "instance_profile",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum ConnectionLimit {
    /// Its peer has too many.
    Peer,
    /// The agent has too many.
    Total,
}

/// A status, or one of the set of [`super::answer::Answer::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Status(StatusCode);

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Code(&'static str);

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: RouteLabel,
    status: Status,
    code: Code,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: RouteLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    limit: ConnectionLimit,
}

/// Counts and times of pods' requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MetadataMetrics {
    requests: Family<RequestLabels, Counter>,
    hung_up: Family<RouteLabels, Counter>,
    held_seconds: Histogram,
    left_seconds: Histogram,
    refused_connections: Family<ConnectionLabels, Counter>,
    pub(super) connections: Gauge,
}

impl MetadataMetrics {
    /// Makes them known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            hung_up: Family::default(),
            held_seconds: Histogram::new([0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95]),
            left_seconds: Histogram::new([300.0, 600.0, 900.0, 1500.0, 2100.0, 2400.0, 3000.0, 3600.0]),
            refused_connections: Family::default(),
            connections: Gauge::default(),
        };
        registry.register("metadata_requests", "Answers to pods, by route, status and code", metrics.requests.clone());
        registry.register("metadata_hung_up", "Requests whose client did not wait", metrics.hung_up.clone());
        registry.register_with_unit(
            "metadata_hold",
            "How long requests waited for credentials",
            Unit::Seconds,
            metrics.held_seconds.clone(),
        );
        registry.register_with_unit(
            "metadata_credentials_left",
            "How long served credentials were still valid",
            Unit::Seconds,
            metrics.left_seconds.clone(),
        );
        registry.register(
            "metadata_refused_connections",
            "Connections refused at a limit",
            metrics.refused_connections.clone(),
        );
        registry.register("metadata_connections", "Open connections of pods", metrics.connections.clone());
        metrics
    }

    pub(super) fn answered(&self, route: RouteLabel, status: StatusCode, code: &'static str) {
        self.requests.get_or_create(&RequestLabels { route, status: Status(status), code: Code(code) }).inc();
    }

    pub(super) fn hung_up(&self, route: RouteLabel) {
        self.hung_up.get_or_create(&RouteLabels { route }).inc();
    }

    pub(super) fn held(&self, held: Duration) {
        self.held_seconds.observe(held.as_secs_f64());
    }

    pub(super) fn served(&self, left: Duration) {
        self.left_seconds.observe(left.as_secs_f64());
    }

    pub(super) fn refused_connection(&self, limit: ConnectionLimit) {
        self.refused_connections.get_or_create(&ConnectionLabels { limit }).inc();
    }
}
