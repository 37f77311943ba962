//! One conference: its endpoints, its sources, and a subscription for every pair of them.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use crate::budget::Pace;
use crate::conference::audio::loudest::Loudest;
use crate::conference::audio::speaker::SpeakerDetector;
use crate::conference::context::Env;
use crate::conference::participant::Participant;
use crate::conference::receiver::downlink::Downlink;
use crate::conference::receiver::ssrc_slots::SsrcSlots;
use crate::conference::receiver::subscription::{NO_SSRC, Resume, Subscription};
use crate::conference::source::{IncomingStream, Source};
use crate::congestion::layer::LayerId;
use crate::ids::{ConferenceId, EndpointId};
use crate::limits::{
    ALLOCATION_BURST, ALLOCATION_COST, ALLOCATION_LEAST, MAX_ON_STAGE, MAX_PUBLISHED, MAX_SELECTED, MAX_SUBSCRIBED,
    RoomTurns,
};
use crate::media::{Encoding, MediaKind, ReceiverConstraints, SourceDescription};
use crate::messages::{FeedbackSsrcs, SsrcRewriting};
use crate::negotiation::ids::UriId;
use crate::negotiation::negotiated::ConferenceNegotiations;
use crate::negotiation::negotiated::Negotiated;
use crate::srtp::SrtpKeys;
use crate::stats::Counter;

/// An SSRC towards receivers: the index of its source, and whether it is the retransmission stream. No two sources
/// may share one, or SRTP indices would be used twice.
pub type OutgoingSsrcs = HashMap<u32, (usize, bool), foldhash::fast::RandomState>;

/// One conference.
pub struct Conference {
    /// Its identity.
    pub id: ConferenceId,
    /// Its index in the worker.
    pub place: u32,
    /// The bridge's SSRCs in it.
    pub feedback: FeedbackSsrcs,
    /// By index; a free place is `None`. Boxed so that a sender can be taken out while its packet goes round.
    pub endpoints: Vec<Option<Box<Participant>>>,
    /// By index; a free place is `None`.
    pub sources: Vec<Option<Box<Source>>>,
    /// Sources by the SSRCs that receivers know them by.
    pub by_ssrc: OutgoingSsrcs,
    /// What its endpoints negotiated beside the well known.
    pub negotiations: ConferenceNegotiations,
    /// Who speaks.
    pub speaker: SpeakerDetector,
    /// Who is loud enough to be forwarded, where that is asked for.
    pub loudest: Loudest,
    /// When `timers` has to look again.
    pub deadline: Option<Instant>,
    /// When the allocation has to run, since wishes, sources or sizes changed.
    pub allocate_at: Option<Instant>,
    /// When it may run again.
    allocate_after: Option<Instant>,
    pace: Pace,
    /// How often its timers may run.
    pub turns: RoomTurns,
    /// When video that found no SSRC may find one: its receiver's client knows one of them for long enough by then.
    pub slots_settle: Option<Instant>,
    /// Other workers that have endpoints of it, one bit each.
    pub away: u64,
    /// This worker tells who speaks.
    pub lead: bool,
    /// A receiver here loses much.
    pub lossy: bool,
    generations: u32,
}

impl Conference {
    /// An empty conference.
    pub fn new(id: ConferenceId, place: u32, feedback: FeedbackSsrcs) -> Self {
        Self {
            id,
            place,
            feedback,
            endpoints: Vec::new(),
            sources: Vec::new(),
            by_ssrc: HashMap::default(),
            negotiations: ConferenceNegotiations::default(),
            speaker: SpeakerDetector::default(),
            loudest: Loudest::default(),
            deadline: None,
            allocate_at: None,
            allocate_after: None,
            pace: Pace::default(),
            turns: RoomTurns::new(),
            slots_settle: None,
            away: 0,
            lead: false,
            lossy: false,
            generations: 0,
        }
    }

    /// Makes sure that timers run at `at` or before.
    pub fn wake(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |d| d.min(at)));
    }

    /// Asks for the allocation to run.
    pub fn touch(&mut self, now: Instant) {
        self.touch_at(now);
    }

    /// Asks for the allocation to run at a time, or when it may next.
    pub fn touch_at(&mut self, at: Instant) {
        let at = self.allocate_after.map_or(at, |after| at.max(after));
        self.allocate_at = Some(self.allocate_at.map_or(at, |before| before.min(at)));
        self.wake(at);
    }

    /// Asks for the allocation to run, because of something that an endpoint did; not at once when it does that all the time.
    pub fn touch_for(&mut self, now: Instant, reserve: impl FnOnce(Instant) -> Instant) {
        if self.allocate_at.is_none_or(|at| at > now) {
            self.touch_at(reserve(now));
        }
    }

    /// The same, because of a command about an endpoint.
    pub fn touch_commanded(&mut self, now: Instant, index: usize) {
        let due = match self.endpoint(index) {
            Some(endpoint) => endpoint.commanded.reserve(now),
            None => now,
        };
        self.touch_at(due);
    }

    /// Whether the allocation is to run now. Then it counts as done.
    pub fn takes_allocation(&mut self, now: Instant) -> bool {
        if self.allocate_at.is_none_or(|at| at > now) {
            return false;
        }
        let videos = self.sources.iter().flatten().filter(|s| s.kind == MediaKind::Video).count();
        let pairs = u32::try_from(self.endpoints.len() * videos).unwrap_or(u32::MAX);
        let cost = ALLOCATION_COST.saturating_mul(pairs).max(ALLOCATION_LEAST);
        match self.pace.take(now, cost, ALLOCATION_BURST) {
            Ok(()) => {
                (self.allocate_at, self.allocate_after) = (None, None);
                true
            }
            Err(ready) => {
                (self.allocate_at, self.allocate_after) = (Some(ready), Some(ready));
                false
            }
        }
    }

    /// Index of the source whose media goes out on an SSRC.
    pub fn place_of(&self, ssrc: u32) -> Option<usize> {
        self.by_ssrc.get(&ssrc).filter(|(_, rtx)| !rtx).map(|(place, _)| *place)
    }

    /// An endpoint by index.
    pub fn endpoint(&mut self, index: usize) -> Option<&mut Participant> {
        self.endpoints.get_mut(index)?.as_deref_mut()
    }

    /// Adds an endpoint, with subscriptions of all sources unless it lives on another worker; returns its index and generation.
    pub fn join(
        &mut self,
        env: &mut Env<'_>,
        id: EndpointId,
        home: Option<usize>,
        negotiated: Arc<Negotiated>,
    ) -> (usize, u32) {
        let index = self.endpoints.iter().position(Option::is_none).unwrap_or_else(|| {
            self.endpoints.push(None);
            self.endpoints.len() - 1
        });
        self.generations = self.generations.wrapping_add(1);
        let mut endpoint = Box::new(Participant::new(id, self.generations, negotiated, env.now));
        endpoint.home = home;
        match home {
            // Its home watches over it.
            Some(_) => endpoint.active = false,
            None => self.sources.iter_mut().flatten().for_each(|s| subscribe(env, s, index, &mut endpoint)),
        }
        self.endpoints[index] = Some(endpoint);
        self.speaker.add(id, env.now);
        self.update_workers(env);
        self.touch(env.now);
        (index, self.generations)
    }

    /// Gives an endpoint everything on SSRCs of the bridge's own from now on. For a new endpoint, before its keys.
    pub fn set_ssrc_rewriting(&mut self, env: &Env<'_>, index: usize, settings: &SsrcRewriting) {
        let Some(endpoint) = self.endpoint(index).filter(|e| e.home.is_none() && e.ssrc_slots.is_none()) else {
            return;
        };
        endpoint.ssrc_slots = Some(Box::new(SsrcSlots::new(settings)));
        for source in self.sources.iter_mut().flatten() {
            let kind = source.kind;
            if let Some(subscription) = source.subscription_mut(index) {
                subscription.renew(Subscription::without_ssrc(index, kind));
            }
        }
        self.touch_commanded(env.now, index);
    }

    /// Removes an endpoint, its sources, and its subscriptions.
    pub fn leave(&mut self, env: &mut Env<'_>, index: usize) {
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::take) else { return };
        self.speaker.remove(endpoint.id);
        for i in 0..self.sources.len() {
            if self.sources[i].as_ref().is_some_and(|s| s.owner == index) {
                self.remove_source(env.now, i);
            }
        }
        for source in self.sources.iter_mut().flatten() {
            source.subscriptions.retain(|subscription| subscription.receiver != index);
        }
        self.update_workers(env);
        self.touch(env.now);
    }

    /// Installs an endpoint's SRTP keys. New keys start new counting of packets in both directions.
    pub fn set_keys(&mut self, index: usize, keys: &SrtpKeys) {
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::as_deref_mut) else { return };
        if !endpoint.set_keys(keys) {
            return;
        }
        for (place, source) in self.sources.iter_mut().enumerate() {
            let Some(source) = source.as_deref_mut() else { continue };
            if source.owner == index {
                source.restart();
                continue;
            }
            let Some(outgoing) = source.outgoing() else { continue };
            let kind = source.kind;
            let Some(subscription) = source.subscription_mut(index) else { continue };
            match endpoint.ssrc_slots.as_deref() {
                None => {
                    if let Some(indices) = endpoint.indices(outgoing) {
                        subscription.renew(Subscription::new(index, outgoing.ssrc, kind, subscription.target, indices));
                    }
                }
                Some(slots) => {
                    if let Some(ssrcs) = slots.kind(kind).ssrcs(place) {
                        let anew =
                            Subscription::resuming(index, ssrcs.ssrc, kind, subscription.target, Resume::first(ssrcs));
                        subscription.renew(anew.naming(subscription.mid));
                    }
                }
            }
        }
        if let Some(slots) = endpoint.ssrc_slots.as_deref_mut() {
            slots.restart();
        }
    }

    /// Replaces what an endpoint wants to receive.
    pub fn set_constraints(&mut self, env: &Env<'_>, index: usize, mut constraints: ReceiverConstraints) {
        env.stats.add(Counter::WishesRefused, limit_names(&mut constraints));
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::as_deref_mut) else { return };
        if endpoint.constraints == constraints {
            return;
        }
        endpoint.constraints = constraints;
        self.aim_audio(env, index);
    }

    /// Replaces the names of the sources that an endpoint's client was not told of yet.
    pub fn set_untold(&mut self, env: &Env<'_>, index: usize, mut untold: Vec<String>) {
        env.stats.add(Counter::WishesRefused, limit(&mut untold, MAX_SUBSCRIBED));
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::as_deref_mut) else { return };
        if endpoint.untold != untold {
            endpoint.untold = untold;
            self.aim_audio(env, index);
        }
    }

    /// Audio that an endpoint wants, and that its client was told of, flows; the rest follows from the allocation.
    pub fn aim_audio(&mut self, env: &Env<'_>, index: usize) {
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::as_deref_mut) else { return };
        for (place, source) in self.sources.iter_mut().enumerate() {
            let Some(source) = source.as_deref_mut().filter(|s| s.kind == MediaKind::Audio) else { continue };
            let wanted = endpoint.constraints.audio.wants(&source.name);
            let told = endpoint.is_told(MediaKind::Audio, place, &source.name);
            if let Some(subscription) = source.subscription_mut(index) {
                subscription.unwanted = !wanted;
                subscription.target = (wanted && told).then_some(LayerId::whole(0));
            }
        }
        self.touch_commanded(env.now, index);
    }

    /// Replaces an endpoint's formats and extensions.
    pub fn set_media(&mut self, env: &Env<'_>, index: usize, negotiated: Arc<Negotiated>) {
        let Some(endpoint) = self.endpoint(index) else { return };
        let numbered = negotiated.extensions.id(MediaKind::Video, UriId::TRANSPORT_CC).is_some();
        if endpoint.home.is_none() && endpoint.downlink.is_none() && (numbered || negotiated.feedback.remb) {
            endpoint.downlink = Some(Box::new(Downlink::new(env.config.bandwidth)));
        }
        endpoint.negotiated = negotiated;
        for source in self.sources.iter_mut().flatten() {
            if source.owner == index {
                // What is cached was numbered by the old table.
                source.cache = None;
            } else if let Some(subscription) = source.subscription_mut(index) {
                subscription.repeat_from = subscription.projection.next_sequence();
            }
        }
        self.touch_commanded(env.now, index);
    }

    /// Replaces the set of sources that an endpoint publishes. Those that go on keep their state.
    pub fn set_sources(&mut self, env: &mut Env<'_>, index: usize, descriptions: &[SourceDescription]) {
        let Some((owner, local)) = self.endpoint(index).map(|e| (e.id, e.home.is_none())) else { return };
        for i in 0..self.sources.len() {
            let gone = self.sources[i]
                .as_ref()
                .is_some_and(|s| s.owner == index && !descriptions.iter().any(|d| s.continues(d)));
            if gone {
                self.remove_source(env.now, i);
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
            self.add_or_update(env, index, description);
        }
        self.rebuild_inputs(index);
        if local {
            self.ask_for_demands(env, owner);
        }
        self.touch_commanded(env.now, index);
    }

    fn add_or_update(&mut self, env: &mut Env<'_>, owner: usize, description: &SourceDescription) {
        let known = self.sources.iter_mut().flatten().find(|s| s.owner == owner && s.continues(description));
        if let Some(source) = known {
            source.update(description);
            return;
        }
        let mut source = Box::new(Source::new(owner, description));
        let Some(outgoing) = source.outgoing() else { return };
        let taken = |ssrc: &u32| self.by_ssrc.contains_key(ssrc);
        if taken(&outgoing.ssrc) || outgoing.rtx.as_ref().is_some_and(taken) || outgoing.rtx == Some(outgoing.ssrc) {
            if env.complaints.take(env.now) {
                tracing::warn!(
                    source = description.name,
                    ssrc = outgoing.ssrc,
                    rtx = outgoing.rtx,
                    "source refused: an SSRC of it is taken"
                );
            }
            env.stats.count(Counter::DropTableFull);
            return;
        }
        if self.is_news(owner, outgoing) {
            let published = self.endpoint(owner).map(|endpoint| &mut endpoint.published);
            match published.filter(|published| **published < MAX_PUBLISHED) {
                Some(published) => *published += 1,
                None => {
                    if env.complaints.take(env.now) {
                        tracing::warn!(source = description.name, "source refused: its owner had too many others");
                    }
                    return env.stats.count(Counter::DropTableFull);
                }
            }
        }
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            if let Some(endpoint) = endpoint.as_deref_mut().filter(|e| index != owner && e.home.is_none()) {
                subscribe(env, &mut source, index, endpoint);
            }
        }
        let place = self.sources.iter().position(Option::is_none).unwrap_or_else(|| {
            self.sources.push(None);
            self.sources.len() - 1
        });
        self.by_ssrc.insert(outgoing.ssrc, (place, false));
        if let Some(rtx) = outgoing.rtx {
            self.by_ssrc.insert(rtx, (place, true));
        }
        self.loudest.reserve(self.sources.len());
        self.sources[place] = Some(source);
    }

    /// Whether some receiver here has to remember one more SSRC for a source of an owner.
    fn is_news(&self, owner: usize, ssrcs: Encoding) -> bool {
        let others = self.endpoints.iter().enumerate().filter(|(index, _)| *index != owner);
        let receivers = || others.clone().filter_map(|(_, e)| e.as_deref()).filter(|e| e.remembers_ssrcs());
        receivers().next().is_some() && !receivers().any(|e| e.remembers(ssrcs))
    }

    fn remove_source(&mut self, now: Instant, index: usize) {
        let Some(source) = self.sources.get_mut(index).and_then(Option::take) else { return };
        self.loudest.remove(index);
        let Some(outgoing) = source.outgoing() else { return };
        self.by_ssrc.retain(|_, (source, _)| *source != index);
        for subscription in &source.subscriptions {
            let Some(receiver) = self.endpoint(subscription.receiver) else { continue };
            match receiver.ssrc_slots.as_deref_mut() {
                None => receiver.retire(outgoing, subscription.indices()),
                Some(slots) => {
                    if subscription.ssrc != NO_SSRC {
                        slots.release(now, source.kind, index, subscription.resume());
                    }
                }
            }
        }
    }

    /// Notes anew which SSRC of an endpoint is which encoding of which source.
    pub fn rebuild_inputs(&mut self, index: usize) {
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::as_deref_mut) else { return };
        endpoint.inputs.clear();
        for (i, source) in self.sources.iter().enumerate() {
            let Some(source) = source.as_ref().filter(|s| s.owner == index) else { continue };
            for (state, encoding) in source.encodings.iter().zip(0u8..) {
                let input = IncomingStream { source: i, encoding, rtx: false };
                endpoint.inputs.insert(state.ssrcs.ssrc, input);
                if let Some(rtx) = state.ssrcs.rtx {
                    endpoint.inputs.insert(rtx, IncomingStream { rtx: true, ..input });
                }
            }
        }
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

/// Adds a subscription; subscriptions stay sorted by receiver.
fn subscribe(env: &mut Env<'_>, source: &mut Source, receiver: usize, endpoint: &mut Participant) {
    let Some(outgoing) = source.outgoing() else { return };
    let at = source.subscriptions.partition_point(|l| l.receiver < receiver);
    let unwanted = source.kind == MediaKind::Audio && !endpoint.constraints.audio.wants(&source.name);
    if endpoint.ssrc_slots.is_some() {
        let mut subscription = Subscription::without_ssrc(receiver, source.kind);
        subscription.unwanted = unwanted;
        return source.subscriptions.insert(at, subscription);
    }
    // Audio that is wanted flows once its client was told of it; video waits for the allocation.
    let told = endpoint.was_told(&source.name);
    let target = (source.kind == MediaKind::Audio && !unwanted && told).then_some(LayerId::whole(0));
    let Some(indices) = endpoint.indices(outgoing) else {
        if env.complaints.take(env.now) {
            tracing::warn!(endpoint = %endpoint.id, source = source.name, "source not forwarded: too many SSRCs used up");
        }
        return env.stats.count(Counter::DropTableFull);
    };
    let mut subscription = Subscription::new(receiver, outgoing.ssrc, source.kind, target, indices);
    subscription.unwanted = unwanted;
    source.subscriptions.insert(at, subscription);
}
