//! The parameters of AssumeRole, held to the constraints of STS's own model.

use std::collections::BTreeMap;

use super::operation::Parameters;
use super::refusal::Refusal;

/// What STS uses where the request does not say.
const DEFAULT_DURATION: u32 = 3600;
/// A session of a session lasts no longer, whatever the role permits.
const CHAINED_DURATION: u32 = 3600;
const MAX_TAGS: usize = 50;

/// A request that satisfies the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AssumeRole {
    pub(super) role_arn: String,
    pub(super) session_name: String,
    /// Seconds.
    pub(super) duration: u32,
    pub(super) source_identity: Option<String>,
}

impl AssumeRole {
    /// Checks every constraint and names all that are violated, as STS does.
    pub(super) fn read(parameters: &Parameters) -> Result<Self, Refusal> {
        let mut found = Violations::default();
        let role_arn = found.text(parameters, &ROLE_ARN).unwrap_or_default().to_owned();
        let session_name = found.text(parameters, &SESSION_NAME).unwrap_or_default().to_owned();
        let source_identity = found.text(parameters, &SOURCE_IDENTITY).map(str::to_owned);
        found.text(parameters, &EXTERNAL_ID);
        let duration = found.duration(parameters.get("DurationSeconds"))?;
        found.tags(parameters)?;
        found.end()?;
        Ok(Self { role_arn, session_name, duration, source_identity })
    }

    /// What depends on the role and on the caller. STS judges it after it has found the caller authorised.
    pub(super) fn check_duration(&self, longest: u32, chained: bool) -> Result<(), Refusal> {
        if chained && self.duration > CHAINED_DURATION {
            return Err(Refusal::validation(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            ));
        }
        if self.duration > longest {
            return Err(Refusal::validation(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            ));
        }
        Ok(())
    }
}

/// A text's constraints in the model.
struct Constraint {
    parameter: &'static str,
    member: &'static str,
    required: bool,
    length: (usize, usize),
    pattern: &'static str,
    allowed: fn(char) -> bool,
}

const ROLE_ARN: Constraint = Constraint {
    parameter: "RoleArn",
    member: "roleArn",
    required: true,
    length: (20, 2048),
    pattern: r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+",
    allowed: |c| !c.is_control(),
};
const SESSION_NAME: Constraint = Constraint {
    parameter: "RoleSessionName",
    member: "roleSessionName",
    required: true,
    length: (2, 64),
    pattern: r"[\w+=,.@-]*",
    allowed: is_name_char,
};
const SOURCE_IDENTITY: Constraint = Constraint {
    parameter: "SourceIdentity",
    member: "sourceIdentity",
    required: false,
    length: (2, 64),
    pattern: r"[\w+=,.@-]*",
    allowed: is_name_char,
};
const EXTERNAL_ID: Constraint = Constraint {
    parameter: "ExternalId",
    member: "externalId",
    required: false,
    length: (2, 1224),
    pattern: r"[\w+=,.@:\/-]*",
    allowed: |c| is_name_char(c) || matches!(c, ':' | '/'),
};
const TAG_PATTERN: &str = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]";

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '=' | ',' | '.' | '@' | '-')
}

/// Letters, separators and digits of any script, and a few signs.
fn is_tag_char(c: char) -> bool {
    let separator = c.is_whitespace() && !c.is_control();
    c.is_alphanumeric() || separator || matches!(c, '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@')
}

/// What is wrong with a request, in STS's words.
#[derive(Default)]
struct Violations(Vec<String>);

impl Violations {
    fn add(&mut self, value: &str, member: &str, constraint: &str) {
        self.0.push(format!("Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"));
    }

    fn text<'a>(&mut self, parameters: &'a Parameters, constraint: &Constraint) -> Option<&'a str> {
        let Some(value) = parameters.get(constraint.parameter) else {
            if constraint.required {
                let member = constraint.member;
                self.0.push(format!("Value at '{member}' failed to satisfy constraint: Member must not be null"));
            }
            return None;
        };
        if !value.chars().all(constraint.allowed) {
            let pattern = format!("Member must satisfy regular expression pattern: {}", constraint.pattern);
            self.add(value, constraint.member, &pattern);
        }
        self.length(value, constraint.member, constraint.length);
        Some(value)
    }

    fn length(&mut self, value: &str, member: &str, (least, most): (usize, usize)) {
        let length = value.chars().count();
        if length > most {
            self.add(value, member, &format!("Member must have length less than or equal to {most}"));
        }
        if length < least {
            self.add(value, member, &format!("Member must have length greater than or equal to {least}"));
        }
    }

    fn duration(&mut self, text: Option<&str>) -> Result<u32, Refusal> {
        let Some(text) = text else { return Ok(DEFAULT_DURATION) };
        let Ok(seconds) = text.parse::<i64>() else {
            return Err(Refusal::validation(format!("{text} is no integer for DurationSeconds")));
        };
        if seconds > 43200 {
            self.add(text, "durationSeconds", "Member must have value less than or equal to 43200");
        }
        if seconds < 900 {
            self.add(text, "durationSeconds", "Member must have value greater than or equal to 900");
        }
        Ok(u32::try_from(seconds).unwrap_or(DEFAULT_DURATION))
    }

    fn tags(&mut self, parameters: &Parameters) -> Result<(), Refusal> {
        let mut tags: BTreeMap<u32, (Option<&str>, &str)> = BTreeMap::new();
        for (number, field, value) in parameters.members("Tags") {
            let tag = tags.entry(number).or_default();
            match field {
                "Key" => tag.0 = Some(value),
                "Value" => tag.1 = value,
                _ => {}
            }
        }
        // STS numbers from 1 without a gap; a reader that stops at a gap would never see the rest.
        if tags.keys().zip(1..).any(|(number, expected)| *number != expected) {
            return Err(Refusal::validation("The members of 'tags' must be numbered from 1 without a gap"));
        }
        let transitive = parameters.members("TransitiveTagKeys").count();
        for (count, member) in [(tags.len(), "tags"), (transitive, "transitiveTagKeys")] {
            if count > MAX_TAGS {
                self.add("[...]", member, "Member must have length less than or equal to 50");
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for (number, (key, value)) in tags {
            self.tag(number, key.unwrap_or_default(), value);
            if !seen.insert(key.unwrap_or_default().to_lowercase()) {
                return Err(Refusal::duplicate_tag());
            }
        }
        Ok(())
    }

    fn tag(&mut self, number: u32, key: &str, value: &str) {
        for (text, part, length, repeat) in [(key, "key", (1, 128), '+'), (value, "value", (0, 256), '*')] {
            let member = format!("tags.{number}.member.{part}");
            if !text.chars().all(is_tag_char) {
                let pattern = format!("Member must satisfy regular expression pattern: {TAG_PATTERN}{repeat}");
                self.add(text, &member, &pattern);
            }
            self.length(text, &member, length);
        }
    }

    fn end(self) -> Result<(), Refusal> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(Refusal::validation(format!("1 validation error detected: {}", self.0.concat()))),
            n => Err(Refusal::validation(format!("{n} validation errors detected: {}", self.0.join("; ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::Operation;
    use super::*;

    const BASE: &str = "Action=AssumeRole&RoleArn=arn:aws:iam::123456789012:role/app&RoleSessionName=web-0";

    fn read(form: &str) -> Result<AssumeRole, Refusal> {
        let body = bytes::Bytes::copy_from_slice(form.as_bytes());
        AssumeRole::read(&Operation::read(&http::Request::post("/").body(body).unwrap())?.parameters)
    }

    fn tags(count: usize) -> String {
        (1..=count).fold(BASE.to_owned(), |form, n| format!("{form}&Tags.member.{n}.Key=k{n}&Tags.member.{n}.Value=v"))
    }

    #[test]
    fn a_right_request_is_read() {
        let form = format!("{BASE}&DurationSeconds=900&SourceIdentity=web.prod&ExternalId=a:/b");
        assert_eq!(
            read(&form),
            Ok(AssumeRole {
                role_arn: "arn:aws:iam::123456789012:role/app".into(),
                session_name: "web-0".into(),
                duration: 900,
                source_identity: Some("web.prod".into()),
            })
        );
        assert_eq!(read(BASE).unwrap().duration, 3600);
        assert!(read(&tags(50)).is_ok());
    }

    #[test]
    fn each_constraint_is_refused_in_stss_words() {
        let one = |rest: &str| format!("1 validation error detected: {rest}");
        for (more, expected) in [
            (
                "&DurationSeconds=899",
                one(
                    "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
                ),
            ),
            (
                "&DurationSeconds=43201",
                one(
                    "Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
                ),
            ),
            (
                "&SourceIdentity=a",
                one(
                    "Value 'a' at 'sourceIdentity' failed to satisfy constraint: Member must have length greater than or equal to 2",
                ),
            ),
            (
                "&SourceIdentity=a%20b",
                one(
                    r"Value 'a b' at 'sourceIdentity' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
                ),
            ),
            (
                "&ExternalId=a",
                one(
                    "Value 'a' at 'externalId' failed to satisfy constraint: Member must have length greater than or equal to 2",
                ),
            ),
            (
                "&Tags.member.1.Key=&Tags.member.1.Value=v",
                one(
                    "Value '' at 'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1",
                ),
            ),
            (
                "&Tags.member.1.Key=a%23&Tags.member.1.Value=v",
                one(
                    r"Value 'a#' at 'tags.1.member.key' failed to satisfy constraint: Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+",
                ),
            ),
            ("&Tags.member.2.Key=a", "The members of 'tags' must be numbered from 1 without a gap".into()),
        ] {
            assert_eq!(read(&format!("{BASE}{more}")), Err(Refusal::validation(expected)), "{more}");
        }
        assert_eq!(
            read(&tags(51)),
            Err(Refusal::validation(one(
                "Value '[...]' at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50"
            )))
        );
        let duplicate = format!("{BASE}&Tags.member.1.Key=Team&Tags.member.2.Key=team");
        assert_eq!(read(&duplicate), Err(Refusal::duplicate_tag()));
    }

    #[test]
    fn all_violations_are_named_at_once() {
        let form = format!("Action=AssumeRole&RoleSessionName={}", "s".repeat(65));
        assert_eq!(
            read(&form).unwrap_err().to_string(),
            format!(
                "ValidationError: 2 validation errors detected: Value at 'roleArn' failed to satisfy constraint: Member \
                 must not be null; Value '{}' at 'roleSessionName' failed to satisfy constraint: Member must have length \
                 less than or equal to 64",
                "s".repeat(65)
            )
        );
    }

    #[test]
    fn durations_are_bounded_by_role_and_chain() {
        let hour = read(&format!("{BASE}&DurationSeconds=3600")).unwrap();
        let two = read(&format!("{BASE}&DurationSeconds=7200")).unwrap();
        assert_eq!(hour.check_duration(3600, true), Ok(()));
        assert_eq!(two.check_duration(43200, false), Ok(()));
        assert!(two.check_duration(3600, false).unwrap_err().to_string().contains("MaxSessionDuration"));
        assert!(two.check_duration(43200, true).unwrap_err().to_string().contains("role chaining"));
    }

    proptest::proptest! {
        #[test]
        fn an_accepted_name_is_one_that_sts_accepts(name in ".{0,70}") {
            let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
            let form = format!("Action=AssumeRole&RoleArn=arn:aws:iam::123456789012:role/app&RoleSessionName={encoded}");
            let right = (2..=64).contains(&name.len()) && name.chars().all(is_name_char);
            proptest::prop_assert_eq!(read(&form).is_ok(), right);
        }
    }
}
