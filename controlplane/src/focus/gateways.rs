//! What recorders and gateways say, and what is asked of them: the way between rooms and their state machines.

use std::time::Instant;

use jid::BareJid;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::conference::Helper;
use super::dial::Caller;
use super::limits::Refused;
use super::service::Focus;
use crate::xmpp::iq::Request;

impl Focus {
    /// The room of a request that only its moderators may send, or why it is refused.
    fn moderated(&self, request: &Request) -> Result<BareJid, DefinedCondition> {
        let found = self.asker(request).and_then(|(room, nick)| Some((self.conferences.get(&room)?, room, nick)));
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

    /// A `<jibri/>` request: a report of a Jibri, or the request of a moderator; `None` when the answer comes later.
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
        let mut cx = self.shared.at(now);
        self.recording.presence(&mut cx, presence) || self.dial.presence(&mut cx, presence)
    }

    /// A `<dial/>` request of a moderator; `None` when the answer comes later.
    pub(super) fn dial_request(&mut self, now: Instant, request: &Request) -> Option<Iq> {
        let caller = match self.moderated(request) {
            Ok(room) => {
                let conference = self.conferences.get(&room);
                let bridge = conference.and_then(|conference| self.shared.bridges.get(conference.bridge()?));
                Caller {
                    region: bridge.and_then(|bridge| bridge.region.clone()),
                    has_transcriber: conference.is_some_and(|c| c.has_transcriber(&self.shared.helpers)),
                    room: Some(room),
                }
            }
            Err(condition) => {
                self.shared.refused.count(Refused::Dial, 1);
                // Who is in the room and may not, and who is not in it: both are strangers to a gateway.
                let forbidden = condition == DefinedCondition::NotAllowed;
                return Some(request.refuse(if forbidden { DefinedCondition::Forbidden } else { condition }, ""));
            }
        };
        self.dial.request(&mut self.shared.at(now), caller, request)
    }

    /// Somebody is in a room: perhaps a recorder that is at work already.
    pub(super) fn note_recorder(&mut self, room: &BareJid, nick: &str, presence: &Presence) {
        let helper = self.conferences.get(room).and_then(|c| c.helper(nick, &self.shared.helpers));
        if helper == Some(Helper::Recorder) {
            self.recording.recorder_seen(room, nick, presence);
        }
    }

    /// Informs the rooms what became of what they asked for.
    pub(super) fn tell_notices(&mut self, now: Instant) {
        while let Some(notice) = self.recording.poll_notice() {
            if let Some((conference, mut cx)) = self.conference(now, &notice.room) {
                conference.set_notice(&mut cx, notice.topic, notice.element);
            }
        }
    }
}
