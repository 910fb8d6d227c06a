use proptest::prelude::*;

use super::*;

const BASE: &str = "arn:aws:iam::123456789012:role/";

fn resolve(annotation: &str, base: &str) -> Result<String, InvalidName> {
    RoleArn::resolve(annotation, &BaseArn::parse(base).unwrap()).map(|arn| arn.to_string())
}

#[test]
fn every_form_that_kiam_took_is_resolved() {
    let team = "arn:aws:iam::123456789012:role/team/";
    for (annotation, base, expected) in [
        ("app", BASE, "arn:aws:iam::123456789012:role/app"),
        ("/app", BASE, "arn:aws:iam::123456789012:role/app"),
        ("path/app", BASE, "arn:aws:iam::123456789012:role/path/app"),
        ("/path/deep/app", BASE, "arn:aws:iam::123456789012:role/path/deep/app"),
        ("  app \n", BASE, "arn:aws:iam::123456789012:role/app"),
        ("app", team, "arn:aws:iam::123456789012:role/team/app"),
        ("app", "arn:aws:iam::123456789012:role", "arn:aws:iam::123456789012:role/app"),
        ("arn:aws:iam::999999999999:role/x/other", BASE, "arn:aws:iam::999999999999:role/x/other"),
        ("app", "arn:aws-cn:iam::123456789012:role/", "arn:aws-cn:iam::123456789012:role/app"),
    ] {
        assert_eq!(resolve(annotation, base).as_deref(), Ok(expected), "{annotation:?} on {base}");
    }
}

#[test]
fn all_partitions_are_known_and_nonsense_is_not() {
    for partition in ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"] {
        let text = format!("arn:{partition}:iam::123456789012:role/app");
        assert_eq!(RoleArn::parse(&text).unwrap().partition(), partition);
    }
    for partition in ["", "AWS", "aws-", "azure", "aws-us gov", "aws-*"] {
        assert!(RoleArn::parse(&format!("arn:{partition}:iam::123456789012:role/app")).is_err(), "{partition:?}");
    }
}

#[test]
fn what_is_no_role_is_refused() {
    for text in [
        "",
        " ",
        "/",
        "//app",
        "app/",
        "a//b",
        "a b",
        "rôle",
        "a*",
        "a?/b",
        "a:b/c",
        &"a".repeat(65),
        "arn:aws:iam::123456789012:user/app",
        "arn:aws:iam::12345:role/app",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:sts::123456789012:assumed-role/app/x",
        "arn:aws:iam:eu-west-1:123456789012:role/app",
        "arn:aws:iam::123456789012:role//app",
        "arn:aws:iam::123456789012:role/a:b",
        "arn:",
        "role/\u{0}",
    ] {
        assert!(resolve(text, BASE).is_err(), "{text:?}");
    }
}

#[test]
fn parts_are_what_the_metadata_service_needs() {
    let arn = RoleArn::parse("arn:aws-us-gov:iam::123456789012:role/team/sub/app").unwrap();
    assert_eq!(
        (arn.name(), arn.path_and_name(), arn.account(), arn.partition()),
        ("app", "team/sub/app", "123456789012", "aws-us-gov")
    );
}

#[test]
fn an_alias_of_a_role_is_the_same_role() {
    let node = RoleArn::parse("arn:aws:iam::123456789012:role/Node").unwrap();
    for (text, same) in [
        ("arn:aws:iam::123456789012:role/node", true),
        ("arn:aws:iam::123456789012:role/some/path/NODE", true),
        ("arn:aws:iam::999999999999:role/Node", false),
        ("arn:aws:iam::123456789012:role/Node2", false),
    ] {
        assert_eq!(node.is_same_role(&RoleArn::parse(text).unwrap()), same, "{text}");
    }
}

#[test]
fn the_rest_after_a_base_is_only_of_roles_under_it() {
    let base = BaseArn::parse("arn:aws:iam::123456789012:role/team/").unwrap();
    let rest = |text: &str| base.rest_of(&RoleArn::parse(text).unwrap()).map(str::to_owned);
    assert_eq!(rest("arn:aws:iam::123456789012:role/team/app").as_deref(), Some("app"));
    assert_eq!(rest("arn:aws:iam::123456789012:role/app"), None);
    assert_eq!(rest("arn:aws:iam::999999999999:role/team/app"), None);
}

#[test]
fn a_bad_base_is_refused() {
    for text in [
        "",
        "/",
        "app",
        "arn:aws:iam::1:role/",
        "arn:aws:iam::123456789012:role/a//b/",
        "arn:aws:iam::123456789012:user/",
    ] {
        assert!(BaseArn::parse(text).is_err(), "{text:?}");
    }
}

prop_compose! {
    fn role_parts()(
        partition in prop::sample::select(vec!["aws", "aws-cn", "aws-us-gov", "aws-iso-b", "aws-eusc"]),
        account in "[0-9]{12}", path in prop::collection::vec("[!-)+-9;->@-~&&[^/]]{1,20}", 0..4),
        name in "[A-Za-z0-9_+=,.@-]{1,64}",
    ) -> (String, String, String) {
        let mut rest = path;
        rest.push(name.clone());
        (format!("arn:{partition}:iam::{account}:role/"), rest.join("/"), name)
    }
}

proptest! {
    #[test]
    fn resolution_round_trips((base, rest, name) in role_parts()) {
        let base = BaseArn::parse(&base).unwrap();
        prop_assume!(!rest.starts_with("arn:"));
        let arn = RoleArn::resolve(&rest, &base).unwrap();
        prop_assert_eq!(base.rest_of(&arn), Some(rest.as_str()));
        prop_assert_eq!(arn.path_and_name(), rest.as_str());
        prop_assert_eq!(arn.name(), name.as_str());
        let slashed = RoleArn::resolve(&format!("/{rest}"), &base).unwrap();
        prop_assert_eq!(&slashed, &arn);
        prop_assert_eq!(&RoleArn::resolve(arn.as_str(), &base).unwrap(), &arn);
        prop_assert_eq!(&serde_json::from_str::<RoleArn>(&serde_json::to_string(&arn).unwrap()).unwrap(), &arn);
    }

    #[test]
    fn any_text_is_refused_or_kept(text in ".{0,200}") {
        if let Ok(arn) = RoleArn::parse(&text) { prop_assert_eq!(arn.as_str(), text.as_str()); }
        let _ = BaseArn::parse(&text);
    }
}
