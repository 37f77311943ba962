//! The WebSocket server (docs/protocol/bridge.md 5.2 and 10): who may connect, and under which path.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::mpsc;

use super::counters::{ChannelCounters, Counted};
use super::events::ChannelEvent;
use super::registry::{Kind, Registry, Rejection};
use super::socket::{MAX_READ, SOCKET_BUFFER, Socket, Timing, Wiring, carry, next_connection};
use crate::door::Pass;
use crate::logging::Occasional;

/// Characters logged of a name that somebody sent.
const SHOWN: usize = 64;

#[derive(Debug, Clone)]
struct Server {
    server_id: String,
    registry: Registry,
    wiring: Wiring,
}

/// The routes of the bridge channel: of clients, and of other bridges.
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
    let wiring = Wiring { events, counters, timing };
    let upgrade = |kind| {
        move |State(server): State<Server>,
              Path(path): Path<(String, String, String)>,
              RawQuery(query): RawQuery,
              pass: Option<Extension<Arc<Pass>>>,
              upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| async move {
            server.answer(kind, path, query, pass.map(|Extension(pass)| pass), upgrade)
        }
    };
    Router::new()
        .route("/colibri-ws/{server}/{conference}/{endpoint}", get(upgrade(Kind::Client)))
        .route("/colibri-relay-ws/{server}/{conference}/{relay}", get(upgrade(Kind::Relay)))
        .fallback(|State(server): State<Server>| async move { server.refuse(StatusCode::NOT_FOUND, "invalid path") })
        .with_state(Server { server_id, registry, wiring })
}

impl Server {
    fn refuse(&self, status: StatusCode, reason: &'static str) -> Response {
        self.wiring.counters.count(Counted::Refused);
        (status, reason).into_response()
    }

    fn answer(
        self,
        kind: Kind,
        (server_id, conference, name): (String, String, String),
        query: Option<String>,
        pass: Option<Arc<Pass>>,
        upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    ) -> Response {
        if server_id != self.server_id {
            return self.refuse(StatusCode::NOT_FOUND, "server ID mismatch");
        }
        let password = query.as_deref().and_then(|query| query.strip_prefix("pwd=")).unwrap_or("");
        let peer = match self.registry.authenticate(kind, &conference, &name, password) {
            Ok(peer) => peer,
            Err(Rejection::Unknown) => {
                static LOG: Occasional = Occasional::new();
                if let Some(more) = LOG.allow() {
                    let (conference, name) = (shown(&conference), shown(&name));
                    let of_relay = kind == Kind::Relay;
                    tracing::warn!(
                        ?conference,
                        ?name,
                        of_relay,
                        more,
                        "bridge channel refused: unknown endpoint or relay, or wrong password"
                    );
                }
                return self.refuse(StatusCode::FORBIDDEN, "authentication failed");
            }
            Err(Rejection::TooOften) => {
                self.wiring.counters.count(Counted::TooOften);
                return (StatusCode::TOO_MANY_REQUESTS, "too many connections, try again later").into_response();
            }
        };
        match upgrade {
            Ok(upgrade) => upgrade
                .max_message_size(MAX_READ)
                .max_frame_size(MAX_READ)
                .read_buffer_size(SOCKET_BUFFER)
                .write_buffer_size(SOCKET_BUFFER)
                .on_upgrade(async move |socket| {
                    if let Some(pass) = &pass {
                        pass.promote();
                    }
                    // The pass is held as long as the connection.
                    carry(Socket::Served(socket), peer, next_connection(), self.wiring).await;
                    drop(pass);
                }),
            // Plain HTTP with the right password.
            Err(rejection) => rejection.into_response(),
        }
    }
}

/// What is logged of a name that may be anything.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}
