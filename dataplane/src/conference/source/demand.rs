//! How large a picture receivers want of a source: here, and on the other workers that its packets cross to.

use crate::congestion::allocation;
use crate::ids::WorkerSet;
use crate::media::MediaKind;

/// What receivers want of one source. Heights are pixels; -1 is unlimited, 0 is nobody.
#[derive(Debug, Default)]
pub struct Demand {
    /// The largest of all, as told last; none before the first receiver.
    told: Option<i32>,
    /// What the receivers on other workers want.
    remote: Vec<(usize, i32)>,
    /// Workers on which nobody wants it.
    unwanted: WorkerSet,
}

impl Demand {
    /// What there is to tell, given what receivers here want; `None` when that is no news.
    pub fn news(&self, here: Option<i32>) -> Option<i32> {
        let merge = |a: Option<i32>, (_, height): &(usize, i32)| Some(allocation::larger(a.unwrap_or(0), *height));
        let demand = self.remote.iter().fold(here, merge);
        // Before the first receiver nothing was said; after the last one left, nobody wants it.
        let demand = if self.told.is_some() { Some(demand.unwrap_or(0)) } else { demand };
        demand.filter(|_| demand != self.told)
    }

    /// It was told.
    pub fn told(&mut self, height: i32) {
        self.told = Some(height);
    }

    /// It has to be told again.
    pub fn forget_told(&mut self) {
        self.told = None;
    }

    /// Notes what the receivers on another worker want.
    pub fn set_remote(&mut self, worker: usize, height: i32) {
        self.remote.retain(|(known, _)| *known != worker);
        self.remote.push((worker, height));
        if height == 0 {
            self.unwanted.insert(worker);
        } else {
            self.unwanted.remove(worker);
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
