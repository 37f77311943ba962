//! Requests for a conference where users have to log in, and the end of a login (docs/protocol/focus.md 2.6).

use std::time::Instant;

use jid::BareJid;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::conference::Conference;
use super::limits::Refused;
use super::service::Focus;
use crate::xmpp::iq::Request;

impl Focus {
    /// Looks at what a request for a conference shows of its sender. An error is the answer: only users who are logged in begin
    /// conferences, and a session has to be a sound one.
    pub(super) fn log_in(&mut self, now: Instant, request: &Request, room: &BareJid) -> Result<(), Box<Iq>> {
        // Who may enter a breakout room is its service's affair.
        if !self.shared.logins.are_required() || self.shared.is_breakout(room) {
            return Ok(());
        }
        let user = self.shared.sender(request);
        let fresh = self.shared.at(now).random_id();
        if self.shared.logins.show(now, request, user.as_ref(), room, fresh)? {
            // Wherever that user is already: a guest may log in during a call.
            let has = |conference: &Conference| user.as_ref().is_some_and(|user| conference.has_real(user));
            let rooms = self.conferences.iter().filter(|(_, conference)| has(conference));
            let rooms: Vec<BareJid> = rooms.map(|(room, _)| room.clone()).collect();
            for room in rooms {
                if let Some((conference, mut cx)) = self.conference(now, &room) {
                    conference.own_by_login(&mut cx);
                }
            }
        }
        let known = user.as_ref().is_some_and(|user| self.shared.logins.includes(user));
        if known || self.conferences.contains_key(room) || self.returning.is_in(room) {
            return Ok(());
        }
        Err(Box::new(request.refuse(DefinedCondition::NotAuthorized, "not authorized user domain")))
    }

    /// `<logout/>` and `<login-url/>`.
    pub(super) fn login_request(&mut self, request: &Request) -> Iq {
        let answer = match (request.payload.name(), request.set) {
            ("logout", true) => self.shared.logins.log_out(request),
            ("login-url", false) => self.shared.logins.login_url(request),
            _ => request.refuse(DefinedCondition::BadRequest, "logout is set, login-url is got"),
        };
        self.shared.refused.count(Refused::Login, u64::from(matches!(answer, Iq::Error { .. })));
        answer
    }
}
