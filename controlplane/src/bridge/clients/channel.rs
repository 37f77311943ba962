//! The bridge channel: what clients send on it, and what they get.

use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::MediaKind;

use super::action::Action;
use super::carrier::Carrier;
use super::client::Client;
use super::table::Clients;
use crate::bridge::dtls_transport::Written;
use crate::bridge::messages::{self, FromClient, ToClient};
use crate::channel::{Counted, ToRelay};

/// In larger conferences statistics go only to those who care about the sender.
const STATS_TO_ALL: usize = 20;

impl Clients {
    /// A channel opened: sends what the client must know (section 5.3).
    pub(super) fn handle_channel_opened(&mut self, id: EndpointId, carrier: Carrier) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.channel_seen = true;
        let (conference, demand) = (endpoint.who.conference, endpoint.demand.clone());
        // Over a data channel the client asks first.
        if carrier == Carrier::WebSocket {
            self.send(id, ToClient::ServerHello);
        }
        for (source, max_height) in demand {
            self.send_demand(id, source, max_height);
        }
        self.send_forwarded(id);
        self.resend_mappings(id);
        for endpoint in self.silent_ones(conference) {
            self.send(id, ToClient::Connectivity { endpoint, active: false });
        }
        if let Some(message) = self.speaker_message(conference) {
            self.send(id, message);
        }
    }

    /// A message arrived on the channel.
    pub fn handle_message(&mut self, now: Instant, id: EndpointId, carrier: Carrier, message: FromClient) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.carriers.set_last(carrier);
        match message {
            FromClient::Hello => self.send(id, ToClient::ServerHello),
            FromClient::Video { constraints, legacy } => {
                let newly_legacy = legacy && !endpoint.preferences.is_legacy();
                let demand = endpoint.demand.clone();
                endpoint.preferences.apply(constraints, legacy);
                self.update_constraints(id);
                if newly_legacy {
                    // What it got so far it did not understand.
                    for (source, max_height) in demand {
                        self.send_demand(id, source, max_height);
                    }
                    self.send_forwarded(id);
                }
            }
            FromClient::LastN(last_n) => {
                endpoint.preferences.set_last_n(last_n);
                self.update_constraints(id);
            }
            FromClient::Audio(audio) => {
                endpoint.preferences.set_audio(audio);
                self.update_constraints(id);
            }
            FromClient::VideoType { source, video_type } => {
                let first = || endpoint.sources.iter().find(|s| s.kind == MediaKind::Video).map(|s| s.name.clone());
                let source = source.or_else(first).unwrap_or_else(|| format!("{}-v0", endpoint.who.label));
                self.actions.push_back(Action::VideoType { endpoint: id, source, video_type });
            }
            FromClient::Message { to, text } => {
                if endpoint.who.visitor {
                    return;
                }
                let conference = endpoint.who.conference;
                let mut receivers = self.members(conference);
                let is_meant = |other: &Client| to.is_empty() || other.who.label == to;
                receivers.retain(|member| *member != id && self.endpoints.get(member).is_some_and(is_meant));
                // One of this bridge needs no other bridge.
                if to.is_empty() || receivers.is_empty() {
                    self.relay_on(now, id, conference, text.clone());
                }
                self.pass_on(now, id, &receivers, text);
            }
            FromClient::Stats(text) => {
                if endpoint.who.visitor {
                    return;
                }
                let conference = endpoint.who.conference;
                let receivers = self.interested(id, self.members(conference));
                self.relay_on(now, id, conference, text.clone());
                self.pass_on(now, id, &receivers, text);
            }
        }
    }

    /// Those of `receivers` who want statistics of an endpoint.
    pub(super) fn interested(&self, id: EndpointId, mut receivers: Vec<EndpointId>) -> Vec<EndpointId> {
        let Some((who, sources)) = self.publisher(id) else { return Vec::new() };
        let sources: Vec<String> = sources.iter().map(|s| s.name.clone()).collect();
        let speaks = self.conferences.get(&who.conference).is_some_and(|c| c.speakers().contains(&id));
        let everybody = receivers.len() <= STATS_TO_ALL || speaks;
        let cares = |other: &Client| everybody || other.preferences.interested_in(&who.label, &sources);
        receivers.retain(|member| *member != id && self.endpoints.get(member).is_some_and(cares));
        receivers
    }

    /// Those, on this bridge or on another one, of whom nothing comes.
    fn silent_ones(&self, conference: ConferenceId) -> Vec<String> {
        let Some(conference) = self.conferences.get(&conference) else { return Vec::new() };
        let local = conference.members().iter().filter_map(|m| self.endpoints.get(m));
        let local = local.filter(|e| e.active == Some(false) && !e.who.visitor).map(|e| e.who.label.clone());
        let relayed = conference.relayed().iter().filter_map(|r| self.relayed.get(r));
        local.chain(relayed.filter(|e| !e.active).map(|e| e.who.label.clone())).collect()
    }

    /// Sends one text of a client or of another bridge to clients and to other bridges, as far as its sender may still cause.
    pub(super) fn pass_on(&mut self, now: Instant, from: EndpointId, receivers: &[EndpointId], text: Utf8Bytes) {
        for receiver in receivers {
            let client = self.endpoints.get_mut(&from).map(|client| &mut client.fan_out);
            let Some(fan_out) = client.or_else(|| self.relays.get_mut(&from).map(|relay| &mut relay.fan_out)) else {
                return;
            };
            if !fan_out.take(now, text.len()) {
                self.channel_counters.count(Counted::FannedOut);
            } else if self.relays.contains_key(receiver) {
                self.send_to_relay(*receiver, ToRelay::Forwarded(text.clone()));
            } else {
                self.send(*receiver, ToClient::Forwarded(text.clone()));
            }
        }
    }

    pub(super) fn send(&mut self, id: EndpointId, message: ToClient) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        match endpoint.carriers.current() {
            None => {}
            Some(Carrier::WebSocket) => self.actions.push_back(Action::Send { endpoint: id, message }),
            Some(Carrier::Data) => {
                let of_others = matches!(message, ToClient::Forwarded(_));
                match endpoint.dtls.write(of_others, || messages::encode(message)) {
                    Written::GaveWay => return,
                    Written::Stalled => {
                        tracing::warn!(endpoint = %id, label = %endpoint.who.label, "data channel closed: the client does not read");
                        endpoint.carriers.set_data(false);
                    }
                    Written::Sent => self.counters.data_messages_sent += 1,
                    Written::NotSent => {}
                }
                self.written.insert(id);
            }
        }
    }
}
