//! What happens on WebSockets, for the bridge's one task.

use ringbridge_dataplane::ids::EndpointId;

use super::messages::{ClientMessage, FromRelay};
use super::outbox::Outbox;

/// What happens on the channels.
#[derive(Debug)]
pub enum ChannelEvent {
    /// Somebody connected, or we did; a former connection of the same one is replaced when its sender is dropped.
    Opened {
        /// The endpoint that it belongs to, or the relay.
        endpoint: EndpointId,
        /// Distinguishes connections.
        connection: u64,
        /// Where messages to the other side go.
        sender: Outbox,
    },
    /// A message of a client.
    Message {
        /// The endpoint that it belongs to.
        endpoint: EndpointId,
        /// The connection that it arrived on.
        connection: u64,
        /// The decoded message.
        message: ClientMessage,
    },
    /// A message of another bridge.
    RelayMessage {
        /// The relay to it.
        relay: EndpointId,
        /// The connection that it arrived on.
        connection: u64,
        /// The decoded message.
        message: FromRelay,
    },
    /// The connection ended.
    Closed {
        /// The endpoint that it belongs to, or the relay.
        endpoint: EndpointId,
        /// The connection that ended.
        connection: u64,
        /// The other side said that it wants no other one.
        for_good: bool,
    },
    /// A connection that we wanted did not come about.
    NotOpened {
        /// The relay.
        relay: EndpointId,
        /// The connection that it would have been.
        connection: u64,
        /// Why, for the log.
        reason: String,
    },
}
