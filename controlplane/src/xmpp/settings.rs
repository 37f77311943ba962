//! How to reach an account on a server.

use std::path::PathBuf;

use jid::BareJid;

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS, or no connection.
    Required,
    /// STARTTLS where the server offers it, else plain TCP.
    IfPossible,
    /// Plain TCP: only for a server on this host or in a trusted network.
    Disabled,
}

/// One account on one server.
#[derive(Clone, PartialEq, Eq)]
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
    /// Whether the server's certificate must be one that an authority vouches for.
    pub verify_certificate: bool,
    /// Authorities beside the system's, a file in PEM form.
    pub ca_file: Option<PathBuf>,
    /// Whether a lost stream is to be resumed (XEP-0198). The server then keeps who is dead in its rooms for as long as it
    /// waits, a minute or ten: a bridge does better without.
    pub resumption: bool,
}

/// Without the password: settings are printed whole where something is wrong.
impl std::fmt::Debug for XmppSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XmppSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("jid", &self.jid)
            .field("resource", &self.resource)
            .field("security", &self.security)
            .field("verify_certificate", &self.verify_certificate)
            .field("ca_file", &self.ca_file)
            .field("resumption", &self.resumption)
            .finish_non_exhaustive()
    }
}
