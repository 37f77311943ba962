//! Rooms: conference requests, joining, members, owners (docs/protocol/focus.md 2, 3).

use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::caps::{compute_disco, hash_caps};
use xmpp_parsers::disco::DiscoInfoResult;
use xmpp_parsers::hashes::Algo;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::MucUser;
use xmpp_parsers::muc::user::{Affiliation, Role, Status};
use xmpp_parsers::presence::{Presence, Type};
use xmpp_parsers::stanza_error::DefinedCondition;

use super::conference::{Conference, Member, RoomState, Stage};
use super::limits::{
    self, EMPTY_GRACE, MAX_EMPTY, MAX_MEMBERS, MAX_NAME, MAX_NICK, MAX_REGION, MAX_SETTING_UP, MAX_WAITING, Refused,
};
use super::machine::{Answer, Focus, Pending};
use super::meeting::Meeting;
use super::offer::Features;
use super::sessions::BRIDGE_OWNER;
use crate::jingle::ns;
use crate::pace::Bucket;
use crate::xmpp::iq::Request;
use crate::xmpp::muc::{MucRoom, whois_anyone};

const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const CAPS: &str = "http://jabber.org/protocol/caps";
const ETHERPAD: &str = "http://jitsi.org/jitmeet/etherpad";

/// Our nickname: clients know the focus by it.
const NICK: &str = "focus";

/// Capability hashes that are remembered.
const CAPS_CACHE: usize = 1_000;

fn build(xml: &str) -> Option<Element> {
    xml.parse().ok()
}

/// Text that goes into an attribute of built XML: nicknames are anything.
fn escaped(text: &str) -> String {
    String::from_utf8_lossy(&tokio_xmpp::minidom::element::escape(text.as_bytes())).into_owned()
}

impl Focus {
    /// Answers a `<conference/>` request; `None` when the answer comes later.
    pub(super) fn conference_request(&mut self, now: Instant, request: &Request) -> Option<Iq> {
        let refuse = |condition, text: &str| Some(request.refuse(condition, text));
        let Some(room) = request.payload.attr("room").and_then(|room| room.parse::<BareJid>().ok()) else {
            return refuse(DefinedCondition::BadRequest, "the room attribute is missing or is no room JID");
        };
        let ours = room.domain() == self.settings.conference_muc.domain() && room.node().is_some();
        if !ours {
            return refuse(DefinedCondition::NotAllowed, "this focus does not serve rooms of that service");
        }
        if !self.online {
            return refuse(DefinedCondition::ServiceUnavailable, "");
        }
        if let Some(conference) = self.conferences.get_mut(&room) {
            if conference.members.is_empty() {
                conference.initial_deadline = Some(now + self.settings.initial_timeout);
            }
            match &mut conference.state {
                RoomState::Joining(waiting) | RoomState::Configuring(waiting) => {
                    // One question of everybody waits: an older one of the same sender is answered at once.
                    let full = waiting.len() >= MAX_WAITING;
                    let early = match waiting.iter_mut().find(|waiting| waiting.from == request.from) {
                        Some(older) => std::mem::replace(older, request.clone()),
                        None if full => request.clone(),
                        None => {
                            waiting.push(request.clone());
                            return None;
                        }
                    };
                    self.refused.count(Refused::Waiting, 1);
                    return Some(self.conference_answer(&early, &room, false));
                }
                RoomState::Ready => return Some(self.conference_answer(request, &room, true)),
            }
        }
        if let Err(reason) = self.may_begin(now, request) {
            self.refused.count(reason, 1);
            if let Some(silenced) = self.put_off.speak(now) {
                tracing::warn!(%room, from = ?request.from, ?reason, silenced, conferences = self.conferences.len(),
                    "conference not begun; the client is told to try again");
            }
            return Some(self.conference_answer(request, &room, false));
        }
        let limit = |name: &str| {
            let property = request.payload.children().find(|child| child.attr("name") == Some(name));
            property.and_then(|property| property.attr("value")).and_then(|value| value.parse().ok())
        };
        let conference = Conference {
            meeting_id: self.random_id(),
            meeting: Meeting::default(),
            awaited: 0,
            state: RoomState::Joining(vec![request.clone()]),
            members: Default::default(),
            owner: None,
            session: None,
            sources: Default::default(),
            no_bridge: false,
            start_muted: (limit("startAudioMuted"), limit("startVideoMuted")),
            initial_deadline: Some(now + self.settings.initial_timeout),
            single_deadline: None,
            failures: Vec::new(),
            tells: Bucket::new(limits::tells(1)),
            tell_due: None,
            told_due: None,
            invite_due: None,
            created: now,
        };
        tracing::info!(%room, "conference created");
        self.totals.conferences += 1;
        self.conferences.insert(room.clone(), conference);
        if let Ok(mut muc) = MucRoom::new(&room, NICK) {
            let presence = muc.join(self.own_payloads(&room));
            self.send(presence);
        }
        None
    }

    /// Whether one more conference may begin because of that request; room is made where that disturbs nobody.
    fn may_begin(&mut self, now: Instant, request: &Request) -> Result<(), Refused> {
        let from = request.from.as_ref().filter(|from| !self.is_trusted(from)).cloned();
        if from.is_some_and(|from| !self.new_rooms.take(now, &from)) {
            return Err(Refused::NewRooms);
        }
        let setting_up = |conference: &&Conference| !matches!(conference.state, RoomState::Ready);
        if self.conferences.values().filter(setting_up).count() >= MAX_SETTING_UP {
            return Err(Refused::SettingUp);
        }
        let empty = || {
            let ready = |conference: &Conference| matches!(conference.state, RoomState::Ready);
            self.conferences.iter().filter(move |(_, c)| c.members.is_empty() && ready(c))
        };
        if self.conferences.len() < self.settings.max_conferences && empty().count() < MAX_EMPTY {
            return Ok(());
        }
        let oldest = empty().min_by_key(|(_, conference)| conference.created);
        let old = |conference: &Conference| now.saturating_duration_since(conference.created) >= EMPTY_GRACE;
        let Some(room) = oldest.filter(|(_, conference)| old(conference)).map(|(room, _)| room.clone()) else {
            return Err(Refused::Conferences);
        };
        self.refused.count(Refused::EmptyLeft, 1);
        self.end_conference(now, &room, true);
        Ok(())
    }

    /// `ready='false'` makes clients ask again after a second or more; an error would be the end for today's client.
    fn conference_answer(&self, request: &Request, room: &BareJid, ready: bool) -> Iq {
        let focus = self.settings.xmpp.jid.to_string();
        let xml = format!(
            "<conference xmlns='{}' room='{}' ready='{ready}' focusjid='{focus}'>\
             <property name='authentication' value='false'/><property name='visitors-supported' value='false'/></conference>",
            ns::FOCUS,
            escaped(&room.to_string())
        );
        request.result(build(&xml))
    }

    /// What our presence in a room says (docs/protocol/focus.md 3.2).
    fn own_payloads(&self, room: &BareJid) -> Vec<Element> {
        let name = room.node().map_or("", |node| node.as_str());
        let no_bridge = self.conferences.get(room).is_some_and(|conference| conference.no_bridge);
        let mut payloads = vec![Element::builder("etherpad", ETHERPAD).append(name.to_owned()).build()];
        payloads.extend(build(&format!(
            "<versions xmlns='{}'><component name='focus'>ringbridge {}</component></versions>",
            ns::JITMEET,
            env!("CARGO_PKG_VERSION")
        )));
        payloads.extend(build(&format!(
            "<conference-properties xmlns='{}'><property key='support-terminate-restart' value='true'/>\
             <property key='bridge-count' value='{}'/></conference-properties>",
            ns::FOCUS,
            usize::from(self.conferences.get(room).is_some_and(|conference| conference.session.is_some()))
        )));
        if no_bridge {
            payloads.push(Element::bare("bridgeNotAvailable", ns::FOCUS));
        }
        payloads
    }

    /// Tells the room of what changed.
    pub(super) fn announce(&mut self, room: &BareJid) {
        if let Ok(muc) = MucRoom::new(room, NICK) {
            let presence = muc.update(self.own_payloads(room));
            self.send(presence);
        }
    }

    pub(super) fn room_presence(&mut self, now: Instant, presence: Presence) {
        let Some((room, nick)) = presence.from.as_ref().and_then(Self::occupant) else { return };
        if !self.conferences.contains_key(&room) {
            return;
        }
        let user = presence
            .payloads
            .iter()
            .find(|payload| payload.is("x", MUC_USER))
            .and_then(|payload| MucUser::try_from(payload.clone()).ok())
            .unwrap_or_default();
        let me = nick == NICK || user.status.contains(&Status::SelfPresence);
        match (presence.type_.clone(), me) {
            (Type::Error, true) => self.join_failed(&room, &presence),
            (Type::Unavailable, true) => {
                tracing::warn!(%room, "removed from the room; the conference ends");
                self.end_conference(now, &room, false);
            }
            (Type::None, true) => self.room_entered(now, &room, user.status.contains(&Status::NonAnonymousRoom)),
            (Type::Unavailable, false) => self.member_left(now, &room, &nick),
            (Type::None, false) => self.member_seen(now, &room, &nick, &presence, &user),
            _ => {}
        }
    }

    fn join_failed(&mut self, room: &BareJid, presence: &Presence) {
        let reason = presence.payloads.iter().find(|payload| payload.name() == "error").map(String::from);
        if self.conferences.get(room).is_none_or(|conference| !matches!(conference.state, RoomState::Joining(_))) {
            tracing::warn!(%room, reason, "our presence was refused");
            return;
        }
        tracing::error!(%room, reason, "the room cannot be joined; is the focus an admin of the MUC service?");
        let Some(conference) = self.conferences.remove(room) else { return };
        self.answer_waiting(room, conference.state, false);
    }

    fn answer_waiting(&mut self, room: &BareJid, state: RoomState, ready: bool) {
        let (RoomState::Joining(waiting) | RoomState::Configuring(waiting)) = state else { return };
        for request in waiting {
            let answer = self.conference_answer(&request, room, ready);
            self.send(answer);
        }
    }

    /// We are in; `open` says that the room shows real addresses already.
    fn room_entered(&mut self, now: Instant, room: &BareJid, open: bool) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let RoomState::Joining(waiting) = &mut conference.state else { return };
        conference.state = RoomState::Configuring(std::mem::take(waiting));
        // The form is four fifths of what a room costs the server, and it would change nothing in an open one.
        conference.awaited = if open { 1 } else { 2 };
        let query = Element::bare("query", DISCO_INFO);
        self.request(now, &room.to_string(), false, query, Pending::RoomInfo(room.clone()));
        if open {
            return;
        }
        // Clients must see our real address, or they would not take us for the focus.
        if let Iq::Set { payload, .. } = whois_anyone(room, "room-form") {
            self.request(now, &room.to_string(), true, payload, Pending::RoomForm(room.clone()));
        }
    }

    /// The room's service answered one of what it was asked, or will not.
    pub(super) fn setup_answered(&mut self, now: Instant, room: &BareJid) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        conference.awaited = conference.awaited.saturating_sub(1);
        if conference.awaited > 0 || !matches!(conference.state, RoomState::Configuring(_)) {
            return;
        }
        let state = std::mem::replace(&mut conference.state, RoomState::Ready);
        // Our presence first: who is let in is to find it there.
        self.announce(room);
        self.answer_waiting(room, state, true);
        self.elect_owner(room);
        self.invite_missing(now, room);
    }

    fn member_seen(&mut self, now: Instant, room: &BareJid, nick: &str, presence: &Presence, user: &MucUser) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let item = user.items.first();
        let standing = |item: &xmpp_parsers::muc::user::Item| {
            matches!(item.affiliation, Affiliation::Owner | Affiliation::Admin)
                || matches!(item.role, Role::Moderator | Role::Participant)
        };
        if item.is_some_and(|item| !standing(item)) {
            // Visitors are not served.
            return;
        }
        let new = !conference.members.contains_key(nick);
        // Names of sources begin with a nickname; that of the bridge's own sources is nobody's.
        if new && (conference.members.len() >= MAX_MEMBERS || nick.len() > MAX_NICK || nick == BRIDGE_OWNER) {
            self.refused.count(Refused::Member, 1);
            return;
        }
        let member = conference.members.entry(nick.to_owned()).or_insert_with(|| Member::new(arrival));
        if let Some(item) = item {
            member.real_jid = item.jid.clone().or(member.real_jid.take());
            member.owner = item.affiliation == Affiliation::Owner;
            member.moderator = item.role == Role::Moderator || member.owner || item.affiliation == Affiliation::Admin;
        }
        let mut too_long = 0;
        let mut text = |name: &str, most: usize| {
            let text = presence.payloads.iter().find(|payload| payload.name() == name).map(Element::text)?;
            too_long += u64::from(text.len() > most);
            Some(text).filter(|text| text.len() <= most)
        };
        member.stats_id = text("stats-id", MAX_NAME).or(member.stats_id.take());
        let region = text("jitsi_participant_region", MAX_REGION).filter(|region| !region.is_empty());
        member.region = region.or(member.region.take());
        if let Some(caps) = presence.payloads.iter().find(|payload| payload.is("c", CAPS))
            && let (Some(node), Some(ver)) = (caps.attr("node"), caps.attr("ver"))
        {
            match node.len() + ver.len() <= MAX_NAME {
                true => member.caps = Some((node.to_owned(), ver.to_owned())),
                false => too_long += 1,
            }
        }
        self.refused.count(Refused::PresencePart, too_long);
        if !new {
            // Real addresses may become visible late.
            self.elect_owner(room);
            return;
        }
        self.totals.participants += 1;
        conference.initial_deadline = None;
        tracing::info!(%room, endpoint = nick, members = conference.members.len(), "member joined");
        self.elect_owner(room);
        self.invite_missing(now, room);
    }

    fn member_left(&mut self, now: Instant, room: &BareJid, nick: &str) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let Some(member) = conference.members.remove(nick) else { return };
        tracing::info!(%room, endpoint = nick, members = conference.members.len(), "member left");
        conference.sources.forget(nick);
        // Clients drop the sources of who leaves by themselves, except those that expect a bridge to do it.
        let expects = |other: &Member| other.features.is_some_and(|features| features.ssrc_rewriting);
        for other in conference.members.values_mut().filter(|other| !expects(other)) {
            other.told.remove(nick);
        }
        if conference.owner.as_deref() == Some(nick) {
            conference.owner = None;
        }
        if conference.members.is_empty() {
            self.end_conference(now, room, true);
            return;
        }
        self.tell_others(now, room);
        if member.has_endpoint() {
            self.expire_endpoint(now, room, nick);
        }
        self.elect_owner(room);
        self.watch_last_one(now, room);
    }

    /// Makes somebody owner when nobody is: an owner that the room knows already, else who came first.
    fn elect_owner(&mut self, room: &BareJid) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        if conference.owner.is_some() || !matches!(conference.state, RoomState::Ready) {
            return;
        }
        let order = conference.by_arrival();
        if let Some(owner) = order.iter().find(|nick| conference.members.get(*nick).is_some_and(|m| m.owner)) {
            conference.owner = Some(owner.clone());
            return;
        }
        let candidate = order.iter().find_map(|nick| Some((nick, conference.members.get(nick)?.real_jid.clone()?)));
        let Some((nick, jid)) = candidate else { return };
        tracing::info!(%room, endpoint = %nick, "made owner");
        conference.owner = Some(nick.clone());
        let xml = format!(
            "<query xmlns='{MUC_ADMIN}'><item affiliation='owner' jid='{}'/></query>",
            escaped(&jid.to_bare().to_string())
        );
        if let Some(query) = build(&xml) {
            self.notify(&room.to_string(), query);
        }
    }

    /// Asks for what a member can do; true when it is known already.
    pub(super) fn discover(&mut self, now: Instant, room: &BareJid, nick: &str) -> bool {
        let Some(member) = self.conferences.get_mut(room).and_then(|c| c.members.get_mut(nick)) else { return false };
        if member.features.is_some() {
            return true;
        }
        let ver = member.caps.as_ref().map(|(_, ver)| ver.clone());
        if let Some(features) = ver.as_ref().and_then(|ver| self.caps.get(ver)) {
            member.features = Some(*features);
            return true;
        }
        member.stage = Stage::Discovering;
        let mut query = Element::builder("query", DISCO_INFO).build();
        if let Some((node, ver)) = &member.caps {
            query.set_attr(
                tokio_xmpp::minidom::rxml::Namespace::NONE,
                tokio_xmpp::minidom::rxml::xml_ncname!("node").to_owned(),
                format!("{node}#{ver}"),
            );
        }
        let pending = Pending::Disco { room: room.clone(), nick: nick.to_owned(), ver };
        self.request(now, &format!("{room}/{nick}"), false, query, pending);
        false
    }

    pub(super) fn discovered(&mut self, now: Instant, room: &BareJid, nick: &str, ver: Option<String>, answer: Answer) {
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
        if let (Some(ver), Some(_)) = (ver, &result)
            && self.caps.len() < CAPS_CACHE
        {
            self.caps.insert(ver, features);
        }
        if let Some(member) = self.conferences.get_mut(room).and_then(|c| c.members.get_mut(nick)) {
            member.features = Some(features);
            if member.stage == Stage::Discovering {
                member.stage = Stage::Idle;
            }
        }
        self.invite_missing(now, room);
    }

    /// Ends a conference; `leave` where we are still in the room.
    pub(super) fn end_conference(&mut self, now: Instant, room: &BareJid, leave: bool) {
        let Some(conference) = self.conferences.remove(room) else { return };
        tracing::info!(%room, seconds = now.saturating_duration_since(conference.created).as_secs(), "conference ended");
        self.answer_waiting(room, conference.state, false);
        if let Some(session) = conference.session.filter(|session| session.created) {
            self.expire_on_bridge(&session.bridge, &conference.meeting_id);
        }
        if leave && let Ok(mut muc) = MucRoom::new(room, NICK) {
            let presence = muc.leave();
            self.send(presence);
        }
    }

    pub(super) fn conference_timeouts(&mut self, now: Instant) {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let any_due = |conference: &Conference| due(conference.poll_timeout());
        let rooms: Vec<BareJid> =
            self.conferences.iter().filter(|(_, c)| any_due(c)).map(|(room, _)| room.clone()).collect();
        for room in rooms {
            let Some(conference) = self.conferences.get_mut(&room) else { continue };
            let (initial, single) = (due(conference.initial_deadline), due(conference.single_deadline));
            let tell = conference.tell_due.take_if(|at| *at <= now).is_some();
            let told = conference.told_due.take_if(|at| *at <= now).is_some();
            let invite = conference.invite_due.take_if(|at| *at <= now).is_some();
            if initial {
                self.end_conference(now, &room, true);
                continue;
            }
            if tell {
                self.tell_others(now, &room);
            }
            if told {
                self.release_told(now, &room);
            }
            if invite {
                self.invite_missing(now, &room);
            }
            if single {
                self.end_last_session(now, &room);
            }
        }
    }

    /// Starts or stops the clock of the last one left (docs/protocol/focus.md 3.5).
    pub(super) fn watch_last_one(&mut self, now: Instant, room: &BareJid) {
        let timeout: Duration = self.settings.single_participant_timeout;
        let Some(conference) = self.conferences.get_mut(room) else { return };
        if conference.members.len() == 1 && conference.sessions() == 1 {
            conference.single_deadline.get_or_insert(now + timeout);
        } else if conference.members.len() > 1 {
            conference.single_deadline = None;
        }
    }

    /// Everything that is asked of the focus.
    pub(super) fn serve(&mut self, now: Instant, request: &Request) -> Option<Iq> {
        let payload = &request.payload;
        let (name, namespace) = (payload.name(), payload.ns());
        match (name, namespace.as_str()) {
            ("conference", ns::FOCUS) => self.conference_request(now, request),
            ("jingle", ns::JINGLE) => Some(self.jingle(now, request)),
            (
                "mute",
                "http://jitsi.org/jitmeet/audio"
                | "http://jitsi.org/jitmeet/video"
                | "http://jitsi.org/jitmeet/desktop",
            ) => {
                let answer = self.mute(request);
                self.refused.count(Refused::Mute, u64::from(matches!(answer, Iq::Error { .. })));
                Some(answer)
            }
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
            other => {
                self.refused.count(Refused::Unserved, 1);
                let (condition, text) = match other {
                    ("jibri", "http://jitsi.org/protocol/jibri") => {
                        (DefinedCondition::FeatureNotImplemented, "no recorder")
                    }
                    ("dial", "urn:xmpp:rayo:1") => (DefinedCondition::FeatureNotImplemented, "no SIP gateway"),
                    _ => (DefinedCondition::ServiceUnavailable, ""),
                };
                Some(request.refuse(condition, text))
            }
        }
    }

    /// Mutes a participant (docs/protocol/focus.md 8.1).
    fn mute(&mut self, request: &Request) -> Iq {
        let on = match request.payload.text().trim() {
            "true" => true,
            "false" => false,
            _ => return request.refuse(DefinedCondition::BadRequest, "the text has to be true or false"),
        };
        let Some((room, muter)) = request.from.as_ref().and_then(Self::occupant) else {
            return request.refuse(DefinedCondition::BadRequest, "only occupants of a room can mute");
        };
        let Some(target) = request.payload.attr("jid").and_then(|jid| jid.parse::<Jid>().ok()) else {
            return request.refuse(DefinedCondition::BadRequest, "the jid attribute is missing or is no address");
        };
        let Some(conference) = self.conferences.get(&room) else {
            return request.refuse(DefinedCondition::ItemNotFound, "no such conference");
        };
        let target = Self::occupant(&target).filter(|(other, _)| *other == room).map(|(_, nick)| nick);
        let session = |nick: &str| conference.members.get(nick).filter(|member| member.has_endpoint());
        let (Some(by), Some(target)) = (session(&muter), target.filter(|target| session(target).is_some())) else {
            return request.refuse(DefinedCondition::InternalServerError, "both need a session");
        };
        let other = muter != target;
        if other && (!by.moderator || !on) {
            let text = "only moderators mute others, and nobody unmutes them";
            return request.refuse(DefinedCondition::NotAllowed, text);
        }
        if other {
            let xml = format!(
                "<mute xmlns='{}' jid='{}' actor='{}'>true</mute>",
                request.payload.ns(),
                escaped(&format!("{room}/{target}")),
                escaped(&format!("{room}/{muter}"))
            );
            if let Some(mute) = build(&xml) {
                self.notify(&format!("{room}/{target}"), mute);
            }
        }
        request.result(None)
    }
}
