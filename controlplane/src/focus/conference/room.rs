//! The room of a conference: our place in it, its members, its owner (docs/protocol/focus.md 2, 3).

use std::time::Duration;

use jid::{BareJid, Jid};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::caps::{compute_disco, hash_caps};
use xmpp_parsers::disco::DiscoInfoResult;
use xmpp_parsers::hashes::Algo;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::MucUser;
use xmpp_parsers::presence::Presence;

use super::meeting_id::{id_in, is_sound, main_room_in, promises_metadata};
use super::member::{Member, only_watches};
use super::reply::{NICK, Reply, conference_answer};
use super::state::{BRIDGE_OWNER, Conference, RoomState};
use crate::focus::context::Context;
use crate::focus::features::Features;
use crate::focus::limits::{MAX_MEETING_ID, MAX_MEMBERS, MAX_NICK, Refused};
use crate::focus::requests::{Answer, Pending, Question};
use crate::focus::source_info::Sending;
use crate::focus::xml::{build, escaped};
use crate::jingle::ns;
use crate::xmpp::muc::{MucRoom, whois_anyone};

const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const ETHERPAD: &str = "http://jitsi.org/jitmeet/etherpad";

impl Conference {
    /// What our presence in a room says (docs/protocol/focus.md 3.2).
    pub(super) fn own_payloads(&self, cx: &Context<'_>) -> Vec<Element> {
        let name = self.room.node().map_or("", |node| node.as_str());
        let enabled =
            if cx.visitor_nodes.settings().is_some() { "<property key='visitors-enabled' value='true'/>" } else { "" };
        let mut payloads = vec![Element::builder("etherpad", ETHERPAD).append(name.to_owned()).build()];
        payloads.extend(build(&format!(
            "<versions xmlns='{}'><component name='focus'>ringbridge {}</component></versions>",
            ns::JITMEET,
            env!("CARGO_PKG_VERSION")
        )));
        let limits = self.senders.properties().map(|(key, full)| format!("<property key='{key}' value='{full}'/>"));
        payloads.extend(build(&format!(
            "<conference-properties xmlns='{}'><property key='support-terminate-restart' value='true'/>\
             <property key='bridge-count' value='{}'/>{}{enabled}{}</conference-properties>",
            ns::FOCUS,
            self.nodes.len(),
            limits.collect::<String>(),
            self.visitors.properties(),
        )));
        if self.no_bridge && !self.former.is_quiet() {
            payloads.push(Element::bare("bridgeNotAvailable", ns::FOCUS));
        }
        payloads.extend(self.notices.values().cloned());
        payloads
    }

    /// Announces to the room what changed.
    pub(in super::super) fn announce(&mut self, cx: &mut Context<'_>) {
        if let Ok(muc) = MucRoom::new(&self.room, NICK) {
            let presence = muc.update(self.own_payloads(cx));
            cx.send(presence);
        }
        self.announce_to_visitors(cx);
    }

    pub(super) fn answer_waiting(&mut self, cx: &mut Context<'_>, state: RoomState, ready: bool) {
        let (RoomState::Joining(waiting) | RoomState::Configuring(waiting)) = state else { return };
        for request in waiting {
            let later = |cx: &Context<'_>, room| conference_answer(cx, &request, room, (Reply::Later, false));
            let answer = if ready { self.admit(cx, &request) } else { Some(later(cx, &self.room)) };
            if let Some(answer) = answer {
                cx.send(answer);
            }
        }
    }

    /// We are in; `open` says that the room shows real addresses already.
    pub(in super::super) fn room_entered(&mut self, cx: &mut Context<'_>, open: bool) {
        let RoomState::Joining(waiting) = &mut self.state else { return };
        let waiting = std::mem::take(waiting);
        self.state = RoomState::Configuring(waiting);
        if self.members.is_empty() {
            self.initial_deadline = Some(cx.now + cx.settings.initial_timeout);
        }
        // The form is four fifths of what a room costs the server, and it would change nothing in an open one.
        self.awaited = if open { 1 } else { 2 };
        let query = Element::bare("query", DISCO_INFO);
        self.ask(cx, &self.room.to_string(), false, query, Question::RoomInfo);
        if open {
            return;
        }
        // Clients must see our real address, or they would not take us for the focus.
        if let Iq::Set { payload, .. } = whois_anyone(&self.room, "room-form") {
            self.ask(cx, &self.room.to_string(), true, payload, Question::RoomForm);
        }
    }

    /// The room's service answered one of what it was asked, or will not.
    pub(in super::super) fn setup_answered(&mut self, cx: &mut Context<'_>) {
        self.awaited = self.awaited.saturating_sub(1);
        if self.awaited > 0 || !matches!(self.state, RoomState::Configuring(_)) {
            return;
        }
        let state = std::mem::replace(&mut self.state, RoomState::Ready);
        self.forget_absent();
        // Our presence first: who is let in is to find it there.
        self.announce(cx);
        self.answer_waiting(cx, state, true);
        self.elect_owner(cx);
        self.invite_missing(cx);
    }

    /// A member came, or its presence changed.
    pub(in super::super) fn member_seen(
        &mut self,
        cx: &mut Context<'_>,
        nick: &str,
        presence: &Presence,
        user: &MucUser,
    ) {
        cx.arrivals += 1;
        let arrival = cx.arrivals;
        let new = !self.members.contains_key(nick);
        let watches = user.items.first().is_some_and(only_watches);
        let watched = self.members.get(nick).map(Member::is_visitor);
        if watches != watched.unwrap_or(watches) || (watches && cx.visitor_nodes.settings().is_none()) {
            // Who takes part goes on to, and who watches too: a client that is to change enters anew.
            return;
        }
        // Names of sources begin with a nickname; that of the bridge's own sources is nobody's.
        if new && (self.in_main_room() >= MAX_MEMBERS || nick.len() > MAX_NICK || nick == BRIDGE_OWNER) {
            cx.refused.count(Refused::Member, 1);
            return;
        }
        if watches {
            return self.seen_watching(cx, nick, None, (presence, user));
        }
        let member = self.members.entry(nick.to_owned()).or_insert_with(|| Member::new(arrival));
        let before = member.sending();
        let too_long = member.seen(presence, user);
        cx.refused.count(Refused::PresencePart, too_long);
        self.senders.change(before, member.sending());
        self.senders_changed(cx);
        if !new {
            // Real addresses may become visible late.
            self.elect_owner(cx);
            // It may have become a moderator, or be none any more.
            self.force_mutes_of(cx, [nick.to_owned()]);
            return;
        }
        cx.totals.participants += 1;
        self.initial_deadline = None;
        self.remember(nick);
        tracing::info!(room = %self.room, endpoint = nick, members = self.members.len(), "member joined");
        self.elect_owner(cx);
        self.invite_missing(cx);
    }

    /// Somebody says something else of what it sends, came or left: announced to the room where that makes a difference.
    fn senders_changed(&mut self, cx: &mut Context<'_>) {
        if self.senders.judge(cx.settings.sources.senders) && self.is_ready() {
            self.announce(cx);
        }
    }

    /// Makes somebody owner when nobody is: an owner that the room knows already, else who came first.
    pub(super) fn elect_owner(&mut self, cx: &mut Context<'_>) {
        // The service of breakout rooms takes affiliations from the main room.
        if cx.is_breakout(&self.room) {
            return;
        }
        if self.owner.is_some() || !matches!(self.state, RoomState::Ready) {
            return;
        }
        if cx.logins.are_required() {
            return self.own_by_login(cx);
        }
        if !cx.settings.auto_owner {
            return;
        }
        let takes_part = |member: &Member| !member.is_visitor() && member.helper(&cx.helpers).is_none();
        let people = || self.members.iter().filter(|(_, member)| takes_part(member));
        let first = |(_, member): &(&String, &Member)| member.arrival();
        if let Some((owner, _)) = people().filter(|(_, member)| member.is_owner()).min_by_key(first) {
            self.owner = Some(owner.clone());
            return;
        }
        let candidate = people().filter(|(_, member)| member.real_jid().is_some()).min_by_key(first);
        let Some((nick, Some(jid))) = candidate.map(|(nick, member)| (nick.clone(), member.real_jid().cloned())) else {
            return;
        };
        tracing::info!(room = %self.room, endpoint = %nick, "made owner");
        self.owner = Some(nick.clone());
        self.make_owner(cx, &jid.to_bare());
    }

    fn make_owner(&self, cx: &mut Context<'_>, account: &BareJid) {
        let xml = format!(
            "<query xmlns='{MUC_ADMIN}'><item affiliation='owner' jid='{}'/></query>",
            escaped(&account.to_string())
        );
        if let Some(query) = build(&xml) {
            cx.notify(&self.room.to_string(), query);
        }
    }

    /// Makes everybody owner who is logged in.
    pub(in super::super) fn own_by_login(&mut self, cx: &mut Context<'_>) {
        if !self.is_ready() || cx.is_breakout(&self.room) {
            return;
        }
        let mut accounts = Vec::new();
        for (nick, member) in self.members.iter_mut().filter(|(_, member)| !member.is_visitor()) {
            let jid = member.real_jid().cloned().map(Jid::from);
            if let Some(jid) = jid.filter(|jid| !member.is_owner() && cx.logins.includes(jid))
                && member.becomes_owner()
            {
                tracing::info!(room = %self.room, endpoint = %nick, "made owner: the user is logged in");
                accounts.push(jid.to_bare());
            }
        }
        for account in accounts {
            self.make_owner(cx, &account);
        }
    }

    /// Asks for what a member can do; true when it is known already.
    pub(super) fn discover(&mut self, cx: &mut Context<'_>, nick: &str) -> bool {
        let Some(member) = self.members.get_mut(nick) else { return false };
        if member.features().is_some() {
            return true;
        }
        let ver = member.caps().map(|(_, ver)| ver.clone());
        if let Some(features) = ver.as_ref().and_then(|ver| cx.caps.met(ver)) {
            member.discovered(features);
            return true;
        }
        member.discovering();
        let mut query = Element::builder("query", DISCO_INFO).build();
        if let Some((node, ver)) = member.caps() {
            query.set_attr(
                tokio_xmpp::minidom::rxml::Namespace::NONE,
                tokio_xmpp::minidom::rxml::xml_ncname!("node").to_owned(),
                format!("{node}#{ver}"),
            );
        }
        let pending = Question::Disco { nick: nick.to_owned(), ver };
        self.ask(cx, &self.occupant(nick), false, query, pending);
        false
    }

    /// What a member can do is known, or will not be.
    pub(in super::super) fn discovered(
        &mut self,
        cx: &mut Context<'_>,
        nick: &str,
        ver: Option<String>,
        answer: Answer,
    ) {
        let result = match answer {
            Answer::Result(Some(payload)) => DiscoInfoResult::try_from(payload).ok(),
            _ => None,
        };
        // XEP-0115 section 5.4: unproven claims about a hash are for this member only.
        let ver = ver.filter(|ver| {
            let hash = |result| hash_caps(&compute_disco(result), Algo::Sha_1).ok().map(|hash| hash.to_base64());
            result.as_ref().and_then(hash).as_ref() == Some(ver)
        });
        let features = match &result {
            Some(result) => Features::from_vars(result.features.iter().map(AsRef::as_ref)),
            // Somebody who does not answer may still be able to take part.
            None => Features::UNKNOWN,
        };
        let node = self.members.get(nick).and_then(Member::caps).map(|(node, _)| node.as_str());
        if let (Some(ver), Some(_)) = (ver, &result) {
            cx.caps.proved(node.unwrap_or_default(), ver, features);
        }
        if let Some(member) = self.members.get_mut(nick) {
            member.discovered(features);
        }
        self.invite_missing(cx);
    }

    /// Starts or stops the clock of the last one left (docs/protocol/focus.md 3.5).
    pub(super) fn watch_last_one(&mut self, cx: &mut Context<'_>) {
        let timeout: Duration = cx.settings.single_participant_timeout;
        if self.members.len() == 1 && self.sessions() == 1 {
            self.single_deadline.get_or_insert(cx.now + timeout);
        } else if self.members.len() > 1 {
            self.single_deadline = None;
        }
    }

    /// A member left; the conference ends when it was the last.
    pub(in super::super) fn member_left(&mut self, cx: &mut Context<'_>, nick: &str) {
        let Some(member) = self.members.remove(nick) else { return };
        match member.is_visitor() {
            true => tracing::debug!(room = %self.room, endpoint = nick, "visitor left"),
            false => tracing::info!(room = %self.room, endpoint = nick, members = self.members.len(), "member left"),
        }
        self.visitor_gone(cx, &member);
        self.sources.forget(nick);
        self.forget_former(nick);
        if !member.is_visitor() {
            self.senders.change(member.sending(), Sending::default());
            self.senders_changed(cx);
            // Clients drop the sources of who leaves by themselves, except those that expect a bridge to do it.
            let expects = |other: &Member| other.features().is_some_and(|features| features.ssrc_rewriting);
            for other in self.members.values_mut().filter(|other| !expects(other)) {
                other.tell(nick, None);
            }
        }
        if self.owner.as_deref() == Some(nick) {
            self.owner = None;
        }
        if self.members.is_empty() {
            return;
        }
        self.signal_sources(cx);
        if member.has_endpoint() {
            self.expire_endpoint(cx, nick);
        }
        self.elect_owner(cx);
        self.watch_last_one(cx);
    }

    /// Sends an IQ about this conference; [`Self::answered`] gets what comes of it.
    pub(super) fn ask(&self, cx: &mut Context<'_>, to: &str, set: bool, payload: Element, what: Question) {
        cx.request(to, set, payload, Pending::InConference { room: self.room.clone(), what });
    }

    /// An IQ was answered, or not in time.
    pub(in super::super) fn answered(&mut self, cx: &mut Context<'_>, what: Question, answer: Answer) {
        match what {
            // Refused settings leave the room as its service made it.
            Question::RoomForm => self.setup_answered(cx),
            Question::VisitorRoomForm { node } => self.node_ready(cx, node),
            Question::VisitorNodes => {
                if !matches!(answer, Answer::Result(_)) {
                    tracing::warn!(room = %self.room, ?answer, "the server's component does not connect the visitors");
                }
            }
            Question::RoomInfo => self.room_informed(cx, answer),
            Question::Disco { nick, ver } => self.discovered(cx, &nick, ver, answer),
            Question::Allocate { nick, session, invite } => self.allocated(cx, &nick, (&session, invite), answer),
            Question::Update { nick, session } => self.updated(cx, &nick, &session, answer),
            Question::Relay { session, link, creates } => self.relay_answered(cx, (&session, link, creates), answer),
            Question::IceRestart { nick, session, sid } => self.ice_restarted(cx, &nick, (&session, &sid), answer),
            Question::Initiate { nick, sid } => self.initiated(cx, &nick, &sid, answer),
            // Whatever it answered, it was informed; without an answer the wait ends by itself.
            Question::SourcesSignaled { .. } if matches!(answer, Answer::Timeout) => {}
            Question::SourcesSignaled { nick, sid, sources, at } => self.sources_known(cx, &nick, &sid, (sources, at)),
        }
    }

    /// Asks to be let into the room.
    pub(in super::super) fn join(&self, cx: &mut Context<'_>) {
        if let Ok(mut muc) = MucRoom::new(&self.room, NICK) {
            cx.send(muc.join(self.own_payloads(cx)));
        }
    }

    /// Ends the conference; `leave` where we are still in the room.
    /// Returns the main room of a breakout room.
    pub(in super::super) fn end(mut self, cx: &mut Context<'_>, leave: bool) -> Option<BareJid> {
        let seconds = cx.now.saturating_duration_since(self.created).as_secs();
        tracing::info!(room = %self.room, seconds, "conference ended");
        let state = std::mem::replace(&mut self.state, RoomState::Ready);
        self.answer_waiting(cx, state, false);
        self.leave_nodes(cx);
        cx.meeting_ids.remove(&self.meeting_id);
        for session in self.nodes.iter() {
            cx.expire_on_bridge(&session.bridge, &self.meeting_id);
        }
        if leave && let Ok(mut muc) = MucRoom::new(&self.room, NICK) {
            cx.send(muc.leave());
        }
        self.main
    }

    /// Everybody left a room that is kept: for some time, or until its breakout rooms are empty too.
    pub(in super::super) fn stay_empty(&mut self, cx: &mut Context<'_>, for_now: bool) {
        tracing::info!(room = %self.room, for_now, "the room is empty, but kept while its breakout rooms are in use");
        self.initial_deadline = for_now.then(|| cx.now + cx.settings.initial_timeout);
        self.single_deadline = None;
        let had_bridge = !self.nodes.is_empty();
        self.drop_sessions(cx);
        self.suspend_visitors(cx);
        if had_bridge {
            self.announce(cx);
        }
    }

    /// A breakout room's service says which room it belongs to. A room of which it does not say so is served as any other, but
    /// nothing is kept for it.
    fn belongs_to(&mut self, cx: &mut Context<'_>, main: Option<BareJid>) {
        if !cx.is_breakout(&self.room) || self.main.is_some() {
            return;
        }
        let main = main.filter(|main| main.domain() == cx.settings.conference_muc.domain() && main.node().is_some());
        let Some(main) = main.filter(|main| cx.breakouts.add(main)) else {
            cx.refused.count(Refused::Breakout, 1);
            return;
        };
        tracing::info!(room = %self.room, %main, "breakout room");
        self.main = Some(main);
    }

    /// The room's service described the room, or did not answer.
    pub(in super::super) fn room_informed(&mut self, cx: &mut Context<'_>, answer: Answer) {
        let (id, main) = match &answer {
            Answer::Result(Some(query)) => (id_in(query), main_room_in(query)),
            _ => (None, None),
        };
        self.belongs_to(cx, main);
        if matches!(&answer, Answer::Result(Some(query)) if promises_metadata(query)) && self.metadata.wait(cx.now) {
            self.awaited += 1;
        }
        match id.map(|id| if is_sound(&id) { Ok(id) } else { Err(id.len()) }) {
            Some(Ok(id)) => {
                tracing::info!(room = %self.room, meeting = %id, "the room has a meeting id of its own");
                self.meeting.room = Some(id);
            }
            Some(Err(bytes)) => {
                cx.refused.count(Refused::MeetingId, 1);
                let now = cx.now;
                if let Some(silenced) = cx.meeting_lines.speak(now) {
                    tracing::warn!(room = %self.room, bytes, silenced, "the room's meeting id is not used: it takes letters, digits and .:@_- \
                        and at most {MAX_MEETING_ID} bytes; the conference gets a random one");
                }
            }
            None => {}
        }
        self.setup_answered(cx);
    }
}
