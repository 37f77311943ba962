//! Conferences and endpoints as `/debug` shows them (docs/protocol/bridge.md 11.1).

use ringbridge_dataplane::ids::{EndpointId, Ssrc};
use ringbridge_dataplane::media::{MediaKind, SourceDescription};
use serde_json::{Map, Value, json};

use super::bridge::ColibriBridge;
use super::conference::Conference;
use super::endpoint::EndpointState;
use super::relay::{RelayState, RelayedState};

/// What is to be shown; everything without names.
#[derive(Debug, Clone, Copy, Default)]
pub struct View<'a> {
    /// Id in WebSocket addresses, or meeting id.
    pub conference: Option<&'a str>,
    /// Name of an endpoint.
    pub endpoint: Option<&'a str>,
    /// Endpoints in full instead of their statistics ids.
    pub full: bool,
}

/// The conferences by id; `more` adds what signalling does not know of an endpoint. `None` when a name is unknown.
pub fn conferences(
    bridge: &ColibriBridge,
    view: View<'_>,
    more: impl Fn(EndpointId) -> Option<Map<String, Value>>,
) -> Option<Map<String, Value>> {
    let chosen = |c: &&Conference| view.conference.is_none_or(|name| c.hex_id() == name || c.meeting_id() == name);
    let mut shown = Map::new();
    for conference in bridge.conferences().filter(chosen) {
        let chosen = |e: &&EndpointState| view.endpoint.is_none_or(|name| e.who().label == name);
        let mut endpoints = Map::new();
        for state in conference.endpoints().iter().filter(chosen) {
            let value = if view.full { endpoint(state, more(state.id())) } else { Value::from(state.stats_id()) };
            endpoints.insert(state.who().label.clone(), value);
        }
        let behind = |relay: &RelayState| relay.relayed().iter().any(|e| view.endpoint == Some(&e.who().label));
        let relays = conference.relays().iter().filter(|relay| view.endpoint.is_none() || behind(relay));
        let relays: Map<String, Value> =
            relays.map(|state| (state.who().label.clone(), relay(state, view, &more))).collect();
        if view.endpoint.is_some() && endpoints.is_empty() && relays.is_empty() {
            continue;
        }
        let value = json!({
            "id": conference.hex_id(),
            "rtcstatsEnabled": conference.rtcstats(),
            "name": conference.name(),
            "meeting_id": conference.meeting_id(),
            "workers": conference.workers(),
            "endpoints": endpoints,
            "relays": relays,
        });
        shown.insert(conference.hex_id().to_owned(), value);
    }
    (view.conference.is_none() || !shown.is_empty()).then_some(shown)
}

fn relay(state: &RelayState, view: View<'_>, more: impl Fn(EndpointId) -> Option<Map<String, Value>>) -> Value {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), state.who().label.clone().into());
    shown.insert("number".to_owned(), state.id().0.into());
    shown.insert("worker".to_owned(), state.who().worker.into());
    shown.insert("mesh_id".to_owned(), state.who().mesh_name.clone().into());
    shown.insert("ice_established".to_owned(), state.is_established().into());
    let chosen = |e: &&RelayedState| view.endpoint.is_none_or(|name| e.who().label == name);
    let relayed = state.relayed().iter().filter(chosen).map(|e| {
        let value = match view.full {
            true => json!({
                "id": e.who().label,
                "stats_id": e.stats_id(),
                "number": e.who().id.0,
                "sources": e.sources().iter().map(source).collect::<Value>(),
                "connection": more(e.who().id),
            }),
            false => Value::from(e.stats_id()),
        };
        (e.who().label.clone(), value)
    });
    shown.insert("endpoints".to_owned(), Value::Object(relayed.collect()));
    shown.extend(more(state.id()).unwrap_or_default());
    Value::Object(shown)
}

fn endpoint(state: &EndpointState, more: Option<Map<String, Value>>) -> Value {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), state.who().label.clone().into());
    shown.insert("stats_id".to_owned(), state.stats_id().into());
    shown.insert("number".to_owned(), state.id().0.into());
    shown.insert("worker".to_owned(), state.who().worker.into());
    shown.insert("visitor".to_owned(), state.who().visitor.into());
    shown.insert("ice_established".to_owned(), state.is_established().into());
    let mute = json!({ "audio": state.force_mute().audio, "video": state.force_mute().video });
    shown.insert("force_mute".to_owned(), mute);
    shown.insert("sources".to_owned(), state.sources().iter().map(source).collect());
    shown.extend(more.unwrap_or_default());
    Value::Object(shown)
}

fn source(source: &SourceDescription) -> Value {
    let encodings: Value =
        source.encodings.iter().map(|e| json!({ "ssrc": e.ssrc.get(), "rtx": e.rtx.map(Ssrc::get) })).collect();
    let kind = if source.kind == MediaKind::Audio { "audio" } else { "video" };
    json!({
        "name": source.name,
        "type": kind,
        "video_type": format!("{:?}", source.video_type),
        "encodings": encodings,
    })
}
