//! IAM role ARNs, and how the text of an annotation becomes one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name::{InvalidName, name};

name!(
    /// An AWS partition: `aws`, `aws-cn`, `aws-us-gov`, `aws-iso`, `aws-eusc`, ... AWS adds partitions, so the form is
    /// checked and not a list.
    Partition, "AWS partition", "expected aws, or aws- and small letters such as aws-us-gov", |s| {
        s == "aws" || s.strip_prefix("aws-").is_some_and(|rest| {
            rest.len() <= 20 && rest.split('-').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
        })
    }
);
name!(
    /// An AWS account's number: twelve digits.
    AccountId, "AWS account id", "expected 12 digits", |s| s.len() == 12 && s.bytes().all(|b| b.is_ascii_digit())
);

const ROLE_EXPECTED: &str = "expected a role name, a path and name, or arn:PARTITION:iam::ACCOUNT:role/NAME; a name has \
                             1 to 64 of letters, digits and _+=,.@-";
const BASE_EXPECTED: &str = "expected arn:PARTITION:iam::ACCOUNT:role/, a path with a slash at its end may follow";

/// IAM's limit for a role's path, both slashes included.
const MAX_PATH: usize = 512;
/// IAM's limit for a role's name.
const MAX_NAME: usize = 64;

/// The ARN of an IAM role: `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleArn {
    text: Box<str>,
    /// Where the part after `role/` begins in `text`.
    resource: usize,
}

impl RoleArn {
    /// Parses a full ARN.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("IAM role ARN", text, ROLE_EXPECTED);
        let (prefix, resource) = split(text).ok_or_else(invalid)?;
        if !is_path_and_name(resource) {
            return Err(invalid());
        }
        Ok(Self { text: text.into(), resource: prefix.len() })
    }

    /// What an annotation's text means: a full ARN, or a name or path and name completed with `base`.
    /// White space around it is dropped, and so is one slash before a name, as kiam and kube2iam did.
    pub fn resolve(annotation: &str, base: &BaseArn) -> Result<Self, InvalidName> {
        let text = annotation.trim();
        if text.starts_with("arn:") {
            return Self::parse(text);
        }
        let rest = text.strip_prefix('/').unwrap_or(text);
        if !is_path_and_name(rest) {
            return Err(InvalidName::new("IAM role", text, ROLE_EXPECTED));
        }
        Self::parse(&format!("{}{rest}", base.as_str()))
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The role's name without its path: what the metadata service lists.
    pub fn name(&self) -> &str {
        self.path_and_name().rsplit('/').next().unwrap_or_default()
    }

    /// Path and name, without a slash before them: `team/app`.
    pub fn path_and_name(&self) -> &str {
        self.text.get(self.resource..).unwrap_or_default()
    }

    /// The account that owns the role.
    pub fn account(&self) -> &str {
        self.text.split(':').nth(4).unwrap_or_default()
    }

    /// The partition the role lives in.
    pub fn partition(&self) -> &str {
        self.text.split(':').nth(1).unwrap_or_default()
    }

    /// Whether both name the same role. Paths are ignored and letters folded, since IAM lets no two roles of an account
    /// differ in those alone: an alias must not slip past a list of forbidden roles.
    pub fn is_same_role(&self, other: &Self) -> bool {
        self.partition() == other.partition()
            && self.account() == other.account()
            && self.name().eq_ignore_ascii_case(other.name())
    }
}

/// What short role names are completed with: `arn:aws:iam::123456789012:role/`, or deeper, `…:role/team/`.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseArn(Box<str>);

impl BaseArn {
    /// Parses a base ARN; a missing slash at its end is added, as kiam's `--role-base-arn` allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("base ARN", text, BASE_EXPECTED);
        let mut full = text.to_owned();
        if !full.ends_with('/') {
            full.push('/');
        }
        let (_, path) = split(&full).ok_or_else(invalid)?;
        if !(path.is_empty() || is_path(path)) {
            return Err(invalid());
        }
        Ok(Self(full.into()))
    }

    /// The base of all roles of an account.
    pub fn of_account(partition: &Partition, account: &AccountId) -> Self {
        Self(format!("arn:{partition}:iam::{account}:role/").into())
    }

    /// The base as text, with the slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the base in `role`, where `role` lies under it.
    pub fn rest_of<'a>(&self, role: &'a RoleArn) -> Option<&'a str> {
        role.as_str().strip_prefix(&*self.0)
    }
}

/// Splits `arn:PARTITION:iam::ACCOUNT:role/REST` before REST.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.splitn(6, ':');
    let head_ok = parts.next() == Some("arn")
        && parts.next().is_some_and(|p| Partition::parse(p).is_ok())
        && parts.next() == Some("iam")
        && parts.next() == Some("")
        && parts.next().is_some_and(|a| AccountId::parse(a).is_ok());
    let rest = parts.next()?.strip_prefix("role/")?;
    head_ok.then(|| text.split_at(text.len() - rest.len()))
}

fn is_path_and_name(text: &str) -> bool {
    match text.rsplit_once('/') {
        Some((path, name)) => is_name(name) && path.len() + 2 <= MAX_PATH && path.split('/').all(is_path_part),
        None => is_name(text),
    }
}

/// A path without a slash at its beginning and with one at its end.
fn is_path(text: &str) -> bool {
    text.len() < MAX_PATH && text.strip_suffix('/').is_some_and(|path| path.split('/').all(is_path_part))
}

/// IAM takes any printable ASCII in a path. A colon, a wildcard or a white space there would make one ARN read as
/// another pattern, so those are refused; nobody is known to use them.
fn is_path_part(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b':' | b'*' | b'?'))
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b'-'))
}

macro_rules! text_form {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
text_form!(RoleArn);
text_form!(BaseArn);

#[cfg(test)]
mod tests;
