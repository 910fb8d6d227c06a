//! A request's path, read once into a closed list of routes. Whatever is not plainly one of them is unknown.

use std::fmt;

use model::arn::RoleArn;
use percent_encoding::percent_decode_str;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/latest/api/token`.
    Token,
    /// The same of a dated version, which EC2 forbids.
    DatedToken,
    /// `iam/security-credentials`, with and without a slash.
    RoleList,
    /// `iam/security-credentials/<role>`.
    Role(RequestedRole),
    /// `iam/info`.
    InstanceProfile,
    /// Something that only the real service could answer.
    Other(MetadataPath),
    /// Nothing that is ever answered.
    Unknown,
}

/// A role as the pod names it: by name, path and name, or ARN, decoded once. It is only ever compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedRole(String);

impl RequestedRole {
    /// Whether it names `role`.
    pub fn is(&self, role: &RoleArn) -> bool {
        self.is_text(role.name()) || self.is_text(role.path_and_name()) || self.is_text(role.as_str())
    }

    /// Whether it is `text`.
    pub fn is_text(&self, text: &str) -> bool {
        self.0 == text
    }
}

/// A canonical path of the metadata service: a version, then plain segments. No escapes, no empty or dot segments; one slash
/// may end it.
#[derive(Clone, PartialEq, Eq)]
pub struct MetadataPath {
    text: String,
    /// Where the version ends in `text`.
    version_end: usize,
}

impl MetadataPath {
    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What follows the version, beginning with a slash.
    pub fn rest(&self) -> &str {
        self.text.get(self.version_end..).unwrap_or_default()
    }
}

impl fmt::Debug for MetadataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

const ROLES: &str = "/meta-data/iam/security-credentials";

impl Route {
    /// Reads the path of a request in origin form.
    pub fn parse(path: &str) -> Self {
        let Some(canonical) = collapse(path) else { return Self::Unknown };
        let Some(version_end) = version_end(&canonical) else { return Self::Unknown };
        let (version, rest) = canonical.split_at(version_end);
        if let Some(role) = rest.strip_prefix(ROLES).and_then(|tail| tail.strip_prefix('/')).filter(|r| !r.is_empty()) {
            return requested_role(role).map_or(Self::Unknown, Self::Role);
        }
        if !rest.bytes().all(is_plain) || rest.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Self::Unknown;
        }
        match rest {
            "/api/token" if version == "/latest" => Self::Token,
            "/api/token" => Self::DatedToken,
            "/meta-data/iam/info" | "/meta-data/iam/info/" => Self::InstanceProfile,
            _ if rest.trim_end_matches('/') == ROLES => Self::RoleList,
            _ => Self::Other(MetadataPath { text: canonical, version_end }),
        }
    }
}

/// Makes one slash of several, as EC2 does: an endpoint setting that ends with a slash doubles the first.
fn collapse(path: &str) -> Option<String> {
    let mut canonical = String::with_capacity(path.len());
    for character in path.strip_prefix('/').map(|_| path)?.chars() {
        if !character.is_ascii_graphic() {
            return None;
        }
        if !(character == '/' && canonical.ends_with('/')) {
            canonical.push(character);
        }
    }
    Some(canonical)
}

/// Where the version ends: `/latest`, a date, or `/1.0`, the first version's name.
fn version_end(path: &str) -> Option<usize> {
    let after = path.strip_prefix('/')?;
    let version = after.split_once('/')?.0;
    let is_date = version.len() == 10
        && version.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    (version == "latest" || version == "1.0" || is_date).then_some(version.len() + 1)
}

/// The characters of the metadata service's own paths (a MAC address has colons). None of them has a second spelling.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b':')
}

/// Decodes once. What is still encoded then, or is no text of a role, names none.
fn requested_role(text: &str) -> Option<RequestedRole> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    decoded.bytes().all(|byte| byte.is_ascii_graphic()).then(|| RequestedRole(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn other(text: &str, version_end: usize) -> Route {
        Route::Other(MetadataPath { text: text.into(), version_end })
    }

    fn role(text: &str) -> Route {
        Route::Role(RequestedRole(text.into()))
    }

    #[test]
    fn the_paths_of_sdks() {
        for (path, route) in [
            ("/latest/api/token", Route::Token),
            ("/2021-03-23/api/token", Route::DatedToken),
            ("/1.0/api/token", Route::DatedToken),
            ("/latest/meta-data/iam/security-credentials/", Route::RoleList),
            ("/latest/meta-data/iam/security-credentials", Route::RoleList),
            ("/2016-09-02/meta-data/iam/security-credentials/", Route::RoleList),
            ("/1.0/meta-data/iam/security-credentials/", Route::RoleList),
            ("//latest/meta-data/iam/security-credentials/", Route::RoleList),
            ("/latest//meta-data/iam//security-credentials//", Route::RoleList),
            ("/latest/meta-data/iam/security-credentials/app", role("app")),
            ("/latest/meta-data/iam/security-credentials//app", role("app")),
            ("/latest/meta-data/iam/security-credentials/team/app", role("team/app")),
            ("/latest/meta-data/iam/security-credentials/team%2Fapp", role("team/app")),
            (
                "/latest/meta-data/iam/security-credentials/arn:aws:iam::123456789012:role/app",
                role("arn:aws:iam::123456789012:role/app"),
            ),
            (
                "/latest/meta-data/iam/security-credentials/arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fapp",
                role("arn:aws:iam::123456789012:role/app"),
            ),
            ("/latest/meta-data/iam/info", Route::InstanceProfile),
            ("/latest/meta-data/placement/region", other("/latest/meta-data/placement/region", 7)),
            ("/latest/", other("/latest/", 7)),
            ("/latest/user-data", other("/latest/user-data", 7)),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn tricks_lead_nowhere() {
        for path in [
            "",
            "*",
            "/",
            "/latest",
            "latest/api/token",
            "/Latest/api/token",
            "/LATEST/meta-data/iam/security-credentials/",
            "/latest%2Fapi/token",
            "/%6catest/api/token",
            "/latest/%75ser-data",
            "/latest/meta-data/%69am/security-credentials/",
            "/latest/meta-data/iam/security%2Dcredentials/",
            "/latest/./api/token",
            "/latest/../latest/api/token",
            "/latest/meta-data/../user-data",
            "/latest/meta-data/%2e%2e/user-data",
            "/latest/meta-data/iam/..",
            "/latest/meta-data\\iam/info",
            "/latest/meta-data/iam/info;x=1",
            "/latest/meta-data/iam/info%00",
            "/latest/meta-data/iam/security-credentials/app%00",
            "/latest/meta-data/iam/security-credentials/%c0%af",
            "/latest/meta-data/iam/security-credentials/%ff",
            "/latest/meta-data/iam/security-credentials/a%20b",
            "/latest/meta-data/iam/security-credentials/é",
            "/latest\0/api/token",
            "/20210323/api/token",
            "/2021-03-2x/api/token",
            "/2021-03-233/api/token",
            "/v1/meta-data/iam/info",
            "/meta-data/iam/info",
        ] {
            assert_eq!(Route::parse(path), Route::Unknown, "{path:?}");
        }
        // Another spelling is another path, and nothing that is ever allowed.
        assert_eq!(
            Route::parse("/latest/meta-data/iam/security-credentials-extended/"),
            other("/latest/meta-data/iam/security-credentials-extended/", 7)
        );
        assert_eq!(Route::parse("/latest/Meta-Data/iam/info"), other("/latest/Meta-Data/iam/info", 7));
        assert_eq!(Route::parse("/latest/api/token/"), other("/latest/api/token/", 7));
    }

    #[test]
    fn a_role_is_asked_for_by_name_path_and_name_or_arn() {
        let arn = RoleArn::parse("arn:aws:iam::123456789012:role/team/app").unwrap();
        for (asked, is) in [
            ("app", true),
            ("team/app", true),
            ("arn:aws:iam::123456789012:role/team/app", true),
            ("/team/app", false),
            ("team", false),
            ("App", false),
            ("app/", false),
            ("team%2Fapp", false),
            ("arn:aws:iam::999999999999:role/team/app", false),
            ("", false),
        ] {
            assert_eq!(RequestedRole(asked.into()).is(&arn), is, "{asked:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(path in ".{0,200}") {
            let _ = Route::parse(&path);
        }

        #[test]
        fn whatever_is_passed_on_is_plain(path in "/(latest|2021-03-23)(/|//|%2f|\\.|\\.\\.|[a-zA-Z0-9:_-]{1,4}|%[0-9a-f]{2}|;|\\\\){0,12}") {
            if let Route::Other(passed) = Route::parse(&path) {
                prop_assert!(passed.as_str().bytes().all(is_plain));
                prop_assert!(!passed.as_str().contains("//"));
                prop_assert!(passed.as_str().split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert_eq!(Route::parse(passed.as_str()), Route::Other(passed.clone()), "canonical stays as it is");
            }
        }
    }
}
