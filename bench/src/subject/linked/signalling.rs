//! What a focus says of relays (docs/protocol/bridge.md 10), as text.

use ringbridge_controlplane::colibri::elements::ns;
use tokio_xmpp::minidom::Element;

use crate::generator::media_numbers::Numbers;
use crate::generator::world::{ClientId, World};
use crate::subject::whole::signalling::{element, label, published, sections};

/// The conference that all bridges carry.
pub(super) const ROOM: usize = 0;

/// Which of the two sides of a link is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The bridge that was there first: it opens the link.
    Initiator,
    /// It answers the handshake.
    Follower,
}

impl Side {
    /// The other side's role in DTLS, as this one learns it.
    const fn setup_of_other(self) -> &'static str {
        match self {
            Self::Initiator => "active",
            Self::Follower => "passive",
        }
    }
}

fn relay(id: &str, attributes: &str, content: &str) -> Result<Element, String> {
    element(&format!(
        "<conference-modify xmlns='{}' meeting-id='{ROOM}'><relay id='{id}' {attributes}>{content}</relay></conference-modify>",
        ns::COLIBRI2
    ))
}

/// Clients as they are announced to the bridges that they are not on.
fn announced(world: &World, clients: &[ClientId]) -> String {
    let each = clients.iter().map(|client| {
        let sources = published(*client, &world.streams_of(*client));
        format!("<endpoint id='{}' create='true'>{sources}</endpoint>", label(*client))
    });
    format!("<endpoints>{}</endpoints>", each.collect::<String>())
}

/// Asks for one side of a link to the bridge of that relay id, behind which some clients are.
pub(super) fn create(id: &str, side: Side, world: &World, behind: &[ClientId]) -> Result<Element, String> {
    let (initiator, role) = match side {
        Side::Initiator => ("true", "client"),
        Side::Follower => ("false", "server"),
    };
    let transport = format!(
        "<transport ice-controlling='{initiator}' use-unique-port='{initiator}'><sctp role='{role}'/></transport>"
    );
    let content = format!("{transport}{}{}", sections(Numbers::USUAL), announced(world, behind));
    relay(id, "create='true' mesh-id='0'", &content)
}

/// Sends one side of a link what the other one answered.
pub(super) fn connect(id: &str, side: Side, answer: &Element) -> Result<Element, String> {
    let transport = answer
        .get_child("relay", ns::COLIBRI2)
        .and_then(|relay| relay.get_child("transport", ns::COLIBRI2))
        .and_then(|transport| transport.get_child("transport", ns::ICE_UDP))
        .ok_or_else(|| format!("a bridge answered without the transport of a relay: {}", String::from(answer)))?;
    // Every fingerprint says this.
    let transport = String::from(transport).replace("actpass", side.setup_of_other());
    relay(id, "", &format!("<transport>{transport}</transport>"))
}

/// Announces more clients behind the bridge of that relay id.
pub(super) fn announce(id: &str, world: &World, clients: &[ClientId]) -> Result<Element, String> {
    relay(id, "", &announced(world, clients))
}

/// Ends a link.
pub(super) fn expire(id: &str) -> Result<Element, String> {
    relay(id, "expire='true'", "")
}

/// How many videos a client wants at most; -1 is all.
pub(super) fn last_n(client: ClientId, last_n: i32) -> Result<Element, String> {
    element(&format!(
        "<conference-modify xmlns='{}' meeting-id='{ROOM}'><endpoint id='{}'><initial-last-n value='{last_n}'/></endpoint></conference-modify>",
        ns::COLIBRI2,
        label(client)
    ))
}
