//! Sessions: an endpoint on a bridge, an offer to the client, its answer, and every change after that
//! (focus-protocol 5, 7.6 and 11).

use std::collections::BTreeMap;
use std::time::Instant;

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::conference::{BridgeSession, RoomState, Stage};
use super::machine::{Answer, Focus, Pending};
use super::offer::{self, Features, Offer};
use super::sources::{difference, to_colibri};
use crate::colibri::elements::{
    CAP_SOURCE_NAMES, Capability, ColibriError, ConferenceModified, ConferenceModify, Endpoint, IceTransport, MediaType, Reason as ColibriReason, Sources, Transport,
};
use crate::jingle::{Content, Jingle, OwnedSource, Reason, SourceSet, json_sources, xml_sources};
use crate::xmpp::iq::Request;

/// Owner of the bridge's own sources.
const BRIDGE_OWNER: &str = "jvb";

impl Focus {
    /// Invites everybody who has no session, if there are enough.
    pub(super) fn invite_missing(&mut self, now: Instant, room: &BareJid) {
        let Some(conference) = self.conferences.get(room) else { return };
        if conference.members.len() < self.settings.min_participants || !matches!(conference.state, RoomState::Ready) {
            return;
        }
        for nick in conference.by_arrival() {
            let idle = self
                .conferences
                .get(room)
                .and_then(|conference| conference.members.get(&nick))
                .is_some_and(|member| member.stage == Stage::Idle);
            if idle && self.discover(now, room, &nick) {
                self.allocate(now, room, &nick);
            }
        }
        self.watch_last_one(now, room);
    }

    /// Asks a bridge for an endpoint.
    fn allocate(&mut self, now: Instant, room: &BareJid, nick: &str) {
        let current = self.conferences.get(room).and_then(|conference| conference.session.clone());
        let session = match current {
            Some(session) => session,
            None => {
                let Some(bridge) = self.bridges.select(now) else {
                    self.set_no_bridge(room, true);
                    return;
                };
                tracing::info!(%room, %bridge, "bridge chosen");
                BridgeSession { id: self.random_id(), bridge, created: false, feedback: None }
            }
        };
        self.set_no_bridge(room, false);
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let create = !session.created;
        conference.session = Some(BridgeSession { created: true, ..session.clone() });
        let Some(member) = conference.members.get_mut(nick) else { return };
        member.stage = Stage::Allocating;
        member.told.clear();
        member.offered = offer::media(member.features.unwrap_or(Features::UNKNOWN));
        let endpoint = Endpoint {
            create: true,
            stats_id: member.stats_id.clone(),
            capabilities: vec![Capability { name: CAP_SOURCE_NAMES.to_owned() }],
            media: member.offered.clone(),
            transport: Some(Transport { ice_controlling: true, ..Transport::default() }),
            sources: Some(Sources::default()),
            ..Endpoint::new(nick)
        };
        let request = ConferenceModify {
            create,
            name: create.then(|| room.to_string()),
            endpoints: vec![endpoint],
            ..ConferenceModify::new(conference.meeting_id.clone())
        };
        self.bridges.endpoint_added(now, &session.bridge);
        let pending = Pending::Allocate { room: room.clone(), nick: nick.to_owned(), session: session.id };
        self.request(now, &session.bridge, true, request.into(), pending);
        if create {
            self.announce(room);
            self.expire_orphans(now, room);
        }
    }

    /// The room starts again: what is left of it from before may go.
    fn expire_orphans(&mut self, now: Instant, room: &BareJid) {
        let (mine, others) = std::mem::take(&mut self.orphans).into_iter().partition(|orphan| orphan.room == *room);
        self.orphans = others;
        let mine: Vec<super::machine::Orphan> = mine;
        for orphan in mine {
            self.expire_on_bridge(now, &orphan.bridge, &orphan.meeting_id);
        }
    }

    fn set_no_bridge(&mut self, room: &BareJid, no_bridge: bool) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        if conference.no_bridge != no_bridge {
            conference.no_bridge = no_bridge;
            if no_bridge {
                tracing::error!(%room, "no operational bridge: the conference waits for one");
            }
            self.announce(room);
        }
    }

    pub(super) fn allocated(&mut self, now: Instant, room: &BareJid, nick: &str, session: &str, answer: Answer) {
        let current = self.conferences.get(room).and_then(|conference| conference.session.as_ref());
        if current.is_none_or(|current| current.id != session) {
            return;
        }
        match answer {
            Answer::Result(payload) => self.send_offer(now, room, nick, payload),
            Answer::Error(error) => self.allocation_failed(now, room, nick, &error),
            Answer::Timeout => {
                tracing::error!(%room, endpoint = nick, "the bridge does not answer; everybody moves");
                self.bridge_failed(now, room);
            }
        }
    }

    fn send_offer(&mut self, now: Instant, room: &BareJid, nick: &str, payload: Option<Element>) {
        let modified = payload.and_then(|payload| ConferenceModified::try_from(payload).ok()).unwrap_or_default();
        let transport: Option<IceTransport> = modified
            .endpoints
            .into_iter()
            .find(|endpoint| endpoint.id == nick)
            .and_then(|endpoint| endpoint.transport)
            .and_then(|transport| transport.ice);
        let initiator = self.jid.clone();
        let sid = self.random_id().replace('-', "");
        let region = |focus: &Self, bridge: &str| focus.bridges.get(bridge).and_then(|bridge| bridge.region.clone());
        let bridge = self.conferences.get(room).and_then(|c| c.session.as_ref()).map(|session| session.bridge.clone());
        let region = bridge.and_then(|bridge| region(self, &bridge));
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let members = conference.members.len();
        let Some(session) = conference.session.as_mut() else { return };
        if session.feedback.is_none() {
            session.feedback = modified.sources.as_ref().map(feedback_sources);
        }
        let Some(member) = conference.members.get_mut(nick).filter(|member| member.stage == Stage::Allocating) else {
            return;
        };
        let Some(transport) = transport else {
            tracing::error!(%room, endpoint = nick, "the bridge's answer has no transport; this member gets no media");
            member.stage = Stage::Idle;
            return;
        };
        member.told = conference.sources.for_receiver(nick);
        let features = member.features.unwrap_or(Features::UNKNOWN);
        let mut sources = member.told.clone();
        if let Some(feedback) = &session.feedback {
            sources.insert(BRIDGE_OWNER.to_owned(), feedback.clone());
        }
        let beyond = |limit: Option<usize>| limit.is_some_and(|limit| members > limit);
        let (audio, video) = conference.start_muted;
        let offer = Offer {
            sid: &sid,
            initiator: &initiator,
            media: &member.offered,
            transport: &transport,
            bridge_session: &session.id,
            region: region.as_deref(),
            sources: &sources,
            json: features.json_sources,
            start_muted: (beyond(audio), beyond(video)),
        };
        let jingle = offer.to_jingle();
        member.sid.clone_from(&sid);
        member.stage = Stage::Offered;
        let pending = Pending::Initiate { room: room.clone(), nick: nick.to_owned(), sid };
        self.request(now, &format!("{room}/{nick}"), true, jingle.into(), pending);
    }

    /// Reactions to a refused allocation (focus-protocol 7.6).
    fn allocation_failed(&mut self, now: Instant, room: &BareJid, nick: &str, error: &StanzaError) {
        let reason = colibri_reason(error);
        let bridge = self.conferences.get(room).and_then(|c| c.session.as_ref()).map(|session| session.bridge.clone());
        let Some(bridge) = bridge else { return };
        tracing::warn!(%room, endpoint = nick, %bridge, condition = ?error.defined_condition, ?reason, "allocation refused");
        match (&error.defined_condition, reason) {
            (DefinedCondition::ItemNotFound, Some(ColibriReason::ConferenceNotFound))
            | (DefinedCondition::Conflict, _) => self.reinvite_all(now, room, None),
            (DefinedCondition::ServiceUnavailable, Some(ColibriReason::GracefulShutdown)) => {
                self.bridges.graceful_shutdown(&bridge);
                self.reinvite_all(now, room, None);
            }
            (DefinedCondition::BadRequest | DefinedCondition::ItemNotFound, _) => {
                // Idle would be invited again at the next change; this one has to come back by itself.
                if let Some(member) = self.conferences.get_mut(room).and_then(|c| c.members.get_mut(nick)) {
                    member.stage = Stage::Discovering;
                }
            }
            _ => self.bridge_failed(now, room),
        }
    }

    /// The bridge of a conference is broken: nobody new goes there, and everybody leaves.
    fn bridge_failed(&mut self, now: Instant, room: &BareJid) {
        let session = self.conferences.get(room).and_then(|conference| conference.session.clone());
        if let Some(session) = session {
            self.bridges.failed(now, &session.bridge);
        }
        self.reinvite_all(now, room, None);
    }

    pub(super) fn updated(&mut self, now: Instant, room: &BareJid, session: &str, answer: Answer) {
        let current = self.conferences.get(room).and_then(|conference| conference.session.as_ref());
        if current.is_none_or(|current| current.id != session) {
            return;
        }
        let Answer::Error(error) = answer else { return };
        let unknown = error
            .other
            .clone()
            .and_then(|other| ColibriError::try_from(other).ok())
            .filter(|colibri| colibri.reason == Some(ColibriReason::UnknownEndpoint))
            .and_then(|colibri| colibri.endpoint)
            .map(|endpoint| endpoint.id);
        tracing::warn!(%room, condition = ?error.defined_condition, ?unknown, "update refused; members are invited again");
        self.reinvite_all(now, room, unknown.as_deref());
    }

    pub(super) fn initiated(&mut self, now: Instant, room: &BareJid, nick: &str, sid: &str, answer: Answer) {
        let Answer::Error(error) = answer else { return };
        let member = self.conferences.get_mut(room).and_then(|conference| conference.members.get_mut(nick));
        let Some(member) = member.filter(|member| member.sid == sid) else { return };
        tracing::warn!(%room, endpoint = nick, condition = ?error.defined_condition, "the client refused its offer");
        member.stage = Stage::Discovering;
        self.expire_endpoint(now, room, nick);
        self.terminate(room, nick, "general-error", "jingle session failed");
    }

    fn terminate(&mut self, room: &BareJid, nick: &str, condition: &str, text: &str) {
        let sid = self.conferences.get(room).and_then(|c| c.members.get(nick)).map(|member| member.sid.clone());
        let Some(sid) = sid.filter(|sid| !sid.is_empty()) else { return };
        let jingle = Jingle { reason: Some(Reason::new(condition, text)), ..Jingle::new("session-terminate", &sid) };
        self.notify(&format!("{room}/{nick}"), jingle.into());
    }

    /// Invites one member again, or all with a new session on a bridge.
    pub(super) fn reinvite_all(&mut self, now: Instant, room: &BareJid, only: Option<&str>) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        if only.is_none() {
            if let Some(session) = conference.session.take() {
                let meeting_id = conference.meeting_id.clone();
                // A new id: the bridge may still hold the old conference, or be another one.
                conference.meeting_id = String::new();
                if self.bridges.get(&session.bridge).is_some() {
                    self.expire_on_bridge(now, &session.bridge, &meeting_id);
                }
                let fresh = self.random_id();
                if let Some(conference) = self.conferences.get_mut(room) {
                    conference.meeting_id = fresh;
                }
            }
        }
        let Some(conference) = self.conferences.get(room) else { return };
        let affected = |nick: &String| {
            only.is_none_or(|only| only == nick) && conference.members.get(nick).is_some_and(|m| m.has_endpoint())
        };
        let nicks: Vec<String> = conference.by_arrival().into_iter().filter(affected).collect();
        for nick in &nicks {
            self.totals.moved += 1;
            self.end_session(room, nick);
            self.terminate(room, nick, "success", "moving");
        }
        self.invite_missing(now, room);
    }

    /// Forgets a member's session and tells the others that its sources are gone.
    fn end_session(&mut self, room: &BareJid, nick: &str) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        conference.sources.clear(nick);
        if let Some(member) = conference.members.get_mut(nick) {
            member.stage = Stage::Idle;
            member.told.clear();
        }
        self.tell_others(room);
    }

    /// The last one left has waited long enough.
    pub(super) fn end_last_session(&mut self, now: Instant, room: &BareJid) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        conference.single_deadline = None;
        if conference.members.len() != 1 {
            return;
        }
        let meeting_id = conference.meeting_id.clone();
        let session = conference.session.take();
        let nicks = conference.by_arrival();
        let fresh = self.random_id();
        if let Some(conference) = self.conferences.get_mut(room) {
            conference.meeting_id = fresh;
        }
        if let Some(session) = session {
            self.expire_on_bridge(now, &session.bridge, &meeting_id);
        }
        for nick in nicks {
            self.end_session(room, &nick);
            self.terminate(room, &nick, "expired", "Idle session timeout");
        }
        self.announce(room);
    }

    /// Takes a member's endpoint off the bridge; the conference with it when it was the last.
    pub(super) fn expire_endpoint(&mut self, now: Instant, room: &BareJid, nick: &str) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let Some(session) = conference.session.clone() else { return };
        if conference.sessions() == 0 {
            conference.session = None;
            let meeting_id = std::mem::take(&mut conference.meeting_id);
            let fresh = self.random_id();
            if let Some(conference) = self.conferences.get_mut(room) {
                conference.meeting_id = fresh;
            }
            self.expire_on_bridge(now, &session.bridge, &meeting_id);
            return;
        }
        let endpoint = Endpoint { expire: true, ..Endpoint::new(nick) };
        self.update_endpoint(now, room, endpoint);
    }

    fn update_endpoint(&mut self, now: Instant, room: &BareJid, endpoint: Endpoint) {
        let Some(conference) = self.conferences.get(room) else { return };
        let Some(session) = conference.session.clone() else { return };
        let request =
            ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(conference.meeting_id.clone()) };
        let pending = Pending::Update { room: room.clone(), session: session.id };
        self.request(now, &session.bridge, true, request.into(), pending);
    }

    /// Tells every member with a running session what changed for it since it was last told.
    fn tell_others(&mut self, room: &BareJid) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let mut messages = Vec::new();
        for (nick, member) in conference.members.iter_mut().filter(|(_, member)| member.stage == Stage::Active) {
            let now_known = conference.sources.for_receiver(nick);
            let (mut add, mut remove) = (BTreeMap::new(), BTreeMap::new());
            let nothing = SourceSet::default();
            let owners: std::collections::BTreeSet<&String> = now_known.keys().chain(member.told.keys()).collect();
            for owner in owners {
                let before = member.told.get(owner).unwrap_or(&nothing);
                let (added, removed) = difference(before, now_known.get(owner).unwrap_or(&nothing));
                for (set, all) in [(added, &mut add), (removed, &mut remove)] {
                    if !set.is_empty() {
                        all.insert(owner.clone(), set);
                    }
                }
            }
            let json = member.features.unwrap_or(Features::UNKNOWN).json_sources;
            for (action, owners) in [("source-remove", remove), ("source-add", add)] {
                if !owners.is_empty() {
                    messages.push((nick.clone(), sources_jingle(action, &member.sid, &owners, json)));
                }
            }
            member.told = now_known;
        }
        for (nick, jingle) in messages {
            self.notify(&format!("{room}/{nick}"), jingle.into());
        }
    }

    /// A Jingle IQ of a client (focus-protocol 5.1).
    pub(super) fn jingle(&mut self, now: Instant, request: &Request) -> Iq {
        let Some((room, nick)) = request.from.as_ref().and_then(Self::occupant) else {
            return request.refuse(DefinedCondition::BadRequest, "only occupants of a room have sessions");
        };
        let jingle = match Jingle::try_from(request.payload.clone()) {
            Ok(jingle) => jingle,
            Err(error) => return request.refuse(DefinedCondition::BadRequest, &error.to_string()),
        };
        let member = self.conferences.get(&room).and_then(|conference| conference.members.get(&nick));
        let Some(member) = member else {
            return request.refuse(DefinedCondition::ItemNotFound, "no such conference or member");
        };
        if member.sid != jingle.sid {
            return request.refuse(DefinedCondition::BadRequest, "unknown session");
        }
        if !matches!(member.stage, Stage::Offered | Stage::Active) {
            return request.refuse(DefinedCondition::Gone { new_address: None }, "session ended");
        }
        let outcome = match jingle.action.as_str() {
            "session-accept" => self.accept(now, &room, &nick, &jingle),
            "transport-info" => self.transport_info(now, &room, &nick, &jingle),
            "source-add" | "addsource" => self.change_sources(now, &room, &nick, &jingle, true),
            "source-remove" | "removesource" => self.change_sources(now, &room, &nick, &jingle, false),
            "session-terminate" => self.client_terminates(now, &room, &nick, &jingle),
            "session-info" => self.session_info(&jingle),
            other => Err((DefinedCondition::FeatureNotImplemented, format!("{other} is not supported"))),
        };
        match outcome {
            Ok(()) => request.result(None),
            Err((condition, text)) => {
                tracing::warn!(%room, endpoint = %nick, action = %jingle.action, text, "Jingle request refused");
                request.refuse(condition, &text)
            }
        }
    }

    fn accept(&mut self, now: Instant, room: &BareJid, nick: &str, jingle: &Jingle) -> Outcome {
        let Some(conference) = self.conferences.get_mut(room) else { return Ok(()) };
        let Some(member) = conference.members.get_mut(nick) else { return Ok(()) };
        let transport = transport_of(&jingle.contents).ok_or_else(missing_transport)?;
        if let Err(error) = conference.sources.add(nick, SourceSet::from_contents(&jingle.contents)) {
            return Err((DefinedCondition::BadRequest, error.to_string()));
        }
        member.stage = Stage::Active;
        let answered = offer::answered_media(&jingle.contents, &member.offered);
        let last_n = jingle.contents.iter().find_map(|content| content.description.as_ref()?.initial_last_n.clone());
        let endpoint = Endpoint {
            stats_id: member.stats_id.clone(),
            // Our extension: under which numbers this endpoint really talks (docs/decisions.md).
            media: answered.unwrap_or_default(),
            transport: Some(Transport { ice: Some(transport), ..Transport::default() }),
            sources: Some(to_colibri(&conference.sources.of(nick))),
            initial_last_n: last_n,
            ..Endpoint::new(nick)
        };
        self.update_endpoint(now, room, endpoint);
        self.tell_others(room);
        Ok(())
    }

    fn transport_info(&mut self, now: Instant, room: &BareJid, nick: &str, jingle: &Jingle) -> Outcome {
        let transport = transport_of(&jingle.contents).ok_or_else(missing_transport)?;
        let transport = Some(Transport { ice: Some(transport), ..Transport::default() });
        self.update_endpoint(now, room, Endpoint { transport, ..Endpoint::new(nick) });
        Ok(())
    }

    fn change_sources(&mut self, now: Instant, room: &BareJid, nick: &str, jingle: &Jingle, add: bool) -> Outcome {
        let Some(conference) = self.conferences.get_mut(room) else { return Ok(()) };
        let change = SourceSet::from_contents(&jingle.contents);
        let changed = match add {
            true => conference.sources.add(nick, change),
            false => conference.sources.remove(nick, &change),
        };
        changed.map_err(|error| (DefinedCondition::BadRequest, error.to_string()))?;
        let sources = Some(to_colibri(&conference.sources.of(nick)));
        self.update_endpoint(now, room, Endpoint { sources, ..Endpoint::new(nick) });
        self.tell_others(room);
        Ok(())
    }

    fn client_terminates(&mut self, now: Instant, room: &BareJid, nick: &str, jingle: &Jingle) -> Outcome {
        let Some(conference) = self.conferences.get_mut(room) else { return Ok(()) };
        let session = jingle.bridge_session.clone().unwrap_or_default();
        let current = conference.session.as_ref().map(|session| session.id.clone());
        if session.id != current {
            return Err((DefinedCondition::ItemNotFound, "that bridge session is not the current one".to_owned()));
        }
        let restart = session.restart.as_deref() == Some("true");
        let granted = restart && conference.members.get_mut(nick).is_some_and(|member| member.may_restart(now));
        tracing::info!(%room, endpoint = nick, restart, granted, "client ended its session");
        self.end_session(room, nick);
        self.expire_endpoint(now, room, nick);
        if granted {
            self.totals.restarts += 1;
            self.invite_missing(now, room);
            return Ok(());
        }
        if let Some(member) = self.conferences.get_mut(room).and_then(|c| c.members.get_mut(nick)) {
            // Not idle: nobody who ended the session is invited again unasked.
            member.stage = Stage::Discovering;
        }
        if restart { Err((DefinedCondition::ResourceConstraint, "rate-limited".to_owned())) } else { Ok(()) }
    }

    fn session_info(&mut self, jingle: &Jingle) -> Outcome {
        let ice_restart = jingle.bridge_session.as_ref().is_some_and(|session| session.ice_restart.is_some());
        if ice_restart {
            return Err((DefinedCondition::FeatureNotImplemented, "ICE restart in place is not supported".to_owned()));
        }
        Ok(())
    }
}

type Outcome = Result<(), (DefinedCondition, String)>;

fn missing_transport() -> (DefinedCondition, String) {
    (DefinedCondition::BadRequest, "no content has a transport".to_owned())
}

/// The transport of the first content that has one: with BUNDLE they are all the same.
fn transport_of(contents: &[Content]) -> Option<IceTransport> {
    let mut transports = contents.iter().filter_map(|content| content.transport.clone());
    let mut first = transports.next()?;
    // Trickled candidates may be spread over the contents.
    for other in transports {
        for candidate in other.candidates {
            if !first.candidates.contains(&candidate) {
                first.candidates.push(candidate);
            }
        }
    }
    Some(first)
}

/// The bridge's own sources with the msids that clients look for.
fn feedback_sources(sources: &Sources) -> SourceSet {
    let mut set = SourceSet::default();
    for media in &sources.media_sources {
        let video = media.media_type == MediaType::Video;
        let kind = media.media_type.as_str();
        set.sources.extend(media.sources.iter().map(|source| OwnedSource {
            ssrc: source.ssrc,
            name: Some(media.id.clone()),
            msid: Some(format!("mixedmslabel mixedlabel{kind}0")),
            video_type: None,
            video,
        }));
    }
    set
}

fn sources_jingle(action: &str, sid: &str, owners: &BTreeMap<String, SourceSet>, json: bool) -> Jingle {
    let mut jingle = Jingle::new(action, sid);
    if json {
        jingle.json_message = Some(json_sources(owners));
    } else {
        xml_sources(owners, &mut jingle.contents);
    }
    jingle
}

fn colibri_reason(error: &StanzaError) -> Option<ColibriReason> {
    ColibriError::try_from(error.other.clone()?).ok()?.reason
}

/// Only for tests: what a member was offered.
#[cfg(test)]
pub(super) fn offered(focus: &Focus, room: &BareJid, nick: &str) -> Vec<Media> {
    focus.conferences[room].members[nick].offered.clone()
}
