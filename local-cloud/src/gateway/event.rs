//! The event that API Gateway gives a function for a REST API's proxy integration with IAM authorization.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>, input format.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::route::Domain;
use crate::ledger::IssuedKey;

/// Headers that the function does not see: the signature, and those of the transport.
const CUT_OFF: [HeaderName; 5] =
    [header::AUTHORIZATION, header::CONNECTION, header::CONTENT_LENGTH, header::EXPECT, header::TRANSFER_ENCODING];

/// What every event of the API says.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) stage: String,
    /// `/RESOURCE`.
    pub(super) resource: String,
    /// Made when the API is.
    pub(super) resource_id: String,
    pub(super) vpce_id: String,
    pub(super) vpc_id: String,
    pub(super) stage_variables: BTreeMap<String, SecretString>,
}

/// What one request adds to itself.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) request_id: String,
    pub(super) extended_request_id: String,
    pub(super) trace: String,
    pub(super) time: SystemTime,
    pub(super) peer: IpAddr,
}

impl Api {
    /// The event, as the function gets it.
    pub(super) fn event(
        &self,
        parts: &Parts,
        body: &Bytes,
        domain: &Domain,
        caller: &IssuedKey,
        arrival: &Arrival,
    ) -> Bytes {
        let (headers, multi_headers) = headers(&self.passed_on(&parts.headers, arrival));
        let (query, multi_query) = query(parts.uri.query());
        let event = json!({
            "resource": self.resource,
            "path": self.resource,
            "httpMethod": parts.method.as_str(),
            "headers": headers,
            "multiValueHeaders": multi_headers,
            "queryStringParameters": query,
            "multiValueQueryStringParameters": multi_query,
            "pathParameters": null,
            "stageVariables": self.stage_variables(),
            "requestContext": self.context(parts, domain, caller, arrival),
            "body": if body.is_empty() { Value::Null } else { Value::from(String::from_utf8_lossy(body)) },
            "isBase64Encoded": false,
        });
        Bytes::from(event.to_string())
    }

    fn context(&self, parts: &Parts, domain: &Domain, caller: &IssuedKey, arrival: &Arrival) -> Value {
        let time = DateTime::<Utc>::from(arrival.time);
        json!({
            "resourceId": self.resource_id,
            "resourcePath": self.resource,
            "httpMethod": parts.method.as_str(),
            "extendedRequestId": arrival.extended_request_id,
            "requestTime": time.format("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "path": parts.uri.path(),
            "accountId": self.account,
            "protocol": "HTTP/1.1",
            "stage": self.stage,
            "domainPrefix": domain.prefix,
            "requestTimeEpoch": time.timestamp_millis(),
            "requestId": arrival.request_id,
            "identity": self.identity(parts, caller, arrival.peer),
            "domainName": domain.name,
            "apiId": self.id,
        })
    }

    fn identity(&self, parts: &Parts, caller: &IssuedKey, peer: IpAddr) -> Value {
        let user_agent = parts.headers.get(header::USER_AGENT).map(|value| text(value.as_bytes()));
        json!({
            "cognitoIdentityPoolId": null,
            "accountId": caller.account,
            "cognitoIdentityId": null,
            "caller": caller.user_id(),
            "sourceIp": peer.to_string(),
            // The account is in no organization.
            "principalOrgId": null,
            "accessKey": caller.access_key_id,
            "cognitoAuthenticationType": null,
            "cognitoAuthenticationProvider": null,
            "userArn": caller.assumed_role_arn(),
            "userAgent": user_agent,
            "user": caller.user_id(),
            "vpcId": self.vpc_id,
            "vpceId": self.vpce_id,
        })
    }

    /// What the function sees of the headers: some are cut off, and API Gateway adds its own.
    fn passed_on(&self, received: &HeaderMap, arrival: &Arrival) -> Vec<(String, String)> {
        let own = [
            ("X-Amzn-Trace-Id", arrival.trace.clone()),
            ("X-Forwarded-For", forwarded_for(received, arrival.peer)),
            ("x-amzn-vpc-id", self.vpc_id.clone()),
            ("x-amzn-vpce-config", "1".into()),
            ("x-amzn-vpce-id", self.vpce_id.clone()),
        ];
        let replaced = |name: &str| own.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let kept = received.iter().filter(|(name, _)| !CUT_OFF.contains(name) && !replaced(name.as_str()));
        let kept = kept.map(|(name, value)| (spelled(name.as_str()), text(value.as_bytes())));
        kept.chain(own.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))).collect()
    }

    fn stage_variables(&self) -> Value {
        let exposed = |(name, value): (&String, &SecretString)| (name.clone(), Value::from(value.expose_secret()));
        let variables: Map<String, Value> = self.stage_variables.iter().map(exposed).collect();
        if variables.is_empty() { Value::Null } else { Value::Object(variables) }
    }
}

/// The HTTP library folds header names; API Gateway passes them on as sent, and every client sends this one so.
fn spelled(name: &str) -> String {
    if name == "host" { "Host".into() } else { name.to_owned() }
}

fn forwarded_for(received: &HeaderMap, peer: IpAddr) -> String {
    let claimed = received.get_all("x-forwarded-for").iter().map(|value| text(value.as_bytes()));
    claimed.chain([peer.to_string()]).collect::<Vec<_>>().join(", ")
}

/// Each name's last value, and each name's values.
fn headers(list: &[(String, String)]) -> (Value, Value) {
    let (mut last, mut all) = (Map::new(), Map::new());
    for (name, value) in list {
        last.insert(name.clone(), Value::from(value.as_str()));
        push(&mut all, name, value);
    }
    (Value::Object(last), Value::Object(all))
}

fn query(query: Option<&str>) -> (Value, Value) {
    let (mut last, mut all) = (Map::new(), Map::new());
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        last.insert(name.to_string(), Value::from(value.as_ref()));
        push(&mut all, &name, &value);
    }
    if all.is_empty() { (Value::Null, Value::Null) } else { (Value::Object(last), Value::Object(all)) }
}

fn push(all: &mut Map<String, Value>, name: &str, value: &str) {
    if let Value::Array(values) = all.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
        values.push(Value::from(value));
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
