//! Names of Kubernetes and EC2 objects, each checked once where it enters and never again.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// A text that is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{value:?} is no {what}: {expected}")]
pub struct InvalidName {
    /// What the text should have named, for people.
    pub what: &'static str,
    /// The text, cut to 80 characters so that no input can flood a log.
    pub value: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), expected }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` and keeps it unchanged.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidName::new($what, text, $expected)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use name;

name!(
    /// A Kubernetes namespace: an RFC 1123 label.
    Namespace, "namespace", "expected 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit", is_label
);
name!(
    /// A pod's name: an RFC 1123 subdomain.
    PodName, "pod name",
    "expected 1 to 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit", is_subdomain
);
name!(
    /// A node's name in Kubernetes: an RFC 1123 subdomain.
    NodeName, "node name",
    "expected 1 to 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit", is_subdomain
);
name!(
    /// A service account's name: an RFC 1123 subdomain.
    ServiceAccount, "service account name",
    "expected 1 to 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit", is_subdomain
);
name!(
    /// The UID of a Kubernetes object. A static pod's is a hash and not a UUID, so only its alphabet is checked.
    Uid, "object UID", "expected 1 to 64 of letters, digits and -",
    |s| within(s, 1, 64) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
);
name!(
    /// A cluster's name, as EKS allows it.
    ClusterName, "cluster name", "expected 1 to 100 of letters, digits, - and _, beginning with a letter or digit",
    |s| within(s, 1, 100)
        && s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
);
name!(
    /// An EC2 instance's id: `i-` and 8 or 17 hexadecimal digits, small letters.
    InstanceId, "instance id", "expected i- and 8 or 17 digits of 0-9a-f",
    |s| s.strip_prefix("i-").is_some_and(|hex| {
        (hex.len() == 8 || hex.len() == 17) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
);
name!(
    /// An IAM role's unique id, which a deleted and re-created role does not share: `AROA` and capital letters or digits.
    RoleId, "role id", "expected AROA and 12 to 124 more of A-Z and 0-9",
    |s| within(s, 16, 128) && s.starts_with("AROA")
        && s.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
);

fn within(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.len())
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    within(text, 1, 63)
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    // Parts may be longer than 63 here: Kubernetes limits only the whole.
    let part_ok = |part: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    within(text, 1, 253) && text.split('.').all(part_ok)
}

/// Which pod: its namespace, its name and the UID that tells it from others of that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub name: PodName,
    /// The pod's UID.
    pub uid: Uid,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_accepts_its_own_and_refuses_the_rest() {
        for (text, ok) in [
            ("default", true),
            ("kube-system", true),
            ("a", true),
            ("", false),
            ("A", false),
            ("-a", false),
            ("a-", false),
            ("a.b", false),
            ("a_b", false),
            ("a/b", false),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(Namespace::parse(text).is_ok(), ok, "namespace {text:?}");
        }
        for (text, ok) in [
            ("web-0", true),
            ("a.b", true),
            (".a", false),
            ("a..b", false),
            ("a.", false),
            ("a/b", false),
            (&"a".repeat(254), false),
        ] {
            assert_eq!(PodName::parse(text).is_ok(), ok, "pod {text:?}");
        }
        for (text, ok) in [
            ("i-0123456789abcdef0", true),
            ("i-01234567", true),
            ("i-0123456789ABCDEF0", false),
            ("i-0", false),
            ("i-0123456789abcdef01", false),
            ("mi-01234567", false),
            ("", false),
            ("i-é1234567", false),
        ] {
            assert_eq!(InstanceId::parse(text).is_ok(), ok, "instance {text:?}");
        }
        assert!(RoleId::parse("AROAEXAMPLEEXAMPLE12").is_ok());
        assert!(RoleId::parse("AIDAEXAMPLEEXAMPLE12").is_err());
        assert!(ClusterName::parse("prod_1-a").is_ok());
        assert!(ClusterName::parse("prod/1").is_err());
    }

    #[test]
    fn an_error_names_the_text_and_what_was_expected() {
        assert_eq!(
            InstanceId::parse("node-1").unwrap_err().to_string(),
            "\"node-1\" is no instance id: expected i- and 8 or 17 digits of 0-9a-f"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_unchanged_or_refused(text in ".{0,300}") {
            if let Ok(name) = PodName::parse(&text) { prop_assert_eq!(name.as_str(), text.as_str()); }
            if let Ok(name) = Uid::parse(&text) { prop_assert_eq!(name.as_str(), text.as_str()); }
            if let Ok(name) = InstanceId::parse(&text) { prop_assert_eq!(name.as_str(), text.as_str()); }
        }
    }
}
