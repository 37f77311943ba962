//! Who an endpoint is.

use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId};
use serde::{Deserialize, Serialize};

/// What of an endpoint never changes. It is made when the endpoint is created; whatever keeps state of the endpoint shares it,
/// so that no two parts can disagree about a name, a conference or a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointIdentity {
    /// Its key in every table of the bridge, and in commands and events; never used again.
    pub id: EndpointId,
    /// Its conference.
    pub conference: ConferenceId,
    /// Id of the conference in WebSocket URLs.
    pub conference_hex: String,
    /// Its name in the conference.
    pub label: String,
    /// The worker that owns it, or the relay that it is behind.
    pub worker: usize,
    /// Visitors' messages are not forwarded.
    pub visitor: bool,
    /// The relay that it is behind, when it is on another bridge.
    pub relay: Option<EndpointId>,
}

/// What of a relay never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayIdentity {
    /// Its key; from the same numbers as those of endpoints.
    pub id: EndpointId,
    /// Its conference.
    pub conference: ConferenceId,
    /// Id of the conference in WebSocket URLs.
    pub conference_hex: String,
    /// The other bridge's relay id.
    pub label: String,
    /// The relay id of this bridge.
    pub own: String,
    /// The worker that owns it.
    pub worker: usize,
    /// The mesh that it belongs to.
    pub mesh: MeshId,
    /// What signalling calls that.
    pub mesh_name: String,
}

/// Identities as signalling writes them for another process; whatever else keeps one shares what signalling reads there.
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::colibri) fn serialize<T: Serialize, S: Serializer>(who: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        (**who).serialize(to)
    }

    pub(in crate::colibri) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}
