//! Sessions: an endpoint on a bridge, an offer to the client, its answer, and every change after that
//! (docs/protocol/focus.md 5, 7.6 and 11).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_xmpp::minidom::Element;
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::member::{Member, Stage};
use super::nodes::{BridgeSession, Left};
use super::offer::{self, Offer};
use super::sources::{known_to, only};
use super::state::{BRIDGE_OWNER, Conference, RoomState};
use crate::colibri::elements::{
    CAP_RTP_MID_DEMUX, CAP_SOURCE_NAMES, CAP_SSRC_REWRITING, Capability, ColibriError, ConferenceModified,
    ConferenceModify, Endpoint, MediaType, Reason as ColibriReason, Sctp, Sources, Transport,
};
use crate::focus::bridges::FULL_RESET;
use crate::focus::cascade::{MeshId, Place};
use crate::focus::context::{Context, ORPHAN_RETRY, Orphan};
use crate::focus::features::Features;
use crate::focus::json_message::Medium;
use crate::focus::limits::Refused;
use crate::focus::requests::{Answer, Question};
use crate::focus::selection::Wanted;
use crate::jingle::{Jingle, OwnedSource, Reason, SourceSet};

impl Conference {
    /// Invites everybody who has no session, if there are enough.
    pub(in super::super) fn invite_missing(&mut self, cx: &mut Context<'_>) {
        if self.members.len() < cx.settings.min_participants || !matches!(self.state, RoomState::Ready) {
            return;
        }
        // Of those without a session alone: to put everybody in order whenever one comes would cost as much as there are.
        for nick in self.in_order(|member| member.stage() == Stage::Idle) {
            if self.invite(cx, &nick) && self.no_bridge {
                // Nor is there one for the others.
                break;
            }
        }
        self.watch_last_one(cx);
    }

    /// Invites a member that has no session; whether it is as far as to need a bridge.
    pub(super) fn invite(&mut self, cx: &mut Context<'_>, nick: &str) -> bool {
        let idle = self.members.get(nick).is_some_and(|member| member.stage() == Stage::Idle);
        let known = idle && self.discover(cx, nick);
        if known {
            self.allocate(cx, nick);
        }
        known
    }

    /// Does what is due, but for the end of a room that stayed empty.
    pub(in super::super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        self.metadata_timeout(cx);
        self.visitors_timeout(cx);
        self.former_timeout(cx);
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
        let Some(bridge) = self.choose_bridge(cx, nick) else { return };
        self.set_no_bridge(cx, false);
        if !self.may_invite(cx, nick) {
            return;
        }
        cx.invites += 1;
        let invite = cx.invites;
        let sctp = cx.settings.sctp;
        let create = self.nodes.on(&bridge).is_none();
        let (session, meeting_id) = self.enter(cx, nick, &bridge);
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
            muc_role: member.is_visitor().then(|| "visitor".to_owned()),
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
            ..ConferenceModify::new(&meeting_id)
        };
        let now = cx.now;
        cx.bridges.endpoint_added(now, &bridge);
        let pending = Question::Allocate { nick: nick.to_owned(), session, invite };
        self.ask(cx, &bridge, true, request.into(), pending);
        // Not before the conference is there.
        self.send_relay_requests(cx);
        if create {
            let bridges = self.nodes.len();
            tracing::info!(room = %self.room, meeting = %meeting_id, %bridge, bridges, "bridge selected");
            self.announce(cx);
            self.expire_orphans(cx);
        }
    }

    /// The bridge for a member. Without one it waits, or everybody moves where it can be served too.
    fn choose_bridge(&mut self, cx: &mut Context<'_>, nick: &str) -> Option<String> {
        let stays = self.nodes.is_empty()
            || self.nodes.iter().any(|session| cx.bridges.is_operational(cx.now, &session.bridge));
        match self.next_bridge(cx, nick) {
            // A newcomer whom none of the present bridges can serve takes everybody along.
            Some(_) if !stays && self.members.get(nick).is_some_and(Member::is_visitor) => self.invite_later(cx),
            Some(_) if !stays => self.reinvite_all(cx, None),
            None => self.set_no_bridge(cx, true),
            chosen => return chosen,
        }
        None
    }

    /// The bridge that a member would get now.
    pub(super) fn next_bridge(&self, cx: &Context<'_>, nick: &str) -> Option<String> {
        let conference = self.nodes.present(cx.now, cx.bridges.recent_interval());
        let (region, version) = (self.members.get(nick).and_then(Member::region), self.pinned.as_deref());
        let (avoid, cut_off) = (self.nodes.left(cx.now, Left::Relieved), self.nodes.left(cx.now, Left::DeadLink));
        let wanted = Wanted { conference: &conference, region, version, avoid: &avoid, cut_off: &cut_off };
        cx.bridges.choose(cx.now, &wanted)
    }

    /// A member gets its endpoint on a bridge, where the conference may be new; ids of the session and of the meeting.
    fn enter(&mut self, cx: &mut Context<'_>, nick: &str, bridge: &str) -> (String, String) {
        let (now, interval) = (cx.now, cx.bridges.recent_interval());
        // Visitors are not announced to other bridges.
        let announced = !self.members.get(nick).is_some_and(Member::is_visitor);
        let session = match self.nodes.on(bridge) {
            Some(session) => {
                let (id, node) = (session.id.clone(), session.node);
                if announced {
                    self.nodes.cascade.place(nick, node);
                }
                id
            }
            None => {
                match self.nodes.is_empty() {
                    true => self.choose_meeting_id(cx, bridge),
                    false => cx.expire_orphans_of(bridge, &self.meeting_id),
                }
                let relay_id = cx.bridges.get(bridge).and_then(|bridge| bridge.relay_id.clone()).unwrap_or_default();
                let node = self.nodes.cascade.add(Place::Mesh(MeshId::CORE), &relay_id, announced.then_some(nick));
                let id = cx.random_id();
                self.nodes.insert(BridgeSession::new(id.clone(), bridge.to_owned(), node));
                id
            }
        };
        self.nodes.place(now, nick, &session, interval);
        cx.meeting_ids.insert(self.meeting_id.clone(), self.room.clone());
        (session, self.meeting_id.clone())
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
        if !self.nodes.is_home(nick, session) {
            return;
        }
        let asked = |member: &Member| member.invite() == invite && member.stage() == Stage::Allocating;
        if !self.members.get(nick).is_some_and(asked) {
            return;
        }
        match answer {
            Answer::Result(payload) => self.send_offer(cx, nick, payload),
            Answer::Error(error) => self.allocation_failed(cx, nick, session, &error),
            Answer::Timeout if cx.server_was_slow(cx.now) => {
                // The question or the answer may still be in the server's queue: others on the bridge need not move.
                tracing::warn!(room = %self.room, endpoint = nick, "no answer about an endpoint while the XMPP server is slow; the bridge is asked again");
                cx.refused.count(Refused::ServerSlow, 1);
                self.reinvite_fresh(cx, nick);
            }
            Answer::Timeout => {
                tracing::error!(room = %self.room, endpoint = nick, "the bridge does not answer; its participants move");
                self.bridge_failed(cx, session);
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
        let Some(home) = self.nodes.home(nick).map(|home| home.id.clone()) else { return };
        let bridge = self.nodes.by_id(&home).and_then(|session| cx.bridges.get(&session.bridge));
        let region = bridge.and_then(|bridge| bridge.region.clone());
        let members = self.in_main_room();
        let (no_audio, no_video) = (
            self.must_not_send(&cx.helpers, nick, Medium::Audio),
            self.must_not_send(&cx.helpers, nick, Medium::Video),
        );
        let Some(session) = self.nodes.by_id_mut(&home) else { return };
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
        self.end_former_session(cx, nick);
        let pending = Question::Initiate { nick: nick.to_owned(), sid };
        self.ask(cx, &self.occupant(nick), true, jingle.into(), pending);
    }

    /// Reactions to a refused allocation (docs/protocol/focus.md 7.6).
    fn allocation_failed(&mut self, cx: &mut Context<'_>, nick: &str, session: &str, error: &StanzaError) {
        let reason = colibri_reason(error);
        let Some(bridge) = self.nodes.by_id(session).map(|session| session.bridge.clone()) else { return };
        tracing::warn!(room = %self.room, endpoint = nick, %bridge, condition = ?error.defined_condition, ?reason, "allocation refused");
        match (&error.defined_condition, reason) {
            (DefinedCondition::ItemNotFound, Some(ColibriReason::ConferenceNotFound)) => {
                self.session_failed(cx, session);
            }
            (DefinedCondition::Conflict, _) => {
                self.meeting.set_taken(true);
                self.session_failed(cx, session);
            }
            (DefinedCondition::ServiceUnavailable, Some(ColibriReason::GracefulShutdown)) => {
                cx.bridges.graceful_shutdown(&bridge);
                self.leave_session(cx, session);
            }
            (DefinedCondition::ResourceConstraint, _) => self.bridge_full(cx, nick, session),
            (DefinedCondition::ItemNotFound, _) => self.bridge_missed(cx, nick),
            (DefinedCondition::BadRequest, _) => {
                if let Some(member) = self.members.get_mut(nick) {
                    member.end_session(Stage::Ended);
                }
                self.forget_endpoint(cx, nick);
            }
            _ => self.bridge_failed(cx, session),
        }
    }

    /// The server no longer finds a bridge that a member was to go to. Its presence, or that of another one, decides what becomes of
    /// the others on it; this one has no session to be moved from, and is invited with them, or later.
    fn bridge_missed(&mut self, cx: &mut Context<'_>, nick: &str) {
        if let Some(member) = self.members.get_mut(nick) {
            member.end_session(Stage::Idle);
        }
        let unused = self.forget_endpoint(cx, nick);
        self.invite_later(cx);
        if unused {
            self.set_no_bridge(cx, true);
        }
    }

    /// A bridge has no room for a member: it goes to another one of the conference, the conference moves to one that has
    /// room, or the member is invited again later. The others are not disturbed where it would not help.
    fn bridge_full(&mut self, cx: &mut Context<'_>, nick: &str, session: &str) {
        cx.refused.count(Refused::BridgeFull, 1);
        let Some(bridge) = self.nodes.by_id(session).map(|session| session.bridge.clone()) else { return };
        let now = cx.now;
        let elsewhere = cx.bridges.full(now, &bridge, self.pinned.as_deref());
        let another = self.next_bridge(cx, nick).is_some_and(|next| next != bridge);
        if elsewhere && !another && !self.members.get(nick).is_some_and(Member::is_visitor) {
            return self.leave_session(cx, session);
        }
        if let Some(member) = self.members.get_mut(nick) {
            member.end_session(Stage::Idle);
        }
        let unused = self.forget_endpoint(cx, nick);
        if elsewhere && another {
            return self.invite_missing(cx);
        }
        self.invite_later(cx);
        if unused {
            self.set_no_bridge(cx, true);
        }
    }

    /// Who got no endpoint is invited again when a bridge may have room, or be back; participants are not moved for visitors.
    fn invite_later(&mut self, cx: &Context<'_>) {
        let again = cx.now + FULL_RESET;
        self.invite_due = Some(self.invite_due.map_or(again, |due| due.min(again)));
    }

    /// A bridge of a conference is broken: nobody new goes there, and everybody leaves it.
    pub(super) fn bridge_failed(&mut self, cx: &mut Context<'_>, session: &str) {
        if let Some(session) = self.nodes.by_id(session) {
            let now = cx.now;
            cx.bridges.failed(now, &session.bridge);
        }
        self.leave_session(cx, session);
    }

    /// The conference's session on a bridge does not exist as it should: everybody in it gets another one.
    pub(super) fn session_failed(&mut self, cx: &mut Context<'_>, session: &str) {
        let Some(bridge) = self.nodes.by_id(session).map(|session| session.bridge.clone()) else { return };
        if self.note_failure(cx.now, &bridge) {
            tracing::error!(room = %self.room, %bridge, "sessions on this bridge keep failing; avoiding it for a while");
            self.bridge_failed(cx, session);
        } else {
            self.leave_session(cx, session);
        }
    }

    pub(in super::super) fn updated(&mut self, cx: &mut Context<'_>, nick: &str, session: &str, answer: Answer) {
        if self.nodes.by_id(session).is_none() {
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
            // It may be on another bridge since.
            (_, Some(unknown)) if self.nodes.is_home(&unknown, session) => self.reinvite_all(cx, Some(&unknown)),
            (_, Some(_)) => {}
            // What a client sent does not suit the bridge: that is no reason to disturb the others. What has ended already does
            // not end again, whatever the bridge says of that.
            (DefinedCondition::BadRequest | DefinedCondition::ResourceConstraint, None) => {
                if self.nodes.is_home(nick, session) {
                    self.fail_member(cx, nick);
                }
            }
            _ => self.session_failed(cx, session),
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

    pub(super) fn terminate(&mut self, cx: &mut Context<'_>, nick: &str, sid: &str, condition: &str, text: &str) {
        if sid.is_empty() {
            return;
        }
        let jingle = Jingle { reason: Some(Reason::new(condition, text)), ..Jingle::new("session-terminate", sid) };
        cx.notify(&self.occupant(nick), jingle.into());
    }

    /// Invites one member again, or all with new sessions on bridges.
    pub(in super::super) fn reinvite_all(&mut self, cx: &mut Context<'_>, only: Option<&str>) {
        let nicks: Vec<String> = match only {
            None => self.in_order(Member::has_endpoint),
            Some(only) => {
                let affected = self.members.get(only).is_some_and(Member::has_endpoint);
                affected.then(|| only.to_owned()).into_iter().collect()
            }
        };
        if only.is_none() {
            self.drop_sessions(cx);
        }
        self.invite_anew(cx, nicks);
    }

    /// Ends a session, and invites again who was in it.
    pub(super) fn leave_session(&mut self, cx: &mut Context<'_>, session: &str) {
        let mut nicks = self.in_order(Member::has_endpoint);
        nicks.retain(|nick| self.nodes.is_home(nick, session));
        self.drop_session(cx, session);
        self.invite_anew(cx, nicks);
        if !self.nodes.is_empty() {
            self.announce(cx);
        }
    }

    /// Leaves a bridge.
    pub(in super::super) fn leave_bridge(&mut self, cx: &mut Context<'_>, bridge: &str) {
        if let Some(session) = self.nodes.on(bridge).map(|session| session.id.clone()) {
            self.leave_session(cx, &session);
        }
    }

    /// Members whose endpoints are gone get other ones.
    fn invite_anew(&mut self, cx: &mut Context<'_>, nicks: Vec<String>) {
        // All at once: to sessions that end nothing is signalled of each other.
        let mut ended = Vec::new();
        for nick in nicks {
            self.sources.clear(&nick);
            if self.nodes.take(&nick).is_some() {
                self.nodes.cascade.take(&nick);
            }
            let Some(member) = self.members.get_mut(&nick) else { continue };
            ended.push((member.end_session(Stage::Idle), nick));
        }
        cx.totals.moved += ended.len() as u64;
        self.send_relay_requests(cx);
        self.signal_sources(cx);
        for (sid, nick) in ended {
            self.terminate(cx, &nick, &sid, "success", "moving");
        }
        self.invite_missing(cx);
        self.drop_unused(cx);
    }

    /// Invites one member again whose endpoint on the bridge is of no use any more.
    pub(super) fn reinvite_fresh(&mut self, cx: &mut Context<'_>, nick: &str) {
        let sid = self.end_session(cx, nick, Stage::Idle);
        self.expire_endpoint(cx, nick);
        self.terminate(cx, nick, &sid, "success", "moving");
        self.invite_missing(cx);
    }

    /// Ends the conference on all of its bridges.
    pub(super) fn drop_sessions(&mut self, cx: &mut Context<'_>) {
        for session in self.nodes.iter().map(|session| session.id.clone()).collect::<Vec<_>>() {
            self.drop_session(cx, &session);
        }
    }

    /// Ends the sessions that nobody is in.
    fn drop_unused(&mut self, cx: &mut Context<'_>) {
        let unused = |id: &String| self.nodes.members(id).next().is_none();
        let unused: Vec<String> = self.nodes.iter().map(|session| session.id.clone()).filter(unused).collect();
        for session in &unused {
            self.drop_session(cx, session);
        }
        if !unused.is_empty() {
            self.announce(cx);
        }
    }

    /// Ends the conference on a bridge. After the last one, the next session has a new meeting id where this bridge may still
    /// hold the old conference when it gets the next request.
    pub(super) fn drop_session(&mut self, cx: &mut Context<'_>, session: &str) {
        let Some(session) = self.nodes.remove(session) else { return };
        // What it held together is linked again, all parts to the first one.
        let parts = self.nodes.cascade.remove(session.node);
        let mut ends = parts.iter().filter_map(|part| part.first().copied());
        if let Some(first) = ends.next() {
            ends.for_each(|other| self.nodes.cascade.connect(first, other));
        }
        let meeting_id = self.meeting_id.clone();
        if self.nodes.is_empty() {
            self.meeting_id = cx.random_id();
            cx.meeting_ids.remove(&meeting_id);
            self.meeting.ended(session.bridge.clone(), cx.now);
        }
        if cx.bridges.get(&session.bridge).is_some() {
            cx.expire_on_bridge(&session.bridge, &meeting_id);
        } else {
            // It may have lost its connection alone, and come back with what it had.
            let orphan = Orphan::new(cx.now, ORPHAN_RETRY, self.room.clone(), meeting_id, session.bridge);
            cx.orphans.push(orphan);
        }
        self.send_relay_requests(cx);
    }

    /// Forgets a member's session, signals to the others that its sources are gone, and returns the session's id.
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
        self.drop_sessions(cx);
        for nick in nicks {
            let sid = self.end_session(cx, &nick, Stage::Idle);
            self.terminate(cx, &nick, &sid, "expired", "Idle session timeout");
        }
        self.announce(cx);
    }

    /// Takes a member's endpoint off its bridge; the conference with it when it was the last there.
    pub(super) fn expire_endpoint(&mut self, cx: &mut Context<'_>, nick: &str) {
        let Some(home) = self.nodes.home(nick).cloned() else { return };
        if self.nodes.members(&home.id).nth(1).is_some() {
            self.update_endpoint(cx, Endpoint { expire: true, ..Endpoint::new(nick) });
        }
        self.forget_endpoint(cx, nick);
    }

    /// A member's bridge has no endpoint for it any more, and others need not know of it. The conference ends on a bridge when
    /// nobody has an endpoint there any more; true when there is none left.
    fn forget_endpoint(&mut self, cx: &mut Context<'_>, nick: &str) -> bool {
        if let Some(home) = self.nodes.take(nick) {
            if self.nodes.members(&home).next().is_none() {
                self.drop_session(cx, &home);
                self.announce(cx);
            } else {
                self.nodes.cascade.take(nick);
                self.send_relay_requests(cx);
            }
        }
        self.nodes.is_empty()
    }

    /// Signals a change of a member's endpoint to its bridge, and its sources to the others.
    pub(super) fn update_endpoint(&mut self, cx: &mut Context<'_>, endpoint: Endpoint) {
        let Some(home) = self.nodes.home(&endpoint.id).cloned() else { return };
        if endpoint.sources.is_some() {
            self.nodes.cascade.changed(&endpoint.id);
        }
        // An error that answers an expiry is not about the session that may have begun meanwhile.
        let nick = if endpoint.expire { String::new() } else { endpoint.id.clone() };
        self.update_session(cx, &home, &nick, vec![endpoint]);
        self.send_relay_requests(cx);
    }

    /// Signals changed endpoints to a bridge, because of a member if it has a name.
    pub(super) fn update_session(
        &self,
        cx: &mut Context<'_>,
        session: &BridgeSession,
        nick: &str,
        endpoints: Vec<Endpoint>,
    ) {
        let request = ConferenceModify { endpoints, ..ConferenceModify::new(self.meeting_id.clone()) };
        let pending = Question::Update { nick: nick.to_owned(), session: session.id.clone() };
        self.ask(cx, &session.bridge, true, request.into(), pending);
    }

    /// Endpoints by the session that they are in.
    pub(super) fn by_session(&self, endpoints: Vec<Endpoint>) -> Vec<(BridgeSession, Vec<Endpoint>)> {
        let mut sessions: Vec<(BridgeSession, Vec<Endpoint>)> = Vec::new();
        for endpoint in endpoints {
            let Some(home) = self.nodes.home(&endpoint.id) else { continue };
            match sessions.iter_mut().find(|(session, _)| session.id == home.id) {
                Some((_, of_it)) => of_it.push(endpoint),
                None => sessions.push((home.clone(), vec![endpoint])),
            }
        }
        sessions
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
