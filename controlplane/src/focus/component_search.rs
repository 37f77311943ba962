//! When the clients' host is asked for its components (docs/protocol/focus.md 8.2).

use std::time::{Duration, Instant};

use tokio_xmpp::minidom::Element;

use super::requests::{Answer, Pending};
use super::service::Focus;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";

/// Modules may be loaded, and unloaded, while the server runs: asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Where no answer came, sooner.
const ASK_AFTER_SILENCE: Duration = Duration::from_secs(15);

impl Focus {
    /// Asks the clients' host for its components.
    pub(super) fn ask_for_components(&mut self, now: Instant) {
        // Until an answer comes, so that nothing asks twice.
        self.shared.components.ask_at(now + ASK_AGAIN);
        let host = self.shared.settings.client_host();
        let query = Element::bare("query", DISCO_INFO);
        self.shared.requests.request(now, &host.to_string(), false, query, Pending::Components);
    }

    /// Asks again when it is time.
    pub(super) fn look_at_components(&mut self, now: Instant) {
        if self.shared.components.poll_timeout().is_some_and(|due| due <= now) {
            self.ask_for_components(now);
        }
    }

    /// The clients' host answered, or did not. What was known before stays where nothing is known now.
    pub(super) fn components_answered(&mut self, now: Instant, answer: &Answer) {
        self.may_return();
        let Answer::Result(Some(query)) = answer else {
            self.shared.components.ask_at(now + ASK_AFTER_SILENCE);
            return;
        };
        self.shared.components.update(query);
    }
}
