//! Relays between bridges (docs/protocol/bridge.md 10): the connection of one conference to another bridge, and who is behind it.

use xso::{AsXml, FromXml};

use super::text::TrueOrAbsent;
use super::{Endpoint, Media, Sources, Transport, ns};

/// `<relay>`, in requests and in answers.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "relay")]
pub struct Relay {
    /// The other bridge's relay id.
    #[xml(attribute)]
    pub id: String,
    /// Whether to create it.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub create: bool,
    /// Whether to end it.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub expire: bool,
    /// Mesh that it belongs to.
    #[xml(attribute(name = "mesh-id", default))]
    pub mesh_id: Option<String>,
    /// Formats and header extensions under which media crosses it, one per media type.
    #[xml(child(n = ..))]
    pub media: Vec<Media>,
    /// ICE, DTLS, SCTP.
    #[xml(child(default))]
    pub transport: Option<Transport>,
    /// Sources of the relay itself, which nobody signals today.
    #[xml(child(default))]
    pub sources: Option<Sources>,
    /// Those behind it who come, change or leave.
    #[xml(child(default))]
    pub endpoints: Option<Endpoints>,
}

impl Relay {
    /// A relay without content.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Those behind it who come, change or leave.
    pub fn relayed(&self) -> &[Endpoint] {
        self.endpoints.as_ref().map_or(&[], |endpoints| &endpoints.endpoints)
    }
}

/// `<endpoints>`: participants of the other bridge, with sources and without transport.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "endpoints")]
pub struct Endpoints {
    /// Each one.
    #[xml(child(n = ..))]
    pub endpoints: Vec<Endpoint>,
}
