//! Visitors of a conference: they are in rooms of their own, on visitor nodes, and have sessions that only receive
//! (docs/protocol/focus.md 8.8).

use std::time::Duration;

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::MucUser;
use xmpp_parsers::presence::Presence;

use super::member::{Helper, Member, Stage, only_watches};
use super::reply::{NICK, Reply, conference_answer};
use super::state::{BRIDGE_OWNER, Conference, wait};
use super::visitor_rooms::{Progress, VisitorRoom};
use crate::focus::context::{Context, Shared};
use crate::focus::limits::{MAX_NICK, MAX_VISITORS, NODE_JOIN, NODE_LOST, Refused};
use crate::focus::requests::{Pending, Question};
use crate::focus::visitors::{Bearer, Invited, NodeId, codecs_of};
use crate::focus::xml::{build, escaped};
use crate::xmpp::iq::Request;
use crate::xmpp::muc::{MucRoom, whois_anyone};

/// Namespace of what is sent to the component of visitors.
const VISITORS: &str = "jitsi:visitors";

/// Changed codecs are announced to the room at most this often: visitors see nothing until participants send what they understand.
const CODECS_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a client can be a visitor, and whether it wants to.
pub(in super::super) fn visitor_wish(request: &Request) -> (bool, bool) {
    let property = |name: &str| request.payload.children().find(|child| child.attr("name") == Some(name));
    let wanted = property("visitor").is_some_and(|property| property.attr("value") == Some("true"));
    (property("visitors-version").is_some(), wanted)
}

/// Who asks for a meeting that is not live waits until it is.
pub(in super::super) fn not_live(shared: &Shared, request: &Request, room: &BareJid) -> Iq {
    conference_answer(shared, request, room, (Reply::NotLive, false))
}

impl Conference {
    /// How many visitors it has.
    pub fn visitors(&self) -> usize {
        self.visitors.count
    }

    /// How many are in the main room.
    pub(super) fn in_main_room(&self) -> usize {
        let on_nodes: usize = self.visitors.rooms.values().map(|room| room.present).sum();
        debug_assert_eq!(on_nodes, self.members.values().filter(|member| member.node().is_some()).count());
        self.members.len().saturating_sub(on_nodes)
    }

    /// Whether visitors are let in before they are allowed for.
    pub fn is_live(&self) -> bool {
        self.metadata.is_live()
    }

    /// Whether somebody of that nickname, if there is one, is in that room.
    pub fn lives_in(&self, nick: &str, room: &BareJid) -> bool {
        let Some(member) = self.members.get(nick) else { return true };
        match member.node() {
            None => *room == self.room,
            Some(node) => self.visitors.room(node) == Some(room),
        }
    }

    /// Whether the room may have visitors, as far as is known.
    fn supports_visitors(&self, cx: &Context<'_>) -> bool {
        let required = cx.visitor_nodes.settings().is_some_and(|settings| settings.require_room_flag);
        cx.has_visitors() && (!required || self.metadata.visitors_enabled() == Some(true))
    }

    /// Answers a request for the conference, whose room is ready; `None` when the answer comes later.
    pub(in super::super) fn admit(&mut self, cx: &mut Context<'_>, request: &Request) -> Option<Iq> {
        let supports = self.supports_visitors(cx);
        let to_main = |cx: &Context<'_>, room: &BareJid| conference_answer(cx, request, room, (Reply::Ready, supports));
        let Some(live_room) = cx.visitor_nodes.settings().map(|settings| settings.live_room) else {
            return Some(to_main(cx, &self.room));
        };
        let (supported, wanted) = visitor_wish(request);
        let bearer = request.payload.attr("token").map(Bearer::read).unwrap_or_default();
        let preferred = self.metadata.prefers(&bearer);
        let allowed = preferred || !self.metadata.lists_participants();
        if live_room && supported && !allowed && !self.metadata.is_live() {
            cx.refused.count(Refused::NotLive, 1);
            return Some(conference_answer(cx, request, &self.room, (Reply::NotLive, supports)));
        }
        let may = supported && cx.has_visitors() && (wanted || !preferred);
        if may && self.redirects(cx, wanted || !allowed) {
            return self.send_to_node(cx, request);
        }
        Some(to_main(cx, &self.room))
    }

    /// Whether who asks becomes a visitor; `wanted` where it wants to, or has to.
    fn redirects(&self, cx: &Context<'_>, wanted: bool) -> bool {
        let Some(settings) = cx.visitor_nodes.settings() else { return false };
        let enabled = self.metadata.visitors_enabled();
        // A lobby and visitors do not go together, and breakout rooms have none.
        let out_of_question = self.metadata.has_lobby()
            || enabled == Some(false)
            || (settings.require_room_flag && enabled != Some(true))
            || self.room.domain() != cx.settings.conference_muc.domain();
        if out_of_question {
            return false;
        }
        let limit = self.metadata.participants_soft_limit().unwrap_or(settings.max_participants);
        let is_helper =
            |member: &Member| matches!(member.helper(&cx.helpers), Some(Helper::Recorder | Helper::Transcriber));
        let participants = || self.members.values().filter(|m| m.node().is_none() && !is_helper(m)).count();
        wanted || !self.visitors.rooms.is_empty() || participants() >= limit
    }

    /// Sends who asks to a visitor node, or to the main room where none takes anybody; `None` when that is known later.
    fn send_to_node(&mut self, cx: &mut Context<'_>, request: &Request) -> Option<Iq> {
        let now = cx.now;
        self.visitors.avoided.retain(|_, until| *until > now);
        let avoided: Vec<NodeId> = self.visitors.avoided.keys().copied().collect();
        let rooms = self.visitors.rooms.iter();
        let used: Vec<(NodeId, usize)> =
            rooms.map(|(node, room)| (*node, room.present + room.invited.count(now))).collect();
        let chosen = cx.visitor_nodes.choose(&used, &avoided);
        let Some((node, there)) = chosen.and_then(|node| Some((node, cx.visitor_nodes.room_on(node, &self.room)?)))
        else {
            cx.refused.count(Refused::NoVisitorNode, 1);
            return Some(conference_answer(cx, request, &self.room, (Reply::Ready, true)));
        };
        let latency = cx.visitor_nodes.settings().map_or(Duration::ZERO, |settings| settings.join_latency);
        let fresh = !self.visitors.rooms.contains_key(&node);
        let room = self.visitors.rooms.entry(node).or_insert_with(|| VisitorRoom {
            room: there,
            progress: Progress::Joining,
            waiting: Vec::new(),
            due: Some(now + NODE_JOIN),
            present: 0,
            invited: Invited::default(),
        });
        if room.progress == Progress::Ready {
            room.invited.add(now, latency);
            return Some(conference_answer(cx, request, &self.room, (Reply::Visitor(node), true)));
        }
        let answered = wait(&mut room.waiting, request);
        if answered.is_none() {
            room.invited.add(now, latency);
        }
        if fresh {
            self.join_node(cx, node);
        }
        let answered = answered?;
        cx.refused.count(Refused::Waiting, 1);
        Some(conference_answer(cx, &answered, &self.room, (Reply::Later, true)))
    }

    fn join_node(&mut self, cx: &mut Context<'_>, node: NodeId) {
        let Some(there) = self.visitors.room(node).cloned() else { return };
        tracing::info!(room = %self.room, visitors = %there, "room of visitors joined");
        if let Ok(mut muc) = MucRoom::new(&there, NICK) {
            cx.send(muc.join(self.visitor_payloads(cx)));
        }
    }

    /// We are in the visitors' room on a node; `open` says that it shows real addresses already.
    pub(in super::super) fn node_entered(&mut self, cx: &mut Context<'_>, node: NodeId, open: bool) {
        let Some(room) = self.visitors.rooms.get_mut(&node) else { return };
        if room.progress != Progress::Joining {
            return;
        }
        room.progress = Progress::Configuring;
        if open {
            return self.node_ready(cx, node);
        }
        let there = room.room.clone();
        if let Iq::Set { payload, .. } = whois_anyone(&there, "room-form") {
            self.ask(cx, &there.to_string(), true, payload, Question::VisitorRoomForm { node });
        }
    }

    /// The visitors' room on a node is as it has to be. Refused settings leave it as its service made it.
    pub(super) fn node_ready(&mut self, cx: &mut Context<'_>, node: NodeId) {
        let Some(room) = self.visitors.rooms.get_mut(&node) else { return };
        if room.progress != Progress::Configuring {
            return;
        }
        (room.progress, room.due) = (Progress::Ready, None);
        let waiting = std::mem::take(&mut room.waiting);
        self.announce_on(cx, node);
        if cx.visitor_nodes.settings().is_some_and(|settings| settings.broadcast) {
            self.tell_component(cx, "connect-vnode", &[node]);
        }
        for request in waiting {
            let answer = conference_answer(cx, &request, &self.room, (Reply::Visitor(node), true));
            cx.send(answer);
        }
        self.invite_missing(cx);
    }

    /// A node does not let us into a room, or takes too long.
    pub(in super::super) fn node_refused(&mut self, cx: &mut Context<'_>, node: NodeId, reason: &str) {
        let refused = |room: &VisitorRoom| room.progress == Progress::Joining;
        if !self.visitors.rooms.get(&node).is_some_and(refused) {
            return;
        }
        let name = cx.visitor_nodes.get(node).map(|node| node.name.clone());
        cx.refused.count(Refused::NodeFailed, 1);
        tracing::error!(room = %self.room, node = name, reason, "the visitors' room cannot be joined; is the focus an admin of \
            the MUC service there?");
        self.visitors.avoided.insert(node, cx.now + NODE_LOST);
        self.give_up_node(cx, node, true);
    }

    /// The visitors' room on a node does not exist any more, or we were put out of it.
    pub(in super::super) fn node_room_gone(&mut self, cx: &mut Context<'_>, node: NodeId) {
        tracing::info!(room = %self.room, visitors = ?self.visitors.room(node), "the visitors' room is gone");
        self.give_up_node(cx, node, false);
    }

    /// The connection with a node is back; if its session did not survive, the rooms there are to be entered anew.
    pub(in super::super) fn node_came(&mut self, cx: &mut Context<'_>, node: NodeId, resumed: bool) {
        let Some(room) = self.visitors.rooms.get_mut(&node) else { return };
        if resumed {
            room.due = (room.progress != Progress::Ready).then(|| cx.now + NODE_JOIN);
            return;
        }
        let wanted = room.present > 0 || !room.waiting.is_empty();
        self.forget_visitors(cx, node);
        self.tell_component(cx, "disconnect-vnode", &[node]);
        if !wanted {
            self.visitors.rooms.remove(&node);
            return;
        }
        if let Some(room) = self.visitors.rooms.get_mut(&node) {
            (room.progress, room.due) = (Progress::Joining, Some(cx.now + NODE_JOIN));
        }
        self.join_node(cx, node);
    }

    /// The connection with a node is gone. Media goes on; it is given some time to come back.
    pub(in super::super) fn node_went(&mut self, cx: &mut Context<'_>, node: NodeId) {
        if let Some(room) = self.visitors.rooms.get_mut(&node) {
            room.due = Some(cx.now + NODE_LOST);
        }
    }

    /// Gives up the room on a node, with its visitors. Who waits for it is sent elsewhere.
    fn give_up_node(&mut self, cx: &mut Context<'_>, node: NodeId, leave: bool) {
        self.forget_visitors(cx, node);
        let Some(room) = self.visitors.rooms.remove(&node) else { return };
        if room.progress == Progress::Ready {
            self.tell_component(cx, "disconnect-vnode", &[node]);
        }
        if leave && let Ok(mut muc) = MucRoom::new(&room.room, NICK) {
            cx.send(muc.leave());
        }
        for request in room.waiting {
            if let Some(answer) = self.send_to_node(cx, &request) {
                cx.send(answer);
            }
        }
    }

    fn forget_visitors(&mut self, cx: &mut Context<'_>, node: NodeId) {
        let gone: Vec<String> =
            self.members.iter().filter(|(_, m)| m.node() == Some(node)).map(|(nick, _)| nick.clone()).collect();
        for nick in gone {
            self.member_left(cx, &nick);
        }
    }

    /// Leaves all visitors' rooms; what the server connects with them is taken apart first.
    pub(in super::super) fn leave_nodes(&mut self, cx: &mut Context<'_>) {
        let nodes: Vec<NodeId> = self.visitors.rooms.keys().copied().collect();
        self.tell_component(cx, "disconnect-vnode", &nodes);
        for (node, room) in std::mem::take(&mut self.visitors.rooms) {
            cx.visitor_nodes.visitors_left(node, room.present);
            for request in room.waiting {
                let answer = conference_answer(cx, &request, &self.room, (Reply::Later, true));
                cx.send(answer);
            }
            if let Ok(mut muc) = MucRoom::new(&room.room, NICK) {
                cx.send(muc.leave());
            }
        }
    }

    /// Informs the component of visitors about nodes of this room.
    fn tell_component(&self, cx: &mut Context<'_>, what: &str, nodes: &[NodeId]) {
        let named = nodes.iter().filter_map(|node| cx.visitor_nodes.get(*node));
        let children: String = named.map(|node| format!("<{what} vnode='{}'/>", escaped(&node.name))).collect();
        let Some(to) = cx.components.visitors().map(ToString::to_string).filter(|_| !children.is_empty()) else {
            return;
        };
        let xml =
            format!("<visitors xmlns='{VISITORS}' room='{}'>{children}</visitors>", escaped(&self.room.to_string()));
        let Some(payload) = build(&xml) else { return };
        let pending = Pending::InConference { room: self.room.clone(), what: Question::VisitorNodes };
        cx.request(&to, false, payload, pending);
    }

    /// A visitor came to a room on a node, or its presence changed. Others there are the participants, shown to it.
    pub(in super::super) fn visitor_seen(
        &mut self,
        cx: &mut Context<'_>,
        node: NodeId,
        nick: &str,
        presence: &Presence,
        user: &MucUser,
    ) {
        if !self.visitors.rooms.contains_key(&node) || !user.items.first().is_some_and(only_watches) {
            return;
        }
        let new = !self.members.contains_key(nick);
        let somebody_else = self.members.get(nick).is_some_and(|member| member.node() != Some(node));
        let unfit = nick.len() > MAX_NICK || nick == BRIDGE_OWNER || nick == NICK;
        if somebody_else || (new && (unfit || self.visitors() >= MAX_VISITORS)) {
            cx.refused.count(Refused::Visitor, 1);
            return;
        }
        self.seen_watching(cx, nick, Some(node), (presence, user));
    }

    /// Somebody who only watches is in the main room, or on a node.
    pub(super) fn seen_watching(
        &mut self,
        cx: &mut Context<'_>,
        nick: &str,
        node: Option<NodeId>,
        (presence, user): (&Presence, &MucUser),
    ) {
        cx.arrivals += 1;
        let arrival = cx.arrivals;
        let new = !self.members.contains_key(nick);
        let codecs = || codecs_of(&presence.payloads);
        let member = self.members.entry(nick.to_owned()).or_insert_with(|| Member::visitor(arrival, node, codecs()));
        let too_long = member.seen(presence, user);
        cx.refused.count(Refused::PresencePart, too_long);
        if !new {
            return;
        }
        if let Some(codecs) = member.codecs() {
            self.visitors.codecs.add(codecs);
        }
        if let Some((node, room)) = node.and_then(|node| Some((node, self.visitors.rooms.get_mut(&node)?))) {
            room.present += 1;
            room.invited.arrived(cx.now);
            cx.visitor_nodes.visitor_came(node);
        }
        self.visitors.count += 1;
        cx.totals.participants += 1;
        self.initial_deadline = None;
        tracing::debug!(room = %self.room, endpoint = nick, "visitor joined");
        self.visitors_changed(cx);
        match !self.nodes.is_empty() {
            // The others are invited already: thousands are not to be gone through for each newcomer.
            true => {
                self.invite(cx, nick);
            }
            false => self.invite_missing(cx),
        }
    }

    /// A visitor left its room on a node.
    pub(in super::super) fn visitor_left(&mut self, cx: &mut Context<'_>, node: NodeId, nick: &str) {
        if self.members.get(nick).is_some_and(|member| member.node() == Some(node)) {
            self.member_left(cx, nick);
        }
    }

    /// Records that a member is gone, if it was a visitor.
    pub(super) fn visitor_gone(&mut self, cx: &mut Context<'_>, member: &Member) {
        if !member.is_visitor() {
            return;
        }
        self.visitors.count = self.visitors.count.saturating_sub(1);
        if let Some(codecs) = member.codecs() {
            self.visitors.codecs.remove(codecs);
        }
        if let Some((node, room)) = member.node().and_then(|node| Some((node, self.visitors.rooms.get_mut(&node)?))) {
            room.present = room.present.saturating_sub(1);
            cx.visitor_nodes.visitors_left(node, 1);
        }
        if self.members.is_empty() {
            // Nobody came to the main room yet, and further visitors may be on their way.
            self.initial_deadline = Some(cx.now + cx.settings.initial_timeout);
        }
        self.visitors_changed(cx);
    }

    /// Somebody came to the main room with the nickname of a visitor: the name is its, where participants are.
    pub(in super::super) fn displace_visitor(&mut self, cx: &mut Context<'_>, nick: &str) {
        cx.refused.count(Refused::Visitor, 1);
        let sid = self.members.get(nick).map(|member| member.sid().to_owned()).unwrap_or_default();
        self.terminate(cx, nick, &sid, "gone", "the nickname is a participant's now");
        self.member_left(cx, nick);
    }

    /// Ends the sessions of visitors where the conference has no bridge any more.
    pub(super) fn suspend_visitors(&mut self, cx: &mut Context<'_>) {
        let nicks: Vec<String> =
            self.members.iter().filter(|(_, m)| m.is_visitor() && m.has_endpoint()).map(|(n, _)| n.clone()).collect();
        for nick in nicks {
            let sid = self.end_session(cx, &nick, Stage::Idle);
            self.terminate(cx, &nick, &sid, "success", "moving");
        }
    }

    /// Announces to the rooms how many visitors there are, now or when it is time.
    fn visitors_changed(&mut self, cx: &mut Context<'_>) {
        let interval = cx.visitor_nodes.settings().map_or(Duration::ZERO, |settings| settings.notification_interval);
        let codecs = self.visitors.codecs.common();
        let others = self.visitors.announced.as_ref().is_some_and(|(_, announced)| *announced != codecs);
        let interval = if others { interval.min(CODECS_INTERVAL) } else { interval };
        match self.visitors.announced_at.map(|at| at + interval).filter(|due| *due > cx.now) {
            Some(due) => self.visitors.tell_due = Some(self.visitors.tell_due.map_or(due, |old| old.min(due))),
            None => self.tell_visitors(cx),
        }
    }

    fn tell_visitors(&mut self, cx: &mut Context<'_>) {
        self.visitors.tell_due = None;
        let now = Some((self.visitors(), self.visitors.codecs.common()));
        if self.visitors.announced != now {
            (self.visitors.announced, self.visitors.announced_at) = (now, Some(cx.now));
            if self.is_ready() {
                self.announce(cx);
            }
        }
    }

    /// Does what is due about visitors.
    pub(super) fn visitors_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        if self.visitors.tell_due.is_some_and(|due| due <= now) {
            self.tell_visitors(cx);
        }
        let late = self.visitors.rooms.iter().filter(|(_, room)| room.due.is_some_and(|due| due <= now));
        for node in late.map(|(node, _)| *node).collect::<Vec<_>>() {
            let name = cx.visitor_nodes.get(node).map(|node| node.name.clone());
            let online = cx.visitor_nodes.is_online(node);
            tracing::error!(room = %self.room, node = name, online, "the visitor node does not answer; its visitors are lost");
            cx.refused.count(Refused::NodeFailed, 1);
            self.visitors.avoided.insert(node, now + NODE_LOST);
            self.give_up_node(cx, node, true);
        }
    }

    /// What our presence in visitors' rooms says.
    fn visitor_payloads(&self, cx: &Context<'_>) -> Vec<Element> {
        // The etherpad is the participants'.
        self.own_payloads(cx).into_iter().filter(|payload| payload.name() != "etherpad").collect()
    }

    /// Announces to the visitors' room on a node what changed.
    fn announce_on(&self, cx: &mut Context<'_>, node: NodeId) {
        if let Some(Ok(muc)) = self.visitors.room(node).map(|room| MucRoom::new(room, NICK)) {
            let presence = muc.update(self.visitor_payloads(cx));
            cx.send(presence);
        }
    }

    /// The same of all.
    pub(super) fn announce_to_visitors(&self, cx: &mut Context<'_>) {
        let ready = self.visitors.rooms.iter().filter(|(_, room)| room.progress == Progress::Ready);
        for node in ready.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.announce_on(cx, node);
        }
    }
}
