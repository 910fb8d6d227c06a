//! The issuer's own log: JSON lines, apart from audit and metrics.

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Writes the issuer's own messages at `level`; those of libraries only from warnings on, since at finer levels some of them
/// write whole requests and answers, secrets included.
pub fn subscriber(
    level: LevelFilter,
    out: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("lambda_issuer", level);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(out);
    tracing_subscriber::registry().with(lines.with_filter(targets))
}
