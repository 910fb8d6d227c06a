//! The rule set, as data: pure, and the same bytes for the same inputs.
//!
//! ```text
//! prerouting raw       spoofed      metadata packets whose source is not routed back to where they came in: drop
//! prerouting dstnat-1  translate    metadata port 80 from pods -> agent
//! input                arriving     count what the checks send; the agent's port only for translated flows
//! forward              forwarded    nothing reaches a metadata address untranslated
//! ```

use std::{borrow::Cow, collections::HashSet, net::IpAddr};

use nftables::{
    expr::{CT, CTDir, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField},
    schema::{Chain, NfCmd, NfListObject, NfObject, Nftables, Rule, Table},
    stmt::{Counter, Match, NAT, Operator, Reject, RejectType, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::{
    family::{Family, METADATA_PORT, PerFamily},
    interface::Condition,
};

/// The name of our table; its family is `inet`.
pub(super) const TABLE: &str = "rolecall";

/// Before connection tracking, so that a spoofed packet leaves no trace.
const PRIORITY_RAW: i32 = -300;
/// Just before everybody else's DNAT (-100), so that a rule that kiam, kube2iam or kube-proxy left cannot take the flow.
const PRIORITY_TRANSLATE: i32 = -101;
const PRIORITY_FILTER: i32 = 0;

const SPOOFED: &str = "spoofed";
const TRANSLATE: &str = "translate";
const ARRIVING: &str = "arriving";
const FORWARDED: &str = "forwarded";

/// What the rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleSet {
    /// Conditions on the interface of entry, as [`PodInterfaces::alternatives`](super::interface::PodInterfaces) has them.
    pub(super) from_pods: Vec<Vec<Condition>>,
    /// Where the agent listens. A family without an address is refused, not translated.
    pub(super) agent: PerFamily<Option<IpAddr>>,
    pub(super) agent_port: u16,
    /// The interface behind which the self-check plays a pod.
    pub(super) near_end: String,
}

/// The comment of the rule that counts the self-check's translated packets.
pub(super) fn self_check_comment(family: Family) -> String {
    format!("{}: self-check arrived translated", family.name())
}

/// The comment of the rule that counts answers of the metadata service that had one hop left.
pub(super) fn hop_limit_comment(family: Family) -> String {
    format!("{}: metadata answer with hop limit 1", family.name())
}

impl RuleSet {
    /// The table with its chains and rules, in the order of the transaction.
    pub(super) fn objects(&self) -> Vec<NfListObject<'static>> {
        let mut objects = vec![NfListObject::Table(table())];
        objects.extend(
            [
                chain(SPOOFED, NfChainType::Filter, NfHook::Prerouting, PRIORITY_RAW),
                chain(TRANSLATE, NfChainType::NAT, NfHook::Prerouting, PRIORITY_TRANSLATE),
                chain(ARRIVING, NfChainType::Filter, NfHook::Input, PRIORITY_FILTER),
                chain(FORWARDED, NfChainType::Filter, NfHook::Forward, PRIORITY_FILTER),
            ]
            .map(NfListObject::Chain),
        );
        let rules = [self.spoofed(), self.translate(), self.arriving(), forwarded()];
        objects.extend(rules.into_iter().flatten().map(NfListObject::Rule));
        objects
    }

    /// One transaction that puts these rules in the place of whatever the table holds.
    pub(super) fn transaction(&self) -> Nftables<'static> {
        let mut commands = vec![NfCmd::Add(NfListObject::Table(table())), NfCmd::Delete(NfListObject::Table(table()))];
        commands.extend(self.objects().into_iter().map(NfCmd::Add));
        Nftables { objects: commands.into_iter().map(NfObject::CmdObject).collect() }
    }

    fn spoofed(&self) -> Vec<Rule<'static>> {
        let no_way_back = Expression::Named(NamedExpression::Fib(Fib {
            result: FibResult::Oif,
            flags: HashSet::from([FibFlag::Saddr, FibFlag::Iif]),
        }));
        let drop = |family: Family| {
            vec![to_metadata(family), equals(no_way_back.clone(), number(0)), counter(), Statement::Drop(None)]
        };
        self.for_pods(SPOOFED, "source not routed back to its interface", drop)
    }

    fn translate(&self) -> Vec<Rule<'static>> {
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let Some(agent) = self.agent.of(family) else { continue };
            let dnat = Statement::DNAT(Some(NAT {
                addr: Some(text(agent.to_string())),
                family: Some(family.nat()),
                port: Some(number(self.agent_port)),
                flags: None,
            }));
            let statements =
                vec![to_metadata(family), equals(field("tcp", "dport"), number(METADATA_PORT)), counter(), dnat];
            rules.extend(self.for_pods_of(family, TRANSLATE, "metadata to the agent", &statements));
        }
        rules
    }

    fn arriving(&self) -> Vec<Rule<'static>> {
        let to_agent = || equals(field("tcp", "dport"), number(self.agent_port));
        let translated = |family: Family| equals(first_address(family), text(family.metadata().to_string()));
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let from_check = vec![
                equals(iifname(), text(self.near_end.clone())),
                equals(field(family.protocol(), "saddr"), text(family.played_pod().to_string())),
                to_agent(),
                translated(family),
                counter(),
            ];
            rules.push(rule(ARRIVING, self_check_comment(family), from_check));
            let last_hop = vec![
                equals(field(family.protocol(), "saddr"), text(family.metadata().to_string())),
                equals(field("tcp", "sport"), number(METADATA_PORT)),
                equals(field(family.protocol(), family.hop_field()), number(1)),
                counter(),
            ];
            rules.push(rule(ARRIVING, hop_limit_comment(family), last_hop));
        }
        for family in Family::BOTH {
            let accept = vec![to_agent(), translated(family), Statement::Accept(None)];
            rules.push(rule(ARRIVING, format!("{}: translated, to the agent", family.name()), accept));
        }
        let refuse = vec![to_agent(), counter(), reset()];
        rules.push(rule(ARRIVING, "agent's port, not translated".to_owned(), refuse));
        rules
    }

    fn for_pods(
        &self,
        chain: &'static str,
        purpose: &str,
        statements: impl Fn(Family) -> Vec<Statement<'static>>,
    ) -> Vec<Rule<'static>> {
        Family::BOTH.into_iter().flat_map(|f| self.for_pods_of(f, chain, purpose, &statements(f))).collect()
    }

    fn for_pods_of(
        &self,
        family: Family,
        chain: &'static str,
        purpose: &str,
        statements: &[Statement<'static>],
    ) -> Vec<Rule<'static>> {
        let one = |conditions: &Vec<Condition>| {
            let mut all: Vec<_> = conditions.iter().map(came_in_by).collect();
            all.extend_from_slice(statements);
            rule(chain, format!("{}: {purpose}", family.name()), all)
        };
        self.from_pods.iter().map(one).collect()
    }
}

/// Not limited to pods' interfaces: nothing has a reason to be routed through this node to a metadata address, and so a
/// pattern that misses an interface refuses instead of opening.
fn forwarded() -> Vec<Rule<'static>> {
    let is_tcp = || equals(Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::L4proto })), text("tcp"));
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let name = family.name();
        let tcp = vec![to_metadata(family), is_tcp(), counter(), reset()];
        rules.push(rule(FORWARDED, format!("{name}: metadata, untranslated TCP"), tcp));
        let rest = vec![to_metadata(family), counter(), Statement::Drop(None)];
        rules.push(rule(FORWARDED, format!("{name}: metadata, untranslated"), rest));
    }
    rules
}

pub(super) fn table() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn chain(name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    }
}

fn rule(chain: &'static str, comment: String, expr: Vec<Statement<'static>>) -> Rule<'static> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        comment: Some(comment.into()),
        ..Rule::default()
    }
}

fn came_in_by(condition: &Condition) -> Statement<'static> {
    let op = if condition.equal { Operator::EQ } else { Operator::NEQ };
    Statement::Match(Match { left: iifname(), right: text(condition.name.clone()), op })
}

fn to_metadata(family: Family) -> Statement<'static> {
    equals(field(family.protocol(), "daddr"), text(family.metadata().to_string()))
}

/// The address that the first packet of the flow was sent to, whatever it was translated to since.
fn first_address(family: Family) -> Expression<'static> {
    let key = format!("{} daddr", family.protocol()).into();
    Expression::Named(NamedExpression::CT(CT { key, family: None, dir: Some(CTDir::Original) }))
}

fn iifname() -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Iifname }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let payload = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(payload)))
}

fn equals(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn text(value: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(value.into())
}

fn number(value: u16) -> Expression<'static> {
    Expression::Number(u32::from(value))
}

const fn counter() -> Statement<'static> {
    Statement::Counter(Counter::Anonymous(None))
}

fn reset() -> Statement<'static> {
    Statement::Reject(Some(Reject::new(Some(RejectType::TCPReset), None)))
}
