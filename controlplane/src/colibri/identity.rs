//! Who an endpoint is.

use ringbridge_dataplane::ids::{ConferenceId, EndpointId};

/// What of an endpoint never changes. It is made when the endpoint is created; whatever keeps state of the endpoint shares it,
/// so that no two parts can disagree about a name, a conference or a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointIdentity {
    /// Its key in every table of the bridge, and in commands and events; never used again.
    pub id: EndpointId,
    /// Its conference.
    pub conference: ConferenceId,
    /// Id of the conference in WebSocket URLs.
    pub conference_hex: String,
    /// Its name in the conference.
    pub label: String,
    /// The worker that owns it.
    pub worker: usize,
    /// Visitors' messages are not forwarded.
    pub visitor: bool,
}
