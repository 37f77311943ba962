//! How large a picture receivers want of a source: here, and on the other workers that its packets cross to.

use serde::{Deserialize, Serialize};

use crate::ids::{WorkerId, WorkerSet};
use crate::media::{Limit, MediaKind};

/// What receivers want of one source, as a height in pixels.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Demand {
    /// The largest of all, as announced last; none before the first receiver.
    announced: Option<Limit>,
    /// What the receivers on other workers want.
    remote: Vec<(WorkerId, Limit)>,
    /// Workers on which nobody wants it.
    unwanted: WorkerSet,
}

impl Demand {
    /// What to send to the sender's side, given what receivers here want; `None` when that has not changed.
    pub fn news(&self, here: Option<Limit>) -> Option<Limit> {
        let remote = self.remote.iter().map(|(_, height)| *height);
        let demand = remote.chain(here).max();
        // Before the first receiver nothing was said; after the last one left, nobody wants it.
        let demand = if self.announced.is_some() { Some(demand.unwrap_or(Limit::Off)) } else { demand };
        demand.filter(|_| demand != self.announced)
    }

    /// Records the height that was announced.
    pub fn note_announced(&mut self, height: Limit) {
        self.announced = Some(height);
    }

    /// It has to be announced again.
    pub fn forget_announced(&mut self) {
        self.announced = None;
    }

    /// Records what the receivers on another worker want.
    pub fn set_remote(&mut self, worker: WorkerId, height: Limit) {
        self.remote.retain(|(known, _)| *known != worker);
        self.remote.push((worker, height));
        if height.is_on() {
            self.unwanted.remove(worker);
        } else {
            self.unwanted.insert(worker);
        }
    }

    /// Only the workers of a set have receivers from now on.
    pub fn retain_workers(&mut self, workers: WorkerSet) {
        self.remote.retain(|(worker, _)| workers.contains(*worker));
        self.unwanted = self.unwanted.intersection(workers);
    }

    /// The workers of a set that a packet crosses to. Whoever has not said yet is given everything.
    pub fn crosses_to(&self, kind: MediaKind, workers: WorkerSet) -> WorkerSet {
        match kind {
            // Everywhere, so that all agree on who speaks.
            MediaKind::Audio => workers,
            MediaKind::Video => workers.without(self.unwanted),
        }
    }
}
