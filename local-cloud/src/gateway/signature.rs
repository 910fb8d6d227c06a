//! Whose signature a request carries, if any.

use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use http::Request;
use http::request::Parts;
use scratchstack_aws_principal::AssumedRole;
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, NO_ADDITIONAL_SIGNED_HEADERS, SignatureError,
    SignatureOptions, service_for_signing_key_fn, sigv4_validate_request,
};
use secrecy::ExposeSecret;
use tower::BoxError;

use super::refusal::Refusal;
use crate::ledger::{IssuedKey, Ledger};

/// The service's name in a signature's scope.
const SERVICE: &str = "execute-api";
/// How far a signature's time may be from ours; the library allows 15.
const SKEW_MINUTES: i64 = 5;
const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// Checks the request's signature and session; the key that made it.
pub(super) async fn verify(
    parts: &Parts,
    body: &Bytes,
    region: &str,
    ledger: &Ledger,
    now: SystemTime,
) -> Result<Arc<IssuedKey>, Refusal> {
    let now = DateTime::<Utc>::from(now);
    check_skew(parts, now)?;
    let keys = ledger.clone();
    let find = move |request: GetSigningKeyRequest| std::future::ready(signing_key(&request, &keys, now));
    let mut keys = service_for_signing_key_fn(find);
    let request = Request::from_parts(parts.clone(), body.clone());
    let headers = &NO_ADDITIONAL_SIGNED_HEADERS;
    let options = SignatureOptions::default();
    sigv4_validate_request(request, region, SERVICE, &mut keys, now, headers, options).await.map_err(refusal)?;
    // The library hands back a principal, which has no room for the session's key.
    access_key_id(parts).and_then(|id| ledger.find(&id)).ok_or(Refusal::UnrecognizedClient)
}

fn check_skew(parts: &Parts, now: DateTime<Utc>) -> Result<(), Refusal> {
    let given = header(parts, "x-amz-date").map(str::to_owned).or_else(|| query(parts, "X-Amz-Date"));
    // What is no time at all is the library's to refuse.
    let Some(time) = given.and_then(|text| NaiveDateTime::parse_from_str(&text, TIME_FORMAT).ok()) else {
        return Ok(());
    };
    let time = time.and_utc();
    let skew = TimeDelta::minutes(SKEW_MINUTES);
    let (at, here) = (time.format(TIME_FORMAT), now.format(TIME_FORMAT));
    if time < now - skew {
        let limit = (now - skew).format(TIME_FORMAT);
        let text = format!("Signature expired: {at} is now earlier than {limit} ({here} - {SKEW_MINUTES} min.)");
        return Err(Refusal::InvalidSignature(text));
    }
    if time > now + skew {
        let limit = (now + skew).format(TIME_FORMAT);
        let text =
            format!("Signature not yet current: {at} is still later than {limit} ({here} + {SKEW_MINUTES} min.)");
        return Err(Refusal::InvalidSignature(text));
    }
    Ok(())
}

fn signing_key(
    request: &GetSigningKeyRequest,
    ledger: &Ledger,
    now: DateTime<Utc>,
) -> Result<GetSigningKeyResponse, BoxError> {
    let unknown = || SignatureError::InvalidClientTokenId(String::new());
    let key = ledger.find(request.access_key()).ok_or_else(unknown)?;
    if request.session_token() != Some(key.session_token.expose_secret()) {
        return Err(unknown().into());
    }
    if DateTime::<Utc>::from(key.expiration) <= now {
        return Err(SignatureError::ExpiredToken(String::new()).into());
    }
    let secret: KSecretKey = KSecretKey::from_str(key.secret_access_key.expose_secret())?;
    let signing = secret.to_ksigning(request.request_date(), request.region(), request.service());
    let partition = key.role_arn.split(':').nth(1).unwrap_or_default();
    let principal = AssumedRole::new(partition, &key.account, &key.role_name, &key.session_name)?;
    Ok(GetSigningKeyResponse::builder().principal(principal).signing_key(signing).build()?)
}

fn refusal(error: BoxError) -> Refusal {
    match error.downcast::<SignatureError>().map(|error| *error) {
        Ok(SignatureError::MissingAuthenticationToken(_)) => Refusal::MissingAuthenticationToken,
        Ok(SignatureError::InvalidClientTokenId(_)) => Refusal::UnrecognizedClient,
        Ok(SignatureError::ExpiredToken(_)) => Refusal::ExpiredToken,
        Ok(SignatureError::SignatureDoesNotMatch(text)) => Refusal::InvalidSignature(text.unwrap_or_default()),
        Ok(SignatureError::IncompleteSignature(text)) => Refusal::IncompleteSignature(text),
        Ok(error @ (SignatureError::IO(_) | SignatureError::InternalServiceError(_))) => {
            tracing::error!(%error, "a signature cannot be checked");
            Refusal::Internal
        }
        // Paths, queries and bodies of which no canonical form can be made.
        Ok(error) => Refusal::InvalidSignature(error.to_string()),
        Err(error) => {
            tracing::error!(%error, "a signature cannot be checked");
            Refusal::Internal
        }
    }
}

/// The key's id in the credential of a signature that the library has accepted.
fn access_key_id(parts: &Parts) -> Option<String> {
    let in_header =
        header(parts, "authorization").and_then(|text| text.split_once("Credential=")).map(|(_, rest)| rest);
    let credential = in_header.map(str::to_owned).or_else(|| query(parts, "X-Amz-Credential"))?;
    credential.split('/').next().map(str::to_owned)
}

fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

fn query(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?.as_bytes();
    url::form_urlencoded::parse(query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
