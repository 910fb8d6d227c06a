//! Whether the caller may invoke the method: the API's resource policy can only deny, the caller's role in IAM must allow.
//!
//! AWS would let an `Allow` of the resource policy stand in for IAM's within one account. The policy that is played here
//! has none for roles, so that `execute-api:Invoke` on the role is proven to be needed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use url::Url;

use super::refusal::Refusal;
use crate::clock::Clock;
use crate::ledger::IssuedKey;
use crate::sts::Upstream;

/// The action of every request.
const ACTION: &str = "execute-api:Invoke";
/// IAM's answer is used so long: a role's edit governs soon, and a load test does not measure ministack.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What IAM says about an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Allowed,
    ImplicitDeny,
    ExplicitDeny,
}

/// The judge of one method.
#[derive(Debug)]
pub(super) struct Authorization {
    upstream: Upstream,
    clock: Clock,
    /// The method's ARN.
    resource: String,
    /// The roles that the resource policy does not deny; absent: it denies none.
    allowed_roles: Option<Vec<String>>,
    /// By role ARN. Held for a single map operation, never across an await.
    remembered: Mutex<HashMap<String, (SystemTime, Decision)>>,
}

impl Authorization {
    pub(super) fn new(
        upstream: &Url,
        region: &str,
        clock: Clock,
        resource: String,
        allowed_roles: Option<Vec<String>>,
    ) -> Option<Self> {
        let upstream = Upstream::new(upstream.authority().parse().ok()?, region.to_owned(), clock.clone());
        Some(Self { upstream, clock, resource, allowed_roles, remembered: Mutex::default() })
    }

    /// Refuses a caller whom a policy denies, or none allows.
    pub(super) async fn check(&self, caller: &IssuedKey) -> Result<(), Refusal> {
        if self.allowed_roles.as_ref().is_some_and(|roles| !roles.contains(&caller.role_arn)) {
            return Err(self.denied(caller, "with an explicit deny in a resource-based policy"));
        }
        match self.identity(caller).await? {
            Decision::Allowed => Ok(()),
            Decision::ImplicitDeny => {
                Err(self.denied(caller, &format!("because no identity-based policy allows the {ACTION} action")))
            }
            Decision::ExplicitDeny => Err(self.denied(caller, "with an explicit deny in an identity-based policy")),
        }
    }

    fn denied(&self, caller: &IssuedKey, reason: &str) -> Refusal {
        let resource = masked(&self.resource);
        let user = caller.assumed_role_arn();
        let text = format!("User: {user} is not authorized to perform: {ACTION} on resource: {resource} {reason}");
        Refusal::AccessDenied(text)
    }

    async fn identity(&self, caller: &IssuedKey) -> Result<Decision, Refusal> {
        let now = self.clock.now();
        if let Some(decision) = self.remembered(&caller.role_arn, now) {
            return Ok(decision);
        }
        let decision = self.ask(caller).await?;
        self.lock().insert(caller.role_arn.clone(), (now, decision));
        Ok(decision)
    }

    fn remembered(&self, role_arn: &str, now: SystemTime) -> Option<Decision> {
        let (at, decision) = *self.lock().get(role_arn)?;
        now.duration_since(at).is_ok_and(|age| age < REMEMBERED).then_some(decision)
    }

    async fn ask(&self, caller: &IssuedKey) -> Result<Decision, Refusal> {
        let unanswered = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, role = caller.role_arn, "IAM does not say whether the role may invoke");
            Refusal::Internal
        };
        // Ministack finds a role by what follows `role/`, so its path is left out; names are unique without.
        let partition = caller.role_arn.split(':').nth(1).unwrap_or("aws");
        let role = format!("arn:{partition}:iam::{}:role/{}", caller.account, caller.role_name);
        let form = [
            ("Action", "SimulatePrincipalPolicy"),
            ("Version", "2010-05-08"),
            ("PolicySourceArn", role.as_str()),
            ("ActionNames.member.1", ACTION),
            ("ResourceArns.member.1", self.resource.as_str()),
        ];
        let request = self.upstream.as_root(&caller.account, "iam", &form).map_err(|error| unanswered(&error))?;
        let answer = self.upstream.forward(request).await.map_err(|error| unanswered(&error))?;
        let answer = Upstream::read(answer).await.map_err(|error| unanswered(&error))?;
        decision(answer.body()).ok_or_else(|| unanswered(&answer.status()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (SystemTime, Decision)>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one evaluation in an answer of `SimulatePrincipalPolicy`.
fn decision(answer: &[u8]) -> Option<Decision> {
    let text = std::str::from_utf8(answer).ok()?;
    let (_, rest) = text.split_once("<EvalDecision>")?;
    match rest.split_once("</EvalDecision>")?.0 {
        "allowed" => Some(Decision::Allowed),
        "implicitDeny" => Some(Decision::ImplicitDeny),
        "explicitDeny" => Some(Decision::ExplicitDeny),
        _ => None,
    }
}

/// API Gateway shows only the last digits of the account.
fn masked(arn: &str) -> String {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let [arn, partition, service, region, account, rest] = parts.as_slice() else { return arn.to_owned() };
    let shown = account.get(account.len().saturating_sub(4)..).unwrap_or_default();
    format!("{arn}:{partition}:{service}:{region}:********{shown}:{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_iams_own_words_decide() {
        let answer = |word: &str| format!("<EvalActionName>a</EvalActionName><EvalDecision>{word}</EvalDecision>");
        assert_eq!(decision(answer("allowed").as_bytes()), Some(Decision::Allowed));
        assert_eq!(decision(answer("implicitDeny").as_bytes()), Some(Decision::ImplicitDeny));
        assert_eq!(decision(answer("explicitDeny").as_bytes()), Some(Decision::ExplicitDeny));
        assert_eq!(decision(answer("Allowed").as_bytes()), None);
        assert_eq!(decision(b"<EvalDecision>allowed"), None);
        assert_eq!(decision(b"\xff"), None);
    }

    #[test]
    fn the_account_is_masked() {
        assert_eq!(
            masked("arn:aws:execute-api:eu-central-1:123456789012:abc/v1/POST/credentials"),
            "arn:aws:execute-api:eu-central-1:********9012:abc/v1/POST/credentials"
        );
    }
}
