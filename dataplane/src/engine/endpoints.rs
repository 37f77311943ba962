//! The endpoints of one worker: by index (the address table), id (commands), ufrag (STUN), and by timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use hashbrown::HashMap;

use crate::conference::EndpointSlot;
use crate::demux::EndpointIndex;
use crate::ice::Session;
use crate::ids::{ConferenceId, EndpointId};
use crate::limits::DtlsDatagrams;

/// What a worker keeps of one endpoint; its media state lies in the forwarder.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub id: EndpointId,
    pub conference: ConferenceId,
    pub label: String,
    pub ice: Session,
    pub slot: Option<EndpointSlot>,
    pub dtls_rate: DtlsDatagrams,
    /// The earliest deadline that stands in the heap for it.
    timer: Option<Instant>,
}

impl Endpoint {
    pub fn new(id: EndpointId, conference: ConferenceId, label: String, ice: Session) -> Self {
        Self { id, conference, label, ice, slot: None, dtls_rate: DtlsDatagrams::new(), timer: None }
    }
}

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    places: Vec<Option<Endpoint>>,
    free: Vec<EndpointIndex>,
    by_id: FastMap<EndpointId, EndpointIndex>,
    by_ufrag: FastMap<Box<[u8]>, EndpointIndex>,
    timers: BinaryHeap<Reverse<(Instant, EndpointIndex, EndpointId)>>,
}

impl Endpoints {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Deadlines in the heap, those of endpoints that are gone included.
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
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as EndpointIndex
        });
        self.by_id.insert(endpoint.id, index);
        self.by_ufrag.extend(ufrags.into_iter().map(|ufrag| (ufrag, index)));
        if let Some(place) = self.places.get_mut(index as usize) {
            *place = Some(endpoint);
        }
        true
    }

    pub fn remove(&mut self, id: EndpointId) -> Option<(EndpointIndex, Endpoint)> {
        let index = self.by_id.remove(&id)?;
        let endpoint = self.places.get_mut(index as usize)?.take()?;
        for ufrag in endpoint.ice.local_ufrags() {
            self.by_ufrag.remove(ufrag.as_bytes());
        }
        self.free.push(index);
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
        self.places.get_mut(index as usize)?.as_mut()
    }

    /// Ids of the endpoints of a conference.
    pub fn of_conference(&self, conference: ConferenceId) -> Vec<EndpointId> {
        self.places.iter().flatten().filter(|e| e.conference == conference).map(|e| e.id).collect()
    }

    /// Takes the agent's deadline, but no time before `not_before`, into the heap when it is earlier than what stands
    /// there.
    pub fn schedule(&mut self, index: EndpointIndex, not_before: Instant) {
        let Some(endpoint) = self.places.get_mut(index as usize).and_then(Option::as_mut) else { return };
        let Some(at) = endpoint.ice.poll_timeout().map(|at| at.max(not_before)) else { return };
        if endpoint.timer.is_none_or(|timer| at < timer) {
            endpoint.timer = Some(at);
            self.timers.push(Reverse((at, index, endpoint.id)));
        }
    }

    /// An endpoint whose timer is due. Call [`Self::schedule`] when it has been served.
    pub fn pop_due(&mut self, now: Instant) -> Option<EndpointIndex> {
        while let Some(Reverse((at, index, id))) = self.timers.peek().copied() {
            if at > now {
                return None;
            }
            self.timers.pop();
            // Entries of removed endpoints, and those overtaken by an earlier one, are stale.
            match self.get_mut(index) {
                Some(endpoint) if endpoint.id == id && endpoint.timer == Some(at) => {
                    endpoint.timer = None;
                    return Some(index);
                }
                _ => {}
            }
        }
        None
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }
}
