//! Which paths of the real metadata service pods may read through the agent.

use regex::{Regex, RegexBuilder};

use super::path::MetadataPath;

/// What SDKs ask for besides credentials, in every version. None of it proves or reveals more than where the pod runs.
const DEFAULT: [&str; 5] = [
    "/meta-data/placement/region",
    "/meta-data/placement/availability-zone",
    "/meta-data/instance-id",
    "/meta-data/instance-type",
    IDENTITY_DOCUMENT,
];
const IDENTITY_DOCUMENT: &str = "/dynamic/instance-identity/document";
/// What is never passed on, with everything below it: the node's secrets, its credentials, and what signs in its name.
const NEVER: [&str; 4] = ["/user-data", "/api", "/meta-data/iam", "/meta-data/identity-credentials"];
/// Never either, but for the document: its signatures are proofs of being the node that can be replayed, and AWS adds kinds.
const IDENTITY: &str = "/dynamic/instance-identity";
/// The compiled size of one expression: far more than a list of paths needs.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// An expression of `--allow-metadata`, matched against the whole path.
#[derive(Clone, Debug)]
pub struct AllowedPath(Regex);

impl std::str::FromStr for AllowedPath {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        // Compiled alone first, so that an unbalanced parenthesis cannot end the group around it.
        Regex::new(text)?;
        RegexBuilder::new(&format!("^(?:{text})$")).size_limit(MAX_REGEX_BYTES).build().map(Self)
    }
}

/// The default list and what `--allow-metadata` adds to it.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<AllowedPath>);

impl AllowList {
    /// The default list, widened by `more`.
    pub fn new(more: Vec<AllowedPath>) -> Self {
        Self(more)
    }

    /// Whether `path` may be passed on. What is never passed on wins over everything.
    pub fn permits(&self, path: &MetadataPath) -> bool {
        !is_never(path.rest())
            && (DEFAULT.contains(&path.rest()) || self.0.iter().any(|allowed| allowed.0.is_match(path.as_str())))
    }
}

/// The default path that this one is, in whatever version: what does not change while the instance runs.
pub(super) fn constant(path: &MetadataPath) -> Option<&'static str> {
    DEFAULT.into_iter().find(|constant| *constant == path.rest())
}

/// Letters are folded: EC2 tells them apart today, and this must not depend on it.
fn is_never(rest: &str) -> bool {
    let rest = rest.to_ascii_lowercase();
    let is_at_or_below =
        |top: &str| rest.strip_prefix(top).is_some_and(|tail| tail.is_empty() || tail.starts_with('/'));
    NEVER.iter().any(|never| is_at_or_below(never)) || (is_at_or_below(IDENTITY) && rest != IDENTITY_DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::super::path::Route;
    use super::*;

    fn permits(list: &AllowList, path: &str) -> bool {
        match Route::parse(path) {
            Route::Other(path) => list.permits(&path),
            _ => false,
        }
    }

    #[test]
    fn the_default_list_is_exact_in_every_version() {
        let list = AllowList::default();
        for path in DEFAULT {
            assert!(permits(&list, &format!("/latest{path}")), "{path}");
            assert!(permits(&list, &format!("/2021-03-23{path}")), "{path}");
            assert!(!permits(&list, &format!("/latest{path}/")), "{path}/");
            assert!(!permits(&list, &format!("/latest{path}x")), "{path}x");
        }
        for path in ["/latest/", "/latest/meta-data/", "/latest/meta-data/hostname", "/latest/meta-data/local-ipv4"] {
            assert!(!permits(&list, path), "{path}");
        }
    }

    #[test]
    fn nothing_widens_it_to_what_is_never_passed_on() {
        let everything = AllowList::new(vec![".*".parse().unwrap()]);
        assert!(permits(&everything, "/latest/meta-data/hostname"));
        for path in [
            "/latest/user-data",
            "/latest/user-data/",
            "/latest/User-Data",
            "/latest//user-data",
            "/2009-04-04/user-data",
            "/1.0/user-data",
            "/latest/meta-data/iam",
            "/latest/meta-data/iam/",
            "/latest/meta-data/iam/security-credentials-extended/",
            "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
            "/latest/meta-data/identity-credentials/ec2/info",
            "/latest/meta-data/Identity-Credentials",
            "/latest/dynamic/instance-identity/signature",
            "/latest/dynamic/instance-identity/pkcs7",
            "/latest/dynamic/instance-identity/rsa2048",
            "/latest/dynamic/instance-identity/RSA2048",
            "/latest/dynamic/instance-identity/some-later-proof",
            "/latest/dynamic/instance-identity/",
            "/latest/api/token/",
        ] {
            assert!(!permits(&everything, path), "{path}");
        }
    }

    #[test]
    fn an_expression_matches_the_whole_path_and_is_one_group() {
        let list = AllowList::new(vec!["/latest/meta-data/hostname|/latest/meta-data/mac".parse().unwrap()]);
        assert!(permits(&list, "/latest/meta-data/hostname"));
        assert!(permits(&list, "/latest/meta-data/mac"));
        assert!(!permits(&list, "/latest/meta-data/hostname/x"));
        assert!(!permits(&list, "/latest/meta-data/macs"));
        assert!(!permits(&list, "/2021-03-23/meta-data/mac"));
        assert!("a)|(b".parse::<AllowedPath>().is_err());
    }
}
