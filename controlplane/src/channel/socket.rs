//! One open WebSocket of a bridge channel, whoever opened it: keep-alive, bounds, how it ends (docs/protocol/bridge.md 5.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{self, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;

use super::counters::{ChannelCounters, Counted};
use super::events::ChannelEvent;
use super::limits::MAX_MESSAGE;
use super::messages::{ClientMessage, FromRelay};
use super::outbox::{ChannelOut, Outgoing, outbox};
use super::registry::{Kind, Peer};

/// How patient a server is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A ping after so much silence of ours.
    pub ping: Duration,
    /// A peer that sends nothing for so long, not even a pong, is gone.
    pub idle: Duration,
    /// Longest that one write may wait for a peer that does not read; also for its answer to our close frame.
    pub write: Duration,
    /// Longest that opening a connection may take: name, TCP, TLS, and the answer.
    pub open: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(10),
            open: Duration::from_secs(10),
        }
    }
}

/// An oversized message is read up to this size, bytes: only then does its sender hear why the socket closes, and another
/// bridge keeps its connection. One that is larger still breaks the connection.
pub(super) const MAX_READ: usize = 4 * MAX_MESSAGE;
/// Buffers of one socket, bytes: what is read at once, and what is gathered before it is written.
pub(super) const SOCKET_BUFFER: usize = 8 * 1024;

/// Reason of the close frame by which a bridge says that a relay is gone.
const RELAY_CLOSED: &str = "relay_closed";

/// The number of a new connection; it distinguishes those that we open and those that are opened to us.
pub(super) fn next_connection() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What all connections of a bridge share.
#[derive(Debug, Clone)]
pub(super) struct Wiring {
    pub(super) events: mpsc::Sender<ChannelEvent>,
    pub(super) counters: Arc<ChannelCounters>,
    pub(super) timing: Timing,
}

/// Bytes of a connection that we opened.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A WebSocket of either side.
pub(super) enum Socket {
    /// Somebody opened it to us.
    Served(WebSocket),
    /// We opened it.
    Opened(WebSocketStream<Box<dyn Stream>>),
}

/// What is received.
enum Frame {
    Text(Bytes),
    Binary(usize),
    /// Pings and pongs; the library answers pings.
    Control(usize),
    Close {
        code: u16,
        reason: String,
    },
}

impl Frame {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(size) | Self::Control(size) => *size,
            Self::Close { .. } => 0,
        }
    }
}

/// Why nothing more is received or sent.
enum Broken {
    /// A message was larger than [`MAX_READ`].
    TooBig,
    /// Anything else.
    Otherwise,
}

impl From<&tungstenite::Error> for Broken {
    fn from(error: &tungstenite::Error) -> Self {
        if matches!(error, tungstenite::Error::Capacity(_)) { Self::TooBig } else { Self::Otherwise }
    }
}

impl From<axum::Error> for Broken {
    fn from(error: axum::Error) -> Self {
        error.into_inner().downcast_ref::<tungstenite::Error>().map_or(Self::Otherwise, Self::from)
    }
}

impl Socket {
    /// The next frame; `None` at the end.
    async fn recv(&mut self) -> Option<Result<Frame, Broken>> {
        match self {
            Self::Served(socket) => Some(socket.recv().await?.map_err(Broken::from).map(|message| match message {
                ws::Message::Text(text) => Frame::Text(text.into()),
                ws::Message::Binary(bytes) => Frame::Binary(bytes.len()),
                ws::Message::Ping(bytes) | ws::Message::Pong(bytes) => Frame::Control(bytes.len()),
                ws::Message::Close(frame) => {
                    let (code, reason) = frame.map_or((0, String::new()), |f| (f.code, f.reason.to_string()));
                    Frame::Close { code, reason }
                }
            })),
            Self::Opened(socket) => {
                use tungstenite::Message;
                Some(socket.next().await?.map_err(|error| Broken::from(&error)).map(|message| match message {
                    Message::Text(text) => Frame::Text(text.into()),
                    Message::Binary(bytes) => Frame::Binary(bytes.len()),
                    Message::Ping(bytes) | Message::Pong(bytes) => Frame::Control(bytes.len()),
                    // Never of a stream that is read by messages.
                    Message::Frame(frame) => Frame::Control(frame.len()),
                    Message::Close(frame) => {
                        let (code, reason) =
                            frame.map_or((0, String::new()), |f| (f.code.into(), f.reason.to_string()));
                        Frame::Close { code, reason }
                    }
                }))
            }
        }
    }

    async fn send_text(&mut self, text: Utf8Bytes) -> Result<(), Broken> {
        match self {
            Self::Served(socket) => Ok(socket.send(ws::Message::Text(text)).await?),
            Self::Opened(socket) => {
                let text = tungstenite::Utf8Bytes::try_from(Bytes::from(text)).map_err(|_| Broken::Otherwise)?;
                socket.send(tungstenite::Message::Text(text)).await.map_err(|error| Broken::from(&error))
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Broken> {
        match self {
            Self::Served(socket) => Ok(socket.send(ws::Message::Ping(Bytes::new())).await?),
            Self::Opened(socket) => {
                let ping = tungstenite::Message::Ping(Bytes::new());
                socket.send(ping).await.map_err(|error| Broken::from(&error))
            }
        }
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), Broken> {
        match self {
            Self::Served(socket) => {
                let frame = ws::CloseFrame { code, reason: reason.into() };
                Ok(socket.send(ws::Message::Close(Some(frame))).await?)
            }
            Self::Opened(socket) => {
                let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: reason.into() };
                socket.send(tungstenite::Message::Close(Some(frame))).await.map_err(|error| Broken::from(&error))
            }
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// We close it, with a code and a reason (RFC 6455 section 7.4).
    Close(u16, &'static str),
    /// The other side closed it, or it broke.
    Gone,
    /// The other bridge closed it since its relay is gone.
    Over,
}

const REPLACED: End = End::Close(1000, "replaced");
const EXPIRED: End = End::Close(1001, "endpoint closed");
const RELAY_EXPIRED: End = End::Close(1001, RELAY_CLOSED);
const IDLED: End = End::Close(1001, "idle");
const TOO_BIG: End = End::Close(1009, "message too big");

/// Carries what is said over an open socket until it ends; reports that, too.
pub(super) async fn carry(mut socket: Socket, peer: Peer, connection: u64, wiring: Wiring) {
    let (sender, outgoing) = outbox();
    let (endpoint, name) = (peer.id, &peer.name);
    if wiring.events.send(ChannelEvent::Opened { endpoint, connection, sender }).await.is_err() {
        return;
    }
    tracing::debug!(endpoint = %name, connection, "bridge channel open");
    let end = Carrier { socket: &mut socket, peer: &peer, connection, wiring: &wiring }.run(outgoing).await;
    tracing::debug!(endpoint = %name, connection, ?end, "bridge channel closed");
    // Before the closing handshake: who does not answer it must not keep its channel.
    let _ = wiring.events.send(ChannelEvent::Closed { endpoint, connection, for_good: end == End::Over }).await;
    if let End::Close(code, reason) = end {
        // Closing with unread input would reset the connection, and the other side would not see the code.
        let closing = async {
            if socket.close(code, reason).await.is_ok() {
                // What it sends is read over, but not faster than it may send.
                while let Some(Ok(frame)) = socket.recv().await {
                    tokio::time::sleep(peer.intake.charge(Instant::now().into(), 1, frame.size())).await;
                }
            }
        };
        let _ = timeout(wiring.timing.write, closing).await;
    }
}

/// One open connection.
struct Carrier<'a> {
    socket: &'a mut Socket,
    peer: &'a Peer,
    connection: u64,
    wiring: &'a Wiring,
}

impl Carrier<'_> {
    async fn run(&mut self, mut outgoing: Outgoing) -> End {
        let (mut heard, mut sent) = (Instant::now(), Instant::now());
        let timing = self.wiring.timing;
        // Until then it is not listened to: what it sends waits in its own queue and in those of the kernels between.
        let mut deaf: Option<Instant> = None;
        loop {
            let end = tokio::select! {
                out = outgoing.recv() => {
                    sent = Instant::now();
                    match out {
                        Some(ChannelOut::Text(text)) => self.send(Some(text)).await,
                        Some(ChannelOut::Close) => Some(self.expired()),
                        None => Some(REPLACED),
                    }
                }
                received = self.socket.recv(), if deaf.is_none() => {
                    heard = Instant::now();
                    match self.receive(received).await {
                        Ok(wait) => {
                            deaf = (!wait.is_zero()).then(|| heard + wait);
                            self.wiring.counters.add(Counted::Throttled, u64::from(deaf.is_some()));
                            None
                        }
                        Err(end) => Some(end),
                    }
                }
                () = sleep_until(deaf.unwrap_or(sent)), if deaf.is_some() => {
                    (deaf, heard) = (None, Instant::now());
                    None
                }
                () = sleep_until(sent + timing.ping) => {
                    sent = Instant::now();
                    self.send(None).await
                }
                () = sleep_until(heard + timing.idle) => {
                    self.wiring.counters.count(Counted::Stalled);
                    Some(IDLED)
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn expired(&self) -> End {
        match self.peer.kind {
            Kind::Client => EXPIRED,
            Kind::Relay => RELAY_EXPIRED,
        }
    }

    /// Sends a message, or a ping.
    async fn send(&mut self, text: Option<Utf8Bytes>) -> Option<End> {
        let sending = async {
            match text {
                Some(text) => self.socket.send_text(text).await,
                None => self.socket.ping().await,
            }
        };
        match timeout(self.wiring.timing.write, sending).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(End::Gone),
            Err(_) => {
                self.wiring.counters.count(Counted::Stalled);
                tracing::warn!(endpoint = %self.peer.name, "bridge channel aborted: the other side does not read");
                Some(End::Gone)
            }
        }
    }

    /// How long the other side should not be heard after this.
    async fn receive(&mut self, received: Option<Result<Frame, Broken>>) -> Result<Duration, End> {
        let frame = match received {
            Some(Ok(frame)) => frame,
            Some(Err(Broken::TooBig)) => return Err(self.oversized()),
            Some(Err(Broken::Otherwise)) | None => return Err(End::Gone),
        };
        let size = frame.size();
        let wait = self.charge(1, size);
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Binary(_) => {
                self.wiring.counters.count(Counted::Malformed);
                return Ok(wait);
            }
            Frame::Control(_) => return Ok(wait),
            Frame::Close { code: 1001, reason } if self.peer.kind == Kind::Relay && reason == RELAY_CLOSED => {
                return Err(End::Over);
            }
            Frame::Close { .. } => return Err(End::Gone),
        };
        let (endpoint, connection, counters) = (self.peer.id, self.connection, &self.wiring.counters);
        let (event, work) = match self.peer.kind {
            Kind::Client if size > MAX_MESSAGE => return Err(self.oversized()),
            Kind::Client => {
                let Some(message) = ClientMessage::receive(&self.peer.name, &text, counters) else { return Ok(wait) };
                let work = message.work();
                (ChannelEvent::Message { endpoint, connection, message }, work)
            }
            Kind::Relay => {
                let Some(message) = FromRelay::receive(&self.peer.name, &text, counters) else { return Ok(wait) };
                (ChannelEvent::RelayMessage { relay: endpoint, connection, message }, 1)
            }
        };
        let wait = if work > 1 { self.charge(work - 1, 0) } else { wait };
        self.wiring.events.send(event).await.map_err(|_| self.expired())?;
        Ok(wait)
    }

    fn charge(&self, work: usize, bytes: usize) -> Duration {
        self.peer.intake.charge(Instant::now().into(), work, bytes)
    }

    fn oversized(&self) -> End {
        self.wiring.counters.count(Counted::Oversized);
        let limit = if self.peer.kind == Kind::Relay { MAX_READ } else { MAX_MESSAGE };
        tracing::warn!(endpoint = %self.peer.name, limit, "bridge channel closed: message too big");
        TOO_BIG
    }
}
