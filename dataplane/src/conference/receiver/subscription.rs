//! What one receiver gets of one source: the rewriting state that belongs to the pair.

use std::time::{Duration, Instant};

use crate::conference::receiver::keyframe::{Allowance, Throttle};
use crate::conference::receiver::projection::{Last, Projection};
use crate::congestion::layer::LayerId;
use crate::congestion::reorder::{self, Moves};
use crate::media::Mid;
use crate::media::{Encoding, MediaKind};

/// A packet is not sent again to the same receiver before this has passed, or, where the round-trip time is known, before
/// the receiver can have missed the repetition.
const RESEND_INTERVAL: Duration = Duration::from_millis(20);
const SHORTEST_RESEND: Duration = Duration::from_millis(5);
const RESENDS: usize = 64;
/// Runs of the output that are remembered. Where every second picture is left out, a second of video takes fifteen.
const VIDEO_RUNS: u16 = 48;
const AUDIO_RUNS: u16 = 4;

/// Stands for no SSRC.
pub const NO_SSRC: u32 = 0;

/// One receiver of a source.
#[derive(Debug)]
pub struct Subscription {
    /// Index of the receiver in its conference.
    pub receiver: usize,
    /// The SSRC that the media goes out on; [`NO_SSRC`] while the receiver's SSRCs carry other sources.
    pub ssrc: u32,
    /// The media section that the packets name.
    pub mid: Option<Mid>,
    /// The receiver does not want the source, whatever it has SSRCs for; audio only.
    pub unwanted: bool,
    /// The layer that the allocation grants; `None` is nothing.
    pub target: Option<LayerId>,
    /// The outgoing stream.
    pub projection: Projection,
    /// Packet index of the next retransmission on the RTX SSRC.
    pub rtx_index: i64,
    /// First packet index that may be repeated on the media SSRC: earlier ones went out under other numbers, and
    /// would not be the same bytes again.
    pub repeat_from: i64,
    /// Media packets sent, for sender reports.
    pub packets: u32,
    /// Payload bytes sent, for sender reports.
    pub octets: u32,
    /// Holds back this receiver's own keyframe requests.
    pub requests: Throttle,
    /// How many it may still wish for.
    pub wishes: Allowance,
    resent: Option<Box<Resent>>,
}

/// What was sent again lately, a ring. Apart from the subscription, whose neighbours every packet walks over; few subscriptions ever need it.
#[derive(Debug)]
struct Resent {
    list: [Option<(u16, Instant)>; RESENDS],
    at: usize,
}

/// Packet indices that a receiver's SRTP context has got to on the two SSRCs of a source. They outlive the subscription:
/// a source that comes back with the same SSRC must go on counting, or the receiver takes it for a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indices {
    /// Next index on the media SSRC.
    pub media: i64,
    /// Next index on the RTX SSRC.
    pub rtx: i64,
}

/// Where the streams of a subscription go on: on another subscription that gets its SSRCs, or on the same one when its sender starts anew.
#[derive(Debug, Clone, Copy)]
pub struct Resume {
    indices: Indices,
    last: Option<Last>,
    packets: u32,
    octets: u32,
}

impl Resume {
    /// Of SSRCs that nothing went out on.
    pub fn first(ssrcs: Encoding) -> Self {
        Self::at(Indices::first(ssrcs))
    }

    /// At packet indices that were got to before.
    pub fn at(indices: Indices) -> Self {
        Self { indices, last: None, packets: 0, octets: 0 }
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
pub fn first_index(ssrc: u32) -> i64 {
    i64::from(ssrc.wrapping_mul(0x9e37_79b1) >> 18) + 1
}

/// Where a receiver's subscription is among those of a source, which are sorted by receiver.
pub fn position(subscriptions: &[Subscription], receiver: usize) -> Option<usize> {
    subscriptions.binary_search_by_key(&receiver, |subscription| subscription.receiver).ok()
}

impl Subscription {
    /// A subscription that has sent nothing yet.
    pub fn new(receiver: usize, ssrc: u32, kind: MediaKind, target: Option<LayerId>, indices: Indices) -> Self {
        Self::resuming(receiver, ssrc, kind, target, Resume::at(indices))
    }

    /// A subscription that sends nothing before the receiver has SSRCs for it.
    pub fn without_ssrc(receiver: usize, kind: MediaKind) -> Self {
        Self {
            projection: Projection::new(0, 1),
            ..Self::new(receiver, NO_SSRC, kind, None, Indices { media: 0, rtx: 0 })
        }
    }

    /// A subscription whose streams go on where others ended.
    pub fn resuming(receiver: usize, ssrc: u32, kind: MediaKind, target: Option<LayerId>, resume: Resume) -> Self {
        let Resume { indices, last, packets, octets } = resume;
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
            packets,
            octets,
            requests: Throttle::default(),
            wishes: Allowance::default(),
            resent: None,
        }
    }

    /// Where a later subscription on the same SSRCs has to go on.
    pub fn indices(&self) -> Indices {
        Indices { media: self.projection.next_sequence(), rtx: self.rtx_index }
    }

    /// Where its streams go on.
    pub fn resume(&self) -> Resume {
        let (packets, octets) = (self.packets, self.octets);
        Resume { indices: self.indices(), last: self.projection.last(), packets, octets }
    }

    /// The sender starts anew; the receiver sees the streams go on.
    pub fn restart(&mut self, kind: MediaKind) {
        if self.ssrc != NO_SSRC {
            let subscription = Self::resuming(self.receiver, self.ssrc, kind, self.target, self.resume());
            self.renew(subscription.naming(self.mid));
        }
    }

    /// The same, whose packets name a media section.
    pub fn naming(self, mid: Option<Mid>) -> Self {
        Self { mid, ..self }
    }

    /// Becomes another subscription of the same source to the same receiver.
    pub fn renew(&mut self, subscription: Self) {
        *self = Self { unwanted: self.unwanted, ..subscription };
    }

    /// The encodings of its source have other places from now on.
    pub fn renumber(&mut self, moves: &Moves) {
        self.target = self.target.map(|target| LayerId { encoding: reorder::moved(moves, target.encoding), ..target });
        self.projection.renumber(moves);
    }

    /// Whether a packet may be sent again now; notes it if so.
    pub fn may_resend(&mut self, now: Instant, sequence: u16, round_trip: Option<Duration>) -> bool {
        let interval = round_trip.map_or(RESEND_INTERVAL, |rtt| (rtt * 9 / 10).max(SHORTEST_RESEND));
        let resent = self.resent.get_or_insert_with(|| Box::new(Resent { list: [None; RESENDS], at: 0 }));
        let recent = |r: &(u16, Instant)| r.0 == sequence && now.saturating_duration_since(r.1) < interval;
        if resent.list.iter().flatten().any(recent) {
            return false;
        }
        if let Some(slot) = resent.list.get_mut(resent.at) {
            *slot = Some((sequence, now));
        }
        resent.at = (resent.at + 1) % RESENDS;
        true
    }
}
