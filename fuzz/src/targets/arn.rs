//! Role ARNs, base ARNs, and the patterns of `ASSUMABLE_ROLES`.

use model::arn::{BaseArn, RoleArn};
use model::assumable::AssumableRoles;

use crate::text::text;

const BASE: &str = "arn:aws:iam::123456789012:role/team/";

pub(super) fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    role(text);
    base(text);
    if let Ok(roles) = AssumableRoles::parse(&[text]) {
        assert_eq!(roles.patterns().collect::<Vec<_>>(), [text]);
        if let Ok(role) = RoleArn::parse(text) {
            assert!(roles.contains(&role), "a role without wildcards is its own pattern");
        }
    }
}

fn role(text: &str) {
    match RoleArn::parse(text) {
        Ok(role) => {
            check(&role);
            assert_eq!(role.as_str(), text);
        }
        Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
    }
    let base = BaseArn::parse(BASE).expect("a base ARN");
    if let Ok(role) = RoleArn::resolve(text, &base) {
        check(&role);
        let short = text.trim();
        if short.starts_with("arn:") {
            assert_eq!(role.as_str(), short);
        } else {
            assert_eq!(base.rest_of(&role), Some(short.strip_prefix('/').unwrap_or(short)));
        }
    }
}

fn check(role: &RoleArn) {
    assert_eq!(RoleArn::parse(&role.to_string()).as_ref(), Ok(role));
    let json = serde_json::to_string(role).expect("an ARN is JSON");
    assert_eq!(&serde_json::from_str::<RoleArn>(&json).expect("an ARN is read back"), role);
    let parts = format!("arn:{}:iam::{}:role/{}", role.partition(), role.account(), role.path_and_name());
    assert_eq!(parts, role.as_str());
    assert!(role.path_and_name().ends_with(role.name()) && !role.name().contains(['/', ':', '*', '?']));
    assert!(role.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(role.is_same_role(role));
}

fn base(text: &str) {
    if let Ok(base) = BaseArn::parse(text) {
        assert!(base.as_str().ends_with('/') && base.as_str().trim_end_matches('/') == text.trim_end_matches('/'));
        assert_eq!(BaseArn::parse(base.as_str()), Ok(base));
    }
}
