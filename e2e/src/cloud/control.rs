//! local-cloud's control port: delays and outages, and what was issued.

use std::sync::Arc;

use super::CONTROL;
use crate::net::InsideRuntime;

/// A client of the control port.
#[derive(Clone, Debug)]
pub struct Control {
    inside: Arc<InsideRuntime>,
    url: String,
}

impl Control {
    pub(crate) fn new(inside: Arc<InsideRuntime>) -> Self {
        Self { inside, url: format!("http://{CONTROL}") }
    }
}
