//! What happened to clients since the start.

use serde::{Deserialize, Serialize};

/// Counters for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientCounters {
    pub ice_succeeded: u64,
    /// Over a relayed candidate of the client.
    pub ice_succeeded_relayed: u64,
    pub ice_failed: u64,
    pub dtls_failed: u64,
    pub dominant_speaker_changes: u64,
    /// Times that an endpoint fell silent, and came back.
    pub disconnected: u64,
    pub reconnected: u64,
    /// Clients that had no channel 30 s after DTLS.
    pub without_channel: u64,
    pub websocket_messages_received: u64,
    pub websocket_messages_sent: u64,
    pub data_messages_received: u64,
    pub data_messages_sent: u64,
    pub relays_ice_succeeded: u64,
    pub relays_ice_failed: u64,
    pub relays_dtls_failed: u64,
    /// Times that a link to another bridge fell silent.
    pub relays_lost: u64,
    /// Relays that had no channel 30 s after DTLS.
    pub relays_without_channel: u64,
    /// Times that the WebSocket of another bridge could not be opened.
    pub relay_websockets_failed: u64,
    pub relay_messages_received: u64,
    pub relay_messages_sent: u64,
}

/// No bridge counts so far; what does is made up.
const IMPLAUSIBLE: u64 = 1 << 62;

impl ClientCounters {
    /// Whether a bridge can have counted this.
    pub(super) fn is_plausible(&self) -> bool {
        let Self {
            ice_succeeded,
            ice_succeeded_relayed,
            ice_failed,
            dtls_failed,
            dominant_speaker_changes,
            disconnected,
            reconnected,
            without_channel,
            websocket_messages_received,
            websocket_messages_sent,
            data_messages_received,
            data_messages_sent,
            relays_ice_succeeded,
            relays_ice_failed,
            relays_dtls_failed,
            relays_lost,
            relays_without_channel,
            relay_websockets_failed,
            relay_messages_received,
            relay_messages_sent,
        } = *self;
        let counts = [
            [ice_succeeded, ice_succeeded_relayed, ice_failed, dtls_failed],
            [dominant_speaker_changes, disconnected, reconnected, without_channel],
            [websocket_messages_received, websocket_messages_sent, data_messages_received, data_messages_sent],
            [relays_ice_succeeded, relays_ice_failed, relays_dtls_failed, relays_lost],
            [relays_without_channel, relay_websockets_failed, relay_messages_received, relay_messages_sent],
        ];
        counts.as_flattened().iter().all(|count| *count < IMPLAUSIBLE)
    }
}
