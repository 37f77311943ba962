//! Sessions: an endpoint on a bridge, an offer to the client, its answer, and every change after that
//! (docs/protocol/focus.md 5, 7.6 and 11).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::bridges::FULL_RESET;
use super::conference::{BridgeSession, Member, RoomState, Stage};
use super::limits::Refused;
use super::machine::{Answer, Focus, ORPHAN_RETRY, Orphan, Pending};
use super::offer::{self, Features, Offer};
use super::sources::only;
use super::telling::known_to;
use crate::colibri::elements::{
    CAP_RTP_MID_DEMUX, CAP_SOURCE_NAMES, CAP_SSRC_REWRITING, Capability, ColibriError, ConferenceModified,
    ConferenceModify, Endpoint, MediaType, Reason as ColibriReason, Sctp, Sources, Transport,
};
use crate::jingle::{Jingle, OwnedSource, Reason, SourceSet};

/// Owner of the bridge's own sources.
pub(super) const BRIDGE_OWNER: &str = "jvb";

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

    /// Whether an address may be invited now: who comes and goes is invited slower and slower.
    fn may_invite(&mut self, now: Instant, room: &BareJid, nick: &str) -> bool {
        let Some(conference) = self.conferences.get_mut(room) else { return false };
        let real = conference.members.get(nick).and_then(|member| member.real_jid.as_ref());
        let key = (room.clone(), real.map_or_else(|| nick.to_owned(), ToString::to_string));
        if self.invite_rate.take(now, &key) {
            return true;
        }
        let next = self.invite_rate.next(now, &key);
        if conference.invite_due.is_none() {
            self.refused.count(Refused::InviteRate, 1);
        }
        conference.invite_due = Some(conference.invite_due.map_or(next, |due| due.min(next)));
        false
    }

    /// Asks a bridge for an endpoint.
    fn allocate(&mut self, now: Instant, room: &BareJid, nick: &str) {
        let Some(conference) = self.conferences.get(room) else { return };
        let region = conference.members.get(nick).and_then(|member| member.region.clone());
        let chosen = || self.bridges.select(now, region.as_deref());
        let session = match conference.session.clone() {
            Some(session) if self.bridges.is_operational(now, &session.bridge) => session,
            Some(_) => {
                // One bridge per conference: a newcomer whom the present one cannot serve takes everybody along.
                match chosen() {
                    Some(_) => self.reinvite_all(now, room, None),
                    None => self.set_no_bridge(room, true),
                }
                return;
            }
            None => {
                let Some(bridge) = chosen() else {
                    self.set_no_bridge(room, true);
                    return;
                };
                BridgeSession { id: self.random_id(), bridge, created: false, feedback: None }
            }
        };
        self.set_no_bridge(room, false);
        if !self.may_invite(now, room, nick) {
            return;
        }
        self.invites += 1;
        let invite = self.invites;
        let sctp = self.settings.sctp;
        let create = !session.created;
        if create {
            self.choose_meeting_id(now, room, &session.bridge);
        }
        let Some(conference) = self.conferences.get_mut(room) else { return };
        conference.session = Some(BridgeSession { created: true, ..session.clone() });
        let Some(member) = conference.members.get_mut(nick) else { return };
        let features = member.features.unwrap_or(Features::UNKNOWN);
        member.stage = Stage::Allocating;
        member.invite = invite;
        member.told.clear();
        member.offered = offer::media(features);
        member.ssrc_rewriting = features.ssrc_rewriting;
        let rewriting = features.ssrc_rewriting.then_some(CAP_SSRC_REWRITING);
        let mid_demux = (features.ssrc_rewriting && features.mid_demux).then_some(CAP_RTP_MID_DEMUX);
        let capabilities = [CAP_SOURCE_NAMES].into_iter().chain(rewriting).chain(mid_demux);
        let endpoint = Endpoint {
            create: true,
            stats_id: member.stats_id.clone(),
            capabilities: capabilities.map(|name| Capability { name: name.to_owned() }).collect(),
            media: member.offered.clone(),
            transport: Some(Transport {
                ice_controlling: true,
                sctp: (sctp && features.sctp).then(Sctp::default),
                ..Transport::default()
            }),
            sources: Some(Sources::default()),
            ..Endpoint::new(nick)
        };
        let request = ConferenceModify {
            create,
            name: create.then(|| room.to_string()),
            endpoints: vec![endpoint],
            ..ConferenceModify::new(&conference.meeting_id)
        };
        let meeting_id = conference.meeting_id.clone();
        self.bridges.endpoint_added(now, &session.bridge);
        let pending = Pending::Allocate { room: room.clone(), nick: nick.to_owned(), session: session.id, invite };
        self.request(now, &session.bridge, true, request.into(), pending);
        if create {
            tracing::info!(%room, meeting = %meeting_id, bridge = %session.bridge, "conference goes to its bridge");
            self.announce(room);
            self.expire_orphans(now, room);
        }
    }

    /// The room starts again: what is left of it from before may go.
    fn expire_orphans(&mut self, now: Instant, room: &BareJid) {
        let (mine, others) = std::mem::take(&mut self.orphans).into_iter().partition(|orphan| orphan.room == *room);
        self.orphans = others;
        let mine: Vec<Orphan> = mine;
        for orphan in mine {
            self.expire_orphan(now, orphan);
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

    /// The bridge's answer to the invitation `invite` of a member, in our session `session` on that bridge.
    pub(super) fn allocated(
        &mut self,
        now: Instant,
        room: &BareJid,
        nick: &str,
        (session, invite): (&str, u64),
        answer: Answer,
    ) {
        let Some(conference) = self.conferences.get(room) else { return };
        if conference.session.as_ref().is_none_or(|current| current.id != session) {
            return;
        }
        let asked = |member: &Member| member.invite == invite && member.stage == Stage::Allocating;
        if !conference.members.get(nick).is_some_and(asked) {
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
        let transport =
            modified.endpoints.into_iter().find(|e| e.id == nick).and_then(|e| e.transport).unwrap_or_default();
        let sctp_port = transport.sctp.as_ref().and_then(|sctp| sctp.port);
        let initiator = self.jid.clone();
        let sid = self.random_id().replace('-', "");
        let region = |focus: &Self, bridge: &str| focus.bridges.get(bridge).and_then(|bridge| bridge.region.clone());
        let bridge = self.conferences.get(room).and_then(|c| c.session.as_ref()).map(|session| session.bridge.clone());
        let region = bridge.and_then(|bridge| region(self, &bridge));
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let members = conference.members.len();
        let Some(session) = conference.session.as_mut() else { return };
        conference.meeting.set_taken(false);
        if session.feedback.is_none() {
            session.feedback = modified.sources.as_ref().map(feedback_sources);
            conference.sources.reserve(session.feedback.as_ref().unwrap_or(&SourceSet::default()));
        }
        let Some(member) = conference.members.get_mut(nick) else { return };
        let features = member.features.unwrap_or(Features::UNKNOWN);
        let sctp = self.settings.sctp && features.sctp;
        let Some(transport) = transport.ice.filter(|_| !sctp || sctp_port.is_some()) else {
            tracing::error!(%room, endpoint = nick, "the bridge's answer has no transport; this member gets no media");
            member.stage = Stage::Ended;
            self.expire_endpoint(now, room, nick);
            return;
        };
        member.told = known_to(&conference.sources, nick, member);
        let media = |set: &Arc<SourceSet>| only((**set).clone(), features.audio, features.video);
        let mut sources: BTreeMap<String, SourceSet> = member
            .told
            .iter()
            .map(|(owner, set)| (owner.clone(), media(set)))
            .filter(|(_, set)| !set.is_empty())
            .collect();
        if let Some(feedback) = &session.feedback {
            sources.insert(BRIDGE_OWNER.to_owned(), only(feedback.clone(), features.audio, features.video));
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
            sctp_port: sctp_port.filter(|_| sctp),
        };
        let jingle = offer.to_jingle();
        member.sid.clone_from(&sid);
        member.stage = Stage::Offered;
        let pending = Pending::Initiate { room: room.clone(), nick: nick.to_owned(), sid };
        self.request(now, &format!("{room}/{nick}"), true, jingle.into(), pending);
    }

    /// Reactions to a refused allocation (docs/protocol/focus.md 7.6).
    fn allocation_failed(&mut self, now: Instant, room: &BareJid, nick: &str, error: &StanzaError) {
        let reason = colibri_reason(error);
        let bridge = self.conferences.get(room).and_then(|c| c.session.as_ref()).map(|session| session.bridge.clone());
        let Some(bridge) = bridge else { return };
        tracing::warn!(%room, endpoint = nick, %bridge, condition = ?error.defined_condition, ?reason, "allocation refused");
        match (&error.defined_condition, reason) {
            (DefinedCondition::ItemNotFound, Some(ColibriReason::ConferenceNotFound)) => self.session_failed(now, room),
            (DefinedCondition::Conflict, _) => {
                if let Some(conference) = self.conferences.get_mut(room) {
                    conference.meeting.set_taken(true);
                }
                self.session_failed(now, room);
            }
            (DefinedCondition::ServiceUnavailable, Some(ColibriReason::GracefulShutdown)) => {
                self.bridges.graceful_shutdown(&bridge);
                self.reinvite_all(now, room, None);
            }
            (DefinedCondition::ResourceConstraint, _) => self.bridge_full(now, room, nick, &bridge),
            (DefinedCondition::BadRequest | DefinedCondition::ItemNotFound, _) => {
                if let Some(member) = self.conferences.get_mut(room).and_then(|c| c.members.get_mut(nick)) {
                    member.stage = Stage::Ended;
                }
                self.expire_if_unused(now, room);
            }
            _ => self.bridge_failed(now, room),
        }
    }

    /// A bridge has no room for a member: the conference moves to one that has, or the member is invited again later. The
    /// others are not disturbed where it would not help.
    fn bridge_full(&mut self, now: Instant, room: &BareJid, nick: &str, bridge: &str) {
        self.refused.count(Refused::BridgeFull, 1);
        if self.bridges.full(now, bridge) {
            return self.reinvite_all(now, room, None);
        }
        let Some(conference) = self.conferences.get_mut(room) else { return };
        if let Some(member) = conference.members.get_mut(nick) {
            member.stage = Stage::Idle;
        }
        let again = now + FULL_RESET;
        conference.invite_due = Some(conference.invite_due.map_or(again, |due| due.min(again)));
        if self.expire_if_unused(now, room) {
            self.set_no_bridge(room, true);
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

    /// The conference's session on its bridge does not exist as it should: everybody gets another one.
    fn session_failed(&mut self, now: Instant, room: &BareJid) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        if conference.note_failure(now) {
            tracing::error!(%room, "sessions on this bridge fail again and again; it is left alone");
            self.bridge_failed(now, room);
        } else {
            self.reinvite_all(now, room, None);
        }
    }

    pub(super) fn updated(&mut self, now: Instant, room: &BareJid, nick: &str, session: &str, answer: Answer) {
        let current = self.conferences.get(room).and_then(|conference| conference.session.as_ref());
        if current.is_none_or(|current| current.id != session) {
            return;
        }
        let error = match answer {
            Answer::Error(error) => error,
            Answer::Timeout => {
                tracing::warn!(%room, endpoint = nick, "the bridge did not answer an update");
                return;
            }
            Answer::Result(_) => return,
        };
        let unknown = error
            .other
            .clone()
            .and_then(|other| ColibriError::try_from(other).ok())
            .filter(|colibri| colibri.reason == Some(ColibriReason::UnknownEndpoint))
            .and_then(|colibri| colibri.endpoint)
            .map(|endpoint| endpoint.id);
        tracing::warn!(%room, endpoint = nick, condition = ?error.defined_condition, ?unknown, "update refused");
        match (&error.defined_condition, unknown) {
            (_, Some(unknown)) => self.reinvite_all(now, room, Some(&unknown)),
            // What a client sent does not suit the bridge: that is no reason to disturb the others. What has ended already does
            // not end again, whatever the bridge says of that.
            (DefinedCondition::BadRequest | DefinedCondition::ResourceConstraint, None) => {
                if self.member(room, nick).is_some_and(|member| member.has_endpoint()) {
                    self.fail_member(now, room, nick);
                }
            }
            _ => self.session_failed(now, room),
        }
    }

    pub(super) fn initiated(&mut self, now: Instant, room: &BareJid, nick: &str, sid: &str, answer: Answer) {
        let Answer::Error(error) = answer else { return };
        let member = self.conferences.get(room).and_then(|conference| conference.members.get(nick));
        if member.is_some_and(|member| member.sid == sid) {
            tracing::warn!(%room, endpoint = nick, condition = ?error.defined_condition, "the client refused its offer");
            self.fail_member(now, room, nick);
        }
    }

    /// Ends the session of a member for good: it stays in the room without media.
    pub(super) fn fail_member(&mut self, now: Instant, room: &BareJid, nick: &str) {
        let sid = self.end_session(now, room, nick, Stage::Ended);
        self.expire_endpoint(now, room, nick);
        self.terminate(room, nick, &sid, "general-error", "jingle session failed");
    }

    fn terminate(&mut self, room: &BareJid, nick: &str, sid: &str, condition: &str, text: &str) {
        if sid.is_empty() {
            return;
        }
        let jingle = Jingle { reason: Some(Reason::new(condition, text)), ..Jingle::new("session-terminate", sid) };
        self.notify(&format!("{room}/{nick}"), jingle.into());
    }

    /// Invites one member again, or all with a new session on a bridge.
    pub(super) fn reinvite_all(&mut self, now: Instant, room: &BareJid, only: Option<&str>) {
        let Some(conference) = self.conferences.get(room) else { return };
        let affected = |nick: &String| {
            only.is_none_or(|only| only == nick) && conference.members.get(nick).is_some_and(|m| m.has_endpoint())
        };
        let nicks: Vec<String> = conference.by_arrival().into_iter().filter(affected).collect();
        if only.is_none() {
            self.drop_bridge_session(now, room);
        }
        // All at once: sessions that end are told nothing of each other.
        let mut ended = Vec::new();
        for nick in nicks {
            let Some(conference) = self.conferences.get_mut(room) else { return };
            conference.sources.clear(&nick);
            let Some(member) = conference.members.get_mut(&nick) else { continue };
            ended.push((member.end_session(Stage::Idle), nick));
        }
        self.totals.moved += ended.len() as u64;
        self.tell_others(now, room);
        for (sid, nick) in ended {
            self.terminate(room, &nick, &sid, "success", "moving");
        }
        self.invite_missing(now, room);
    }

    /// Invites one member again whose endpoint on the bridge is of no use any more.
    pub(super) fn reinvite_fresh(&mut self, now: Instant, room: &BareJid, nick: &str) {
        let sid = self.end_session(now, room, nick, Stage::Idle);
        self.expire_endpoint(now, room, nick);
        self.terminate(room, nick, &sid, "success", "moving");
        self.invite_missing(now, room);
    }

    /// Ends the conference on its bridge. The next session has a new meeting id where this bridge may still hold the old
    /// conference when it gets the next request.
    fn drop_bridge_session(&mut self, now: Instant, room: &BareJid) {
        let fresh = self.random_id();
        let Some(conference) = self.conferences.get_mut(room) else { return };
        let Some(session) = conference.session.take() else { return };
        let meeting_id = std::mem::replace(&mut conference.meeting_id, fresh);
        conference.meeting.ended(session.bridge.clone(), now);
        if self.bridges.get(&session.bridge).is_some() {
            self.expire_on_bridge(&session.bridge, &meeting_id);
        } else {
            // It may have lost its connection alone, and come back with what it had.
            self.orphans.push(Orphan::new(now, ORPHAN_RETRY, room.clone(), meeting_id, session.bridge));
        }
    }

    /// Forgets a member's session, tells the others that its sources are gone, and returns the session's id.
    pub(super) fn end_session(&mut self, now: Instant, room: &BareJid, nick: &str, stage: Stage) -> String {
        let Some(conference) = self.conferences.get_mut(room) else { return String::new() };
        conference.sources.clear(nick);
        let sid = conference.members.get_mut(nick).map(|member| member.end_session(stage));
        self.tell_others(now, room);
        sid.unwrap_or_default()
    }

    /// The last one left has waited long enough.
    pub(super) fn end_last_session(&mut self, now: Instant, room: &BareJid) {
        let Some(conference) = self.conferences.get_mut(room) else { return };
        conference.single_deadline = None;
        if conference.members.len() != 1 {
            return;
        }
        let nicks = conference.by_arrival();
        self.drop_bridge_session(now, room);
        for nick in nicks {
            let sid = self.end_session(now, room, &nick, Stage::Idle);
            self.terminate(room, &nick, &sid, "expired", "Idle session timeout");
        }
        self.announce(room);
    }

    /// Takes a member's endpoint off the bridge; the conference with it when it was the last.
    pub(super) fn expire_endpoint(&mut self, now: Instant, room: &BareJid, nick: &str) {
        if !self.expire_if_unused(now, room) {
            self.update_endpoint(now, room, Endpoint { expire: true, ..Endpoint::new(nick) });
        }
    }

    /// Ends the conference on its bridge when nobody has an endpoint there any more; true when there is none now.
    fn expire_if_unused(&mut self, now: Instant, room: &BareJid) -> bool {
        let Some(conference) = self.conferences.get(room) else { return true };
        if conference.sessions() == 0 {
            self.drop_bridge_session(now, room);
        }
        self.conferences.get(room).is_none_or(|conference| conference.session.is_none())
    }

    pub(super) fn update_endpoint(&mut self, now: Instant, room: &BareJid, endpoint: Endpoint) {
        let Some(conference) = self.conferences.get(room) else { return };
        let Some(session) = conference.session.clone() else { return };
        // An error that answers an expiry is not about the session that may have begun meanwhile.
        let nick = if endpoint.expire { String::new() } else { endpoint.id.clone() };
        let request =
            ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(conference.meeting_id.clone()) };
        let pending = Pending::Update { room: room.clone(), nick, session: session.id };
        self.request(now, &session.bridge, true, request.into(), pending);
    }
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

fn colibri_reason(error: &StanzaError) -> Option<ColibriReason> {
    ColibriError::try_from(error.other.clone()?).ok()?.reason
}
