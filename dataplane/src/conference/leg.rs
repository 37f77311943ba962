//! What one receiver gets of one source: the rewriting state that belongs to the pair.

use std::time::{Duration, Instant};

use super::keyframe::{Allowance, Throttle};
use super::projection::Projection;
use crate::congestion::layer::LayerId;
use crate::media::MediaKind;

/// A packet is not sent again to the same receiver before this has passed, or, where the round-trip time is known, before
/// the receiver can have missed the repetition.
const RESEND_INTERVAL: Duration = Duration::from_millis(20);
const SHORTEST_RESEND: Duration = Duration::from_millis(5);
const RESENDS: usize = 64;
/// Runs of the output that are remembered. Where every second picture is left out, a second of video takes fifteen.
const VIDEO_RUNS: u16 = 48;
const AUDIO_RUNS: u16 = 4;

/// One receiver of a source.
#[derive(Debug)]
pub struct Leg {
    /// Index of the receiver in its conference.
    pub receiver: usize,
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

/// What was sent again lately, a ring. Apart from the leg, whose neighbours every packet walks over; few legs ever need it.
#[derive(Debug)]
struct Resent {
    list: [Option<(u16, Instant)>; RESENDS],
    at: usize,
}

/// Packet indices that a receiver's SRTP context has got to on the two SSRCs of a source. They outlive the leg:
/// a source that comes back with the same SSRC must go on counting, or the receiver takes it for a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indices {
    /// Next index on the media SSRC.
    pub media: i64,
    /// Next index on the RTX SSRC.
    pub rtx: i64,
}

impl Leg {
    /// A leg that has sent nothing yet.
    pub fn new(receiver: usize, kind: MediaKind, target: Option<LayerId>, indices: Indices) -> Self {
        Self {
            receiver,
            target,
            projection: Projection::new(indices.media, if kind == MediaKind::Video { VIDEO_RUNS } else { AUDIO_RUNS }),
            rtx_index: indices.rtx,
            repeat_from: indices.media,
            packets: 0,
            octets: 0,
            requests: Throttle::default(),
            wishes: Allowance::default(),
            resent: None,
        }
    }

    /// Where a later leg on the same SSRCs has to go on.
    pub fn indices(&self) -> Indices {
        Indices { media: self.projection.next_sequence(), rtx: self.rtx_index }
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
