//! What STS is told for a permitted pod, and the key under which its session is shared.
//!
//! A session is shared exactly by the pods for which STS would be told the same: role, session name, source identity, external
//! id, tags and duration are all in the key, each with its length before it, so that no two sets of values read alike.

use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::arn::RoleArn;
use crate::name::{ClusterName, PodRef, ServiceAccount};

/// STS's limits for session names and source identities: 2 to 64 of letters, digits and `_=,.@+-`.
const NAME_LENGTH: std::ops::RangeInclusive<usize> = 2..=64;
/// Characters of a hash that tell apart names which were cut or changed: 60 bits.
const HASH_LENGTH: usize = 12;
/// STS's limits for external ids.
const EXTERNAL_ID_LENGTH: std::ops::RangeInclusive<usize> = 2..=1224;
/// STS's limit for a tag's value. A pod's name has at most 253 characters, so none is ever cut.
const MAX_TAG_VALUE: usize = 256;
/// Role chaining (a function's role assuming another) ends at an hour, whatever the role allows.
pub const SESSION_DURATION: Duration = Duration::from_hours(1);

/// Whom a session names: the coarser, the fewer calls to STS; the finer, the more CloudTrail and ABAC can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttributionMode {
    /// All pods of a role share a session.
    #[default]
    Role,
    /// The pods of a namespace.
    Namespace,
    /// The pods of a service account.
    ServiceAccount,
    /// Each pod has its own.
    Pod,
}

/// How sessions are attributed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Whom a session names.
    pub mode: AttributionMode,
    /// Whether the facts that the mode tells apart go along as session tags, under EKS Pod Identity's names.
    pub session_tags: bool,
    /// Whether sessions carry a source identity: the name that the mode gives, whatever name the pod asks for.
    pub source_identity: bool,
    /// The cluster's ARN, for the tag `eks-cluster-arn`; without it that tag is left out.
    pub cluster_arn: Option<String>,
}

/// The facts about a pod that a session can name. They come from the directory alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) cluster: &'a ClusterName,
    pub(crate) pod: &'a PodRef,
    pub(crate) service_account: &'a ServiceAccount,
    pub(crate) wanted_session_name: Option<&'a str>,
}

/// Everything that STS is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionSpec {
    /// The role to assume.
    pub role: RoleArn,
    /// The session's name.
    pub session_name: String,
    /// The source identity, where it is configured.
    pub source_identity: Option<String>,
    /// The external id, where an annotation gives one.
    pub external_id: Option<String>,
    /// Session tags, sorted by key.
    pub tags: Vec<(&'static str, String)>,
    /// How long the session lasts.
    pub duration: Duration,
}

impl SessionSpec {
    pub(crate) fn new(role: RoleArn, external_id: Option<String>, subject: Subject<'_>, how: &Attribution) -> Self {
        // A source identity follows the session through every further role, so its author is the deployer and never the pod's.
        let unasked = Subject { wanted_session_name: None, ..subject };
        Self {
            role,
            source_identity: how.source_identity.then(|| session_name(unasked, how.mode)),
            session_name: session_name(subject, how.mode),
            external_id,
            tags: if how.session_tags { tags(subject, how) } else { Vec::new() },
            duration: SESSION_DURATION,
        }
    }

    /// The key under which the session is shared.
    pub fn cache_key(&self) -> CacheKey {
        let mut bytes = Vec::with_capacity(256);
        let mut put = |field: &[u8]| {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field);
        };
        put(self.role.as_str().as_bytes());
        put(self.session_name.as_bytes());
        // An absent value and an empty one are told apart by a field of their own.
        for optional in [&self.source_identity, &self.external_id] {
            put(if optional.is_some() { b"1" } else { b"0" });
            put(optional.as_deref().unwrap_or_default().as_bytes());
        }
        put(&(self.tags.len() as u64).to_be_bytes());
        for (key, value) in &self.tags {
            put(key.as_bytes());
            put(value.as_bytes());
        }
        put(&self.duration.as_secs().to_be_bytes());
        CacheKey(bytes.into())
    }
}

/// Where a session is shared: the length-prefixed encoding of all that STS is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(Box<[u8]>);

impl CacheKey {
    /// The encoding: what a sealed copy is bound to.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its SHA-256 in hexadecimal: the key of the cache table, which tells nothing of external ids.
    pub fn digest_hex(&self) -> String {
        hex(digest(&SHA256, &self.0).as_ref())
    }
}

/// Why an external id cannot be told to STS.
pub(crate) fn external_id_fault(text: &str) -> Option<&'static str> {
    let valid =
        EXTERNAL_ID_LENGTH.contains(&text.len()) && text.bytes().all(|b| is_name_byte(b) || matches!(b, b':' | b'/'));
    (!valid).then_some("2 to 1224 of letters, digits and _+=,.@:/-")
}

fn session_name(subject: Subject<'_>, mode: AttributionMode) -> String {
    match mode {
        AttributionMode::Role => subject
            .wanted_session_name
            .and_then(wanted_name)
            .unwrap_or_else(|| sts_name(&format!("rolecall-{}", subject.cluster))),
        AttributionMode::Namespace => sts_name(&format!("{}.{}", subject.cluster, subject.pod.namespace)),
        AttributionMode::ServiceAccount => {
            sts_name(&format!("{}.{}.{}", subject.cluster, subject.pod.namespace, subject.service_account))
        }
        // The UID is what tells a pod from its successors; the hash of a cut name covers it.
        AttributionMode::Pod => {
            sts_name(&format!("{}.{}.{}", subject.pod.namespace, subject.pod.name, subject.pod.uid))
        }
    }
}

/// The session name that an annotation asks for, or none where it must not be honoured: a name that looks like an instance's
/// would let a pod pass for a node wherever nodes are told by their session names.
fn wanted_name(text: &str) -> Option<String> {
    let text = text.trim();
    let name = if text.is_empty() { return None } else { sts_name(text) };
    // Wider than an instance id's own form: who compares loosely elsewhere must not be fooled either.
    let looks_like_an_instance = name.to_ascii_lowercase().starts_with("i-");
    (NAME_LENGTH.contains(&name.len()) && !looks_like_an_instance).then_some(name)
}

/// `text` as STS takes it. Characters that STS refuses become `-`, a long name is cut; whatever was changed ends in a hash of
/// the whole, so that two texts never become one name.
fn sts_name(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_ascii() && is_name_byte(c as u8) { c } else { '-' }).collect();
    if clean == text && clean.len() <= *NAME_LENGTH.end() {
        return clean;
    }
    let hash = hex(digest(&SHA256, text.as_bytes()).as_ref());
    let kept: String = clean.chars().take(*NAME_LENGTH.end() - HASH_LENGTH - 1).collect();
    let hash: String = hash.chars().take(HASH_LENGTH).collect();
    format!("{kept}-{hash}")
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b'-')
}

/// The tags of EKS Pod Identity, as many of them as the mode tells apart; in the order of their keys.
fn tags(subject: Subject<'_>, how: &Attribution) -> Vec<(&'static str, String)> {
    let within = |level: AttributionMode| how.mode as u8 >= level as u8;
    let fact = |level: AttributionMode, value: &str| within(level).then(|| value.to_owned());
    let facts = [
        ("eks-cluster-arn", how.cluster_arn.clone()),
        ("eks-cluster-name", Some(subject.cluster.to_string())),
        ("kubernetes-namespace", fact(AttributionMode::Namespace, subject.pod.namespace.as_str())),
        ("kubernetes-pod-name", fact(AttributionMode::Pod, subject.pod.name.as_str())),
        ("kubernetes-pod-uid", fact(AttributionMode::Pod, subject.pod.uid.as_str())),
        ("kubernetes-service-account", fact(AttributionMode::ServiceAccount, subject.service_account.as_str())),
    ];
    let present = facts.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
    present.filter(|(_, value)| value.len() <= MAX_TAG_VALUE).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|n| char::from_digit(u32::from(n), 16)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::name::{Namespace, PodName, Uid};

    struct Names(ClusterName, PodRef, ServiceAccount);

    fn names(pod: &str) -> Names {
        let pod = PodRef {
            namespace: Namespace::parse("shop").unwrap(),
            name: PodName::parse(pod).unwrap(),
            uid: Uid::parse("8a1f").unwrap(),
        };
        Names(ClusterName::parse("prod").unwrap(), pod, ServiceAccount::parse("web").unwrap())
    }

    fn spec(names: &Names, wanted: Option<&str>, how: &Attribution) -> SessionSpec {
        let role = RoleArn::parse("arn:aws:iam::123456789012:role/app").unwrap();
        let subject =
            Subject { cluster: &names.0, pod: &names.1, service_account: &names.2, wanted_session_name: wanted };
        SessionSpec::new(role, None, subject, how)
    }

    fn how(mode: AttributionMode) -> Attribution {
        Attribution { mode, session_tags: true, source_identity: true, cluster_arn: Some("arn:c".into()) }
    }

    #[test]
    fn each_mode_names_and_tags_what_it_tells_apart() {
        use AttributionMode::{Namespace, Pod, Role, ServiceAccount};
        for (mode, name, keys) in [
            (Role, "rolecall-prod", vec!["eks-cluster-arn", "eks-cluster-name"]),
            (Namespace, "prod.shop", vec!["eks-cluster-arn", "eks-cluster-name", "kubernetes-namespace"]),
            (
                ServiceAccount,
                "prod.shop.web",
                vec!["eks-cluster-arn", "eks-cluster-name", "kubernetes-namespace", "kubernetes-service-account"],
            ),
            (
                Pod,
                "shop.web-0.8a1f",
                vec![
                    "eks-cluster-arn",
                    "eks-cluster-name",
                    "kubernetes-namespace",
                    "kubernetes-pod-name",
                    "kubernetes-pod-uid",
                    "kubernetes-service-account",
                ],
            ),
        ] {
            let spec = spec(&names("web-0"), Some("ignored-but-in-role-mode"), &how(mode));
            assert_eq!(spec.tags.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys, "{mode:?}");
            assert_eq!(spec.source_identity.as_deref(), Some(name), "{mode:?}");
            if mode != Role {
                assert_eq!(spec.session_name, name);
            }
        }
        assert_eq!(spec(&names("web-0"), None, &how(Role)).session_name, "rolecall-prod");
        let plain = spec(&names("web-0"), None, &Attribution::default());
        assert_eq!((plain.source_identity, plain.tags, plain.duration.as_secs()), (None, vec![], 3600));
    }

    #[test]
    fn a_wanted_name_is_honoured_unless_it_passes_for_a_node() {
        let name = |wanted: &str| spec(&names("web-0"), Some(wanted), &Attribution::default()).session_name;
        assert_eq!(name("batch@night"), "batch@night");
        assert_eq!(name("  batch "), "batch");
        for refused in ["", " ", "x", "i-0123456789abcdef0", "i-01234567", "I-01234567", "i-abcdefgh", "i-anything"] {
            assert_eq!(name(refused), "rolecall-prod", "{refused:?}");
        }
        assert!(name("team a/b").starts_with("team-a-b-"), "{}", name("team a/b"));
        assert_ne!(name("team a/b"), name("team a:b"));
    }

    #[test]
    fn long_names_are_cut_to_64_and_stay_apart() {
        let long = |suffix: &str| {
            let names = names(&format!("{}{suffix}", "p".repeat(200)));
            spec(&names, None, &how(AttributionMode::Pod)).session_name
        };
        assert_eq!(long("a").len(), 64);
        assert_eq!(long("a"), long("a"));
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn external_ids_are_checked_as_sts_would() {
        for ok in ["ab", "a:b/c", "Az09_+=,.@-", &"x".repeat(1224)] {
            assert_eq!(external_id_fault(ok), None, "{ok}");
        }
        for bad in ["", "a", "a b", "é1", &"x".repeat(1225)] {
            assert!(external_id_fault(bad).is_some(), "{bad}");
        }
    }

    fn any_spec() -> impl Strategy<Value = SessionSpec> {
        let optional = || prop::option::of("[a-b]{0,3}");
        (
            prop::sample::select(vec!["a", "b", "ab"]),
            "[a-b]{2,4}",
            optional(),
            optional(),
            prop::collection::vec((prop::sample::select(vec!["k", "kk"]), "[a-b]{0,3}"), 0..3),
            900..903_u64,
        )
            .prop_map(|(role, session_name, source_identity, external_id, tags, secs)| SessionSpec {
                role: RoleArn::parse(&format!("arn:aws:iam::123456789012:role/{role}")).unwrap(),
                session_name,
                source_identity,
                external_id,
                tags,
                duration: Duration::from_secs(secs),
            })
    }

    proptest! {
        #[test]
        fn two_specs_share_a_key_only_if_they_are_equal(specs in prop::collection::vec(any_spec(), 2..40)) {
            let distinct: HashSet<_> = specs.iter().collect();
            let keys: HashSet<_> = specs.iter().map(SessionSpec::cache_key).collect();
            let digests: HashSet<_> = specs.iter().map(|spec| spec.cache_key().digest_hex()).collect();
            prop_assert_eq!(keys.len(), distinct.len());
            prop_assert_eq!(digests.len(), distinct.len());
        }

        #[test]
        fn every_name_is_one_that_sts_takes(text in ".{1,200}") {
            let name = sts_name(&text);
            prop_assert!(name.len() <= 64 && name.bytes().all(is_name_byte), "{name}");
        }
    }
}
