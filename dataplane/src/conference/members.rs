//! One conference: who is in it, what they publish, and a subscription for every source and each of its receivers.

use std::ops::Deref;
use std::time::Instant;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::audio::loudest::LoudestRanking;
use super::audio::speaker::SpeakerDetector;
use super::context::{Env, ForwarderConfig};
use super::participant::publisher::IncomingStream;
use super::participant::schedule::Schedule;
use super::participant::{Participant, Role};
use super::receiver::downlink::Downlink;
use super::receiver::ssrc_slots::SsrcSlots;
use super::receiver::subscription::{NO_SSRC, Subscription};
use super::source::Source;
use crate::ids::{ConferenceId, ConferenceIndex, EndpointId, ParticipantId, SourceId, Ssrc, WorkerId, WorkerSet};
use crate::limits::{MAX_ON_STAGE, MAX_SELECTED, MAX_SUBSCRIBED};
use crate::media::{Encoding, Media, MediaKind, ReceiverConstraints, SourceDescription};
use crate::messages::{FeedbackSsrcs, SsrcRewriting};
use crate::negotiation::ids::UriId;
use crate::negotiation::negotiated::ConferenceNegotiations;
use crate::slab::{Key, Slab};
use crate::srtp::SrtpKeys;
use crate::stats::Counter;

/// An SSRC towards receivers: its source, and whether it is the retransmission stream. No two sources may share one, or SRTP
/// indices would be used twice.
type OutgoingSsrcs = HashMap<Ssrc, (SourceId, bool), foldhash::fast::RandomState>;

/// A table whose entries come and go in this file alone: an entry has to appear in others, too. The files beside it change what
/// is in it.
#[derive(Serialize, Deserialize)]
pub(super) struct Table<K, T>(Slab<K, T>);

impl<K: Key, T> Table<K, T> {
    fn insert(&mut self, value: T) -> K {
        self.0.insert(value)
    }

    fn remove(&mut self, key: K) -> Option<T> {
        self.0.remove(key)
    }

    /// See [`Slab::get_mut`].
    #[inline]
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.0.get_mut(key)
    }

    /// See [`Slab::get_disjoint_mut`].
    #[inline]
    pub(super) fn get_disjoint_mut(&mut self, keys: [K; 2]) -> Option<[&mut T; 2]> {
        self.0.get_disjoint_mut(keys)
    }

    /// See [`Slab::iter_mut`].
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.0.iter_mut()
    }

    /// See [`Slab::values_mut`].
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.values_mut()
    }
}

impl<K, T> Deref for Table<K, T> {
    type Target = Slab<K, T>;

    #[inline]
    fn deref(&self) -> &Slab<K, T> {
        &self.0
    }
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self(Slab::default())
    }
}

/// One conference. Its fields are open to the files of this folder, which are its steps, since a step changes several of them at
/// once; who is in it and what they publish changes in this file alone ([`Table`]), and the other fields guard themselves.
#[derive(Serialize, Deserialize)]
pub struct Conference {
    /// Its identity.
    pub(super) id: ConferenceId,
    /// Its index in the worker.
    pub(super) index: ConferenceIndex,
    /// The bridge's SSRCs in it.
    pub(super) feedback: FeedbackSsrcs,
    /// Who is in it.
    pub(super) participants: Table<ParticipantId, Participant>,
    /// What they publish.
    pub(super) sources: Table<SourceId, Source>,
    /// When there is something to do.
    pub(super) schedule: Schedule,
    /// Who speaks.
    pub(super) speaker: SpeakerDetector,
    /// Who is loud enough to be forwarded, where that is asked for.
    pub(super) loudest: LoudestRanking,
    /// Other workers that have endpoints of it.
    pub(super) away: WorkerSet,
    /// This worker reports the dominant speaker.
    pub(super) lead: bool,
    /// A receiver here loses much.
    pub(super) lossy: bool,
    /// A relay here lost much at some time, since this process has it.
    #[serde(skip)]
    pub(super) lossy_link: bool,
    /// The relays that have their transport here.
    pub(super) relays: Vec<ParticipantId>,
    /// Sources by the SSRCs that receivers know them by.
    #[serde(with = "crate::carry::map")]
    by_ssrc: OutgoingSsrcs,
    /// What its endpoints negotiated beside the well known.
    negotiations: ConferenceNegotiations,
    generations: u32,
}

impl Conference {
    /// Its members as slots are made of: identity, number, generation.
    pub fn members(&self) -> impl Iterator<Item = (EndpointId, ParticipantId, u32)> {
        self.participants.iter().map(|(id, participant)| (participant.id(), id, participant.generation()))
    }

    /// Goes by another configuration from now on, that of whoever takes over.
    pub fn follow(&mut self, config: &ForwarderConfig) {
        for participant in self.participants.values_mut() {
            if let Some(downlink) = participant.receiver.downlink_mut() {
                downlink.set_bounds(config.bandwidth);
            }
        }
        self.loudest.reserve(self.sources.bound());
        self.schedule.reserve(self.participants.bound());
    }

    /// An empty conference.
    pub fn new(id: ConferenceId, index: ConferenceIndex, feedback: FeedbackSsrcs) -> Self {
        Self {
            id,
            index,
            feedback,
            participants: Table::default(),
            sources: Table::default(),
            schedule: Schedule::default(),
            speaker: SpeakerDetector::default(),
            loudest: LoudestRanking::default(),
            away: WorkerSet::default(),
            lead: false,
            lossy: false,
            lossy_link: false,
            relays: Vec::new(),
            by_ssrc: HashMap::default(),
            negotiations: ConferenceNegotiations::default(),
            generations: 0,
        }
    }

    /// Its identity.
    pub fn id(&self) -> ConferenceId {
        self.id
    }

    /// Its index in the worker.
    pub fn index(&self) -> ConferenceIndex {
        self.index
    }

    /// Whether a participant is the one of a generation, and not a later one under the same number.
    #[inline]
    pub fn is_current(&self, id: ParticipantId, generation: u32) -> bool {
        self.participants.get(id).is_some_and(|participant| participant.is_of(generation))
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.participants.len()
    }

    /// When its timers are to run next.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.schedule.deadline()
    }

    /// Records a sign of life other than media.
    pub fn note_activity(&mut self, env: &mut Env<'_>, id: ParticipantId) {
        let Some(participant) = self.participants.get_mut(id) else { return };
        if let Some(event) = participant.note_activity(env.now) {
            env.emit(event);
        }
        if let Some(at) = participant.silent_at() {
            self.schedule.wake_participant(id, at);
        }
    }

    /// A participant.
    pub fn participant(&mut self, id: ParticipantId) -> Option<&mut Participant> {
        self.participants.get_mut(id)
    }

    /// Asks for the allocation to run, because of a command about a participant.
    pub fn touch_commanded(&mut self, env: &Env<'_>, id: ParticipantId) {
        let due = self.participants.get_mut(id).map(|participant| participant.reserve_command(env.now));
        self.schedule.touch(due.unwrap_or(env.now));
    }

    /// The source whose media goes out on an SSRC.
    pub fn source_with(&self, ssrc: Ssrc) -> Option<SourceId> {
        self.by_ssrc.get(&ssrc).filter(|(_, rtx)| !rtx).map(|(source, _)| *source)
    }

    /// Whether a source goes out on an SSRC.
    pub fn has_outgoing(&self, ssrc: Ssrc) -> bool {
        self.by_ssrc.contains_key(&ssrc)
    }

    /// Adds a participant, with subscriptions to all sources if it is an endpoint that lives here; returns its number and
    /// generation.
    pub fn join(
        &mut self,
        env: &mut Env<'_>,
        id: EndpointId,
        home: Option<WorkerId>,
        role: Role,
    ) -> (ParticipantId, u32) {
        self.generations = self.generations.wrapping_add(1);
        let speaks = !matches!(role, Role::Relay(_));
        let participant = Participant::new(id, self.generations, (home, role), env.negotiations.nothing(), env.now);
        let (silent_at, connects) = (participant.silent_at(), participant.has_transport());
        let index = self.participants.insert(participant);
        self.schedule.reserve(self.participants.bound());
        if let Some(at) = silent_at {
            self.schedule.wake_participant(index, at);
        }
        if let Some(participant) = self.participants.get_mut(index).filter(|participant| participant.is_receiver()) {
            self.sources.values_mut().for_each(|source| subscribe(env, source, index, participant));
        }
        if speaks {
            self.speaker.add(id, env.now);
        } else if connects {
            self.add_relay(env, index);
        }
        self.update_workers(env);
        self.schedule.touch(env.now);
        (index, self.generations)
    }

    /// Gives an endpoint everything on SSRCs of the bridge's own from now on. For a new endpoint, before its keys.
    pub fn set_ssrc_rewriting(&mut self, env: &Env<'_>, id: ParticipantId, settings: &SsrcRewriting) {
        let Some(participant) = self.participants.get_mut(id).filter(|participant| participant.remembers_ssrcs())
        else {
            return;
        };
        participant.receiver.use_ssrc_slots(SsrcSlots::new(settings));
        for source in self.sources.values_mut() {
            let kind = source.kind();
            if let Some(subscription) = source.subscription_mut(id) {
                subscription.renew(Subscription::without_ssrc(id, kind));
            }
        }
        self.touch_commanded(env, id);
    }

    /// Removes a participant, its sources and its subscriptions, and whoever is behind it; returns who has left.
    pub fn leave(&mut self, env: &mut Env<'_>, id: ParticipantId) -> Vec<EndpointId> {
        let behind = self.participants.iter().filter(|(_, other)| other.behind() == Some(id));
        // The relay first: what comes by it need not be recorded anew for each of those behind it.
        let leaving: Vec<_> = [id].into_iter().chain(behind.map(|(other, _)| other)).collect();
        let gone = leaving.into_iter().filter_map(|id| self.remove_participant(env, id)).collect();
        self.update_workers(env);
        self.schedule.touch(env.now);
        gone
    }

    fn remove_participant(&mut self, env: &Env<'_>, id: ParticipantId) -> Option<EndpointId> {
        let participant = self.participants.remove(id)?;
        self.schedule.remove(id);
        self.relays.retain(|relay| *relay != id);
        self.speaker.remove(participant.id());
        for source in self.sources.keys() {
            if self.sources.get(source).is_some_and(|source| source.owner() == id) {
                self.remove_source(env, source);
            }
        }
        self.sources.values_mut().for_each(|source| source.unsubscribe(id));
        for relay in self.participants.values_mut().filter_map(Participant::relay_mut) {
            relay.forget(participant.id());
        }
        if let Some(relay) = participant.behind() {
            self.rebuild_streams(relay);
        }
        Some(participant.id())
    }

    /// Installs an endpoint's SRTP keys. New keys start new counting of packets in both directions.
    pub fn set_keys(&mut self, id: ParticipantId, keys: &SrtpKeys) {
        let Some(participant) = self.participants.get_mut(id).filter(|participant| participant.has_transport()) else {
            return;
        };
        if !participant.set_keys(keys) {
            return;
        }
        let receiver = &mut participant.receiver;
        for (source_id, source) in self.sources.iter_mut() {
            if source.sender() == id {
                source.restart();
                continue;
            }
            if let Some(pass) = source.pass_mut(id) {
                pass.restart_counting();
                continue;
            }
            let Some(outgoing) = source.outgoing() else { continue };
            let kind = source.kind();
            let Some(subscription) = source.subscription_mut(id) else { continue };
            match receiver.ssrc_slots() {
                None => {
                    if let Some(indices) = receiver.indices(outgoing) {
                        let target = subscription.target();
                        subscription.renew(Subscription::new(id, outgoing.ssrc, kind, target, indices));
                    }
                }
                Some(slots) => {
                    if let Some(ssrcs) = slots.kind(kind).ssrcs(source_id) {
                        subscription.restart_at(ssrcs, kind);
                    }
                }
            }
        }
        if let Some(slots) = receiver.ssrc_slots_mut() {
            slots.restart();
        }
    }

    /// Replaces what an endpoint wants to receive.
    pub fn set_constraints(&mut self, env: &Env<'_>, id: ParticipantId, mut constraints: ReceiverConstraints) {
        env.stats.add(Counter::ConstraintsRefused, limit_names(&mut constraints));
        let Some(participant) = self.participants.get_mut(id) else { return };
        if participant.receiver.set_constraints(constraints) {
            self.aim_audio(env, id);
        }
    }

    /// Replaces the names of the sources that were not signalled to an endpoint's client yet.
    pub fn set_unsignalled(&mut self, env: &Env<'_>, id: ParticipantId, mut unsignalled: Vec<String>) {
        env.stats.add(Counter::ConstraintsRefused, limit(&mut unsignalled, MAX_SUBSCRIBED));
        let Some(participant) = self.participants.get_mut(id) else { return };
        if participant.receiver.set_unsignalled(unsignalled) {
            self.aim_audio(env, id);
        }
    }

    /// Audio that an endpoint wants, and that was signalled to its client, flows; the rest follows from the allocation.
    pub fn aim_audio(&mut self, env: &Env<'_>, id: ParticipantId) {
        let Some(participant) = self.participants.get(id) else { return };
        let receiver = &participant.receiver;
        for (source_id, source) in self.sources.iter_mut().filter(|(_, source)| source.kind() == MediaKind::Audio) {
            let wanted = receiver.constraints().audio.wants(source.name());
            let signalled = receiver.is_signalled(MediaKind::Audio, source_id, source.name());
            if let Some(subscription) = source.subscription_mut(id) {
                subscription.aim(wanted, signalled);
            }
        }
        self.touch_commanded(env, id);
    }

    /// Drops an endpoint's audio, its video.
    pub fn set_force_mute(&mut self, id: ParticipantId, audio: bool, video: bool) {
        if let Some(participant) = self.participants.get_mut(id) {
            participant.publisher.set_force_mute(audio, video);
        }
    }

    /// Replaces an endpoint's formats and extensions.
    pub fn set_media(&mut self, env: &mut Env<'_>, id: ParticipantId, media: &Media) {
        let negotiated = env.negotiations.compile(media, &mut self.negotiations, env.stats);
        let Some(participant) = self.participants.get_mut(id) else { return };
        let numbered = negotiated.extensions.id(MediaKind::Video, UriId::TRANSPORT_CC).is_some();
        let estimated = numbered || negotiated.feedback.remb;
        if participant.is_receiver() && participant.receiver.downlink().is_none() && estimated {
            participant.receiver.use_downlink(Downlink::new(env.config.bandwidth));
        }
        participant.set_negotiated(negotiated);
        for source in self.sources.values_mut() {
            if source.sender() == id {
                // What is kept was numbered by the old table.
                source.forget_packets();
            } else if let Some(subscription) = source.subscription_mut(id) {
                subscription.renegotiated();
            } else if let Some(pass) = source.pass_mut(id) {
                pass.renegotiated();
            }
        }
        self.touch_commanded(env, id);
    }

    /// Replaces the set of sources that an endpoint publishes. Those that go on keep their state.
    pub fn set_sources(&mut self, env: &mut Env<'_>, id: ParticipantId, descriptions: &[SourceDescription]) {
        // A relay publishes for those behind it, and nothing of its own.
        let publishes = self.participants.get(id).filter(|participant| !participant.is_relay());
        let Some((owner, local)) = publishes.map(|p| (p.id(), p.is_local())) else {
            return env.stats.count(Counter::DropCommandUnknown);
        };
        for source_id in self.sources.keys() {
            let continues = |source: &Source| descriptions.iter().any(|description| source.continues(description));
            if self.sources.get(source_id).is_some_and(|source| source.owner() == id && !continues(source)) {
                self.remove_source(env, source_id);
            }
        }
        let limit = env.config.max_sources_per_endpoint;
        for (i, description) in descriptions.iter().enumerate() {
            if i >= limit {
                if env.complaints.take(env.now) {
                    tracing::warn!(endpoint = %owner, source = description.name, limit, "source refused: too many");
                }
                env.stats.count(Counter::DropTableFull);
                continue;
            }
            self.add_or_update(env, id, description);
        }
        self.rebuild_streams(id);
        if local {
            self.ask_for_demands(env, owner);
        }
        self.touch_commanded(env, id);
    }

    fn add_or_update(&mut self, env: &mut Env<'_>, owner: ParticipantId, description: &SourceDescription) {
        let continues = |(_, source): &(_, &Source)| source.owner() == owner && source.continues(description);
        let known = self.sources.iter().find(continues).map(|(id, _)| id);
        if let Some(id) = known {
            if let Some(source) = self.sources.get_mut(id) {
                source.update(description);
            }
            return self.pass_on(env, id);
        }
        let sender = self.sender_of(owner);
        let mut source = Source::new(owner, sender, description);
        let Some(outgoing) = source.outgoing() else { return };
        let taken = |ssrc: &Ssrc| self.by_ssrc.contains_key(ssrc);
        if taken(&outgoing.ssrc) || outgoing.rtx.as_ref().is_some_and(taken) || outgoing.rtx == Some(outgoing.ssrc) {
            if env.complaints.take(env.now) {
                tracing::warn!(
                    source = description.name,
                    ssrc = outgoing.ssrc.get(),
                    rtx = outgoing.rtx.map(Ssrc::get),
                    "source refused: another source has one of its SSRCs"
                );
            }
            env.stats.count(Counter::DropTableFull);
            return;
        }
        if self.is_news(owner, outgoing) {
            let may = self.participants.get_mut(owner).is_some_and(|owner| owner.publisher.may_publish());
            if !may {
                if env.complaints.take(env.now) {
                    tracing::warn!(
                        source = description.name,
                        "source refused: the endpoint has published as many different SSRCs as it may"
                    );
                }
                return env.stats.count(Counter::DropTableFull);
            }
        }
        for (id, participant) in self.participants.iter_mut() {
            if id != owner && participant.is_receiver() {
                subscribe(env, &mut source, id, participant);
            }
        }
        let id = self.sources.insert(source);
        self.by_ssrc.insert(outgoing.ssrc, (id, false));
        if let Some(rtx) = outgoing.rtx {
            self.by_ssrc.insert(rtx, (id, true));
        }
        self.loudest.reserve(self.sources.bound());
        self.pass_on(env, id);
    }

    /// Whether some receiver here has to remember one more SSRC for a source of an owner.
    fn is_news(&self, owner: ParticipantId, ssrcs: Encoding) -> bool {
        let others = self.participants.iter().filter(|(id, _)| *id != owner);
        let mut news = others.filter_map(|(_, participant)| participant.is_news(ssrcs)).peekable();
        news.peek().is_some() && news.all(|news| news)
    }

    fn remove_source(&mut self, env: &Env<'_>, id: SourceId) {
        let Some(source) = self.sources.remove(id) else { return };
        self.loudest.remove(id);
        let Some(outgoing) = source.outgoing() else { return };
        self.by_ssrc.retain(|_, (source, _)| *source != id);
        for pass in source.passes() {
            if let Some(relay) = self.participants.get_mut(pass.relay()) {
                relay.end_pass(id, pass);
            }
        }
        for subscription in source.subscriptions() {
            let Some(participant) = self.participants.get_mut(subscription.receiver()) else { continue };
            let receiver = &mut participant.receiver;
            match receiver.ssrc_slots_mut() {
                None => receiver.retire(outgoing, subscription.indices()),
                Some(slots) => {
                    if subscription.ssrc() != NO_SSRC {
                        slots.release(env.now, source.kind(), id, subscription.resume());
                    }
                }
            }
        }
    }

    /// Who delivers what a participant publishes: itself, or the relay that it is behind.
    pub fn sender_of(&self, owner: ParticipantId) -> ParticipantId {
        let relayed = self.participants.get(owner).filter(|participant| participant.is_local());
        relayed.and_then(Participant::behind).unwrap_or(owner)
    }

    /// Records anew which SSRC is which encoding of which source, of what comes the same way as a participant's.
    pub fn rebuild_streams(&mut self, owner: ParticipantId) {
        let sender = self.sender_of(owner);
        let Some(participant) = self.participants.get_mut(sender) else { return };
        let own = self.sources.iter().filter(|(_, source)| source.sender() == sender);
        let streams = own.flat_map(|(id, source)| {
            source.encodings().iter().zip(0u8..).flat_map(move |(state, encoding)| {
                let stream = IncomingStream { source: id, encoding, rtx: false };
                let rtx = state.ssrcs().rtx.map(|rtx| (rtx, IncomingStream { rtx: true, ..stream }));
                [Some((state.ssrcs().ssrc, stream)), rtx].into_iter().flatten()
            })
        });
        participant.publisher.set_streams(streams);
    }
}

/// Cuts lists of names that are too long to be looked through for every source; returns how many names were left out.
fn limit_names(constraints: &mut ReceiverConstraints) -> u64 {
    limit(&mut constraints.on_stage, MAX_ON_STAGE)
        + limit(&mut constraints.selected, MAX_SELECTED)
        + limit(&mut constraints.per_source, MAX_SELECTED)
        + limit(&mut constraints.audio.include, MAX_SUBSCRIBED)
        + limit(&mut constraints.audio.exclude, MAX_SUBSCRIBED)
}

fn limit<T>(list: &mut Vec<T>, most: usize) -> u64 {
    let excess = list.len().saturating_sub(most);
    list.truncate(most);
    excess as u64
}

/// Subscribes a receiver to a source.
fn subscribe(env: &mut Env<'_>, source: &mut Source, id: ParticipantId, participant: &mut Participant) {
    let Some(outgoing) = source.outgoing() else { return };
    let receiver = &mut participant.receiver;
    let kind = source.kind();
    let mut subscription = if receiver.ssrc_slots().is_some() {
        Subscription::without_ssrc(id, kind)
    } else if let Some(indices) = receiver.indices(outgoing) {
        Subscription::new(id, outgoing.ssrc, kind, None, indices)
    } else {
        if env.complaints.take(env.now) {
            let (endpoint, source) = (participant.id(), source.name());
            tracing::warn!(%endpoint, source, "source not forwarded: this receiver has been sent as many different SSRCs as it may");
        }
        return env.stats.count(Counter::DropTableFull);
    };
    if kind == MediaKind::Audio {
        // Audio that is wanted flows once it was signalled to its client; video waits for the allocation.
        let wanted = receiver.constraints().audio.wants(source.name());
        subscription.aim(wanted, receiver.ssrc_slots().is_none() && receiver.is_name_signalled(source.name()));
    }
    source.subscribe(subscription);
}
