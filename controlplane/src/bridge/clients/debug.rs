//! Clients as the debug page shows them.

use std::collections::BTreeMap;

use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::{Limit, VideoConstraint};
use serde_json::{Map, Value, json};

use super::carrier::Carrier;
use super::table::Clients;
use crate::channel::from_limit;

impl Clients {
    /// What the debug page shows of an endpoint beyond signalling.
    pub fn debug(&self, id: EndpointId) -> Option<Map<String, Value>> {
        let wanted = |demand: &BTreeMap<String, Limit>| {
            demand.iter().map(|(name, most)| (name.clone(), from_limit(*most).into())).collect::<Map<String, Value>>()
        };
        if let Some(relay) = self.relays.get(&id) {
            let shown = json!({
                "ice_connected": relay.dtls.ice_connected(),
                "dtls_connected": relay.dtls.connected().is_some(),
                "channel": relay.carriers.current().is_some(),
                "carrier": relay.carriers.current().map(|carrier| format!("{carrier:?}")),
                "dead_for_seconds": relay.silent.map(|since| since.elapsed().as_secs()),
            });
            return if let Value::Object(shown) = shown { Some(shown) } else { None };
        }
        if let Some(relayed) = self.relayed.get(&id) {
            let shown = json!({ "active": relayed.active, "wanted_of_it": wanted(&relayed.demand) });
            return if let Value::Object(shown) = shown { Some(shown) } else { None };
        }
        let endpoint = self.endpoints.get(&id)?;
        let height = |c: &VideoConstraint| json!({ "max_height": from_limit(c.max_height), "max_frame_rate": from_limit(c.max_frame_rate) });
        let c = &endpoint.constraints;
        let shown = json!({
            "active": endpoint.active,
            "ice_connected": endpoint.dtls.ice_connected(),
            "dtls_connected": endpoint.dtls.connected().is_some(),
            "channel": {
                "web_socket": endpoint.carriers.is_open(Carrier::WebSocket),
                "data_channel": endpoint.carriers.is_open(Carrier::Data),
                "used": endpoint.carriers.current().map(|carrier| format!("{carrier:?}")),
                "older_dialect": endpoint.preferences.is_legacy(),
            },
            "wants": {
                "last_n": from_limit(c.last_n),
                "on_stage": c.on_stage,
                "selected": c.selected,
                "default": height(&c.default),
                "audio": { "all": c.audio.all, "include": c.audio.include, "exclude": c.audio.exclude },
                "constraints": c.per_source.iter().map(|(name, c)| (name.clone(), height(c))).collect::<Map<_, _>>(),
            },
            "forwarded_sources": endpoint.forwarded,
            "mapped_sources": endpoint.mappings.shown(),
            "wanted_of_it": wanted(&endpoint.demand),
        });
        if let Value::Object(shown) = shown { Some(shown) } else { None }
    }
}
