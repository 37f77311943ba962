//! The rooms that the focus is in: conference requests, presence, timers (docs/protocol/focus.md 2, 3).

use std::time::Instant;

use jid::BareJid;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::user::Status;
use xmpp_parsers::presence::{Presence, Type};
use xmpp_parsers::stanza_error::DefinedCondition;

use super::conference::{Conference, NICK, Options, Reply, Waits, conference_answer};
use super::limits::{EMPTY_GRACE, MAX_EMPTY, MAX_SETTING_UP, Refused};
use super::service::{Focus, muc_user, occupant};
use crate::xmpp::iq::Request;

/// The status of who leaves a room for a breakout room, or the other way round.
const SWITCHING: &str = "switch_room";

impl Focus {
    /// Answers a `<conference/>` request; `None` when the answer comes later.
    pub(super) fn conference_request(&mut self, now: Instant, request: &Request) -> Option<Iq> {
        let refuse = |condition, text: &str| Some(request.refuse(condition, text));
        let Some(room) = request.payload.attr("room").and_then(|room| room.parse::<BareJid>().ok()) else {
            return refuse(DefinedCondition::BadRequest, "the room attribute is missing or is no room JID");
        };
        if !self.serves(&room) {
            return refuse(DefinedCondition::NotAllowed, "this focus does not serve rooms of that service");
        }
        if !self.shared.online {
            return refuse(DefinedCondition::ServiceUnavailable, "");
        }
        if let Err(refusal) = self.log_in(now, request, &room) {
            self.shared.refused.count(Refused::Login, 1);
            return Some(*refusal);
        }
        if let Some(answer) = self.answer_not_live(request, &room) {
            return Some(answer);
        }
        if let Some(conference) = self.conferences.get_mut(&room) {
            let (answered, waits) = conference.asked_again(&self.shared.at(now), request)?;
            if waits == Waits::No {
                return conference.admit(&mut self.shared.at(now), &answered);
            }
            self.shared.refused.count(Refused::Waiting, 1);
            return Some(conference_answer(&self.shared, &answered, &room, (Reply::Later, false)));
        }
        if self.asked_for_returning(now, &room, request) {
            return None;
        }
        if let Err(reason) = self.may_begin(now, request, &room) {
            self.shared.refused.count(reason, 1);
            if let Some(silenced) = self.refused_lines.speak(now) {
                tracing::warn!(%room, from = ?request.from, ?reason, silenced, conferences = self.conferences.len(),
                    "conference not created; the client is asked to try again");
            }
            return Some(conference_answer(&self.shared, request, &room, (Reply::Later, false)));
        }
        let mut cx = self.shared.at(now);
        let conference = Conference::new(room.clone(), vec![request.clone()], Options::read(&request.payload), &cx);
        tracing::info!(%room, "conference created");
        cx.totals.conferences += 1;
        conference.join(&mut cx);
        self.conferences.insert(room, conference);
        None
    }

    /// Whether one more conference may begin because of that request; room is made where that disturbs nobody.
    fn may_begin(&mut self, now: Instant, request: &Request, room: &BareJid) -> Result<(), Refused> {
        let from = request.from.as_ref().filter(|from| !self.is_trusted(from)).cloned();
        if from.is_some_and(|from| !self.new_rooms.take(now, &from)) {
            return Err(Refused::NewRooms);
        }
        if self.shared.is_breakout(room) {
            self.may_enter_breakout(request)?;
        }
        let setting_up =
            |conference: &&Conference| !conference.is_ready() && !self.shared.is_breakout(conference.room());
        if self.conferences.values().filter(setting_up).count() >= MAX_SETTING_UP {
            return Err(Refused::SettingUp);
        }
        let empty = || {
            self.conferences.iter().filter(|(room, conference)| {
                conference.is_empty() && conference.is_ready() && !self.shared.breakouts.of(room)
            })
        };
        if self.conferences.len() < self.shared.settings.max_conferences && empty().count() < MAX_EMPTY {
            return Ok(());
        }
        let oldest = empty().min_by_key(|(_, conference)| conference.created());
        let old = |conference: &Conference| now.saturating_duration_since(conference.created()) >= EMPTY_GRACE;
        let Some(room) = oldest.filter(|(_, conference)| old(conference)).map(|(room, _)| room.clone()) else {
            return Err(Refused::Conferences);
        };
        self.shared.refused.count(Refused::EmptyLeft, 1);
        self.end_conference(now, &room, true);
        Ok(())
    }

    pub(super) fn room_presence(&mut self, now: Instant, presence: Presence) {
        let Some((room, nick)) = presence.from.as_ref().and_then(occupant) else { return };
        let Some((conference, mut cx)) = self.conference(now, &room) else { return };
        let user = muc_user(&presence);
        if !conference.lives_in(&nick, &room) {
            // A visitor's name: participants take it, but do not speak for it.
            if presence.type_ != Type::None {
                return;
            }
            conference.displace_visitor(&mut cx, &nick);
        }
        let me = nick == NICK || user.status.contains(&Status::SelfPresence);
        match (presence.type_.clone(), me) {
            (Type::Error, true) => self.join_failed(now, &room, &presence),
            (Type::Unavailable, true) => {
                tracing::warn!(%room, "removed from the room; the conference ends");
                self.end_conference(now, &room, false);
            }
            (Type::None, true) => conference.room_entered(&mut cx, user.status.contains(&Status::NonAnonymousRoom)),
            (Type::Unavailable, false) => {
                conference.member_left(&mut cx, &nick);
                let empty = conference.is_empty();
                self.recording.member_left(&room, &nick);
                if empty {
                    self.emptied(now, &room, is_switching(&presence));
                }
            }
            (Type::None, false) => {
                conference.member_seen(&mut cx, &nick, &presence, &user);
                self.note_recorder(&room, &nick, &presence);
            }
            _ => {}
        }
    }

    fn join_failed(&mut self, now: Instant, room: &BareJid, presence: &Presence) {
        let reason = presence.payloads.iter().find(|payload| payload.name() == "error").map(String::from);
        if self.conferences.get(room).is_none_or(|conference| !conference.is_joining()) {
            tracing::warn!(%room, reason, "the room refused a presence of the focus");
            return;
        }
        if self.shared.is_breakout(room) {
            return self.breakout_refused(
                now,
                room,
                "the MUC service of breakout rooms does not let the focus in; is it an admin there?",
            );
        }
        tracing::error!(%room, reason, "the room cannot be joined; is the focus an admin of the MUC service?");
        let Some(conference) = self.conferences.remove(room) else { return };
        conference.refused(&mut self.shared.at(now));
    }

    /// Ends a conference; `leave` where we are still in the room.
    pub(super) fn end_conference(&mut self, now: Instant, room: &BareJid, leave: bool) {
        if let Some(conference) = self.conferences.remove(room) {
            let main = conference.end(&mut self.shared.at(now), leave);
            self.recording.conference_ended(&mut self.shared.at(now), room);
            self.shared.logins.conference_ended(room);
            if let Some(main) = main {
                self.breakout_ended(now, &main);
            }
        }
    }

    /// A breakout room that is none: who asked for it is asked to try again.
    fn breakout_refused(&mut self, now: Instant, room: &BareJid, reason: &str) {
        self.shared.refused.count(Refused::Breakout, 1);
        if let Some(silenced) = self.refused_lines.speak(now) {
            tracing::warn!(%room, reason, silenced, "breakout room refused");
        }
        self.end_conference(now, room, true);
    }

    pub(super) fn conference_timeouts(&mut self, now: Instant) {
        let any_due = |conference: &Conference| conference.poll_timeout().is_some_and(|deadline| deadline <= now);
        let rooms: Vec<BareJid> =
            self.conferences.iter().filter(|(_, c)| any_due(c)).map(|(room, _)| room.clone()).collect();
        for room in rooms {
            let Some((conference, mut cx)) = self.conference(now, &room) else { continue };
            if conference.is_given_up(now) {
                let joining = conference.is_joining();
                match self.shared.breakouts.of(&room) {
                    true => self.emptied(now, &room, false),
                    false if joining && self.shared.is_breakout(&room) => {
                        self.breakout_refused(now, &room, "its service does not answer");
                    }
                    false => self.end_conference(now, &room, true),
                }
            } else {
                conference.handle_timeout(&mut cx);
            }
        }
    }
}

/// Whether somebody left to enter another room of the same meeting.
fn is_switching(presence: &Presence) -> bool {
    presence.statuses.values().any(|status| status == SWITCHING)
}
