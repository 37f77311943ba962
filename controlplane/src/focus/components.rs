//! What the server has beside rooms: modules of Jitsi Meet announce their components as identities of the clients' host
//! (docs/protocol/focus.md 8.2). Only what these say is heeded, and only under the addresses that are found here.

use std::time::{Duration, Instant};

use jid::BareJid;
use tokio_xmpp::minidom::Element;

use super::requests::{Answer, Pending};
use super::service::Focus;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";

/// Modules may be loaded, and unloaded, while the server runs: asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Where no answer came, sooner.
const ASK_AFTER_SILENCE: Duration = Duration::from_secs(15);

/// Addresses of components; none where there is no such module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Addresses {
    breakout: Option<BareJid>,
}

/// The components of the server.
#[derive(Debug, Default)]
pub(super) struct Components {
    found: Addresses,
    /// When the host is asked next.
    due: Option<Instant>,
}

impl Components {
    /// The MUC service of breakout rooms, as it announces itself.
    pub fn breakout(&self) -> Option<&BareJid> {
        self.found.breakout.as_ref()
    }

    /// When the host is asked next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
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

impl Focus {
    /// Asks the clients' host for its components.
    pub(super) fn ask_for_components(&mut self, now: Instant) {
        // Until an answer comes, so that nothing asks twice.
        self.shared.components.due = Some(now + ASK_AGAIN);
        let host = self.shared.settings.client_host();
        let query = Element::bare("query", DISCO_INFO);
        self.shared.requests.request(now, &host.to_string(), false, query, Pending::Components);
    }

    /// Asks again when it is time.
    pub(super) fn look_at_components(&mut self, now: Instant) {
        if self.shared.components.due.is_some_and(|due| due <= now) {
            self.ask_for_components(now);
        }
    }

    /// The clients' host answered, or did not. What was known before stays where nothing is known now.
    pub(super) fn components_answered(&mut self, now: Instant, answer: &Answer) {
        let Answer::Result(Some(query)) = answer else {
            self.shared.components.due = Some(now + ASK_AFTER_SILENCE);
            return;
        };
        let found = Addresses { breakout: address(query, "breakout_rooms") };
        let components = &mut self.shared.components;
        if components.found != found {
            let shown = |address: &Option<BareJid>| address.as_ref().map(ToString::to_string);
            tracing::info!(breakout_rooms = ?shown(&found.breakout), "components of the server");
            components.found = found;
        }
    }
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
