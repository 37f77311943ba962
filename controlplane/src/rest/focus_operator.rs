//! What an operator asks of a focus over HTTP, under Jicofo's paths (docs/protocol/focus.md 9).

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// What may be asked. Rooms and bridges are as the operator wrote them.
#[derive(Debug, Clone, PartialEq)]
pub enum FocusAsk {
    /// Everything that is known.
    Debug {
        /// Whether conferences are shown in full, and not only with their sizes.
        full: bool,
    },
    /// The rooms.
    Conferences,
    /// Everything that is known of each conference.
    ConferencesInFull,
    /// Everything that is known of one.
    Conference(String),
    /// What collectors of statistics may know, by meeting id.
    Rtcstats,
    /// What clients can do, and how many could.
    Caps,
    /// The rooms that are pinned.
    Pins,
    /// Pin a room's next conference to a version of bridges.
    Pin {
        /// The room.
        room: String,
        /// The version, as bridges announce it.
        version: String,
        /// How long the pin holds.
        minutes: u64,
    },
    /// Remove a pin.
    Unpin {
        /// The room.
        room: String,
    },
    /// Give one endpoint another session.
    MoveEndpoint {
        /// Its room.
        room: String,
        /// Its nickname there.
        endpoint: String,
        /// Only if it is on that bridge.
        bridge: Option<String>,
    },
    /// Move endpoints away from a bridge.
    MoveEndpoints {
        /// The bridge.
        bridge: String,
        /// Only those of that conference.
        room: Option<String>,
        /// About how many.
        count: usize,
    },
    /// The same for a share of them.
    MoveFraction {
        /// The bridge.
        bridge: String,
        /// From 0 to 1.
        fraction: f64,
    },
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum FocusAnswer {
    /// It was done; null where there is nothing to say.
    Done(Value),
    /// Something is wrong with it.
    Bad(String),
    /// There is no such bridge or conference.
    NotFound(String),
}

/// One request.
#[derive(Debug)]
pub struct FocusRequest {
    /// What is asked.
    pub ask: FocusAsk,
    /// Where the answer goes.
    pub reply: oneshot::Sender<FocusAnswer>,
}

type Requests = mpsc::Sender<FocusRequest>;

/// The routes; `requests` leads to the focus.
pub fn router(requests: mpsc::Sender<FocusRequest>) -> Router {
    Router::new()
        .route("/debug", get(debug))
        .route("/debug/conferences", get(|State(requests): State<Requests>| ask(requests, FocusAsk::Conferences)))
        .route(
            "/debug/conferences-full",
            get(|State(requests): State<Requests>| ask(requests, FocusAsk::ConferencesInFull)),
        )
        .route("/debug/conference/{conference}", get(conference))
        .route("/debug/xmpp-caps", get(|State(requests): State<Requests>| ask(requests, FocusAsk::Caps)))
        .route("/rtcstats", get(|State(requests): State<Requests>| ask(requests, FocusAsk::Rtcstats)))
        .route("/pin", get(|State(requests): State<Requests>| ask(requests, FocusAsk::Pins)).post(pin))
        .route("/pin/remove", post(unpin))
        .route("/move-endpoints/move-endpoint", post(move_endpoint).get(move_endpoint))
        .route("/move-endpoints/move-endpoints", post(move_endpoints).get(move_endpoints))
        .route("/move-endpoints/move-fraction", post(move_fraction).get(move_fraction))
        .with_state(requests)
}

async fn ask(requests: Requests, ask: FocusAsk) -> Response {
    let (reply, answer) = oneshot::channel();
    let gone = || (StatusCode::SERVICE_UNAVAILABLE, "the focus does not answer").into_response();
    if requests.send(FocusRequest { ask, reply }).await.is_err() {
        return gone();
    }
    match answer.await {
        Ok(FocusAnswer::Done(Value::Null)) => StatusCode::OK.into_response(),
        Ok(FocusAnswer::Done(value)) => Json(value).into_response(),
        Ok(FocusAnswer::Bad(text)) => bad(&text),
        Ok(FocusAnswer::NotFound(text)) => (StatusCode::NOT_FOUND, text).into_response(),
        Err(_) => gone(),
    }
}

fn bad(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response()
}

#[derive(Debug, Deserialize)]
struct View {
    full: Option<String>,
}

async fn debug(State(requests): State<Requests>, Query(view): Query<View>) -> Response {
    ask(requests, FocusAsk::Debug { full: view.full.as_deref() == Some("true") }).await
}

async fn conference(State(requests): State<Requests>, Path(conference): Path<String>) -> Response {
    ask(requests, FocusAsk::Conference(conference)).await
}

/// A body of JSON; what is wrong with it in words.
fn body<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body is not what is asked for: {error}"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pin {
    conference_id: String,
    jvb_version: String,
    duration_minutes: u64,
}

async fn pin(State(requests): State<Requests>, bytes: axum::body::Bytes) -> Response {
    match body::<Pin>(&bytes) {
        Ok(pin) => {
            let (room, version) = (pin.conference_id, pin.jvb_version);
            ask(requests, FocusAsk::Pin { room, version, minutes: pin.duration_minutes }).await
        }
        Err(text) => bad(&text),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unpin {
    conference_id: String,
}

async fn unpin(State(requests): State<Requests>, bytes: axum::body::Bytes) -> Response {
    match body::<Unpin>(&bytes) {
        Ok(unpin) => ask(requests, FocusAsk::Unpin { room: unpin.conference_id }).await,
        Err(text) => bad(&text),
    }
}

/// What to move.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Move {
    bridge: Option<String>,
    conference: Option<String>,
    endpoint: Option<String>,
    num_endpoints: Option<String>,
    fraction: Option<String>,
}

/// Texts that are there and not empty.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

fn missing(name: &str) -> String {
    format!("Missing parameter: {name}")
}

async fn move_endpoint(State(requests): State<Requests>, Query(wanted): Query<Move>) -> Response {
    let (Some(room), endpoint) = (given(wanted.conference), given(wanted.endpoint)) else {
        return bad(&missing("conference"));
    };
    let Some(endpoint) = endpoint else { return bad(&missing("endpoint")) };
    ask(requests, FocusAsk::MoveEndpoint { room, endpoint, bridge: given(wanted.bridge) }).await
}

async fn move_endpoints(State(requests): State<Requests>, Query(wanted): Query<Move>) -> Response {
    let Some(bridge) = given(wanted.bridge) else { return bad(&missing("bridge")) };
    let Ok(count) = wanted.num_endpoints.as_deref().unwrap_or("1").parse() else {
        return bad("Invalid parameter: numEndpoints has to be a whole number");
    };
    ask(requests, FocusAsk::MoveEndpoints { bridge, room: given(wanted.conference), count }).await
}

async fn move_fraction(State(requests): State<Requests>, Query(wanted): Query<Move>) -> Response {
    let Some(bridge) = given(wanted.bridge) else { return bad(&missing("bridge")) };
    let fraction = wanted.fraction.as_deref().unwrap_or("0.1").parse::<f64>().ok();
    let Some(fraction) = fraction.filter(|fraction| (0.0..=1.0).contains(fraction)) else {
        return bad("Invalid parameter: fraction has to be a number from 0 to 1");
    };
    ask(requests, FocusAsk::MoveFraction { bridge, fraction }).await
}
