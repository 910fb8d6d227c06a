//! What people write on pods and namespaces, up to the decision. One annotation a line, `-` for a missing one: the pod's role,
//! external id and session name, the namespace's `permitted`, `allowed-roles` and external id.

use std::sync::LazyLock;

use model::annotation::AnnotationKeys;
use model::arn::RoleArn;
use model::name::{InstanceId, PodRef};
use model::permission::AllowedRolesSyntax;
use model::policy::{ClusterPolicy, DEFAULT_STALE_LIMIT, Facts, NamespaceRules, Permit, decide};
use model::record::{HealthRecord, NamespaceRecord, PodRecord};
use model::refusal::Refusal;
use model::session::Attribution;
use model::time::UnixMillis;
use model::wire::Ask;

use crate::text::{line, text};

const NOW: UnixMillis = UnixMillis(1_795_475_000_000);
/// A sentence names objects and quotes a part of an annotation; it does not repeat one.
const MAX_SENTENCE: usize = 4000;

struct Written<'a> {
    role: &'a str,
    external_id: Option<&'a str>,
    session_name: Option<&'a str>,
    permitted: Option<&'a str>,
    allowed_roles: Option<&'a str>,
    namespace_external_id: Option<&'a str>,
}

static POLICY: LazyLock<ClusterPolicy> = LazyLock::new(|| ClusterPolicy {
    cluster: "prod".parse().expect("a cluster's name"),
    base_arn: "arn:aws:iam::123456789012:role/".parse().expect("a base ARN"),
    keys: AnnotationKeys::default(),
    assumable: model::assumable::AssumableRoles::parse(&[
        "arn:aws:iam::123456789012:role/*",
        "arn:aws:iam::999999999999:role/pods/*",
    ])
    .expect("a list of roles"),
    protected: vec![role("issuer"), role("nodes/node")],
    default_permitted: None,
    allowed_roles_syntax: AllowedRolesSyntax::Glob,
    attribution: Attribution { source_identity: true, session_tags: true, ..Attribution::default() },
    stale_limit: DEFAULT_STALE_LIMIT,
});
static REGEXP_POLICY: LazyLock<ClusterPolicy> =
    LazyLock::new(|| ClusterPolicy { allowed_roles_syntax: AllowedRolesSyntax::Regexp, ..POLICY.clone() });

fn role(name: &str) -> RoleArn {
    RoleArn::parse(&format!("arn:aws:iam::123456789012:role/{name}")).expect("an ARN")
}

pub(super) fn run(input: &[u8]) {
    let Some(mut rest) = text(input) else { return };
    let mut next = || line(&mut rest).filter(|line| *line != "-");
    let written = Written {
        role: next().unwrap_or_default(),
        external_id: next(),
        session_name: next(),
        permitted: next(),
        allowed_roles: next(),
        namespace_external_id: next(),
    };
    for policy in [&*POLICY, &*REGEXP_POLICY] {
        match written.decide(policy) {
            Ok(permit) => written.check(policy, &permit),
            Err(refusal) => assert!(refusal.message.len() < MAX_SENTENCE, "{}", refusal.message.len()),
        }
    }
}

impl Written<'_> {
    fn decide(&self, policy: &ClusterPolicy) -> Result<Permit, Refusal> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let instance = InstanceId::parse("i-0123456789abcdef0").expect("an instance's id");
        let uid: model::name::Uid = "uid-1".parse().expect("a UID");
        let pod = PodRecord {
            uid: uid.clone(),
            role: self.role.to_owned(),
            external_id: owned(self.external_id),
            session_name: owned(self.session_name),
            service_account: "default".parse().expect("a service account's name"),
            node: "node-a".parse().expect("a node's name"),
            instance: Some(instance.clone()),
            resource_version: "1".into(),
        };
        let rules = NamespaceRules::from(NamespaceRecord {
            permitted: owned(self.permitted),
            allowed_roles: owned(self.allowed_roles),
            external_id: owned(self.namespace_external_id),
        });
        let namespace = "default".parse().expect("a namespace");
        let pod_ref = PodRef { namespace, name: "web-0".parse().expect("a pod's name"), uid };
        let ask = Ask { pod: pod_ref, sandbox_age_ms: 60_000 };
        let health = HealthRecord { pods_as_of: NOW, namespaces_as_of: NOW };
        let facts = Facts { pod: Some(&pod), namespace: Some(&rules), health: Some(&health) };
        decide(policy, &instance, &ask, facts, NOW)
    }

    fn check(&self, policy: &ClusterPolicy, permit: &Permit) {
        let session = permit.session();
        assert!(self.permitted.is_some() || self.allowed_roles.is_some(), "no namespace permits by saying nothing");
        assert_eq!(Ok(&session.role), RoleArn::resolve(self.role, &policy.base_arn).as_ref());
        let name = session.role.name().to_ascii_lowercase();
        let is_ours = session.role.account() == "123456789012";
        assert!(!(is_ours && ["issuer", "node"].contains(&&*name)), "a role of Rolecall's own");
        assert!(is_ours || session.role.as_str().starts_with("arn:aws:iam::999999999999:role/pods/"), "{session:?}");
        let is_sts_name = |text: &str| {
            let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_=,.@+-".contains(&byte);
            (2..=64).contains(&text.len()) && text.bytes().all(is_byte)
        };
        assert!(is_sts_name(&session.session_name), "{session:?}");
        assert!(!session.session_name.to_ascii_lowercase().starts_with("i-"), "it passes for a node: {session:?}");
        assert_eq!(session.source_identity.as_deref(), Some("rolecall-prod"), "no pod writes its source identity");
        let external_id = self.namespace_external_id.or(self.external_id).map(str::trim);
        assert_eq!(session.external_id.as_deref(), external_id);
        if let Some(id) = external_id {
            let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
            assert!((2..=1224).contains(&id.len()) && id.bytes().all(is_byte), "{id:?}");
        }
    }
}
