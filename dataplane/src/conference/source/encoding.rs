//! One received encoding of a source: how its packets are numbered, which of them are missing, what its pictures refer to, and
//! which layers it brings.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::activity::Activity;
use super::dependency::Dependencies;
use super::meter::Meter;
use super::nack::NackGenerator;
use super::rank::Evidence;
use super::reports::{Reception, ReceptionStats, SenderClock};
use super::sequence::{Arrival, SequenceTracker, Unwrapper};
use crate::conference::packet::frame::{Entry, Frame};
use crate::conference::packet::payload::{Descriptor, PayloadView};
use crate::conference::packet::picture::Picture;
use crate::congestion::layer::{Layer, LayerId, Layers, MAX_SPATIAL, MAX_TEMPORAL, Point};
use crate::limits::SenderReports;
use crate::media::{Encoding, MediaKind};

/// State of one received encoding.
#[derive(Debug, Serialize, Deserialize)]
pub struct EncodingState {
    ssrcs: Encoding,
    sequence: SequenceTracker,
    /// VP8 and VP9 picture ids: 15 bits, and 7 bits for those who use the short form.
    picture_id: Unwrapper<15>,
    /// See `picture_id`.
    short_picture_id: Unwrapper<7>,
    /// Missing packets.
    nack: NackGenerator,
    reception: ReceptionStats,
    /// How many of its sender reports go on.
    sender_reports: SenderReports,
    /// What its dependency descriptors refer to; none before the first one.
    dependencies: Option<Box<Dependencies>>,
    /// Heights of the last keyframe by spatial layer; zero where unknown.
    heights: [u16; MAX_SPATIAL],
    /// What its layers bring.
    meter: Meter,
    activity: Activity,
    last_timestamp: u32,
    clock: Option<SenderClock>,
    ahead: Option<u32>,
}

/// What [`EncodingState::observe`] needs to know of a packet.
#[derive(Debug, Clone, Copy)]
pub struct ObservedPacket {
    /// RTP timestamp.
    pub timestamp: u32,
    /// Its frame.
    pub frame: Frame,
    /// Whether it is the first packet of its frame, where the payload says so.
    pub begins: Option<bool>,
    /// Bytes of payload.
    pub bytes: usize,
}

/// What [`EncodingState::observe`] found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observation {
    /// It is the first packet seen of the newest picture of its encoding.
    pub first: bool,
    /// It belongs to that picture.
    pub newest: bool,
    /// A layer came or went.
    pub layers_changed: bool,
}

impl EncodingState {
    /// An encoding of which nothing was received.
    pub fn new(ssrcs: Encoding) -> Self {
        Self {
            ssrcs,
            sequence: SequenceTracker::default(),
            picture_id: Unwrapper::default(),
            short_picture_id: Unwrapper::default(),
            nack: NackGenerator::default(),
            reception: ReceptionStats::default(),
            sender_reports: SenderReports::new(),
            dependencies: None,
            heights: [0; MAX_SPATIAL],
            meter: Meter::default(),
            activity: Activity::default(),
            last_timestamp: 0,
            clock: None,
            ahead: None,
        }
    }

    /// The sender starts counting anew; its pictures are believed to stay as large as they were.
    pub fn restart(&mut self) {
        *self = Self { heights: self.heights, ..Self::new(self.ssrcs) };
    }

    /// Its SSRCs.
    #[inline]
    pub fn ssrcs(&self) -> Encoding {
        self.ssrcs
    }

    /// Its SSRCs as they are described anew; what was received on them counts on.
    pub fn set_ssrcs(&mut self, ssrcs: Encoding) {
        self.ssrcs = ssrcs;
    }

    /// Counts a packet that came on its media SSRC; `since_epoch` is its arrival in units of the RTP clock.
    #[inline]
    pub fn received(&mut self, sequence: i64, timestamp: u32, since_epoch: i64) {
        self.reception.received(sequence, timestamp, since_epoch);
    }

    /// The extended sequence number of a packet that is sent again; `None` when it is none of those that are known.
    pub fn extend(&self, sequence: u16) -> Option<i64> {
        self.sequence.extend(sequence)
    }

    /// Takes the number of a packet; returns whether it is a new one.
    #[inline]
    pub fn insert(&mut self, sequence: i64) -> Arrival {
        self.sequence.insert(sequence)
    }

    /// A packet does not go on: receivers see no hole where it was.
    pub fn discard(&mut self, sequence: i64, arrival: Arrival) {
        self.sequence.discard(sequence, arrival);
    }

    /// A packet's number with all discarded ones closed up.
    #[inline]
    pub fn closed(&self, sequence: i64) -> Option<i64> {
        self.sequence.closed(sequence)
    }

    /// Records which packets are missing now that one arrived; `repeated` is whether that came as a retransmission.
    #[inline]
    pub fn note_missing(&mut self, now: Instant, sequence: i64, arrival: Arrival, repeated: bool) {
        match arrival {
            Arrival::Newest { skipped } => self.nack.advanced(now, sequence, skipped),
            _ => self.nack.received(now, sequence, repeated),
        }
    }

    /// When missing packets are to be asked for.
    #[inline]
    pub fn nack_deadline(&self) -> Option<Instant> {
        self.nack.deadline()
    }

    /// Writes the numbers of the packets to ask for now, and returns how many.
    pub fn take_missing(&mut self, now: Instant, round_trip: Option<Duration>, out: &mut [u16]) -> usize {
        self.nack.due(now, round_trip, out)
    }

    /// Takes a sender report of it; false when there were too many for it to go on.
    pub fn sender_report(&mut self, now: Instant, clock: SenderClock) -> bool {
        self.reception.sender_report(clock);
        self.sender_reports.take(now)
    }

    /// What a receiver report is to say; `None` when nothing came since the last one.
    pub fn report(&mut self, now: Instant) -> Option<Reception> {
        self.reception.report(now)
    }

    /// The numbers of a packet's picture: by its dependency descriptor, if it is routed by one, else by what its codec says.
    /// `None` when the descriptor cannot be read but should be.
    pub fn locate(&mut self, view: &mut PayloadView, descriptor: Option<&[u8]>) -> Option<Picture> {
        let Some(data) = descriptor else {
            if view.entry == Entry::Keyframe
                && let Some(dependencies) = &mut self.dependencies
            {
                dependencies.distrust();
            }
            return Some(self.picture_of(view));
        };
        let dependencies = self.dependencies.get_or_insert_default();
        let routed = match dependencies.read(data) {
            Ok(routed) => routed,
            Err(_) if dependencies.is_distrusted() => return Some(Picture::default()),
            Err(_) => return None,
        };
        view.frame = routed.frame;
        view.begins = Some(routed.begins);
        view.entry = if routed.keyframe { Entry::Keyframe } else { Entry::Delta };
        if routed.keyframe && dependencies.heights() != [0; MAX_SPATIAL] {
            view.heights = dependencies.heights();
        }
        Some(routed.picture)
    }

    /// The numbers that a codec's own descriptor gives a packet's picture.
    fn picture_of(&mut self, view: &PayloadView) -> Picture {
        let (id, long, tl0) = match &view.descriptor {
            Descriptor::None => return Picture::default(),
            Descriptor::Vp8(d) => (d.picture_id, d.long_picture_id, d.tl0_pic_idx),
            Descriptor::Vp9(d) => (d.picture_id, d.long_picture_id, d.tl0_pic_idx),
        };
        let unwrap = |id: u16| match long {
            true => self.picture_id.unwrap(u32::from(id)),
            false => self.short_picture_id.unwrap(u32::from(id)),
        };
        Picture { id: id.map(unwrap), tl0, templates: None }
    }

    /// Records the heights that a keyframe carries; true when they have changed.
    #[inline]
    pub fn note_heights(&mut self, view: &PayloadView) -> bool {
        let news = view.entry == Entry::Keyframe && view.heights != [0; MAX_SPATIAL] && view.heights != self.heights;
        if news {
            self.heights = view.heights;
        }
        news
    }

    /// Height of its highest spatial layer in pixels, where a keyframe says it.
    pub fn height(&self) -> Option<u16> {
        self.heights.iter().rev().copied().find(|height| *height != 0)
    }

    fn height_of(&self, spatial: u8) -> Option<u16> {
        self.heights.get(usize::from(spatial)).copied().filter(|height| *height != 0)
    }

    /// Takes a packet into account for which layers the sender still sends; of audio, only whether it sends.
    #[inline]
    pub fn observe(&mut self, now: Instant, packet: &ObservedPacket, kind: MediaKind) -> Observation {
        let step = packet.timestamp.wrapping_sub(self.last_timestamp);
        let first = !self.activity.any() || (1..1 << 31).contains(&step);
        self.activity.packet(now);
        if first {
            self.last_timestamp = packet.timestamp;
        }
        let begins = packet.begins.unwrap_or(first);
        let layers_changed =
            kind == MediaKind::Video && self.meter.count(now, &packet.frame, first, begins, packet.bytes);
        Observation { first, newest: first || step == 0, layers_changed }
    }

    /// Another encoding of the source went on to a new picture.
    pub fn passed_by(&mut self) {
        self.activity.other();
    }

    /// Whether it still comes, and its spatial layers, one bit each.
    pub fn active(&self, now: Instant) -> (bool, u8) {
        (self.activity.active(now), self.meter.spatial(now))
    }

    /// When enough of it will have been measured to know its rate; `None` before its first packet.
    pub fn reliable_from(&self) -> Option<Instant> {
        self.meter.reliable_from()
    }

    /// What is known of its rank; none before its first packet.
    pub fn evidence(&self, now: Instant) -> Option<Evidence> {
        let measured = self.meter.reliable_from().is_some_and(|at| at <= now) && self.activity.active(now);
        self.activity.any().then(|| Evidence { height: self.height(), rate: measured.then(|| self.meter.whole(now)) })
    }

    /// Appends the layers that were seen of it, as encoding number `encoding`; `spatial` are those that still come, one bit each.
    pub fn layers(&self, now: Instant, encoding: u8, spatial: u8, out: &mut Layers) {
        for spatial in (0..MAX_SPATIAL as u8).filter(|s| spatial >> s & 1 != 0) {
            for temporal in 0..MAX_TEMPORAL as u8 {
                let point = Point::new(spatial, temporal);
                if self.meter.seen(point) {
                    let rate = self.meter.rate(now, point);
                    out.push(Layer {
                        id: LayerId { encoding, spatial, temporal },
                        height: self.height_of(spatial),
                        frame_rate: rate.frame_rate,
                        bitrate: rate.bitrate,
                    });
                }
            }
        }
    }

    /// Records the clock of its last sender report.
    pub fn set_clock(&mut self, clock: SenderClock) {
        self.clock = Some(clock);
    }

    /// The clock of its last sender report.
    pub fn clock(&self) -> Option<SenderClock> {
        self.clock
    }

    /// Finds out how far its timestamps are ahead of those of the encoding that was named first, whose clock is `first`.
    pub fn compare_clock(&mut self, first: SenderClock) {
        self.ahead = self.clock.map(|clock| clock.rtp_at(first.ntp).wrapping_sub(first.rtp));
    }

    /// How far its timestamps are ahead of those of the encoding that was named first, once sender reports say it.
    #[inline]
    pub fn ahead(&self) -> Option<u32> {
        self.ahead
    }
}
