//! The bridge channel: what clients send on it, and what they get.

use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::MediaKind;

use super::action::Action;
use super::carrier::Carrier;
use super::client::Client;
use super::table::Clients;
use crate::bridge::messages::{self, FromClient, ToClient};
use crate::channel::limits::{QUEUED, QUEUED_OF_OTHERS};
use crate::channel::{Counted, NotSent};

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
        for member in self.members(conference) {
            let Some(other) = self.endpoints.get(&member) else { continue };
            if other.active == Some(false) && !other.who.visitor {
                let endpoint = other.who.label.clone();
                self.send(id, ToClient::Connectivity { endpoint, active: false });
            }
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
                self.pass_on(now, id, &receivers, text);
            }
            FromClient::Stats(text) => {
                if endpoint.who.visitor {
                    return;
                }
                let conference = endpoint.who.conference;
                let label = endpoint.who.label.clone();
                let sources: Vec<String> = endpoint.sources.iter().map(|s| s.name.clone()).collect();
                let mut receivers = self.members(conference);
                let speaks = self.conferences.get(&conference).is_some_and(|c| c.speakers().contains(&id));
                let everybody = receivers.len() <= STATS_TO_ALL || speaks;
                let cares = |other: &Client| everybody || other.preferences.interested_in(&label, &sources);
                receivers.retain(|member| *member != id && self.endpoints.get(member).is_some_and(cares));
                self.pass_on(now, id, &receivers, text);
            }
        }
    }

    /// Sends one text to others, as far as its sender may still cause.
    fn pass_on(&mut self, now: Instant, from: EndpointId, receivers: &[EndpointId], text: Utf8Bytes) {
        for receiver in receivers {
            let Some(sender) = self.endpoints.get_mut(&from) else { return };
            if sender.fan_out.take(now, text.len()) {
                self.send(*receiver, ToClient::Forwarded(text.clone()));
            } else {
                self.channel_counters.count(Counted::FannedOut);
            }
        }
    }

    pub(super) fn send(&mut self, id: EndpointId, message: ToClient) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        match endpoint.carriers.current() {
            None => {}
            Some(Carrier::WebSocket) => self.actions.push_back(Action::Send { endpoint: id, message }),
            Some(Carrier::Data) => {
                let buffered = endpoint.dtls.buffered();
                if buffered > QUEUED_OF_OTHERS && matches!(message, ToClient::Forwarded(_)) {
                    self.channel_counters.count(Counted::Unread);
                    return;
                }
                if buffered > QUEUED {
                    self.channel_counters.count(Counted::Stalled);
                    tracing::warn!(endpoint = %id, label = %endpoint.who.label, "data channel closed: the client does not read");
                    endpoint.dtls.close_channel();
                    endpoint.carriers.set_data(false);
                } else {
                    match endpoint.dtls.send(&messages::encode(message)) {
                        Ok(()) => self.counters.data_messages_sent += 1,
                        Err(NotSent::TooLarge) => self.channel_counters.count(Counted::Oversized),
                        // Its end is on its way to us.
                        Err(NotSent::Closed) => {}
                    }
                }
                self.written.insert(id);
            }
        }
    }
}
