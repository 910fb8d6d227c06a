//! A record of libcni's. The first line of the input is the file's name, the rest its text.

use model::name::PodRef;
use node_agent::identity::{Record, RoleHint};
use serde_json::Value;

const ROLE: &str = "iam.amazonaws.com/role";
const ANNOTATIONS: &str = "/capabilityArgs/io.kubernetes.cri.pod-annotations";

pub(super) fn run(input: &[u8]) {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (name, text) = input.split_at(end);
    let (Ok(name), text) = (std::str::from_utf8(name), text.get(1..).unwrap_or_default()) else { return };
    let Ok(record) = Record::parse(name, text, ROLE) else { return };
    check_addresses(&record);
    // A field that no record has may hold what this reader does not take, such as half a surrogate pair.
    if let Ok(value) = serde_json::from_slice(text) {
        check_text(name, &record, &value);
    }
    // A record is written in place: no part of one may pass for a whole.
    let whole = text.trim_ascii_end();
    let cut = whole.get(..whole.len().saturating_sub(1 + text.len() % 7)).unwrap_or_default();
    assert!(Record::parse(name, cut, ROLE).is_err(), "a torn record was read");
}

fn check_addresses(record: &Record) {
    assert!(record.addresses.is_sorted_by(|one, next| one < next), "{:?}", record.addresses);
    for address in &record.addresses {
        let is_a_pods = !(address.is_loopback() || address.is_unspecified() || address.is_multicast());
        assert!(is_a_pods && address.to_canonical() == *address, "{address}");
    }
    assert!(record.host_interfaces.is_sorted_by(|one, next| one < next), "{:?}", record.host_interfaces);
    for interface in &record.host_interfaces {
        assert!((1..16).contains(&interface.len()) && interface != "lo", "{interface:?}");
    }
}

/// What a simpler reader finds in the same text.
fn check_text(name: &str, record: &Record, value: &Value) {
    let field = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(field("kind"), "cniCacheV1");
    assert_eq!(record.id.as_str(), field("containerId"));
    assert_eq!(name, format!("{}-{}-{}", field("networkName"), field("containerId"), field("ifName")));
    assert!(field("networkName") != "cni-loopback" && field("ifName") != "lo");
    assert!(!record.host_interfaces.iter().any(|interface| interface == field("ifName")));
    let PodRef { namespace, name, uid } = &record.pod;
    for (key, expected) in
        [("K8S_POD_NAMESPACE", namespace.as_str()), ("K8S_POD_NAME", name.as_str()), ("K8S_POD_UID", uid.as_str())]
    {
        let pairs = value.get("cniArgs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let values: Vec<_> = pairs.iter().filter(|pair| pair[0] == key && pair[1] != "").map(|pair| &pair[1]).collect();
        assert_eq!(values, [expected], "{key}");
    }
    let annotations = value.pointer(ANNOTATIONS).and_then(Value::as_object);
    let hint = annotations.map_or(RoleHint::Unknown, |annotations| {
        if annotations.contains_key(ROLE) { RoleHint::Annotated } else { RoleHint::NotAnnotated }
    });
    assert_eq!(record.hint, hint);
}
