//! Multi-user chat as bridges and the focus use it (XEP-0045): join, leave, who is there.

use std::collections::{BTreeMap, HashMap};

use tokio_xmpp::jid::{BareJid, FullJid, Jid, ResourcePart};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field, FieldType};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::user::{Affiliation, Role, Status};
use xmpp_parsers::muc::{Muc, MucUser, muc::History};
use xmpp_parsers::ns;
use xmpp_parsers::presence::{Presence, Type};

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Occupant {
    /// The address behind the nickname, where the room shows it.
    pub real_jid: Option<FullJid>,
    /// Standing in the room.
    pub affiliation: Affiliation,
    /// Role in this session.
    pub role: Role,
}

/// What a presence changed.
#[derive(Debug, Clone, PartialEq)]
pub enum MucChange {
    /// We are in; `created` when the room did not exist.
    Entered {
        /// Whether our join created the room.
        created: bool,
    },
    /// We are out.
    Left,
    /// The join was refused, or the room reported another error.
    Refused {
        /// The condition, e.g. `conflict`.
        condition: String,
    },
    /// Somebody came.
    OccupantJoined(String),
    /// Somebody's presence changed.
    OccupantChanged(String),
    /// Somebody left.
    OccupantLeft(String),
}

/// Occupants as another process needs them: nicknames, and addresses where the room shows them (XEP-0045 section 7.2.3).
mod addresses {
    use super::*;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes them.
    pub fn serialize<S: Serializer>(occupants: &HashMap<String, Occupant>, serializer: S) -> Result<S::Ok, S::Error> {
        let all: BTreeMap<_, _> = occupants.iter().map(|(nick, occupant)| (nick, &occupant.real_jid)).collect();
        all.serialize(serializer)
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashMap<String, Occupant>, D::Error> {
        let all = BTreeMap::<String, Option<FullJid>>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|(nick, real_jid)| (nick, Occupant::of_another_process(real_jid))).collect())
    }
}

impl Occupant {
    /// Of whom only the address is known.
    fn of_another_process(real_jid: Option<FullJid>) -> Self {
        Self { real_jid, affiliation: Affiliation::None, role: Role::Participant }
    }
}

/// One room that we are in or want to be in.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct MucRoom {
    /// Our address in the room.
    me: FullJid,
    /// Others by nickname.
    #[serde(with = "addresses")]
    occupants: HashMap<String, Occupant>,
    /// Whether we are in.
    joined: bool,
}

impl MucRoom {
    /// A room to be joined as `nick`.
    pub fn new(room: &BareJid, nick: &str) -> Result<Self, tokio_xmpp::jid::Error> {
        let nick = ResourcePart::new(nick)?;
        Ok(Self { me: room.with_resource(&nick), occupants: HashMap::new(), joined: false })
    }

    /// Our nickname.
    pub fn nickname(&self) -> &str {
        self.me.resource().as_str()
    }

    /// Whether we are in.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Others by nickname.
    pub fn occupants(&self) -> &HashMap<String, Occupant> {
        &self.occupants
    }

    /// Keeps nothing of an occupant until the room announces it again.
    pub fn forget(&mut self, nick: &str) {
        self.occupants.remove(nick);
    }

    /// The room.
    pub fn room(&self) -> BareJid {
        self.me.to_bare()
    }

    /// The presence that joins; `payloads` are announced with it. The `<x/>` belongs into this one only.
    pub fn join(&mut self, payloads: Vec<Element>) -> Presence {
        self.reset();
        self.look_again(payloads)
    }

    /// A presence that replaces the announced payloads.
    pub fn update(&self, payloads: Vec<Element>) -> Presence {
        let mut presence = Presence::new(Type::None);
        presence.to = Some(Jid::from(self.me.clone()));
        presence.payloads = payloads;
        presence
    }

    /// The presence that makes the room announce everybody again: a join of somebody who is in.
    pub fn look_again(&self, payloads: Vec<Element>) -> Presence {
        let mut presence = self.update(payloads);
        presence.payloads.push(Muc::new().with_history(History::new().with_maxstanzas(0)).into());
        presence
    }

    /// The presence that leaves.
    pub fn leave(&mut self) -> Presence {
        self.reset();
        let mut presence = Presence::new(Type::Unavailable);
        presence.to = Some(Jid::from(self.me.clone()));
        presence
    }

    /// Forgets who is there: the connection was lost.
    pub fn reset(&mut self) {
        self.joined = false;
        self.occupants.clear();
    }

    /// Goes on where another process was: who is in is not announced again. Of others only the addresses are known.
    pub fn take_over(&mut self, joined: bool, occupants: impl Iterator<Item = (String, Option<FullJid>)>) {
        self.joined = joined;
        self.occupants = occupants.map(|(nick, real_jid)| (nick, Occupant::of_another_process(real_jid))).collect();
    }

    /// Takes a presence; `None` when it is not from this room.
    pub fn handle(&mut self, presence: &Presence) -> Option<MucChange> {
        let from = presence.from.as_ref()?;
        if from.to_bare() != self.room() {
            return None;
        }
        if presence.type_ == Type::Error {
            let condition = presence
                .payloads
                .iter()
                .find(|e| e.name() == "error")
                .and_then(|e| e.children().find(|c| c.has_ns(ns::XMPP_STANZAS) && c.name() != "text"))
                .map_or_else(|| "undefined-condition".to_owned(), |e| e.name().to_owned());
            return Some(MucChange::Refused { condition });
        }
        let nick = from.resource()?.as_str().to_owned();
        let user = presence
            .payloads
            .iter()
            .find(|e| e.is("x", ns::MUC_USER))
            .and_then(|e| MucUser::try_from(e.clone()).ok())
            .unwrap_or_default();
        let me = user.status.contains(&Status::SelfPresence) || nick == self.me.resource().as_str();
        let gone = presence.type_ == Type::Unavailable;
        if me {
            if gone {
                self.reset();
                return Some(MucChange::Left);
            }
            if self.joined {
                return Some(MucChange::OccupantChanged(nick));
            }
            self.joined = true;
            return Some(MucChange::Entered { created: user.status.contains(&Status::RoomHasBeenCreated) });
        }
        if gone {
            self.occupants.remove(&nick);
            return Some(MucChange::OccupantLeft(nick));
        }
        let item = user.items.into_iter().next();
        let occupant = Occupant {
            real_jid: item.as_ref().and_then(|i| i.jid.clone()),
            affiliation: item.as_ref().map_or(Affiliation::None, |i| i.affiliation.clone()),
            role: item.as_ref().map_or(Role::None, |i| i.role.clone()),
        };
        match self.occupants.insert(nick.clone(), occupant) {
            None => Some(MucChange::OccupantJoined(nick)),
            Some(_) => Some(MucChange::OccupantChanged(nick)),
        }
    }
}

/// Makes real addresses visible to everyone in a room that we own.
pub fn whois_anyone(room: &BareJid, id: &str) -> Iq {
    let form = DataForm {
        type_: DataFormType::Submit,
        title: None,
        instructions: None,
        fields: vec![
            field("FORM_TYPE", FieldType::Hidden, "http://jabber.org/protocol/muc#roomconfig"),
            field("muc#roomconfig_whois", FieldType::ListSingle, "anyone"),
        ],
    };
    let query = Element::builder("query", MUC_OWNER).append(Element::from(form)).build();
    Iq::Set { from: None, to: Some(Jid::from(room.clone())), id: id.to_owned(), payload: query }
}

const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";

fn field(var: &str, kind: FieldType, value: &str) -> Field {
    Field::new(var, kind).with_value(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(xml: &str) -> Presence {
        Presence::try_from(xml.parse::<Element>().unwrap()).unwrap()
    }

    #[test]
    fn tracks_occupants() {
        let mut room = MucRoom::new(&"brewery@internal.x".parse().unwrap(), "jvb1").unwrap();
        let join = room.join(Vec::new());
        assert!(join.payloads.iter().any(|e| e.is("x", ns::MUC)));
        let focus = presence(
            "<presence xmlns='jabber:client' from='brewery@internal.x/focus'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='moderator' affiliation='owner' jid='focus@auth.x/focus'/></x></presence>",
        );
        assert_eq!(room.handle(&focus), Some(MucChange::OccupantJoined("focus".to_owned())));
        let real = room.occupants()["focus"].real_jid.as_ref().map(ToString::to_string);
        assert_eq!(real.as_deref(), Some("focus@auth.x/focus"));
        assert_eq!(room.handle(&focus), Some(MucChange::OccupantChanged("focus".to_owned())));
        let me = presence(
            "<presence xmlns='jabber:client' from='brewery@internal.x/jvb1'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='moderator' affiliation='owner'/><status code='201'/><status code='110'/></x></presence>",
        );
        assert_eq!(room.handle(&me), Some(MucChange::Entered { created: true }));
        assert!(room.is_joined());
        let left = presence("<presence xmlns='jabber:client' type='unavailable' from='brewery@internal.x/focus'/>");
        assert_eq!(room.handle(&left), Some(MucChange::OccupantLeft("focus".to_owned())));
        let foreign = presence("<presence xmlns='jabber:client' from='other@internal.x/focus'/>");
        assert_eq!(room.handle(&foreign), None);
        let refused = presence(
            "<presence xmlns='jabber:client' type='error' from='brewery@internal.x/jvb1'><error type='cancel'>\
             <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>",
        );
        assert_eq!(room.handle(&refused), Some(MucChange::Refused { condition: "conflict".to_owned() }));
    }
}
