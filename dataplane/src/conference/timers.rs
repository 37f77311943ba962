//! Everything that waits for time: the allocation, estimates and probes, reports, the tail of feedback, repeated NACKs, the speaker, silence.

use std::time::{Duration, Instant};

use crate::conference::context::Env;
use crate::conference::members::Conference;
use crate::conference::participant::{ACTIVITY_TIMEOUT, Participant, REPORT_INTERVAL};
use crate::conference::rtcp_out;
use crate::io::PacketSink;
use crate::media::MediaKind;
use crate::messages::Event;

/// Least time between two runs over a conference, so that many timers share one.
const SPACING: Duration = Duration::from_millis(5);
/// Packets of a probe that one receiver is sent in one run.
const MOST_AT_ONCE: usize = 64;

impl Conference {
    /// Runs what is due and sets the next deadline.
    pub fn handle_timeout(&mut self, env: &mut Env<'_>, sink: &mut impl PacketSink) {
        if !self.turns.take(env.now) {
            self.deadline = Some(env.now + SPACING);
            return;
        }
        self.deadline = None;
        if self.speaker.decide(env.now) {
            if self.lead {
                env.emit(Event::DominantSpeaker { conference: self.id, recent: self.speaker.recent().to_vec() });
            }
            self.touch(env.now);
        }
        if self.slots_settle.is_some_and(|at| at <= env.now) {
            self.touch(env.now);
        }
        if self.takes_allocation(env.now) {
            self.allocate(env);
        } else {
            self.reallocate(env);
        }
        // A settling that is due has asked for the allocation.
        let settles = self.slots_settle.filter(|at| *at > env.now);
        let mut next = earliest(earliest(self.speaker.deadline(), settles), self.allocate_at);
        for i in 0..self.endpoints.len() {
            self.map_audio(env, i);
            if self.announce_mappings(env, i) {
                next = earliest(next, Some(env.now + SPACING));
            }
            next = earliest(next, self.endpoint_timeout(env, i, sink));
            next = earliest(next, self.downlink_timeout(env, i, sink));
        }
        for source in self.sources.iter_mut().flatten().filter(|s| s.kind == MediaKind::Video) {
            let Some(owner) = self.endpoints.get_mut(source.owner).and_then(Option::as_deref_mut) else { continue };
            for state in &mut source.encodings {
                if state.nack.deadline().is_some_and(|at| at <= env.now) {
                    rtcp_out::nack(env, self.feedback.video, owner, state, sink);
                }
                next = earliest(next, state.nack.deadline());
            }
        }
        self.deadline = next.map(|at| at.max(env.now + SPACING));
    }

    /// Looks after what is known of a receiver's path, and sends the packets of a probe.
    fn downlink_timeout(&mut self, env: &mut Env<'_>, index: usize, sink: &mut impl PacketSink) -> Option<Instant> {
        let now = env.micros();
        let at = |at: u64| env.epoch + Duration::from_micros(at);
        let place = self.endpoints.get_mut(index)?;
        let due = place.as_deref()?.downlink.as_deref()?.due(now)?;
        if due > now {
            return Some(at(due));
        }
        // Taken out, as for a packet of its own: a probe repeats what the room has cached.
        let mut endpoint = place.take()?;
        let next = self.tend_downlink(env, index, &mut endpoint, sink);
        if let Some(place) = self.endpoints.get_mut(index) {
            *place = Some(endpoint);
        }
        next.map(|next| env.epoch + Duration::from_micros(next))
    }

    fn tend_downlink(
        &mut self,
        env: &mut Env<'_>,
        index: usize,
        endpoint: &mut Participant,
        sink: &mut impl PacketSink,
    ) -> Option<u64> {
        let now = env.micros();
        let probes = env.config.congestion_control && endpoint.negotiated.feedback.transport_cc;
        let downlink = endpoint.downlink.as_deref_mut()?;
        downlink.tick(now, probes);
        for _ in 0..MOST_AT_ONCE {
            if endpoint.downlink.as_deref().is_none_or(|d| d.prober.due(now).is_none()) {
                break;
            }
            if !self.send_probe(env, index, endpoint, sink)
                && let Some(downlink) = endpoint.downlink.as_deref_mut()
            {
                downlink.prober.abort(now, &mut downlink.estimator);
            }
        }
        let round_trip = endpoint.round_trip.value();
        let downlink = endpoint.downlink.as_deref_mut()?;
        if let Some(bandwidth) = downlink.report(now, round_trip) {
            env.emit(Event::Bandwidth { endpoint: endpoint.id, bandwidth });
        }
        downlink.schedule(now)
    }

    fn endpoint_timeout(&mut self, env: &mut Env<'_>, index: usize, sink: &mut impl PacketSink) -> Option<Instant> {
        let endpoint = self.endpoints.get_mut(index).and_then(Option::as_deref_mut).filter(|e| e.home.is_none())?;
        if endpoint.active && env.now.saturating_duration_since(endpoint.last_activity) >= ACTIVITY_TIMEOUT {
            endpoint.active = false;
            env.emit(Event::Activity { endpoint: endpoint.id, active: false });
        }
        rtcp_out::transport(env, self.feedback.video, endpoint, sink);
        if endpoint.next_report.is_some_and(|at| at <= env.now) {
            let sent = rtcp_out::receiver_reports(env, self.feedback.video, endpoint, &mut self.sources, index, sink);
            // Silent endpoints are not reported on; their next packet starts the timer again.
            endpoint.next_report = sent.then_some(env.now + REPORT_INTERVAL);
        }
        // What cannot be told is not waited for.
        let can_tell = endpoint.path.is_some() && endpoint.sealer.is_some();
        let arrivals = endpoint.arrivals.poll_timeout().filter(|_| can_tell);
        let silence = endpoint.active.then_some(endpoint.last_activity + ACTIVITY_TIMEOUT);
        earliest(earliest(silence, arrivals), endpoint.next_report)
    }
}

/// The earlier of two deadlines.
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
