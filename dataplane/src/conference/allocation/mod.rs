//! The allocation at work: grants every receiver its layers, and tells the control plane what changed.

mod ssrcs;

use std::time::Instant;

use crate::conference::context::Env;
use crate::conference::members::Conference;
use crate::conference::source::Source;
use crate::congestion::allocation::{self, Candidate};
use crate::congestion::division::{Want, divide};
use crate::congestion::ladder::Ladder;
use crate::congestion::layer::{LayerId, Layers};
use crate::limits::MAX_BITRATE;
use crate::media::{Encoding, MediaKind, ReceiverConstraints};
use crate::messages::Event;
use crate::peers::Note;
use crate::stats::Counter;

/// What sources offer, looked up once for all receivers of one run.
#[derive(Default)]
struct Offers {
    layers: Vec<Option<Box<Layers>>>,
}

impl Offers {
    fn of(&mut self, place: usize, source: &Source, now: Instant) -> &Layers {
        if self.layers.len() <= place {
            self.layers.resize_with(place + 1, || None);
        }
        self.layers[place].get_or_insert_with(|| {
            let mut layers = Box::<Layers>::default();
            source.layers(now, &mut layers);
            layers
        })
    }
}

/// How much of the source at a place a receiver may want: pixels, -1 unlimited, 0 nothing.
type Limits = Vec<(usize, i32)>;

/// The sources of others in the order of last-n, with their places; and of each how much a receiver may want by its
/// constraints.
pub fn offered<'a>(
    sources: &'a [Option<Box<Source>>],
    order: &[usize],
    receiver: usize,
    constraints: &ReceiverConstraints,
) -> (Vec<(usize, &'a Source)>, Vec<i32>) {
    let offered: Vec<(usize, &Source)> = order
        .iter()
        .filter_map(|place| Some((*place, sources.get(*place)?.as_deref()?)))
        .filter(|(_, source)| source.owner != receiver)
        .collect();
    let candidates: Vec<Candidate<'_>> =
        offered.iter().map(|(_, source)| Candidate { name: &source.name, video_type: source.video_type }).collect();
    let limits = allocation::limits(&candidates, constraints);
    (offered, limits)
}

impl Conference {
    /// Grants every receiver its layers.
    pub fn allocate(&mut self, env: &mut Env<'_>) {
        env.stats.count(Counter::Allocations);
        self.rerank(env);
        let order = self.last_n_order();
        self.slots_settle = None;
        let mut demands: Vec<Option<i32>> = vec![None; self.sources.len()];
        let mut offers = Offers::default();
        for receiver in 0..self.endpoints.len() {
            self.map_video(env, receiver, &order);
            // Before it hears that any of it is forwarded.
            self.announce_mappings(env, receiver);
            for (source, limit) in self.allocate_for(env, receiver, &order, &mut offers) {
                if let Some(demand) = demands.get_mut(source) {
                    *demand = Some(allocation::larger(demand.unwrap_or(0), limit));
                }
            }
        }
        self.announce_demand(env, &order, &demands);
    }

    /// Puts the encodings of every source into the order of what they carry.
    fn rerank(&mut self, env: &mut Env<'_>) {
        debug_assert!(env.batch.is_empty(), "what waits there goes by the old places");
        for place in 0..self.sources.len() {
            let Some(source) = self.sources.get_mut(place).and_then(Option::as_deref_mut) else { continue };
            let (owner, again) = (source.owner, source.rank_at(env.now));
            if source.rerank(env.now) {
                env.stats.count(Counter::EncodingsReranked);
                self.rebuild_inputs(owner);
            }
            if let Some(at) = again {
                self.touch_at(at);
            }
        }
    }

    /// The same for the receivers whose path changed. What they want stays the same, so no sender needs to know.
    pub fn reallocate(&mut self, env: &mut Env<'_>) {
        let (mut order, mut offers) = (None, Offers::default());
        for receiver in 0..self.endpoints.len() {
            let endpoint = self.endpoints.get(receiver).and_then(Option::as_deref);
            let Some(downlink) = endpoint.and_then(|e| e.downlink.as_deref()) else { continue };
            if env.config.congestion_control && downlink.needs_allocation(env.micros()) {
                let order = order.get_or_insert_with(|| self.last_n_order());
                self.allocate_for(env, receiver, order, &mut offers);
            }
        }
    }

    /// Grants one receiver its layers; returns what it may want, whatever its path carries.
    fn allocate_for(&mut self, env: &mut Env<'_>, receiver: usize, order: &[usize], offers: &mut Offers) -> Limits {
        let now = env.micros();
        let endpoint = self.endpoints.get_mut(receiver).and_then(Option::as_deref_mut);
        let Some(endpoint) = endpoint.filter(|e| e.home.is_none()) else { return Vec::new() };
        let constraints = &endpoint.constraints;
        let (offered, mut limits) = offered(&self.sources, order, receiver, constraints);
        let slots = endpoint.ssrc_slots.as_deref();
        for ((place, _), limit) in offered.iter().zip(&mut limits) {
            if slots.is_some_and(|slots| slots.kind(MediaKind::Video).ssrcs(*place).is_none()) {
                *limit = 0;
            }
        }
        let mut targets: Vec<Option<LayerId>> = vec![None; offered.len()];
        // Place in `offered`, and the want.
        let mut wants: Vec<(usize, Want)> = Vec::with_capacity(offered.len());
        for (place, ((index, source), limit)) in offered.iter().zip(&limits).enumerate() {
            let layers = offers.of(*index, source, env.now);
            let frame_rate = constraints.of(&source.name).max_frame_rate;
            let ladder = Ladder::of(layers, source.video_type, *limit, frame_rate);
            // Of a source of which nothing was seen, whatever comes first tells.
            targets[place] = allocation::target(*limit, source.encodings.iter().map(|e| e.height()));
            if ladder.steps().is_empty() {
                continue;
            }
            let before = source.subscription(receiver).and_then(|subscription| subscription.target);
            let on_stage = constraints.on_stage.contains(&source.name);
            wants.push((place, Want { ladder, on_stage, before }));
        }
        wants.sort_by_cached_key(|(place, want)| {
            let rank = offered.get(*place).map(|(_, source)| constraints.rank(&source.name, source.video_type));
            (!want.on_stage, rank, *place)
        });
        let (places, wants): (Vec<usize>, Vec<Want>) = wants.into_iter().unzip();
        let known = endpoint.downlink.as_deref().filter(|_| env.config.congestion_control);
        let assumed = constraints.assumed_bandwidth.map(|assumed| assumed.min(MAX_BITRATE));
        let available = assumed.or_else(|| known.and_then(|d| d.available(now)));
        let division = divide(&wants, available);
        for (place, granted) in places.iter().zip(&division.granted) {
            if let Some(target) = targets.get_mut(*place) {
                // Without a limit, an encoding that the sender adds later is welcome at once.
                let higher = target.map(|t| t.encoding) > granted.map(|g| g.encoding);
                if available.is_some() || !higher {
                    *target = *granted;
                }
            }
        }
        let (mut paused, mut queued) = (false, false);
        if let Some(downlink) = endpoint.downlink.as_deref_mut() {
            let available = downlink.available(now);
            let suspended = division.granted.iter().filter(|granted| granted.is_none()).count();
            let suspended = u16::try_from(suspended).unwrap_or(u16::MAX);
            downlink.allocated(now, available, division.bitrate, division.ideal, suspended);
            if env.config.congestion_control && constraints.assumed_bandwidth.is_none() {
                queued = downlink.is_queued();
                let begins_lower = |(source, target): (&Source, &Option<LayerId>)| {
                    let current =
                        source.subscription(receiver).and_then(|subscription| subscription.projection.current());
                    target.is_some_and(|t| current > Some(t.encoding))
                };
                let lower = offered.iter().map(|(_, s)| *s).zip(&targets).any(begins_lower);
                paused = downlink.pauses(now, division.oversent, lower);
            } else {
                downlink.end_pause();
            }
        }
        let forwarded: Vec<String> = offered
            .iter()
            .zip(&targets)
            .filter(|((_, source), target)| target.is_some() && source.video_type.is_shown())
            .map(|((_, source), _)| source.name.clone())
            .collect();
        if forwarded != endpoint.forwarded {
            endpoint.forwarded.clone_from(&forwarded);
            env.emit(Event::ForwardedSources { endpoint: endpoint.id, sources: forwarded });
        }
        let places: Vec<usize> = offered.iter().map(|(i, _)| *i).collect();
        for (i, target) in places.iter().zip(&targets) {
            let Some(source) = self.sources.get_mut(*i).and_then(Option::as_deref_mut) else { continue };
            let told = endpoint.is_told(MediaKind::Video, *i, &source.name);
            if let Some(subscription) = source.subscription_mut(receiver) {
                subscription.target = target.filter(|_| !paused && told);
                // Over a long queue the old encoding does not go on until the new one begins: that would be late, too.
                let lower = subscription.target.map(|t| t.encoding) < subscription.projection.current();
                if subscription.target.is_none() || (queued && lower) {
                    // Here, because a source that nobody wants does not even cross to this worker.
                    subscription.projection.stop();
                }
            }
        }
        places.into_iter().zip(limits).collect()
    }

    fn announce_demand(&mut self, env: &mut Env<'_>, order: &[usize], demands: &[Option<i32>]) {
        let mut again = false;
        for i in order {
            let Some(source) = self.sources.get_mut(*i).and_then(Option::as_deref_mut) else { continue };
            let demand = source.merged_demand(demands.get(*i).copied().flatten());
            // Before the first receiver nothing was said; after the last one left, nobody wants it.
            let demand = if source.demand.is_some() { Some(demand.unwrap_or(0)) } else { demand };
            let Some(max_height) = demand.filter(|_| demand != source.demand) else { continue };
            let Some(owner) = self.endpoints.get(source.owner).and_then(Option::as_deref) else { continue };
            let endpoint = owner.id;
            match (owner.home, source.outgoing()) {
                (None, _) => {
                    env.emit(Event::SourceDemand { endpoint, source: source.name.clone(), max_height });
                }
                (Some(home), Some(Encoding { ssrc, .. })) => {
                    if !env.peers.send_note(home, Note::Demand { endpoint, ssrc, max_height }) {
                        env.stats.count(Counter::DropCrossingFull);
                        again = true;
                        continue;
                    }
                }
                (Some(_), None) => {}
            }
            source.demand = demand;
        }
        if again {
            self.touch(env.now);
        }
    }

    /// Video sources, those of recent speakers first, then in the order of joining.
    fn last_n_order(&self) -> Vec<usize> {
        let rank = |owner: usize| {
            let endpoint = self.endpoints.get(owner).and_then(Option::as_deref);
            let spoke = endpoint.and_then(|e| self.speaker.recent().iter().position(|r| *r == e.id));
            (spoke.unwrap_or(usize::MAX), endpoint.map(|e| e.id))
        };
        let mut order: Vec<(_, usize)> = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((i, s.as_deref()?)))
            .filter(|(_, s)| s.kind == MediaKind::Video)
            .map(|(i, s)| (rank(s.owner), i))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, i)| i).collect()
    }
}
