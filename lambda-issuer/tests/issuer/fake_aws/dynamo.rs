//! DynamoDB.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::expression::{self, Item};
use super::{Answer, State, fault};

pub(super) fn answer(state: &mut State, operation: &str, input: &Value) -> Answer {
    if operation == "BatchGetItem" {
        return batch_get(state, input);
    }
    if let Some(pk) = state.restless.clone() {
        let nonsense = format!("written before call {}", state.dynamo_calls);
        let item = state.tables.entry("cache".into()).or_default().entry(pk).or_default();
        item.insert("lease_until".into(), json!({"S": nonsense}));
    }
    let table = input["TableName"].as_str().unwrap().to_owned();
    if state.down.contains(&table) {
        return (500, json!({"__type": "InternalServerError"}).to_string());
    }
    let items = state.tables.entry(table).or_default();
    let key = if operation == "PutItem" { &input["Item"]["pk"] } else { &input["Key"]["pk"] };
    let pk = key["S"].as_str().unwrap().to_owned();
    let old = items.get(&pk).cloned();
    let values: BTreeMap<String, Value> =
        serde_json::from_value(input.get("ExpressionAttributeValues").cloned().unwrap_or_else(|| json!({}))).unwrap();
    if let Some(condition) = input.get("ConditionExpression").and_then(Value::as_str)
        && !expression::holds(condition, old.as_ref(), &values)
    {
        let mut error = json!({"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"});
        if input.get("ReturnValuesOnConditionCheckFailure") == Some(&json!("ALL_OLD"))
            && let Some(old) = old
        {
            error["Item"] = Value::Object(old);
        }
        return (400, error.to_string());
    }
    match operation {
        "GetItem" => {
            assert_eq!(input["ConsistentRead"], true);
            (200, old.map_or_else(|| json!({}), |item| json!({"Item": item})).to_string())
        }
        "PutItem" => {
            items.insert(pk, input["Item"].as_object().unwrap().clone());
            (200, "{}".into())
        }
        "UpdateItem" => {
            let mut item = old.unwrap_or_default();
            item.insert("pk".into(), json!({"S": pk}));
            expression::update(input["UpdateExpression"].as_str().unwrap(), &mut item, &values);
            items.insert(pk, item.clone());
            (200, json!({"Attributes": item}).to_string())
        }
        other => panic!("unknown operation {other}"),
    }
}

fn batch_get(state: &mut State, input: &Value) -> Answer {
    state.batches += 1;
    let (table, wanted) = input["RequestItems"].as_object().unwrap().iter().next().unwrap();
    if state.down.contains(table) {
        return (500, json!({"__type": "InternalServerError"}).to_string());
    }
    assert_eq!(wanted["ConsistentRead"], true);
    let keys = wanted["Keys"].as_array().unwrap();
    if keys.len() > 100 {
        return fault("ValidationException");
    }
    let handled = state.batch_handles.unwrap_or(keys.len()).min(keys.len());
    let items = state.tables.entry(table.clone()).or_default();
    let found: Vec<&Item> = keys[..handled].iter().filter_map(|key| items.get(key["pk"]["S"].as_str()?)).collect();
    let mut answer = json!({"Responses": {table: found}, "UnprocessedKeys": {}});
    if handled < keys.len() {
        answer["UnprocessedKeys"][table] = json!({"Keys": keys[handled..]});
    }
    (200, answer.to_string())
}
