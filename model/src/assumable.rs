//! The issuer's own list of roles for a cluster: what no annotation, and no cluster administrator, can reach beyond.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::arn::{AccountId, Partition, RoleArn};
use crate::pattern::Glob;

/// The roles that the issuer may assume for a cluster: IAM ARN patterns, the very strings of its IAM policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct AssumableRoles(Vec<RolePattern>);

#[derive(Clone, Debug, PartialEq)]
struct RolePattern {
    text: String,
    partition: Glob,
    account: Glob,
    path_and_name: Glob,
}

/// Why a list is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadAssumableRoles {
    /// It names nothing.
    #[error("the list is empty: name the roles that pods may have, such as arn:aws:iam::123456789012:role/pods/*")]
    Empty,
    /// It names everything.
    #[error(
        "{0:?} stands for every role there is: name an account or a path, such as arn:aws:iam::123456789012:role/pods/*"
    )]
    Everything(String),
    /// It is no pattern of role ARNs.
    #[error(
        "{0:?} is no pattern of role ARNs: expected arn:PARTITION:iam::ACCOUNT:role/PATH/NAME, with * and ? as in IAM"
    )]
    NotAnArn(String),
}

impl AssumableRoles {
    /// Parses the patterns.
    pub fn parse(patterns: &[impl AsRef<str>]) -> Result<Self, BadAssumableRoles> {
        if patterns.is_empty() {
            return Err(BadAssumableRoles::Empty);
        }
        patterns.iter().map(|pattern| RolePattern::parse(pattern.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `role` is on the list.
    pub fn contains(&self, role: &RoleArn) -> bool {
        self.0.iter().any(|pattern| pattern.matches(role))
    }

    /// The patterns as they were written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| pattern.text.as_str())
    }
}

impl TryFrom<Vec<String>> for AssumableRoles {
    type Error = BadAssumableRoles;

    fn try_from(patterns: Vec<String>) -> Result<Self, BadAssumableRoles> {
        Self::parse(&patterns)
    }
}

impl From<AssumableRoles> for Vec<String> {
    fn from(roles: AssumableRoles) -> Self {
        roles.0.into_iter().map(|pattern| pattern.text).collect()
    }
}

impl RolePattern {
    fn parse(text: &str) -> Result<Self, BadAssumableRoles> {
        let not_an_arn = || BadAssumableRoles::NotAnArn(text.chars().take(200).collect());
        // No role has a white space, and a pattern with one at its end would be read in two ways.
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(not_an_arn());
        }
        if !text.is_empty() && text.bytes().all(|b| b == b'*') {
            return Err(BadAssumableRoles::Everything(text.to_owned()));
        }
        // A wildcard does not reach over the colons of the first five parts, in IAM as here.
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let &["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return Err(not_an_arn()) };
        let rest = resource.strip_prefix("role/").filter(|rest| !rest.is_empty()).ok_or_else(not_an_arn)?;
        let wild = |part: &str| part.contains(['*', '?']);
        if !(wild(partition) || Partition::parse(partition).is_ok())
            || !(wild(account) || AccountId::parse(account).is_ok())
        {
            return Err(not_an_arn());
        }
        let any = |part: &str| part.bytes().all(|b| b == b'*' || b == b'?');
        if any(account) && any(rest) {
            return Err(BadAssumableRoles::Everything(text.to_owned()));
        }
        let glob = |part: &str| Glob::parse(part).map_err(|_| not_an_arn());
        Ok(Self {
            text: text.to_owned(),
            partition: glob(partition)?,
            account: glob(account)?,
            path_and_name: glob(rest)?,
        })
    }

    fn matches(&self, role: &RoleArn) -> bool {
        self.partition.matches(role.partition())
            && self.account.matches(role.account())
            && self.path_and_name.matches(role.path_and_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(pattern: &str, role: &str) -> bool {
        AssumableRoles::parse(&[pattern]).unwrap().contains(&RoleArn::parse(role).unwrap())
    }

    #[test]
    fn wildcards_are_iams() {
        for (pattern, role, expected) in [
            ("arn:aws:iam::123456789012:role/app", "arn:aws:iam::123456789012:role/app", true),
            ("arn:aws:iam::123456789012:role/app", "arn:aws:iam::123456789012:role/App", false),
            ("arn:aws:iam::123456789012:role/pods/*", "arn:aws:iam::123456789012:role/pods/a/b", true),
            ("arn:aws:iam::123456789012:role/pods/*", "arn:aws:iam::123456789012:role/admin", false),
            ("arn:aws:iam::*:role/pods/*", "arn:aws:iam::999999999999:role/pods/app", true),
            ("arn:aws:iam::123456789012:role/app-?", "arn:aws:iam::123456789012:role/app-1", true),
            ("arn:aws:iam::123456789012:role/app-?", "arn:aws:iam::123456789012:role/app-12", false),
            ("arn:aws:iam::123456789012:role/*", "arn:aws:iam::999999999999:role/app", false),
            ("arn:aws:iam::123456789012:role/a.c", "arn:aws:iam::123456789012:role/abc", false),
        ] {
            assert_eq!(contains(pattern, role), expected, "{pattern} on {role}");
        }
    }

    #[test]
    fn an_empty_or_boundless_list_is_refused() {
        assert_eq!(AssumableRoles::parse(&[] as &[&str]), Err(BadAssumableRoles::Empty));
        for everything in
            ["*", "**", "arn:aws:iam::*:role/*", "arn:*:iam::*:role/**", "arn:aws:iam::????????????:role/*"]
        {
            assert_eq!(AssumableRoles::parse(&[everything]), Err(BadAssumableRoles::Everything(everything.into())));
        }
        for wrong in [
            "",
            "app",
            "arn:aws:iam::123456789012:user/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::12:role/x",
            "arn:aws:iam:*:123456789012:role/x",
            "arn:*",
            "arn:aws:*:*:*:*",
            "* ",
            "arn:aws:iam::*:role/* ",
            "arn:aws:iam::123456789012:role/app\n",
        ] {
            assert_eq!(AssumableRoles::parse(&[wrong]), Err(BadAssumableRoles::NotAnArn(wrong.into())), "{wrong}");
        }
        assert!(serde_json::from_str::<AssumableRoles>("[]").is_err());
    }
}
