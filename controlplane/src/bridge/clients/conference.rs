//! The clients of one conference.

use ringbridge_dataplane::ids::EndpointId;

/// Who is in a conference, and who speaks.
#[derive(Debug, Default)]
pub(super) struct Conference {
    members: Vec<EndpointId>,
    /// The dominant speaker first.
    speakers: Vec<EndpointId>,
}

impl Conference {
    pub(super) fn add(&mut self, id: EndpointId) {
        self.members.push(id);
    }

    /// Removes a member; whether nobody is left.
    pub(super) fn remove(&mut self, id: EndpointId) -> bool {
        self.members.retain(|member| *member != id);
        self.speakers.retain(|member| *member != id);
        self.members.is_empty()
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
