//! The answer as API Gateway wants it. This is the one file that names HTTP statuses.

use model::refusal::RequestRefusalCode;
use model::wire::{ErrorBody, IssueResponse};
use serde::Serialize;

/// An answer to a proxy event. It has no `Debug`: its body may carry credentials.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyResponse {
    status_code: u16,
    headers: Headers,
    body: String,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Headers {
    content_type: &'static str,
    cache_control: &'static str,
}

impl ProxyResponse {
    /// An outcome for every pod.
    pub(crate) fn outcomes(response: &IssueResponse) -> Self {
        Self::new(200, response)
    }

    /// A refusal of the whole request.
    pub(crate) fn refusal(error: &ErrorBody) -> Self {
        Self::new(status(error.code), error)
    }

    fn new(status_code: u16, body: &impl Serialize) -> Self {
        // Plain structs with text keys serialise to memory without fail; an empty body would be refused by every agent.
        let body = serde_json::to_string(body).unwrap_or_default();
        let headers = Headers { content_type: "application/json", cache_control: "no-store" };
        Self { status_code, headers, body, is_base64_encoded: false }
    }
}

const fn status(code: RequestRefusalCode) -> u16 {
    match code {
        RequestRefusalCode::BadRequest => 400,
        RequestRefusalCode::CallerNotANode | RequestRefusalCode::NodeQuarantined => 403,
        RequestRefusalCode::Unavailable => 503,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_have_their_status() {
        let cases = [
            (RequestRefusalCode::BadRequest, 400),
            (RequestRefusalCode::CallerNotANode, 403),
            (RequestRefusalCode::NodeQuarantined, 403),
            (RequestRefusalCode::Unavailable, 503),
        ];
        for (code, status) in cases {
            let response = ProxyResponse::refusal(&ErrorBody::new(code, "why"));
            assert_eq!(
                serde_json::to_value(&response).unwrap(),
                json!({
                    "statusCode": status,
                    "headers": {"content-type": "application/json", "cache-control": "no-store"},
                    "body": format!(r#"{{"version":1,"code":"{code}","message":"why"}}"#),
                    "isBase64Encoded": false,
                })
            );
        }
    }

    #[test]
    fn outcomes_are_a_200() {
        let response = IssueResponse { version: 1, sessions: Vec::new(), outcomes: Vec::new() };
        let answer = serde_json::to_value(ProxyResponse::outcomes(&response)).unwrap();
        assert_eq!(answer["statusCode"], 200);
        assert_eq!(answer["body"], r#"{"version":1,"sessions":[],"outcomes":[]}"#);
    }
}
