//! What `nft -j list table` prints, compared with what the rules should be.
//!
//! Read as plain JSON: the `nftables` crate writes every rule of ours, and its reader fails on `!=`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::rules::RuleSet;

/// A table without what changes by itself (handles, counts) or is spelt in two ways (numbers, the order of flags).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Chains by name, with hook, priority and policy.
    chains: BTreeMap<String, Value>,
    /// The rules of each chain, in their order.
    rules: BTreeMap<String, Vec<Value>>,
    /// The table's own line, flags too, and whatever we never make: sets, maps, objects.
    others: Vec<Value>,
}

impl Shape {
    /// The shape that `rules` have once they are installed.
    pub(super) fn wanted(rules: &RuleSet) -> Result<Self, serde_json::Error> {
        let objects = rules.objects().iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(&objects))
    }

    /// The shape of a listing, `{"nftables": [...]}`.
    pub(super) fn listed(listing: &Value) -> Self {
        Self::of(listing.get("nftables").and_then(Value::as_array).map_or(&[], Vec::as_slice))
    }

    fn of(objects: &[Value]) -> Self {
        let mut shape = Self::default();
        for (kind, body) in objects.iter().filter_map(Value::as_object).flatten() {
            let body = normalised(body);
            let key = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            match kind.as_str() {
                "metainfo" => {}
                "chain" => drop(shape.chains.insert(key("name"), body)),
                "rule" => shape.rules.entry(key("chain")).or_default().push(body),
                _ => shape.others.push(body),
            }
        }
        shape
    }

    /// What `found` lacks, has too much or has changed, a phrase for each; empty only where the two are equal.
    pub(super) fn differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, chain) in &self.chains {
            match found.chains.get(name) {
                None => differences.push(format!("chain {name} is missing")),
                Some(other) if other != chain => differences.push(format!("chain {name} is changed")),
                Some(_) => rule_differences(name, self.of_chain(name), found.of_chain(name), &mut differences),
            }
        }
        let unknown = found.chains.keys().filter(|name| !self.chains.contains_key(*name));
        differences.extend(unknown.map(|name| format!("chain {name} is not ours")));
        if self.others != found.others {
            differences.push("the table has flags or objects that are not ours".to_owned());
        }
        if differences.is_empty() && self != found {
            differences.push("the table is changed".to_owned());
        }
        differences
    }

    /// Whether both have the same chains and, by their comments, the same rules in the same order.
    pub(super) fn has_outline_of(&self, other: &Self) -> bool {
        let comments = |shape: &Self| {
            let of_rule = |rule: &Value| rule.get("comment").cloned().unwrap_or_default();
            let of_chain = |(name, rules): (&String, &Vec<Value>)| (name.clone(), rules.iter().map(of_rule).collect());
            shape.rules.iter().map(of_chain).collect::<BTreeMap<_, Vec<_>>>()
        };
        self.chains.keys().eq(other.chains.keys()) && comments(self) == comments(other)
    }

    fn of_chain(&self, name: &str) -> &[Value] {
        self.rules.get(name).map_or(&[], Vec::as_slice)
    }
}

fn rule_differences(chain: &str, wanted: &[Value], found: &[Value], differences: &mut Vec<String>) {
    let before = differences.len();
    for rule in wanted.iter().filter(|rule| !found.contains(rule)) {
        let comment = rule.get("comment").and_then(Value::as_str).unwrap_or("without comment");
        differences.push(format!("rule \"{comment}\" of chain {chain} is missing or changed"));
    }
    let foreign = found.iter().filter(|rule| !wanted.contains(rule)).count();
    if foreign > 0 && differences.len() == before {
        differences.push(format!("chain {chain} has {foreign} rules that are not ours"));
    }
    if differences.len() == before && wanted != found {
        differences.push(format!("the rules of chain {chain} are repeated or in another order"));
    }
}

/// The packets that the rule with this comment has counted; none where there is no such rule.
pub(super) fn packets(listing: &Value, comment: &str) -> Option<u64> {
    let rules = listing.get("nftables")?.as_array()?.iter().filter_map(|object| object.get("rule"));
    let rule = rules.into_iter().find(|rule| rule.get("comment").and_then(Value::as_str) == Some(comment))?;
    rule.get("expr")?.as_array()?.iter().find_map(|statement| statement.get("counter")?.get("packets")?.as_u64())
}

/// The kernel's number for the table, another one after each replacement.
pub(super) fn table_handle(listing: &Value) -> Option<u64> {
    listing.get("nftables")?.as_array()?.iter().find_map(|object| object.get("table")?.get("handle")?.as_u64())
}

fn normalised(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.iter().filter_map(normalised_entry).collect::<Map<_, _>>()),
        Value::Array(items) => Value::Array(items.iter().map(normalised).collect()),
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    }
}

fn normalised_entry((key, value): (&String, &Value)) -> Option<(String, Value)> {
    let value = match (key.as_str(), value) {
        ("handle", _) => return None,
        ("counter", _) => Value::Null,
        ("flags", Value::Array(flags)) => {
            let mut flags: Vec<_> = flags.iter().map(normalised).collect();
            flags.sort_by_key(Value::to_string);
            Value::Array(flags)
        }
        (_, value) => normalised(value),
    };
    Some((key.clone(), value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::intercept::{family::PerFamily, interface::PodInterfaces};

    fn rules(agent_port: u16) -> RuleSet {
        let pods = PodInterfaces::new(Vec::new(), None).unwrap();
        RuleSet {
            from_pods: pods.alternatives(&["eth0".to_owned()]),
            agent: PerFamily { v4: Some("10.0.0.1".parse().unwrap()), v6: None },
            agent_port,
            near_end: pods.near_end().to_string(),
        }
    }

    /// As nft would print it: with handles and counts.
    fn listing(rules: &RuleSet) -> Vec<Value> {
        let mut objects: Vec<Value> = rules.objects().iter().map(|o| serde_json::to_value(o).unwrap()).collect();
        for (at, rule) in objects.iter_mut().filter_map(|o| o.get_mut("rule")).enumerate() {
            rule["handle"] = json!(at);
            for counter in rule["expr"].as_array_mut().unwrap().iter_mut().filter_map(|s| s.get_mut("counter")) {
                *counter = json!({"packets": at, "bytes": 60 * at});
            }
        }
        objects
    }

    fn differences(objects: &[Value]) -> Vec<String> {
        Shape::wanted(&rules(8181)).unwrap().differences(&Shape::listed(&json!({ "nftables": objects })))
    }

    #[test]
    fn counts_and_handles_make_no_difference() {
        assert_eq!(differences(&listing(&rules(8181))), Vec::<String>::new());
    }

    #[test]
    fn every_single_missing_object_is_seen() {
        let whole = listing(&rules(8181));
        for at in 0..whole.len() {
            let mut part = whole.clone();
            part.remove(at);
            assert_ne!(differences(&part), Vec::<String>::new(), "{}", whole[at]);
        }
    }

    #[test]
    fn differences_name_the_rule() {
        let mut part = listing(&rules(8181));
        part.retain(|o| o["rule"]["comment"] != "IPv4: metadata to the agent");
        assert_eq!(
            differences(&part),
            ["rule \"IPv4: metadata to the agent\" of chain translate is missing or changed"]
        );
    }

    #[test]
    fn other_order_flags_rules_and_chains_are_seen() {
        let whole = listing(&rules(8181));
        let mut swapped = whole.clone();
        let last = swapped.len() - 1;
        swapped.swap(last, last - 1);
        assert_eq!(differences(&swapped), ["the rules of chain forwarded are repeated or in another order"]);

        let mut dormant = whole.clone();
        dormant[0]["table"]["flags"] = json!("dormant");
        assert_eq!(differences(&dormant), ["the table has flags or objects that are not ours"]);

        let mut added = whole.clone();
        added.push(
            json!({"rule": {"family": "inet", "table": "rolecall", "chain": "forwarded", "expr": [{"accept": null}]}}),
        );
        assert_eq!(differences(&added), ["chain forwarded has 1 rules that are not ours"]);

        let mut chained = whole;
        chained.push(json!({"chain": {"family": "inet", "table": "rolecall", "name": "x"}}));
        assert_eq!(differences(&chained), ["chain x is not ours"]);
    }

    #[test]
    fn another_port_is_another_rule_set() {
        assert_ne!(differences(&listing(&rules(8182))), Vec::<String>::new());
    }

    #[test]
    fn packets_are_read_by_comment() {
        let listing =
            json!({"nftables": [{"rule": {"comment": "a", "expr": [{"counter": {"packets": 3, "bytes": 180}}]}}]});
        assert_eq!(packets(&listing, "a"), Some(3));
        assert_eq!(packets(&listing, "b"), None);
    }

    proptest! {
        #[test]
        fn any_json_is_read(text in "[\\[\\]{}\",:a-z0-9]{0,80}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = packets(&value, "a");
                prop_assert!(!Shape::wanted(&rules(8181)).unwrap().differences(&Shape::listed(&value)).is_empty());
            }
        }
    }
}
