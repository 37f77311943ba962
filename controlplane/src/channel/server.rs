//! The WebSocket server (docs/protocol/bridge.md 5.2): who may connect, one socket per endpoint, keep-alive, bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use ringbridge_dataplane::ids::EndpointId;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroizing;

use super::counters::{ChannelCounters, Counted};
use super::limits::{CONNECTS, Intake, MAX_MESSAGE};
use super::messages::ClientMessage;
use super::outbox::{ChannelOut, Outbox, Outgoing, outbox};
use crate::door::Pass;
use crate::logging::Occasional;
use crate::pace::Bucket;

/// How patient a server is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A ping after so much silence of ours.
    pub ping: Duration,
    /// A client that sends nothing for so long, not even a pong, is gone.
    pub idle: Duration,
    /// Longest that one write may wait for a client that does not read; also for its answer to our close frame.
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

/// Buffers of one socket, bytes: what is read at once, and what is gathered before it is written.
const SOCKET_BUFFER: usize = 8 * 1024;

/// Characters logged of a name that a client sent.
const SHOWN: usize = 64;

/// What happens on the channels.
#[derive(Debug)]
pub enum ChannelEvent {
    /// A client connected; a former connection of the same endpoint is replaced when its sender is dropped.
    Opened {
        /// The endpoint that it belongs to.
        endpoint: EndpointId,
        /// Tells connections of one endpoint apart.
        connection: u64,
        /// Where messages to the client go.
        sender: Outbox,
    },
    /// A message.
    Message {
        /// The endpoint that it belongs to.
        endpoint: EndpointId,
        /// The connection that it arrived on.
        connection: u64,
        /// The decoded message.
        message: ClientMessage,
    },
    /// The connection ended.
    Closed {
        /// The endpoint that it belongs to.
        endpoint: EndpointId,
        /// The connection that ended.
        connection: u64,
    },
}

struct Registered {
    password: Zeroizing<String>,
    endpoint: EndpointId,
    connects: Bucket,
    /// Shared by its connections: a new one does not make it new.
    intake: Arc<Mutex<Intake>>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An endpoint that may connect.
#[derive(Debug)]
struct Known {
    endpoint: EndpointId,
    intake: Arc<Mutex<Intake>>,
}

/// Why a connection is refused.
#[derive(Debug, PartialEq, Eq)]
enum Rejection {
    /// Wrong password, or no such endpoint or conference: they look the same to the client.
    Unknown,
    /// Connects too often.
    TooOften,
}

/// Who may connect: endpoints by conference and name.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    endpoints: Arc<Mutex<HashMap<(String, String), Registered>>>,
}

impl Registry {
    /// Lets an endpoint connect with a password, for as long as the admission is kept.
    pub fn admit(&self, conference: &str, endpoint: &str, password: &str, id: EndpointId) -> Admission {
        let registered = Registered {
            password: Zeroizing::new(password.to_owned()),
            endpoint: id,
            connects: Bucket::new(CONNECTS),
            intake: Arc::default(),
        };
        let name = (conference.to_owned(), endpoint.to_owned());
        self.lock().insert(name.clone(), registered);
        Admission { registry: self.clone(), name, endpoint: id }
    }

    /// How many may connect.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn authenticate(&self, conference: &str, endpoint: &str, password: &str) -> Result<Known, Rejection> {
        let mut endpoints = self.lock();
        let registered = endpoints.get_mut(&(conference.to_owned(), endpoint.to_owned())).ok_or(Rejection::Unknown)?;
        // How many of its characters are right must not show in the time that it takes.
        if !bool::from(registered.password.as_bytes().ct_eq(password.as_bytes())) {
            return Err(Rejection::Unknown);
        }
        if !registered.connects.take(Instant::now().into(), 1) {
            return Err(Rejection::TooOften);
        }
        Ok(Known { endpoint: registered.endpoint, intake: Arc::clone(&registered.intake) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Registered>> {
        // A panic while the map was held cannot have left it half-written.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint may connect while somebody keeps this.
#[must_use]
#[derive(Debug)]
pub struct Admission {
    registry: Registry,
    /// Conference and endpoint.
    name: (String, String),
    endpoint: EndpointId,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut endpoints = self.registry.lock();
        // A later endpoint of the same name has its own.
        if endpoints.get(&self.name).is_some_and(|registered| registered.endpoint == self.endpoint) {
            endpoints.remove(&self.name);
        }
    }
}

#[derive(Debug, Clone)]
struct Server {
    server_id: String,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    counters: Arc<ChannelCounters>,
    timing: Timing,
    /// Number of the next connection.
    next: Arc<AtomicU64>,
}

/// The routes of the bridge channel.
pub fn router(
    server_id: String,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    counters: Arc<ChannelCounters>,
) -> Router {
    router_with(server_id, registry, events, counters, Timing::default())
}

/// [`router`] with another patience, for tests.
#[doc(hidden)]
pub fn router_with(
    server_id: String,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    counters: Arc<ChannelCounters>,
    timing: Timing,
) -> Router {
    Router::new()
        .route("/colibri-ws/{server}/{conference}/{endpoint}", get(upgrade))
        .fallback(|State(server): State<Server>| async move { server.refuse(StatusCode::NOT_FOUND, "invalid path") })
        .with_state(Server { server_id, registry, events, counters, timing, next: Arc::default() })
}

impl Server {
    fn refuse(&self, status: StatusCode, reason: &'static str) -> Response {
        self.counters.count(Counted::Refused);
        (status, reason).into_response()
    }
}

async fn upgrade(
    State(server): State<Server>,
    Path((server_id, conference, endpoint)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    pass: Option<Extension<Arc<Pass>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if server_id != server.server_id {
        return server.refuse(StatusCode::NOT_FOUND, "server ID mismatch");
    }
    let password = query.as_deref().and_then(|query| query.strip_prefix("pwd=")).unwrap_or("");
    let known = match server.registry.authenticate(&conference, &endpoint, password) {
        Ok(known) => known,
        Err(Rejection::Unknown) => {
            static LOG: Occasional = Occasional::new();
            if let Some(more) = LOG.allow() {
                let (conference, endpoint) = (shown(&conference), shown(&endpoint));
                tracing::warn!(
                    ?conference,
                    ?endpoint,
                    more,
                    "bridge channel refused: unknown endpoint or wrong password"
                );
            }
            return server.refuse(StatusCode::FORBIDDEN, "authentication failed");
        }
        Err(Rejection::TooOften) => {
            server.counters.count(Counted::TooOften);
            return (StatusCode::TOO_MANY_REQUESTS, "too many connections, try again later").into_response();
        }
    };
    match upgrade {
        Ok(upgrade) => {
            let client = Client { name: endpoint, known, pass: pass.map(|Extension(pass)| pass) };
            upgrade
                .max_message_size(MAX_READ)
                .max_frame_size(MAX_READ)
                .read_buffer_size(SOCKET_BUFFER)
                .write_buffer_size(SOCKET_BUFFER)
                .on_upgrade(move |socket| carry(socket, client, server))
        }
        // Plain HTTP with the right password.
        Err(rejection) => rejection.into_response(),
    }
}

/// What is logged of a name that may be anything.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}

/// Who is on a connection.
struct Client {
    name: String,
    known: Known,
    pass: Option<Arc<Pass>>,
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

async fn carry(mut socket: WebSocket, client: Client, server: Server) {
    let Server { events, counters, timing, next, .. } = server;
    let connection = next.fetch_add(1, Ordering::Relaxed);
    let Client { name, known: Known { endpoint, intake }, pass } = client;
    if let Some(pass) = &pass {
        pass.promote();
    }
    let (sender, outgoing) = outbox();
    if events.send(ChannelEvent::Opened { endpoint, connection, sender }).await.is_err() {
        return;
    }
    tracing::debug!(endpoint = %name, connection, "bridge channel open");
    let mut carrier = Carrier {
        socket: &mut socket,
        endpoint,
        connection,
        name: &name,
        events: &events,
        counters: &counters,
        timing,
        intake: &intake,
    };
    let end = carrier.run(outgoing).await;
    tracing::debug!(endpoint = %name, connection, ?end, "bridge channel closed");
    // Before the closing handshake: a client that does not answer it must not keep its endpoint's channel.
    let _ = events.send(ChannelEvent::Closed { endpoint, connection }).await;
    if let End::Close(code, reason) = end {
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // Closing with unread input would reset the connection, and the client would not see the code.
        let closing = async {
            if socket.send(close).await.is_ok() {
                // What it sends is read over, but not faster than it may send.
                while let Some(Ok(message)) = socket.recv().await {
                    let wait = charge(&intake, 1, size_of(&message));
                    tokio::time::sleep(wait).await;
                }
            }
        };
        let _ = timeout(timing.write, closing).await;
    }
}

/// One open connection.
struct Carrier<'a> {
    socket: &'a mut WebSocket,
    endpoint: EndpointId,
    connection: u64,
    name: &'a str,
    events: &'a mpsc::Sender<ChannelEvent>,
    counters: &'a ChannelCounters,
    timing: Timing,
    intake: &'a Mutex<Intake>,
}

/// Counts what a client said; how long it should not be heard then.
fn charge(intake: &Mutex<Intake>, work: usize, bytes: usize) -> Duration {
    let mut intake = intake.lock().unwrap_or_else(PoisonError::into_inner);
    intake.charge(Instant::now().into(), work, bytes)
}

fn size_of(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

impl Carrier<'_> {
    async fn run(&mut self, mut outgoing: Outgoing) -> End {
        let (mut heard, mut sent) = (Instant::now(), Instant::now());
        // Until then it is not listened to: what it sends waits in its own queue and in those of the kernels between.
        let mut deaf: Option<Instant> = None;
        loop {
            let end = tokio::select! {
                out = outgoing.recv() => {
                    sent = Instant::now();
                    match out {
                        Some(ChannelOut::Text(text)) => self.send(Message::Text(text)).await,
                        Some(ChannelOut::Close) => Some(EXPIRED),
                        None => Some(REPLACED),
                    }
                }
                received = self.socket.recv(), if deaf.is_none() => {
                    heard = Instant::now();
                    match self.receive(received).await {
                        Ok(wait) => {
                            deaf = (!wait.is_zero()).then(|| heard + wait);
                            self.counters.add(Counted::Throttled, u64::from(deaf.is_some()));
                            None
                        }
                        Err(end) => Some(end),
                    }
                }
                () = sleep_until(deaf.unwrap_or(sent)), if deaf.is_some() => {
                    (deaf, heard) = (None, Instant::now());
                    None
                }
                () = sleep_until(sent + self.timing.ping) => {
                    sent = Instant::now();
                    self.send(Message::Ping(Default::default())).await
                }
                () = sleep_until(heard + self.timing.idle) => {
                    self.counters.count(Counted::Stalled);
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
                self.counters.count(Counted::Stalled);
                tracing::warn!(endpoint = %self.name, "bridge channel cut off: the client does not read");
                Some(End::Gone)
            }
        }
    }

    /// How long the client should not be heard after this.
    async fn receive(&mut self, received: Option<Result<Message, axum::Error>>) -> Result<Duration, End> {
        let message = match received {
            Some(Ok(message)) => message,
            None => return Err(End::Gone),
            Some(Err(error)) => return Err(if is_oversized(error) { self.oversized() } else { End::Gone }),
        };
        let size = size_of(&message);
        let mut wait = charge(self.intake, 1, size);
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => {
                self.counters.count(Counted::Malformed);
                return Ok(wait);
            }
            // The library answers pings.
            Message::Ping(_) | Message::Pong(_) => return Ok(wait),
            Message::Close(_) => return Err(End::Gone),
        };
        if size > MAX_MESSAGE {
            return Err(self.oversized());
        }
        if let Some(message) = ClientMessage::receive(self.name, text.as_bytes(), self.counters) {
            wait = charge(self.intake, message.work() - 1, 0);
            let (endpoint, connection) = (self.endpoint, self.connection);
            if self.events.send(ChannelEvent::Message { endpoint, connection, message }).await.is_err() {
                return Err(EXPIRED);
            }
        }
        Ok(wait)
    }

    fn oversized(&self) -> End {
        self.counters.count(Counted::Oversized);
        tracing::warn!(endpoint = %self.name, limit = MAX_MESSAGE, "bridge channel closed: message too big");
        TOO_BIG
    }
}

/// Whether reading failed because a message was larger than [`MAX_READ`].
fn is_oversized(error: axum::Error) -> bool {
    matches!(error.into_inner().downcast_ref(), Some(tungstenite::Error::Capacity(_)))
}
