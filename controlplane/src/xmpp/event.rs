//! What a connection reports.

use jid::FullJid;

/// What a connection reports, in order.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Nearly every event is a stanza: a box each would cost more.
pub enum XmppEvent {
    /// Stanzas can be sent.
    Online {
        /// The address that the server bound.
        jid: FullJid,
        /// Whether the session survived (XEP-0198): nothing has to be joined again.
        resumed: bool,
    },
    /// The connection is gone; it is being rebuilt.
    Offline {
        /// What ended it, for the log.
        reason: String,
    },
    /// Nothing more is read: everything that was came before this.
    Parked,
    /// A stanza arrived.
    Stanza(tokio_xmpp::Stanza),
}
