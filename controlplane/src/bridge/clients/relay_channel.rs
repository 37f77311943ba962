//! What two bridges say to each other over the channel of a relay (docs/protocol/bridge.md 10). The other bridge is believed about
//! those who are behind it, and about nobody else.

use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::{Limit, MediaKind, SourceDescription, VideoType};
use ringbridge_dataplane::messages::Command;

use super::action::Action;
use super::carrier::Carrier;
use super::table::Clients;
use crate::bridge::dtls_transport::Written;
use crate::bridge::messages::ToClient;
use crate::channel::{Counted, FromRelay, MAX_MESSAGE, Relayed, ToRelay, from_limit, to_limit};
use crate::colibri::identity::EndpointIdentity;
use crate::colibri::{convert, names};

impl Clients {
    /// A channel opened, for the first time or again: what the other bridge must know and may have missed.
    pub(super) fn replay(&mut self, id: EndpointId) {
        let Some(relay) = self.relays.get(&id) else { return };
        let (conference, mesh) = (relay.who.conference, relay.who.mesh);
        let Some(members) = self.conferences.get(&conference) else { return };
        let mut messages = Vec::new();
        let mut wanted = Vec::new();
        for relayed in members.relayed().iter().filter_map(|r| self.relayed.get(r)) {
            if relayed.who.relay == Some(id) {
                wanted.extend(relayed.demand.iter().map(|(source, most)| (source.clone(), *most)));
            } else if self.mesh_of(relayed.who.id) != Some(mesh) {
                messages.extend(types(&relayed.who.label, &relayed.sources, &[]));
                if !relayed.active {
                    messages.push(connectivity(&relayed.who.label, false));
                }
            }
        }
        for local in members.members().iter().filter_map(|m| self.endpoints.get(m)).filter(|e| !e.who.visitor) {
            messages.extend(types(&local.who.label, &local.sources, &[]));
            if local.active == Some(false) {
                messages.push(connectivity(&local.who.label, false));
            }
        }
        for (source, most) in wanted {
            self.send_wanted(id, source, most);
        }
        for message in messages {
            self.send_to_relay(id, message);
        }
    }

    /// Sends the bridge of a source how large it is wanted here.
    pub(super) fn send_wanted(&mut self, relay: EndpointId, source: String, max_height: Limit) {
        let Some(who) = self.relays.get(&relay).map(|relay| &relay.who) else { return };
        let message = ToRelay::add_receiver(&who.own, source, from_limit(max_height));
        self.send_to_relay(relay, message);
    }

    /// Sends other bridges what sources of an endpoint show, as far as that has changed.
    pub(super) fn announce_types(&mut self, id: EndpointId, before: &[SourceDescription]) {
        let Some((who, sources)) = self.publisher(id).filter(|(who, _)| !who.visitor) else { return };
        let (conference, messages) = (who.conference, types(&who.label, sources, before));
        if messages.is_empty() {
            return;
        }
        let mesh = self.mesh_of(id);
        for relay in self.relays_of(conference, mesh) {
            for message in &messages {
                self.send_to_relay(relay, message.clone());
            }
        }
    }

    /// Sends a message over the channel of a relay. While there is none, what [`Self::replay`] says is not lost.
    pub(super) fn send_to_relay(&mut self, id: EndpointId, message: ToRelay) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let of_others = matches!(message, ToRelay::Forwarded(_));
        let written = match relay.carriers.current() {
            None if of_others => return self.channel_counters.count(Counted::NoChannel),
            None => return,
            Some(Carrier::WebSocket) => {
                let text = message.to_text();
                if text.len() > MAX_MESSAGE {
                    return self.channel_counters.count(Counted::Oversized);
                }
                relay.carriers.write(text, of_others, &self.channel_counters)
            }
            Some(Carrier::Data) => {
                let written = relay.dtls.write(of_others, || message.to_text());
                if written == Written::Stalled {
                    relay.carriers.set_data(false);
                }
                if written != Written::GaveWay {
                    self.written.insert(id);
                }
                written
            }
        };
        match written {
            Written::Sent => self.counters.relay_messages_sent += 1,
            Written::Stalled => {
                tracing::warn!(relay = %id, label = %relay.who.label, "channel to another bridge closed: it does not read");
            }
            Written::GaveWay | Written::NotSent => {}
        }
    }

    /// A message of another bridge.
    pub fn handle_relay_message(&mut self, now: Instant, id: EndpointId, message: FromRelay) {
        match message {
            FromRelay::ClientHello => self.send_to_relay(id, ToRelay::ServerHello {}),
            FromRelay::ServerHello { version } => {
                tracing::debug!(relay = %id, ?version, "another bridge says hello");
            }
            FromRelay::AddReceiver { source_name, video_constraints } => {
                self.handle_wanted(id, source_name, to_limit(video_constraints.max_height));
            }
            FromRelay::SourceVideoTypeMessage { source_name, video_type, endpoint_id } => {
                let Some(endpoint) = self.behind(id, &endpoint_id) else { return };
                let video_type = convert::video_type(&video_type);
                self.actions.push_back(Action::VideoType { endpoint, source: source_name, video_type });
            }
            FromRelay::EndpointConnectivityStatusChangeEvent { endpoint, active } => {
                let Some(endpoint) = self.behind(id, &endpoint) else { return };
                self.set_relayed_active(endpoint, active.eq_ignore_ascii_case("true"));
            }
            FromRelay::EndpointMessage(Relayed { to, from, text }) => {
                let Some(from) = self.behind(id, &from) else { return };
                let Some((conference, receivers)) = self.those_who_hear(from) else { return };
                if to.is_empty() {
                    let further = self.relays_of(conference, self.mesh_of(from));
                    self.pass_on(now, id, &[receivers, further].concat(), text);
                } else {
                    let is_meant = |member: &EndpointId| self.endpoints.get(member).is_some_and(|e| e.who.label == to);
                    let receivers: Vec<_> = receivers.into_iter().filter(is_meant).collect();
                    self.pass_on(now, id, &receivers, text);
                }
            }
            FromRelay::EndpointStats(Relayed { from, text, .. }) => {
                let Some(from) = self.behind(id, &from) else { return };
                let Some((conference, receivers)) = self.those_who_hear(from) else { return };
                let receivers = self.interested(from, receivers);
                let further = self.relays_of(conference, self.mesh_of(from));
                self.pass_on(now, id, &[receivers, further].concat(), text);
            }
            FromRelay::Unknown => {}
        }
    }

    /// The endpoint of this name behind a relay; a claim about another one is counted.
    fn behind(&self, relay: EndpointId, label: &str) -> Option<EndpointId> {
        let conference = self.relays.get(&relay)?.who.conference;
        let mut relayed = self.conferences.get(&conference)?.relayed().iter().filter_map(|id| self.relayed.get(id));
        let found = relayed.find(|e| e.who.relay == Some(relay) && e.who.label == label).map(|e| e.who.id);
        if found.is_none() {
            self.channel_counters.count(Counted::NotBehind);
            tracing::debug!(%relay, endpoint = label, "another bridge speaks of an endpoint that is not behind it");
        }
        found
    }

    fn those_who_hear(&self, from: EndpointId) -> Option<(ConferenceId, Vec<EndpointId>)> {
        let conference = self.relayed.get(&from)?.who.conference;
        Some((conference, self.members(conference)))
    }

    /// Another bridge wants one of the sources that it is given: of this bridge, or of another mesh.
    fn handle_wanted(&mut self, id: EndpointId, source: String, max_height: Limit) {
        let Some(relay) = self.relays.get(&id) else { return };
        let (worker, mesh) = (relay.who.worker, relay.who.mesh);
        let given = |who: &EndpointIdentity| !who.visitor && self.mesh_of(who.id) != Some(mesh);
        let mut candidates: Vec<_> = self.publishers(relay.who.conference).filter(|(who, _)| given(who)).collect();
        let has = |sources: &[SourceDescription]| sources.iter().any(|known| known.name == source);
        // It may be wanted before it is signalled: then its name says whose it is.
        candidates.sort_by_key(|(_, sources)| !has(sources));
        let owner = candidates.first().filter(|(_, sources)| has(sources)).map(|(who, _)| who.id);
        let owner = owner.or_else(|| {
            candidates.iter().find(|(who, _)| names::belongs_to(&source, &who.label)).map(|(who, _)| who.id)
        });
        let Some(endpoint) = owner else {
            self.channel_counters.count(Counted::NotBehind);
            tracing::debug!(relay = %id, source, "another bridge wants a source that it is not given");
            return;
        };
        let command = Command::SetRelayDemand { relay: id, endpoint, source, max_height };
        self.actions.push_back(Action::Command { worker, command });
    }

    fn set_relayed_active(&mut self, id: EndpointId, active: bool) {
        let Some(relayed) = self.relayed.get_mut(&id) else { return };
        if std::mem::replace(&mut relayed.active, active) != active {
            self.tell_connectivity(id, active);
        }
    }

    /// Sends clients, and bridges that do not know it, that an endpoint fell silent or is back.
    pub(super) fn tell_connectivity(&mut self, id: EndpointId, active: bool) {
        let Some((who, _)) = self.publisher(id) else { return };
        let (conference, label) = (who.conference, who.label.clone());
        for member in self.members(conference) {
            self.send(member, ToClient::Connectivity { endpoint: label.clone(), active });
        }
        for relay in self.relays_of(conference, self.mesh_of(id)) {
            self.send_to_relay(relay, connectivity(&label, active));
        }
    }

    /// What a client of this bridge wrote, for other bridges.
    pub(super) fn relay_on(&mut self, now: Instant, from: EndpointId, conference: ConferenceId, text: Utf8Bytes) {
        let relays = self.relays_of(conference, None);
        self.pass_on(now, from, &relays, text);
    }
}

fn connectivity(label: &str, active: bool) -> ToRelay {
    ToRelay::EndpointConnectivityStatusChangeEvent { endpoint: label.to_owned(), active: active.to_string() }
}

/// What sources show, where that is another thing than `before`; who says nothing shows a camera.
fn types(label: &str, sources: &[SourceDescription], before: &[SourceDescription]) -> Vec<ToRelay> {
    let known = |name: &str| before.iter().find(|s| s.name == name).map_or(VideoType::Camera, |s| s.video_type);
    let news = sources.iter().filter(|s| s.kind == MediaKind::Video && s.video_type != known(&s.name));
    let message = |source: &SourceDescription| ToRelay::SourceVideoTypeMessage {
        video_type: convert::video_type_name(source.video_type),
        source_name: source.name.clone(),
        endpoint_id: label.to_owned(),
    };
    news.map(message).collect()
}
