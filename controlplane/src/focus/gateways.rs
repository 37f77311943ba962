//! What recorders and gateways say, and what is asked of them: the way between rooms and their state machines.

use std::time::Instant;

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::MucUser;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::limits::Refused;
use super::recording::JIBRI;
use super::service::{Focus, occupant};
use crate::xmpp::iq::Request;

impl Focus {
    /// The room of a request that only its moderators may send, or why it is refused.
    fn moderated(&self, request: &Request) -> Result<BareJid, DefinedCondition> {
        let found = request.from.as_ref().and_then(occupant);
        let found = found.and_then(|(room, nick)| Some((self.conferences.get(&room)?, room, nick)));
        let (conference, room, nick) = found.ok_or(DefinedCondition::ItemNotFound)?;
        let moderates = conference.moderates(&nick).ok_or(DefinedCondition::Forbidden)?;
        if !request.set {
            return Err(DefinedCondition::BadRequest);
        }
        match moderates || !self.shared.settings.moderator_checks {
            true => Ok(room),
            false => Err(DefinedCondition::NotAllowed),
        }
    }

    /// A `<jibri/>` request: a report of a Jibri, or the wish of a moderator; `None` when the answer comes later.
    pub(super) fn jibri_request(&mut self, now: Instant, request: &Request) -> Option<Iq> {
        let from = request.from.as_ref().map(ToString::to_string).unwrap_or_default();
        if request.set && self.recording.is_at_work(&from) {
            return Some(self.recording.report(&mut self.shared.at(now), request, &from));
        }
        match self.moderated(request) {
            Ok(room) => self.recording.request(&mut self.shared.at(now), &room, request),
            Err(condition) => {
                self.shared.refused.count(Refused::Recording, 1);
                Some(request.refuse(condition, ""))
            }
        }
    }

    /// A presence of a brewery of recorders or gateways; true when it was one.
    pub(super) fn gateway_presence(&mut self, now: Instant, presence: &Presence) -> bool {
        self.recording.presence(&mut self.shared.at(now), presence)
    }

    /// Somebody is in a room: perhaps a recorder that is at work already.
    pub(super) fn note_recorder(&mut self, room: &BareJid, nick: &str, presence: &Presence, user: &MucUser) {
        let is_recorder = |features: &Element| features.children().any(|feature| feature.attr("var") == Some(JIBRI));
        let features = presence.payloads.iter().find(|payload| payload.name() == "features");
        let real = user.items.first().and_then(|item| item.jid.as_ref());
        if features.is_some_and(is_recorder) && real.is_some_and(|jid| self.helpers.includes(&jid.to_bare())) {
            self.recording.recorder_seen(room, nick, presence);
        }
    }

    /// Tells the rooms what became of what they asked for.
    pub(super) fn tell_notices(&mut self, now: Instant) {
        while let Some(notice) = self.recording.poll_notice() {
            if let Some((conference, mut cx)) = self.conference(now, &notice.room) {
                conference.set_notice(&mut cx, notice.topic, notice.element);
            }
        }
    }
}
