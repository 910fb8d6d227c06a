//! Which keys were issued for which role: local-cloud's book of all that STS gave.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Sample, Verdict};

/// The role of each access key id.
#[derive(Clone, Debug, Default)]
pub struct Issued(HashMap<String, String>);

impl Issued {
    /// From [`crate::cloud::Control::state`].
    pub fn from_state(state: &Value) -> Result<Self> {
        let keys = state["keys"].as_array().context("local-cloud's state has no keys")?;
        let pair = |key: &Value| Some((key["access_key_id"].as_str()?.into(), key["role_arn"].as_str()?.into()));
        Ok(Self(keys.iter().filter_map(pair).collect()))
    }

    /// The sample, which is wrong where its keys are not those of `role_arn`: another role's, the node's own, or nobody's.
    pub fn check(&self, sample: &Sample, role_arn: &str) -> Verdict {
        match &sample.verdict {
            Verdict::Right(Some(key)) => match self.0.get(key) {
                Some(role) if role == role_arn => sample.verdict.clone(),
                Some(role) => Verdict::Wrong(format!("keys of {role} for a pod of {role_arn}")),
                None => Verdict::Wrong(format!("keys that STS never gave for a pod of {role_arn}")),
            },
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn keys_are_right_for_their_role_alone() {
        let state = json!({"keys": [
            {"access_key_id": "ASIA1", "role_arn": "arn:1"}, {"access_key_id": "ASIA2", "role_arn": "arn:node"}
        ]});
        let issued = Issued::from_state(&state).unwrap();
        let check = |verdict| issued.check(&Sample { began: Instant::now(), verdict }, "arn:1");
        let key = |id: &str| Verdict::Right(Some(id.to_owned()));
        assert_eq!(check(key("ASIA1")), key("ASIA1"));
        assert!(matches!(check(key("ASIA2")), Verdict::Wrong(_)));
        assert!(matches!(check(key("ASIA3")), Verdict::Wrong(_)));
        assert_eq!(check(Verdict::Right(None)), Verdict::Right(None));
        assert_eq!(check(Verdict::Failed("503".into())), Verdict::Failed("503".into()));
        assert!(Issued::from_state(&json!({})).is_err());
    }
}
