//! WebSockets; of the clients' ones: which connection of an endpoint counts, and what becomes of a client that does not read.

use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::ids::EndpointId;

use super::carrier::Carrier;
use super::table::Clients;
use crate::bridge::dtls_transport::Written;
use crate::bridge::messages::{self, ToClient};
use crate::channel::{ChannelEvent, ClientMessage, Outbox};

impl Clients {
    /// Something happened on a WebSocket, of a client or of another bridge.
    pub fn handle_channel_event(&mut self, now: Instant, event: ChannelEvent) {
        match event {
            ChannelEvent::Opened { endpoint, connection, sender } if self.relays.contains_key(&endpoint) => {
                self.handle_relay_websocket_opened(now, endpoint, connection, sender);
            }
            ChannelEvent::Opened { endpoint, connection, sender } => {
                self.handle_websocket_opened(endpoint, connection, sender);
            }
            ChannelEvent::Message { endpoint, connection, message } => {
                self.handle_websocket_message(now, endpoint, connection, message);
            }
            ChannelEvent::RelayMessage { relay, connection, message } => {
                self.handle_relay_websocket_message(now, relay, connection, message);
            }
            ChannelEvent::Closed { endpoint, connection, for_good } if self.relays.contains_key(&endpoint) => {
                self.handle_relay_websocket_ended(now, endpoint, connection, for_good, None);
            }
            ChannelEvent::Closed { endpoint, connection, .. } => self.handle_websocket_closed(endpoint, connection),
            ChannelEvent::NotOpened { relay, connection, reason } => {
                self.handle_relay_websocket_ended(now, relay, connection, false, Some(&reason));
            }
        }
    }

    /// A client connected; the connection is closed if the endpoint expired meanwhile.
    pub fn handle_websocket_opened(&mut self, id: EndpointId, connection: u64, sender: Outbox) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return sender.close() };
        endpoint.carriers.open_websocket(connection, sender);
        self.handle_channel_opened(id, Carrier::WebSocket);
    }

    /// A message arrived; one that came over a connection that was replaced has no effect.
    pub fn handle_websocket_message(&mut self, now: Instant, id: EndpointId, connection: u64, message: ClientMessage) {
        if !self.endpoints.get(&id).is_some_and(|endpoint| endpoint.carriers.is_current(connection)) {
            return;
        }
        self.counters.websocket_messages_received += 1;
        if let Some(message) = messages::decode(message) {
            self.handle_message(now, id, Carrier::WebSocket, message);
        }
    }

    /// A connection ended; one that was replaced has ended before.
    pub fn handle_websocket_closed(&mut self, id: EndpointId, connection: u64) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        if endpoint.carriers.is_current(connection) {
            endpoint.carriers.forget_websocket();
        }
    }

    /// Carries out [`super::Action::Send`]. A message of another client is left out for one that reads slowly; a client that
    /// does not even read what the bridge has to say loses its connection.
    pub fn send_over_websocket(&mut self, id: EndpointId, message: ToClient) {
        let of_others = matches!(message, ToClient::Forwarded(_));
        let text: Utf8Bytes = messages::encode(message);
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        match endpoint.carriers.write(text, of_others, &self.channel_counters) {
            Written::Sent => self.counters.websocket_messages_sent += 1,
            Written::Stalled => {
                tracing::warn!(endpoint = %id, label = %endpoint.who.label, "bridge channel closed: the client does not read");
            }
            Written::GaveWay | Written::NotSent => {}
        }
    }

    /// Closes all, since the bridge ends.
    pub fn close_websockets(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.carriers = super::carrier::Carriers::default();
        }
        for relay in self.relays.values_mut() {
            relay.redial = None;
            relay.carriers = super::carrier::Carriers::default();
        }
    }

    /// Endpoints and relays that have one.
    pub fn websockets(&self) -> usize {
        let carriers = self.endpoints.values().map(|endpoint| &endpoint.carriers);
        let carriers = carriers.chain(self.relays.values().map(|relay| &relay.carriers));
        carriers.filter(|carriers| carriers.is_open(Carrier::WebSocket)).count()
    }
}
