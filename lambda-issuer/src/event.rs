//! The event of an API Gateway REST proxy integration: the fields that are used, and nothing else.
//!
//! Any field may be missing here. What must be there is decided by [`crate::caller`], one check after the other, so that a
//! strange event is refused for its reason.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request as API Gateway hands it on. `Debug` shows neither the body nor the stage's variables, which hold a secret.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyEvent {
    /// Who and what, as the API saw it.
    pub request_context: RequestContext,
    /// The variables of the API's stage.
    pub stage_variables: Option<BTreeMap<String, String>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

/// What the API knows of a request. The caller cannot influence it, other than by being who they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestContext {
    /// The API's id.
    pub api_id: Option<String>,
    /// The stage's name.
    pub stage: Option<String>,
    /// The resource that matched.
    pub resource_path: Option<String>,
    /// The method.
    pub http_method: Option<String>,
    /// When the API received the request, in milliseconds since 1970.
    pub request_time_epoch: Option<u64>,
    /// API Gateway's id of the request, which a caller can choose.
    pub request_id: Option<String>,
    /// API Gateway's id of the request, which nobody can choose.
    pub extended_request_id: Option<String>,
    /// Who signed.
    pub identity: Identity,
}

/// Who signed a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Identity {
    /// The signer's account.
    pub account_id: Option<String>,
    /// `AROA…:session`.
    pub caller: Option<String>,
    /// `arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub user_arn: Option<String>,
    /// The access key id that signed.
    pub access_key: Option<String>,
    /// The address the request came from.
    pub source_ip: Option<String>,
    /// The VPC endpoint it came through.
    pub vpce_id: Option<String>,
}

impl ProxyEvent {
    /// Reads an event. The error says where reading stopped and quotes nothing.
    pub fn parse(event: &RawValue) -> Result<Self, MalformedEvent> {
        serde_json::from_str(event.get()).map_err(|error| MalformedEvent { line: error.line(), column: error.column() })
    }

    /// The request's body; `None` where it is not what its encoding says.
    pub fn body(&self) -> Option<Vec<u8>> {
        let text = self.body.as_deref().unwrap_or_default();
        match self.is_base64_encoded {
            Some(true) => STANDARD.decode(text).ok(),
            Some(false) | None => Some(text.as_bytes().to_vec()),
        }
    }
}

impl fmt::Debug for ProxyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyEvent").field("request_context", &self.request_context).finish_non_exhaustive()
    }
}

/// An event that is no proxy event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is no API Gateway proxy event (line {line}, column {column})")]
pub struct MalformedEvent {
    line: usize,
    column: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<ProxyEvent, MalformedEvent> {
        ProxyEvent::parse(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn reads_what_api_gateway_sends() {
        let event = parse(include_str!("../tests/data/proxy_event.json")).unwrap();
        assert_eq!(event.body().unwrap(), br#"{"a":1}"#);
        let context = event.request_context;
        assert_eq!(context.identity.vpce_id.as_deref(), Some("vpce-0123456789abcdef0"));
        assert_eq!(context.request_time_epoch, Some(1_795_475_000_000));
        assert_eq!(context.resource_path.as_deref(), Some("/credentials"));
    }

    #[test]
    fn a_body_in_base64_is_decoded_and_a_broken_one_is_none() {
        assert_eq!(parse(r#"{"body":"eyJhIjoxfQ==","isBase64Encoded":true}"#).unwrap().body().unwrap(), br#"{"a":1}"#);
        assert_eq!(parse(r#"{"body":"?","isBase64Encoded":true}"#).unwrap().body(), None);
        assert_eq!(parse(r#"{"body":null,"isBase64Encoded":false}"#).unwrap().body(), Some(Vec::new()));
    }

    #[test]
    fn debug_shows_neither_body_nor_stage_variables() {
        let event = parse(r#"{"body":"the-body","stageVariables":{"a":"the-secret"}}"#).unwrap();
        let shown = format!("{event:?}");
        assert!(!shown.contains("the-body") && !shown.contains("the-secret"), "{shown}");
    }

    #[test]
    fn no_nesting_is_deep_enough_to_end_the_program() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deep).is_err());
        assert!(parse(&format!(r#"{{"requestContext":{deep}}}"#)).is_err());
        let _ = parse(&format!(r#"{{"unknown":{deep}}}"#));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,20}".prop_map(Into::into),
        ];
        let key = prop_oneof![
            Just("requestContext".to_owned()),
            Just("identity".to_owned()),
            Just("body".to_owned()),
            Just("stageVariables".to_owned()),
            ".{0,8}",
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(key.clone(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_json_is_read_or_refused(value in any_json()) {
            if let Ok(event) = parse(&value.to_string()) {
                let _ = event.body();
            }
        }
    }
}
