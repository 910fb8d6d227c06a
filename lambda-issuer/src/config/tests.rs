use std::collections::HashMap;

use super::*;

fn complete() -> HashMap<&'static str, &'static str> {
    HashMap::from([
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("AWS_LAMBDA_FUNCTION_NAME", "issuer"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_REGION", "eu-central-1"),
        ("NODE_ROLES", r#"{"AROAEXAMPLEEXAMPLE00":{"arn":"arn:aws:iam::123456789012:role/node","cluster":"prod"}}"#),
        ("ASSUMABLE_ROLES", r#"{"prod":["arn:aws:iam::123456789012:role/pods/*"]}"#),
        ("DIRECTORY_TABLE", "directory"),
        ("CACHE_TABLE", "cache"),
        ("KMS_KEY_ID", "alias/rolecall"),
        ("API_ID", "abc"),
        ("API_STAGE", "v1"),
        ("VPCE_IDS", "vpce-1, vpce-2"),
        ("STAGE_SECRET", "0123456789abcdef0123456789abcdef"),
    ])
}

const EKS_CLUSTER: &str = "arn:aws:eks:eu-central-1:123456789012:cluster/prod";

fn read(changes: &[(&'static str, &'static str)]) -> Result<Settings, BadSetting> {
    let mut vars = complete();
    vars.extend(changes.iter().copied());
    Settings::from_vars(&|name| vars.get(name).map(ToString::to_string))
}

fn complaint(changes: &[(&'static str, &'static str)]) -> String {
    read(changes).unwrap_err().to_string()
}

#[test]
fn what_must_be_set_is_enough() {
    let settings = read(&[("ROLECALL_UNKNOWN", "x")]).unwrap();
    assert_eq!(settings.gate.vpce_ids, ["vpce-1".to_owned(), "vpce-2".to_owned()].into());
    assert!(settings.gate.source_ip_check);
    assert_eq!(settings.limits, Limits { namespace_per_minute: 60, instance_per_minute: 120 });
    assert_eq!(settings.policy.stale_limit, Duration::from_secs(21_600));
    assert_eq!(settings.policy.attribution, Attribution::default());
    assert_eq!(settings.policy.keys, AnnotationKeys::default());
    assert_eq!(settings.policy.base_arn, None);
    assert_eq!(settings.policy.default_permitted, None);
    assert_eq!(settings.policy.protected, [RoleArn::parse("arn:aws:iam::123456789012:role/node").unwrap()]);
    assert_eq!(settings.log_level, LevelFilter::INFO);
}

#[test]
fn everything_can_be_set() {
    let settings = read(&[
        (
            "NODE_ROLES",
            r#"{"AROAEXAMPLEEXAMPLE00":{"arn":"arn:aws:iam::123456789012:role/node","cluster":"prod","cluster_arn":"arn:aws:eks:eu-central-1:123456789012:cluster/prod"}}"#,
        ),
        ("PROTECTED_ROLES", r#"["arn:aws:iam::123456789012:role/sync"]"#),
        ("BASE_ARN", "arn:aws:iam::123456789012:role/pods"),
        ("DEFAULT_PERMITTED", "shared-.*"),
        ("ANNOTATION_KEYS", r#"{"role":"example.com/role"}"#),
        ("ALLOWED_ROLES_SYNTAX", "regexp"),
        ("ATTRIBUTION", "service-account"),
        ("SESSION_TAGS", "on"),
        ("SOURCE_IDENTITY", "on"),
        ("SOURCE_IP_CHECK", "off"),
        ("BUDGET_NAMESPACE_PER_MINUTE", "1"),
        ("BUDGET_INSTANCE_PER_MINUTE", "2"),
        ("STALE_LIMIT_SECONDS", "3"),
        ("LOG_LEVEL", "debug"),
    ])
    .unwrap();
    let policy = &settings.policy;
    assert_eq!(policy.attribution.mode, AttributionMode::ServiceAccount);
    assert!(policy.attribution.session_tags && policy.attribution.source_identity);
    assert_eq!(policy.allowed_roles_syntax, AllowedRolesSyntax::Regexp);
    assert_eq!(policy.base_arn.as_ref().unwrap().as_str(), "arn:aws:iam::123456789012:role/pods/");
    assert_eq!(policy.keys.role, "example.com/role");
    assert_eq!(policy.default_permitted, Some(Permission::permitted("shared-.*").unwrap()));
    assert_eq!(policy.protected.len(), 2);
    assert_eq!(policy.stale_limit, Duration::from_secs(3));
    assert_eq!(policy.clusters.values().next().unwrap().arn.as_deref(), Some(EKS_CLUSTER));
    assert!(!settings.gate.source_ip_check);
    assert_eq!(settings.limits, Limits { namespace_per_minute: 1, instance_per_minute: 2 });
    assert_eq!(settings.log_level, LevelFilter::DEBUG);
}

#[test]
fn whatever_is_missing_is_named() {
    for name in complete().keys() {
        let message = complaint(&[(name, " ")]);
        assert!(message.starts_with(&format!("the environment variable {name} is not set: ")), "{message}");
    }
}

#[test]
fn whatever_is_wrong_is_named_with_what_to_write() {
    let node = r#"{"AROAEXAMPLEEXAMPLE00":{"arn":"arn:aws:iam::123456789012:role/node","cluster":"#;
    let cases: [(&'static str, String, &str); 20] = [
        ("NODE_ROLES", "x".into(), "is not usable (expected value at line 1 column 1): write JSON such as {\"AROA"),
        ("NODE_ROLES", "{}".into(), "names no role"),
        ("NODE_ROLES", format!(r#"{node}"prod","x":1}}}}"#), "unknown field `x`"),
        ("NODE_ROLES", format!(r#"{node}"other"}}}}"#), ""),
        ("ASSUMABLE_ROLES", "{}".into(), "has no list for the cluster prod of NODE_ROLES"),
        ("ASSUMABLE_ROLES", r#"{"prod":[]}"#.into(), "the list is empty"),
        ("ASSUMABLE_ROLES", r#"{"prod":["*"]}"#.into(), "stands for every role there is"),
        (
            "ASSUMABLE_ROLES",
            r#"{"prod":["arn:aws:iam::123456789012:role/x"],"old":["arn:aws:iam::123456789012:role/x"]}"#.into(),
            "has a list for old, which NODE_ROLES does not name",
        ),
        (
            "ASSUMABLE_ROLES",
            r#"{"prod":["arn:aws:iam::123456789012:role/x"],"prod":["arn:aws:iam::123456789012:role/*"]}"#.into(),
            "names prod twice",
        ),
        ("NODE_ROLES", format!(r#"{node}"prod"}},{}"other"}}}}"#, &node[1..]), "names AROAEXAMPLEEXAMPLE00 twice"),
        ("VPCE_IDS", "vpce-1,".into(), "holds \"\": write the ids of the VPC endpoints"),
        ("STAGE_SECRET", "short".into(), "is not usable: write 32 to 512 random letters and digits"),
        ("SOURCE_IP_CHECK", "yes".into(), "is \"yes\": write on or off"),
        ("BASE_ARN", "role/".into(), "is no base ARN"),
        ("DEFAULT_PERMITTED", "*".into(), "is no regular expression of roles"),
        ("ATTRIBUTION", "pods".into(), "is \"pods\": write role, namespace, service-account or pod"),
        ("ALLOWED_ROLES_SYNTAX", "re".into(), "write glob or regexp"),
        ("BUDGET_NAMESPACE_PER_MINUTE", "0".into(), "is 0: write a whole number from 1"),
        ("LOG_LEVEL", "loud".into(), "write off, error, warn, info, debug or trace"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "much".into(), "a number of megabytes"),
    ];
    for (name, value, expected) in cases {
        let mut vars: HashMap<&str, String> = complete().into_iter().map(|(k, v)| (k, v.to_owned())).collect();
        vars.insert(name, value);
        let message = Settings::from_vars(&|name| vars.get(name).cloned()).unwrap_err().to_string();
        assert!(message.contains(expected), "{name}: {message}");
        assert!(message.starts_with("the environment variable "), "{message}");
    }
}

#[test]
fn a_clusters_arn_is_one_that_eks_gives() {
    let with = |arn: &str| {
        let role = serde_json::json!({
            "arn": "arn:aws:iam::123456789012:role/node", "cluster": "prod", "cluster_arn": arn,
        });
        let roles = serde_json::json!({"AROAEXAMPLEEXAMPLE00": role}).to_string();
        let mut vars: HashMap<&str, String> = complete().into_iter().map(|(k, v)| (k, v.to_owned())).collect();
        vars.insert("NODE_ROLES", roles);
        Settings::from_vars(&|name| vars.get(name).cloned()).map_err(|error| error.to_string())
    };
    for arn in [EKS_CLUSTER, "arn:aws-us-gov:eks:us-gov-west-1:123456789012:cluster/a_B-9"] {
        assert_eq!(with(arn).unwrap().policy.clusters.values().next().unwrap().arn.as_deref(), Some(arn));
    }
    let long = format!("arn:aws:eks:eu-central-1:123456789012:cluster/{}", "a".repeat(101));
    for arn in [
        "",
        "prod",
        "arn:c",
        "arn:aws:ecs:eu-central-1:123456789012:cluster/prod",
        "arn:aws:eks:eu-central-1:12345678901:cluster/prod",
        "arn:aws:eks::123456789012:cluster/prod",
        "arn:aws:eks:eu-central-1:123456789012:cluster/",
        "arn:aws:eks:eu-central-1:123456789012:cluster/prod/x",
        "arn:aws:eks:eu-central-1:123456789012:cluster/prod\n",
        "arn:aws:eks:eu-central-1:123456789012:nodegroup/prod",
        &long,
    ] {
        let expected = format!(
            "the environment variable NODE_ROLES has the cluster_arn {arn:?}: write the ARN of an EKS cluster, such as \
             arn:aws:eks:eu-central-1:123456789012:cluster/prod, or leave it out"
        );
        assert_eq!(with(arn).unwrap_err(), expected);
    }
}

#[test]
fn the_secret_is_never_shown() {
    let settings = read(&[]).unwrap();
    assert!(!format!("{settings:?}").contains("0123456789abcdef0123456789abcdef"));
    assert!(!complaint(&[("STAGE_SECRET", "s3cret")]).contains("s3cret"));
}
