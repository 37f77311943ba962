//! Everything that waits for time: the allocation, estimates and probes, reports, the tail of feedback, repeated NACKs, the
//! speaker, silence. Each participant is looked after when something of its own is due.

use std::time::Instant;

use super::context::Env;
use super::members::Conference;
use super::participant::schedule::{SPACING, earliest};
use super::rtcp_out;
use crate::datagram::PacketSink;
use crate::ids::ParticipantId;
use crate::media::MediaKind;
use crate::messages::Event;

/// Packets of a probe that one receiver is sent in one run.
const MOST_AT_ONCE: usize = 64;

impl Conference {
    /// Runs what is due.
    pub fn handle_timeout(&mut self, env: &mut Env<'_>, sink: &mut impl PacketSink) {
        if !self.schedule.begin(env.now) {
            return;
        }
        if self.speaker.decide(env.now) {
            if self.lead {
                env.emit(Event::DominantSpeaker { conference: self.id, recent: self.speaker.recent().to_vec() });
            }
            self.schedule.touch(env.now);
        }
        if self.schedule.take_settled(env.now) {
            self.schedule.touch(env.now);
        }
        if self.schedule.wants_allocation(env.now) {
            let videos = self.sources.values().filter(|source| source.kind() == MediaKind::Video).count();
            if self.schedule.takes_allocation(env.now, self.participants.bound() * videos) {
                self.allocate(env);
            }
        }
        let due = self.schedule.take_due(env.now);
        self.reallocate(env, &due);
        for id in &due {
            if let Some(at) = self.participant_timeout(env, *id, sink) {
                self.schedule.wake_participant(*id, at.max(env.now + SPACING));
            }
        }
        self.schedule.end(env.now, due, self.speaker.deadline());
    }

    /// Looks after one participant; returns when that is due again.
    fn participant_timeout(
        &mut self,
        env: &mut Env<'_>,
        id: ParticipantId,
        sink: &mut impl PacketSink,
    ) -> Option<Instant> {
        if !self.participants.get(id)?.has_transport() {
            return None;
        }
        self.map_audio(env, id);
        let again = self.announce_mappings(env, id).then_some(env.now + SPACING);
        let reports = self.reports_timeout(env, id, sink);
        let downlink = self.downlink_timeout(env, id, sink);
        let nacks = self.nacks_timeout(env, id, sink);
        earliest(earliest(again, reports), earliest(downlink, nacks))
    }

    /// Silence, transport-wide feedback, receiver reports.
    fn reports_timeout(&mut self, env: &mut Env<'_>, id: ParticipantId, sink: &mut impl PacketSink) -> Option<Instant> {
        let participant = self.participants.get_mut(id)?;
        if let Some(event) = participant.check_activity(env.now) {
            env.emit(event);
        }
        let from = self.feedback.video;
        rtcp_out::transport(env, from, &mut participant.publisher, &mut participant.receiver, sink);
        if participant.publisher.next_report().is_some_and(|at| at <= env.now) {
            let sent = rtcp_out::receiver_reports(env, from, participant, &mut self.sources, sink);
            participant.publisher.reported(env.now, sent);
        }
        // Nothing waits for an event that cannot be sent.
        let arrivals = participant.publisher.arrivals_due().filter(|_| participant.receiver.is_ready());
        earliest(earliest(participant.silent_at(), arrivals), participant.publisher.next_report())
    }

    /// Packets that were asked for, and did not come.
    fn nacks_timeout(&mut self, env: &Env<'_>, id: ParticipantId, sink: &mut impl PacketSink) -> Option<Instant> {
        let owner = self.participants.get_mut(id)?;
        let mut next = None;
        for source in owner.publisher.sources() {
            let Some(source) = self.sources.get_mut(*source) else { continue };
            for state in source.encodings_mut() {
                if state.nack_deadline().is_some_and(|at| at <= env.now) {
                    rtcp_out::nack(env, self.feedback.video, &mut owner.receiver, state, sink);
                }
                next = earliest(next, state.nack_deadline());
            }
        }
        next
    }

    /// Looks after what is known of a receiver's path, and sends the packets of a probe.
    fn downlink_timeout(
        &mut self,
        env: &mut Env<'_>,
        id: ParticipantId,
        sink: &mut impl PacketSink,
    ) -> Option<Instant> {
        let now = env.worker_time();
        let participant = self.participants.get_mut(id)?;
        let reported = participant.receiver.negotiated().feedback.transport_cc;
        let downlink = participant.receiver.downlink_mut()?;
        let due = downlink.due(now)?;
        if due > now {
            return Some(env.instant(due));
        }
        downlink.tick(now);
        if env.config.congestion_control {
            downlink.probe(now, reported, env.shedding.level() == 0);
        }
        for _ in 0..MOST_AT_ONCE {
            if !self.participants.get(id)?.receiver.downlink()?.is_probe_due(now) {
                break;
            }
            if !self.send_probe(env, id, sink) {
                self.participants.get_mut(id)?.receiver.downlink_mut()?.abort_probe(now);
            }
        }
        let participant = self.participants.get_mut(id)?;
        if let Some(bandwidth) = participant.receiver.report_bandwidth(now) {
            env.emit(Event::Bandwidth { endpoint: participant.id(), bandwidth });
        }
        participant.receiver.downlink_mut()?.schedule(now).map(|at| env.instant(at))
    }
}
