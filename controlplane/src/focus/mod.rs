//! The focus: rooms, owners, offers, bridges.

use std::net::SocketAddr;

use jid::BareJid;

use crate::xmpp::XmppSettings;

/// What the focus runs with.
#[derive(Debug, Clone)]
pub struct FocusSettings {
    /// Its account; the resource must be `focus`.
    pub xmpp: XmppSettings,
    /// The brewery room where bridges announce themselves.
    pub brewery: BareJid,
    /// The MUC service of the conferences, e.g. `conference.example.net`; requests for other services are refused.
    pub conference_muc: BareJid,
    /// Where health and statistics are served.
    pub rest_listen: SocketAddr,
    /// Participants before media is allocated (2).
    pub min_participants: usize,
    /// Ends the media session of the last one left.
    pub single_participant_timeout: std::time::Duration,
    /// Leaves a room that nobody joins.
    pub initial_timeout: std::time::Duration,
}
