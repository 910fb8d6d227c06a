//! Flows that connection tracking has known since before the rules: they would go on as they began.
//!
//! The kernel reads DNAT rules only for the first packet of a flow. The table's forward chain refuses the next packet of
//! an older flow; forgetting the flow lets its next packet be translated, or answered with a reset.

use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt as _;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple},
};
use nix::errno::Errno;
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _},
    proto::{self, ConnectionHandle},
    sys::{SocketAddr as KernelAddress, protocols::NETLINK_NETFILTER},
};

use super::family::{Family, METADATA_PORT, PerFamily};

/// `CTA_ZONE` of the kernel's `nfnetlink_conntrack.h`: part of what names a flow.
const CTA_ZONE: u16 = 18;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConntrackError {
    #[error("no netlink socket for connection tracking")]
    Socket(#[source] std::io::Error),
    #[error("the kernel did not answer about connection tracking")]
    Request,
    #[error("the kernel refused to list or delete tracked flows")]
    Refused(#[source] std::io::Error),
}

/// Deletes every tracked flow from pods to a metadata address that is not translated to `agent`. Returns how many.
pub(super) async fn forget_older(agent: PerFamily<Option<IpAddr>>, port: u16) -> Result<usize, ConntrackError> {
    let (connection, handle, _unsolicited) =
        proto::new_connection::<NetfilterMessage>(NETLINK_NETFILTER).map_err(ConntrackError::Socket)?;
    // Ends by itself when the last handle is dropped.
    let connection = tokio::spawn(connection);
    let mut deleted = 0;
    for family in Family::BOTH {
        let agent = agent.of(family).map(|address| SocketAddr::new(address, port));
        for flow in older_flows(&handle, family, agent).await? {
            deleted += usize::from(delete(&handle, family, flow).await?);
        }
    }
    drop(handle);
    connection.abort();
    Ok(deleted)
}

/// Sorted out as they come: a busy node tracks hundreds of thousands.
async fn older_flows(
    handle: &ConnectionHandle<NetfilterMessage>,
    family: Family,
    agent: Option<SocketAddr>,
) -> Result<Vec<Vec<ConntrackAttribute>>, ConntrackError> {
    let request = message(family, ConntrackMessage::Get(Vec::new()), NLM_F_REQUEST | NLM_F_DUMP);
    let mut answers = handle.request(request, KernelAddress::new(0, 0)).map_err(|_| ConntrackError::Request)?;
    let mut flows = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(NetfilterMessage {
                inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(flow)),
                ..
            }) => flows.extend(is_older(&flow, family, agent).then_some(flow)),
            NetlinkPayload::Error(error) => return Err(ConntrackError::Refused(error.to_io())),
            _ => {}
        }
    }
    Ok(flows)
}

/// False when the flow was gone already.
async fn delete(
    handle: &ConnectionHandle<NetfilterMessage>,
    family: Family,
    flow: Vec<ConntrackAttribute>,
) -> Result<bool, ConntrackError> {
    let names = |attribute: &ConntrackAttribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(_) => true,
        ConntrackAttribute::Other(other) => other.kind() == CTA_ZONE,
        _ => false,
    };
    let name = flow.into_iter().filter(names).collect();
    let request = message(family, ConntrackMessage::Delete(name), NLM_F_REQUEST | NLM_F_ACK);
    let mut answers = handle.request(request, KernelAddress::new(0, 0)).map_err(|_| ConntrackError::Request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            match Errno::from_raw(-error.raw_code()) {
                Errno::ENOENT => return Ok(false),
                _ if error.code.is_some() => return Err(ConntrackError::Refused(error.to_io())),
                _ => {}
            }
        }
    }
    Ok(true)
}

fn message(family: Family, message: ConntrackMessage, flags: u16) -> NetlinkMessage<NetfilterMessage> {
    let family = match family {
        Family::V4 => NetfilterProtoFamily::IPv4,
        Family::V6 => NetfilterProtoFamily::IPv6,
    };
    let mut message = NetlinkMessage::from(NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message));
    message.header.flags = flags;
    message
}

/// To a metadata address at first, not to be answered by the agent, and not the node's own.
fn is_older(flow: &[ConntrackAttribute], family: Family, agent: Option<SocketAddr>) -> bool {
    let (mut first, mut answer) = (&[][..], &[][..]);
    for attribute in flow {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => first = tuple,
            ConntrackAttribute::CtaTupleReply(tuple) => answer = tuple,
            _ => {}
        }
    }
    let to_metadata = addresses(first).any(|ip| *ip == IPTuple::DestinationAddress(family.metadata()));
    let from_agent = agent.is_some_and(|agent| {
        addresses(answer).any(|ip| *ip == IPTuple::SourceAddress(agent.ip()))
            && ports(answer).any(|port| *port == ProtoTuple::SourcePort(agent.port()))
            && ports(first).any(|port| *port == ProtoTuple::DestinationPort(METADATA_PORT))
    });
    let of_node = agent.is_some_and(|agent| addresses(first).any(|ip| *ip == IPTuple::SourceAddress(agent.ip())));
    to_metadata && !from_agent && !of_node
}

fn addresses(tuple: &[Tuple]) -> impl Iterator<Item = &IPTuple> {
    tuple.iter().flat_map(|part| if let Tuple::Ip(addresses) = part { addresses.as_slice() } else { &[] })
}

fn ports(tuple: &[Tuple]) -> impl Iterator<Item = &ProtoTuple> {
    tuple.iter().flat_map(|part| if let Tuple::Proto(ports) = part { ports.as_slice() } else { &[] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(from: &str, to: &str) -> Vec<Tuple> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        vec![
            Tuple::Ip(vec![IPTuple::SourceAddress(from.ip()), IPTuple::DestinationAddress(to.ip())]),
            Tuple::Proto(vec![ProtoTuple::SourcePort(from.port()), ProtoTuple::DestinationPort(to.port())]),
        ]
    }

    #[test]
    fn only_flows_that_are_not_the_agents_are_older() {
        let agent = Some("10.0.0.1:8181".parse().unwrap());
        let flow = |answer_from: &str, to: &str| {
            let pod = "10.1.0.2:4000";
            vec![
                ConntrackAttribute::CtaTupleOrig(tuple(pod, to)),
                ConntrackAttribute::CtaTupleReply(tuple(answer_from, pod)),
            ]
        };
        let older = |answer_from: &str, to: &str| is_older(&flow(answer_from, to), Family::V4, agent);
        assert!(older("169.254.169.254:80", "169.254.169.254:80"), "never translated");
        assert!(older("10.0.0.1:8182", "169.254.169.254:80"), "translated to a predecessor");
        assert!(!older("10.0.0.1:8181", "169.254.169.254:80"), "the agent's own");
        assert!(!older("10.0.0.9:80", "10.0.0.9:80"), "somebody else's");
        let own = vec![ConntrackAttribute::CtaTupleOrig(tuple("10.0.0.1:4000", "169.254.169.254:80"))];
        assert!(!is_older(&own, Family::V4, agent), "the node's own");
        assert!(is_older(&flow("10.0.0.1:8181", "169.254.169.254:80"), Family::V4, None), "no agent in this family");
    }
}
