//! The allocation at work: gives every receiver its layers, and reports to the control plane what changed.

mod ssrcs;

use std::time::Instant;

use super::context::Env;
use super::members::Conference;
use super::source::Source;
use crate::congestion::allocation::{self, Candidate};
use crate::congestion::division::{Want, divide};
use crate::congestion::ladder::Ladder;
use crate::congestion::layer::{LayerId, Layers};
use crate::ids::{ParticipantId, SourceId};
use crate::limits::MAX_BITRATE;
use crate::media::{Encoding, Limit, MediaKind, ReceiverConstraints};
use crate::messages::Event;
use crate::peers::PeerSignal;
use crate::slab::{Key, Slab};
use crate::stats::Counter;

/// What sources offer, looked up once for all receivers of one run.
#[derive(Default)]
struct Offers {
    layers: Vec<Option<Box<Layers>>>,
}

impl Offers {
    fn of(&mut self, id: SourceId, source: &Source, now: Instant) -> &Layers {
        if self.layers.len() <= id.number() {
            self.layers.resize_with(id.number() + 1, || None);
        }
        self.layers[id.number()].get_or_insert_with(|| {
            let mut layers = Box::<Layers>::default();
            source.layers(now, &mut layers);
            layers
        })
    }
}

/// How much of a source a receiver may want, as a height in pixels.
type Limits = Vec<(SourceId, Limit)>;

/// A source of another participant, and how much of it a receiver may want by its constraints, as a height in pixels.
#[derive(Clone, Copy)]
struct Offered<'a> {
    id: SourceId,
    source: &'a Source,
    limit: Limit,
}

/// The sources of others in the order of last-n.
fn offered<'a>(
    sources: &'a Slab<SourceId, Source>,
    order: &[SourceId],
    receiver: ParticipantId,
    constraints: &ReceiverConstraints,
) -> Vec<Offered<'a>> {
    let others = order.iter().filter_map(|id| Some((*id, sources.get(*id)?)));
    let others: Vec<_> = others.filter(|(_, source)| source.owner() != receiver).collect();
    let candidates: Vec<Candidate<'_>> =
        others.iter().map(|(_, source)| Candidate { name: source.name(), video_type: source.video_type() }).collect();
    let limits = allocation::limits(&candidates, constraints);
    others.into_iter().zip(limits).map(|((id, source), limit)| Offered { id, source, limit }).collect()
}

impl Conference {
    /// Allocates layers to every receiver.
    pub fn allocate(&mut self, env: &mut Env<'_>) {
        env.stats.count(Counter::Allocations);
        self.rerank(env);
        let order = self.last_n_order();
        self.schedule.forget_settling();
        let mut demands: Vec<Option<Limit>> = vec![None; self.sources.bound()];
        let mut offers = Offers::default();
        for receiver in self.participants.keys() {
            self.map_video(env, receiver, &order);
            // Before it hears that any of it is forwarded.
            if self.announce_mappings(env, receiver) {
                self.schedule.wake_participant(receiver, env.now);
            }
            for (source, limit) in self.allocate_for(env, receiver, &order, &mut offers) {
                if let Some(demand) = demands.get_mut(source.number()) {
                    *demand = (*demand).max(Some(limit));
                }
            }
        }
        self.aim_relays(env, &mut demands);
        self.announce_demand(env, &order, &demands);
    }

    /// Puts the encodings of every source into the order of what they carry.
    fn rerank(&mut self, env: &mut Env<'_>) {
        debug_assert!(env.batch.is_empty(), "what waits there goes by the old positions");
        for id in self.sources.keys() {
            let Some(source) = self.sources.get_mut(id) else { continue };
            let (owner, again) = (source.owner(), source.rank_at(env.now));
            if source.rerank(env.now) {
                env.stats.count(Counter::EncodingsReranked);
                self.rebuild_streams(owner);
            }
            if let Some(at) = again {
                self.schedule.touch(at);
            }
        }
    }

    /// The same for those of some receivers whose path changed. What they want stays the same, so no sender needs to know.
    pub fn reallocate(&mut self, env: &mut Env<'_>, receivers: &[ParticipantId]) {
        if !env.config.congestion_control {
            return;
        }
        let (mut order, mut offers) = (None, Offers::default());
        for receiver in receivers {
            let participant = self.participants.get(*receiver);
            let Some(downlink) = participant.and_then(|p| p.receiver.downlink()) else { continue };
            if downlink.needs_allocation(env.worker_time()) {
                let order = order.get_or_insert_with(|| self.last_n_order());
                self.allocate_for(env, *receiver, order, &mut offers);
            }
        }
    }

    /// Allocates layers to one receiver; returns what it may want, whatever its path carries.
    fn allocate_for(
        &mut self,
        env: &mut Env<'_>,
        id: ParticipantId,
        order: &[SourceId],
        offers: &mut Offers,
    ) -> Limits {
        let now = env.worker_time();
        let Some(participant) = self.participants.get_mut(id).filter(|p| p.is_receiver()) else { return Vec::new() };
        let endpoint = participant.id();
        let receiver = &mut participant.receiver;
        let constraints = receiver.constraints();
        let mut offered = offered(&self.sources, order, id, constraints);
        if let Some(slots) = receiver.ssrc_slots() {
            for offered in &mut offered {
                if slots.kind(MediaKind::Video).ssrcs(offered.id).is_none() {
                    offered.limit = Limit::Off;
                }
            }
        }
        let mut targets: Vec<Option<LayerId>> = vec![None; offered.len()];
        // Position in `offered`, and the want.
        let mut wants: Vec<(usize, Want)> = Vec::with_capacity(offered.len());
        for (at, (offered, target)) in offered.iter().zip(&mut targets).enumerate() {
            let Offered { id: source_id, source, limit } = *offered;
            let layers = offers.of(source_id, source, env.now);
            let frame_rate = constraints.of(source.name()).max_frame_rate;
            let ladder = Ladder::of(layers, source.video_type(), limit, frame_rate);
            // Nothing was seen of the source yet: its first packet decides.
            *target = allocation::target(limit, source.encodings().iter().map(|e| e.height()));
            if ladder.steps().is_empty() {
                continue;
            }
            let before = source.subscription(id).and_then(|subscription| subscription.target());
            let on_stage = constraints.on_stage.iter().any(|name| name == source.name());
            wants.push((at, Want { ladder, on_stage, before }));
        }
        wants.sort_by_cached_key(|(at, want)| {
            let rank = offered.get(*at).map(|o| constraints.rank(o.source.name(), o.source.video_type()));
            (!want.on_stage, rank, *at)
        });
        let (positions, wants): (Vec<usize>, Vec<Want>) = wants.into_iter().unzip();
        let known = receiver.downlink().filter(|_| env.config.congestion_control);
        let assumed = constraints.assumed_bandwidth.map(|assumed| assumed.min(MAX_BITRATE));
        let available = assumed.or_else(|| known.and_then(|d| d.available(now)));
        let division = divide(&wants, available);
        for (at, granted) in positions.iter().zip(&division.granted) {
            if let Some(target) = targets.get_mut(*at) {
                // Without a limit, an encoding that the sender adds later is welcome at once.
                let higher = target.map(|t| t.encoding) > granted.map(|g| g.encoding);
                if available.is_some() || !higher {
                    *target = *granted;
                }
            }
        }
        let lower = offered.iter().zip(&targets).any(|(offered, target)| {
            let current = offered.source.subscription(id).and_then(|subscription| subscription.current());
            target.is_some_and(|target| current > Some(target.encoding))
        });
        let path = receiver.note_division(now, &division, lower, env.config.congestion_control);
        let names = offered
            .iter()
            .zip(&targets)
            .filter(|(offered, target)| target.is_some() && offered.source.video_type().is_shown())
            .map(|(offered, _)| offered.source.name());
        if let Some(forwarded) = receiver.note_forwarded(names) {
            env.emit(Event::ForwardedSources { endpoint, sources: forwarded.to_vec() });
        }
        let limits: Limits = offered.iter().map(|offered| (offered.id, offered.limit)).collect();
        for ((source_id, _), target) in limits.iter().zip(&targets) {
            let Some(source) = self.sources.get_mut(*source_id) else { continue };
            let signalled = participant.receiver.is_signalled(MediaKind::Video, *source_id, source.name());
            if let Some(subscription) = source.subscription_mut(id) {
                let target = target.filter(|_| !path.paused && signalled);
                subscription.set_target(target);
                // Over a long queue the old encoding does not go on until the new one begins: that would be late, too.
                let lower = target.map(|t| t.encoding) < subscription.current();
                if target.is_none() || (path.queued && lower) {
                    // Here, because a source that nobody wants does not even cross to this worker.
                    subscription.stop();
                }
            }
        }
        limits
    }

    fn announce_demand(&mut self, env: &mut Env<'_>, order: &[SourceId], demands: &[Option<Limit>]) {
        for id in order {
            let Some(source) = self.sources.get_mut(*id) else { continue };
            let here = demands.get(id.number()).copied().flatten();
            let Some(height) = source.demand().news(here) else { continue };
            let Some(owner) = self.participants.get(source.owner()) else { continue };
            let endpoint = owner.id();
            match (owner.home(), source.outgoing()) {
                (None, _) => {
                    env.emit(Event::SourceDemand { endpoint, source: source.name().to_owned(), max_height: height });
                }
                (Some(home), Some(Encoding { ssrc, .. })) => {
                    if !env.send_signal(home, PeerSignal::Demand { endpoint, ssrc, height }) {
                        self.schedule.touch(env.now);
                        continue;
                    }
                }
                (Some(_), None) => {}
            }
            source.demand_mut().note_announced(height);
        }
    }

    /// Video sources, those of recent speakers first, then in the order of joining.
    fn last_n_order(&self) -> Vec<SourceId> {
        let rank = |owner: ParticipantId| {
            let endpoint = self.participants.get(owner).map(|participant| participant.id());
            let spoke = endpoint.and_then(|id| self.speaker.recent().iter().position(|recent| *recent == id));
            (spoke.unwrap_or(usize::MAX), endpoint)
        };
        let videos = self.sources.iter().filter(|(_, source)| source.kind() == MediaKind::Video);
        let mut order: Vec<_> = videos.map(|(id, source)| (rank(source.owner()), id)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }
}
