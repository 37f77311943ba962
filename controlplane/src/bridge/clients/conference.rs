//! The clients of one conference, and those behind its relays.

use ringbridge_dataplane::ids::EndpointId;

/// Who is in a conference, and who speaks.
#[derive(Debug, Default)]
pub(super) struct Conference {
    members: Vec<EndpointId>,
    relays: Vec<EndpointId>,
    /// Endpoints of other bridges.
    relayed: Vec<EndpointId>,
    /// The dominant speaker first.
    speakers: Vec<EndpointId>,
}

impl Conference {
    pub(super) fn add(&mut self, id: EndpointId) {
        self.members.push(id);
    }

    /// Removes a member, a relay or an endpoint behind one; whether nobody is left.
    pub(super) fn remove(&mut self, id: EndpointId) -> bool {
        for list in [&mut self.members, &mut self.relays, &mut self.relayed, &mut self.speakers] {
            list.retain(|known| *known != id);
        }
        self.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.relays.is_empty() && self.relayed.is_empty()
    }

    pub(super) fn add_relay(&mut self, id: EndpointId) {
        self.relays.push(id);
    }

    pub(super) fn add_relayed(&mut self, id: EndpointId) {
        self.relayed.push(id);
    }

    pub(super) fn relays(&self) -> &[EndpointId] {
        &self.relays
    }

    /// Endpoints of other bridges.
    pub(super) fn relayed(&self) -> &[EndpointId] {
        &self.relayed
    }

    pub(super) fn members(&self) -> &[EndpointId] {
        &self.members
    }

    /// The dominant speaker first.
    pub(super) fn speakers(&self) -> &[EndpointId] {
        &self.speakers
    }

    /// Takes the order of speakers; `None` when it is known, else whether the dominant speaker is another one.
    pub(super) fn set_speakers(&mut self, recent: Vec<EndpointId>) -> Option<bool> {
        if self.speakers == recent {
            return None;
        }
        let dominant = self.speakers.first() != recent.first();
        self.speakers = recent;
        Some(dominant)
    }
}
