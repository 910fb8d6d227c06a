//! Which key signed a request, and what it asks of which service.

use std::collections::BTreeMap;

use http::{HeaderMap, Request};
use serde_json::Value;
use url::form_urlencoded;

use super::refusal::Refusal;

/// The services whose operations are told apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Sts,
    Dynamodb,
    Kms,
    Sns,
    Iam,
    /// Passed on without a look.
    Other,
}

impl Service {
    /// The name that must stand in the signature's scope.
    pub(super) const fn signing_name(self) -> Option<&'static str> {
        match self {
            Self::Sts => Some("sts"),
            Self::Dynamodb => Some("dynamodb"),
            Self::Kms => Some("kms"),
            Self::Sns => Some("sns"),
            Self::Iam => Some("iam"),
            Self::Other => None,
        }
    }
}

const STS_ACTIONS: [&str; 10] = [
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "DecodeAuthorizationMessage",
    "GetAccessKeyInfo",
    "GetCallerIdentity",
    "GetFederationToken",
    "GetSessionToken",
    "GetWebIdentityToken",
];

/// The versions of the query APIs; each belongs to one service.
const QUERY_VERSIONS: [(&str, Service); 3] =
    [("2011-06-15", Service::Sts), ("2010-03-31", Service::Sns), ("2010-05-08", Service::Iam)];

/// The scope of a signature: `KEY/DATE/REGION/SERVICE/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) access_key_id: String,
    pub(super) region: String,
    pub(super) service: String,
}

impl Credential {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (key, date, region, service) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next() == Some("aws4_request") && parts.next().is_none();
        let dated = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
        (whole && dated && !key.is_empty()).then(|| Self {
            access_key_id: key.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }

    /// Whether ministack takes the key for an account's root: `test`, or an account's number, with any secret.
    pub(super) fn is_root(&self) -> bool {
        self.access_key_id == "test"
            || (self.access_key_id.len() == 12 && self.access_key_id.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// Parameters of a query API, from the query string and the form, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The members of a list of structures: `Tags.member.N.Key` yields `(N, "Key", value)`.
    pub(super) fn members(&self, list: &str) -> impl Iterator<Item = (u32, &str, &str)> {
        self.0.iter().filter_map(move |(name, value)| {
            let rest = name.strip_prefix(list)?.strip_prefix(".member.")?;
            let (number, field) = rest.split_once('.').unwrap_or((rest, ""));
            Some((number.parse().ok()?, field, value.as_str()))
        })
    }

    fn read(query: &str, form: &[u8]) -> Result<Self, Refusal> {
        let mut all = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(form)) {
            // Two readers may take different ones of two, so that one is checked and the other obeyed.
            if all.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Refusal::duplicate_parameter());
            }
        }
        Ok(Self(all))
    }
}

/// What one request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) service: Service,
    /// `AssumeRole`, `BatchGetItem`; empty where it is not told apart.
    pub(super) name: String,
    /// None for an unsigned request.
    pub(super) credential: Option<Credential>,
    /// Of STS alone.
    pub(super) parameters: Parameters,
}

impl Operation {
    /// Reads what `request` asks; refused is what one could read in two ways.
    pub(super) fn read(request: &Request<bytes::Bytes>) -> Result<Self, Refusal> {
        let query = request.uri().query().unwrap_or_default();
        let credential = credential(request.headers(), query)?;
        if let Some(target) = header(request.headers(), "x-amz-target")
            && let Some((service, name)) = target.split_once('.')
        {
            let service = match service {
                "DynamoDB_20120810" => Service::Dynamodb,
                "TrentService" => Service::Kms,
                // AWS's STS speaks the query protocol alone.
                "AWSSecurityTokenServiceV20110615" => return Err(Refusal::unknown_protocol()),
                _ => Service::Other,
            };
            return Ok(Self { service, name: name.to_owned(), credential, parameters: Parameters::default() });
        }
        Self::read_query(query, form(request), credential)
    }

    fn read_query(query: &str, form: &[u8], credential: Option<Credential>) -> Result<Self, Refusal> {
        let value = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(form).chain(form_urlencoded::parse(query.as_bytes()));
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let (action, version) = (value("Action").unwrap_or_default(), value("Version").unwrap_or_default());
        let scoped_to_sts = credential.as_ref().is_some_and(|c| c.service == "sts");
        let service = if scoped_to_sts || STS_ACTIONS.contains(&action.as_str()) {
            Service::Sts
        } else {
            QUERY_VERSIONS.iter().find(|(known, _)| *known == version).map_or(Service::Other, |(_, service)| *service)
        };
        let parameters = if service == Service::Sts { Parameters::read(query, form)? } else { Parameters::default() };
        Ok(Self { service, name: action, credential, parameters })
    }

    /// What fault rules match: the operation, then the role or the tables.
    pub(super) fn detail(&self, body: &[u8]) -> String {
        let objects = match self.service {
            Service::Sts => self.parameters.get("RoleArn").and_then(|arn| arn.rsplit('/').next()).map(str::to_owned),
            Service::Dynamodb => Some(tables(body).join(" ")),
            _ => None,
        };
        match objects {
            Some(objects) if !objects.is_empty() => format!("{} {objects}", self.name),
            _ => self.name.clone(),
        }
    }
}

/// The form of a POST; other bodies carry no parameters.
fn form(request: &Request<bytes::Bytes>) -> &[u8] {
    let is_form = header(request.headers(), "content-type")
        .is_none_or(|kind| kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"));
    if is_form { request.body() } else { &[] }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The key that signed, from the header or a presigned query; both at once, or another form, is refused: what is let
/// through here unread would be read by ministack.
fn credential(headers: &HeaderMap, query: &str) -> Result<Option<Credential>, Refusal> {
    let mut presigned = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-amz-credential") || name == "AWSAccessKeyId")
        .map(|(_, value)| value.into_owned());
    let in_query = presigned.next();
    let in_header = headers.get_all(http::header::AUTHORIZATION).iter().collect::<Vec<_>>();
    match (in_header.as_slice(), in_query) {
        ([], None) => Ok(None),
        ([one], None) => one
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("AWS4-HMAC-SHA256"))
            .and_then(|rest| rest.split(',').find_map(|part| part.trim().strip_prefix("Credential=")))
            .and_then(Credential::parse)
            .map(Some)
            .ok_or_else(Refusal::incomplete_signature),
        ([], Some(one)) if presigned.next().is_none() => {
            Credential::parse(&one).map(Some).ok_or_else(Refusal::incomplete_signature)
        }
        _ => Err(Refusal::incomplete_signature()),
    }
}

/// The tables that a DynamoDB request names, for fault rules.
fn tables(body: &[u8]) -> Vec<String> {
    let Ok(request) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let named = |value: &Value| value.get("TableName").and_then(Value::as_str).map(str::to_owned);
    let mut tables: Vec<String> = named(&request).into_iter().collect();
    if let Some(batch) = request.get("RequestItems").and_then(Value::as_object) {
        tables.extend(batch.keys().cloned());
    }
    let steps = request.get("TransactItems").and_then(Value::as_array).into_iter().flatten();
    tables.extend(steps.filter_map(Value::as_object).flat_map(|step| step.values().filter_map(named)));
    tables.dedup();
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "ASIAEXAMPLE/20261124/eu-central-1/sts/aws4_request";

    fn request(uri: &str, headers: &[(&str, &str)], body: &str) -> Request<bytes::Bytes> {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(bytes::Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn signed(scope: &str) -> String {
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00")
    }

    #[test]
    fn sts_is_known_by_its_action_whatever_the_scope_says() {
        let authorization = signed("ASIAEXAMPLE/20261124/eu-central-1/s3/aws4_request");
        let read = Operation::read(&request(
            "/",
            &[("authorization", &authorization), ("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fteam%2Fapp",
        ))
        .unwrap();
        assert_eq!(read.service, Service::Sts);
        assert_eq!(read.credential.unwrap().service, "s3");
        assert_eq!(read.parameters.get("RoleArn"), Some("arn:aws:iam::123456789012:role/team/app"));
    }

    #[test]
    fn the_detail_names_role_and_tables() {
        let authorization = signed(SCOPE);
        let sts = request("/", &[("authorization", &authorization)], "Action=AssumeRole&RoleArn=a:role/team/app");
        assert_eq!(Operation::read(&sts).unwrap().detail(sts.body()), "AssumeRole app");
        let batch = request(
            "/",
            &[("x-amz-target", "DynamoDB_20120810.BatchGetItem")],
            r#"{"RequestItems":{"directory":{"Keys":[]}}}"#,
        );
        assert_eq!(Operation::read(&batch).unwrap().detail(batch.body()), "BatchGetItem directory");
        let transaction = request(
            "/",
            &[("x-amz-target", "DynamoDB_20120810.TransactWriteItems")],
            r#"{"TransactItems":[{"Put":{"TableName":"directory"}},{"ConditionCheck":{"TableName":"directory"}}]}"#,
        );
        assert_eq!(Operation::read(&transaction).unwrap().detail(transaction.body()), "TransactWriteItems directory");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let authorization = signed(SCOPE);
        let twice =
            request("/?RoleSessionName=a", &[("authorization", &authorization)], "Action=AssumeRole&RoleSessionName=b");
        assert_eq!(Operation::read(&twice), Err(Refusal::duplicate_parameter()));
        let both = request(&format!("/?X-Amz-Credential={SCOPE}"), &[("authorization", &authorization)], "");
        assert_eq!(Operation::read(&both), Err(Refusal::incomplete_signature()));
        for other in ["AWS test:sig", "Bearer x", "AWS4-HMAC-SHA256 Credential=test/2026", "AWS4-HMAC-SHA256"] {
            let read = Operation::read(&request("/", &[("authorization", other)], ""));
            assert_eq!(read, Err(Refusal::incomplete_signature()), "{other}");
        }
        let json = request("/", &[("x-amz-target", "AWSSecurityTokenServiceV20110615.AssumeRole")], "{}");
        assert_eq!(Operation::read(&json), Err(Refusal::unknown_protocol()));
    }

    #[test]
    fn root_keys_are_those_of_ministack() {
        for (key, root) in [("test", true), ("123456789012", true), ("ASIAEXAMPLE", false), ("12345678901", false)] {
            let scope = format!("{key}/20261124/eu-central-1/sts/aws4_request");
            assert_eq!(Credential::parse(&scope).unwrap().is_root(), root, "{key}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_read_or_refused(query in "[ -~]{0,80}", authorization in "[ -~]{0,120}", body in ".{0,200}") {
            let query = percent_encoding::utf8_percent_encode(&query, percent_encoding::NON_ALPHANUMERIC).to_string();
            let request = request(&format!("/?{query}"), &[("authorization", &authorization)], &body);
            if let Ok(read) = Operation::read(&request) {
                let _ = read.detail(request.body());
            }
        }
    }
}
