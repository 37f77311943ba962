//! XMPP connections: login, reconnect with back-off, stanzas in order.

mod connection;
mod counters;
mod element_stream;
mod framing;
pub mod iq;
pub mod muc;
pub mod reader;
mod stream;
mod tls;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use jid::{BareJid, FullJid};
use tokio::sync::{mpsc, watch};

use self::counters::Left;
pub use self::counters::XmppCounters;

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
        /// Why.
        reason: String,
    },
    /// A stanza arrived.
    Stanza(tokio_xmpp::Stanza),
}

/// Sends stanzas over the current connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct XmppSender {
    queue: mpsc::Sender<tokio_xmpp::Stanza>,
    counters: Arc<XmppCounters>,
}

impl XmppSender {
    /// Queues a stanza and returns at once. While the connection is offline, stanzas are dropped.
    pub fn send(&self, stanza: impl Into<tokio_xmpp::Stanza>) {
        if let Err(error) = self.queue.try_send(stanza.into()) {
            self.counters.count(Left::QueueFull);
            tracing::error!(%error, "XMPP stanza dropped: the queue is full or the connection task ended");
        }
    }

    /// What was left out, in both directions.
    pub fn counters(&self) -> Arc<XmppCounters> {
        Arc::clone(&self.counters)
    }
}

/// Connects, and reconnects for ever with back-off (1 s doubling to 10 s), until `shutdown` becomes true.
///
/// After `shutdown` the connection stays usable until every sender is dropped, 3 seconds at most, so that callers
/// can say good-bye; then the stream is closed in order. Must be called within a tokio runtime.
pub fn connect(settings: XmppSettings, shutdown: watch::Receiver<bool>) -> (XmppSender, mpsc::Receiver<XmppEvent>) {
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let (events, received) = mpsc::channel(QUEUE);
    let counters = Arc::new(XmppCounters::default());
    tokio::spawn(connection::run(settings, shutdown, outgoing, events, Arc::clone(&counters)));
    (XmppSender { queue, counters }, received)
}

/// Logs in once and out again; the error names what is wrong and the remedy.
pub async fn probe(settings: &XmppSettings) -> Result<(), String> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
    let mut session = stream::Session::default();
    // A resource of its own: the one in use must not be taken away.
    let settings = XmppSettings { resource: None, ..settings.clone() };
    match tokio::time::timeout(PATIENCE, stream::open(&settings, &mut session)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{}:{} does not answer within {} s", settings.host, settings.port, PATIENCE.as_secs())),
    }
}

/// Stanzas that may wait in each direction.
const QUEUE: usize = 4096;
