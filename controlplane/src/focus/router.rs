//! IQs to the focus: which part answers which request, and the small ones right here.

use std::time::Instant;

use jid::Jid;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::dial::RAYO;
use super::json_message::Medium;
use super::limits::Refused;
use super::recording::JIBRI;
use super::service::{Focus, occupant};
use super::xml::build;
use crate::jingle::{Jingle, ns};
use crate::xmpp::iq::Request;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";

impl Focus {
    /// Everything that is asked of the focus.
    pub(super) fn serve(&mut self, now: Instant, request: &Request) -> Option<Iq> {
        let payload = &request.payload;
        let (name, namespace) = (payload.name(), payload.ns());
        if !self.is_for_visitors(request) {
            if (name, namespace.as_str()) == ("dial", RAYO) {
                self.shared.refused.count(Refused::Dial, 1);
                return Some(request.refuse(DefinedCondition::Forbidden, "visitors call nobody"));
            }
            self.shared.refused.count(Refused::Unserved, 1);
            return Some(request.refuse(DefinedCondition::ServiceUnavailable, ""));
        }
        match (name, namespace.as_str()) {
            ("conference", ns::FOCUS) => self.conference_request(now, request),
            ("jingle", ns::JINGLE) => Some(self.jingle_request(now, request)),
            (
                "mute",
                "http://jitsi.org/jitmeet/audio"
                | "http://jitsi.org/jitmeet/video"
                | "http://jitsi.org/jitmeet/desktop",
            ) => {
                let answer = self.mute(now, request);
                self.shared.refused.count(Refused::Mute, u64::from(matches!(answer, Iq::Error { .. })));
                Some(answer)
            }
            ("logout" | "login-url", ns::FOCUS) if self.shared.logins.are_required() => {
                Some(self.login_request(request))
            }
            ("dial", RAYO) => self.dial_request(now, request),
            ("jibri", JIBRI) => self.jibri_request(now, request),
            ("ping", "urn:xmpp:ping") if !request.set => Some(request.result(None)),
            ("query", "jabber:iq:version") if !request.set => {
                let version = env!("CARGO_PKG_VERSION");
                Some(request.result(build(&format!(
                    "<query xmlns='jabber:iq:version'><name>ringbridge focus</name><version>{version}</version></query>"
                ))))
            }
            ("query", DISCO_INFO) if !request.set => Some(request.result(build(&format!(
                "<query xmlns='{DISCO_INFO}'><identity category='component' type='generic' name='focus'/>\
                 <feature var='{DISCO_INFO}'/><feature var='urn:xmpp:ping'/><feature var='jabber:iq:version'/>\
                 <feature var='https://jitsi.org/meet/jicofo/terminate-restart'/></query>"
            )))),
            _ => {
                self.shared.refused.count(Refused::Unserved, 1);
                Some(request.refuse(DefinedCondition::ServiceUnavailable, ""))
            }
        }
    }

    /// Mutes a participant (docs/protocol/focus.md 8.1).
    fn mute(&mut self, now: Instant, request: &Request) -> Iq {
        let Some(medium) = Medium::from_namespace(&request.payload.ns()) else {
            return request.refuse(DefinedCondition::BadRequest, "only audio, video and desktop can be muted");
        };
        let on = match request.payload.text().trim() {
            "true" => true,
            "false" => false,
            _ => return request.refuse(DefinedCondition::BadRequest, "the text has to be true or false"),
        };
        let Some((room, muter)) = self.asker(request) else {
            return request.refuse(DefinedCondition::BadRequest, "only occupants of a room can mute");
        };
        let Some(target) = request.payload.attr("jid").and_then(|jid| jid.parse::<Jid>().ok()) else {
            return request.refuse(DefinedCondition::BadRequest, "the jid attribute is missing or not an address");
        };
        let Some((conference, mut cx)) = self.conference(now, &room) else {
            return request.refuse(DefinedCondition::ItemNotFound, "no such conference");
        };
        let target = occupant(&target).filter(|(other, _)| *other == room).map(|(_, nick)| nick);
        match conference.mute(&mut cx, &muter, target.as_deref(), (medium, on)) {
            Ok(()) => request.result(None),
            Err((condition, text)) => request.refuse(condition, &text),
        }
    }

    /// A Jingle IQ of a client (docs/protocol/focus.md 5.1).
    fn jingle_request(&mut self, now: Instant, request: &Request) -> Iq {
        let Some((room, nick)) = self.asker(request) else {
            self.shared.refused.count(Refused::Jingle, 1);
            return request.refuse(DefinedCondition::BadRequest, "only occupants of a room have sessions");
        };
        let jingle = match Jingle::try_from(request.payload.clone()) {
            Ok(jingle) => jingle,
            Err(error) => return request.refuse(DefinedCondition::BadRequest, &error.to_string()),
        };
        let Some((conference, mut cx)) = self.conference(now, &room) else {
            self.shared.refused.count(Refused::Jingle, 1);
            return request.refuse(DefinedCondition::ItemNotFound, "no such conference");
        };
        match conference.jingle(&mut cx, &nick, &jingle) {
            Ok(()) => request.result(None),
            Err((condition, text)) => request.refuse(condition, &text),
        }
    }
}
