//! Sessions: an endpoint on a bridge, an offer to the client, its answer, and every change after that
//! (docs/protocol/focus.md 5, 7.6 and 11).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_xmpp::minidom::Element;
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::member::{Member, Stage};
use super::offer::{self, Offer};
use super::sources::{known_to, only};
use super::state::{BRIDGE_OWNER, BridgeSession, Conference, RoomState};
use crate::colibri::elements::{
    CAP_RTP_MID_DEMUX, CAP_SOURCE_NAMES, CAP_SSRC_REWRITING, Capability, ColibriError, ConferenceModified,
    ConferenceModify, Endpoint, MediaType, Reason as ColibriReason, Sctp, Sources, Transport,
};
use crate::focus::bridges::FULL_RESET;
use crate::focus::context::{Context, ORPHAN_RETRY, Orphan};
use crate::focus::features::Features;
use crate::focus::json_message::Medium;
use crate::focus::limits::Refused;
use crate::focus::requests::{Answer, Question};
use crate::jingle::{Jingle, OwnedSource, Reason, SourceSet};

impl Conference {
    /// Invites everybody who has no session, if there are enough.
    pub(in super::super) fn invite_missing(&mut self, cx: &mut Context<'_>) {
        if self.members.len() < cx.settings.min_participants || !matches!(self.state, RoomState::Ready) {
            return;
        }
        // Of those without a session alone: to put everybody in order whenever one comes would cost as much as there are.
        for nick in self.in_order(|member| member.stage() == Stage::Idle) {
            let idle = self.members.get(&nick).is_some_and(|member| member.stage() == Stage::Idle);
            if idle && self.discover(cx, &nick) {
                self.allocate(cx, &nick);
            }
        }
        self.watch_last_one(cx);
    }

    /// Does what is due, but for the end of a room that stayed empty.
    pub(in super::super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        self.metadata_timeout(cx);
        let single = self.single_deadline.is_some_and(|at| at <= now);
        if self.signal_due.take_if(|at| *at <= now).is_some() {
            self.signal_round(cx);
        }
        if self.hold_due.take_if(|at| *at <= now).is_some() {
            self.release_held(cx);
        }
        if self.invite_due.take_if(|at| *at <= now).is_some() {
            self.invite_missing(cx);
        }
        if single {
            self.end_last_session(cx);
        }
    }

    /// Whether an address may be invited now: who comes and goes is invited slower and slower.
    fn may_invite(&mut self, cx: &mut Context<'_>, nick: &str) -> bool {
        let real = self.members.get(nick).and_then(Member::real_jid);
        let key = (self.room.clone(), real.map_or_else(|| nick.to_owned(), ToString::to_string));
        let now = cx.now;
        if cx.invite_rate.take(now, &key) {
            return true;
        }
        let next = cx.invite_rate.next(now, &key);
        if self.invite_due.is_none() {
            cx.refused.count(Refused::InviteRate, 1);
        }
        self.invite_due = Some(self.invite_due.map_or(next, |due| due.min(next)));
        false
    }

    /// Asks a bridge for an endpoint.
    fn allocate(&mut self, cx: &mut Context<'_>, nick: &str) {
        let region = self.members.get(nick).and_then(|member| member.region().map(str::to_owned));
        let chosen = |cx: &Context<'_>| cx.bridges.select(cx.now, region.as_deref());
        let session = match self.session.clone() {
            Some(session) if cx.bridges.is_operational(cx.now, &session.bridge) => session,
            Some(_) => {
                // One bridge per conference: a newcomer whom the present one cannot serve takes everybody along.
                match chosen(cx) {
                    Some(_) => self.reinvite_all(cx, None),
                    None => self.set_no_bridge(cx, true),
                }
                return;
            }
            None => {
                let Some(bridge) = chosen(cx) else {
                    self.set_no_bridge(cx, true);
                    return;
                };
                BridgeSession { id: cx.random_id(), bridge, created: false, feedback: None }
            }
        };
        self.set_no_bridge(cx, false);
        if !self.may_invite(cx, nick) {
            return;
        }
        cx.invites += 1;
        let invite = cx.invites;
        let sctp = cx.settings.sctp;
        let create = !session.created;
        if create {
            self.choose_meeting_id(cx, &session.bridge);
        }
        self.session = Some(BridgeSession { created: true, ..session.clone() });
        cx.meeting_ids.insert(self.meeting_id.clone(), self.room.clone());
        let force_mute = self.force_mute_of(&cx.helpers, nick);
        let Some(member) = self.members.get_mut(nick) else { return };
        let features = member.features().unwrap_or(Features::UNKNOWN);
        member.allocating(invite, offer::media(features), force_mute);
        let rewriting = features.ssrc_rewriting.then_some(CAP_SSRC_REWRITING);
        let mid_demux = (features.ssrc_rewriting && features.mid_demux).then_some(CAP_RTP_MID_DEMUX);
        let capabilities = [CAP_SOURCE_NAMES].into_iter().chain(rewriting).chain(mid_demux);
        let endpoint = Endpoint {
            create: true,
            stats_id: member.stats_id(),
            capabilities: capabilities.map(|name| Capability { name: name.to_owned() }).collect(),
            media: member.offered().to_vec(),
            transport: Some(Transport {
                ice_controlling: true,
                sctp: (sctp && features.sctp).then(Sctp::default),
                ..Transport::default()
            }),
            sources: Some(Sources::default()),
            force_mute: Some(force_mute).filter(|mute| mute.audio || mute.video),
            ..Endpoint::new(nick)
        };
        let request = ConferenceModify {
            create,
            name: create.then(|| self.room.to_string()),
            endpoints: vec![endpoint],
            ..ConferenceModify::new(&self.meeting_id)
        };
        let meeting_id = self.meeting_id.clone();
        let now = cx.now;
        cx.bridges.endpoint_added(now, &session.bridge);
        let pending = Question::Allocate { nick: nick.to_owned(), session: session.id, invite };
        self.ask(cx, &session.bridge, true, request.into(), pending);
        if create {
            tracing::info!(room = %self.room, meeting = %meeting_id, bridge = %session.bridge, "bridge selected");
            self.announce(cx);
            self.expire_orphans(cx);
        }
    }

    /// The id for a new session of a conference on a bridge.
    fn choose_meeting_id(&mut self, cx: &mut Context<'_>, bridge: &str) {
        let Some(id) = self.meeting.usable_on(bridge, cx.now).cloned() else { return };
        if cx.orphans.iter().any(|orphan| orphan.bridge == bridge && orphan.meeting_id == id) {
            return;
        }
        let other = cx.meeting_ids.get(&id).filter(|other| **other != self.room).cloned();
        if let Some(other) = other {
            let now = cx.now;
            if let Some(silenced) = cx.meeting_lines.speak(now) {
                tracing::warn!(room = %self.room, %other, meeting = %id, silenced, "two rooms have one meeting id; the later one gets a random id");
            }
            cx.refused.count(Refused::MeetingId, 1);
            return;
        }
        self.meeting_id = id;
    }

    /// The room starts again: what is left of it from before may go.
    fn expire_orphans(&mut self, cx: &mut Context<'_>) {
        let (mine, others) = std::mem::take(&mut cx.orphans).into_iter().partition(|orphan| orphan.room == self.room);
        cx.orphans = others;
        let mine: Vec<Orphan> = mine;
        for orphan in mine {
            cx.expire_orphan(orphan);
        }
    }

    fn set_no_bridge(&mut self, cx: &mut Context<'_>, no_bridge: bool) {
        if self.no_bridge != no_bridge {
            self.no_bridge = no_bridge;
            if no_bridge {
                tracing::error!(room = %self.room, "no operational bridge; the conference waits for one");
            }
            self.announce(cx);
        }
    }

    /// The bridge's answer to the invitation `invite` of a member, in our session `session` on that bridge.
    pub(in super::super) fn allocated(
        &mut self,
        cx: &mut Context<'_>,
        nick: &str,
        (session, invite): (&str, u64),
        answer: Answer,
    ) {
        if self.session.as_ref().is_none_or(|current| current.id != session) {
            return;
        }
        let asked = |member: &Member| member.invite() == invite && member.stage() == Stage::Allocating;
        if !self.members.get(nick).is_some_and(asked) {
            return;
        }
        match answer {
            Answer::Result(payload) => self.send_offer(cx, nick, payload),
            Answer::Error(error) => self.allocation_failed(cx, nick, &error),
            Answer::Timeout => {
                tracing::error!(room = %self.room, endpoint = nick, "the bridge does not answer; moving the conference");
                self.bridge_failed(cx);
            }
        }
    }

    fn send_offer(&mut self, cx: &mut Context<'_>, nick: &str, payload: Option<Element>) {
        let modified = payload.and_then(|payload| ConferenceModified::try_from(payload).ok()).unwrap_or_default();
        let transport =
            modified.endpoints.into_iter().find(|e| e.id == nick).and_then(|e| e.transport).unwrap_or_default();
        let sctp_port = transport.sctp.as_ref().and_then(|sctp| sctp.port);
        let initiator = cx.jid.clone();
        let sid = cx.random_id().replace('-', "");
        let bridge = self.session.as_ref().and_then(|session| cx.bridges.get(&session.bridge));
        let region = bridge.and_then(|bridge| bridge.region.clone());
        let members = self.members.len();
        let (no_audio, no_video) = (
            self.must_not_send(&cx.helpers, nick, Medium::Audio),
            self.must_not_send(&cx.helpers, nick, Medium::Video),
        );
        let Some(session) = self.session.as_mut() else { return };
        self.meeting.set_taken(false);
        if session.feedback.is_none() {
            session.feedback = modified.sources.as_ref().map(feedback_sources);
            self.sources.reserve(session.feedback.as_ref().unwrap_or(&SourceSet::default()));
        }
        let Some(member) = self.members.get_mut(nick) else { return };
        let features = member.features().unwrap_or(Features::UNKNOWN);
        let sctp = cx.settings.sctp && features.sctp;
        let Some(transport) = transport.ice.filter(|_| !sctp || sctp_port.is_some()) else {
            tracing::error!(room = %self.room, endpoint = nick, "the bridge's answer has no transport; this member gets no media");
            member.end_session(Stage::Ended);
            self.expire_endpoint(cx, nick);
            return;
        };
        let known = known_to(&self.sources, nick, member.ssrc_rewriting());
        let media = |set: &Arc<SourceSet>| only((**set).clone(), features.audio, features.video);
        let mut sources: BTreeMap<String, SourceSet> =
            known.iter().map(|(owner, set)| (owner.clone(), media(set))).filter(|(_, set)| !set.is_empty()).collect();
        if let Some(feedback) = &session.feedback {
            sources.insert(BRIDGE_OWNER.to_owned(), only(feedback.clone(), features.audio, features.video));
        }
        let senders = cx.settings.sources.senders;
        let beyond = |limit: Option<usize>, may: usize| members > limit.map_or(may, |limit| limit.min(may));
        let (audio, video) = (beyond(self.start_muted.0, senders.audio), beyond(self.start_muted.1, senders.video));
        let (new_audio, new_video) = if member.was_invited() { (false, false) } else { self.metadata.start_muted() };
        let offer = Offer {
            sid: &sid,
            initiator: &initiator,
            media: member.offered(),
            transport: &transport,
            bridge_session: &session.id,
            region: region.as_deref(),
            sources: &sources,
            json: features.json_sources,
            start_muted: (audio || new_audio || no_audio, video || new_video || no_video),
            sctp_port: sctp_port.filter(|_| sctp),
        };
        let jingle = offer.to_jingle();
        member.offer(&sid, known);
        let pending = Question::Initiate { nick: nick.to_owned(), sid };
        self.ask(cx, &self.occupant(nick), true, jingle.into(), pending);
    }

    /// Reactions to a refused allocation (docs/protocol/focus.md 7.6).
    fn allocation_failed(&mut self, cx: &mut Context<'_>, nick: &str, error: &StanzaError) {
        let reason = colibri_reason(error);
        let bridge = self.session.as_ref().map(|session| session.bridge.clone());
        let Some(bridge) = bridge else { return };
        tracing::warn!(room = %self.room, endpoint = nick, %bridge, condition = ?error.defined_condition, ?reason, "allocation refused");
        match (&error.defined_condition, reason) {
            (DefinedCondition::ItemNotFound, Some(ColibriReason::ConferenceNotFound)) => self.session_failed(cx),
            (DefinedCondition::Conflict, _) => {
                self.meeting.set_taken(true);
                self.session_failed(cx);
            }
            (DefinedCondition::ServiceUnavailable, Some(ColibriReason::GracefulShutdown)) => {
                cx.bridges.graceful_shutdown(&bridge);
                self.reinvite_all(cx, None);
            }
            (DefinedCondition::ResourceConstraint, _) => self.bridge_full(cx, nick, &bridge),
            (DefinedCondition::BadRequest | DefinedCondition::ItemNotFound, _) => {
                if let Some(member) = self.members.get_mut(nick) {
                    member.end_session(Stage::Ended);
                }
                self.expire_if_unused(cx);
            }
            _ => self.bridge_failed(cx),
        }
    }

    /// A bridge has no room for a member: the conference moves to one that has, or the member is invited again later. The
    /// others are not disturbed where it would not help.
    fn bridge_full(&mut self, cx: &mut Context<'_>, nick: &str, bridge: &str) {
        cx.refused.count(Refused::BridgeFull, 1);
        let now = cx.now;
        if cx.bridges.full(now, bridge) {
            return self.reinvite_all(cx, None);
        }
        if let Some(member) = self.members.get_mut(nick) {
            member.end_session(Stage::Idle);
        }
        let again = cx.now + FULL_RESET;
        self.invite_due = Some(self.invite_due.map_or(again, |due| due.min(again)));
        if self.expire_if_unused(cx) {
            self.set_no_bridge(cx, true);
        }
    }

    /// The bridge of a conference is broken: nobody new goes there, and everybody leaves.
    fn bridge_failed(&mut self, cx: &mut Context<'_>) {
        if let Some(session) = &self.session {
            let (now, bridge) = (cx.now, session.bridge.clone());
            cx.bridges.failed(now, &bridge);
        }
        self.reinvite_all(cx, None);
    }

    /// The conference's session on its bridge does not exist as it should: everybody gets another one.
    fn session_failed(&mut self, cx: &mut Context<'_>) {
        if self.note_failure(cx.now) {
            tracing::error!(room = %self.room, "sessions on this bridge keep failing; avoiding it for a while");
            self.bridge_failed(cx);
        } else {
            self.reinvite_all(cx, None);
        }
    }

    pub(in super::super) fn updated(&mut self, cx: &mut Context<'_>, nick: &str, session: &str, answer: Answer) {
        let current = self.session.as_ref();
        if current.is_none_or(|current| current.id != session) {
            return;
        }
        let error = match answer {
            Answer::Error(error) => error,
            Answer::Timeout => {
                tracing::warn!(room = %self.room, endpoint = nick, "the bridge did not answer an update");
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
        tracing::warn!(room = %self.room, endpoint = nick, condition = ?error.defined_condition, ?unknown, "update refused");
        match (&error.defined_condition, unknown) {
            (_, Some(unknown)) => self.reinvite_all(cx, Some(&unknown)),
            // What a client sent does not suit the bridge: that is no reason to disturb the others. What has ended already does
            // not end again, whatever the bridge says of that.
            (DefinedCondition::BadRequest | DefinedCondition::ResourceConstraint, None) => {
                if self.members.get_mut(nick).is_some_and(|member| member.has_endpoint()) {
                    self.fail_member(cx, nick);
                }
            }
            _ => self.session_failed(cx),
        }
    }

    pub(in super::super) fn initiated(&mut self, cx: &mut Context<'_>, nick: &str, sid: &str, answer: Answer) {
        let Answer::Error(error) = answer else { return };
        let member = self.members.get(nick);
        if member.is_some_and(|member| member.sid() == sid) {
            tracing::warn!(room = %self.room, endpoint = nick, condition = ?error.defined_condition, "the client refused its offer");
            self.fail_member(cx, nick);
        }
    }

    /// Ends the session of a member for good: it stays in the room without media.
    pub(super) fn fail_member(&mut self, cx: &mut Context<'_>, nick: &str) {
        let sid = self.end_session(cx, nick, Stage::Ended);
        self.expire_endpoint(cx, nick);
        self.terminate(cx, nick, &sid, "general-error", "jingle session failed");
    }

    fn terminate(&mut self, cx: &mut Context<'_>, nick: &str, sid: &str, condition: &str, text: &str) {
        if sid.is_empty() {
            return;
        }
        let jingle = Jingle { reason: Some(Reason::new(condition, text)), ..Jingle::new("session-terminate", sid) };
        cx.notify(&self.occupant(nick), jingle.into());
    }

    /// Invites one member again, or all with a new session on a bridge.
    pub(in super::super) fn reinvite_all(&mut self, cx: &mut Context<'_>, only: Option<&str>) {
        let nicks: Vec<String> = match only {
            None => self.in_order(Member::has_endpoint),
            Some(only) => {
                let affected = self.members.get(only).is_some_and(Member::has_endpoint);
                affected.then(|| only.to_owned()).into_iter().collect()
            }
        };
        if only.is_none() {
            self.drop_bridge_session(cx);
        }
        // All at once: sessions that end are told nothing of each other.
        let mut ended = Vec::new();
        for nick in nicks {
            self.sources.clear(&nick);
            let Some(member) = self.members.get_mut(&nick) else { continue };
            ended.push((member.end_session(Stage::Idle), nick));
        }
        cx.totals.moved += ended.len() as u64;
        self.signal_sources(cx);
        for (sid, nick) in ended {
            self.terminate(cx, &nick, &sid, "success", "moving");
        }
        self.invite_missing(cx);
    }

    /// Invites one member again whose endpoint on the bridge is of no use any more.
    pub(super) fn reinvite_fresh(&mut self, cx: &mut Context<'_>, nick: &str) {
        let sid = self.end_session(cx, nick, Stage::Idle);
        self.expire_endpoint(cx, nick);
        self.terminate(cx, nick, &sid, "success", "moving");
        self.invite_missing(cx);
    }

    /// Ends the conference on its bridge. The next session has a new meeting id where this bridge may still hold the old
    /// conference when it gets the next request.
    pub(super) fn drop_bridge_session(&mut self, cx: &mut Context<'_>) {
        let fresh = cx.random_id();
        let Some(session) = self.session.take() else { return };
        let meeting_id = std::mem::replace(&mut self.meeting_id, fresh);
        cx.meeting_ids.remove(&meeting_id);
        self.meeting.ended(session.bridge.clone(), cx.now);
        if cx.bridges.get(&session.bridge).is_some() {
            cx.expire_on_bridge(&session.bridge, &meeting_id);
        } else {
            // It may have lost its connection alone, and come back with what it had.
            let orphan = Orphan::new(cx.now, ORPHAN_RETRY, self.room.clone(), meeting_id, session.bridge);
            cx.orphans.push(orphan);
        }
    }

    /// Forgets a member's session, tells the others that its sources are gone, and returns the session's id.
    pub(super) fn end_session(&mut self, cx: &mut Context<'_>, nick: &str, stage: Stage) -> String {
        self.sources.clear(nick);
        let sid = self.members.get_mut(nick).map(|member| member.end_session(stage));
        self.signal_sources(cx);
        sid.unwrap_or_default()
    }

    /// The last one left has waited long enough.
    pub(super) fn end_last_session(&mut self, cx: &mut Context<'_>) {
        self.single_deadline = None;
        if self.members.len() != 1 {
            return;
        }
        let nicks = self.in_order(|_| true);
        self.drop_bridge_session(cx);
        for nick in nicks {
            let sid = self.end_session(cx, &nick, Stage::Idle);
            self.terminate(cx, &nick, &sid, "expired", "Idle session timeout");
        }
        self.announce(cx);
    }

    /// Takes a member's endpoint off the bridge; the conference with it when it was the last.
    pub(super) fn expire_endpoint(&mut self, cx: &mut Context<'_>, nick: &str) {
        if !self.expire_if_unused(cx) {
            self.update_endpoint(cx, Endpoint { expire: true, ..Endpoint::new(nick) });
        }
    }

    /// Ends the conference on its bridge when nobody has an endpoint there any more; true when there is none now.
    fn expire_if_unused(&mut self, cx: &mut Context<'_>) -> bool {
        if self.sessions() == 0 {
            self.drop_bridge_session(cx);
        }
        self.session.is_none()
    }

    pub(super) fn update_endpoint(&mut self, cx: &mut Context<'_>, endpoint: Endpoint) {
        let Some(session) = self.session.clone() else { return };
        // An error that answers an expiry is not about the session that may have begun meanwhile.
        let nick = if endpoint.expire { String::new() } else { endpoint.id.clone() };
        let request = ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(self.meeting_id.clone()) };
        let pending = Question::Update { nick, session: session.id };
        self.ask(cx, &session.bridge, true, request.into(), pending);
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
