//! The sending side: a source, what is received of each of its encodings, and the subscriptions that it goes out on.
//!
//! The state of one encoding is in [`encoding`]: [`sequence`] numbers packets, [`nack`] asks for missing ones, [`reports`]
//! counts for RTCP, [`meter`] and `activity` know which layers arrive, and [`dependency`] reads descriptors. `rank` decides which
//! encoding is the higher one; [`demand`] is what receivers want of the source.

mod activity;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

pub mod demand;
pub mod dependency;
pub mod encoding;
pub mod meter;
pub mod nack;
mod rank;
pub mod reports;
pub mod sequence;

use std::time::Instant;

use demand::Demand;
use encoding::{EncodingState, Observation, ObservedPacket};
use reports::SenderClock;

use super::packet::cache::{CachedPacket, PacketCache, PacketKey};
use super::receiver::keyframe::Throttle;
use super::receiver::pass_through::PassThrough;
use super::receiver::subscription::{self, Subscription};
use crate::congestion::active::ActiveLayers;
use crate::congestion::layer::{Layers, MAX_ENCODINGS};
use crate::congestion::reorder;
use crate::ids::{ParticipantId, WorkerSet};
use crate::media::{Encoding, MediaKind, SourceDescription, VideoType};

/// One source of a conference.
#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    owner: ParticipantId,
    /// Who delivers it: its owner, or the relay that its owner is behind.
    sender: ParticipantId,
    name: String,
    kind: MediaKind,
    video_type: VideoType,
    /// From low to high, as far as they are known ([`Source::rerank`]).
    #[serde(deserialize_with = "few_encodings")]
    encodings: Vec<EncodingState>,
    /// The SSRCs that receivers know it by: those that its owner named first.
    outgoing: Option<Encoding>,
    /// One per other endpoint, sorted by receiver.
    subscriptions: Vec<Subscription>,
    /// One per relay that it goes to.
    passes: Vec<PassThrough>,
    /// Recent packets; video only, made at the first packet.
    #[serde(skip)]
    cache: Option<PacketCache>,
    /// Holds back keyframe requests to the owner.
    requests: Throttle,
    /// FIR command number.
    fir: u8,
    /// What receivers want.
    demand: Demand,
    /// How often the numbering started anew.
    restarts: u32,
    /// The layers that the sender sent when its last packet came.
    active: ActiveLayers,
}

fn few_encodings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EncodingState>, D::Error> {
    let encodings = Vec::deserialize(deserializer)?;
    if encodings.len() <= MAX_ENCODINGS { Ok(encodings) } else { Err(D::Error::custom("too many encodings")) }
}

impl Source {
    /// A source that has sent nothing; `sender` delivers it.
    pub fn new(owner: ParticipantId, sender: ParticipantId, description: &SourceDescription) -> Self {
        let encodings = description.encodings.iter().take(MAX_ENCODINGS).map(|e| EncodingState::new(*e)).collect();
        Self {
            owner,
            sender,
            name: description.name.clone(),
            kind: description.kind,
            video_type: description.video_type,
            encodings,
            outgoing: description.encodings.first().copied(),
            subscriptions: Vec::new(),
            passes: Vec::new(),
            cache: None,
            requests: Throttle::default(),
            fir: 0,
            demand: Demand::default(),
            restarts: 0,
            active: ActiveLayers::default(),
        }
    }

    /// Who publishes it.
    #[inline]
    pub fn owner(&self) -> ParticipantId {
        self.owner
    }

    /// Whose keys, numbers and address its packets come by: its owner, or the relay that its owner is behind.
    #[inline]
    pub fn sender(&self) -> ParticipantId {
        self.sender
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Audio or video.
    #[inline]
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Camera or desktop.
    pub fn video_type(&self) -> VideoType {
        self.video_type
    }

    /// What is received, from low to high as far as that is known.
    pub fn encodings(&self) -> &[EncodingState] {
        &self.encodings
    }

    /// The same, to change it.
    pub fn encodings_mut(&mut self) -> impl Iterator<Item = &mut EncodingState> {
        self.encodings.iter_mut()
    }

    /// One received encoding.
    #[inline]
    pub fn encoding_mut(&mut self, encoding: u8) -> Option<&mut EncodingState> {
        self.encodings.get_mut(usize::from(encoding))
    }

    /// The SSRCs that receivers know the source by: those of the encoding that was named first.
    pub fn outgoing(&self) -> Option<Encoding> {
        self.outgoing
    }

    /// How often the numbering started anew.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// All subscriptions, sorted by receiver.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// The subscription of a receiver.
    pub fn subscription(&self, receiver: ParticipantId) -> Option<&Subscription> {
        self.subscriptions.get(subscription::position(&self.subscriptions, receiver)?)
    }

    /// The same, to change it.
    pub fn subscription_mut(&mut self, receiver: ParticipantId) -> Option<&mut Subscription> {
        let at = subscription::position(&self.subscriptions, receiver)?;
        self.subscriptions.get_mut(at)
    }

    /// The same for receivers that are asked for in rising order; `cursor` starts at zero.
    #[inline]
    pub fn next_subscription(&mut self, cursor: &mut usize, receiver: ParticipantId) -> Option<&mut Subscription> {
        while self.subscriptions.get(*cursor).is_some_and(|subscription| subscription.receiver() < receiver) {
            *cursor += 1;
        }
        self.subscriptions.get_mut(*cursor).filter(|subscription| subscription.receiver() == receiver)
    }

    /// Adds a subscription.
    pub fn subscribe(&mut self, subscription: Subscription) {
        let at = self.subscriptions.partition_point(|other| other.receiver() < subscription.receiver());
        self.subscriptions.insert(at, subscription);
    }

    /// Removes the subscription of a receiver.
    pub fn unsubscribe(&mut self, receiver: ParticipantId) {
        self.subscriptions.retain(|subscription| subscription.receiver() != receiver);
        self.passes.retain(|pass| pass.relay() != receiver);
    }

    /// The relays that it goes to.
    pub fn passes(&self) -> &[PassThrough] {
        &self.passes
    }

    /// What one relay gets of it.
    #[inline]
    pub fn pass_mut(&mut self, relay: ParticipantId) -> Option<&mut PassThrough> {
        self.passes.iter_mut().find(|pass| pass.relay() == relay)
    }

    /// It goes to one more relay.
    pub fn add_pass(&mut self, pass: PassThrough) {
        self.passes.push(pass);
    }

    /// It goes to a relay no longer.
    pub fn remove_pass(&mut self, relay: ParticipantId) -> Option<PassThrough> {
        let at = self.passes.iter().position(|pass| pass.relay() == relay)?;
        Some(self.passes.swap_remove(at))
    }

    /// What it takes to send a relay a packet again.
    pub fn kept_for_relay(&mut self, relay: ParticipantId) -> Option<(&PacketCache, &mut PassThrough)> {
        let pass = self.passes.iter_mut().find(|pass| pass.relay() == relay)?;
        Some((self.cache.as_ref()?, pass))
    }

    /// Decides which encodings go to relays.
    pub fn aim_passes(&mut self, now: Instant) {
        if self.passes.is_empty() {
            return;
        }
        let active = self.active(now).encodings();
        for pass in &mut self.passes {
            pass.aim(self.kind, self.encodings.iter().map(EncodingState::height), active);
        }
    }

    /// Keeps a packet of video that came `now`, of which receivers may miss something; `capacity` is how many bytes are kept at most.
    pub fn keep(&mut self, now: Instant, capacity: usize, key: PacketKey, bytes: &[u8], packet: CachedPacket) {
        let encodings = self.encodings.len();
        let cache = self.cache.get_or_insert_with(|| PacketCache::new(capacity, encodings));
        cache.insert(now, key, bytes, packet);
    }

    /// Forgets the packets that were kept: they were numbered by a table that does not count any more.
    pub fn forget_packets(&mut self) {
        self.cache = None;
    }

    /// What it takes to send a receiver a packet again: those that were kept, and its subscription.
    pub fn kept_for(&mut self, receiver: ParticipantId) -> Option<(&PacketCache, &mut Subscription)> {
        let at = subscription::position(&self.subscriptions, receiver)?;
        Some((self.cache.as_ref()?, self.subscriptions.get_mut(at)?))
    }

    /// Whether the owner may be asked for a keyframe.
    pub fn may_request_keyframe(&self, now: Instant) -> bool {
        self.requests.ready(now)
    }

    /// The owner was asked for a keyframe.
    pub fn requested_keyframe(&mut self, now: Instant) {
        self.requests.used(now);
    }

    /// The number of the next FIR.
    pub fn next_fir(&mut self) -> u8 {
        let number = self.fir;
        self.fir = self.fir.wrapping_add(1);
        number
    }

    /// What receivers want of it.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// The same, to record what they want and what was reported of it.
    pub fn demand_mut(&mut self) -> &mut Demand {
        &mut self.demand
    }

    /// The workers of a set that its packets cross to.
    #[inline]
    pub fn crosses_to(&self, workers: WorkerSet) -> WorkerSet {
        self.demand.crosses_to(self.kind, workers)
    }

    /// Whether anybody here gets it.
    pub fn has_audience(&self) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.target().is_some())
            || self.passes.iter().any(PassThrough::is_wanted)
    }

    /// Whether a new description can go on with this state: same kind, same SSRCs towards receivers.
    pub fn continues(&self, description: &SourceDescription) -> bool {
        let first = description.encodings.first().copied();
        self.name == description.name && self.kind == description.kind && first.is_some() && self.outgoing() == first
    }

    /// Takes a new description; encodings that stay keep their state and their rank, new ones come last.
    pub fn update(&mut self, description: &SourceDescription) {
        self.video_type = description.video_type;
        let described = || description.encodings.iter().take(MAX_ENCODINGS);
        let before = self.encodings.len();
        self.encodings.retain_mut(|state| {
            let found = described().find(|e| e.ssrc == state.ssrcs().ssrc);
            state.set_ssrcs(found.copied().unwrap_or(state.ssrcs()));
            found.is_some()
        });
        let stayed = self.encodings.len() == before;
        for encoding in described() {
            if !self.encodings.iter().any(|state| state.ssrcs().ssrc == encoding.ssrc) {
                self.encodings.push(EncodingState::new(*encoding));
            }
        }
        if let Some(cache) = &mut self.cache {
            cache.extend_to(self.encodings.len());
        }
        if !stayed {
            // Packets are cached, and subscriptions forward, by the encoding's position: start afresh.
            self.restart_subscriptions();
        }
    }

    fn has_ranks(&self) -> bool {
        self.kind == MediaKind::Video && self.encodings.len() > 1
    }

    /// Puts the encodings into the order of what they carry, as far as that is known. True when one has another position now:
    /// then those who go by positions have to look anew. Not while packets wait in a batch: they go by positions, too.
    pub fn rerank(&mut self, now: Instant) -> bool {
        if !self.has_ranks() {
            return false;
        }
        let mut known = [None; MAX_ENCODINGS];
        for (known, state) in known.iter_mut().zip(&self.encodings) {
            *known = state.evidence(now);
        }
        let moves = rank::moves(known.get(..self.encodings.len()).unwrap_or(&[]));
        if moves == reorder::STAY {
            return false;
        }
        reorder::permute(&mut self.encodings, &moves);
        self.active.renumber(&moves);
        if let Some(cache) = &mut self.cache {
            cache.renumber(&moves);
        }
        for subscription in &mut self.subscriptions {
            subscription.renumber(&moves);
        }
        for pass in &mut self.passes {
            pass.renumber(&moves);
        }
        true
    }

    /// When its order should be looked at again, although no layer comes or goes: enough is measured then.
    pub fn rank_at(&self, now: Instant) -> Option<Instant> {
        if !self.has_ranks() {
            return None;
        }
        self.encodings.iter().filter_map(|e| e.reliable_from()).filter(|at| *at > now).min()
    }

    /// Forgets what was received: the sender starts counting anew. Receivers see the stream go on. `restarts` is how often it
    /// did so.
    pub fn restart_to(&mut self, restarts: u32) {
        if self.restarts != restarts {
            self.restart();
            self.restarts = restarts;
        }
    }

    /// The same, one more time.
    pub fn restart(&mut self) {
        for state in &mut self.encodings {
            state.restart();
        }
        self.restarts = self.restarts.wrapping_add(1);
        self.restart_subscriptions();
    }

    fn restart_subscriptions(&mut self) {
        self.cache = None;
        for subscription in &mut self.subscriptions {
            subscription.restart(self.kind);
        }
        self.passes.iter_mut().for_each(PassThrough::restart);
    }

    /// Takes a packet of an encoding into account for which layers the sender still sends.
    pub fn observe(&mut self, now: Instant, encoding: u8, packet: &ObservedPacket) -> Observation {
        let encoding = usize::from(encoding);
        let Some(state) = self.encodings.get_mut(encoding) else { return Observation::default() };
        let mut observed = state.observe(now, packet, self.kind);
        if self.kind == MediaKind::Audio {
            return observed;
        }
        if observed.first && self.encodings.len() > 1 {
            for (i, other) in self.encodings.iter_mut().enumerate() {
                if i != encoding {
                    other.passed_by();
                }
            }
        }
        let active = self.active(now);
        if active != self.active {
            self.active = active;
            observed.layers_changed = true;
        }
        observed
    }

    /// Records an encoding's sender report: two encodings' clocks show how their timestamps relate.
    pub fn note_clock(&mut self, encoding: u8, clock: SenderClock) {
        let Some(state) = self.encodings.get_mut(usize::from(encoding)) else { return };
        state.set_clock(clock);
        let outgoing = self.encodings.iter().find(|e| Some(e.ssrcs().ssrc) == self.outgoing.map(|o| o.ssrc));
        let Some(first) = outgoing.and_then(|e| e.clock()) else { return };
        for state in &mut self.encodings {
            state.compare_clock(first);
        }
    }

    /// The layers that were seen in packets and still come, ascending. Replaces what `out` held.
    pub fn layers(&self, now: Instant, out: &mut Layers) {
        out.clear();
        let active = self.active(now);
        for (state, encoding) in self.encodings.iter().zip(0u8..).filter(|(_, i)| active.encodings() >> i & 1 != 0) {
            let sent = active.spatial(encoding);
            state.layers(now, encoding, sent, out);
        }
    }

    /// What the sender sent when its last packet came.
    pub fn active_now(&self) -> ActiveLayers {
        self.active
    }

    /// What the sender sends at the moment.
    pub fn active(&self, now: Instant) -> ActiveLayers {
        ActiveLayers::of(self.encodings.iter().map(|e| e.active(now)))
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::Ssrc;
    use std::time::Duration;

    use super::*;
    use crate::slab::Key;

    fn video(ssrcs: &[u32]) -> SourceDescription {
        SourceDescription {
            name: "a-v0".to_owned(),
            kind: MediaKind::Video,
            video_type: VideoType::Camera,
            encodings: ssrcs.iter().map(|s| Encoding { ssrc: Ssrc::new(*s), rtx: Some(Ssrc::new(s + 1)) }).collect(),
        }
    }

    #[test]
    fn an_encoding_is_silent_only_when_others_went_on() {
        let start = Instant::now();
        let mut source = Source::new(ParticipantId::new(0), ParticipantId::new(0), &video(&[1, 3]));
        let active = |source: &Source, at| source.active(at).encodings();
        assert_eq!(active(&source, start), 0);
        let noted = |timestamp| ObservedPacket { timestamp, frame: Frame::layer(0, 0), begins: None, bytes: 10 };
        assert_eq!(
            source.observe(start, 0, &noted(1)),
            Observation { first: true, newest: true, layers_changed: true }
        );
        assert_eq!(
            source.observe(start, 0, &noted(1)),
            Observation { first: false, newest: true, layers_changed: false }
        );
        source.observe(start, 1, &noted(1));
        let later = start + Duration::from_secs(2);
        assert_eq!(active(&source, later), 0b11, "a still screen: nobody sends");
        for i in 0..3 {
            source.observe(later, 0, &noted(100 + i));
        }
        assert_eq!(active(&source, later), 0b01);
        let mut layers = Layers::default();
        source.layers(later, &mut layers);
        assert_eq!(layers.iter().map(|l| l.id).collect::<Vec<_>>(), [LayerId { encoding: 0, spatial: 0, temporal: 0 }]);
    }

    #[test]
    fn an_update_keeps_what_stays() {
        let mut source = Source::new(ParticipantId::new(0), ParticipantId::new(0), &video(&[1, 3]));
        let mut heights = [0; MAX_SPATIAL];
        heights[0] = 360;
        let keyframe = PayloadView { entry: Entry::Keyframe, heights, ..PayloadView::OPAQUE };
        assert!(source.encodings[1].note_heights(&keyframe) && !source.encodings[1].note_heights(&keyframe));
        source.subscriptions.push(Subscription::new(
            ParticipantId::new(4),
            Ssrc::new(1),
            MediaKind::Video,
            Some(LayerId::whole(1)),
            Indices { media: 7, rtx: 2 },
        ));
        assert!(source.continues(&video(&[1, 3])));
        assert!(!source.continues(&video(&[9])));
        source.update(&video(&[1, 3, 5]));
        assert_eq!(source.encodings[1].height(), Some(360));
        assert_eq!(source.encodings.len(), 3);
        assert_eq!(source.subscriptions[0].indices(), Indices { media: 7, rtx: 2 });
    }

    use crate::conference::packet::frame::{Entry, Frame};
    use crate::conference::packet::payload::PayloadView;
    use crate::conference::receiver::subscription::Indices;
    use crate::congestion::layer::{LayerId, MAX_SPATIAL};
}
