//! What an operator asks of a bridge over HTTP: drain, shutdown, debug views (docs/protocol/bridge.md 11.1).

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::absent;

/// One request; the answer comes back through `reply`.
#[derive(Debug)]
pub struct OperatorRequest {
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes; null when what was asked for does not exist.
    pub reply: oneshot::Sender<Value>,
}

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Whether the bridge drains.
    Drain,
    /// Begin or end to drain.
    SetDrain(bool),
    /// Begin a shutdown: graceful, or one that moves everybody away at once.
    Shutdown {
        /// Whether running conferences may end by themselves.
        graceful: bool,
    },
    /// The state of the bridge, or of one conference, or of one endpoint in it.
    Debug {
        /// Id of the conference as in WebSocket URLs, or its meeting id.
        conference: Option<String>,
        /// Name of the endpoint.
        endpoint: Option<String>,
        /// Whether endpoints are shown in full.
        full: bool,
    },
}

/// The way to the bridge.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Takes the requests.
    pub requests: mpsc::Sender<OperatorRequest>,
    /// Whether a shutdown may be asked for.
    pub shutdown: bool,
    /// Takes questions about upgrades; they are asked for otherwise.
    pub upgrades: Option<mpsc::Sender<oneshot::Sender<Value>>>,
}

impl Operator {
    async fn ask(&self, ask: Ask) -> Result<Value, Gone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(OperatorRequest { ask, reply }).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

/// The bridge does not answer any more.
struct Gone;

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "the bridge is shutting down").into_response()
    }
}

/// The routes.
pub(super) fn router(operator: Operator) -> Router {
    let mut router = Router::new()
        .route("/colibri/drain", get(drain))
        .route("/colibri/drain/enable", post(|State(operator): State<Operator>| set_drain(operator, true)))
        .route("/colibri/drain/disable", post(|State(operator): State<Operator>| set_drain(operator, false)))
        .route("/debug", get(debug))
        // No conferences of these names.
        .route("/debug/features", any(absent::answer))
        .route("/debug/features/{*rest}", any(absent::answer))
        .route("/debug/stats", any(absent::answer))
        .route("/debug/stats/{*rest}", any(absent::answer))
        .route("/debug/{conference}", get(debug_conference))
        .route("/debug/{conference}/{endpoint}", get(debug_endpoint));
    if operator.shutdown {
        router = router.route("/colibri/shutdown", post(shutdown));
    }
    if operator.upgrades.is_some() {
        router = router.route("/colibri/upgrade", get(upgrade));
    }
    router.with_state(operator)
}

async fn drain(State(operator): State<Operator>) -> Response {
    match operator.ask(Ask::Drain).await {
        Ok(drain) => Json(json!({ "drain": drain })).into_response(),
        Err(gone) => gone.into_response(),
    }
}

async fn upgrade(State(operator): State<Operator>) -> Response {
    let (reply, answer) = oneshot::channel();
    let asked = match operator.upgrades {
        Some(upgrades) => upgrades.send(reply).await.is_ok(),
        None => false,
    };
    match answer.await {
        Ok(page) if asked => Json(page).into_response(),
        _ => Gone.into_response(),
    }
}

async fn set_drain(operator: Operator, on: bool) -> Response {
    match operator.ask(Ask::SetDrain(on)).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(gone) => gone.into_response(),
    }
}

/// Jitsi Videobridge's scripts write the switch as a text.
fn graceful(body: &[u8]) -> Option<bool> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match body.get("graceful-shutdown")? {
        Value::Bool(graceful) => Some(*graceful),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

async fn shutdown(State(operator): State<Operator>, body: axum::body::Bytes) -> Response {
    let Some(graceful) = graceful(&body) else {
        let remedy = "send {\"graceful-shutdown\": true} to let conferences end, or false to move everybody away now";
        return (StatusCode::BAD_REQUEST, remedy).into_response();
    };
    match operator.ask(Ask::Shutdown { graceful }).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(gone) => gone.into_response(),
    }
}

#[derive(Debug, Deserialize)]
struct View {
    #[serde(default)]
    full: bool,
}

async fn debug(State(operator): State<Operator>, Query(view): Query<View>) -> Response {
    show(operator, None, None, view.full).await
}

async fn debug_conference(State(operator): State<Operator>, Path(conference): Path<String>) -> Response {
    show(operator, Some(conference), None, true).await
}

async fn debug_endpoint(
    State(operator): State<Operator>,
    Path((conference, endpoint)): Path<(String, String)>,
) -> Response {
    show(operator, Some(conference), Some(endpoint), true).await
}

async fn show(operator: Operator, conference: Option<String>, endpoint: Option<String>, full: bool) -> Response {
    match operator.ask(Ask::Debug { conference, endpoint, full }).await {
        Ok(Value::Null) => (StatusCode::NOT_FOUND, "no such conference or endpoint on this bridge").into_response(),
        Ok(view) => Json(view).into_response(),
        Err(gone) => gone.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_shutdown() {
        assert_eq!(graceful(br#"{"graceful-shutdown":true}"#), Some(true));
        assert_eq!(graceful(br#"{"graceful-shutdown":"false","more":1}"#), Some(false));
        for body in [&b""[..], b"{}", b"[]", b"true", br#"{"graceful-shutdown":1}"#, br#"{"graceful-shutdown":"x"}"#] {
            assert_eq!(graceful(body), None);
        }
    }
}
