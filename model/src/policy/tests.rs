use proptest::prelude::*;

use super::*;
use crate::name::{Namespace, NodeName, PodName, ServiceAccount, Uid};
use crate::refusal::Retry;

const ROLE: &str = "arn:aws:iam::123456789012:role/shop-web";
const NOW: UnixMillis = UnixMillis::from_secs(1_795_475_000);

fn instance(last: char) -> InstanceId {
    InstanceId::parse(&format!("i-0123456789abcdef{last}")).unwrap()
}

fn policy() -> ClusterPolicy {
    ClusterPolicy {
        cluster: ClusterName::parse("prod").unwrap(),
        base_arn: BaseArn::parse("arn:aws:iam::123456789012:role/").unwrap(),
        keys: AnnotationKeys::default(),
        assumable: AssumableRoles::parse(&["arn:aws:iam::123456789012:role/shop-*"]).unwrap(),
        protected: vec![RoleArn::parse("arn:aws:iam::123456789012:role/shop-node").unwrap()],
        default_permitted: None,
        allowed_roles_syntax: AllowedRolesSyntax::Glob,
        attribution: Attribution::default(),
        stale_limit: DEFAULT_STALE_LIMIT,
    }
}

fn ask(age: Duration) -> Ask {
    let pod = PodRef {
        namespace: Namespace::parse("shop").unwrap(),
        name: PodName::parse("web-0").unwrap(),
        uid: Uid::parse("uid-1").unwrap(),
    };
    Ask { pod, sandbox_age_ms: u64::try_from(age.as_millis()).unwrap() }
}

fn pod() -> PodRecord {
    PodRecord {
        uid: Uid::parse("uid-1").unwrap(),
        role: "shop-web".into(),
        external_id: None,
        session_name: None,
        service_account: ServiceAccount::parse("default").unwrap(),
        node: NodeName::parse("node-a").unwrap(),
        instance: Some(instance('0')),
        resource_version: "1".into(),
    }
}

fn permitting(pattern: &str) -> NamespaceRecord {
    NamespaceRecord { permitted: Some(pattern.into()), ..NamespaceRecord::default() }
}

fn fresh() -> HealthRecord {
    HealthRecord { pods_as_of: NOW.minus(Duration::from_secs(1)), namespaces_as_of: NOW }
}

/// One whole case: everything that the decision sees.
#[derive(Debug)]
struct Case {
    policy: ClusterPolicy,
    caller: InstanceId,
    age: Duration,
    pod: Option<PodRecord>,
    namespace: Option<NamespaceRecord>,
    health: Option<HealthRecord>,
}

impl Case {
    /// A pod that gets its role.
    fn good() -> Self {
        Self {
            policy: policy(),
            caller: instance('0'),
            age: Duration::from_secs(60),
            pod: Some(pod()),
            namespace: Some(permitting("shop-.*")),
            health: Some(fresh()),
        }
    }

    fn decide(&self) -> Result<Permit, Refusal> {
        let rules = self.namespace.clone().map(NamespaceRules::from);
        let facts = Facts { pod: self.pod.as_ref(), namespace: rules.as_ref(), health: self.health.as_ref() };
        decide(&self.policy, &self.caller, &ask(self.age), facts, NOW)
    }

    fn refusal(&self) -> Refusal {
        self.decide().expect_err("must be refused")
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::good();
        change(&mut case);
        case
    }

    fn with_pod(change: impl FnOnce(&mut PodRecord)) -> Self {
        Self::with(|case| change(case.pod.as_mut().unwrap()))
    }

    fn with_namespace(record: NamespaceRecord) -> Self {
        Self::with(|case| case.namespace = Some(record))
    }
}

#[test]
fn a_permitted_pod_gets_a_permit_for_its_role() {
    let permit = Case::good().decide().unwrap();
    assert_eq!(permit.pod(), &ask(Duration::ZERO).pod);
    let spec = permit.spend();
    assert_eq!(spec.role.as_str(), ROLE);
    assert_eq!((spec.session_name.as_str(), spec.external_id, spec.source_identity), ("rolecall-prod", None, None));
}

#[test]
fn without_a_record_the_directorys_age_decides() {
    let secs = Duration::from_secs;
    for (as_of_age, sandbox_age, code, retry) in [
        (Some(secs(1)), secs(60), RefusalCode::NoRole, Retry::OnEdit),
        (Some(secs(60)), secs(60), RefusalCode::PodUnknown, Retry::Soon),
        (Some(secs(61)), secs(60), RefusalCode::PodUnknown, Retry::Soon),
        (Some(secs(180)), secs(600), RefusalCode::NoRole, Retry::OnEdit),
        (Some(secs(181)), secs(600), RefusalCode::DirectoryStale, Retry::Soon),
        (None, secs(600), RefusalCode::DirectoryStale, Retry::Soon),
    ] {
        let case = Case::with(|case| {
            case.pod = None;
            case.age = sandbox_age;
            case.health = as_of_age.map(|age| HealthRecord { pods_as_of: NOW.minus(age), namespaces_as_of: NOW });
        });
        let refusal = case.refusal();
        assert_eq!((refusal.code, refusal.retry, refusal.role), (code, retry, None), "{as_of_age:?} {sandbox_age:?}");
    }
}

#[test]
fn an_existing_record_is_believed_until_the_stale_limit() {
    let aged = |age: Duration| {
        Case::with(|case| case.health = Some(HealthRecord { pods_as_of: NOW.minus(age), namespaces_as_of: NOW }))
    };
    assert!(aged(DEFAULT_STALE_LIMIT).decide().is_ok());
    assert_eq!(aged(DEFAULT_STALE_LIMIT + Duration::from_secs(1)).refusal().code, RefusalCode::DirectoryStale);
    assert_eq!(Case::with(|case| case.health = None).refusal().code, RefusalCode::DirectoryStale);
    // A watch of namespaces that stands still while that of pods goes on would keep what a namespace permitted for ever.
    let of_namespaces = |age: Duration| {
        Case::with(|case| case.health = Some(HealthRecord { namespaces_as_of: NOW.minus(age), ..fresh() }))
    };
    assert!(of_namespaces(DEFAULT_STALE_LIMIT).decide().is_ok());
    assert_eq!(of_namespaces(DEFAULT_STALE_LIMIT + Duration::from_secs(1)).refusal().code, RefusalCode::DirectoryStale);
}

#[test]
fn a_record_without_instance_may_still_get_one() {
    let refusal = Case::with_pod(|pod| pod.instance = None).refusal();
    assert_eq!((refusal.code, refusal.retry), (RefusalCode::PodUnknown, Retry::Soon));
}

#[test]
fn another_uid_is_refused_for_good_once_the_directory_is_newer() {
    let replaced = |age: u64| {
        let mut case = Case::with_pod(|pod| pod.uid = Uid::parse("uid-2").unwrap());
        case.age = Duration::from_secs(age);
        case.refusal()
    };
    assert_eq!((replaced(60).code, replaced(60).retry), (RefusalCode::PodReplaced, Retry::OnEdit));
    assert_eq!((replaced(0).code, replaced(0).retry), (RefusalCode::PodReplaced, Retry::Soon));
    assert_eq!(replaced(60).role, None, "nothing about the other pod is told");
    assert!(!replaced(60).message.contains("shop-web") && !replaced(60).message.contains("uid-2"));
}

#[test]
fn another_instance_is_refused_for_good_after_30_seconds() {
    let elsewhere = |age: u64| {
        Case::with(|case| {
            case.caller = instance('1');
            case.age = Duration::from_secs(age);
        })
        .refusal()
    };
    assert_eq!((elsewhere(30).code, elsewhere(30).retry), (RefusalCode::PodOnOtherNode, Retry::OnEdit));
    assert_eq!((elsewhere(29).code, elsewhere(29).retry), (RefusalCode::PodOnOtherNode, Retry::Soon));
    assert_eq!(elsewhere(30).role, None);
    assert!(!elsewhere(30).message.contains(instance('0').as_str()), "the other node is not told");
}

#[test]
fn rules_on_roles_refuse_with_what_to_write() {
    let none = || NamespaceRecord::default();
    let allowed = |json: &str| NamespaceRecord { allowed_roles: Some(json.into()), ..none() };
    for (case, code, sentence) in [
        (
            Case::with_pod(|pod| pod.role = "no role!".into()),
            RefusalCode::InvalidRole,
            "Pod shop/web-0, annotation iam.amazonaws.com/role: \"no role!\" is no IAM role: expected a role name, a path and \
             name, or arn:PARTITION:iam::ACCOUNT:role/NAME; a name has 1 to 64 of letters, digits and _+=,.@-.",
        ),
        (
            Case::with_namespace(none()),
            RefusalCode::NamespacePermitsNothing,
            "Namespace shop permits no roles. To permit this one, annotate the namespace with iam.amazonaws.com/permitted: \
             shop-web",
        ),
        (
            Case::with_namespace(permitting("  ")),
            RefusalCode::NamespacePermitsNothing,
            "Namespace shop permits no roles. To permit this one, annotate the namespace with iam.amazonaws.com/permitted: \
             shop-web",
        ),
        (
            Case::with_namespace(allowed("[]")),
            RefusalCode::NamespacePermitsNothing,
            "Namespace shop permits no roles. To permit this one, annotate the namespace with iam.amazonaws.com/permitted: \
             shop-web",
        ),
        (
            Case::with_namespace(permitting("*")),
            RefusalCode::InvalidPermittedPattern,
            "Namespace shop, annotation iam.amazonaws.com/permitted: \"*\" cannot be read: repetition operator missing \
             expression. Write iam.amazonaws.com/permitted: \".*\"",
        ),
        (
            Case::with_namespace(allowed("shop-web")),
            RefusalCode::InvalidPermittedPattern,
            "Namespace shop, annotation iam.amazonaws.com/allowed-roles: \"shop-web\" cannot be read: it is no JSON array of role \
             names: expected value at line 1 column 1. To permit arn:aws:iam::123456789012:role/shop-web alone, write \
             [\"shop-web\"]",
        ),
        (
            Case::with_namespace(permitting("shop-*")),
            RefusalCode::NamespaceForbidsRole,
            "Namespace shop does not permit arn:aws:iam::123456789012:role/shop-web: its annotation iam.amazonaws.com/permitted is \
             \"shop-*\". It is a regular expression, in which any text is written .* and not *: write \"shop-.*\"",
        ),
        (
            Case::with_namespace(permitting("bank-.*")),
            RefusalCode::NamespaceForbidsRole,
            "Namespace shop does not permit arn:aws:iam::123456789012:role/shop-web: its annotation iam.amazonaws.com/permitted is \
             \"bank-.*\". To permit it, add shop-web to that annotation, or change the pod's role",
        ),
        (
            Case::with(|case| {
                case.policy.assumable = AssumableRoles::parse(&["arn:aws:iam::123456789012:role/x"]).unwrap();
            }),
            RefusalCode::IssuerForbidsRole,
            "Pod shop/web-0 asks for arn:aws:iam::123456789012:role/shop-web, which is not on the issuer's list for cluster prod. \
             Whoever deploys the issuer can add it to ASSUMABLE_ROLES and to the issuer's IAM policy, the same string in both.",
        ),
        (
            Case::with_pod(|pod| pod.external_id = Some("a b".into())),
            RefusalCode::AssumeRoleDenied,
            "The annotation iam.amazonaws.com/external-id of pod shop/web-0 is no external id that STS takes: expected 2 to 1224 \
             of letters, digits and _+=,.@:/-.",
        ),
    ] {
        let refusal = case.refusal();
        assert_eq!((refusal.code, refusal.message.as_str()), (code, sentence));
        assert_eq!(refusal.retry, Retry::OnEdit);
        let tells_role = code != RefusalCode::InvalidRole;
        assert_eq!(refusal.role.is_some(), tells_role, "{code}");
    }
}

#[test]
fn an_unknown_namespace_is_waited_for() {
    let refusal = Case::with(|case| case.namespace = None).refusal();
    assert_eq!((refusal.code, refusal.retry), (RefusalCode::NamespaceUnknown, Retry::Soon));
}

#[test]
fn rolecalls_own_roles_are_refused_under_any_alias() {
    for alias in ["shop-node", "shop-NODE", "path/shop-node"] {
        let mut case = Case::with_pod(|pod| pod.role = alias.into());
        case.namespace = Some(permitting(".*"));
        case.policy.assumable = AssumableRoles::parse(&["arn:aws:iam::123456789012:role/*"]).unwrap();
        assert_eq!(case.refusal().code, RefusalCode::IssuerForbidsRole, "{alias}");
    }
}

#[test]
fn permitted_decides_alone_where_it_is_present() {
    let both = NamespaceRecord {
        permitted: Some("bank-.*".into()),
        allowed_roles: Some(r#"["shop-*"]"#.into()),
        external_id: None,
    };
    assert_eq!(Case::with_namespace(both).refusal().code, RefusalCode::NamespaceForbidsRole);
    let allowed = NamespaceRecord { allowed_roles: Some(r#"["shop-*"]"#.into()), ..NamespaceRecord::default() };
    assert!(Case::with_namespace(allowed).decide().is_ok());
}

#[test]
fn a_default_permits_only_where_nothing_is_written() {
    let with_default = |record: NamespaceRecord| {
        Case::with(|case| {
            case.policy.default_permitted = Some(Permission::permitted("shop-.*").unwrap());
            case.namespace = Some(record);
        })
    };
    assert!(with_default(NamespaceRecord::default()).decide().is_ok());
    assert_eq!(with_default(permitting("")).refusal().code, RefusalCode::NamespacePermitsNothing);
    assert_eq!(with_default(permitting("bank")).refusal().code, RefusalCode::NamespaceForbidsRole);
}

#[test]
fn the_namespaces_external_id_overrides_the_pods() {
    let external_id = |namespace: Option<&str>, pod: Option<&str>| {
        let mut case = Case::with_pod(|record| record.external_id = pod.map(str::to_owned));
        case.namespace.as_mut().unwrap().external_id = namespace.map(str::to_owned);
        case.decide().unwrap().spend().external_id
    };
    assert_eq!(external_id(None, None), None);
    assert_eq!(external_id(None, Some(" pod ")), Some("pod".into()));
    assert_eq!(external_id(Some("team"), Some("pod")), Some("team".into()));
    assert_eq!(external_id(Some("team"), None), Some("team".into()));
}

/// Each rule alone, as plainly as it can be said: what it asks of a case.
fn broken_rules(case: &Case) -> Vec<&'static str> {
    let mut broken = Vec::new();
    let record = case.pod.as_ref();
    let mut rule = |name, holds: bool| {
        if !holds {
            broken.push(name);
        }
    };
    rule("record", record.is_some());
    rule("uid", record.is_some_and(|r| r.uid == ask(case.age).pod.uid));
    rule("instance", record.is_some_and(|r| r.instance.as_ref() == Some(&case.caller)));
    rule("fresh", case.health.is_some_and(|h| NOW.since(h.pods_as_of) <= case.policy.stale_limit));
    let role = record.and_then(|r| RoleArn::resolve(&r.role, &case.policy.base_arn).ok());
    rule("role", role.is_some());
    rule(
        "namespace",
        case.namespace.as_ref().is_some_and(|n| n.permitted.as_deref() == Some("shop-.*"))
            && role.as_ref().is_some_and(|r| r.path_and_name().starts_with("shop-") && r.account() == "123456789012"),
    );
    rule("assumable", role.as_ref().is_some_and(|r| case.policy.assumable.contains(r)));
    rule("protected", role.as_ref().is_some_and(|r| !r.name().eq_ignore_ascii_case("shop-node")));
    broken
}

fn any_case() -> impl Strategy<Value = Case> {
    let record = prop::option::weighted(
        0.9,
        (
            prop::sample::select(vec!["uid-1", "uid-1", "uid-2"]),
            prop::sample::select(vec![
                "shop-web",
                "shop-web",
                "bank",
                "shop-node",
                "Shop-Node",
                "!",
                "",
                "arn:aws:iam::999999999999:role/shop-web",
                "shop-b",
            ]),
            prop::option::weighted(0.9, prop::sample::select(vec!['0', '0', '1'])),
        ),
    );
    let namespace = prop::option::weighted(
        0.9,
        prop::option::weighted(
            0.9,
            prop::sample::select(vec!["shop-.*", "shop-.*", "shop-.*", "*", "bank", "", "(", "shop-*"]),
        ),
    );
    (
        record,
        namespace,
        prop::option::weighted(0.95, 0_u64..30_000),
        0_u64..400,
        prop::sample::select(vec!['0', '0', '1']),
    )
        .prop_map(|(record, permitted, as_of_age, age, caller)| {
            let record = record.map(|(uid, role, on)| PodRecord {
                uid: Uid::parse(uid).unwrap(),
                role: role.into(),
                instance: on.map(instance),
                ..pod()
            });
            let namespace = permitted
                .map(|text| NamespaceRecord { permitted: text.map(str::to_owned), ..NamespaceRecord::default() });
            let health = as_of_age
                .map(|age| HealthRecord { pods_as_of: NOW.minus(Duration::from_secs(age)), namespaces_as_of: NOW });
            Case {
                caller: instance(caller),
                age: Duration::from_secs(age),
                pod: record,
                namespace,
                health,
                policy: policy(),
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn decide_permits_exactly_what_no_single_rule_forbids(case in any_case()) {
        let broken = broken_rules(&case);
        match case.decide() {
            Ok(permit) => {
                prop_assert!(broken.is_empty(), "permitted against {broken:?}");
                prop_assert!(permit.session().role.path_and_name().starts_with("shop-"));
            }
            Err(refusal) => prop_assert!(!broken.is_empty(), "refused without a broken rule: {refusal:?}"),
        }
    }
}
