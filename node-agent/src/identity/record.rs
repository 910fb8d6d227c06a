//! One record of libcni's: the text of a file in the results directory, parsed.
//!
//! The form is libcni's `cachedInfo` (kind `cniCacheV1`) around a result of any CNI version:
//! <https://github.com/containernetworking/cni/blob/main/libcni/api.go>

use std::net::IpAddr;

use ipnet::IpNet;
use model::name::{Namespace, PodName, PodRef, Uid};
use serde::Deserialize;
use serde_json::Value;

use super::metrics::Skip;
use super::sandbox::{RoleHint, RoleTag, SandboxId};

/// The longest record read. Kubernetes lets a pod's annotations come to 256 KiB, which JSON's escapes can double; the
/// rest of a record is a few kilobytes.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;
/// The kernel's limit for an interface's name.
const MAX_INTERFACE_NAME: usize = 15;
/// Where containerd puts the pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The sandbox.
    pub id: SandboxId,
    /// Its pod.
    pub pod: PodRef,
    /// Whether the pod asks for a role.
    pub hint: RoleHint,
    /// Which, where it is seen.
    pub role: Option<RoleTag>,
    /// Sorted, IPv4 as IPv4.
    pub addresses: Vec<IpAddr>,
    /// Sorted.
    pub host_interfaces: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    kind: Option<String>,
    container_id: Option<String>,
    if_name: Option<String>,
    network_name: Option<String>,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    capability_args: Option<Value>,
    #[serde(default)]
    result: Option<CniResult>,
}

/// A result of CNI 0.3.0 to 1.1.0 has `ips`, one of 0.2.0 has `ip4` and `ip6`.
#[derive(Default, Deserialize)]
struct CniResult {
    #[serde(default)]
    interfaces: Option<Vec<CniInterface>>,
    #[serde(default)]
    ips: Option<Vec<CniAddress>>,
    #[serde(default)]
    ip4: Option<OldAddress>,
    #[serde(default)]
    ip6: Option<OldAddress>,
}

#[derive(Deserialize)]
struct CniInterface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: Option<String>,
}

#[derive(Deserialize)]
struct CniAddress {
    address: String,
}

#[derive(Deserialize)]
struct OldAddress {
    ip: String,
}

impl Record {
    /// Parses the file `file_name`; `role_annotation` is the key that makes a pod annotated.
    pub fn parse(file_name: &str, text: &[u8], role_annotation: &str) -> Result<Self, Skip> {
        if text.is_empty() {
            return Err(Skip::Empty);
        }
        let cached: Cached = serde_json::from_slice(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Eof => Skip::Torn,
            _ => Skip::Foreign,
        })?;
        let (network, id, if_name) = cached.names(file_name)?;
        if network == "cni-loopback" || if_name == "lo" {
            return Err(Skip::Loopback);
        }
        let result = cached.result.as_ref();
        let (hint, role) = cached.hint(role_annotation);
        Ok(Self {
            id: SandboxId::parse(id).ok_or(Skip::Malformed)?,
            pod: cached.pod()?,
            hint,
            role,
            addresses: result.map_or(Ok(Vec::new()), CniResult::addresses)?,
            host_interfaces: result.map_or(Vec::new(), |result| result.host_interfaces(if_name)),
        })
    }
}

impl Cached {
    /// Network, container id and interface; the file must be named after them, so that a copy of a record is none.
    fn names(&self, file_name: &str) -> Result<(&str, &str, &str), Skip> {
        if self.kind.as_deref() != Some("cniCacheV1") {
            return Err(Skip::Foreign);
        }
        match (&self.network_name, &self.container_id, &self.if_name) {
            (Some(network), Some(id), Some(if_name)) if file_name == format!("{network}-{id}-{if_name}") => {
                Ok((network, id, if_name))
            }
            _ => Err(Skip::Foreign),
        }
    }

    fn pod(&self) -> Result<PodRef, Skip> {
        let namespace = self.arg("K8S_POD_NAMESPACE")?.ok_or(Skip::NoPod)?;
        let name = self.arg("K8S_POD_NAME")?.ok_or(Skip::NoPod)?;
        let uid = self.arg("K8S_POD_UID")?.ok_or(Skip::NoUid)?;
        Ok(PodRef {
            namespace: Namespace::parse(namespace).map_err(|_| Skip::Malformed)?,
            name: PodName::parse(name).map_err(|_| Skip::Malformed)?,
            uid: Uid::parse(uid).map_err(|_| Skip::Malformed)?,
        })
    }

    /// The argument `key` where it is given and not empty. Given twice, it would be anybody's guess which one counts.
    fn arg(&self, key: &str) -> Result<Option<&str>, Skip> {
        let mut values =
            self.cni_args.iter().flatten().filter(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str());
        let value = values.next();
        if values.next().is_some() { Err(Skip::Malformed) } else { Ok(value) }
    }

    fn hint(&self, role_annotation: &str) -> (RoleHint, Option<RoleTag>) {
        let annotations =
            self.capability_args.as_ref().and_then(|args| args.get(ANNOTATIONS)).and_then(Value::as_object);
        let Some(annotations) = annotations else { return (RoleHint::Unknown, None) };
        match annotations.get(role_annotation) {
            Some(value) => (RoleHint::Annotated, value.as_str().map(RoleTag::of)),
            None => (RoleHint::NotAnnotated, None),
        }
    }
}

impl CniResult {
    fn addresses(&self) -> Result<Vec<IpAddr>, Skip> {
        let new = self.ips.iter().flatten().map(|ip| &ip.address);
        let old = [&self.ip4, &self.ip6].into_iter().flatten().map(|old| &old.ip);
        let mut addresses = new.chain(old).map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// The interfaces outside the sandbox. One of the very name that the pod's own end has is left out: a plugin that
    /// forgets to name the sandbox would else make the host's uplink, `eth0`, a pod's.
    fn host_interfaces(&self, if_name: &str) -> Vec<String> {
        let is_host_side = |interface: &&CniInterface| {
            interface.sandbox.as_deref().unwrap_or_default().is_empty()
                && (1..=MAX_INTERFACE_NAME).contains(&interface.name.len())
                && interface.name != if_name
                && interface.name != "lo"
        };
        let mut names: Vec<_> =
            self.interfaces.iter().flatten().filter(is_host_side).map(|interface| interface.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// An address with or without its prefix length, of the kinds that a pod can ask from.
fn address(text: &str) -> Result<IpAddr, Skip> {
    let parsed = text.parse::<IpNet>().map(|net| net.addr()).or_else(|_| text.parse());
    let address: IpAddr = parsed.map_err(|_| Skip::Malformed)?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(Skip::Malformed);
    }
    Ok(address)
}

#[cfg(test)]
mod tests;
