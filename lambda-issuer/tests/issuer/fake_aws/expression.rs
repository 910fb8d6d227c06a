//! The part of DynamoDB's expression language that the issuer writes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// An item: attribute to typed value, `{"S": "x"}`.
pub(super) type Item = Map<String, Value>;

fn tokens(text: &str) -> Vec<String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

fn number(value: &Value) -> Option<i128> {
    value.get("N")?.as_str()?.parse().ok()
}

/// Whether `item` meets a condition of `AND`, `OR`, brackets, `attribute_not_exists`, `=` and `<`.
pub(super) fn holds(condition: &str, item: Option<&Item>, values: &BTreeMap<String, Value>) -> bool {
    let tokens = tokens(condition);
    let mut parser = Parser { tokens: &tokens, at: 0, item, values };
    let result = parser.any();
    assert_eq!(parser.at, tokens.len(), "a condition beyond what the fake knows: {condition}");
    result
}

struct Parser<'a> {
    tokens: &'a [String],
    at: usize,
    item: Option<&'a Item>,
    values: &'a BTreeMap<String, Value>,
}

impl Parser<'_> {
    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens[self.at - 1].clone()
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|t| t == token);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> bool {
        let mut result = self.all();
        while self.take("OR") {
            result |= self.all();
        }
        result
    }

    fn all(&mut self) -> bool {
        let mut result = self.one();
        while self.take("AND") {
            result &= self.one();
        }
        result
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let result = self.any();
            assert!(self.take(")"));
            return result;
        }
        let name = self.next();
        if name == "attribute_not_exists" {
            assert!(self.take("("));
            let attribute = self.next();
            assert!(self.take(")"));
            return self.item.is_none_or(|item| !item.contains_key(&attribute));
        }
        let operator = self.next();
        let value = &self.values[&self.next()];
        let Some(held) = self.item.and_then(|item| item.get(&name)) else { return false };
        match operator.as_str() {
            "=" => held == value,
            "<" => number(held).zip(number(value)).is_some_and(|(held, value)| held < value),
            other => panic!("an operator beyond what the fake knows: {other}"),
        }
    }
}

/// Applies an update of `SET a = :a, ...`, `REMOVE a, ...` and `ADD a :a`.
pub(super) fn update(expression: &str, item: &mut Item, values: &BTreeMap<String, Value>) {
    let mut clause = String::new();
    let tokens: Vec<String> = tokens(expression).into_iter().filter(|token| token != ",").collect();
    let mut rest = tokens.iter();
    while let Some(token) = rest.next() {
        match (token.as_str(), clause.as_str()) {
            ("SET" | "REMOVE" | "ADD", _) => clause.clone_from(token),
            (name, "SET") => {
                assert_eq!(rest.next().map(String::as_str), Some("="));
                item.insert(name.to_owned(), values[rest.next().unwrap()].clone());
            }
            (name, "REMOVE") => _ = item.remove(name),
            (name, "ADD") => {
                let sum = item.get(name).and_then(number).unwrap_or(0) + number(&values[rest.next().unwrap()]).unwrap();
                item.insert(name.to_owned(), serde_json::json!({"N": sum.to_string()}));
            }
            other => panic!("an update beyond what the fake knows: {other:?}"),
        }
    }
}
