//! What one receiver gets of one source: the rewriting state that belongs to the pair.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::keyframe::{Allowance, Throttle};
use super::projection::{Last, Output, Projection};
use super::resent::Resent;
use crate::conference::packet::frame::Frame;
use crate::conference::packet::info::PacketInfo;
use crate::conference::packet::picture::Picture;
use crate::congestion::layer::LayerId;
use crate::congestion::reorder::{self, Moves};
use crate::ids::{ParticipantId, PayloadType, Ssrc};
use crate::media::Mid;
use crate::media::{Encoding, MediaKind};
use crate::slab::Key;

/// Runs of the output that are remembered. Where every second picture is left out, a second of video takes fifteen.
const VIDEO_RUNS: u16 = 48;
const AUDIO_RUNS: u16 = 4;

/// Stands for no SSRC.
pub const NO_SSRC: Ssrc = Ssrc::new(0);

/// One receiver of a source, and everything that belongs to the pair.
#[derive(Debug, Serialize, Deserialize)]
pub struct Subscription {
    receiver: ParticipantId,
    /// The SSRC that the media goes out on; [`NO_SSRC`] while the receiver's SSRCs carry other sources.
    ssrc: Ssrc,
    /// The media section that the packets name.
    mid: Option<Mid>,
    /// The receiver does not want the source, whatever it has SSRCs for; audio only.
    unwanted: bool,
    /// The layer that the allocation gives; `None` is nothing.
    target: Option<LayerId>,
    /// The outgoing stream.
    projection: Projection,
    /// Packet index of the next retransmission on the RTX SSRC.
    #[serde(with = "crate::carry::checked")]
    rtx_index: i64,
    /// First packet index that may be repeated on the media SSRC: earlier ones went out under other numbers, and
    /// would not be the same bytes again.
    #[serde(with = "crate::carry::checked")]
    repeat_from: i64,
    /// Holds back this receiver's own keyframe requests.
    requests: Throttle,
    /// Media packets and payload bytes sent, for sender reports.
    sent: Sent,
    /// How many keyframes it may still ask for.
    allowance: Allowance,
    resent: Option<Box<Resent>>,
}

/// The stream that a packet goes out on.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The media section that its packets name; a repetition names that of what it repeats.
    pub mid: Option<Mid>,
    /// Whether it is the one of retransmissions.
    pub rtx: Option<Retransmission>,
}

/// A packet's number in a stream of retransmissions.
#[derive(Debug, Clone, Copy)]
pub struct Retransmission {
    /// Retransmission payload type.
    pub payload_type: PayloadType,
    /// Packet index on this SSRC.
    pub index: i64,
}

/// What a sender report says of a receiver's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Media packets.
    pub packets: u32,
    /// Payload bytes.
    pub octets: u32,
}

impl Sent {
    /// Counts a packet that went out.
    #[inline]
    pub(super) fn count(&mut self, payload: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload as u32);
    }
}

/// Packet indices that a receiver's SRTP context has got to on the two SSRCs of a source. They outlive the subscription:
/// a source that comes back with the same SSRC must go on counting, or the receiver takes it for a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indices {
    /// Next index on the media SSRC.
    #[serde(with = "crate::carry::checked")]
    pub media: i64,
    /// Next index on the RTX SSRC.
    #[serde(with = "crate::carry::checked")]
    pub rtx: i64,
}

/// Where the streams of a subscription go on: on another subscription that gets its SSRCs, or on the same one when its sender starts anew.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Resume {
    indices: Indices,
    last: Option<Last>,
    sent: Sent,
}

impl Resume {
    /// Of SSRCs that nothing went out on.
    pub fn first(ssrcs: Encoding) -> Self {
        Self::at(Indices::first(ssrcs))
    }

    /// At packet indices that were got to before.
    pub fn at(indices: Indices) -> Self {
        Self { indices, last: None, sent: Sent::default() }
    }
}

impl Indices {
    /// Where the counting starts on SSRCs that nothing went out on.
    pub fn first(ssrcs: Encoding) -> Self {
        Self { media: first_index(ssrcs.ssrc), rtx: ssrcs.rtx.map_or(0, first_index) }
    }
}

/// Where the counting starts on an SSRC; below 2^15, so that a lost first packet cannot confuse the roll-over counter
/// (RFC 3711 section 3.3.1).
pub fn first_index(ssrc: Ssrc) -> i64 {
    i64::from(ssrc.get().wrapping_mul(0x9e37_79b1) >> 18) + 1
}

/// Where a receiver's subscription is among those of a source, which are sorted by receiver.
pub fn position(subscriptions: &[Subscription], receiver: ParticipantId) -> Option<usize> {
    subscriptions.binary_search_by_key(&receiver, |subscription| subscription.receiver).ok()
}

impl Subscription {
    /// A subscription that has sent nothing yet.
    pub fn new(
        receiver: ParticipantId,
        ssrc: Ssrc,
        kind: MediaKind,
        target: Option<LayerId>,
        indices: Indices,
    ) -> Self {
        Self::resuming(receiver, ssrc, kind, target, Resume::at(indices))
    }

    /// A subscription that sends nothing before the receiver has SSRCs for it.
    pub fn without_ssrc(receiver: ParticipantId, kind: MediaKind) -> Self {
        Self {
            projection: Projection::new(0, 1),
            ..Self::new(receiver, NO_SSRC, kind, None, Indices { media: 0, rtx: 0 })
        }
    }

    /// A subscription whose streams go on where others ended.
    pub fn resuming(
        receiver: ParticipantId,
        ssrc: Ssrc,
        kind: MediaKind,
        target: Option<LayerId>,
        resume: Resume,
    ) -> Self {
        let Resume { indices, last, sent } = resume;
        let runs = if kind == MediaKind::Video { VIDEO_RUNS } else { AUDIO_RUNS };
        Self {
            receiver,
            ssrc,
            mid: None,
            unwanted: false,
            target,
            projection: Projection::following(last, indices.media, runs),
            rtx_index: indices.rtx,
            repeat_from: indices.media,
            requests: Throttle::default(),
            sent,
            allowance: Allowance::default(),
            resent: None,
        }
    }

    /// Its receiver.
    #[inline]
    pub fn receiver(&self) -> ParticipantId {
        self.receiver
    }

    /// The same as a plain number.
    pub(super) fn receiver_number(&self) -> usize {
        self.receiver.number()
    }

    /// The SSRC that it goes out on; [`NO_SSRC`] is none.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// The layer that the allocation gives.
    #[inline]
    pub fn target(&self) -> Option<LayerId> {
        self.target
    }

    /// Gives a layer, or nothing.
    pub fn set_target(&mut self, target: Option<LayerId>) {
        self.target = target;
    }

    /// Of audio: whether the receiver wants it, and whether it may go already.
    pub fn aim(&mut self, wanted: bool, signalled: bool) {
        self.unwanted = !wanted;
        self.target = (wanted && signalled).then_some(LayerId::whole(0));
    }

    /// The encoding that is being forwarded.
    #[inline]
    pub fn current(&self) -> Option<u8> {
        self.projection.current()
    }

    /// Stops: what follows has to start at a keyframe.
    #[inline]
    pub fn stop(&mut self) {
        self.projection.stop();
    }

    /// The receiver's numbers are others from now on: what went out before cannot go out again as it was.
    pub fn renegotiated(&mut self) {
        self.repeat_from = self.projection.next_sequence();
    }

    /// When a packet went out last.
    pub fn last_at(&self) -> Option<Instant> {
        self.projection.last_at()
    }

    /// What a sender report of an encoding is to say: what to add to its RTP time, and what was sent. Only the encoding that
    /// the receiver gets carries the time of its stream, and only once it gets something.
    pub fn report(&self, encoding: u8) -> Option<(u32, Sent)> {
        let shift = self.projection.timestamp_shift(encoding)?;
        (self.sent.packets > 0).then_some((shift, self.sent))
    }

    /// The number of the packet that went out last, if packets go at the moment.
    pub fn newest(&self) -> Option<u16> {
        let sends = self.target.is_some() && self.sent.packets > 0;
        sends.then(|| (self.projection.next_sequence() - 1) as u16)
    }

    /// The next number on the media SSRC and on that of retransmissions, while packets go.
    pub fn flowing(&self) -> Option<(u16, i64)> {
        let flows = self.sent.packets > 0 && self.projection.current().is_some();
        flows.then(|| (self.projection.next_sequence() as u16, self.rtx_index))
    }

    /// The receiver asks for a keyframe: false when it did so just before, or too often.
    pub fn may_request_keyframe(&mut self, now: Instant) -> bool {
        let may = self.requests.ready(now) && self.allowance.take(now);
        if may {
            self.requests.used(now);
        }
        may
    }

    /// Of audio: whether the receiver does not want it, whatever it has SSRCs for.
    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted
    }

    /// The stream that its media goes out on.
    #[inline]
    pub(super) fn stream(&self) -> Stream {
        Stream { ssrc: self.ssrc, mid: self.mid, rtx: None }
    }

    /// The stream of its retransmissions on an SSRC, where the next one goes.
    pub(super) fn retransmissions(&self, ssrc: Ssrc, payload_type: PayloadType) -> Stream {
        Stream { ssrc, mid: self.mid, rtx: Some(Retransmission { payload_type, index: self.rtx_index }) }
    }

    /// A retransmission went out at a packet index; returns the next one.
    pub(super) fn retransmitted(&mut self, index: i64) -> i64 {
        self.rtx_index = index + 1;
        self.rtx_index
    }

    /// Where a packet goes in the outgoing stream; `None` when it is not for the receiver.
    #[inline]
    pub(super) fn project(&mut self, now: Instant, packet: &PacketInfo, desired: LayerId) -> Option<Output> {
        self.projection.project(now, packet, desired)
    }

    /// Whether it takes a keyframe to go on to a layer, and the receiver may ask for one by now.
    #[inline]
    pub(super) fn awaits_keyframe(&self, now: Instant, desired: LayerId) -> bool {
        self.projection.awaits_keyframe(desired) && self.requests.ready(now)
    }

    /// Closes the receiver's numbering over a packet that nobody is sent.
    #[inline]
    pub fn skip(&mut self, encoding: u8, sequence: i64) {
        if self.projection.current() == Some(encoding) {
            self.projection.skip(sequence);
        }
    }

    /// The same for a packet that this receiver alone cannot be sent, of a stream that may go on anywhere.
    pub(super) fn leave_out(&mut self, sequence: i64) {
        self.projection.skip(sequence);
    }

    /// The encoding and the number there of a packet that went out under a number.
    pub(super) fn origin(&self, sequence: u16) -> Option<(u8, i64)> {
        self.projection.origin(sequence)
    }

    /// Where a packet that goes out again goes in the outgoing stream.
    pub(super) fn replay(&self, sequence: u16, timestamp: u32, picture: Picture, frame: &Frame) -> Option<Output> {
        self.projection.replay(sequence, timestamp, picture, frame)
    }

    /// The number of a packet that the receiver waits for and is not to have.
    pub(super) fn vacant(&self, sequence: u16) -> Option<Output> {
        self.projection.vacant(sequence)
    }

    /// Whether a packet index may be used again on the media SSRC: what went out there before would be the same bytes.
    pub(super) fn may_repeat(&self, index: i64) -> bool {
        index >= self.repeat_from
    }

    /// Counts a packet that went out.
    #[inline]
    pub(super) fn count(&mut self, payload: usize) {
        self.sent.count(payload);
    }

    /// Where a later subscription on the same SSRCs has to go on.
    pub fn indices(&self) -> Indices {
        Indices { media: self.projection.next_sequence(), rtx: self.rtx_index }
    }

    /// Where its streams go on.
    pub fn resume(&self) -> Resume {
        Resume { indices: self.indices(), last: self.projection.last(), sent: self.sent }
    }

    /// The sender starts anew; the receiver sees the streams go on.
    pub fn restart(&mut self, kind: MediaKind) {
        if self.ssrc != NO_SSRC {
            let subscription = Self::resuming(self.receiver, self.ssrc, kind, self.target, self.resume());
            self.renew(subscription.naming(self.mid));
        }
    }

    /// The receiver has new keys: counting on its SSRCs starts anew.
    pub fn restart_at(&mut self, ssrcs: Encoding, kind: MediaKind) {
        let anew = Self::resuming(self.receiver, ssrcs.ssrc, kind, self.target, Resume::first(ssrcs));
        self.renew(anew.naming(self.mid));
    }

    /// The same, whose packets name a media section.
    pub fn naming(self, mid: Option<Mid>) -> Self {
        Self { mid, ..self }
    }

    /// Becomes another subscription of the same source to the same receiver.
    pub fn renew(&mut self, subscription: Self) {
        *self = Self { unwanted: self.unwanted, ..subscription };
    }

    /// The encodings of its source have other positions from now on.
    pub fn renumber(&mut self, moves: &Moves) {
        self.target = self.target.map(|target| LayerId { encoding: reorder::moved(moves, target.encoding), ..target });
        self.projection.renumber(moves);
    }

    /// Whether a packet may be sent again now; records it if so.
    pub(super) fn may_resend(&mut self, now: Instant, sequence: u16, round_trip: Option<Duration>) -> bool {
        self.resent.get_or_insert_default().may(now, (0, sequence), round_trip)
    }
}
