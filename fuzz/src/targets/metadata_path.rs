//! The path of a pod's request: `/latest/meta-data/iam/security-credentials/app`.

use std::sync::LazyLock;

use model::arn::RoleArn;
use node_agent::metadata::{AllowList, Route};
use percent_encoding::percent_decode_str;

use crate::agent::assert_may_be_passed_on;
use crate::text::text;

/// As wide as an operator can make it.
static EVERYTHING: LazyLock<AllowList> =
    LazyLock::new(|| AllowList::new(vec![".*".parse().expect("a regular expression")]));
static DEFAULT: LazyLock<AllowList> = LazyLock::new(AllowList::default);
static ROLE: LazyLock<RoleArn> =
    LazyLock::new(|| RoleArn::parse("arn:aws:iam::123456789012:role/team/app").expect("an ARN"));

const DEFAULT_PATHS: [&str; 5] = [
    "meta-data/placement/region",
    "meta-data/placement/availability-zone",
    "meta-data/instance-id",
    "meta-data/instance-type",
    "dynamic/instance-identity/document",
];

pub(super) fn run(input: &[u8]) {
    let Some(path) = text(input) else { return };
    // What a simpler reader makes of it: the parts between slashes, however many there are.
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (Route::parse(path), parts.as_slice()) {
        (Route::Unknown, _) => {}
        (Route::Token, parts) => assert_eq!(parts, ["latest", "api", "token"]),
        (Route::DatedToken, parts) => {
            assert!(matches!(parts, [version, "api", "token"] if is_dated(version)), "{parts:?}");
        }
        (Route::RoleList, parts) => {
            assert!(matches!(parts, [version, "meta-data", "iam", "security-credentials"] if is_version(version)));
        }
        (Route::InstanceProfile, parts) => {
            assert!(matches!(parts, [version, "meta-data", "iam", "info"] if is_version(version)));
        }
        (Route::Role(role), [version, "meta-data", "iam", "security-credentials", asked @ ..]) => {
            assert!(is_version(version) && !asked.is_empty());
            if role.is(&ROLE) {
                let asked = asked.join("/");
                let asked = percent_decode_str(&asked).decode_utf8().expect("a role's text");
                assert!([ROLE.name(), ROLE.path_and_name(), ROLE.as_str()].contains(&&*asked), "{asked:?}");
            }
        }
        (Route::Other(other), [version, rest @ ..]) => {
            assert!(is_version(version));
            assert_eq!(Route::parse(other.as_str()), Route::Other(other.clone()), "canonical stays as it is");
            let canonical: Vec<&str> = other.as_str().split('/').filter(|part| !part.is_empty()).collect();
            assert_eq!(canonical, parts, "another path than was asked for");
            if EVERYTHING.permits(&other) {
                assert_may_be_passed_on(other.as_str());
            }
            assert_eq!(DEFAULT.permits(&other), is_default(rest) && !path.ends_with('/'), "{other:?}");
        }
        (route, _) => unreachable!("{route:?} of {path:?}"),
    }
}

fn is_default(rest: &[&str]) -> bool {
    DEFAULT_PATHS.contains(&&*rest.join("/"))
}

fn is_version(version: &str) -> bool {
    version == "latest" || is_dated(version)
}

fn is_dated(version: &str) -> bool {
    version == "1.0" || (version.len() == 10 && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
}
