//! Under which id a conference is on its bridge: the room's own, as its service publishes it (`muc#roominfo_meetingId`,
//! docs/protocol/focus.md 3.1), so that logs and statistics of all parts match; a random one where that cannot be.

use std::time::{Duration, Instant};

use jid::BareJid;
use tokio_xmpp::minidom::Element;

use crate::focus::limits::MAX_MEETING_ID;

const DATA_FORMS: &str = "jabber:x:data";
const ROOM_INFO: &str = "http://jabber.org/protocol/muc#roominfo";
const MEETING_ID: &str = "muc#roominfo_meetingId";
const PRESETS: &str = "muc#roominfo_conference_presets_service_enabled";
const IS_BREAKOUT: &str = "muc#roominfo_isbreakout";
const MAIN_ROOM: &str = "muc#roominfo_breakout_main_room";

/// A bridge may take so long to forget a conference whose end was signalled.
const FORGETS: Duration = Duration::from_secs(10);

/// The room's meeting id and where it cannot be used.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct MeetingId {
    /// As the room's service publishes it.
    pub(super) room: Option<String>,
    /// The bridge that had it last, and when that ended.
    #[serde(with = "crate::carried")]
    ended: Option<(String, Instant)>,
    /// A bridge said that it has a conference of this id.
    taken: bool,
}

impl MeetingId {
    /// The conference ended on a bridge.
    pub fn ended(&mut self, bridge: String, now: Instant) {
        self.ended = Some((bridge, now));
    }

    /// A bridge has another conference of this id, or does not say so any more.
    pub fn set_taken(&mut self, taken: bool) {
        self.taken = taken;
    }

    /// The room's own id, if that bridge has nothing of that id any more.
    pub fn usable_on(&self, bridge: &str, now: Instant) -> Option<&String> {
        let lately =
            |(former, at): &(String, Instant)| former == bridge && now.saturating_duration_since(*at) < FORGETS;
        let free = !self.taken && !self.ended.as_ref().is_some_and(lately);
        self.room.as_ref().filter(|_| free)
    }
}

/// A field of the room's form in an answer to disco#info.
fn room_info(query: &Element, name: &str) -> Option<String> {
    let value = |form: &Element, name: &str| {
        let field = form.children().find(|field| field.is("field", DATA_FORMS) && field.attr("var") == Some(name))?;
        field.get_child("value", DATA_FORMS).map(Element::text)
    };
    let form = query
        .children()
        .find(|form| form.is("x", DATA_FORMS) && value(form, "FORM_TYPE").as_deref() == Some(ROOM_INFO))?;
    value(form, name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What an answer to disco#info says; nothing when it says nothing of it.
pub(super) fn id_in(query: &Element) -> Option<String> {
    room_info(query, MEETING_ID)
}

/// The room that a breakout room belongs to, as an answer to disco#info says.
pub(super) fn main_room_in(query: &Element) -> Option<BareJid> {
    let is_breakout = room_info(query, IS_BREAKOUT).is_some_and(|text| text == "1" || text == "true");
    room_info(query, MAIN_ROOM).filter(|_| is_breakout)?.parse().ok()
}

/// Whether an id may go into log lines, addresses and statistics as it is.
pub(super) fn is_sound(id: &str) -> bool {
    id.len() <= MAX_MEETING_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:@_-".contains(&byte))
}

/// Whether an answer to disco#info says that a room is to wait for its first metadata.
pub(super) fn promises_metadata(query: &Element) -> bool {
    room_info(query, PRESETS).is_some_and(|text| text == "1" || text == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(form_type: &str, fields: &str) -> Element {
        let xml = format!(
            "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='conference' type='text'/>\
             <x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>{form_type}</value></field>\
             {fields}</x></query>"
        );
        xml.parse().expect("XML")
    }

    #[test]
    fn only_the_rooms_form_counts() {
        let field =
            "<field var='muc#roominfo_meetingId'><value> 6f0d1c5e-0b1a-4c7e-9d57-b6a1a3ce9f00\n</value></field>";
        assert_eq!(id_in(&query(ROOM_INFO, field)).as_deref(), Some("6f0d1c5e-0b1a-4c7e-9d57-b6a1a3ce9f00"));
        assert_eq!(id_in(&query("urn:xmpp:other", field)), None);
        for nothing in
            ["", "<field var='muc#roominfo_meetingId'/>", "<field var='muc#roominfo_meetingId'><value/></field>"]
        {
            assert_eq!(id_in(&query(ROOM_INFO, nothing)), None, "{nothing}");
        }
        assert_eq!(id_in(&"<query xmlns='http://jabber.org/protocol/disco#info'/>".parse().expect("XML")), None);
    }

    #[test]
    fn a_breakout_room_names_its_main_room() {
        let field =
            |name: &str, value: &str| format!("<field var='muc#roominfo_{name}'><value>{value}</value></field>");
        let main = |is: &str, main: &str| {
            let fields = field("isbreakout", is) + &field("breakout_main_room", main);
            main_room_in(&query(ROOM_INFO, &fields)).map(|room| room.to_string())
        };
        assert_eq!(main("1", "main@conference.x").as_deref(), Some("main@conference.x"));
        assert_eq!(main("true", "main@conference.x").as_deref(), Some("main@conference.x"));
        for (is, room) in
            [("0", "main@conference.x"), ("", "main@conference.x"), ("1", ""), ("1", "a b@c"), ("1", "a@b/c")]
        {
            assert_eq!(main(is, room), None, "{is} {room}");
        }
        assert_eq!(main_room_in(&query(ROOM_INFO, &field("breakout_main_room", "main@conference.x"))), None);
    }

    #[test]
    fn ids_are_bounded_and_plain() {
        assert!(is_sound("6f0d1c5e-0b1a-4c7e-9d57-b6a1a3ce9f00") && is_sound("room:42@2026.example_net"));
        for id in ["a b", "x\u{202e}y", "a/b", "a'b", "a\nb", "\u{e4}", "a%20", "{}", &"x".repeat(MAX_MEETING_ID + 1)] {
            assert!(!is_sound(id), "{id:?}");
        }
    }

    #[test]
    fn a_bridge_that_just_had_it_gets_another() {
        let now = Instant::now();
        let mut meeting = MeetingId { room: Some("m".to_owned()), ..MeetingId::default() };
        let usable = |meeting: &MeetingId, bridge, at| meeting.usable_on(bridge, at).is_some();
        assert!(usable(&meeting, "jvb1", now));
        meeting.ended("jvb1".to_owned(), now);
        assert!(!usable(&meeting, "jvb1", now + Duration::from_secs(9)) && usable(&meeting, "jvb2", now));
        assert!(usable(&meeting, "jvb1", now + FORGETS));
        meeting.set_taken(true);
        assert!(!usable(&meeting, "jvb2", now));
    }
}
