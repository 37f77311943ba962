//! XMPP connections: login, reconnect with back-off, stanzas in order.

use jid::BareJid;

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS with a verified certificate, or no connection.
    Required,
    /// Plain TCP: only for a server on this host or in a trusted network.
    Disabled,
}

/// One account on one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmppSettings {
    /// Name or address of the server.
    pub host: String,
    /// TCP port, usually 5222.
    pub port: u16,
    /// The account, `user@domain`.
    pub jid: BareJid,
    /// Its password.
    pub password: String,
    /// The resource to bind; the focus needs exactly `focus`.
    pub resource: Option<String>,
    /// Protection of the stream.
    pub security: Security,
}
