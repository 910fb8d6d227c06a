//! CloudWatch's embedded metric format: lines on standard output that CloudWatch reads as metrics. Dimensions are closed lists.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::time::UnixMillis;
use serde::Serialize;
use serde_json::{Value, json};

use crate::lines::JsonLines;

/// The namespace of the metrics.
const NAMESPACE: &str = "Rolecall/Issuer";
/// The cluster of requests whose caller is not known.
const NO_CLUSTER: &str = "none";
/// CloudWatch's limit for the values of one metric in one line.
const MAX_VALUES: usize = 100;

/// What one request came to.
#[derive(Default)]
pub(crate) struct Tally {
    memory_hits: AtomicU64,
    sealed_hits: AtomicU64,
    cache_failures: AtomicU64,
    /// The time of each STS call, in milliseconds. A plain mutex: held to push a number.
    sts_millis: Mutex<Vec<u64>>,
    /// Entries or requests, by outcome: `issued` or the code of a refusal.
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
}

impl Tally {
    /// A session came from memory.
    pub(crate) fn memory_hit(&self) {
        self.memory_hits.fetch_add(1, Ordering::Relaxed);
    }

    /// A session came from the shared copy.
    pub(crate) fn sealed_hit(&self) {
        self.sealed_hits.fetch_add(1, Ordering::Relaxed);
    }

    /// The shared cache failed, or what lay there did not open.
    pub(crate) fn cache_failure(&self) {
        self.cache_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// STS was asked and answered, one way or the other.
    pub(crate) fn sts_call(&self, took: Duration) {
        self.sts_millis.lock().unwrap_or_else(PoisonError::into_inner).push(millis(took));
    }

    /// An entry, or a whole request that was refused, had this outcome.
    pub(crate) fn outcome(&self, outcome: &'static str) {
        *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
    }

    /// Writes the lines of one request, which took `took` since the API received it.
    pub(crate) fn write(&self, lines: &JsonLines, cluster: Option<&str>, took: Duration, now: UnixMillis) {
        let cluster = cluster.unwrap_or(NO_CLUSTER);
        let sts: Vec<u64> = self.sts_millis.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut values = vec![
            ("Requests", "Count", json!(1)),
            ("Latency", "Milliseconds", json!(millis(took))),
            ("MemoryHits", "Count", json!(self.memory_hits.load(Ordering::Relaxed))),
            ("SealedHits", "Count", json!(self.sealed_hits.load(Ordering::Relaxed))),
            ("CacheFailures", "Count", json!(self.cache_failures.load(Ordering::Relaxed))),
            ("StsCalls", "Count", json!(sts.len())),
        ];
        if !sts.is_empty() {
            values.push(("StsLatency", "Milliseconds", json!(sts.get(..MAX_VALUES).unwrap_or(&sts))));
        }
        lines.write(&line(now, &[("Cluster", cluster)], &values));
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        for (outcome, count) in &*outcomes {
            let dimensions = [("Cluster", cluster), ("Outcome", outcome)];
            lines.write(&line(now, &dimensions, &[("Outcomes", "Count", json!(count))]));
        }
    }
}

fn line(now: UnixMillis, dimensions: &[(&str, &str)], values: &[(&str, &str, Value)]) -> impl Serialize {
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let metrics: Vec<Value> = values.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": metrics});
    let mut line = serde_json::Map::new();
    line.insert("_aws".to_owned(), json!({"Timestamp": now.0, "CloudWatchMetrics": [directive]}));
    line.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    line.extend(values.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())));
    line
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_in_the_embedded_metric_format() {
        let out = Shared::default();
        let tally = Tally::default();
        tally.memory_hit();
        tally.sts_call(Duration::from_millis(12));
        tally.outcome("issued");
        tally.outcome("no_role");
        tally.outcome("issued");
        tally.write(&JsonLines::new(out.clone()), Some("prod"), Duration::from_millis(30), UnixMillis(5));
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        let names = ["Requests", "Latency", "MemoryHits", "SealedHits", "CacheFailures", "StsCalls", "StsLatency"];
        let directive = &lines[0]["_aws"]["CloudWatchMetrics"][0];
        let listed: Vec<&str> =
            directive["Metrics"].as_array().unwrap().iter().map(|m| m["Name"].as_str().unwrap()).collect();
        assert_eq!(listed, names);
        assert_eq!(directive["Dimensions"], json!([["Cluster"]]));
        assert_eq!((&lines[0]["MemoryHits"], &lines[0]["StsLatency"]), (&json!(1), &json!([12])));
        let expected = json!({
            "_aws": {"Timestamp": 5, "CloudWatchMetrics": [{
                "Namespace": "Rolecall/Issuer",
                "Dimensions": [["Cluster", "Outcome"]],
                "Metrics": [{"Name": "Outcomes", "Unit": "Count"}],
            }]},
            "Cluster": "prod", "Outcome": "issued", "Outcomes": 2,
        });
        assert_eq!(lines[1], expected);
        assert_eq!(lines[2]["Outcome"], "no_role");
    }
}
