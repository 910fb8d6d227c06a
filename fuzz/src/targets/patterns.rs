//! The patterns of `permitted` and `allowed-roles`, each on one role. The first line is the role, the rest the pattern. Time and
//! memory are bounded by libFuzzer's own limits.

use std::sync::LazyLock;

use model::arn::{BaseArn, RoleArn};
use model::pattern::{Glob, Pattern, corrected};
use model::permission::{AllowedRolesSyntax, Permission};
use regex::bytes::RegexBuilder;

use crate::text::{line, text};

static BASE: LazyLock<BaseArn> =
    LazyLock::new(|| BaseArn::parse("arn:aws:iam::123456789012:role/").expect("a base ARN"));

pub(super) fn run(input: &[u8]) {
    let Some(mut pattern) = text(input) else { return };
    let Some(role) = line(&mut pattern).and_then(|text| RoleArn::resolve(text, &BASE).ok()) else { return };
    permitted(pattern, &role);
    allowed_glob(pattern, &role);
    for syntax in [AllowedRolesSyntax::Glob, AllowedRolesSyntax::Regexp] {
        let _ = Permission::allowed_roles(pattern, syntax, &BASE).map(|roles| roles.permits(&role, &BASE));
    }
    if let Some(meant) = corrected(pattern) {
        assert_ne!(meant.as_str(), pattern.trim());
        assert_eq!(Pattern::parse(meant.as_str()).as_ref(), Ok(&meant));
    }
}

fn permitted(pattern: &str, role: &RoleArn) {
    match (
        Permission::permitted(pattern),
        Permission::allowed_roles(&array(pattern), AllowedRolesSyntax::Regexp, &BASE),
    ) {
        (Ok(permission), entries) => {
            let rest = BASE.rest_of(role).unwrap_or_default();
            let short = !rest.is_empty() && (is_whole(pattern, rest) || is_whole(pattern, &format!("/{rest}")));
            assert_eq!(
                permission.permits(role, &BASE),
                is_whole(pattern, role.as_str()) || short,
                "{pattern:?} on {role}"
            );
            // An entry is completed with the base, so it cannot reach a role elsewhere.
            let is_short = !pattern.trim().starts_with("arn:");
            if let (Ok(entries), true, None) = (entries, is_short, BASE.rest_of(role)) {
                assert!(!entries.permits(role, &BASE), "{pattern:?} reaches {role}");
            }
        }
        (Err(error), _) => assert!(error.to_string().len() < 1000, "{error}"),
    }
}

fn allowed_glob(pattern: &str, role: &RoleArn) {
    if let Ok(glob) = Glob::parse(pattern) {
        let escaped = pattern.trim();
        assert_eq!(glob.matches(role.as_str()), globbed(escaped.as_bytes(), role.as_str().as_bytes()), "{pattern:?}");
    }
    if let Ok(permission) = Permission::allowed_roles(&array(pattern), AllowedRolesSyntax::Glob, &BASE) {
        let entry = pattern.trim();
        let entry = if entry.starts_with("arn:") {
            entry.to_owned()
        } else {
            format!("{}{}", BASE.as_str(), entry.strip_prefix('/').unwrap_or(entry))
        };
        let expected = globbed(entry.as_bytes(), role.as_str().as_bytes());
        assert_eq!(permission.permits(role, &BASE), expected, "{pattern:?} on {role}");
    }
}

fn array(pattern: &str) -> String {
    serde_json::to_string(&[pattern]).expect("an array of one text")
}

/// Whether the expression matches all of `text`, by anchors that no expression inside can move.
fn is_whole(pattern: &str, text: &str) -> bool {
    let whole = format!(r"\A(?:{})\z", pattern.trim());
    RegexBuilder::new(&whole).unicode(false).build().expect("a pattern is an expression").is_match(text.as_bytes())
}

/// A glob by hand: `reached` holds the places of the glob at which a match can stand.
fn globbed(glob: &[u8], text: &[u8]) -> bool {
    let close = |mut reached: Vec<bool>| {
        for place in 0..glob.len() {
            if reached[place] && glob[place] == b'*' {
                reached[place + 1] = true;
            }
        }
        reached
    };
    let mut start = vec![false; glob.len() + 1];
    start[0] = true;
    let reached = text.iter().fold(close(start), |reached, byte| {
        let mut next = vec![false; glob.len() + 1];
        for place in (0..glob.len()).filter(|place| reached[*place]) {
            match glob[place] {
                b'*' => next[place] = true,
                b'?' => next[place + 1] = true,
                literal => next[place + 1] |= literal == *byte,
            }
        }
        close(next)
    });
    reached[glob.len()]
}
