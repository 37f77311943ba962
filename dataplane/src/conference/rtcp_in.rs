//! RTCP in: sender reports go on to the subscriptions, wishes of receivers go back to the sources.

use std::time::Duration;

use crate::conference::context::Env;
use crate::conference::fan_out::send_context;
use crate::conference::ingress::note_activity;
use crate::conference::members::Conference;
use crate::conference::packet::payload::PayloadView;
use crate::conference::packet::picture::Picture;
use crate::conference::participant::Participant;
use crate::conference::receiver::downlink::Downlink;
use crate::conference::receiver::rewrite::{self, MediaPacket, NotSent, Retransmission, Stream};
use crate::conference::receiver::subscription;
use crate::conference::remote::workers_of;
use crate::conference::rtcp_out;
use crate::conference::source::reports::SenderClock;
use crate::conference::source::{IncomingStream, Source};
use crate::io::PacketSink;
use crate::limits::rtcp;
use crate::media::{Encoding, MediaKind};
use crate::negotiation::extensions::ReceivedExtensions;
use crate::peers::Note;
use crate::rtcp::{Block, Compound, Feedback, SenderInfo, build, compound, nack};
use crate::rtp::Packet;
use crate::srtp::OpenError;
use crate::stats::Counter;

/// Recent packets that a probe repeats in turn.
const PROBED: i64 = 32;

/// Why a packet is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The receiver misses it.
    Asked,
    /// To see whether the path carries more.
    Probe,
    /// It would be missed too late.
    Guard,
}

impl Conference {
    /// Takes one SRTCP packet of an endpoint.
    pub fn handle_rtcp(&mut self, env: &mut Env<'_>, from: usize, datagram: &mut [u8], sink: &mut impl PacketSink) {
        let Some(mut sender) = self.endpoints.get_mut(from).and_then(Option::take) else { return };
        self.receive_rtcp(env, from, &mut sender, datagram, sink);
        if let Some(place) = self.endpoints.get_mut(from) {
            *place = Some(sender);
        }
    }

    fn receive_rtcp(
        &mut self,
        env: &mut Env<'_>,
        from: usize,
        sender: &mut Participant,
        datagram: &mut [u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(opener) = sender.opener.as_mut() else { return env.stats.count(Counter::DropNoKeys) };
        // Looked at before the opening, which costs the most; paid after it, so that nobody pays for what others forge.
        if !sender.rtcp_work.has_any(env.now) {
            return env.stats.count(Counter::DropRtcpBudget);
        }
        let len = match opener.open_rtcp(datagram) {
            Ok(len) => len,
            Err(error) => {
                return env.stats.count(match error {
                    OpenError::Auth => Counter::DropSrtcpAuth,
                    OpenError::Replay => Counter::DropSrtcpReplay,
                    OpenError::TooShort => Counter::DropRtcpMalformed,
                    OpenError::TooManySsrcs => Counter::DropTableFull,
                });
            }
        };
        note_activity(env, sender);
        self.wake(sender.last_activity + crate::conference::participant::ACTIVITY_TIMEOUT);
        let mut allowed = sender.rtcp_work.take_many(env.now, rtcp::PACKET);
        for block in Compound::new(datagram.get(..len).unwrap_or(&[])) {
            allowed = allowed && sender.rtcp_work.take_many(env.now, work(&block));
            if !allowed {
                return env.stats.count(Counter::DropRtcpBudget);
            }
            match block {
                Block::SenderReport { ssrc, info, reports } => {
                    note_round_trip(env, sender, reports);
                    let clock = SenderClock { ntp: info.ntp, rtp: info.rtp, at: env.now };
                    self.pass_sender_report(env, sender, ssrc, clock, sink);
                }
                Block::Nack { media, entries } => {
                    let Some(place) = self.source_on(sender, media) else { continue };
                    for entry in entries.chunks_exact(4) {
                        if !sender.rtcp_work.take_many(env.now, rtcp::NACKED * nack::count(entry)) {
                            return env.stats.count(Counter::DropRtcpBudget);
                        }
                        for sequence in nack::sequences(entry) {
                            self.resend(env, from, sender, place, sequence, Reason::Asked, sink);
                        }
                    }
                }
                Block::Pli { media } => self.keyframe_wish(env, from, sender, media, sink),
                Block::Fir { entries } => {
                    for media in compound::fir_targets(entries) {
                        self.keyframe_wish(env, from, sender, media, sink);
                    }
                }
                Block::Twcc { body } => self.transport_feedback(env, sender, body),
                Block::Remb { bitrate } => {
                    let now = env.micros();
                    let spurious = sender.negotiated.feedback.transport_cc;
                    if let Some(downlink) = sender.downlink.as_deref_mut() {
                        downlink.remb(now, bitrate, spurious);
                        self.wake(env.now);
                    }
                }
                Block::Malformed => env.stats.count(Counter::DropRtcpMalformed),
                Block::ReceiverReport { reports, .. } => note_round_trip(env, sender, reports),
                Block::Other { .. } => {}
            }
        }
    }

    /// A receiver tells what became of the packets that it was sent.
    fn transport_feedback(&mut self, env: &Env<'_>, receiver: &mut Participant, body: &[u8]) {
        let Some(feedback) = Feedback::parse(body) else { return env.stats.count(Counter::DropRtcpMalformed) };
        env.stats.count(Counter::TransportFeedbackReceived);
        let now = env.micros();
        let Some(downlink) = receiver.downlink.as_deref_mut() else { return };
        let outcome = downlink.feedback(now, &feedback);
        env.stats.add(Counter::TransportFeedbackUnmatched, u64::from(outcome.unmatched));
        self.lossy |= downlink.is_lossy();
        if env.config.congestion_control && downlink.needs_allocation(now) {
            self.wake(env.now);
        } else if let Some(at) = downlink.due(now) {
            self.wake(env.epoch + Duration::from_micros(at));
        }
    }

    /// Sends one packet of a probe: a repeat of a recent one. False when there is none to be had.
    pub fn send_probe(
        &mut self,
        env: &Env<'_>,
        to: usize,
        receiver: &mut Participant,
        sink: &mut impl PacketSink,
    ) -> bool {
        let flowing = self.sources.iter().enumerate().find_map(|(place, source)| {
            let source = source.as_deref().filter(|s| s.kind == MediaKind::Video)?;
            let subscription = source.subscription(to).filter(|l| l.packets > 0 && l.projection.current().is_some())?;
            outgoing(source, place, receiver).filter(|out| out.rtx.is_some())?;
            Some((place, subscription.projection.next_sequence() as u16, subscription.rtx_index))
        });
        let Some((place, next, turn)) = flowing else { return false };
        // The last few in turn: one of them may even be missing. Of a slow stream only the newest are still there.
        (0..PROBED).any(|back| {
            let sequence = next.wrapping_sub(((turn + back).rem_euclid(PROBED) + 1) as u16);
            self.resend(env, to, receiver, place, sequence, Reason::Probe, sink)
        })
    }

    /// The source that a receiver gets on a media SSRC.
    fn source_on(&self, receiver: &Participant, ssrc: u32) -> Option<usize> {
        match receiver.ssrc_slots.as_deref() {
            Some(slots) => slots.source(ssrc),
            None => self.place_of(ssrc),
        }
    }

    /// Keeps a sender report, and gives every receiver its own version of it.
    fn pass_sender_report(
        &mut self,
        env: &mut Env<'_>,
        sender: &Participant,
        ssrc: u32,
        clock: SenderClock,
        sink: &mut impl PacketSink,
    ) {
        let Some(input) = sender.inputs.get(&ssrc).copied().filter(|i| !i.rtx) else { return };
        let Some(source) = self.sources.get_mut(input.source).and_then(Option::as_deref_mut) else { return };
        let Some(state) = source.encodings.get_mut(usize::from(input.encoding)) else { return };
        state.reception.sender_report(clock);
        if !state.sender_reports.take(env.now) {
            return env.stats.count(Counter::DropRtcpBudget);
        }
        if sender.force_mute[usize::from(source.kind == MediaKind::Video)] {
            return;
        }
        let note = Note::SenderReport { endpoint: sender.id, ssrc, ntp: clock.ntp, rtp: clock.rtp };
        for worker in workers_of(source.crosses_to(self.away)) {
            if !env.peers.send_note(worker, note) {
                env.stats.count(Counter::DropCrossingFull);
            }
        }
        self.report_to_subscribers(env, input, clock, sink);
    }

    /// Gives every receiver here its own version of a sender report.
    pub fn report_to_subscribers(
        &mut self,
        env: &Env<'_>,
        input: IncomingStream,
        clock: SenderClock,
        sink: &mut impl PacketSink,
    ) {
        let Some(source) = self.sources.get_mut(input.source).and_then(Option::as_deref_mut) else { return };
        source.note_clock(input.encoding, clock);
        for subscription in &source.subscriptions {
            // Only the encoding that the receiver gets tells the time of its stream, and only once it gets something.
            let shift = subscription.projection.timestamp_shift(input.encoding).filter(|_| subscription.packets > 0);
            let Some(shift) = shift else { continue };
            let Some(receiver) = self.endpoints.get_mut(subscription.receiver).and_then(Option::as_deref_mut) else {
                continue;
            };
            let ssrc = subscription.ssrc;
            let rtp = clock.rtp.wrapping_add(shift);
            let info = SenderInfo { ntp: clock.ntp, rtp, packets: subscription.packets, octets: subscription.octets };
            if rtcp_out::send(env, receiver, sink, |out| build::sender_report(ssrc, &info, out)) {
                receiver.round_trip.sent(env.micros(), clock.ntp);
            }
        }
    }

    /// A receiver asks for a keyframe of what it gets of a source.
    fn keyframe_wish(
        &mut self,
        env: &mut Env<'_>,
        from: usize,
        receiver: &Participant,
        ssrc: u32,
        sink: &mut impl PacketSink,
    ) {
        let Some(place) = self.source_on(receiver, ssrc) else { return };
        let Some(source) = self.sources.get_mut(place).and_then(Option::as_deref_mut) else { return };
        let active = source.active(env.now);
        let Some(at) = subscription::position(&source.subscriptions, from) else { return };
        let Some(subscription) = source.subscriptions.get_mut(at).filter(|_| source.kind == MediaKind::Video) else {
            return;
        };
        let Some(target) = subscription.target else { return };
        let encoding =
            subscription.projection.current().unwrap_or_else(|| active.desired(env.shedding, target).encoding);
        if !subscription.requests.ready(env.now) || !subscription.wishes.take(env.now) {
            return env.stats.count(Counter::KeyframeRequestsThrottled);
        }
        subscription.requests.used(env.now);
        let Some(owner) = self.endpoints.get_mut(source.owner).and_then(Option::as_deref_mut) else { return };
        if !source.requests.ready(env.now) {
            return env.stats.count(Counter::KeyframeRequestsThrottled);
        }
        rtcp_out::request_keyframe(env, self.feedback.video, source, owner, encoding, sink);
    }

    /// Sends a packet again; true when it went out.
    #[allow(clippy::too_many_arguments)]
    fn resend(
        &mut self,
        env: &Env<'_>,
        from: usize,
        receiver: &mut Participant,
        place: usize,
        sequence: u16,
        reason: Reason,
        sink: &mut impl PacketSink,
    ) -> bool {
        let Some(source) = self.sources.get_mut(place).and_then(Option::as_deref_mut) else { return false };
        let Some(out) = outgoing(source, place, receiver) else { return false };
        let Some(at) = subscription::position(&source.subscriptions, from) else { return false };
        let Some(subscription) = source.subscriptions.get_mut(at) else { return false };
        let Some(owner) = self.endpoints.get(source.owner).and_then(Option::as_deref) else { return false };
        let Some(cache) = &source.cache else { return false };
        let origin = subscription.projection.origin(sequence);
        let gone = origin.is_some_and(|(encoding, _)| subscription.projection.current() != Some(encoding));
        if gone && reason == Reason::Asked && receiver.downlink.as_deref().is_some_and(Downlink::is_queued) {
            // Of an encoding that was given up for the queue: it would only make that longer.
            env.stats.count(Counter::DropRepairBudget);
            return false;
        }
        let found = origin.and_then(|(encoding, number)| cache.get(encoding, number));
        let Some((bytes, cached)) = found else {
            if reason == Reason::Asked {
                env.stats.count(Counter::NackCacheMiss);
            }
            return false;
        };
        let Ok(rtp) = Packet::parse(bytes) else { return false };
        let extensions = ReceivedExtensions::resolve(&rtp, source.kind, &owner.negotiated.extensions);
        let view = PayloadView::of(cached.format.codec, rtp.payload());
        let output = subscription.projection.replay(sequence, rtp.timestamp(), cached.picture, &cached.frame);
        let mut packet =
            MediaPacket { rtp, kind: source.kind, format: cached.format, extensions, view, picture: cached.picture };
        let output = match output {
            Some(output) => output,
            // It was lost on the way here, and turned out to be of a layer that this receiver is not sent: an empty packet
            // ends the waiting for it.
            None if reason == Reason::Asked => {
                let (place, header) = (subscription.projection.vacant(sequence), bytes.get(..packet.rtp.header_len()));
                let (Some(place), Some(Ok(empty))) = (place, header.map(Packet::parse)) else { return false };
                packet = MediaPacket {
                    rtp: empty,
                    extensions: ReceivedExtensions::NONE,
                    view: PayloadView::OPAQUE,
                    picture: Picture::default(),
                    ..packet
                };
                place
            }
            None => return false,
        };
        let context = send_context(env, &owner.negotiated.formats);
        let Some(shape) = rewrite::shape(&packet, context, &receiver.negotiated.formats) else { return false };
        let stream = match (shape.output().rtx, out.rtx) {
            (Some(payload_type), Some(ssrc)) => {
                let rtx = Some(Retransmission { payload_type, index: subscription.rtx_index });
                Stream { ssrc, mid: subscription.mid, rtx }
            }
            _ if reason == Reason::Asked
                && receiver.may_repeat_index()
                && output.sequence >= subscription.repeat_from =>
            {
                Stream { ssrc: out.ssrc, mid: subscription.mid, rtx: None }
            }
            _ => {
                if reason == Reason::Asked {
                    env.stats.count(Counter::DropCannotRepeat);
                }
                return false;
            }
        };
        if reason == Reason::Asked && !subscription.may_resend(env.now, sequence, receiver.rtt()) {
            return false;
        }
        // What was lost once is lost again often enough where much is lost, and then it is too late for its picture.
        let lossy = receiver.downlink.as_deref().is_some_and(Downlink::is_lossy);
        let copies = if reason == Reason::Asked && lossy { 2 } else { 1 };
        let mut stream = stream;
        let mut any = false;
        for _ in 0..copies {
            let (now, size) = (env.micros(), bytes.len());
            let unpaid = reason != Reason::Probe
                && (!receiver.repeated.take_many(env.now, size as u32)
                    || receiver.downlink.as_deref_mut().is_some_and(|d| !d.may_repeat(now, size)));
            if unpaid {
                env.stats.count(Counter::DropRepairBudget);
                break;
            }
            match rewrite::send(&packet, &output, stream, shape, receiver, context, sink) {
                Ok((_, payload)) => {
                    any = true;
                    env.stats.count(match reason {
                        Reason::Asked | Reason::Guard => Counter::Retransmissions,
                        Reason::Probe => Counter::ProbePackets,
                    });
                    if let Some(rtx) = &mut stream.rtx {
                        rtx.index += 1;
                        subscription.rtx_index = rtx.index;
                    } else {
                        subscription.packets = subscription.packets.wrapping_add(1);
                        subscription.octets = subscription.octets.wrapping_add(payload as u32);
                        // The same number again is the same packet again: receivers drop it.
                        break;
                    }
                }
                Err(NotSent::OutputFull) => {
                    env.stats.count(Counter::DropOutputFull);
                    break;
                }
                Err(NotSent::Malformed) => {
                    env.stats.count(Counter::DropRewriteFailed);
                    break;
                }
                Err(NotSent::NotReady) => break,
            }
        }
        any
    }

    /// Sends the last packet of a picture twice to receivers that lose much: a receiver notices that it is missing only when
    /// the next picture comes, and then a repetition is late.
    pub fn guard_last(&mut self, env: &Env<'_>, place: usize, sink: &mut impl PacketSink) {
        let mut any = false;
        for to in 0..self.endpoints.len() {
            let lossy = |e: &Participant| e.downlink.as_deref().is_some_and(Downlink::is_lossy);
            let Some(mut receiver) = self.endpoints.get_mut(to).and_then(|e| e.take_if(|e| lossy(e))) else { continue };
            any = true;
            let source = self.sources.get(place).and_then(Option::as_deref);
            let subscription = source.and_then(|source| source.subscription(to));
            let last =
                subscription.filter(|l| l.target.is_some() && l.packets > 0).map(|l| l.projection.next_sequence() - 1);
            if let Some(last) = last {
                self.resend(env, to, &mut receiver, place, last as u16, Reason::Guard, sink);
            }
            if let Some(home) = self.endpoints.get_mut(to) {
                *home = Some(receiver);
            }
        }
        self.lossy = any;
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
            Block::Pli { .. } => rtcp::WISH,
            Block::Fir { entries } => each(entries, 8, rtcp::WISH),
            Block::Twcc { body } => Feedback::count(body) / rtcp::STATUSES_PER_UNIT,
            Block::Remb { .. } => rtcp::WISH,
            Block::Nack { .. } | Block::Other { .. } | Block::Malformed => 0,
        }
}

/// The SSRCs that a receiver gets a source on.
fn outgoing(source: &Source, place: usize, receiver: &Participant) -> Option<Encoding> {
    match receiver.ssrc_slots.as_deref() {
        Some(slots) => slots.kind(source.kind).ssrcs(place),
        None => source.outgoing(),
    }
}

/// Report blocks tell the round-trip time.
fn note_round_trip(env: &Env<'_>, endpoint: &mut Participant, reports: &[u8]) {
    for block in compound::report_blocks(reports) {
        endpoint.round_trip.reported(env.micros(), block.last_sr, block.delay);
    }
}
