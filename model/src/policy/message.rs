//! The sentences of refusals: each names the object, the annotation and what to write. They are read in credentials documents,
//! Kubernetes Events, audit lines and terminals, so each stands alone.

use std::time::Duration;

use crate::annotation::AnnotationKeys;
use crate::arn::{BaseArn, RoleArn};
use crate::name::{ClusterName, InstanceId, InvalidName};
use crate::pattern::Pattern;
use crate::permission::BadPermission;
use crate::record::PodRecord;
use crate::wire::Ask;

/// Longest part of an annotation's text that a sentence quotes, in characters.
const QUOTED: usize = 200;

pub(super) fn stale(ask: &Ask, silence: Duration) -> String {
    format!(
        "Pod {}: the directory last heard from the cluster {} s ago, so its record, or the lack of one, is not believed. \
         Look at annotation-sync: is it running, and does it reach the Kubernetes API?",
        ask.pod,
        silence.as_secs()
    )
}

pub(super) fn no_role(ask: &Ask, keys: &AnnotationKeys) -> String {
    format!(
        "Pod {} has no annotation {role}. To give it a role, set {role} on the pod (in a workload: under \
         spec.template.metadata.annotations). Pods with hostNetwork and static pods never get one.",
        ask.pod,
        role = keys.role
    )
}

pub(super) fn pod_unknown(ask: &Ask) -> String {
    format!(
        "Pod {} is younger than the directory's last word from the cluster; its record may still arrive. If this lasts more \
         than a minute, look at annotation-sync.",
        ask.pod
    )
}

pub(super) fn no_instance(ask: &Ask, record: &PodRecord) -> String {
    format!(
        "Pod {} is bound to node {}, whose EC2 instance id is not known yet. If this lasts, look at the node's spec.providerID.",
        ask.pod, record.node
    )
}

pub(super) fn pod_replaced(ask: &Ask) -> String {
    format!(
        "The directory has another pod named {}, not the one with UID {} that asks. A pod of that name was replaced; the old one \
         gets no credentials.",
        ask.pod, ask.pod.uid
    )
}

pub(super) fn pod_on_other_node(ask: &Ask, caller: &InstanceId) -> String {
    format!("Pod {} is not on {caller}, which asks for it: a node gets only the roles of its own pods.", ask.pod)
}

pub(super) fn invalid_role(ask: &Ask, keys: &AnnotationKeys, error: &InvalidName) -> String {
    format!("Pod {}, annotation {}: {error}.", ask.pod, keys.role)
}

pub(super) fn namespace_unknown(ask: &Ask) -> String {
    format!(
        "The directory has not heard of namespace {} yet. If this lasts more than a minute, look at annotation-sync.",
        ask.pod.namespace
    )
}

pub(super) fn permits_nothing(ask: &Ask, keys: &AnnotationKeys, role: &RoleArn, base: &BaseArn) -> String {
    format!(
        "Namespace {} permits no roles. To permit this one, annotate the namespace with {}: {}",
        ask.pod.namespace,
        keys.permitted,
        pattern_for(role, base)
    )
}

pub(super) fn invalid_pattern(
    ask: &Ask,
    key: &str,
    text: &str,
    error: &BadPermission,
    correction: Option<&Pattern>,
    role: &RoleArn,
    base: &BaseArn,
) -> String {
    let advice = match correction {
        Some(pattern) => format!("Write {key}: {}", quoted(pattern.as_str())),
        None => format!("To permit {role} alone, write {}", example(error, role, base)),
    };
    format!("Namespace {}, annotation {key}: {} cannot be read: {error}. {advice}", ask.pod.namespace, quoted(text))
}

pub(super) fn forbids(
    ask: &Ask,
    key: &str,
    text: &str,
    correction: Option<&Pattern>,
    role: &RoleArn,
    base: &BaseArn,
) -> String {
    let advice = match correction {
        Some(pattern) => format!(
            "It is a regular expression, in which any text is written .* and not *: write {}",
            quoted(pattern.as_str())
        ),
        None => format!("To permit it, add {} to that annotation, or change the pod's role", pattern_for(role, base)),
    };
    let written = if text.is_empty() { "the default".to_owned() } else { quoted(text) };
    format!("Namespace {} does not permit {role}: its annotation {key} is {written}. {advice}", ask.pod.namespace)
}

pub(super) fn protected(ask: &Ask, role: &RoleArn) -> String {
    format!(
        "Pod {} asks for {role}, which is a role of Rolecall itself or of a node and is never handed out. Give the pod a role \
         of its own.",
        ask.pod
    )
}

pub(super) fn not_assumable(ask: &Ask, role: &RoleArn, cluster: &ClusterName) -> String {
    format!(
        "Pod {} asks for {role}, which is not on the issuer's list for cluster {cluster}. Whoever deploys the issuer can add it to \
         ASSUMABLE_ROLES and to the issuer's IAM policy, the same string in both.",
        ask.pod
    )
}

pub(super) fn bad_external_id(object: &str, keys: &AnnotationKeys, expected: &str) -> String {
    format!("The annotation {} of {object} is no external id that STS takes: expected {expected}.", keys.external_id)
}

/// The narrowest pattern that permits `role`, in the form people write.
fn pattern_for(role: &RoleArn, base: &BaseArn) -> String {
    // A hyphen is special in classes alone; escaped, the pattern would look like none that people write.
    regex::escape(base.rest_of(role).unwrap_or(role.as_str())).replace(r"\-", "-")
}

fn example(error: &BadPermission, role: &RoleArn, base: &BaseArn) -> String {
    match error {
        BadPermission::Pattern(_) => pattern_for(role, base),
        BadPermission::NotAnArray(_) | BadPermission::TooMany(_) | BadPermission::Entry { .. } => {
            format!("[\"{}\"]", base.rest_of(role).unwrap_or(role.as_str()))
        }
    }
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED).collect();
    format!("{cut:?}")
}
