//! Wiring: settings and an AWS configuration become an issuer, with its connections open.

use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls;
use futures_util::FutureExt;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::Settings;
use crate::credentials::{Clients, Sessions};
use crate::handler::Issuer;
use crate::lines::JsonLines;
use crate::policies::Policies;
use crate::records::Directory;

/// How long start-up may spend on opening connections: Lambda ends an INIT at 10 s.
const WARM_LIMIT: Duration = Duration::from_secs(5);
/// A TCP connection and its TLS handshake: most of a second on a small function that is not in INIT.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// One try of a call: long enough for any answer, short enough to give up a connection that died while Lambda had the
/// function frozen.
const TRY_LIMIT: Duration = Duration::from_secs(2);
/// One try of a call to STS: slower, and dearer to repeat.
const STS_TRY_LIMIT: Duration = Duration::from_secs(5);
/// Tries of a call to DynamoDB or KMS.
const TRIES: u32 = 3;
/// Tries of a call to STS: one more for a connection that was closed meanwhile, and no more, since all tries of all
/// environments spend one account's rate.
const STS_TRIES: u32 = 2;
/// The first wait between tries.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
/// The longest wait between tries.
const LONGEST_BACKOFF: Duration = Duration::from_millis(400);

/// The AWS configuration: region, credentials and endpoints from the environment that Lambda sets, one HTTP client for all.
pub async fn aws_config() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let environment = EnvironmentVariableCredentialsProvider::new();
    aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(environment)
        .http_client(http)
        .load()
        .boxed()
        .await
}

/// Builds the issuer and opens its connections. What cannot be reached now is logged and tried again by the first request.
pub async fn start(settings: Settings, aws: &SdkConfig, clock: Arc<dyn Clock>, lines: JsonLines) -> Issuer {
    let dynamo = aws_sdk_dynamodb::Client::new(&within(aws, TRY_LIMIT, TRIES));
    let kms = aws_sdk_kms::Client::new(&within(aws, TRY_LIMIT, TRIES));
    let sts = aws_sdk_sts::Client::new(&within(aws, STS_TRY_LIMIT, STS_TRIES));

    let clients = Clients { dynamo: dynamo.clone(), kms, sts: sts.clone() };
    let issuer = Issuer {
        gate: settings.gate,
        policies: Policies::new(settings.policy, sts),
        directory: Directory::new(dynamo, settings.directory_table),
        sessions: Sessions::new(clients, &settings.cache_table, &settings.kms_key, settings.limits, Arc::clone(&clock)),
        clock,
        lines,
    };
    warm(&issuer).boxed().await;
    issuer
}

/// The configuration with limits for each call. A request's own patience is the tighter one.
fn within(aws: &SdkConfig, of_a_try: Duration, tries: u32) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_LIMIT).operation_attempt_timeout(of_a_try);
    let retries = RetryConfig::standard()
        .with_max_attempts(tries)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(LONGEST_BACKOFF);
    aws.to_builder().timeout_config(timeouts.build()).retry_config(retries).build()
}

/// Opens a connection to STS, one to KMS and two to DynamoDB: a first request uses as many, and each handshake costs a small
/// function most of a second.
async fn warm(issuer: &Issuer) {
    let identity = async {
        if let Err(error) = issuer.policies.known().await {
            tracing::error!(%error, "the issuer does not know its own account yet; the first request asks again");
        }
    };
    let directory = async {
        let Some(cluster) = issuer.policies.clusters().next() else { return };
        if let Err(error) = issuer.directory.warm(cluster).await {
            tracing::error!(%error, "the directory does not answer yet; the first request asks again");
        }
    };
    let all = async { tokio::join!(identity, directory, issuer.sessions.warm()) }.boxed();
    if timeout(WARM_LIMIT, all).await.is_err() {
        tracing::error!("some connections were not opened in time; the first request opens them");
    }
}
