//! The function's answer as an HTTP response, by the rules of the proxy integration.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

/// What a function may answer; every member but `statusCode` can be absent or null.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    multi_value_headers: Option<BTreeMap<String, Vec<Value>>>,
    #[serde(default)]
    body: Option<String>,
    /// Read and not acted on: a body is decoded only for the API's binary media types, and it has none.
    #[serde(default, rename = "isBase64Encoded")]
    _is_base64_encoded: Option<bool>,
}

/// The response that a function asks for; none when its answer is not of the form.
pub(super) fn response(answer: &[u8]) -> Option<Response<String>> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let mut response = Response::new(answer.body.unwrap_or_default());
    *response.status_mut() = status(answer.status_code)?;
    let multi = answer.multi_value_headers.unwrap_or_default();
    // A name in both lists has the values of the list of many.
    let single = answer.headers.unwrap_or_default().into_iter();
    let single = single.filter(|(name, _)| !multi.keys().any(|other| other.eq_ignore_ascii_case(name)));
    let single: Vec<_> = single.map(|(name, value)| (name, vec![value])).collect();
    for (name, values) in single.into_iter().chain(multi) {
        let name: HeaderName = name.parse().ok()?;
        if is_transports(&name) {
            continue;
        }
        for value in values {
            response.headers_mut().append(&name, scalar(&value)?);
        }
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().entry(header::CONTENT_TYPE).or_insert(json);
    Some(response)
}

/// A final status; 1xx is none.
fn status(code: u16) -> Option<StatusCode> {
    StatusCode::from_u16(code).ok().filter(|status| (200..=599).contains(&status.as_u16()))
}

/// Headers that API Gateway sets or drops itself.
fn is_transports(name: &HeaderName) -> bool {
    [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::DATE].contains(name)
}

fn scalar(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_headers_and_body_are_the_functions() {
        let answer = br#"{"statusCode":403,"headers":{"X-One":1,"Set-Cookie":"lost","content-length":"9"},
                          "multiValueHeaders":{"set-cookie":["a","b"]},"body":"{}","isBase64Encoded":false}"#;
        let response = response(answer).unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_str()), (403, "{}"));
        let headers: Vec<_> = response.headers().iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(
            headers,
            [("x-one", "1"), ("set-cookie", "a"), ("set-cookie", "b"), ("content-type", "application/json")]
        );
    }

    #[test]
    fn what_is_not_of_the_form_is_no_response() {
        for answer in [
            "",
            "null",
            "{}",
            "[]",
            r#"{"statusCode":"200"}"#,
            r#"{"statusCode":99}"#,
            r#"{"statusCode":101}"#,
            r#"{"statusCode":600}"#,
            r#"{"statusCode":200,"body":{}}"#,
            r#"{"statusCode":200,"headers":{"a b":"c"}}"#,
            r#"{"statusCode":200,"headers":{"a":"b\nc"}}"#,
            r#"{"statusCode":200,"headers":{"a":["b"]}}"#,
        ] {
            assert!(response(answer.as_bytes()).is_none(), "{answer}");
        }
        assert_eq!(response(br#"{"statusCode":204}"#).unwrap().body(), "");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes: Vec<u8>, status: i64, name: String, value: String) {
            response(&bytes);
            let answer = serde_json::json!({ "statusCode": status, "headers": { name: value.clone() }, "body": value });
            if let Some(response) = response(answer.to_string().as_bytes()) {
                proptest::prop_assert_eq!(i64::from(response.status().as_u16()), status);
                proptest::prop_assert_eq!(response.body(), &value);
            }
        }
    }
}
