//! The decision: may this pod, asking from this instance, have its role?
//!
//! [`decide`] is pure. It asks the rules in the order of [`RefusalCode::ALL`], stops at the first that refuses, and hands out a
//! [`Permit`] only when none did. A permit has no other source, is not `Clone`, and is what the code that calls STS or hands
//! out a cached session demands: skipping the decision does not compile.

mod message;

use std::sync::OnceLock;
use std::time::Duration;

use crate::annotation::AnnotationKeys;
use crate::arn::{BaseArn, RoleArn};
use crate::assumable::AssumableRoles;
use crate::name::{ClusterName, InstanceId, PodRef};
use crate::pattern::{Pattern, corrected};
use crate::permission::{AllowedRolesSyntax, BadPermission, Permission, pattern_permits};
use crate::record::{HealthRecord, NamespaceRecord, PodRecord};
use crate::refusal::{Refusal, RefusalCode};
use crate::session::{Attribution, SessionSpec, Subject, external_id_fault};
use crate::time::UnixMillis;
use crate::wire::Ask;

/// How old the pod watch's last word may be while a missing record still means that there is none.
pub const STALE_AFTER: Duration = Duration::from_mins(3);
/// How old it may be before even an existing record is no longer believed: a sync outage must kill no running pod.
pub const DEFAULT_STALE_LIMIT: Duration = Duration::from_hours(6);
/// How long a pod that the directory has on another node is asked about again: a moved `StatefulSet` pod's record follows.
pub const MOVED_POD_GRACE: Duration = Duration::from_secs(30);

/// What the issuer's deployer decided for a cluster.
#[derive(Clone, Debug)]
pub struct ClusterPolicy {
    /// The cluster.
    pub cluster: ClusterName,
    /// What short role names are completed with.
    pub base_arn: BaseArn,
    /// The keys of the annotations, for messages.
    pub keys: AnnotationKeys,
    /// The roles that pods of this cluster may have at all.
    pub assumable: AssumableRoles,
    /// Rolecall's own roles, which no pod may have: the issuer's, the sync's, the nodes'.
    pub protected: Vec<RoleArn>,
    /// What a namespace without annotations permits; none: nothing.
    pub default_permitted: Option<Permission>,
    /// How `allowed-roles` is written.
    pub allowed_roles_syntax: AllowedRolesSyntax,
    /// How sessions are attributed.
    pub attribution: Attribution,
    /// How old the directory may be before existing records are no longer believed.
    pub stale_limit: Duration,
}

/// A namespace's record and what it permits. Reading that compiles patterns, and a person may write nasty ones: so it is done
/// when a pod first comes to it, and once for all pods of a request, which all have one policy.
#[derive(Debug)]
pub struct NamespaceRules {
    record: NamespaceRecord,
    permission: OnceLock<Result<Option<Permission>, BadPermission>>,
    /// The pattern that was meant, which only some refusals name.
    corrected: OnceLock<Option<Pattern>>,
}

impl From<NamespaceRecord> for NamespaceRules {
    fn from(record: NamespaceRecord) -> Self {
        Self { record, permission: OnceLock::new(), corrected: OnceLock::new() }
    }
}

impl NamespaceRules {
    /// `permitted` alone where it is there, else `allowed-roles`, else the default.
    fn permission(&self, policy: &ClusterPolicy) -> Result<Option<&Permission>, &BadPermission> {
        let read = || match (&self.record.permitted, &self.record.allowed_roles) {
            (Some(text), _) => Permission::permitted(text).map(Some),
            (None, Some(text)) => {
                Permission::allowed_roles(text, policy.allowed_roles_syntax, &policy.base_arn).map(Some)
            }
            (None, None) => Ok(policy.default_permitted.clone()),
        };
        self.permission.get_or_init(read).as_ref().map(Option::as_ref)
    }

    /// The key and the text of the annotation that decides.
    fn written<'a>(&'a self, policy: &'a ClusterPolicy) -> (&'a str, &'a str) {
        match (&self.record.permitted, &self.record.allowed_roles) {
            (Some(text), _) => (&policy.keys.permitted, text),
            (None, Some(text)) => (&policy.keys.allowed_roles, text),
            (None, None) => (&policy.keys.permitted, ""),
        }
    }

    /// The pattern that the writer meant, where it would have permitted `role`: for the sentence that says what to write.
    fn correction(&self, role: &RoleArn, base: &BaseArn) -> Option<&Pattern> {
        let text = self.record.permitted.as_deref().unwrap_or_default();
        let meant = self.corrected.get_or_init(|| corrected(text)).as_ref();
        meant.filter(|pattern| pattern_permits(pattern, role, base))
    }
}

/// What the directory says about a pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The record under the pod's name.
    pub pod: Option<&'a PodRecord>,
    /// The rules of its namespace.
    pub namespace: Option<&'a NamespaceRules>,
    /// How fresh the directory is.
    pub health: Option<&'a HealthRecord>,
}

/// The right to one session for one pod. Only [`decide`] makes one, and whoever hands out credentials spends it.
#[derive(Debug)]
pub struct Permit {
    pod: PodRef,
    session: SessionSpec,
}

impl Permit {
    /// The pod that it is for.
    pub fn pod(&self) -> &PodRef {
        &self.pod
    }

    /// What STS is to be told.
    pub fn session(&self) -> &SessionSpec {
        &self.session
    }

    /// Gives the permit up for the session it stands for.
    pub fn spend(self) -> SessionSpec {
        self.session
    }
}

/// Decides on one pod of a request that `caller` signed.
///
/// # Errors
/// The first rule that refuses, with the sentence that says what to change.
pub fn decide(
    policy: &ClusterPolicy,
    caller: &InstanceId,
    ask: &Ask,
    facts: Facts<'_>,
    now: UnixMillis,
) -> Result<Permit, Refusal> {
    let record = known_pod(policy, caller, ask, facts, now)?;
    let role = wanted_role(policy, ask, record)?;
    let namespace = namespace_permits(policy, ask, &role, facts.namespace)?;
    issuer_permits(policy, ask, &role)?;
    let external_id = external_id(policy, ask, &role, record, namespace)?;
    let subject = Subject {
        cluster: &policy.cluster,
        pod: &ask.pod,
        service_account: &record.service_account,
        wanted_session_name: record.session_name.as_deref(),
    };
    let session = SessionSpec::new(role, external_id, subject, &policy.attribution);
    Ok(Permit { pod: ask.pod.clone(), session })
}

/// The pod's record, once it is certain that it is that pod's and that the pod is on the caller.
fn known_pod<'a>(
    policy: &ClusterPolicy,
    caller: &InstanceId,
    ask: &Ask,
    facts: Facts<'a>,
    now: UnixMillis,
) -> Result<&'a PodRecord, Refusal> {
    let as_of = facts.health.map_or(UnixMillis::EPOCH, |health| health.pods_as_of);
    let silence = now.since(as_of);
    let sandbox_age = Duration::from_millis(ask.sandbox_age_ms);
    // Equal does not count as newer: the directory must have heard something after the sandbox was there.
    let newer_than_sandbox = as_of > now.minus(sandbox_age);
    let Some(record) = facts.pod else {
        return Err(if silence > STALE_AFTER {
            Refusal::new(RefusalCode::DirectoryStale, message::stale(ask, silence))
        } else if newer_than_sandbox {
            Refusal::new(RefusalCode::NoRole, message::no_role(ask, &policy.keys))
        } else {
            Refusal::new(RefusalCode::PodUnknown, message::pod_unknown(ask))
        });
    };
    // The namespace's record is about to be believed too, and comes by a watch of its own.
    let of_namespaces = facts.health.map_or(UnixMillis::EPOCH, |health| health.namespaces_as_of);
    let silence = silence.max(now.since(of_namespaces));
    if silence > policy.stale_limit {
        return Err(Refusal::new(RefusalCode::DirectoryStale, message::stale(ask, silence)));
    }
    let Some(instance) = &record.instance else {
        return Err(Refusal::new(RefusalCode::PodUnknown, message::no_instance(ask, record)));
    };
    if record.uid != ask.pod.uid {
        let refusal = Refusal::new(RefusalCode::PodReplaced, message::pod_replaced(ask));
        return Err(refusal.retry_soon_if(!newer_than_sandbox));
    }
    if instance != caller {
        let refusal = Refusal::new(RefusalCode::PodOnOtherNode, message::pod_on_other_node(ask, caller));
        return Err(refusal.retry_soon_if(sandbox_age < MOVED_POD_GRACE));
    }
    Ok(record)
}

fn wanted_role(policy: &ClusterPolicy, ask: &Ask, record: &PodRecord) -> Result<RoleArn, Refusal> {
    RoleArn::resolve(&record.role, &policy.base_arn)
        .map_err(|error| Refusal::new(RefusalCode::InvalidRole, message::invalid_role(ask, &policy.keys, &error)))
}

fn namespace_permits<'a>(
    policy: &ClusterPolicy,
    ask: &Ask,
    role: &RoleArn,
    rules: Option<&'a NamespaceRules>,
) -> Result<&'a NamespaceRecord, Refusal> {
    let Some(rules) = rules else {
        let refusal = Refusal::new(RefusalCode::NamespaceUnknown, message::namespace_unknown(ask));
        return Err(refusal.for_role(role));
    };
    let (key, text) = rules.written(policy);
    let base = &policy.base_arn;
    let permission = rules.permission(policy).map_err(|error| {
        let sentence = message::invalid_pattern(ask, key, text, error, rules.correction(role, base), role, base);
        Refusal::new(RefusalCode::InvalidPermittedPattern, sentence).for_role(role)
    })?;
    let Some(permission) = permission.filter(|permission| !permission.is_empty()) else {
        let sentence = message::permits_nothing(ask, &policy.keys, role, base);
        return Err(Refusal::new(RefusalCode::NamespacePermitsNothing, sentence).for_role(role));
    };
    if !permission.permits(role, base) {
        let sentence = message::forbids(ask, key, text, rules.correction(role, base), role, base);
        return Err(Refusal::new(RefusalCode::NamespaceForbidsRole, sentence).for_role(role));
    }
    Ok(&rules.record)
}

fn issuer_permits(policy: &ClusterPolicy, ask: &Ask, role: &RoleArn) -> Result<(), Refusal> {
    let sentence = if policy.protected.iter().any(|own| own.is_same_role(role)) {
        message::protected(ask, role)
    } else if policy.assumable.contains(role) {
        return Ok(());
    } else {
        message::not_assumable(ask, role, &policy.cluster)
    };
    Err(Refusal::new(RefusalCode::IssuerForbidsRole, sentence).for_role(role))
}

/// The namespace's external id, where it has one, overrides the pod's. One that STS would not read is refused here, under the
/// code that STS's own refusal would have.
fn external_id(
    policy: &ClusterPolicy,
    ask: &Ask,
    role: &RoleArn,
    pod: &PodRecord,
    namespace: &NamespaceRecord,
) -> Result<Option<String>, Refusal> {
    let (object, text) = match (&namespace.external_id, &pod.external_id) {
        (Some(text), _) => (format!("namespace {}", ask.pod.namespace), text),
        (None, Some(text)) => (format!("pod {}", ask.pod), text),
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    match external_id_fault(text) {
        None => Ok(Some(text.to_owned())),
        Some(expected) => {
            let sentence = message::bad_external_id(&object, &policy.keys, expected);
            Err(Refusal::new(RefusalCode::AssumeRoleDenied, sentence).for_role(role))
        }
    }
}

#[cfg(test)]
mod tests;
