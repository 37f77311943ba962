//! What happened to clients since the start.

/// Counters for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
