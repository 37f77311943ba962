//! One open colibri WebSocket: frames in, messages out, pings, and how it ends (bridge-protocol 5.2).

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use ringbridge_dataplane::ids::EndpointId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::ClientMessage;
use super::counters::{ChannelCounters, count};
use super::messages::BridgeMessage;
use super::registry::{Admitted, Closing, Registry};

/// Messages that may wait for a slow client; the sender drops what does not fit.
const OUTGOING: usize = 50;

/// Bounds of a socket.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest message, bytes; a larger one closes the socket with 1009.
    pub message_size: usize,
    /// A ping is sent when nothing was sent for this long.
    pub ping_after: Duration,
    /// The socket is closed when nothing arrived for this long.
    pub idle_timeout: Duration,
    /// How long one write, or the good-bye, may take.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: 64 * 1024,
            ping_after: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Up to here an oversized message is read, so that its sender gets a proper good-bye.
    pub(super) fn hard_message_size(&self) -> usize {
        self.message_size.saturating_mul(4)
    }
}

/// What happens to channels, in order for each connection: one `Opened`, `Message`s, one `Closed`.
#[derive(Debug)]
pub enum ChannelEvent {
    /// An endpoint opened a channel; it has been greeted. A former one of the same endpoint is being closed.
    Opened {
        /// Whose.
        endpoint: EndpointId,
        /// Tells this socket from former ones of the endpoint; never reused.
        connection: u64,
        /// Where messages for the client go; holds 50. The socket closes when the last clone is dropped.
        sender: mpsc::Sender<ChannelOut>,
    },
    /// A message of the client.
    Message {
        /// Whose.
        endpoint: EndpointId,
        /// As in `Opened`.
        connection: u64,
        /// What it says; never [`ClientMessage::Unknown`], which is counted and dropped.
        message: ClientMessage,
    },
    /// The channel is gone.
    Closed {
        /// Whose.
        endpoint: EndpointId,
        /// As in `Opened`.
        connection: u64,
    },
}

/// What is sent to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelOut {
    /// One message.
    Message(BridgeMessage),
    /// One message that is serialized already: cheap to clone for many receivers.
    Text(Utf8Bytes),
    /// Close with 1001: the endpoint is gone.
    EndpointClosed,
}

impl From<BridgeMessage> for ChannelOut {
    fn from(message: BridgeMessage) -> Self {
        Self::Message(message)
    }
}

/// How a socket ends.
enum End {
    /// We close it: code and reason.
    Close(u16, &'static str),
    /// The other side closed it, or it broke.
    Gone,
}

impl From<Closing> for End {
    fn from(closing: Closing) -> Self {
        match closing {
            Closing::Replaced => Self::Close(close_code::NORMAL, "replaced"),
            Closing::EndpointClosed => Self::Close(close_code::AWAY, "endpoint closed"),
        }
    }
}

/// Serves one socket until it ends.
pub(super) async fn run(
    mut socket: WebSocket,
    conference: String,
    label: String,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    limits: Limits,
) {
    let counters = registry.counters();
    let Some(Admitted { endpoint, connection, mut closing }) = registry.admit(&conference, &label) else {
        return say_goodbye(socket, End::from(Closing::EndpointClosed), limits).await;
    };
    count(&counters.opened);
    tracing::info!(%endpoint, label, connection, "bridge channel opened");
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let mut serving =
        Serving { socket: &mut socket, endpoint, connection, outgoing, events: &events, counters: &counters, limits };
    let end = match serving.greet(sender).await {
        Some(end) => end,
        None => tokio::select! {
            biased;
            // An error means that the registry was dropped.
            why = &mut closing => End::from(why.unwrap_or(Closing::EndpointClosed)),
            end = serving.run() => end,
        },
    };
    registry.forget(&conference, &label, connection);
    // Nobody listens any more only when the bridge stops.
    let _ = events.send(ChannelEvent::Closed { endpoint, connection }).await;
    let reason = match end {
        End::Close(_, reason) => reason,
        End::Gone => "by the client",
    };
    tracing::info!(%endpoint, label, connection, reason, "bridge channel closed");
    say_goodbye(socket, end, limits).await;
    count(&counters.closed);
}

struct Serving<'a> {
    socket: &'a mut WebSocket,
    endpoint: EndpointId,
    connection: u64,
    outgoing: mpsc::Receiver<ChannelOut>,
    events: &'a mpsc::Sender<ChannelEvent>,
    counters: &'a ChannelCounters,
    limits: Limits,
}

impl Serving<'_> {
    /// Greets the client and announces the channel.
    async fn greet(&mut self, sender: mpsc::Sender<ChannelOut>) -> Option<End> {
        let end = self.send_text(BridgeMessage::hello().to_json().into()).await;
        let opened = ChannelEvent::Opened { endpoint: self.endpoint, connection: self.connection, sender };
        match self.events.send(opened).await {
            Ok(()) => end,
            Err(_) => Some(End::Close(close_code::AWAY, "bridge stops")),
        }
    }

    async fn run(&mut self) -> End {
        let mut heard = Instant::now();
        let mut sent = heard;
        loop {
            let step = tokio::select! {
                out = self.outgoing.recv() => {
                    sent = Instant::now();
                    match out {
                        Some(ChannelOut::Message(message)) => self.send_text(message.to_json().into()).await,
                        Some(ChannelOut::Text(text)) => self.send_text(text).await,
                        Some(ChannelOut::EndpointClosed) => Some(End::from(Closing::EndpointClosed)),
                        None => Some(End::from(Closing::Replaced)),
                    }
                }
                frame = self.socket.recv() => {
                    heard = Instant::now();
                    self.handle_frame(frame).await
                }
                () = sleep_until(sent + self.limits.ping_after) => {
                    sent = Instant::now();
                    self.send(Message::Ping(Default::default())).await
                }
                () = sleep_until(heard + self.limits.idle_timeout) => {
                    count(&self.counters.idle);
                    Some(End::Close(close_code::AWAY, "idle timeout"))
                }
            };
            if let Some(end) = step {
                return end;
            }
        }
    }

    async fn handle_frame(&mut self, frame: Option<Result<Message, axum::Error>>) -> Option<End> {
        let text = match frame {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => {
                count(&self.counters.dropped_binary);
                return None;
            }
            // Pings are answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return None,
            Some(Err(error)) => return Some(if is_oversized(error) { self.oversized() } else { End::Gone }),
            Some(Ok(Message::Close(_))) | None => return Some(End::Gone),
        };
        count(&self.counters.received);
        if text.len() > self.limits.message_size {
            return Some(self.oversized());
        }
        match ClientMessage::parse(&text) {
            Ok(ClientMessage::Unknown { class }) => {
                count(&self.counters.dropped_unknown_class);
                tracing::debug!(endpoint = %self.endpoint, class, "bridge channel message of an unknown class dropped");
            }
            Ok(message) => {
                let event = ChannelEvent::Message { endpoint: self.endpoint, connection: self.connection, message };
                if self.events.send(event).await.is_err() {
                    return Some(End::Close(close_code::AWAY, "bridge stops"));
                }
            }
            Err(error) => {
                count(&self.counters.dropped_malformed);
                tracing::debug!(endpoint = %self.endpoint, %error, "malformed bridge channel message dropped");
            }
        }
        None
    }

    fn oversized(&self) -> End {
        count(&self.counters.dropped_oversized);
        tracing::warn!(endpoint = %self.endpoint, limit = self.limits.message_size, "bridge channel message too large");
        End::Close(close_code::SIZE, "message too large")
    }

    async fn send_text(&mut self, text: Utf8Bytes) -> Option<End> {
        let end = self.send(Message::Text(text)).await;
        if end.is_none() {
            count(&self.counters.sent);
        }
        end
    }

    async fn send(&mut self, message: Message) -> Option<End> {
        match timeout(self.limits.write_timeout, self.socket.send(message)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some(End::Gone),
        }
    }
}

/// Whether reading failed because of the size of a message.
fn is_oversized(error: axum::Error) -> bool {
    matches!(error.into_inner().downcast_ref(), Some(tungstenite::Error::Capacity(_)))
}

/// Closes a socket and waits a moment for the other side to agree, so that it learns the code.
async fn say_goodbye(mut socket: WebSocket, end: End, limits: Limits) {
    let End::Close(code, reason) = end else { return };
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let _ = timeout(limits.write_timeout, async {
        if socket.send(close).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    })
    .await;
}
