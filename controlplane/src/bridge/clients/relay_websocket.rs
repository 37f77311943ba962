//! Relays whose channel is a WebSocket (docs/protocol/bridge.md 10): one of both bridges opens it, and again when it is lost.

use std::time::Instant;

use ringbridge_dataplane::ids::EndpointId;

use super::action::Action;
use super::carrier::Carrier;
use super::redial::Redial;
use super::table::Clients;
use crate::channel::{Address, Dialler, FromRelay, Outbox, ToRelay};

impl Clients {
    /// Signalling says where the other bridge's WebSocket is: it is opened at once. The same address again is no news.
    pub fn set_relay_address(&mut self, now: Instant, id: EndpointId, url: &str) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let label = &relay.who.label;
        let address = match Address::parse(url) {
            Ok(address) => address,
            Err(reason) => {
                tracing::error!(relay = %id, %label, reason, "the address of another bridge's WebSocket cannot be used; check its \
                    bridge.relay.websocket-url");
                self.counters.relay_websockets_failed += 1;
                return;
            }
        };
        if relay.redial.as_ref().is_some_and(|redial| *redial.address() == address) {
            return;
        }
        relay.redial = Some(Redial::new(now, address));
        self.redial(now, id);
        self.arm(id);
    }

    /// Opens the WebSocket of another bridge when it is time, and there is none.
    pub(super) fn redial(&mut self, now: Instant, id: EndpointId) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let Some(address) = relay.redial.as_mut().and_then(|redial| redial.take_due(now)) else { return };
        // One that the other bridge opened will do; two that replace each other would never rest.
        if relay.carriers.is_open(Carrier::WebSocket) {
            return;
        }
        self.actions.push_back(Action::Dial { relay: id, address });
    }

    /// Carries out [`Action::Dial`].
    pub fn dial(&mut self, dialler: &Dialler, id: EndpointId, address: Address) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let (Some(redial), Some(admission)) = (&mut relay.redial, &relay.admission) else { return };
        redial.set_under_way(dialler.dial(admission, address));
    }

    /// A WebSocket of a relay stands, whoever opened it; it is closed if the relay expired meanwhile.
    pub(super) fn handle_relay_websocket_opened(
        &mut self,
        now: Instant,
        id: EndpointId,
        connection: u64,
        sender: Outbox,
    ) {
        let Some(relay) = self.relays.get_mut(&id) else { return sender.close() };
        let ours = relay.redial.as_mut().is_some_and(|redial| redial.handle_opened(now, connection));
        tracing::info!(relay = %id, label = %relay.who.label, ours, "channel to another bridge open, over a WebSocket");
        relay.carriers.open_websocket(connection, sender);
        relay.channel_seen = true;
        self.send_to_relay(id, ToRelay::ServerHello {});
        self.replay(id);
    }

    /// One that came over a connection that was replaced has no effect.
    pub(super) fn handle_relay_websocket_message(
        &mut self,
        now: Instant,
        id: EndpointId,
        connection: u64,
        message: FromRelay,
    ) {
        if self.relays.get(&id).is_some_and(|relay| relay.carriers.is_current(connection)) {
            self.counters.relay_messages_received += 1;
            self.handle_relay_message(now, id, message);
        }
    }

    /// A WebSocket of a relay ended, or did not come about: `failed` says why.
    pub(super) fn handle_relay_websocket_ended(
        &mut self,
        now: Instant,
        id: EndpointId,
        connection: u64,
        for_good: bool,
        failed: Option<&str>,
    ) {
        let Some(relay) = self.relays.get_mut(&id) else { return };
        let label = &relay.who.label;
        if relay.carriers.is_current(connection) {
            tracing::info!(relay = %id, %label, for_good, "channel to another bridge closed");
            relay.carriers.forget_websocket();
        }
        let Some(redial) = &mut relay.redial else { return };
        let again = redial.handle_ended(now, connection, for_good, rand::random());
        if let (Some(failures), Some(reason)) = (again, failed) {
            self.counters.relay_websockets_failed += 1;
            // It is tried for as long as the relay exists: once says all.
            if failures == 1 {
                tracing::error!(relay = %id, %label, address = %redial.address(), reason, "no channel to another bridge: its \
                    WebSocket cannot be opened; check that this host reaches it. It is tried again");
            } else {
                tracing::debug!(relay = %id, %label, failures, reason, "another bridge's WebSocket cannot be opened");
            }
        }
        if !relay.carriers.is_open(Carrier::WebSocket) {
            redial.resume(now);
        }
        self.arm(id);
    }
}
