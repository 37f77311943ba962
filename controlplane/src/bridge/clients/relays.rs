//! Relays and those behind them: how they come and go, and whether they are there.

use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId};

use super::relay::{Relay, Relayed};
use super::table::{CHANNEL_DELAY, Clients};
use crate::bridge::dtls_transport::{DtlsTransport, DtlsTransportEvent};
use crate::channel::{Counted, DataChannel, FromRelay};
use crate::colibri::bridge::RelayChannel;
use crate::colibri::elements::SctpRole;
use crate::colibri::identity::{EndpointIdentity, RelayIdentity};
use crate::transport::DtlsError;

impl Clients {
    /// A relay was created.
    pub fn insert_relay(&mut self, who: Arc<RelayIdentity>, channel: &RelayChannel) {
        let counters = || Arc::clone(&self.channel_counters);
        let (data, admission) = match channel {
            RelayChannel::Sctp(SctpRole::Client) => (Some(DataChannel::client(counters())), None),
            RelayChannel::Sctp(SctpRole::Server) => (Some(DataChannel::new(counters())), None),
            RelayChannel::WebSocket { password } => {
                let admission = self.registry.admit_relay(&who.conference_hex, &who.label, password, who.id);
                (None, Some(admission))
            }
        };
        let dtls = DtlsTransport::new(data, counters());
        self.conferences.entry(who.conference).or_default().add_relay(who.id);
        self.relays.insert(who.id, Relay::new(who, dtls, admission));
    }

    /// A relay expired, after those behind it.
    pub fn remove_relay(&mut self, id: EndpointId) {
        let Some(relay) = self.relays.remove(&id) else { return };
        self.forget(relay.who.conference, id);
    }

    /// An endpoint of another bridge came.
    pub fn insert_relayed(&mut self, who: Arc<EndpointIdentity>) {
        self.conferences.entry(who.conference).or_default().add_relayed(who.id);
        self.relayed.insert(who.id, Relayed::new(who));
    }

    /// Relays now.
    pub fn relay_count(&self) -> usize {
        self.relays.len()
    }

    /// Relays over which nothing comes, although something came before.
    pub fn dead_relays(&self) -> usize {
        self.relays.values().filter(|relay| relay.silent.is_some()).count()
    }

    /// The same, each with the other bridge's relay id; and those that never connected.
    pub fn dead_links(&self) -> impl Iterator<Item = (EndpointId, &str)> {
        let dead = |relay: &&Relay| relay.silent.is_some() || relay.unreached;
        self.relays.values().filter(dead).map(|relay| (relay.who.id, relay.who.label.as_str()))
    }

    /// The relays of a conference; `but` leaves out those of one mesh: what came by one of them is known to the others.
    pub(super) fn relays_of(&self, conference: ConferenceId, but: Option<MeshId>) -> Vec<EndpointId> {
        let Some(conference) = self.conferences.get(&conference) else { return Vec::new() };
        let meant = |id: &&EndpointId| self.relays.get(id).is_some_and(|relay| Some(relay.who.mesh) != but);
        conference.relays().iter().filter(meant).copied().collect()
    }

    /// The mesh that an endpoint of another bridge is in.
    pub(super) fn mesh_of(&self, relayed: EndpointId) -> Option<MeshId> {
        let relay = self.relayed.get(&relayed)?.who.relay?;
        Some(self.relays.get(&relay)?.who.mesh)
    }

    // --- workers ----------------------------------------------------------------------------------------------

    /// ICE of a relay changed its state.
    pub(super) fn handle_relay_ice(&mut self, now: Instant, id: EndpointId, state: IceState) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let label = &relay.who.label;
        match state {
            IceState::Connected => {
                tracing::info!(relay = %id, %label, "ICE connected to another bridge");
                relay.unreached = false;
                if relay.dtls.set_ice_connected(now, &self.certificate) {
                    self.counters.relays_ice_succeeded += 1;
                }
                self.set_relay_active(now, id, true);
                self.drain(now, id);
            }
            IceState::Disconnected => {
                if relay.dtls.ice_connected() {
                    self.set_relay_active(now, id, false);
                } else {
                    tracing::error!(relay = %id, %label, "no connection to another bridge: participants on it are not seen \
                        here; check that its media port is reached from this host");
                    relay.unreached = true;
                    self.counters.relays_ice_failed += 1;
                }
            }
        }
    }

    /// Something came over a relay, or nothing does any more.
    pub(super) fn set_relay_active(&mut self, now: Instant, id: EndpointId, active: bool) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        // Before the first connection silence is no news.
        if !relay.dtls.ice_connected() {
            return;
        }
        let label = &relay.who.label;
        match (active, relay.silent) {
            (false, None) => {
                relay.silent = Some(now);
                self.counters.relays_lost += 1;
                tracing::error!(relay = %id, %label, conference = %relay.who.conference, "the link to another bridge is dead: \
                    nothing comes over it; participants on the two bridges do not see each other until it is back");
            }
            (true, Some(since)) => {
                relay.silent = None;
                let ms = now.saturating_duration_since(since).as_millis();
                tracing::info!(relay = %id, %label, ms, "the link to another bridge is back");
            }
            _ => {}
        }
    }

    /// Acts on what became of DTLS and the data channel of a relay.
    pub(super) fn handle_relay_event(&mut self, now: Instant, id: EndpointId, event: DtlsTransportEvent) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let label = &relay.who.label;
        match event {
            DtlsTransportEvent::Failed { error: DtlsError::Closed, before: false } => {
                tracing::info!(relay = %id, %label, "the other bridge closed its session");
            }
            DtlsTransportEvent::Failed { error, before } => {
                tracing::error!(relay = %id, %label, %error, "DTLS with another bridge failed");
                self.counters.relays_dtls_failed += u64::from(before);
            }
            DtlsTransportEvent::ChannelOpened => {
                tracing::info!(relay = %id, %label, "channel to another bridge open");
                relay.carriers.set_data(true);
                relay.channel_seen = true;
                self.replay(id);
            }
            DtlsTransportEvent::ChannelClosed => {
                tracing::info!(relay = %id, %label, "channel to another bridge closed");
                relay.carriers.set_data(false);
            }
            DtlsTransportEvent::ChannelStalled => {
                tracing::warn!(relay = %id, %label, "channel to another bridge closed: it does not read");
                relay.carriers.set_data(false);
            }
            DtlsTransportEvent::Text(text) => {
                self.counters.relay_messages_received += 1;
                if !relay.intake.take(now, text.len()) {
                    self.channel_counters.count(Counted::TooFast);
                } else if let Some(message) = FromRelay::receive(label, &text, &self.channel_counters) {
                    self.handle_relay_message(now, id, message);
                }
            }
        }
    }

    /// Counts relays that have no channel so long after DTLS.
    pub(super) fn check_late_relays(&mut self, now: Instant) {
        let overdue = |relay: &Relay| {
            let passed = |at| now.saturating_duration_since(at) >= CHANNEL_DELAY;
            !relay.channel_seen && relay.dtls.connected().is_some_and(passed)
        };
        for (id, relay) in self.relays.iter_mut().filter(|(_, relay)| overdue(relay)) {
            tracing::error!(relay = %id, label = %relay.who.label, "no channel to another bridge 30 s after DTLS: nobody behind it \
                can say what is wanted");
            relay.channel_seen = true;
            self.counters.relays_without_channel += 1;
        }
    }
}
