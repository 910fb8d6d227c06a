//! A record of the directory table.

use std::fmt::Debug;

use model::record::{HealthRecord, NamespaceRecord, NodeRecord, PodRecord, QuarantineRecord, Record};

use crate::text::text;

pub(super) fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    read::<PodRecord>(text);
    read::<NamespaceRecord>(text);
    read::<NodeRecord>(text);
    read::<HealthRecord>(text);
    read::<QuarantineRecord>(text);
}

fn read<R: Record + PartialEq + Debug>(text: &str) {
    match R::from_json(text) {
        Ok(record) => assert_eq!(R::from_json(&record.to_json()), Ok(record)),
        Err(error) => assert!(error.to_string().len() < 400, "{error}"),
    }
}
