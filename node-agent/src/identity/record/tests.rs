use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ROLE: &str = "iam.amazonaws.com/role";
const ID: &str = "0f3c5d";

/// As libcni 1.3 writes it for VPC CNI under containerd, shortened.
fn record() -> Value {
    json!({
        "kind": "cniCacheV1",
        "containerId": ID,
        "config": "eyJjbmlWZXJzaW9uIjoiMS4wLjAifQ==",
        "ifName": "eth0",
        "networkName": "aws-cni",
        "netns": "/var/run/netns/cni-1",
        "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web-0"],
                    ["K8S_POD_INFRA_CONTAINER_ID", ID], ["K8S_POD_UID", "uid-web-0"]],
        "capabilityArgs": {"io.kubernetes.cri.pod-annotations": {ROLE: "app"}, "portMappings": []},
        "result": {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eni0123456789a"}, {"name": "eth0", "sandbox": "/var/run/netns/cni-1"}],
            "ips": [{"address": "10.0.1.7/32", "interface": 1}],
            "dns": {}
        }
    })
}

fn parse(record: &Value) -> Result<Record, Skip> {
    Record::parse("aws-cni-0f3c5d-eth0", record.to_string().as_bytes(), ROLE)
}

fn with(path: &str, value: Value) -> Value {
    let mut record = record();
    *record.pointer_mut(path).expect("the path exists") = value;
    record
}

#[test]
fn a_record_of_vpc_cni_is_read_whole() {
    assert_eq!(
        parse(&record()).unwrap(),
        Record {
            id: SandboxId::parse(ID).unwrap(),
            pod: PodRef {
                namespace: Namespace::parse("default").unwrap(),
                name: PodName::parse("web-0").unwrap(),
                uid: Uid::parse("uid-web-0").unwrap(),
            },
            hint: RoleHint::Annotated,
            role: Some(RoleTag::of("app")),
            addresses: vec!["10.0.1.7".parse().unwrap()],
            host_interfaces: vec!["eni0123456789a".into()],
        }
    );
}

#[test]
fn every_version_of_a_result_is_understood() {
    let addresses = |result: Value| parse(&with("/result", result)).map(|r| (r.addresses, r.host_interfaces.len()));
    let [v4, v6]: [IpAddr; 2] = ["10.0.1.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    let interfaces = json!([{"name": "vethA", "mac": "m"}, {"name": "eth0", "sandbox": "/ns"}]);
    for version in ["0.3.1", "0.4.0"] {
        let ips = json!([{"version": "6", "address": "fd00::7/64", "gateway": "fd00::1"},
                         {"version": "4", "address": "10.0.1.7/24", "interface": 1}]);
        let result = json!({"cniVersion": version, "interfaces": interfaces, "ips": ips});
        assert_eq!(addresses(result), Ok((vec![v4, v6], 1)), "{version}");
    }
    let result = json!({"cniVersion": "1.1.0", "interfaces": interfaces, "ips": [{"address": "fd00::7/64"}]});
    assert_eq!(addresses(result), Ok((vec![v6], 1)));
    let result = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.1.7/24"}, "ip6": {"ip": "fd00::7/64"}});
    assert_eq!(addresses(result), Ok((vec![v4, v6], 0)));
    assert_eq!(addresses(json!({"cniVersion": "1.0.0", "ips": null, "interfaces": null})), Ok((vec![], 0)));
    assert_eq!(addresses(Value::Null), Ok((vec![], 0)));
}

#[test]
fn ipv4_inside_ipv6_is_ipv4_and_repeated_addresses_are_one() {
    let ips = json!([{"address": "::ffff:10.0.1.7/128"}, {"address": "10.0.1.7"}]);
    assert_eq!(parse(&with("/result/ips", ips)).unwrap().addresses, ["10.0.1.7".parse::<IpAddr>().unwrap()]);
}

#[test]
fn addresses_that_no_pod_asks_from_make_a_record_malformed() {
    for address in
        ["", "10.0.1", "10.0.1.7/33", "10.0.1.7/24/1", "127.0.0.1/8", "::/0", "0.0.0.0/0", "224.0.0.1", "::1"]
    {
        assert_eq!(parse(&with("/result/ips/0/address", json!(address))), Err(Skip::Malformed), "{address:?}");
    }
}

#[test]
fn annotations_are_a_hint_only_where_they_are_seen() {
    let hint = |args: Value| parse(&with("/capabilityArgs", args)).unwrap().hint;
    let annotations = |map: Value| json!({"io.kubernetes.cri.pod-annotations": map});
    assert_eq!(hint(annotations(json!({"kubernetes.io/config.source": "api"}))), RoleHint::NotAnnotated);
    assert_eq!(hint(annotations(json!({}))), RoleHint::NotAnnotated);
    assert_eq!(hint(annotations(json!(null))), RoleHint::Unknown);
    assert_eq!(hint(annotations(json!("role"))), RoleHint::Unknown);
    assert_eq!(hint(json!({})), RoleHint::Unknown);
    assert_eq!(hint(json!(null)), RoleHint::Unknown);
    assert_eq!(hint(json!(["x"])), RoleHint::Unknown);
}

#[test]
fn only_host_side_interfaces_count() {
    let interfaces = json!([{"name": "eth0"}, {"name": "lo"}, {"name": ""}, {"name": "a-name-beyond-the-kernels"},
        {"name": "dummy1", "sandbox": "0"}, {"name": "cni0", "sandbox": ""}, {"name": "vethA"}, {"name": "vethA"}]);
    assert_eq!(parse(&with("/result/interfaces", interfaces)).unwrap().host_interfaces, ["cni0", "vethA"]);
}

#[test]
fn what_is_no_pods_record_is_skipped_for_its_own_reason() {
    let text = |text: &str| Record::parse("aws-cni-0f3c5d-eth0", text.as_bytes(), ROLE);
    assert_eq!(text(""), Err(Skip::Empty));
    let whole = record().to_string();
    assert_eq!(text(&whole[..whole.len() - 1]), Err(Skip::Torn));
    assert_eq!(text("not JSON"), Err(Skip::Foreign));
    assert_eq!(text("[]"), Err(Skip::Foreign));
    assert_eq!(text(r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.1.7/24"}}"#), Err(Skip::Foreign));
    assert_eq!(parse(&with("/kind", json!("cniCacheV2"))), Err(Skip::Foreign));
    assert_eq!(parse(&with("/containerId", json!("other"))), Err(Skip::Foreign));
    assert_eq!(Record::parse("aws-cni-0f3c5d-eth0.bak", whole.as_bytes(), ROLE), Err(Skip::Foreign));
    assert_eq!(parse(&with("/cniArgs", json!([["K8S_POD_NAME", "web-0"]]))), Err(Skip::NoPod));
    assert_eq!(parse(&with("/cniArgs", json!(null))), Err(Skip::NoPod));
    assert_eq!(parse(&with("/cniArgs/4/1", json!(""))), Err(Skip::NoUid));
    assert_eq!(parse(&with("/cniArgs/2/1", json!("../web"))), Err(Skip::Malformed));
    assert_eq!(parse(&with("/cniArgs/0", json!(["K8S_POD_UID", "another"]))), Err(Skip::Malformed));
}

#[test]
fn loopback_is_not_ours() {
    let mut loopback = record();
    loopback["networkName"] = json!("cni-loopback");
    loopback["ifName"] = json!("lo");
    let text = loopback.to_string();
    assert_eq!(Record::parse("cni-loopback-0f3c5d-lo", text.as_bytes(), ROLE), Err(Skip::Loopback));
}

#[test]
fn a_container_id_is_checked() {
    for id in ["-a", "a b", "a/b", &"a".repeat(129)] {
        let mut record = record();
        record["containerId"] = json!(id);
        let text = record.to_string();
        assert_eq!(Record::parse(&format!("aws-cni-{id}-eth0"), text.as_bytes(), ROLE), Err(Skip::Malformed), "{id:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_skipped_not_fatal(name in ".{0,40}", text in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Record::parse(&name, &text, ROLE).is_err());
    }

    #[test]
    fn a_record_cut_anywhere_is_torn(cut in 1_usize..500) {
        let whole = record().to_string();
        if cut < whole.len() {
            prop_assert_eq!(Record::parse("aws-cni-0f3c5d-eth0", &whole.as_bytes()[..cut], ROLE), Err(Skip::Torn));
        }
    }

    #[test]
    fn one_altered_byte_never_makes_another_sandbox(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = record().to_string().into_bytes();
        let place = place.index(text.len());
        text[place] = byte;
        if let Ok(record) = Record::parse("aws-cni-0f3c5d-eth0", &text, ROLE) {
            prop_assert_eq!(record.id.as_str(), ID);
        }
    }
}
