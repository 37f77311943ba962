//! XMPP connections: login, reconnect with back-off, stanzas in order.

mod connection;
mod counters;
mod element_stream;
mod event;
mod framing;
pub mod iq;
mod limits;
pub mod muc;
mod open_error;
pub mod reader;
mod session;
mod session_file;
mod settings;
mod stream;
mod tls;
mod wire;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use self::counters::Left;
pub use self::counters::XmppCounters;
pub use self::event::XmppEvent;
pub use self::limits::{MAX_DEPTH, MAX_ELEMENTS, MAX_STANZA, Unfit};
pub use self::session_file::SessionFile;
pub use self::settings::{Security, XmppSettings};

/// Sends stanzas over the current connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct XmppSender {
    queue: mpsc::Sender<tokio_xmpp::Stanza>,
    counters: Arc<XmppCounters>,
}

impl XmppSender {
    /// A sender without a connection: what it is given comes out here.
    pub fn detached() -> (Self, mpsc::Receiver<tokio_xmpp::Stanza>) {
        let (queue, stanzas) = mpsc::channel(QUEUE);
        (Self { queue, counters: Arc::default() }, stanzas)
    }

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
/// can say goodbye; then the stream is closed in order. Must be called within a tokio runtime.
pub fn connect(settings: XmppSettings, shutdown: watch::Receiver<bool>) -> (XmppSender, mpsc::Receiver<XmppEvent>) {
    connect_keeping(settings, None, shutdown)
}

/// The same, and goes on with the session in `file` where the server still has it. The session outlives this process then: its
/// stream is not closed at `shutdown`, it just ends.
pub fn connect_keeping(
    settings: XmppSettings,
    file: Option<SessionFile>,
    shutdown: watch::Receiver<bool>,
) -> (XmppSender, mpsc::Receiver<XmppEvent>) {
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let (events, received) = mpsc::channel(QUEUE);
    let counters = Arc::new(XmppCounters::default());
    tokio::spawn(connection::run(settings, file, shutdown, outgoing, (events, Arc::clone(&counters))));
    (XmppSender { queue, counters }, received)
}

/// Logs in once and out again; the error names what is wrong and the remedy.
pub async fn probe(settings: &XmppSettings) -> Result<(), String> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
    let mut session = session::Session::default();
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
