//! Any table of the account, as its root reaches it: item by item, whatever is in them.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::net::InsideRuntime;

/// An item: attributes by name.
pub type Item = HashMap<String, AttributeValue>;

/// A table whose key is `pk`.
#[derive(Clone, Debug)]
pub struct Table {
    client: Client,
    inside: Arc<InsideRuntime>,
    name: String,
}

impl Table {
    pub(super) fn new(client: Client, inside: Arc<InsideRuntime>, name: String) -> Self {
        Self { client, inside, name }
    }

    /// The item of a key, if there is one.
    pub async fn get(&self, pk: &str) -> Result<Option<Item>> {
        let request = self.client.get_item().table_name(&self.name).key("pk", AttributeValue::S(pk.to_owned()));
        let answer = self.inside.run(request.consistent_read(true).send()).await?;
        Ok(answer.with_context(|| format!("cannot read {pk}"))?.item)
    }

    /// Writes an item over whatever is there.
    pub async fn put(&self, item: Item) -> Result<()> {
        let request = self.client.put_item().table_name(&self.name).set_item(Some(item));
        self.inside.run(request.send()).await?.map(drop).context("cannot write an item")
    }

    /// Deletes an item.
    pub async fn delete(&self, pk: &str) -> Result<()> {
        let request = self.client.delete_item().table_name(&self.name).key("pk", AttributeValue::S(pk.to_owned()));
        self.inside.run(request.send()).await?.map(drop).with_context(|| format!("cannot delete {pk}"))
    }
}
