//! The answer while it grows: one outcome per pod, each audited and counted as it is settled.

use model::name::NodeName;
use model::refusal::{Refusal, RefusalCode};
use model::wire::{Ask, IssueResponse, Outcome, Session, VERSION};

use crate::audit::Audit;
use crate::caller::Caller;
use crate::credentials::{Issued, Order};
use crate::metrics::Tally;
use crate::records::Records;

/// What is known of a request whose pods are being settled.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// The pods that were asked for.
    pub(crate) asks: &'a [Ask],
    /// Who asked.
    pub(crate) caller: &'a Caller,
    /// What the directory says.
    pub(crate) records: &'a Records,
    /// The request's audit.
    pub(crate) audit: &'a Audit<'a>,
    /// The request's numbers.
    pub(crate) tally: &'a Tally,
}

/// The outcomes of a request.
pub(crate) struct Outcomes<'a> {
    scene: Scene<'a>,
    sessions: Vec<Session>,
    by_place: Vec<Option<Outcome>>,
}

impl<'a> Outcomes<'a> {
    /// Nothing is settled yet.
    pub(crate) fn new(scene: Scene<'a>) -> Self {
        Self { scene, sessions: Vec::new(), by_place: scene.asks.iter().map(|_| None).collect() }
    }

    /// Every pod of an order gets its session.
    pub(crate) fn issue(&mut self, order: &Order, issued: Issued) {
        let Scene { asks, caller, audit, tally, .. } = self.scene;
        for &place in order.places() {
            let Some(ask) = asks.get(place) else { continue };
            audit.issued(caller, self.node(ask).as_ref(), &ask.pod, order.spec(), &issued);
            tally.outcome("issued");
            self.settle(place, Outcome::Session(self.sessions.len()));
        }
        self.sessions.push(Session { role: order.spec().role.clone(), credentials: issued.credentials });
    }

    /// A pod gets nothing.
    pub(crate) fn refuse(&mut self, place: usize, refusal: Refusal) {
        let Scene { asks, caller, audit, tally, .. } = self.scene;
        let Some(ask) = asks.get(place) else { return };
        audit.refused(caller, self.node(ask).as_ref(), &ask.pod, &refusal);
        tally.outcome(refusal.code.as_str());
        self.settle(place, Outcome::Refused(refusal));
    }

    /// The answer. Every pod was settled; should one not have been, it is handed nothing and asked for again.
    pub(crate) fn response(mut self) -> IssueResponse {
        for (place, ask) in self.scene.asks.iter().enumerate() {
            if self.by_place.get(place).is_some_and(Option::is_none) {
                let message = format!("the pod {} has no outcome yet; it is asked for again", ask.pod);
                self.refuse(place, Refusal::new(RefusalCode::Pending, message));
            }
        }
        let outcomes = self.by_place.into_iter().flatten().collect();
        IssueResponse { version: VERSION, sessions: self.sessions, outcomes }
    }

    fn settle(&mut self, place: usize, outcome: Outcome) {
        if let Some(slot) = self.by_place.get_mut(place) {
            *slot = Some(outcome);
        }
    }

    fn node(&self, ask: &Ask) -> Option<NodeName> {
        self.scene.records.pod(&ask.pod).found().map(|pod| pod.node.clone())
    }
}
