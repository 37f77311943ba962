//! What the server has beside rooms: modules of Jitsi Meet announce their components as identities of the clients' host
//! (docs/protocol/focus.md 8.2). Only what these say is heeded, and only under the addresses that are found here.

use std::time::Instant;

use jid::BareJid;
use tokio_xmpp::minidom::Element;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";

/// Addresses of components; none where there is no such module.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Addresses {
    breakout: Option<BareJid>,
    moderation: Option<BareJid>,
    metadata: Option<BareJid>,
    visitors: Option<BareJid>,
}

/// The components of the server.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Components {
    found: Addresses,
    /// When the host is asked next.
    #[serde(with = "crate::carried")]
    due: Option<Instant>,
}

impl Components {
    /// The MUC service of breakout rooms, as it announces itself.
    pub fn breakout(&self) -> Option<&BareJid> {
        self.found.breakout.as_ref()
    }

    /// Whether an address is that of the component of moderation.
    pub fn is_moderation(&self, from: &BareJid) -> bool {
        self.found.moderation.as_ref() == Some(from)
    }

    /// Whether an address is that of the component of rooms' metadata.
    pub fn is_metadata(&self, from: &BareJid) -> bool {
        self.found.metadata.as_ref() == Some(from)
    }

    /// The component that connects rooms with visitor nodes.
    pub fn visitors(&self) -> Option<&BareJid> {
        self.found.visitors.as_ref()
    }

    /// When the host is asked next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The host is asked next at that time.
    pub fn ask_at(&mut self, due: Instant) {
        self.due = Some(due);
    }

    /// Takes an answer of the host.
    pub fn update(&mut self, query: &Element) {
        let found = Addresses {
            breakout: address(query, "breakout_rooms"),
            moderation: address(query, "av_moderation"),
            metadata: address(query, "room_metadata"),
            visitors: address(query, "visitors"),
        };
        if self.found != found {
            let shown = |address: &Option<BareJid>| address.as_ref().map(ToString::to_string);
            tracing::info!(
                breakout_rooms = ?shown(&found.breakout), av_moderation = ?shown(&found.moderation),
                room_metadata = ?shown(&found.metadata), visitors = ?shown(&found.visitors), "components of the server"
            );
            self.found = found;
        }
    }
}

/// The component of a type among a host's identities. An address is a host's name and nothing else; the first one counts.
fn address(query: &Element, kind: &str) -> Option<BareJid> {
    let named = query.children().find(|child| {
        child.is("identity", DISCO_INFO)
            && child.attr("category") == Some("component")
            && child.attr("type") == Some(kind)
    })?;
    let jid: BareJid = named.attr("name")?.parse().ok()?;
    jid.node().is_none().then_some(jid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(identities: &str) -> Element {
        format!("<query xmlns='{DISCO_INFO}'>{identities}</query>").parse().expect("XML")
    }

    #[test]
    fn an_address_is_a_hosts_name() {
        let of = |identities: &str| address(&query(identities), "av_moderation").map(|jid| jid.to_string());
        let good = "<identity category='server' type='im' name='Prosody'/>\
                    <identity category='component' type='av_moderation' name='avmoderation.meet.test'/>";
        assert_eq!(of(good).as_deref(), Some("avmoderation.meet.test"));
        for bad in [
            "",
            "<identity category='component' type='av_moderation'/>",
            "<identity category='component' type='av_moderation' name=''/>",
            "<identity category='component' type='av_moderation' name='a b'/>",
            "<identity category='component' type='av_moderation' name='somebody@meet.test'/>",
            "<identity category='component' type='av_moderation' name='meet.test/resource'/>",
            "<identity category='client' type='av_moderation' name='avmoderation.meet.test'/>",
            "<identity category='component' type='breakout_rooms' name='avmoderation.meet.test'/>",
            "<identity xmlns='urn:other' category='component' type='av_moderation' name='avmoderation.meet.test'/>",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
