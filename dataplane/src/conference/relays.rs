//! Relays: the connections of a conference to other bridges. One publishes for everybody behind it, and is given the sources of
//! everybody else who is not of its mesh.

use super::context::Env;
use super::members::Conference;
use crate::ids::{EndpointId, ParticipantId, Ssrc};
use crate::media::Limit;
use crate::slab::Key;
use crate::stats::Counter;

impl Conference {
    /// Notes what those behind a relay want of a source.
    pub fn set_relay_demand(
        &mut self,
        env: &mut Env<'_>,
        id: ParticipantId,
        owner: EndpointId,
        source: String,
        height: Limit,
    ) {
        let Some(relay) = self.participants.get_mut(id).and_then(|participant| participant.relay_mut()) else {
            return env.stats.count(Counter::DropCommandUnknown);
        };
        if !relay.set_demand(owner, source, height) {
            env.stats.count(Counter::ConstraintsRefused);
        }
        self.touch_commanded(env, id);
    }

    /// Adds what those behind relays want, to what receivers here want, by source.
    pub fn add_relay_demands(&self, demands: &mut [Option<Limit>]) {
        for participant in self.participants.values().filter(|participant| participant.has_transport()) {
            let Some(relay) = participant.relay() else { continue };
            for (id, source) in self.sources.iter() {
                let Some(owner) = self.participants.get(source.owner()) else { continue };
                if owner.mesh() != participant.mesh()
                    && let Some(demand) = demands.get_mut(id.number())
                {
                    *demand = (*demand).max(relay.demand(owner.id(), source.name()));
                }
            }
        }
    }

    /// Whether an SSRC that came by a relay belongs to somebody who is not behind that.
    #[cold]
    pub fn is_of_others(&self, relay: ParticipantId, ssrc: Ssrc) -> bool {
        let others = self.participants.iter().filter(|(id, _)| *id != relay).map(|(_, participant)| participant);
        self.has_outgoing(ssrc) || others.into_iter().any(|other| other.publisher.stream(ssrc).is_some())
    }

    /// Counts a packet that was taken from a relay, of somebody behind it.
    pub fn count_relayed(&mut self, env: &mut Env<'_>, owner: ParticipantId, size: usize) {
        env.stats.count(Counter::RelayPacketsReceived);
        env.stats.add(Counter::RelayBytesReceived, size as u64);
        if let Some(owner) = self.participants.get_mut(owner) {
            owner.publisher.count_taken(env.share);
        }
    }
}
