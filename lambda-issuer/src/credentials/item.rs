//! What an item of the cache table says.
//!
//! ```text
//! pk              hex digest of the session's cache key
//! sealed          the sealed session                 } written together,
//! key_id          the data key it is sealed with     } when STS has answered;
//! fresh_until     until when it may be handed out    } the write ends the lease
//! lease_owner     who is asking STS
//! lease_until     until when the others wait for it
//! denied_until    until when STS's denial stands
//! denied_because  STS's own words, where it said more than "denied"
//! expires_at      when DynamoDB may delete the item, in seconds (the table's TTL attribute)
//! ```
//!
//! Times are milliseconds since 1970, of the writer's clock; those of Lambda's machines agree to far less than a lease.
//! `fresh_until` only steers: what counts is the expiry inside the sealed text.
//!
//! Nobody but the issuer writes the table. An item that it cannot have written is neither believed nor waited for: it is
//! replaced, so that nobody who does write there keeps a role from being issued.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use model::time::UnixMillis;

use super::data_key::KeyId;
use super::lease::LEASE;
use super::negative::DENIAL;
use super::sts::StsFailure;

/// By how much the clocks of two environments may differ: a lease or denial that lasts longer than its term and this was not
/// written by an issuer.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(1);

/// An item of the table.
pub(super) type Item = HashMap<String, AttributeValue>;

/// A sealed session, as it lies in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedSession {
    /// The data key.
    pub(crate) key_id: KeyId,
    /// The sealed text.
    pub(crate) text: Vec<u8>,
}

/// What an item says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// A session that may be handed out, if it opens.
    Session(SealedSession),
    /// STS denied it a moment ago.
    Denied(StsFailure),
    /// Another environment is asking STS, and is waited for until then.
    Held(UnixMillis),
    /// Nothing: whoever claims it may ask STS.
    Free,
    /// What no issuer writes.
    Nonsense,
}

/// An item as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it says.
    pub(crate) view: View,
    /// What it is known by.
    pub(crate) seen: Seen,
}

impl Found {
    pub(super) fn new(item: Item, now: UnixMillis) -> Self {
        Self { view: View::of(&item, now), seen: Seen(item) }
    }
}

/// The attributes that every change of an item changes.
const TELLING: [&str; 6] = ["lease_owner", "lease_until", "denied_until", "fresh_until", "key_id", "sealed"];

/// What an item looked like, for replacing it unless it has changed since.
#[derive(Debug)]
pub(crate) struct Seen(Item);

impl Seen {
    /// The condition that the item has not changed, and the values it names.
    pub(super) fn condition(&self) -> (String, Vec<(String, AttributeValue)>) {
        let mut values = Vec::new();
        let terms = TELLING.map(|attribute| match self.0.get(attribute) {
            Some(value) => {
                values.push((format!(":{attribute}"), value.clone()));
                format!("{attribute} = :{attribute}")
            }
            None => format!("attribute_not_exists({attribute})"),
        });
        (terms.join(" AND "), values)
    }
}

/// A time up to which something holds.
enum Term {
    Over,
    Runs(UnixMillis),
    Nonsense,
}

impl Term {
    fn of(item: &Item, attribute: &str, now: UnixMillis, at_most: Duration) -> Self {
        match item.get(attribute) {
            None => Self::Over,
            Some(AttributeValue::N(number)) => match number.parse().map(UnixMillis) {
                Ok(until) if until < now => Self::Over,
                Ok(until) if until <= now.plus(at_most) => Self::Runs(until),
                _ => Self::Nonsense,
            },
            Some(_) => Self::Nonsense,
        }
    }
}

impl View {
    /// `Free` exactly where a claim succeeds, so that who claims what was free, and fails, has met another claim.
    pub(super) fn of(item: &Item, now: UnixMillis) -> Self {
        let lease = Term::of(item, "lease_until", now, LEASE + CLOCK_DIFFERENCE);
        let denial = Term::of(item, "denied_until", now, DENIAL + CLOCK_DIFFERENCE);
        let freshness = Term::of(item, "fresh_until", now, Duration::MAX);
        match (lease, denial, freshness) {
            (Term::Runs(until), ..) => Self::Held(until),
            (Term::Nonsense, ..) | (_, Term::Nonsense, _) | (.., Term::Nonsense) => Self::Nonsense,
            (Term::Over, Term::Runs(_), _) => match item.get("denied_because") {
                None => Self::Denied(StsFailure::Denied),
                Some(AttributeValue::S(said)) => Self::Denied(StsFailure::Rejected(said.clone())),
                Some(_) => Self::Nonsense,
            },
            (Term::Over, Term::Over, Term::Runs(_)) => match (item.get("sealed"), item.get("key_id")) {
                (Some(AttributeValue::B(sealed)), Some(AttributeValue::S(key_id))) => {
                    Self::Session(SealedSession { key_id: KeyId::parse(key_id), text: sealed.as_ref().to_vec() })
                }
                _ => Self::Nonsense,
            },
            (Term::Over, Term::Over, Term::Over) => Self::Free,
        }
    }
}
