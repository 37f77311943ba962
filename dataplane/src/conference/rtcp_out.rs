//! RTCP that the bridge originates or passes on: built in an output slot, sealed and queued.

use crate::conference::context::Env;
use crate::conference::participant::{Participant, REPORT_INTERVAL};
use crate::conference::source::{EncodingState, Source};
use crate::io::{MAX_DATAGRAM, PacketSink};
use crate::media::MediaKind;
use crate::peers::Note;
use crate::rtcp::{ReportBlock, build};
use crate::srtp::MAX_OVERHEAD;
use crate::stats::Counter;

/// Report blocks that one RTCP packet can carry (RFC 3550 section 6.4.2).
const MAX_BLOCKS: usize = 31;
const EMPTY: ReportBlock =
    ReportBlock { ssrc: 0, fraction_lost: 0, lost: 0, highest: 0, jitter: 0, last_sr: 0, delay: 0 };
/// Packets that one NACK message may ask for.
const MAX_NACKED: usize = 128;

/// Builds one RTCP packet for an endpoint and queues it. `build` writes plaintext and returns its length.
pub fn send(
    env: &Env<'_>,
    endpoint: &mut Participant,
    sink: &mut impl PacketSink,
    build: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> bool {
    let (Some(sealer), Some(path)) = (&mut endpoint.sealer, endpoint.path) else { return false };
    let Some(slot) = sink.slot() else {
        env.stats.count(Counter::DropOutputFull);
        return false;
    };
    let Some(len) = build(slot.get_mut(..MAX_DATAGRAM - MAX_OVERHEAD).unwrap_or(&mut [])) else { return false };
    let Ok(len) = sealer.seal_rtcp(slot, len) else { return false };
    sink.commit(len, path);
    true
}

/// Asks the sender of an encoding for the packets that are due.
pub fn nack(env: &Env<'_>, from: u32, owner: &mut Participant, state: &mut EncodingState, sink: &mut impl PacketSink) {
    let mut numbers = [0u16; MAX_NACKED];
    let count = state.nack.due(env.now, owner.rtt(), &mut numbers);
    let numbers = numbers.get(..count).unwrap_or(&[]);
    if numbers.is_empty() {
        return;
    }
    if send(env, owner, sink, |out| build::nack(from, state.ssrcs.ssrc, numbers, out)) {
        env.stats.add(Counter::NackSent, count as u64);
    }
}

/// Asks the owner of a source for a keyframe, unless that was done just before. True when the request went out: to the
/// owner, or to its home.
pub fn request_keyframe(
    env: &mut Env<'_>,
    from: u32,
    source: &mut Source,
    owner: &mut Participant,
    encoding: u8,
    sink: &mut impl PacketSink,
) -> bool {
    if !source.requests.ready(env.now) {
        return false;
    }
    let state = source.encodings.get(usize::from(encoding)).or_else(|| source.encodings.first());
    let Some(ssrc) = state.map(|e| e.ssrcs.ssrc) else { return false };
    if let Some(home) = owner.home {
        source.requests.used(env.now);
        return env.peers.send_note(home, Note::KeyframeWish { endpoint: owner.id, ssrc });
    }
    let sent = if owner.negotiated.feedback.pli {
        send(env, owner, sink, |out| build::pli(from, ssrc, out))
    } else if owner.negotiated.feedback.fir {
        let number = source.fir;
        source.fir = source.fir.wrapping_add(1);
        send(env, owner, sink, |out| build::fir(from, ssrc, number, out))
    } else {
        false
    };
    if sent {
        source.requests.used(env.now);
        env.stats.count(Counter::KeyframeRequests);
    }
    sent
}

/// Reports the arrivals of an endpoint's packets to it, if that is due.
pub fn transport(env: &Env<'_>, from: u32, endpoint: &mut Participant, sink: &mut impl PacketSink) {
    let (Some(sealer), Some(path)) = (&mut endpoint.sealer, endpoint.path) else { return };
    while endpoint.arrivals.poll_timeout().is_some_and(|at| at <= env.now) {
        let Some(slot) = sink.slot() else { return env.stats.count(Counter::DropOutputFull) };
        let room = slot.get_mut(..MAX_DATAGRAM - MAX_OVERHEAD).unwrap_or(&mut []);
        let Some(len) = endpoint.arrivals.take_feedback(env.now, from, endpoint.transport_media_ssrc, room) else {
            return;
        };
        let Ok(len) = sealer.seal_rtcp(slot, len) else { return };
        sink.commit(len, path);
    }
}

/// Reports on everything that an endpoint sent since the last report. False when there was nothing.
pub fn receiver_reports(
    env: &Env<'_>,
    from: u32,
    endpoint: &mut Participant,
    sources: &mut [Option<Box<Source>>],
    owner: usize,
    sink: &mut impl PacketSink,
) -> bool {
    let mut blocks = [EMPTY; MAX_BLOCKS];
    let mut count = 0;
    let mut any = false;
    for source in sources.iter_mut().flatten().filter(|s| s.owner == owner) {
        for state in &mut source.encodings {
            let Some(report) = state.reception.report(env.now) else { continue };
            any = true;
            env.stats.add(Counter::RtpExpected, report.expected);
            env.stats.add(Counter::RtpLost, report.lost);
            if source.kind == MediaKind::Video {
                env.stats.add(Counter::VideoMillis, REPORT_INTERVAL.as_millis() as u64);
            }
            if let Some(block) = blocks.get_mut(count) {
                *block = ReportBlock {
                    ssrc: state.ssrcs.ssrc,
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
                send(env, endpoint, sink, |out| build::receiver_report(from, &blocks, out));
                count = 0;
            }
        }
    }
    if let Some(rest) = blocks.get(..count).filter(|b| !b.is_empty()) {
        send(env, endpoint, sink, |out| build::receiver_report(from, rest, out));
    }
    any
}
