//! STS: the call that everything else is there to guard, and what its refusals mean.

use aws_sdk_sts::Client;
use aws_sdk_sts::operation::assume_role::{AssumeRoleError, AssumeRoleOutput};
use aws_sdk_sts::types::Tag;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use model::credentials::SessionCredentials;
use model::refusal::{Refusal, RefusalCode};
use model::session::SessionSpec;
use model::time::UnixMillis;
use thiserror::Error;

use super::order::Order;
use crate::aws_error::describe;

/// Why STS gave no session. `Display` is for the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum StsFailure {
    /// It does not allow it; it never says which of the causes it was.
    #[error("STS denies the role")]
    Denied,
    /// It does not take the request, in its own words.
    #[error("STS does not take the request: {0}")]
    Rejected(String),
    /// Too many requests of this account.
    #[error("STS throttles")]
    Throttled,
    /// No answer, a fault of its own, or the issuer's own credentials are at fault.
    #[error("STS is not available: {0}")]
    Unavailable(String),
    /// It answered with a session of another role: never handed on.
    #[error("STS answered with {0:?}, which is not the session that was asked for")]
    OtherIdentity(Option<String>),
}

/// The client of STS.
#[derive(Clone, Debug)]
pub(crate) struct Sts {
    client: Client,
}

impl Sts {
    /// Calls through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// A new session for pods that may have it.
    pub(crate) async fn assume(&self, order: &Order) -> Result<SessionCredentials, StsFailure> {
        let spec = order.spec();
        let answer = self
            .client
            .assume_role()
            .role_arn(spec.role.as_str())
            .role_session_name(&spec.session_name)
            .set_external_id(spec.external_id.clone())
            .set_source_identity(spec.source_identity.clone())
            .set_tags(tags(spec)?)
            // As EKS Pod Identity does: a role that the pod goes on to assume sees whom it serves.
            .set_transitive_tag_keys(transitive(spec))
            .duration_seconds(i32::try_from(spec.duration.as_secs()).unwrap_or(i32::MAX))
            .send()
            .await;
        session(spec, answer.map_err(|error| verdict(&error))?)
    }
}

fn tags(spec: &SessionSpec) -> Result<Option<Vec<Tag>>, StsFailure> {
    let tag = |(key, value): &(&'static str, String)| Tag::builder().key(*key).value(value).build();
    let tags: Result<Vec<_>, _> = spec.tags.iter().map(tag).collect();
    let tags = tags.map_err(|error| StsFailure::Rejected(error.to_string()))?;
    Ok((!tags.is_empty()).then_some(tags))
}

fn transitive(spec: &SessionSpec) -> Option<Vec<String>> {
    (!spec.tags.is_empty()).then(|| spec.tags.iter().map(|(key, _)| (*key).to_owned()).collect())
}

/// Takes the session out of an answer, if it is the one that was asked for.
fn session(spec: &SessionSpec, answer: AssumeRoleOutput) -> Result<SessionCredentials, StsFailure> {
    let (partition, account, name) = (spec.role.partition(), spec.role.account(), spec.role.name());
    let expected = format!("arn:{partition}:sts::{account}:assumed-role/{name}/{}", spec.session_name);
    let got = answer.assumed_role_user.map(|user| user.arn);
    if got.as_deref() != Some(&*expected) {
        return Err(StsFailure::OtherIdentity(got));
    }
    let credentials = answer.credentials.ok_or_else(|| StsFailure::Unavailable("no credentials came".to_owned()))?;
    let expiration = u64::try_from(credentials.expiration.secs())
        .map_err(|_| StsFailure::Unavailable("the session's expiration is before 1970".to_owned()))?;
    Ok(SessionCredentials {
        access_key_id: credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.into(),
        session_token: credentials.session_token.into(),
        expiration: UnixMillis::from_secs(expiration),
    })
}

fn verdict<R>(error: &SdkError<AssumeRoleError, R>) -> StsFailure {
    let said = || error.message().unwrap_or("no message").to_owned();
    match error.code() {
        Some("AccessDenied" | "AccessDeniedException") => StsFailure::Denied,
        Some("Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException") => {
            StsFailure::Throttled
        }
        Some("ValidationError" | "PackedPolicyTooLarge" | "MalformedPolicyDocument" | "RegionDisabledException") => {
            StsFailure::Rejected(said())
        }
        _ => StsFailure::Unavailable(describe(error)),
    }
}

impl StsFailure {
    /// Whether only an edit helps, so that asking again at once is a waste.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Denied | Self::Rejected(_))
    }

    /// What the pod and the person behind it are told.
    pub(crate) fn refusal(&self, spec: &SessionSpec, issuer: &str) -> Refusal {
        let role = &spec.role;
        let (code, message) = match self {
            Self::Denied => (RefusalCode::AssumeRoleDenied, denied(spec, issuer)),
            Self::Rejected(said) => (
                RefusalCode::AssumeRoleDenied,
                format!("STS does not take the request for a session {:?} of {role}: {said}", spec.session_name),
            ),
            Self::Throttled => (
                RefusalCode::StsThrottled,
                format!("STS throttles this account; a session of {role} is asked for again"),
            ),
            Self::Unavailable(_) => (
                RefusalCode::StsUnavailable,
                format!(
                    "STS did not give a session of {role} just now; it is asked again (the issuer's log has the cause)"
                ),
            ),
            Self::OtherIdentity(_) => (
                RefusalCode::StsUnavailable,
                format!("STS answered with a session that is not one of {role}; it was thrown away"),
            ),
        };
        Refusal::new(code, message).for_role(role)
    }
}

/// STS says `AccessDenied` to all of these alike, so the message names each.
fn denied(spec: &SessionSpec, issuer: &str) -> String {
    let role = &spec.role;
    let mut actions = vec!["sts:AssumeRole"];
    if !spec.tags.is_empty() {
        actions.push("sts:TagSession");
    }
    if spec.source_identity.is_some() {
        actions.push("sts:SetSourceIdentity");
    }
    let actions = actions.join(", ");
    let external_id = if spec.external_id.is_some() {
        "its condition sts:ExternalId must equal the external-id annotation of the namespace or pod"
    } else {
        "it must not demand sts:ExternalId, or the namespace or pod must carry that id in its external-id annotation"
    };
    format!(
        "STS denies {role} to the issuer. Check that (1) a role of that ARN, path included, exists; (2) its trust policy \
         allows {actions} to {issuer}; (3) {external_id}; (4) the issuer's own policy allows {actions} on the role, and no \
         service control policy or permissions boundary forbids it."
    )
}
