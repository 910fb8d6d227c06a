//! A fault, and what is expected of it.

use std::time::Duration;

use anyhow::Result;
use e2e::world::World;
use local_cloud::faults::Rule;

/// Something that goes wrong for a while.
pub(crate) trait Fault {
    /// It begins.
    async fn begin(&mut self, world: &mut World) -> Result<()>;

    /// It is over.
    async fn end(&mut self, world: &mut World) -> Result<()>;
}

/// AWS misbehaves by these rules.
pub(crate) struct Aws(pub(crate) Vec<Rule>);

impl Fault for Aws {
    async fn begin(&mut self, world: &mut World) -> Result<()> {
        world.lab.control().misbehave(&self.0).await
    }

    async fn end(&mut self, world: &mut World) -> Result<()> {
        world.lab.control().misbehave(&[]).await
    }
}

/// What pods may see of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// No request fails.
    Nothing,
    /// Requests fail, and all is well this long after the fault at the latest. That some do fail shows that the fault bites.
    Until(Duration),
    /// The same, but none needs to fail.
    Perhaps(Duration),
}

impl Harm {
    /// The time within which all is well.
    pub(crate) fn bound(self) -> Duration {
        match self {
            Self::Nothing => Duration::ZERO,
            Self::Until(bound) | Self::Perhaps(bound) => bound,
        }
    }
}

/// From when recovery is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountedFrom {
    /// The fault is one moment.
    Begin,
    /// The fault lasts.
    End,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The fault's name.
    pub(crate) fault: &'static str,
    /// How long new pods come while it lasts.
    pub(crate) lasts: Duration,
    /// The node that it befalls, where it is one alone: pods with credentials on the other one see nothing of it.
    pub(crate) node: Option<&'static str>,
    /// From when recovery is counted.
    pub(crate) counted_from: CountedFrom,
    /// What the 20 pods that have their credentials may see.
    pub(crate) warm: Harm,
    /// What the pods may see that are new.
    pub(crate) new: Harm,
}

impl Plan {
    /// A fault behind the agent: it must be nothing to pods that have credentials, and new ones are well again after `new`.
    pub(crate) fn behind_the_agent(fault: &'static str, new: Harm) -> Self {
        Self {
            fault,
            lasts: Duration::from_secs(4),
            node: None,
            counted_from: CountedFrom::End,
            warm: Harm::Nothing,
            new,
        }
    }
}
