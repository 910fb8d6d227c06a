//! What a namespace permits its pods: kiam's `permitted`, or kube2iam's `allowed-roles` where that is absent.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::arn::{BaseArn, RoleArn};
use crate::pattern::{BadPattern, Pattern, PatternSet, check, glob_expression};
use crate::wire::short_reason;

/// The most entries of an `allowed-roles` array: an annotation has room for far more, a person reads far fewer.
const MAX_ENTRIES: usize = 1000;

/// How the entries of `allowed-roles` are written, as kube2iam's `--namespace-restriction-format` had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowedRolesSyntax {
    /// `*` and `?` are wildcards, and reach over slashes.
    #[default]
    Glob,
    /// Regular expressions, here matched whole (kube2iam let them match a part).
    Regexp,
}

/// Why an annotation is no permission.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadPermission {
    /// `permitted` is no expression, or the entries of `allowed-roles` are too large together.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// `allowed-roles` is no JSON array of texts.
    #[error("it is no JSON array of role names: {0}")]
    NotAnArray(String),
    /// `allowed-roles` has too many entries.
    #[error("it has {0} entries, at most {MAX_ENTRIES} are read")]
    TooMany(usize),
    /// An entry of `allowed-roles` is no pattern.
    #[error("its entry {entry:?} is no pattern: {cause}")]
    Entry {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        cause: BadPattern,
    },
}

/// A parsed permission.
#[derive(Clone, Debug, PartialEq)]
pub struct Permission(Form);

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Permitted(Pattern),
    AllowedRoles(PatternSet),
}

impl Permission {
    /// Parses the value of `permitted`.
    pub fn permitted(text: &str) -> Result<Self, BadPermission> {
        Ok(Self(Form::Permitted(Pattern::parse(text)?)))
    }

    /// Parses the value of `allowed-roles`; entries that are no ARN are completed with `base`.
    pub fn allowed_roles(text: &str, syntax: AllowedRolesSyntax, base: &BaseArn) -> Result<Self, BadPermission> {
        let entries: Vec<String> =
            serde_json::from_str(text).map_err(|error| BadPermission::NotAnArray(short_reason(&error)))?;
        if entries.len() > MAX_ENTRIES {
            return Err(BadPermission::TooMany(entries.len()));
        }
        let expression = |entry: &String| {
            expression(entry, syntax, base)
                .map_err(|cause| BadPermission::Entry { entry: entry.chars().take(80).collect(), cause })
        };
        let expressions = entries.iter().map(expression).collect::<Result<_, _>>()?;
        Ok(Self(Form::AllowedRoles(PatternSet::compile(expressions)?)))
    }

    /// Whether it permits `role`.
    pub fn permits(&self, role: &RoleArn, base: &BaseArn) -> bool {
        match &self.0 {
            Form::Permitted(pattern) => pattern_permits(pattern, role, base),
            Form::AllowedRoles(patterns) => patterns.matches(role.as_str()),
        }
    }

    /// Whether it permits no role whatever: an empty expression or an empty array.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Permitted(pattern) => pattern.as_str().is_empty(),
            Form::AllowedRoles(patterns) => patterns.is_empty(),
        }
    }
}

/// The whole ARN; and for a role under the base alone, the rest after it, with and without a slash before it. So a short form
/// never reaches another account's role, and a bare name never one with a path.
pub(crate) fn pattern_permits(pattern: &Pattern, role: &RoleArn, base: &BaseArn) -> bool {
    pattern.matches(role.as_str())
        || base.rest_of(role).is_some_and(|rest| pattern.matches(rest) || pattern.matches(&format!("/{rest}")))
}

/// An entry of `allowed-roles` as an expression of whole ARNs: what is no ARN is a name below the base, as in kube2iam.
fn expression(entry: &str, syntax: AllowedRolesSyntax, base: &BaseArn) -> Result<String, BadPattern> {
    let entry = entry.trim();
    let (base, rest) =
        if entry.starts_with("arn:") { ("", entry) } else { (base.as_str(), entry.strip_prefix('/').unwrap_or(entry)) };
    let expression = match syntax {
        AllowedRolesSyntax::Glob => glob_expression(&format!("{base}{rest}")),
        AllowedRolesSyntax::Regexp => {
            // Checked alone, so that it cannot close the group: neither an alternation nor a bracket leaves the base.
            check(rest)?;
            format!("{}(?:{rest})", regex::escape(base))
        }
    };
    check(&expression)?;
    Ok(expression)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "arn:aws:iam::123456789012:role/";

    fn role(text: &str) -> RoleArn {
        RoleArn::resolve(text, &base()).unwrap()
    }

    fn base() -> BaseArn {
        BaseArn::parse(BASE).unwrap()
    }

    fn permitted(pattern: &str, wanted: &str) -> bool {
        Permission::permitted(pattern).unwrap().permits(&role(wanted), &base())
    }

    fn allowed(json: &str, syntax: AllowedRolesSyntax, wanted: &str) -> bool {
        Permission::allowed_roles(json, syntax, &base()).unwrap().permits(&role(wanted), &base())
    }

    #[test]
    fn permitted_matches_the_arn_or_the_rest_after_the_base() {
        for (pattern, wanted, expected) in [
            ("app", "app", true),
            ("/app", "app", true),
            ("path/app", "path/app", true),
            ("/path/app", "path/app", true),
            ("app", "path/app", false),
            (".*", "arn:aws:iam::999999999999:role/app", true),
            ("app", "arn:aws:iam::999999999999:role/app", false),
            ("/app", "arn:aws:iam::999999999999:role/app", false),
            ("arn:aws:iam::999999999999:role/app", "arn:aws:iam::999999999999:role/app", true),
            ("arn:aws:iam::123456789012:role/app-.*", "app-x", true),
            ("app-*", "app-x", false),
            ("app-*", "app---", true),
            ("red|blue", "redX", false),
            ("", "app", false),
        ] {
            assert_eq!(permitted(pattern, wanted), expected, "{pattern:?} on {wanted}");
        }
    }

    #[test]
    fn allowed_roles_are_completed_and_matched_as_arns() {
        use AllowedRolesSyntax::{Glob, Regexp};
        for (json, syntax, wanted, expected) in [
            (r#"["app"]"#, Glob, "app", true),
            (r#"["/app"]"#, Glob, "app", true),
            (r#"["app-*"]"#, Glob, "app-x", true),
            (r#"["team/*"]"#, Glob, "team/sub/app", true),
            (r#"["*"]"#, Glob, "app", true),
            (r#"["*"]"#, Glob, "arn:aws:iam::999999999999:role/app", false),
            (r#"["arn:aws:iam::999999999999:role/*"]"#, Glob, "arn:aws:iam::999999999999:role/app", true),
            (r#"["app"]"#, Glob, "path/app", false),
            (r#"["other","app"]"#, Glob, "app", true),
            (r"[]", Glob, "app", false),
            (r#"["app.*"]"#, Glob, "app-x", false),
            (r#"["app-.*"]"#, Regexp, "app-x", true),
            (r#"["a|app"]"#, Regexp, "app", true),
            (r#"["a|app"]"#, Regexp, "appX", false),
            (r#"["arn:aws:iam::999999999999:role/a.*"]"#, Regexp, "arn:aws:iam::999999999999:role/app", true),
        ] {
            assert_eq!(allowed(json, syntax, wanted), expected, "{json} ({syntax:?}) on {wanted}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let bad = |json: &str| Permission::allowed_roles(json, AllowedRolesSyntax::Regexp, &base()).unwrap_err();
        assert!(matches!(bad("app"), BadPermission::NotAnArray(_)));
        assert!(matches!(bad("[1]"), BadPermission::NotAnArray(_)));
        assert!(matches!(bad(r#"["(a"]"#), BadPermission::Entry { entry, .. } if entry == "(a"));
        assert_eq!(bad(&format!("[{}]", vec!["\"a\""; 1001].join(","))), BadPermission::TooMany(1001));
        // An entry that would close the group and reach beyond the base.
        assert!(matches!(bad(r#"["a)|(?:.*"]"#), BadPermission::Entry { .. }));
        let long = format!("{:?}", "x".repeat(200_000));
        assert!(bad(&long).to_string().len() < 300, "no annotation is quoted whole");
        assert!(matches!(Permission::permitted("*"), Err(BadPermission::Pattern(BadPattern::Syntax(_)))));
    }

    #[test]
    fn an_empty_permission_is_known_as_such() {
        assert!(Permission::permitted(" ").unwrap().is_empty());
        assert!(Permission::allowed_roles("[]", AllowedRolesSyntax::Glob, &base()).unwrap().is_empty());
        assert!(!Permission::permitted("a").unwrap().is_empty());
    }

    /// Each entry alone is within the limit of one pattern; together they would take a gigabyte.
    #[test]
    fn many_nasty_entries_take_no_more_than_one_list_may() {
        let array = |entry: &str, count: usize| format!("[{}]", vec![format!("{entry:?}"); count].join(","));
        for (entry, syntax) in
            [("(?:a?b?c?d?){900}", AllowedRolesSyntax::Regexp), ("(?:a?b?c?d?){200}", AllowedRolesSyntax::Regexp)]
        {
            let parsed = Permission::allowed_roles(&array(entry, 1000), syntax, &base());
            assert_eq!(parsed, Err(BadPermission::Pattern(BadPattern::TooLarge)));
        }
        let names = array("some-team/an-application-with-a-long-name-*", 1000);
        assert!(allowed(&names, AllowedRolesSyntax::Glob, "some-team/an-application-with-a-long-name-1"));
    }
}
