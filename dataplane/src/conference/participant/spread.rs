//! On which workers a conference is: that follows from where its participants live.

use serde::{Deserialize, Serialize};

use super::Participant;
use crate::ids::{EndpointId, WorkerId, WorkerSet};

/// Where a conference is, seen from one of its workers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    others: WorkerSet,
    leads: bool,
}

impl Spread {
    /// That of these participants, seen from the worker `here`.
    pub fn of<'a>(participants: impl Iterator<Item = &'a Participant>, here: WorkerId) -> Self {
        let (mut others, mut oldest) = (WorkerSet::default(), None);
        for participant in participants {
            let home = participant.home().unwrap_or(here);
            if home != here {
                others.insert(home);
            }
            if !participant.is_relay() {
                let endpoint = (participant.id(), home);
                oldest = Some(oldest.map_or(endpoint, |known: (EndpointId, WorkerId)| known.min(endpoint)));
            }
        }
        Self { others, leads: oldest.is_some_and(|(_, home)| home == here) }
    }

    /// Other workers that have participants of it.
    #[inline]
    pub fn others(&self) -> WorkerSet {
        self.others
    }

    /// This worker reports the dominant speaker: it is the home of the oldest endpoint.
    pub fn leads(&self) -> bool {
        self.leads
    }
}
