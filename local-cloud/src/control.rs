//! The control port: what tests switch, and what they look at. It shows secrets, so it belongs where no pod gets to.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::faults::{Faults, Rule};
use crate::gateway::Gateway;
use crate::lambda::{Function, Stats};
use crate::ledger::Ledger;
use crate::metadata::{InstanceState, Metadata};
use crate::server::{Body, Closed, Stop, full, serve};
use crate::sts::{Asked, Endpoint};

/// A list of rules is a few hundred bytes.
const MAX_REQUEST: usize = 1 << 20;

/// Everything that the control port speaks for.
#[derive(Clone)]
pub struct Control {
    parts: Arc<Parts>,
}

/// The parts of the process.
pub struct Parts {
    /// The rules in force.
    pub faults: Faults,
    /// The keys that STS handed out.
    pub ledger: Ledger,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The instances.
    pub instances: Vec<Metadata>,
    /// The API and the function behind it.
    pub api: Option<(Gateway, Function)>,
    /// Secrets of the settings: user data, stage variables.
    pub configured_secrets: Vec<SecretString>,
}

#[derive(Serialize)]
struct State {
    keys: Vec<Key>,
    assume_role: BTreeMap<String, Asked>,
    instances: Vec<InstanceState>,
    /// Answers of the API, by status.
    api: Option<BTreeMap<u16, u64>>,
    function: Option<Stats>,
    faults: Vec<Rule>,
}

/// An issued key without its secrets.
#[derive(Serialize)]
struct Key {
    access_key_id: String,
    role_arn: String,
    session_name: String,
    source_identity: Option<String>,
    expiration: String,
}

impl Control {
    /// A control port for `parts`.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Serves `listener` until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: Stop) {
        serve(listener, stop, |_, _| {
            let control = self.clone();
            Ok(service_fn(move |request: Request<Incoming>| {
                let control = control.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let answer = match Limited::new(body, MAX_REQUEST).collect().await {
                        Ok(body) => control.answer(&parts.method, parts.uri.path(), &body.to_bytes()).await,
                        Err(_) => error(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
                    };
                    Ok::<_, Closed>(answer)
                }
            }))
        })
        .await;
    }

    async fn answer(&self, method: &Method, path: &str, body: &Bytes) -> Response<Body> {
        match (method.as_str(), path) {
            ("GET", "/healthz") => json(&"ok"),
            ("GET", "/state") => json(&self.state()),
            ("GET", "/secrets") => json(&json!({ "secrets": self.secrets() })),
            ("GET", "/faults") => json(&self.parts.faults.rules()),
            ("PUT", "/faults") => self.replace(body),
            ("DELETE", "/faults") => {
                self.parts.faults.replace(Vec::new());
                status(StatusCode::NO_CONTENT)
            }
            ("DELETE", "/environments") => match &self.parts.api {
                Some((_, function)) => {
                    function.recycle().await;
                    status(StatusCode::NO_CONTENT)
                }
                None => error(StatusCode::NOT_FOUND, "the settings name no function"),
            },
            ("POST", "/invocations") => match &self.parts.api {
                Some((_, function)) => invoke(function, body.clone()).await,
                None => error(StatusCode::NOT_FOUND, "the settings name no function"),
            },
            (_, "/healthz" | "/state" | "/secrets" | "/faults" | "/environments" | "/invocations") => {
                error(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
            }
            _ => error(
                StatusCode::NOT_FOUND,
                "there are /healthz, /state, /secrets, /faults, /environments and /invocations",
            ),
        }
    }

    fn replace(&self, body: &Bytes) -> Response<Body> {
        let rules: Vec<Rule> = match serde_json::from_slice(body) {
            Ok(rules) => rules,
            Err(wrong) => return error(StatusCode::BAD_REQUEST, &wrong.to_string()),
        };
        if let Some(wrong) = rules.iter().find_map(Rule::wrong) {
            return error(StatusCode::BAD_REQUEST, wrong);
        }
        tracing::info!(?rules, "fault rules replaced");
        self.parts.faults.replace(rules);
        status(StatusCode::NO_CONTENT)
    }

    fn state(&self) -> State {
        let parts = &self.parts;
        let keys = parts.ledger.all().into_iter().map(|key| Key {
            access_key_id: key.access_key_id.clone(),
            role_arn: key.role_arn.clone(),
            session_name: key.session_name.clone(),
            source_identity: key.source_identity.clone(),
            expiration: humantime::format_rfc3339_seconds(key.expiration).to_string(),
        });
        State {
            keys: keys.collect(),
            assume_role: parts.endpoint.asked(),
            instances: parts.instances.iter().map(Metadata::state).collect(),
            api: parts.api.as_ref().map(|(gateway, _)| gateway.answers()),
            function: parts.api.as_ref().map(|(_, function)| function.stats()),
            faults: parts.faults.rules(),
        }
    }

    fn secrets(&self) -> Vec<String> {
        let configured = self.parts.configured_secrets.iter().map(|secret| secret.expose_secret().to_owned());
        self.parts.ledger.all_secrets().into_iter().chain(configured).collect()
    }
}

/// Hands the function an event past the API, as a role with `lambda:InvokeFunction` could; answers as Lambda's `Invoke`.
async fn invoke(function: &Function, event: Bytes) -> Response<Body> {
    match function.invoke(event).await {
        Ok(answer) => Response::new(full(answer)),
        Err(failed) => {
            let mut answer = Response::new(full(failed.document()));
            *answer.status_mut() = StatusCode::from_u16(failed.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            if failed.is_function_error() {
                answer.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
            }
            answer
        }
    }
}

fn json<T: Serialize>(value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let mut answer = Response::new(full(text));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(wrong) => error(StatusCode::INTERNAL_SERVER_ERROR, &wrong.to_string()),
    }
}

fn error(status: StatusCode, message: &str) -> Response<Body> {
    let mut answer = json(&json!({ "error": message }));
    *answer.status_mut() = status;
    answer
}

fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests;
