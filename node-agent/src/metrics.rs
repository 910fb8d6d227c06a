//! The numbers of `serve`: one struct, registered once, its parts passed to those who count.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::credentials::CredentialsMetrics;
use crate::identity::IdentityMetrics;
use crate::metadata::MetadataMetrics;

/// All numbers, named `rolecall_...`.
pub struct Metrics {
    registry: Registry,
    /// About the CNI's records.
    pub identity: IdentityMetrics,
    /// About fetching and renewing.
    pub credentials: CredentialsMetrics,
    /// About pods' requests.
    pub metadata: MetadataMetrics,
}

impl Metrics {
    /// Registers all of them.
    pub fn register() -> Self {
        let mut registry = Registry::with_prefix("rolecall");
        let identity = IdentityMetrics::register(&mut registry);
        let credentials = CredentialsMetrics::register(&mut registry);
        let metadata = MetadataMetrics::register(&mut registry);
        Self { registry, identity, credentials, metadata }
    }

    /// The text that Prometheus reads. An error is a metric that cannot write itself: a bug.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_registered_under_one_prefix() {
        let text = Metrics::register().text().unwrap();
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(names.iter().all(|name| name.starts_with("rolecall_")), "{names:?}");
        assert!(names.len() >= 8, "{names:?}");
    }
}
