//! The routing rules behind the table: they outlive a flush of nftables.
//!
//! ```text
//! PREF      iif lo to METADATA lookup main     the node itself still reaches the metadata service
//! PREF + 1         to METADATA prohibit        nobody is routed there through the node
//! ```
//! A translated packet is routed to the agent's address and meets neither.

use futures_util::TryStreamExt as _;
use netlink_packet_route::{
    AddressFamily,
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use rtnetlink::{Error, Handle};

use super::{family::Family, node};

/// Marks our rules as ours (`proto 82` in `ip rule`), so that `--remove` and a changed preference find them: a number
/// that neither the kernel (0 to 4) nor a routing daemon of `rt_protos` (8 to 18, 42, 186 to 192) has. It is "R".
const OUR_PROTOCOL: RouteProtocol = RouteProtocol::Other(82);

const TABLE_MAIN: u8 = 254;

/// Makes both rules of both families be there, and none of ours besides. Returns what was wrong.
///
/// A family that this kernel does not have is skipped.
pub(super) async fn keep(netlink: &Handle, preference: u32) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    for family in Family::BOTH {
        let ours = ours(netlink, family).await?;
        let wanted = [lookup_main(family, preference), prohibit(family, preference + 1)];
        for rule in wanted.iter().filter(|rule| !ours.iter().any(|other| same(rule, other))) {
            if add(netlink, rule.clone()).await? {
                wrong.push(format!("{} routing rule {} is missing", family.name(), preference_of(rule).unwrap_or(0)));
            }
        }
        for rule in ours.into_iter().filter(|rule| !wanted.iter().any(|other| same(rule, other))) {
            wrong.push(format!("{} routing rule {} is not wanted", family.name(), preference_of(&rule).unwrap_or(0)));
            delete(netlink, rule).await?;
        }
    }
    Ok(wrong)
}

/// Deletes every rule of ours, whatever its preference.
pub(super) async fn remove(netlink: &Handle) -> Result<(), Error> {
    for family in Family::BOTH {
        for rule in ours(netlink, family).await? {
            delete(netlink, rule).await?;
        }
    }
    Ok(())
}

async fn ours(netlink: &Handle, family: Family) -> Result<Vec<RuleMessage>, Error> {
    let all: Vec<RuleMessage> = netlink.rule().get(node::version(family)).execute().try_collect().await?;
    let is_ours = |rule: &RuleMessage| {
        rule.header.family == address_family(family)
            && rule.attributes.contains(&RuleAttribute::Protocol(OUR_PROTOCOL))
            && rule.attributes.contains(&RuleAttribute::Destination(family.metadata()))
    };
    Ok(all.into_iter().filter(is_ours).collect())
}

/// False where this kernel has no such family.
async fn add(netlink: &Handle, rule: RuleMessage) -> Result<bool, Error> {
    let mut request = netlink.rule().add();
    *request.message_mut() = rule;
    match request.execute().await {
        Ok(()) => Ok(true),
        Err(Error::NetlinkError(error)) => match nix::errno::Errno::from_raw(-error.raw_code()) {
            nix::errno::Errno::EAFNOSUPPORT | nix::errno::Errno::EOPNOTSUPP => Ok(false),
            // Another `intercept` was quicker.
            nix::errno::Errno::EEXIST => Ok(true),
            _ => Err(Error::NetlinkError(error)),
        },
        Err(error) => Err(error),
    }
}

async fn delete(netlink: &Handle, rule: RuleMessage) -> Result<(), Error> {
    match netlink.rule().del(rule).execute().await {
        Err(Error::NetlinkError(error)) if error.raw_code() == -(nix::errno::Errno::ENOENT as i32) => Ok(()),
        other => other,
    }
}

fn lookup_main(family: Family, preference: u32) -> RuleMessage {
    let mut rule = to_metadata(family, preference, RuleAction::ToTable);
    rule.header.table = TABLE_MAIN;
    // The kernel's name for "made on this node".
    rule.attributes.push(RuleAttribute::Iifname("lo".to_owned()));
    rule
}

fn prohibit(family: Family, preference: u32) -> RuleMessage {
    to_metadata(family, preference, RuleAction::Prohibit)
}

fn to_metadata(family: Family, preference: u32, action: RuleAction) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = address_family(family);
    rule.header.dst_len = family.whole_prefix();
    rule.header.action = action;
    rule.attributes = vec![
        RuleAttribute::Destination(family.metadata()),
        RuleAttribute::Priority(preference),
        RuleAttribute::Protocol(OUR_PROTOCOL),
    ];
    rule
}

const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Equal in all that selects a packet or decides about it; the kernel adds attributes of its own to what it lists.
fn same(one: &RuleMessage, other: &RuleMessage) -> bool {
    let selects = |rule: &RuleMessage| {
        let entry = rule.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Iifname(name) => Some(name.clone()),
            _ => None,
        });
        (rule.header.dst_len, rule.header.src_len, rule.header.action, rule.header.flags, entry, preference_of(rule))
    };
    let narrows = |rule: &RuleMessage| {
        rule.attributes.iter().any(|attribute| {
            matches!(
                attribute,
                RuleAttribute::FwMark(_)
                    | RuleAttribute::Oifname(_)
                    | RuleAttribute::IpProtocol(_)
                    | RuleAttribute::SourcePortRange(_)
                    | RuleAttribute::DestinationPortRange(_)
                    | RuleAttribute::UidRange(_)
                    | RuleAttribute::TunId(_)
            )
        })
    };
    selects(one) == selects(other) && narrows(one) == narrows(other)
}

fn preference_of(rule: &RuleMessage) -> Option<u32> {
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Priority(preference) => Some(*preference),
        _ => None,
    })
}
