//! The WebSocket server (bridge-protocol 5.2): who may connect, one socket per endpoint, keep-alive, bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ringbridge_dataplane::ids::EndpointId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::counters;
use super::messages::{BridgeMessage, ClientMessage};

/// Largest message taken, bytes; a longer one closes the socket with 1009.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Messages waiting for one client; a client that does not read is cut off.
const QUEUE: usize = 50;

/// How patient a server is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A ping after so much silence of ours.
    pub ping: Duration,
    /// A client that says nothing for so long, not even a pong, is gone.
    pub idle: Duration,
    /// Longest that one write may wait for a client that does not read; also for its answer to our good-bye.
    pub write: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { ping: Duration::from_secs(15), idle: Duration::from_secs(60), write: Duration::from_secs(10) }
    }
}

/// An oversized message is read up to this size, bytes: only then does its sender hear why the socket closes.
/// One that is larger still breaks the connection.
const MAX_READ: usize = 4 * MAX_MESSAGE;

/// What happens on the channels.
#[derive(Debug)]
pub enum ChannelEvent {
    /// A client connected; a former connection of the same endpoint is replaced when its sender is dropped.
    Opened {
        /// Whose.
        endpoint: EndpointId,
        /// Tells connections of one endpoint apart.
        connection: u64,
        /// Where messages to the client go.
        sender: mpsc::Sender<ChannelOut>,
    },
    /// A message.
    Message {
        /// Whose.
        endpoint: EndpointId,
        /// On which connection.
        connection: u64,
        /// What.
        message: ClientMessage,
    },
    /// The connection ended.
    Closed {
        /// Whose.
        endpoint: EndpointId,
        /// Which.
        connection: u64,
    },
}

/// What goes to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelOut {
    /// A message.
    Message(BridgeMessage),
    /// The endpoint is gone: close with 1001.
    Close,
}

#[derive(Debug)]
struct Registered {
    password: String,
    endpoint: EndpointId,
}

/// Who may connect: endpoints by conference and name.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    endpoints: Arc<Mutex<HashMap<(String, String), Registered>>>,
}

impl Registry {
    /// Lets an endpoint connect with a password.
    pub fn insert(&self, conference: &str, endpoint: &str, password: &str, id: EndpointId) {
        let registered = Registered { password: password.to_owned(), endpoint: id };
        self.lock().insert((conference.to_owned(), endpoint.to_owned()), registered);
    }

    /// Lets it connect no more.
    pub fn remove(&self, conference: &str, endpoint: &str) {
        self.lock().remove(&(conference.to_owned(), endpoint.to_owned()));
    }

    /// How many may connect.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn authenticate(&self, conference: &str, endpoint: &str, password: &str) -> Option<EndpointId> {
        let endpoints = self.lock();
        let registered = endpoints.get(&(conference.to_owned(), endpoint.to_owned()))?;
        let (expected, given) = (registered.password.as_bytes(), password.as_bytes());
        let same = expected.len() == given.len()
            && expected.iter().zip(given).fold(0u8, |difference, (a, b)| difference | (a ^ b)) == 0;
        same.then_some(registered.endpoint)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Registered>> {
        // A panic while the map was held cannot have left it half-written.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone)]
struct Server {
    server_id: String,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    timing: Timing,
}

/// The routes of the bridge channel.
pub fn router(server_id: String, registry: Registry, events: mpsc::Sender<ChannelEvent>) -> Router {
    router_with(server_id, registry, events, Timing::default())
}

/// [`router`] with another patience, for tests.
#[doc(hidden)]
pub fn router_with(
    server_id: String,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    timing: Timing,
) -> Router {
    Router::new()
        .route("/colibri-ws/{server}/{conference}/{endpoint}", get(upgrade))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "invalid path") })
        .with_state(Server { server_id, registry, events, timing })
}

fn refuse(status: StatusCode, reason: &'static str) -> Response {
    counters::REFUSED.fetch_add(1, Ordering::Relaxed);
    (status, reason).into_response()
}

async fn upgrade(
    State(server): State<Server>,
    Path((server_id, conference, endpoint)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if server_id != server.server_id {
        return refuse(StatusCode::NOT_FOUND, "server ID mismatch");
    }
    let password = query.as_deref().and_then(|query| query.strip_prefix("pwd=")).unwrap_or("");
    let Some(id) = server.registry.authenticate(&conference, &endpoint, password) else {
        tracing::warn!(%conference, %endpoint, "bridge channel refused: unknown endpoint or wrong password");
        return refuse(StatusCode::FORBIDDEN, "authentication failed");
    };
    match upgrade {
        Ok(upgrade) => upgrade
            .max_message_size(MAX_READ)
            .max_frame_size(MAX_READ)
            .on_upgrade(move |socket| carry(socket, id, endpoint, server.events, server.timing)),
        // Plain HTTP with the right password.
        Err(rejection) => rejection.into_response(),
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// We close it, with a code and a reason (RFC 6455 section 7.4).
    Close(u16, &'static str),
    /// The client closed it, or it broke.
    Gone,
}

const REPLACED: End = End::Close(1000, "replaced");
const EXPIRED: End = End::Close(1001, "endpoint closed");
const IDLED: End = End::Close(1001, "idle");
const TOO_BIG: End = End::Close(1009, "message too big");

async fn carry(
    mut socket: WebSocket,
    endpoint: EndpointId,
    name: String,
    events: mpsc::Sender<ChannelEvent>,
    timing: Timing,
) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let (sender, outgoing) = mpsc::channel(QUEUE);
    if events.send(ChannelEvent::Opened { endpoint, connection, sender }).await.is_err() {
        return;
    }
    tracing::debug!(endpoint = %name, connection, "bridge channel open");
    let mut carrier = Carrier { socket: &mut socket, endpoint, connection, name: &name, events: &events, timing };
    let end = carrier.run(outgoing).await;
    tracing::debug!(endpoint = %name, connection, ?end, "bridge channel closed");
    // Before the good-bye: a client that does not answer it must not keep its endpoint's channel.
    let _ = events.send(ChannelEvent::Closed { endpoint, connection }).await;
    if let End::Close(code, reason) = end {
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // Closing with unread input would reset the connection, and the client would not see the code.
        let goodbye = async {
            if socket.send(close).await.is_ok() {
                while let Some(Ok(_)) = socket.recv().await {}
            }
        };
        let _ = timeout(timing.write, goodbye).await;
    }
}

/// One open connection.
struct Carrier<'a> {
    socket: &'a mut WebSocket,
    endpoint: EndpointId,
    connection: u64,
    name: &'a str,
    events: &'a mpsc::Sender<ChannelEvent>,
    timing: Timing,
}

impl Carrier<'_> {
    async fn run(&mut self, mut outgoing: mpsc::Receiver<ChannelOut>) -> End {
        let (mut heard, mut said) = (Instant::now(), Instant::now());
        loop {
            let end = tokio::select! {
                out = outgoing.recv() => {
                    said = Instant::now();
                    match out {
                        Some(ChannelOut::Message(message)) => self.send(Message::text(message.to_text())).await,
                        Some(ChannelOut::Close) => Some(EXPIRED),
                        None => Some(REPLACED),
                    }
                }
                received = self.socket.recv() => {
                    heard = Instant::now();
                    self.receive(received).await
                }
                () = sleep_until(said + self.timing.ping) => {
                    said = Instant::now();
                    self.send(Message::Ping(Default::default())).await
                }
                () = sleep_until(heard + self.timing.idle) => {
                    counters::STALLED.fetch_add(1, Ordering::Relaxed);
                    Some(IDLED)
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    async fn send(&mut self, message: Message) -> Option<End> {
        match timeout(self.timing.write, self.socket.send(message)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(End::Gone),
            Err(_) => {
                counters::STALLED.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(endpoint = %self.name, "bridge channel cut off: the client does not read");
                Some(End::Gone)
            }
        }
    }

    async fn receive(&mut self, received: Option<Result<Message, axum::Error>>) -> Option<End> {
        let text = match received {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => {
                counters::MALFORMED.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return None,
            Some(Ok(Message::Close(_))) | None => return Some(End::Gone),
            Some(Err(error)) => return Some(if is_oversized(error) { self.oversized() } else { End::Gone }),
        };
        if text.len() > MAX_MESSAGE {
            return Some(self.oversized());
        }
        if let Some(message) = ClientMessage::receive(self.name, text.as_bytes()) {
            let (endpoint, connection) = (self.endpoint, self.connection);
            if self.events.send(ChannelEvent::Message { endpoint, connection, message }).await.is_err() {
                return Some(EXPIRED);
            }
        }
        None
    }

    fn oversized(&self) -> End {
        counters::OVERSIZED.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(endpoint = %self.name, limit = MAX_MESSAGE, "bridge channel closed: message too big");
        TOO_BIG
    }
}

/// Whether reading failed because a message was larger than [`MAX_READ`].
fn is_oversized(error: axum::Error) -> bool {
    matches!(error.into_inner().downcast_ref(), Some(tungstenite::Error::Capacity(_)))
}
