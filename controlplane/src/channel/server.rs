//! The colibri WebSocket: who is let in (bridge-protocol 5.2).

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use super::counters::count;
use super::registry::Registry;
use super::socket::{self, ChannelEvent, Limits};

/// First component of the path.
const PREFIX: &str = "colibri-ws";

/// Serves `/colibri-ws/{server_id}/{conference}/{endpoint}?pwd={password}` for the endpoints of `registry`.
pub fn router(server_id: String, registry: Registry, events: mpsc::Sender<ChannelEvent>) -> Router {
    router_with(server_id, registry, events, Limits::default())
}

/// [`router`] with other limits, for tests.
#[doc(hidden)]
pub fn router_with(
    server_id: String,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    limits: Limits,
) -> Router {
    Router::new().fallback(move |uri: Uri, upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| {
        let response = match admit(&uri, &server_id, &registry) {
            Ok(target) => accept(target, upgrade, registry.clone(), events.clone(), limits),
            Err(refusal) => refusal.into_response(),
        };
        std::future::ready(response)
    })
}

/// What a request names.
struct Target {
    conference: String,
    label: String,
}

/// The checks, in order.
fn admit(uri: &Uri, server_id: &str, registry: &Registry) -> Result<Target, (StatusCode, &'static str)> {
    let counters = registry.counters();
    let mut components = uri.path().trim_matches('/').split('/');
    let (Some(PREFIX), Some(id), Some(conference), Some(label), None) =
        (components.next(), components.next(), components.next(), components.next(), components.next())
    else {
        count(&counters.rejected_path);
        return Err((StatusCode::NOT_FOUND, "invalid path"));
    };
    if id != server_id {
        count(&counters.rejected_server_id);
        return Err((StatusCode::NOT_FOUND, "server ID mismatch"));
    }
    // The rest of the query is the password as it stands.
    let password = uri.query().and_then(|query| query.strip_prefix("pwd="));
    if !password.is_some_and(|password| registry.allows(conference, label, password)) {
        count(&counters.rejected_authentication);
        // One answer for all three, so that nobody can ask which conferences exist.
        tracing::warn!(conference, endpoint = label, "bridge channel refused: no such endpoint, or a wrong password");
        return Err((StatusCode::FORBIDDEN, "authentication failed"));
    }
    Ok(Target { conference: conference.to_owned(), label: label.to_owned() })
}

fn accept(
    target: Target,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    registry: Registry,
    events: mpsc::Sender<ChannelEvent>,
    limits: Limits,
) -> Response {
    match upgrade {
        Ok(upgrade) => upgrade
            .max_message_size(limits.hard_message_size())
            .max_frame_size(limits.hard_message_size())
            .on_upgrade(move |socket| socket::run(socket, target.conference, target.label, registry, events, limits)),
        Err(rejection) => rejection.into_response(),
    }
}
