//! XMPP connections: login, reconnect with back-off, stanzas in order.

mod connection;
mod counters;
mod element_stream;
pub mod element_text;
mod event;
mod framing;
mod handover;
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

use tokio::sync::{mpsc, oneshot, watch};

use self::counters::Left;
pub use self::counters::XmppCounters;
pub use self::event::XmppEvent;
use self::handover::Control;
pub use self::handover::{CarriedSession, Keeping};
pub use self::limits::{MAX_DEPTH, MAX_ELEMENTS, MAX_STANZA, Unfit};
pub use self::session_file::SessionFile;
pub use self::settings::{Security, XmppSettings};

/// Sends stanzas over the current connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct XmppSender {
    queue: mpsc::Sender<tokio_xmpp::Stanza>,
    control: mpsc::Sender<Control>,
    counters: Arc<XmppCounters>,
}

impl XmppSender {
    /// A sender without a connection: what it is given comes out here.
    pub fn detached() -> (Self, mpsc::Receiver<tokio_xmpp::Stanza>) {
        let (queue, stanzas) = mpsc::channel(QUEUE);
        let (control, _) = mpsc::channel(1);
        (Self { queue, control, counters: Arc::default() }, stanzas)
    }

    /// Queues a stanza and returns at once. While the connection is offline, stanzas are dropped.
    pub fn send(&self, stanza: impl Into<tokio_xmpp::Stanza>) {
        if let Err(error) = self.queue.try_send(stanza.into()) {
            self.counters.count(Left::QueueFull);
            tracing::error!(%error, "XMPP stanza dropped: the queue is full or the connection task ended");
        }
    }

    /// Has the server keep the session when the stream breaks, so that another process can go on with it.
    pub async fn keep(&self) -> Keeping {
        let (reply, answer) = oneshot::channel();
        if self.control.send(Control::Keep { reply }).await.is_err() {
            return Keeping::Offline;
        }
        answer.await.unwrap_or(Keeping::Offline)
    }

    /// Whether it would, as far as it says beforehand. Nothing changes.
    pub async fn would_keep(&self) -> Keeping {
        let (reply, answer) = oneshot::channel();
        if self.control.send(Control::WouldKeep { reply }).await.is_err() {
            return Keeping::Offline;
        }
        answer.await.unwrap_or(Keeping::Offline)
    }

    /// Stops reading; [`XmppEvent::Parked`] follows behind what was read. False when there is no connection that can be parked.
    pub async fn park(&self) -> bool {
        self.control.send(Control::Park).await.is_ok()
    }

    /// Of a parked connection, what another process needs to go on with its session: `None` where it has to log in anew. What waits
    /// is sent before.
    pub async fn export(&self) -> Option<CarriedSession> {
        let (reply, answer) = oneshot::channel();
        self.control.send(Control::Export { reply }).await.ok()?;
        answer.await.ok()?
    }

    /// A parked connection goes on.
    pub async fn resume(&self) {
        let _ = self.control.send(Control::Resume).await;
    }

    /// The connection ends without a word to the server: another process has its session.
    pub async fn abandon(&self) {
        let _ = self.control.send(Control::Abandon).await;
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
    start(settings, session::Session::default(), None, shutdown)
}

/// The same, and goes on with a session of another process where there is one that can be read, and the server still has it.
pub fn connect_from(
    settings: XmppSettings,
    carried: Option<CarriedSession>,
    shutdown: watch::Receiver<bool>,
) -> (XmppSender, mpsc::Receiver<XmppEvent>) {
    let session = carried.and_then(session::Session::from_carried).unwrap_or_default();
    start(settings, session, None, shutdown)
}

/// The same, and without such a session goes on with the one in `file`, where the server still has it. The session outlives this
/// process then: its stream is not closed at `shutdown`, it just ends.
pub fn connect_keeping(
    settings: XmppSettings,
    carried: Option<CarriedSession>,
    file: Option<SessionFile>,
    shutdown: watch::Receiver<bool>,
) -> (XmppSender, mpsc::Receiver<XmppEvent>) {
    let carried = carried.and_then(session::Session::from_carried);
    let session = carried.or_else(|| file.as_ref().and_then(SessionFile::load)).unwrap_or_default();
    start(settings, session, file, shutdown)
}

fn start(
    settings: XmppSettings,
    session: session::Session,
    file: Option<SessionFile>,
    shutdown: watch::Receiver<bool>,
) -> (XmppSender, mpsc::Receiver<XmppEvent>) {
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let (events, received) = mpsc::channel(QUEUE);
    let (control, asked) = mpsc::channel(CONTROLS);
    let counters = Arc::new(XmppCounters::default());
    let inputs = connection::Inputs { shutdown, outgoing, control: asked };
    tokio::spawn(connection::run(settings, session, file, inputs, events, Arc::clone(&counters)));
    (XmppSender { queue, control, counters }, received)
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

/// Requests about a hand-over that may wait.
const CONTROLS: usize = 8;

/// Stanzas that may wait in each direction.
const QUEUE: usize = 4096;
