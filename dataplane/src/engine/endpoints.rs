//! The endpoints of one worker: by index (the address table), id (commands), ufrag (STUN), and by timer.

use std::time::Instant;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::conference::EndpointSlot;
use crate::deadlines::Deadlines;
use crate::demux::EndpointIndex;
use crate::ice::Session;
use crate::ids::{ConferenceId, EndpointId};
use crate::limits::DtlsDatagrams;
use crate::slab::Slab;

/// What a worker keeps of one endpoint; its media state lies in the forwarder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Endpoint {
    id: EndpointId,
    conference: ConferenceId,
    label: String,
    ice: Session,
    slot: Option<EndpointSlot>,
    dtls_rate: DtlsDatagrams,
}

impl Endpoint {
    pub fn new(id: EndpointId, conference: ConferenceId, label: String, ice: Session) -> Self {
        Self { id, conference, label, ice, slot: None, dtls_rate: DtlsDatagrams::new() }
    }

    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// What logs call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    pub fn ice(&self) -> &Session {
        &self.ice
    }

    /// To drive its ICE. A ufrag that comes or goes is to be entered by [`Endpoints::add_ufrag`] and
    /// [`Endpoints::release_ufrag`].
    pub fn ice_mut(&mut self) -> &mut Session {
        &mut self.ice
    }

    /// Where the forwarder keeps it; `None` while it does not.
    pub fn slot(&self) -> Option<EndpointSlot> {
        self.slot
    }

    pub fn set_slot(&mut self, slot: Option<EndpointSlot>) {
        self.slot = slot;
    }

    /// Whether one more DTLS datagram of it goes to the control plane.
    pub fn take_dtls(&mut self, now: Instant) -> bool {
        self.dtls_rate.take(now)
    }
}

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// See the module.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Endpoints {
    table: Slab<EndpointIndex, Endpoint>,
    /// Made anew from the table by whoever takes over.
    #[serde(skip)]
    by_id: FastMap<EndpointId, EndpointIndex>,
    /// Likewise.
    #[serde(skip)]
    by_ufrag: FastMap<Box<[u8]>, EndpointIndex>,
    timers: Deadlines<EndpointIndex>,
}

impl Endpoints {
    /// Finds them by id and ufrag again, after they came from elsewhere; `slot` is where the forwarder keeps each. An error when two
    /// have the same.
    pub fn index(&mut self, slot: impl Fn(EndpointId) -> Option<EndpointSlot>) -> Result<(), &'static str> {
        for (index, endpoint) in self.table.iter_mut() {
            endpoint.slot = slot(endpoint.id);
            if self.by_id.insert(endpoint.id, index).is_some() {
                return Err("an endpoint comes twice");
            }
            for ufrag in endpoint.ice.local_ufrags() {
                if self.by_ufrag.insert(ufrag.as_bytes().into(), index).is_some_and(|other| other != index) {
                    return Err("a ufrag is that of two endpoints");
                }
            }
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Endpoints whose ICE waits for a time.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Ufrags that endpoints are found under.
    #[cfg(test)]
    pub fn ufrags(&self) -> usize {
        self.by_ufrag.len()
    }

    /// Adds an endpoint; false when its id or ufrag is taken.
    pub fn insert(&mut self, endpoint: Endpoint) -> bool {
        let ufrags: Vec<Box<[u8]>> = endpoint.ice.local_ufrags().map(|ufrag| ufrag.as_bytes().into()).collect();
        if self.by_id.contains_key(&endpoint.id) || ufrags.iter().any(|ufrag| self.by_ufrag.contains_key(ufrag)) {
            return false;
        }
        let id = endpoint.id;
        let index = self.table.insert(endpoint);
        self.by_id.insert(id, index);
        self.by_ufrag.extend(ufrags.into_iter().map(|ufrag| (ufrag, index)));
        true
    }

    pub fn remove(&mut self, id: EndpointId) -> Option<(EndpointIndex, Endpoint)> {
        let index = self.by_id.remove(&id)?;
        let endpoint = self.table.remove(index)?;
        self.timers.set(index, None);
        for ufrag in endpoint.ice.local_ufrags() {
            self.by_ufrag.remove(ufrag.as_bytes());
        }
        Some((index, endpoint))
    }

    pub fn index_of(&self, id: EndpointId) -> Option<EndpointIndex> {
        self.by_id.get(&id).copied()
    }

    pub fn index_of_ufrag(&self, ufrag: &[u8]) -> Option<EndpointIndex> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// One more ufrag of an endpoint; the caller has made sure that it is nobody's.
    pub fn add_ufrag(&mut self, index: EndpointIndex, ufrag: &str) {
        self.by_ufrag.insert(ufrag.as_bytes().into(), index);
    }

    /// A ufrag is nobody's any more.
    pub fn release_ufrag(&mut self, ufrag: &str) {
        self.by_ufrag.remove(ufrag.as_bytes());
    }

    #[inline]
    pub fn get_mut(&mut self, index: EndpointIndex) -> Option<&mut Endpoint> {
        self.table.get_mut(index)
    }

    /// Ids of the endpoints of a conference.
    pub fn of_conference(&self, conference: ConferenceId) -> Vec<EndpointId> {
        self.table.values().filter(|e| e.conference == conference).map(|e| e.id).collect()
    }

    /// Makes sure that an endpoint is served when its ICE is due, but not before `not_before`.
    pub fn schedule(&mut self, index: EndpointIndex, not_before: Instant) {
        if let Some(at) = self.table.get(index).and_then(|endpoint| endpoint.ice.poll_timeout()) {
            self.timers.wake(index, at.max(not_before));
        }
    }

    /// An endpoint whose timer is due. Call [`Self::schedule`] when it has been served.
    pub fn pop_due(&mut self, now: Instant) -> Option<EndpointIndex> {
        self.timers.pop(now)
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first()
    }
}
