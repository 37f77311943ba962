//! RTCP in: sender reports go on to the subscribers, requests of receivers go back to the sources.

use super::context::Env;
use super::members::Conference;
use super::participant::publisher::IncomingStream;
use super::receiver::delivery::Reason;
use super::rtcp_out;
use super::source::reports::SenderClock;
use crate::datagram::PacketSink;
use crate::ids::{ParticipantId, SourceId, Ssrc};
use crate::limits::rtcp;
use crate::media::{Bitrate, MediaKind};
use crate::peers::PeerSignal;
use crate::rtcp::{Block, Compound, Feedback, SenderInfo, compound, nack};
use crate::srtp::OpenError;
use crate::stats::Counter;

/// The sender's RTCP has cost as much as it may.
struct Exhausted;

impl Conference {
    /// Takes one SRTCP packet of an endpoint.
    pub fn handle_rtcp(
        &mut self,
        env: &mut Env<'_>,
        from: ParticipantId,
        datagram: &mut [u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(sender) = self.participants.get_mut(from) else { return };
        if !sender.publisher.has_keys() {
            return env.stats.count(Counter::DropNoKeys);
        }
        // Looked at before the opening, which costs the most; paid after it, so that nobody pays for what others forge.
        if !sender.has_rtcp_work(env.now) {
            return env.stats.count(Counter::DropRtcpBudget);
        }
        let len = match sender.publisher.open_rtcp(datagram) {
            Some(Ok(len)) => len,
            None => return,
            Some(Err(error)) => {
                return env.stats.count(match error {
                    OpenError::Auth => Counter::DropSrtcpAuth,
                    OpenError::Replay => Counter::DropSrtcpReplay,
                    OpenError::TooShort => Counter::DropRtcpMalformed,
                    OpenError::TooManySsrcs => Counter::DropTableFull,
                });
            }
        };
        if let Some(event) = sender.note_activity(env.now) {
            env.emit(event);
        }
        if let Some(at) = sender.silent_at() {
            self.schedule.wake_participant(from, at);
        }
        if !sender.pays_for_rtcp(env.now, rtcp::PACKET) {
            return env.stats.count(Counter::DropRtcpBudget);
        }
        for block in Compound::new(datagram.get(..len).unwrap_or(&[])) {
            if self.handle_block(env, from, &block, sink).is_err() {
                return env.stats.count(Counter::DropRtcpBudget);
            }
        }
    }

    /// Takes one part of a compound packet.
    fn handle_block(
        &mut self,
        env: &mut Env<'_>,
        from: ParticipantId,
        block: &Block<'_>,
        sink: &mut impl PacketSink,
    ) -> Result<(), Exhausted> {
        self.pay(env, from, work(block))?;
        match block {
            Block::SenderReport { ssrc, info, reports } => {
                self.note_round_trip(env, from, reports);
                let clock = SenderClock { ntp: info.ntp, rtp: info.rtp, at: env.now };
                self.pass_sender_report(env, from, *ssrc, clock, sink);
            }
            Block::ReceiverReport { reports, .. } => self.note_round_trip(env, from, reports),
            Block::Nack { media, entries } if self.is_relay(from) => {
                let Some(source) = self.source_towards(from, *media) else { return Ok(()) };
                for entry in entries.chunks_exact(4) {
                    self.pay(env, from, rtcp::NACKED * nack::count(entry))?;
                    for sequence in nack::sequences(entry) {
                        self.resend_to_relay(env, from, source, (*media, sequence), sink);
                    }
                }
            }
            Block::Nack { media, entries } => {
                let Some(source) = self.source_on(from, *media) else { return Ok(()) };
                for entry in entries.chunks_exact(4) {
                    self.pay(env, from, rtcp::NACKED * nack::count(entry))?;
                    for sequence in nack::sequences(entry) {
                        self.resend(env, from, (source, sequence), Reason::Nack, sink);
                    }
                }
            }
            Block::Pli { media } => self.keyframe_request(env, from, *media, sink),
            Block::Fir { entries } => {
                for media in compound::fir_targets(entries) {
                    self.keyframe_request(env, from, media, sink);
                }
            }
            Block::Twcc { body } => self.transport_feedback(env, from, body),
            Block::Remb { bitrate } => self.remb(env, from, *bitrate),
            Block::Malformed => env.stats.count(Counter::DropRtcpMalformed),
            Block::Other { .. } => {}
        }
        Ok(())
    }

    fn pay(&mut self, env: &Env<'_>, from: ParticipantId, work: u32) -> Result<(), Exhausted> {
        let sender = self.participants.get_mut(from).ok_or(Exhausted)?;
        if sender.pays_for_rtcp(env.now, work) { Ok(()) } else { Err(Exhausted) }
    }

    /// Measures the round-trip time by a receiver's report blocks.
    fn note_round_trip(&mut self, env: &Env<'_>, from: ParticipantId, reports: &[u8]) {
        let Some(sender) = self.participants.get_mut(from) else { return };
        for block in compound::report_blocks(reports) {
            sender.receiver.note_report(env.worker_time(), block.last_sr, block.delay);
        }
    }

    /// Takes a receiver's transport-wide feedback: which of the packets sent to it arrived, and when.
    fn transport_feedback(&mut self, env: &Env<'_>, from: ParticipantId, body: &[u8]) {
        let Some(feedback) = Feedback::parse(body) else { return env.stats.count(Counter::DropRtcpMalformed) };
        env.stats.count(Counter::TransportFeedbackReceived);
        let now = env.worker_time();
        let Some(receiver) = self.participants.get_mut(from).map(|from| &mut from.receiver) else { return };
        let Some(downlink) = receiver.downlink_mut() else { return };
        let outcome = downlink.feedback(now, &feedback);
        env.stats.add(Counter::TransportFeedbackUnmatched, u64::from(outcome.unmatched));
        self.lossy |= downlink.is_lossy();
        if env.config.congestion_control && downlink.needs_allocation(now) {
            self.schedule.hurry(from, env.now);
        } else if let Some(at) = downlink.due(now) {
            self.schedule.wake_participant(from, env.instant(at));
        }
    }

    /// Takes a receiver's own estimate of what its path carries (REMB).
    fn remb(&mut self, env: &Env<'_>, from: ParticipantId, bitrate: u64) {
        let Some(receiver) = self.participants.get_mut(from).map(|from| &mut from.receiver) else { return };
        let spurious = receiver.negotiated().feedback.transport_cc;
        if let Some(downlink) = receiver.downlink_mut() {
            downlink.remb(env.worker_time(), Bitrate::new(bitrate), spurious);
            self.schedule.hurry(from, env.now);
        }
    }

    /// The source that a receiver gets on a media SSRC.
    fn source_on(&self, receiver: ParticipantId, ssrc: Ssrc) -> Option<SourceId> {
        match self.participants.get(receiver)?.receiver.ssrc_slots() {
            Some(slots) => slots.source(ssrc),
            None => self.source_with(ssrc),
        }
    }

    /// Keeps a sender report, and gives every receiver its own version of it.
    fn pass_sender_report(
        &mut self,
        env: &mut Env<'_>,
        from: ParticipantId,
        ssrc: Ssrc,
        clock: SenderClock,
        sink: &mut impl PacketSink,
    ) {
        let Some(sender) = self.participants.get(from) else { return };
        let Some(stream) = sender.publisher.stream(ssrc).filter(|stream| !stream.rtx) else { return };
        let Some(source) = self.sources.get_mut(stream.source) else { return };
        let Some(owner) = self.participants.get(source.owner()) else { return };
        let kind = source.kind();
        let Some(state) = source.encoding_mut(stream.encoding) else { return };
        if !state.sender_report(env.now, clock) {
            return env.stats.count(Counter::DropRtcpBudget);
        }
        if owner.publisher.is_force_muted(kind) {
            return;
        }
        let signal = PeerSignal::SenderReport { endpoint: owner.id(), ssrc, ntp: clock.ntp, rtp: clock.rtp };
        for worker in source.crosses_to(self.spread.others()) {
            env.send_signal(worker, signal);
        }
        self.report_to_subscribers(env, stream, clock, sink);
    }

    /// Gives every receiver here its own version of a sender report.
    pub fn report_to_subscribers(
        &mut self,
        env: &Env<'_>,
        stream: IncomingStream,
        clock: SenderClock,
        sink: &mut impl PacketSink,
    ) {
        let Some(source) = self.sources.get_mut(stream.source) else { return };
        source.note_clock(stream.encoding, clock);
        for subscription in source.subscriptions() {
            let Some((shift, sent)) = subscription.report(stream.encoding) else { continue };
            let Some(to) = self.participants.get_mut(subscription.receiver()) else { continue };
            let rtp = clock.rtp.wrapping_add(shift);
            let info = SenderInfo { ntp: clock.ntp, rtp, packets: sent.packets, octets: sent.octets };
            rtcp_out::sender_report(env, &mut to.receiver, sink, subscription.ssrc(), &info);
        }
        self.report_to_relays(env, stream, clock, sink);
    }

    /// A receiver asks for a keyframe of what it gets of a source.
    fn keyframe_request(&mut self, env: &mut Env<'_>, from: ParticipantId, ssrc: Ssrc, sink: &mut impl PacketSink) {
        if self.is_relay(from) {
            return self.relay_keyframe_request(env, from, ssrc, sink);
        }
        let Some(source) = self.source_on(from, ssrc).and_then(|id| self.sources.get_mut(id)) else { return };
        if source.kind() != MediaKind::Video {
            return;
        }
        let active = source.active(env.now);
        let Some(subscription) = source.subscription_mut(from) else { return };
        let Some(target) = subscription.target() else { return };
        let encoding = subscription.current().unwrap_or_else(|| active.desired(env.shedding, target).encoding);
        if !subscription.may_request_keyframe(env.now) || !source.may_request_keyframe(env.now) {
            return env.stats.count(Counter::KeyframeRequestsThrottled);
        }
        let Some(sender) = self.participants.get_mut(source.sender()) else { return };
        rtcp_out::request_keyframe(env, self.feedback.video, (source, sender), encoding, sink);
    }
}

/// What a part of a compound packet costs before anything is done for it; NACKs are paid for entry by entry.
fn work(block: &Block<'_>) -> u32 {
    let each = |bytes: &[u8], size: usize, units: u32| (bytes.len() / size) as u32 * units;
    rtcp::BLOCK
        + match block {
            Block::SenderReport { reports, .. } | Block::ReceiverReport { reports, .. } => {
                each(reports, 24, rtcp::REPORT)
            }
            Block::Pli { .. } => rtcp::KEYFRAME,
            Block::Fir { entries } => each(entries, 8, rtcp::KEYFRAME),
            Block::Twcc { body } => Feedback::count(body) / rtcp::STATUSES_PER_UNIT,
            Block::Remb { .. } => rtcp::KEYFRAME,
            Block::Nack { .. } | Block::Other { .. } | Block::Malformed => 0,
        }
}
