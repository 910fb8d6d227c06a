//! Readiness, liveness and metrics, on a port of their own.

mod server;

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use model::time::UnixMillis;
use tracing::info;

use crate::clock::Clock;
use crate::error_chain::Chain;
use crate::intercept::Proof;
use crate::metrics::Metrics;

pub use server::{Accept, Peer, listen_at, serve};

/// `node-agent intercept` renews its file every 5 s; after three misses pods' calls may not arrive here.
const INTERCEPT_FRESH: Duration = Duration::from_secs(15);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What must hold before the agent is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// The CNI's records are read and watched.
    Records,
    /// The node has had credentials to sign with.
    NodeCredentials,
    /// The issuer has answered.
    Issuer,
    /// The pods that were there at the start have their outcomes.
    Prefetch,
    /// The metadata port is open.
    Listening,
    /// Pods' calls arrive here.
    Interception,
}

impl Guard {
    const ALL: [Self; 6] =
        [Self::Records, Self::NodeCredentials, Self::Issuer, Self::Prefetch, Self::Listening, Self::Interception];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::NodeCredentials => "node_credentials",
            Self::Issuer => "issuer",
            Self::Prefetch => "prefetch",
            Self::Listening => "listening",
            Self::Interception => "interception",
        }
    }
}

/// How the interception is known to hold.
#[derive(Clone, Debug)]
pub enum Interception {
    /// This file was written within the last 15 s, and does not say that nothing answers where this agent should.
    File(PathBuf),
    /// It is not required.
    NotRequired,
}

/// Which guards hold.
pub struct Readiness {
    // A plain mutex: held to read or set one state, never across an await.
    waiting: Mutex<Vec<(Guard, String)>>,
    interception: Interception,
    clock: Clock,
}

impl Readiness {
    /// Nothing holds yet.
    pub fn new(interception: Interception, clock: Clock) -> Self {
        let guards = Guard::ALL.into_iter().filter(|guard| *guard != Guard::Interception);
        let waiting = guards.map(|guard| (guard, "not yet".to_owned())).collect();
        Self { waiting: Mutex::new(waiting), interception, clock }
    }

    /// `guard` holds, from now on.
    pub fn holds(&self, guard: Guard) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.len();
        waiting.retain(|(other, _)| *other != guard);
        if waiting.len() < before {
            info!(guard = guard.as_str(), "readiness guard holds");
        }
    }

    /// `guard` does not hold, and why.
    pub fn waits(&self, guard: Guard, reason: impl Into<String>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(other, _)| *other != guard);
        waiting.push((guard, reason.into()));
    }

    /// What does not hold; empty when the agent is ready.
    pub fn missing(&self) -> Vec<(Guard, String)> {
        let mut missing = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_listening = missing.iter().all(|(guard, _)| *guard != Guard::Listening);
        missing.extend(self.missing_interception(is_listening).map(|reason| (Guard::Interception, reason)));
        missing.sort_by_key(|(guard, _)| *guard);
        missing
    }

    /// Before the agent listens, that nothing answers on its port is as it should be.
    fn missing_interception(&self, is_listening: bool) -> Option<String> {
        let Interception::File(path) = &self.interception else { return None };
        let name = path.display();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.modified()?, file)));
        let (written, file) = match opened {
            Ok((written, file)) => (UnixMillis::from(written), file),
            Err(error) => return Some(format!("{name}: {error}: is node-agent intercept running?")),
        };
        let now = self.clock.now();
        // The clock was set back, and how old the file is cannot be known: a program that runs renews it within 5 s.
        if written.since(now) >= INTERCEPT_FRESH {
            return Some(format!("{name} is of the future, so the clock was set back: it must be renewed first"));
        }
        let age = now.since(written);
        if age >= INTERCEPT_FRESH {
            return Some(format!("{name} is {} s old: look at the log of node-agent intercept", age.as_secs()));
        }
        match Proof::read(file) {
            Ok(proof) => proof.without_agent().filter(|_| is_listening).map(|family| {
                format!(
                    "pods' {family} calls come to a port where nothing answers (looked at every 5 s): if it stays so, \
                     compare --listen with intercept's --agent-port and --agent-address"
                )
            }),
            Err(error) => {
                Some(format!("{name} proves nothing: {}: are serve and intercept of one release?", Chain(&error)))
            }
        }
    }
}

fn answer(path: &str, readiness: &Readiness, metrics: &Metrics) -> Response<Full<Bytes>> {
    match path {
        "/metrics" => match metrics.text() {
            Ok(text) => response(StatusCode::OK, METRICS_TYPE, text),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        },
        // This process ends when one of its tasks does, so whoever reads this is alive.
        "/livez" | "/healthz" => response(StatusCode::OK, "text/plain", "ok\n".into()),
        "/readyz" => {
            let missing = readiness.missing();
            if missing.is_empty() {
                return response(StatusCode::OK, "text/plain", "ok\n".into());
            }
            let mut text = String::new();
            for (guard, reason) in missing {
                let _ = writeln!(text, "{}: {reason}", guard.as_str());
            }
            response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
        }
        _ => response(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http_body_util::BodyExt;

    use super::*;

    async fn get(path: &str, readiness: &Readiness) -> (u16, String) {
        let response = answer(path, readiness, &Metrics::register());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_guard_that_does_not_hold_is_named_with_its_reason() {
        let readiness = Readiness::new(Interception::NotRequired, Clock::system());
        for guard in [Guard::Records, Guard::NodeCredentials, Guard::Listening] {
            readiness.holds(guard);
        }
        readiness.waits(Guard::Issuer, "no connection");
        let expected = (503, "issuer: no connection\nprefetch: not yet\n".to_owned());
        assert_eq!(get("/readyz", &readiness).await, expected);
        readiness.holds(Guard::Issuer);
        readiness.holds(Guard::Prefetch);
        assert_eq!(get("/readyz", &readiness).await, (200, "ok\n".to_owned()));
        readiness.waits(Guard::Listening, "draining");
        assert_eq!(get("/readyz", &readiness).await, (503, "listening: draining\n".to_owned()));
        assert_eq!(get("/livez", &readiness).await.0, 200);
        assert_eq!(get("/other", &readiness).await.0, 404);
        assert!(get("/metrics", &readiness).await.1.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn interception_holds_for_15_s_after_its_file_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("intercept.ok");
        let written = UnixMillis(1_795_475_000_000);
        let at = |secs| {
            let clock = Clock::new(move || written.plus(Duration::from_secs(secs)));
            Readiness::new(Interception::File(path.clone()), clock).missing_interception(true)
        };
        assert!(at(0).unwrap().ends_with("is node-agent intercept running?"));
        let content = r#"{"version":1,"ipv4":"intercepted","ipv6":"refused","proven":true}"#;
        std::fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::from(written)).unwrap();
        assert_eq!(at(14), None);
        file.set_modified(SystemTime::from(written.plus(Duration::from_secs(600)))).unwrap();
        assert!(at(0).unwrap().contains("the clock was set back"), "{:?}", at(0));
        file.set_modified(SystemTime::from(written)).unwrap();
        assert_eq!(at(15), Some(format!("{} is 15 s old: look at the log of node-agent intercept", path.display())));
    }

    #[test]
    fn a_proof_that_nothing_answers_holds_only_until_the_agent_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("intercept.ok");
        let readiness = Readiness::new(Interception::File(path.clone()), Clock::system());
        for guard in Guard::ALL {
            readiness.holds(guard);
        }
        let write = |v4: &str, v6: &str| {
            let content = format!(r#"{{"version":1,"ipv4":"{v4}","ipv6":"{v6}","proven":true}}"#);
            std::fs::write(&path, content).unwrap();
        };
        write("intercepted", "intercepted");
        assert_eq!(readiness.missing(), []);
        write("intercepted", "intercepted_agent_down");
        let [(Guard::Interception, reason)] = &readiness.missing()[..] else { panic!("{:?}", readiness.missing()) };
        assert!(reason.starts_with("pods' IPv6 calls come to a port where nothing answers"), "{reason}");
        assert!(reason.contains("compare --listen with intercept's --agent-port and --agent-address"), "{reason}");
        readiness.waits(Guard::Listening, "not yet");
        assert_eq!(readiness.missing(), [(Guard::Listening, "not yet".to_owned())]);
        std::fs::write(&path, "").unwrap();
        assert_eq!(readiness.missing()[1].0, Guard::Interception);
        assert!(readiness.missing()[1].1.contains("intercept.ok proves nothing"), "{:?}", readiness.missing());
    }
}
