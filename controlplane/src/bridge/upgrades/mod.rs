//! Upgrades of a running bridge: asked for by a signal, carried out over [`crate::upgrade`], shown to operators. And the other side:
//! a bridge that begins with what another process had.

mod descriptors;
mod desk;
mod history;
mod inheriting;
mod listening;
mod running;

use std::time::Duration;

use tokio::sync::oneshot;

pub(super) use desk::{Desk, Questions};
pub(super) use history::UpgradeCounters;
pub(super) use inheriting::{Heritage, Inheriting};
pub(super) use listening::Listening;
pub(super) use running::Running;

use crate::upgrade::{Beside, BesideHeir, Program, Wire};

/// What a process needs to be upgraded, and to begin as an upgrade.
#[derive(Debug)]
pub struct Upgrading {
    /// What is started in an upgrade.
    pub program: Program,
    /// The process that this one is to take over from.
    pub from: Option<Wire>,
    /// Why this process cannot be upgraded, if so.
    pub objection: Option<String>,
    /// Signalled when the bridge has taken over; never of one that began by itself.
    pub serving: oneshot::Sender<()>,
    /// The focus in the same process, if there is one: as it is handed over, and as it takes over.
    pub beside: Option<Beside>,
    /// Where `from` is there.
    pub beside_heir: Option<BesideHeir>,
}

/// The counts of a bridge that took over after so long a freeze.
pub(super) fn go_on_counting(heritage: &Heritage, frozen: Duration) -> UpgradeCounters {
    let counters = UpgradeCounters::from(heritage.history);
    counters.handed_over(frozen);
    counters
}
