//! The annotations that people write, and their keys, which are settings.

use serde::{Deserialize, Serialize};

/// The keys of the annotations. The defaults are kiam's and kube2iam's, so that a migration edits no manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AnnotationKeys {
    /// On a pod: the role it wants.
    pub role: String,
    /// On a pod or a namespace: the external id that STS is told.
    pub external_id: String,
    /// On a pod: the name of the session.
    pub session_name: String,
    /// On a namespace: the regular expression of the roles its pods may have.
    pub permitted: String,
    /// On a namespace: kube2iam's JSON array of such roles, read where `permitted` is absent.
    pub allowed_roles: String,
}

impl Default for AnnotationKeys {
    fn default() -> Self {
        let key = |name: &str| format!("iam.amazonaws.com/{name}");
        Self {
            role: key("role"),
            external_id: key("external-id"),
            session_name: key("session-name"),
            permitted: key("permitted"),
            allowed_roles: key("allowed-roles"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kiams() {
        let keys = AnnotationKeys::default();
        assert_eq!(keys.role, "iam.amazonaws.com/role");
        assert_eq!(keys.permitted, "iam.amazonaws.com/permitted");
        assert_eq!(keys.allowed_roles, "iam.amazonaws.com/allowed-roles");
    }

    #[test]
    fn one_key_can_be_changed_alone_and_a_misspelt_one_is_an_error() {
        let keys: AnnotationKeys = serde_json::from_str(r#"{"role":"example.com/role"}"#).unwrap();
        assert_eq!(keys, AnnotationKeys { role: "example.com/role".into(), ..AnnotationKeys::default() });
        assert!(serde_json::from_str::<AnnotationKeys>(r#"{"rolle":"x"}"#).is_err());
    }
}
