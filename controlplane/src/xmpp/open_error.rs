//! Why a stream could not be opened, and how long that is tried.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio_xmpp::xmlstream::{ReadError, Timeouts};

use super::element_stream::SendError;

/// Why a stream could not be opened.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    #[error("no address for host {host:?}: {error}; check the configured host name")]
    Resolve { host: String, error: std::io::Error },
    #[error("{host}:{port} does not answer: {error}; check that the XMPP server runs and the address is right")]
    Connect { host: String, port: u16, error: String },
    #[error(
        "the certificate of {host} is not trusted for {domain} ({reason}); give the server a certificate for that name, name its authority with xmpp.ca-file, or set xmpp.verify-certificate=false if the network is trusted"
    )]
    Certificate { host: String, domain: String, reason: String },
    #[error("TLS with {host} failed: {error}; the server needs TLS 1.2 or newer")]
    Tls { host: String, error: String },
    #[error("{path}: no authorities can be read: {reason}; xmpp.ca-file needs certificates in PEM form", path = .path.display())]
    Authorities { path: PathBuf, reason: String },
    #[error(
        "the server refuses the password of {account}; set the same password on both sides (prosodyctl passwd {account})"
    )]
    Password { account: jid::BareJid },
    #[error("login of {account} failed: {error}")]
    Login { account: jid::BareJid, error: tokio_xmpp::Error },
    #[error(
        "{host} offers no STARTTLS; enable TLS on the server, or set the security of this connection to disabled if the network is trusted"
    )]
    NoTls { host: String },
    #[error("the account {account} has no user part; write it as user@domain")]
    NoUser { account: jid::BareJid },
    #[error("the server refused to bind a resource for {account}: {reason}")]
    Bind { account: jid::BareJid, reason: String },
    #[error("stream ended during setup: {0}")]
    Ended(String),
}

impl From<SendError> for OpenError {
    fn from(error: SendError) -> Self {
        Self::Ended(error.to_string())
    }
}

pub(super) const TIMEOUTS: Timeouts =
    Timeouts { read_timeout: Duration::from_secs(60), response_timeout: Duration::from_secs(40) };

/// A read error in words.
pub(super) fn describe(error: &ReadError) -> String {
    match error {
        ReadError::HardError(error) => format!("connection lost: {error}"),
        ReadError::ParseError(error) => format!("malformed XML from the server: {error}"),
        ReadError::SoftTimeout => "server silent".to_owned(),
        ReadError::StreamFooterReceived => "server closed the stream".to_owned(),
    }
}
