//! The one place that spends permits: one per pod, each time, whether its session is cached or new.

use std::collections::HashMap;

use model::name::Namespace;
use model::policy::Permit;
use model::session::{CacheKey, SessionSpec};

use super::chance::place_in;

/// A session that pods of a request may have. It is made of their permits alone, so whoever has an order has permission.
#[derive(Debug)]
pub(crate) struct Order {
    spec: SessionSpec,
    key: CacheKey,
    namespaces: Vec<Namespace>,
    places: Vec<usize>,
}

impl Order {
    /// Spends the permits of a request, each with its pod's place in it. Pods for which STS would be told the same share an
    /// order. The first order is any of them: environments that are asked for the same sessions at once then make different
    /// ones, and find each other's, instead of waiting for each other at one after the other; and what was pending behind slow
    /// ones is not behind the same ones when it is asked for again.
    pub(crate) fn all(permits: impl IntoIterator<Item = (usize, Permit)>) -> Vec<Self> {
        let mut orders: Vec<Self> = Vec::new();
        let mut by_key: HashMap<CacheKey, usize> = HashMap::new();
        for (place, permit) in permits {
            let namespace = permit.pod().namespace.clone();
            let spec = permit.spend();
            let key = spec.cache_key();
            let at = *by_key.entry(key.clone()).or_insert(orders.len());
            match orders.get_mut(at) {
                Some(order) => {
                    if !order.namespaces.contains(&namespace) {
                        order.namespaces.push(namespace);
                    }
                    order.places.push(place);
                }
                None => orders.push(Self { spec, key, namespaces: vec![namespace], places: vec![place] }),
            }
        }
        let first = place_in(&orders);
        orders.rotate_left(first);
        orders
    }

    /// What STS is told.
    pub(crate) fn spec(&self) -> &SessionSpec {
        &self.spec
    }

    /// Where the session is shared.
    pub(crate) fn key(&self) -> &CacheKey {
        &self.key
    }

    /// The namespaces of its pods, each once: one of them pays for a new session.
    pub(crate) fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// The places in the request of the pods that may have the session.
    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }
}
