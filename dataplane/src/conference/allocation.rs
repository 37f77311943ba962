//! Which encoding of which source goes to whom: lastN, stage, selection, constraints, speaker order
//! (bridge-protocol 8.3; the bandwidth of the receiver's link does not count yet).

use std::time::Instant;

use super::endpoint::Endpoint;
use super::forwarder::{Conference, Forwarder};
use super::source::Source;
use crate::ids::ConferenceId;
use crate::io::PacketSink;
use crate::media::VideoType;
use crate::ring::Event;

impl Forwarder {
    /// Chooses targets again where something changed.
    pub(super) fn allocate_dirty(&mut self, now: Instant, sink: &mut impl PacketSink) {
        let dirty: Option<ConferenceId> =
            self.conferences.iter().find(|(_, conference)| conference.dirty).map(|(id, _)| *id);
        if let Some(id) = dirty {
            self.allocate(now, id, sink);
        }
    }

    fn allocate(&mut self, now: Instant, id: ConferenceId, sink: &mut impl PacketSink) {
        let Some(conference) = self.conferences.get_mut(&id) else { return };
        conference.dirty = false;
        let order = speaker_order(conference, &self.endpoints, &self.sources);
        let mut keyframes = Vec::new();
        for receiver_index in conference.endpoints.clone() {
            let Some(receiver) = self.endpoints.get_mut(receiver_index).and_then(Option::as_deref_mut) else {
                continue;
            };
            let wanted = wanted_heights(receiver, &order, &self.sources);
            let mut forwarded = Vec::new();
            for (source_index, max_height) in wanted {
                let Some(source) = self.sources.get_mut(source_index).and_then(Option::as_deref_mut) else { continue };
                let target = source.encoding_for(max_height);
                let name = &source.description.name;
                if target.is_some() {
                    forwarded.push(name.clone());
                }
                let Some(leg) = source.legs.iter_mut().find(|leg| leg.receiver == receiver_index) else { continue };
                leg.max_height = max_height;
                if leg.target != target {
                    leg.set_target(target);
                    if leg.stream.projection.needs_keyframe(target) && receiver.sealer.is_some() {
                        keyframes.extend(target.map(|encoding| (source_index, encoding)));
                    }
                }
            }
            forwarded.sort();
            if forwarded != receiver.forwarded {
                receiver.forwarded.clone_from(&forwarded);
                self.events.push_back(Event::ForwardedSources { endpoint: receiver.id, sources: forwarded });
            }
        }
        self.report_demand(id);
        for (source, encoding) in keyframes {
            self.request_keyframe(now, source, encoding, sink);
        }
    }

    /// Tells owners what anybody wants of their sources at most.
    fn report_demand(&mut self, id: ConferenceId) {
        let Some(conference) = self.conferences.get(&id) else { return };
        for index in &conference.sources {
            let Some(source) = self.sources.get_mut(*index).and_then(Option::as_deref_mut) else { continue };
            if !source.is_video() {
                continue;
            }
            let heights = || source.legs.iter().map(|leg| leg.max_height);
            let demand = if heights().any(|height| height < 0) { -1 } else { heights().max().unwrap_or(0) };
            if source.demand != Some(demand) {
                source.demand = Some(demand);
                self.events.push_back(Event::SourceDemand {
                    endpoint: source.owner_id,
                    source: source.description.name.clone(),
                    max_height: demand,
                });
            }
        }
    }
}

/// Video sources that show something, those of recent speakers first.
fn speaker_order(
    conference: &Conference,
    endpoints: &[Option<Box<Endpoint>>],
    sources: &[Option<Box<Source>>],
) -> Vec<usize> {
    let rank = |index: &usize| {
        let owner = sources.get(*index).and_then(Option::as_deref).map(|source| source.owner_id);
        conference.speaker.recent().iter().position(|recent| Some(*recent) == owner).unwrap_or(usize::MAX)
    };
    let mut order: Vec<usize> = conference
        .sources
        .iter()
        .copied()
        .filter(|index| {
            sources.get(*index).and_then(Option::as_deref).is_some_and(|source| {
                source.is_video()
                    && !matches!(source.description.video_type, VideoType::None | VideoType::Disabled)
                    && endpoints.get(source.owner).is_some_and(Option::is_some)
            })
        })
        .collect();
    order.sort_by_key(rank);
    order
}

/// The height that a receiver gets of every source at most: its constraint within lastN, else nothing.
fn wanted_heights(receiver: &Endpoint, order: &[usize], sources: &[Option<Box<Source>>]) -> Vec<(usize, i32)> {
    let constraints = &receiver.constraints;
    let source = |index: usize| sources.get(index).and_then(Option::as_deref);
    let mut candidates: Vec<usize> = order
        .iter()
        .copied()
        .filter(|index| source(*index).is_some_and(|source| source.owner_id != receiver.id))
        .collect();
    let preferred: Vec<&String> = constraints.on_stage.iter().chain(&constraints.selected).collect();
    candidates.sort_by_key(|index| {
        let name = source(*index).map(|source| &source.description.name);
        preferred.iter().position(|preferred| Some(*preferred) == name).unwrap_or(usize::MAX)
    });
    let mut room = usize::try_from(constraints.last_n).unwrap_or(usize::MAX);
    candidates
        .into_iter()
        .map(|index| {
            let name = source(index).map_or("", |source| source.description.name.as_str());
            let constraint = constraints
                .per_source
                .iter()
                .find(|(constrained, _)| constrained == name)
                .map_or(constraints.default, |(_, constraint)| *constraint);
            let wanted = constraint.max_height != 0 && constraint.max_frame_rate != 0 && room > 0;
            room -= usize::from(wanted);
            (index, if wanted { constraint.max_height } else { 0 })
        })
        .collect()
}
