//! Breakout rooms: rooms of a service of their own that belong to a main room, which stays while anybody is in one of them
//! (docs/protocol/focus.md 3.7).

use std::time::Instant;

use jid::BareJid;

use super::conference::Conference;
use super::limits::{MAX_SETTING_UP, Refused};
use super::service::Focus;
use crate::xmpp::iq::Request;

impl Focus {
    /// Whether a room is of a service that we serve.
    pub(super) fn serves(&self, room: &BareJid) -> bool {
        let main = room.domain() == self.shared.settings.conference_muc.domain();
        room.node().is_some() && (main || self.shared.is_breakout(room))
    }

    /// Whether one more breakout room may be entered. A service with Jitsi's module is silent where there is no such room, so
    /// that strangers could keep others waiting: they have few places, each has one, and main rooms have theirs apart.
    pub(super) fn may_enter_breakout(&self, request: &Request) -> Result<(), Refused> {
        let waits = |conference: &&Conference| self.shared.is_breakout(conference.room()) && !conference.is_ready();
        let waiting: Vec<&Conference> = self.conferences.values().filter(waits).collect();
        let known = request
            .from
            .as_ref()
            .is_some_and(|from| self.conferences.values().any(|conference| conference.has_real(from)));
        let most = if known { MAX_SETTING_UP } else { MAX_SETTING_UP / 2 };
        let already = waiting.iter().any(|conference| conference.is_awaited_by(request.from.as_ref()));
        if already || waiting.len() >= most { Err(Refused::SettingUp) } else { Ok(()) }
    }

    /// The last one left a room: the conference ends, unless it is a main room whose members are in breakout rooms, or on
    /// their way to one.
    pub(super) fn emptied(&mut self, now: Instant, room: &BareJid, switching: bool) {
        let has_breakouts = self.shared.breakouts.of(room);
        match self.conference(now, room) {
            Some((conference, mut cx)) if has_breakouts || switching => conference.stay_empty(&mut cx, !has_breakouts),
            _ => self.end_conference(now, room, true),
        }
    }

    /// A breakout room ended: the main room is not kept for it any more. Who was in it may be on the way back.
    pub(super) fn breakout_ended(&mut self, now: Instant, main: &BareJid) {
        self.shared.breakouts.remove(main);
        if self.shared.breakouts.of(main) {
            return;
        }
        if let Some((conference, mut cx)) = self.conference(now, main)
            && conference.is_empty()
        {
            conference.stay_empty(&mut cx, true);
        }
    }
}
