//! The node role's credentials, with which requests to the issuer are signed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use model::time::UnixMillis;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::NodeError;
use super::metadata::NodeMetadata;
use crate::clock::Clock;

/// Credentials that end within this are not signed with: the request must arrive before they do.
const LEAST_LIFE: Duration = Duration::from_secs(60);
/// How often EC2 is asked while it answers: it puts new credentials there at least 5 minutes before the old ones end, and
/// another role when the instance profile is replaced.
const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// Waits after failures: doubled from the first to the last.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A renewal is not repeated within this, so that many refused requests cause one.
const RENEW_AFTER: Duration = Duration::from_secs(5);

const LIST: &str = "/latest/meta-data/iam/security-credentials/";

/// The node role's credentials, kept fresh.
#[derive(Debug)]
pub struct NodeCredentials {
    metadata: Arc<NodeMetadata>,
    clock: Clock,
    held: Mutex<Option<Held>>,
    /// Lets one fetch run at a time; the others find what it brought.
    fetching: Semaphore,
}

#[derive(Clone, Debug)]
struct Held {
    credentials: Arc<Credentials>,
    expiration: UnixMillis,
    fetched: Instant,
}

/// EC2's document. Its text forms hold secrets until they are parsed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    code: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    access_key_id: Option<String>,
    #[serde(default)]
    secret_access_key: Option<SecretString>,
    #[serde(default)]
    token: Option<SecretString>,
    #[serde(default)]
    expiration: Option<String>,
}

impl NodeCredentials {
    /// Takes them from `metadata`; nothing is asked yet.
    pub fn new(metadata: Arc<NodeMetadata>, clock: Clock) -> Self {
        Self { metadata, clock, held: Mutex::new(None), fetching: Semaphore::new(1) }
    }

    /// The credentials to sign with now; fetched first when there are none that are valid.
    pub async fn current(&self) -> Result<Arc<Credentials>, NodeError> {
        match self.valid() {
            Some(credentials) => Ok(credentials),
            None => self.fetch(|held| self.is_valid(held)).await,
        }
    }

    /// The same, asked of EC2 again unless that was done within the last 5 s: for a signature that was refused for its keys.
    pub async fn renewed(&self) -> Result<Arc<Credentials>, NodeError> {
        self.fetch(|held| self.is_valid(held) && held.fetched.elapsed() < RENEW_AFTER).await
    }

    /// Keeps them fresh. Runs until dropped; spawn it once.
    pub async fn run(&self) -> Infallible {
        let mut retry = FIRST_RETRY;
        loop {
            match self.fetch(|_| false).await {
                Ok(_) => {
                    retry = FIRST_RETRY;
                    tokio::time::sleep(REFRESH_EVERY).await;
                }
                Err(error) => {
                    let has_valid = self.valid().is_some();
                    warn!(%error, has_valid, "the node's credentials could not be refreshed");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn valid(&self) -> Option<Arc<Credentials>> {
        self.held().as_ref().filter(|held| self.is_valid(held)).map(|held| Arc::clone(&held.credentials))
    }

    fn is_valid(&self, held: &Held) -> bool {
        held.expiration.since(self.clock.now()) > LEAST_LIFE
    }

    /// Held for the copying of a few words.
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks EC2, unless another fetch has meanwhile brought what is `enough`. A failure leaves what is held.
    async fn fetch(&self, enough: impl Fn(&Held) -> bool) -> Result<Arc<Credentials>, NodeError> {
        let _turn = self.fetching.acquire().await.expect("the semaphore is never closed");
        if let Some(held) = self.held().as_ref().filter(|held| enough(held)) {
            return Ok(Arc::clone(&held.credentials));
        }
        let fresh = self.ask().await?;
        if !self.is_valid(&fresh) {
            return Err(NodeError::Expired);
        }
        let credentials = Arc::clone(&fresh.credentials);
        let before = self.held().replace(fresh);
        if before.is_none_or(|held| held.credentials.access_key_id() != credentials.access_key_id()) {
            info!(access_key_id = credentials.access_key_id(), "new node credentials");
        }
        Ok(credentials)
    }

    async fn ask(&self) -> Result<Held, NodeError> {
        let list = match self.metadata.text(LIST).await {
            Err(NodeError::NotFound(_)) => return Err(NodeError::NoRole),
            other => other?,
        };
        let role = list.lines().next().unwrap_or_default().trim();
        if role.is_empty() {
            return Err(NodeError::NoRole);
        }
        let path = format!("{LIST}{role}");
        let text = self.metadata.text(&path).await?;
        parse(&text, &path)
    }
}

fn parse(text: &str, path: &str) -> Result<Held, NodeError> {
    let malformed = || NodeError::Malformed(path.to_owned());
    let document: Document = serde_json::from_str(text).map_err(|_| malformed())?;
    if document.code != "Success" {
        let cut = |text: String| text.chars().take(200).collect();
        return Err(NodeError::Refused {
            code: cut(document.code),
            message: cut(document.message.unwrap_or_default()),
        });
    }
    let (Some(id), Some(secret), Some(token), Some(expiration)) =
        (document.access_key_id, document.secret_access_key, document.token, document.expiration)
    else {
        return Err(malformed());
    };
    let expires = humantime::parse_rfc3339(&expiration).map_err(|_| malformed())?;
    let token = Some(token.expose_secret().to_owned());
    let credentials = Credentials::new(id, secret.expose_secret(), token, Some(expires), "ec2-metadata");
    Ok(Held { credentials: Arc::new(credentials), expiration: expires.into(), fetched: Instant::now() })
}
