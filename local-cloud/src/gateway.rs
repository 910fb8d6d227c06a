//! The private REST API of API Gateway with one method, authorised by IAM, in front of the function.
//!
//! ```text
//! listener        TLS, HTTP/1.1, how much a client may send
//!   certificate     made at start, with the authority that clients trust
//! handler         the order in which API Gateway looks at a request
//!   route           host, stage, resource, method
//!   signature       SigV4, against the keys that STS handed out
//!   authorization   the API's resource policy, then the caller's role in IAM
//!   event           the proxy event for the function
//!   answer          the function's answer as an HTTP response
//! refusal         every answer of API Gateway's own: status, error type, text
//! ```

mod answer;
mod authorization;
mod certificate;
mod event;
mod handler;
mod listener;
mod refusal;
mod route;
mod signature;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use url::Url;

use crate::clock::Clock;
use crate::config::ApiConfig;
use crate::faults::Faults;
use crate::lambda::Function;
use crate::ledger::Ledger;
use crate::server::Stop;
use handler::Handler;

/// What surrounds the API.
#[derive(Clone)]
pub struct Surroundings {
    /// Such as `eu-central-1`.
    pub region: String,
    /// The account that owns the API: 12 digits.
    pub account: String,
    /// Where ministack answers IAM.
    pub upstream: Url,
    /// The keys that STS handed out.
    pub ledger: Ledger,
    /// The faults in force.
    pub faults: Faults,
    /// Tells the time.
    pub clock: Clock,
    /// What answers.
    pub function: Function,
}

/// Why there is no API.
#[derive(Debug, Error)]
pub enum StartError {
    /// No certificate can be made for these names.
    #[error("no certificate for the API's host names: {0}; check api.tls.names")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refuses the certificate.
    #[error("the API's certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The authority's certificate cannot be written.
    #[error("cannot write {path}: {source}; change api.tls.ca_certificate_out")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Ministack's address is none.
    #[error("upstream {0} has no host and port; write http://HOST:PORT")]
    Upstream(Url),
}

/// The API. Clones are the same API.
#[derive(Clone)]
pub struct Gateway {
    handler: Arc<Handler>,
    tls: tokio_rustls::TlsAcceptor,
}

impl Gateway {
    /// Makes the certificate, and its authority's where there is none yet, and prepares the API.
    pub fn new(config: &ApiConfig, surroundings: Surroundings) -> Result<Self, StartError> {
        let handler = Handler::new(config, surroundings)?;
        let names = handler.route().names().chain(config.tls.names.iter().cloned()).collect();
        let tls = certificate::make(names, &config.tls.ca_certificate_out)?;
        Ok(Self { handler: Arc::new(handler), tls })
    }

    /// Serves `listener` until `stop`.
    pub async fn serve(&self, listener: TcpListener, stop: Stop) {
        listener::serve(listener, self.tls.clone(), Arc::clone(&self.handler), stop).await;
    }

    /// How many requests were answered with each status since the start.
    pub fn answers(&self) -> BTreeMap<u16, u64> {
        self.handler.answers()
    }
}
