//! Everything that waits for time: the allocation, reports, the tail of feedback, repeated NACKs, the speaker, silence.

use std::time::{Duration, Instant};

use super::endpoint::{ACTIVITY_TIMEOUT, REPORT_INTERVAL};
use super::feedback;
use super::room::{Env, Room};
use super::source::Source;
use crate::congestion::allocation::{self, Candidate};
use crate::io::PacketSink;
use crate::media::{Encoding, MediaKind, VideoType};
use crate::peers::Note;
use crate::ring::Event;
use crate::stats::Counter;

/// Least time between two runs over a conference, so that many timers share one.
const SPACING: Duration = Duration::from_millis(5);

impl Room {
    /// Runs what is due and sets the next deadline.
    pub fn handle_timeout(&mut self, env: &mut Env<'_>, sink: &mut impl PacketSink) {
        self.deadline = None;
        if self.speaker.decide(env.now) {
            if self.lead {
                env.emit(Event::DominantSpeaker { conference: self.id, recent: self.speaker.recent().to_vec() });
            }
            self.dirty = true;
        }
        if std::mem::take(&mut self.dirty) {
            self.allocate(env);
        }
        let mut next = self.speaker.deadline();
        for i in 0..self.endpoints.len() {
            next = earliest(next, self.endpoint_timeout(env, i, sink));
        }
        for source in self.sources.iter_mut().flatten().filter(|s| s.kind == MediaKind::Video) {
            let Some(owner) = self.endpoints.get_mut(source.owner).and_then(Option::as_deref_mut) else { continue };
            for state in &mut source.encodings {
                if state.nack.deadline().is_some_and(|at| at <= env.now) {
                    feedback::nack(env, self.feedback.video, owner, state, sink);
                }
                next = earliest(next, state.nack.deadline());
            }
        }
        self.deadline = next.map(|at| at.max(env.now + SPACING));
    }

    fn endpoint_timeout(&mut self, env: &mut Env<'_>, index: usize, sink: &mut impl PacketSink) -> Option<Instant> {
        let endpoint = self.endpoints.get_mut(index).and_then(Option::as_deref_mut).filter(|e| e.home.is_none())?;
        if endpoint.active && env.now.saturating_duration_since(endpoint.last_activity) >= ACTIVITY_TIMEOUT {
            endpoint.active = false;
            env.emit(Event::Activity { endpoint: endpoint.id, active: false });
        }
        feedback::transport(env, self.feedback.video, endpoint, sink);
        if endpoint.next_report.is_some_and(|at| at <= env.now) {
            let sent = feedback::receiver_reports(env, self.feedback.video, endpoint, &mut self.sources, index, sink);
            // Silent endpoints are not reported on; their next packet starts the timer again.
            endpoint.next_report = sent.then_some(env.now + REPORT_INTERVAL);
        }
        let silence = endpoint.active.then_some(endpoint.last_activity + ACTIVITY_TIMEOUT);
        earliest(earliest(silence, endpoint.arrivals.poll_timeout()), endpoint.next_report)
    }

    /// Grants every receiver its encodings, and tells the control plane what changed.
    fn allocate(&mut self, env: &mut Env<'_>) {
        let order = self.last_n_order();
        let mut demands: Vec<Option<i32>> = vec![None; self.sources.len()];
        for receiver in 0..self.endpoints.len() {
            let endpoint = self.endpoints.get_mut(receiver).and_then(Option::as_deref_mut);
            let Some(endpoint) = endpoint.filter(|e| e.home.is_none()) else { continue };
            let offered: Vec<(usize, &Source)> = order
                .iter()
                .filter_map(|i| Some((*i, self.sources.get(*i)?.as_deref()?)))
                .filter(|(_, s)| s.owner != receiver)
                .collect();
            let candidates: Vec<Candidate<'_>> =
                offered.iter().map(|(_, s)| Candidate { name: &s.name, video_type: s.video_type }).collect();
            let limits = allocation::limits(&candidates, &endpoint.constraints);
            let mut forwarded = Vec::new();
            let mut targets = Vec::with_capacity(offered.len());
            for ((i, source), limit) in offered.iter().zip(&limits) {
                let shown = !matches!(source.video_type, VideoType::None | VideoType::Disabled);
                if *limit != 0 && shown {
                    forwarded.push(source.name.clone());
                }
                if let Some(demand) = demands.get_mut(*i) {
                    *demand = Some(allocation::larger(demand.unwrap_or(0), *limit));
                }
                targets.push((*i, allocation::target(*limit, source.encodings.iter().map(|e| e.height))));
            }
            if forwarded != endpoint.forwarded {
                endpoint.forwarded.clone_from(&forwarded);
                env.emit(Event::ForwardedSources { endpoint: endpoint.id, sources: forwarded });
            }
            for (i, target) in targets {
                let Some(source) = self.sources.get_mut(i).and_then(Option::as_deref_mut) else { continue };
                if let Ok(at) = source.legs.binary_search_by_key(&receiver, |l| l.receiver)
                    && let Some(leg) = source.legs.get_mut(at)
                {
                    leg.target = target;
                    if target.is_none() {
                        // Here, because a source that nobody wants does not even cross to this worker.
                        leg.projection.stop();
                    }
                }
            }
        }
        self.announce_demand(env, &order, &demands);
    }

    fn announce_demand(&mut self, env: &mut Env<'_>, order: &[usize], demands: &[Option<i32>]) {
        for i in order {
            let Some(source) = self.sources.get_mut(*i).and_then(Option::as_deref_mut) else { continue };
            let demand = source.merged_demand(demands.get(*i).copied().flatten());
            // Before the first receiver nothing was said; after the last one left, nobody wants it.
            let demand = if source.demand.is_some() { Some(demand.unwrap_or(0)) } else { demand };
            let Some(max_height) = demand.filter(|_| demand != source.demand) else { continue };
            let Some(owner) = self.endpoints.get(source.owner).and_then(Option::as_deref) else { continue };
            let endpoint = owner.id;
            match (owner.home, source.outgoing()) {
                (None, _) => env.emit(Event::SourceDemand { endpoint, source: source.name.clone(), max_height }),
                (Some(home), Some(Encoding { ssrc, .. })) => {
                    if !env.peers.send_note(home, Note::Demand { endpoint, ssrc, max_height }) {
                        env.stats.count(Counter::DropCrossingFull);
                        self.dirty = true;
                        continue;
                    }
                }
                (Some(_), None) => {}
            }
            source.demand = demand;
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

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
