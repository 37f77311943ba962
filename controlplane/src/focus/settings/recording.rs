//! What recording runs with.

use std::time::Duration;

use jid::BareJid;

/// What recording runs with.
#[derive(Debug, Clone)]
pub struct RecordingSettings {
    /// The brewery of Jibris that record and stream; without one, nobody can record.
    pub brewery: Option<BareJid>,
    /// The brewery of Jibris that bring a conference into a SIP call.
    pub sip_brewery: Option<BareJid>,
    /// How long a Jibri may take from the request until it records (90 s).
    pub pending_timeout: Duration,
    /// How many other Jibris are tried when one fails (5).
    pub retries: u32,
}

impl Default for RecordingSettings {
    fn default() -> Self {
        Self { brewery: None, sip_brewery: None, pending_timeout: Duration::from_secs(90), retries: 5 }
    }
}
