//! RTCP that the bridge originates or passes on: built in an output slot, sealed and queued.

use super::context::Env;
use super::members::Table;
use super::participant::Participant;
use super::participant::publisher::{Publisher, REPORT_INTERVAL};
use super::receiver::{Receiver, RtcpNotSent};
use super::source::Source;
use super::source::encoding::EncodingState;
use crate::datagram::PacketSink;
use crate::ids::{SourceId, Ssrc};
use crate::media::MediaKind;
use crate::peers::PeerSignal;
use crate::rtcp::{ReportBlock, SenderInfo, build};
use crate::stats::Counter;

/// Report blocks that one RTCP packet can carry (RFC 3550 section 6.4.2).
const MAX_BLOCKS: usize = 31;
const EMPTY: ReportBlock =
    ReportBlock { ssrc: Ssrc::new(0), fraction_lost: 0, lost: 0, highest: 0, jitter: 0, last_sr: 0, delay: 0 };
/// Packets that one NACK message may ask for.
const MAX_NACKED: usize = 128;

/// Builds one RTCP packet for an endpoint and queues it. `build` writes plaintext and returns its length.
pub fn send(
    env: &Env<'_>,
    to: &mut Receiver,
    sink: &mut impl PacketSink,
    build: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> bool {
    let sent = to.send_rtcp(sink, build);
    if sent == Err(RtcpNotSent::OutputFull) {
        env.stats.count(Counter::DropOutputFull);
    }
    sent.is_ok()
}

/// Gives a receiver a sender report on one of its SSRCs.
pub fn sender_report(env: &Env<'_>, to: &mut Receiver, sink: &mut impl PacketSink, ssrc: Ssrc, info: &SenderInfo) {
    if send(env, to, sink, |out| build::sender_report(ssrc, info, out)) {
        to.note_sender_report(env.worker_time(), info.ntp);
    }
}

/// Asks the sender of an encoding for the packets that are due.
pub fn nack(env: &Env<'_>, from: Ssrc, owner: &mut Receiver, state: &mut EncodingState, sink: &mut impl PacketSink) {
    let mut numbers = [0u16; MAX_NACKED];
    let count = state.take_missing(env.now, owner.rtt(), &mut numbers);
    let numbers = numbers.get(..count).unwrap_or(&[]);
    if numbers.is_empty() {
        return;
    }
    if send(env, owner, sink, |out| build::nack(from, state.ssrcs().ssrc, numbers, out)) {
        env.stats.add(Counter::NackSent, count as u64);
    }
}

/// Asks the sender of a source for a keyframe, unless that was done just before. True when the request went out: to the
/// sender, or to its home.
pub fn request_keyframe(
    env: &mut Env<'_>,
    from: Ssrc,
    (source, sender): (&mut Source, &mut Participant),
    encoding: u8,
    sink: &mut impl PacketSink,
) -> bool {
    if !source.may_request_keyframe(env.now) {
        return false;
    }
    let state = source.encodings().get(usize::from(encoding)).or_else(|| source.encodings().first());
    let Some(ssrc) = state.map(|e| e.ssrcs().ssrc) else { return false };
    if let Some(home) = sender.home() {
        source.requested_keyframe(env.now);
        return env.peers.send_signal(home, PeerSignal::KeyframeRequest { endpoint: sender.id(), ssrc });
    }
    let receiver = &mut sender.receiver;
    let sent = if receiver.negotiated().feedback.pli {
        send(env, receiver, sink, |out| build::pli(from, ssrc, out))
    } else if receiver.negotiated().feedback.fir {
        let number = source.next_fir();
        send(env, receiver, sink, |out| build::fir(from, ssrc, number, out))
    } else {
        false
    };
    if sent {
        source.requested_keyframe(env.now);
        env.stats.count(Counter::KeyframeRequests);
    }
    sent
}

/// Reports the arrivals of an endpoint's packets to it, if that is due.
pub fn transport(env: &Env<'_>, from: Ssrc, publisher: &mut Publisher, to: &mut Receiver, sink: &mut impl PacketSink) {
    if !to.is_ready() {
        return;
    }
    while publisher.arrivals_due().is_some_and(|at| at <= env.now) {
        if !send(env, to, sink, |out| publisher.take_feedback(env.now, from, out)) {
            return;
        }
    }
}

/// Reports on everything that an endpoint sent since the last report. False when there was nothing.
pub fn receiver_reports(
    env: &Env<'_>,
    from: Ssrc,
    owner: &mut Participant,
    sources: &mut Table<SourceId, Source>,
    sink: &mut impl PacketSink,
) -> bool {
    let mut blocks = [EMPTY; MAX_BLOCKS];
    let mut count = 0;
    let mut any = false;
    for id in owner.publisher.sources() {
        let Some(source) = sources.get_mut(*id) else { continue };
        let kind = source.kind();
        for state in source.encodings_mut() {
            let Some(report) = state.report(env.now) else { continue };
            any = true;
            env.stats.add(Counter::RtpExpected, report.expected);
            env.stats.add(Counter::RtpLost, report.lost);
            if kind == MediaKind::Video {
                env.stats.add(Counter::VideoMillis, REPORT_INTERVAL.as_millis() as u64);
            }
            if let Some(block) = blocks.get_mut(count) {
                *block = ReportBlock {
                    ssrc: state.ssrcs().ssrc,
                    fraction_lost: report.fraction_lost,
                    lost: report.cumulative_lost as u32,
                    highest: report.highest,
                    jitter: report.jitter,
                    last_sr: report.last_sr,
                    delay: report.delay_since_last_sr,
                };
                count += 1;
            }
            if count == MAX_BLOCKS {
                send(env, &mut owner.receiver, sink, |out| build::receiver_report(from, &blocks, out));
                count = 0;
            }
        }
    }
    if let Some(rest) = blocks.get(..count).filter(|b| !b.is_empty()) {
        send(env, &mut owner.receiver, sink, |out| build::receiver_report(from, rest, out));
    }
    any
}
