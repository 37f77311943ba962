//! The WebSocket server (bridge-protocol 5.2): who may connect, one socket per endpoint, keep-alive, bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ringbridge_dataplane::ids::EndpointId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::messages::{BridgeMessage, ClientMessage};

/// Largest message taken, bytes; a longer one closes the socket with 1009.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Messages waiting for one client; a client that does not read is cut off.
const QUEUE: usize = 50;

/// A ping after so much silence of ours.
const PING_AFTER: Duration = Duration::from_secs(15);

/// A client that says nothing for so long, not even a pong, is gone.
const IDLE: Duration = Duration::from_secs(60);

/// What the channel server counted since the process started.
pub mod counters {
    use std::sync::atomic::AtomicU64;

    /// Connections refused: bad path, wrong password, unknown endpoint.
    pub static REFUSED: AtomicU64 = AtomicU64::new(0);
    /// Messages that are no valid JSON of their class.
    pub static MALFORMED: AtomicU64 = AtomicU64::new(0);
    /// Messages longer than the limit.
    pub static OVERSIZED: AtomicU64 = AtomicU64::new(0);
}

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
}

/// The routes of the bridge channel.
pub fn router(server_id: String, registry: Registry, events: mpsc::Sender<ChannelEvent>) -> Router {
    Router::new()
        .route("/colibri-ws/{server}/{conference}/{endpoint}", get(upgrade))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "invalid path") })
        .with_state(Server { server_id, registry, events })
}

fn refuse(status: StatusCode, reason: &'static str) -> Response {
    counters::REFUSED.fetch_add(1, Ordering::Relaxed);
    (status, reason).into_response()
}

async fn upgrade(
    State(server): State<Server>,
    Path((server_id, conference, endpoint)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    if server_id != server.server_id {
        return refuse(StatusCode::NOT_FOUND, "server ID mismatch");
    }
    let password = query.as_deref().and_then(|query| query.strip_prefix("pwd=")).unwrap_or("");
    let Some(id) = server.registry.authenticate(&conference, &endpoint, password) else {
        tracing::warn!(%conference, %endpoint, "bridge channel refused: unknown endpoint or wrong password");
        return refuse(StatusCode::FORBIDDEN, "authentication failed");
    };
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| carry(socket, id, endpoint, server.events))
}

async fn carry(mut socket: WebSocket, endpoint: EndpointId, name: String, events: mpsc::Sender<ChannelEvent>) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let (sender, mut outgoing) = mpsc::channel(QUEUE);
    if events.send(ChannelEvent::Opened { endpoint, connection, sender }).await.is_err() {
        return;
    }
    tracing::debug!(endpoint = %name, connection, "bridge channel open");
    let (mut heard, mut said) = (Instant::now(), Instant::now());
    let (code, reason) = loop {
        tokio::select! {
            out = outgoing.recv() => match out {
                Some(ChannelOut::Message(message)) => {
                    said = Instant::now();
                    if socket.send(Message::text(message.to_text())).await.is_err() {
                        break (1006, "");
                    }
                }
                Some(ChannelOut::Close) => break (1001, "endpoint closed"),
                None => break (1000, "replaced"),
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    heard = Instant::now();
                    match ClientMessage::parse(&text) {
                        Ok(message) => {
                            if events.send(ChannelEvent::Message { endpoint, connection, message }).await.is_err() {
                                break (1001, "endpoint closed");
                            }
                        }
                        Err(error) => {
                            counters::MALFORMED.fetch_add(1, Ordering::Relaxed);
                            tracing::debug!(endpoint = %name, %error, "malformed bridge message dropped");
                        }
                    }
                }
                Some(Ok(Message::Close(_))) | None => break (1006, ""),
                Some(Ok(_)) => heard = Instant::now(),
                Some(Err(error)) => {
                    if error.to_string().contains("too long") || error.to_string().contains("too large") {
                        counters::OVERSIZED.fetch_add(1, Ordering::Relaxed);
                        break (1009, "message too big");
                    }
                    break (1006, "");
                }
            },
            () = tokio::time::sleep_until((said + PING_AFTER).min(heard + IDLE)) => {
                if heard.elapsed() >= IDLE {
                    break (1001, "idle");
                }
                said = Instant::now();
                if socket.send(Message::Ping(Default::default())).await.is_err() {
                    break (1006, "");
                }
            }
        }
    };
    // 1006 is never sent: the peer is gone or has said good-bye.
    if code != 1006 {
        let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
    tracing::debug!(endpoint = %name, connection, code, "bridge channel closed");
    let _ = events.send(ChannelEvent::Closed { endpoint, connection }).await;
}
