//! Visitor nodes: what comes from them, and when they come and go. Their servers are the operator's, but who speaks there may
//! speak only of the rooms there.

use std::time::Instant;

use jid::BareJid;
use tokio_xmpp::Stanza;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::user::Status;
use xmpp_parsers::presence::{Presence, Type};

use super::conference::NICK;
use super::limits::Refused;
use super::service::{Focus, NodeEvent, muc_user, occupant};
use super::settings::VisitorNode;
use super::visitors::NodeId;
use crate::xmpp::iq::Request;

impl Focus {
    /// The servers that visitors are sent to.
    pub fn visitor_nodes(&self) -> impl Iterator<Item = (NodeId, &VisitorNode)> {
        self.shared.visitor_nodes.all()
    }

    /// Whether a stanza's sender is of the server that it came from: a visitor node's service, or any other one at our own.
    pub(super) fn is_at_home(&self, stanza: &Stanza, came_from: Option<NodeId>) -> bool {
        let from = match stanza {
            Stanza::Iq(iq) => iq.from(),
            Stanza::Presence(presence) => presence.from.as_ref(),
            Stanza::Message(message) => message.from.as_ref(),
        };
        from.and_then(|from| self.shared.visitor_nodes.of_service(from.domain().as_str())) == came_from
    }

    pub(super) fn node_event(&mut self, now: Instant, node: NodeId, event: NodeEvent) {
        let name = self.shared.visitor_nodes.get(node).map(|node| node.name.clone()).unwrap_or_default();
        match event {
            NodeEvent::Online { resumed } => {
                tracing::info!(node = name, resumed, "visitor node online");
                self.shared.visitor_nodes.set_online(node, true);
                for conference in self.conferences.values_mut() {
                    conference.node_came(&mut self.shared.at(now), node, resumed);
                }
            }
            NodeEvent::Offline => {
                tracing::warn!(node = name, "visitor node offline");
                self.shared.visitor_nodes.set_online(node, false);
                for conference in self.conferences.values_mut() {
                    conference.node_went(&mut self.shared.at(now), node);
                }
            }
            NodeEvent::Stanza(stanza) if !self.is_at_home(&stanza, Some(node)) => {
                self.shared.refused.count(Refused::ForeignNode, 1);
            }
            NodeEvent::Stanza(stanza) => match *stanza {
                Stanza::Presence(presence) => self.visitor_presence(now, node, presence),
                Stanza::Iq(iq) => self.handle_iq(now, iq),
                // What visitors say is none of our business.
                Stanza::Message(_) => {}
            },
        }
    }

    /// The conference whose visitors are in a room of a node.
    fn main_of(&self, room: &BareJid) -> BareJid {
        BareJid::from_parts(room.node(), self.shared.settings.conference_muc.domain())
    }

    /// The conference and the nickname of who asks; nobody where the sender is no occupant, or has the nickname of somebody who
    /// is in another room of the same conference.
    pub(super) fn asker(&self, request: &Request) -> Option<(BareJid, String)> {
        let (room, nick) = request.from.as_ref().and_then(occupant)?;
        let visits = self.shared.visitor_nodes.of_service(room.domain().as_str()).is_some();
        let main = if visits { self.main_of(&room) } else { room.clone() };
        let lives_there = self.conferences.get(&main).is_none_or(|conference| conference.lives_in(&nick, &room));
        lives_there.then_some((main, nick))
    }

    /// What is asked of us on a visitor node; only sessions are to be had there.
    pub(super) fn is_for_visitors(&self, request: &Request) -> bool {
        let visits = request
            .from
            .as_ref()
            .is_some_and(|from| self.shared.visitor_nodes.of_service(from.domain().as_str()).is_some());
        !visits || matches!(request.payload.name(), "jingle" | "mute")
    }

    fn visitor_presence(&mut self, now: Instant, node: NodeId, presence: Presence) {
        let Some((room, nick)) = presence.from.as_ref().and_then(occupant) else { return };
        let main = self.main_of(&room);
        let Some((conference, mut cx)) = self.conference(now, &main) else { return };
        let user = muc_user(&presence);
        let me = nick == NICK || user.status.contains(&Status::SelfPresence);
        match (presence.type_.clone(), me) {
            (Type::Error, true) => {
                let reason = presence.payloads.iter().find(|payload| payload.name() == "error").map(String::from);
                conference.node_refused(&mut cx, node, &reason.unwrap_or_default());
            }
            (Type::Unavailable, true) => conference.node_room_gone(&mut cx, node),
            (Type::None, true) => {
                conference.node_entered(&mut cx, node, user.status.contains(&Status::NonAnonymousRoom));
            }
            (Type::Unavailable, false) => conference.visitor_left(&mut cx, node, &nick),
            (Type::None, false) => conference.visitor_seen(&mut cx, node, &nick, &presence, &user),
            _ => {}
        }
    }

    /// The answer to clients that asked for a meeting which is not live, before anything is begun for them.
    pub(super) fn answer_not_live(&mut self, request: &Request, room: &BareJid) -> Option<Iq> {
        let live_room = self.shared.visitor_nodes.settings().is_some_and(|settings| settings.live_room);
        let live = self.conferences.get(room).is_some_and(|conference| conference.is_live());
        let (supported, wanted) = super::conference::visitor_wish(request);
        (live_room && supported && wanted && !live).then(|| {
            self.shared.refused.count(Refused::NotLive, 1);
            super::conference::not_live(&self.shared, request, room)
        })
    }
}
