//! RTP streams of a capture, and how they are played: again and again, as one sender that goes on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::rtp::Packet;
use ringbridge_dataplane::rtp::vp8::Descriptor;

use super::super::{Codec, Track, TrackPacket};
use super::left_out::{LeftOut, Reason};

/// The first packet of the next turn comes a frame after the last of this one.
const GAP: Duration = Duration::from_millis(33);
/// Without capture times RTP timestamps pace a stream; a longer step than this is a jump of the clock, not a pause.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// A datagram and when it was captured, nanoseconds.
pub(super) type Seen<'a> = (Option<i128>, &'a [u8]);

/// A packet of a stream and when it was captured, nanoseconds.
type Stamped = (Option<i128>, Recorded);

/// The streams of datagrams in order of time, one for each SSRC.
pub(super) fn tracks(
    datagrams: &[Seen<'_>],
    codecs: &BTreeMap<u8, Codec>,
    left_out: &mut LeftOut,
) -> Vec<RecordedTrack> {
    let mut order = Vec::new();
    let mut streams: BTreeMap<Ssrc, (Codec, Vec<Stamped>)> = BTreeMap::new();
    let mut known = HashSet::new();
    for (at, datagram) in datagrams {
        let packet = match rtp(datagram) {
            Ok(packet) => packet,
            Err(reason) => {
                left_out.note(reason);
                continue;
            }
        };
        let Some(codec) = codecs.get(&packet.payload_type().get()).copied() else {
            left_out.note(Reason::PayloadType(packet.payload_type().get()));
            continue;
        };
        if !known.insert((packet.ssrc(), packet.sequence(), packet.timestamp())) {
            left_out.note(Reason::Repeated);
            continue;
        }
        let (_, stream) = streams.entry(packet.ssrc()).or_insert_with(|| {
            order.push(packet.ssrc());
            (codec, Vec::new())
        });
        let (timestamp, marker, payload) = (packet.timestamp(), packet.marker(), packet.payload().into());
        stream.push((*at, Recorded { at: Duration::ZERO, timestamp, marker, payload }));
    }
    let first = streams.values().flat_map(|(_, packets)| packets.iter().filter_map(|(at, _)| *at)).min();
    order
        .into_iter()
        .filter_map(|ssrc| streams.remove(&ssrc))
        .map(|(codec, packets)| RecordedTrack::new(codec, timed(codec, packets, first.unwrap_or_default())))
        .collect()
}

fn rtp(datagram: &[u8]) -> Result<Packet<'_>, Reason> {
    // RTCP shares the port: its packet types lie where the payload types 64 to 95 would be with the marker bit.
    if matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2) {
        return Err(Reason::Rtcp);
    }
    let packet = Packet::parse(datagram).map_err(|_| Reason::NotRtp)?;
    if packet.payload().is_empty() { Err(Reason::Empty) } else { Ok(packet) }
}

/// Packets with their time since `first`, or by their RTP timestamps where some have none.
fn timed(codec: Codec, packets: Vec<Stamped>, first: i128) -> Vec<Recorded> {
    let by_capture = packets.iter().all(|(at, _)| at.is_some());
    let (mut at, mut before) = (Duration::ZERO, None);
    let time = |(captured, packet): Stamped| {
        if by_capture {
            let since = captured.unwrap_or(first).saturating_sub(first).max(0);
            at = Duration::from_nanos(u64::try_from(since).unwrap_or(u64::MAX));
        } else {
            let ticks = packet.timestamp.wrapping_sub(before.unwrap_or(packet.timestamp)).cast_signed();
            let step = u64::try_from(ticks).unwrap_or(0) * 1_000_000_000 / u64::from(codec.clock_rate());
            let step = Duration::from_nanos(step);
            at += if step > LONGEST_STEP { Duration::ZERO } else { step };
            // A packet out of order does not set the pace back.
            if before.is_none() || ticks > 0 || step > LONGEST_STEP {
                before = Some(packet.timestamp);
            }
        }
        Recorded { at, ..packet }
    };
    packets.into_iter().map(time).collect()
}

#[derive(Debug)]
struct Recorded {
    at: Duration,
    timestamp: u32,
    marker: bool,
    payload: Box<[u8]>,
}

/// How far numbers of `bits` bits, which wrap, come from the first of them to the highest.
fn span(bits: u32, numbers: impl Iterator<Item = u32>) -> u32 {
    let (mut place, mut highest, mut before) = (0_i64, 0_i64, None);
    for number in numbers {
        // The difference, with its sign.
        let step = number.wrapping_sub(before.unwrap_or(number)) << (32 - bits);
        place += i64::from(step.cast_signed() >> (32 - bits));
        highest = highest.max(place);
        before = Some(number);
    }
    highest as u32
}

/// What a turn adds to the fields of VP8's descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pictures {
    id: u16,
    tl0: u8,
    key: u8,
}

impl Pictures {
    fn of_turn(packets: &[Recorded]) -> Self {
        let descriptors = || packets.iter().filter_map(|packet| Descriptor::parse(&packet.payload).ok());
        let long = descriptors().any(|d| d.long_picture_id);
        let ids = descriptors().filter_map(|d| d.picture_id).map(u32::from);
        Self {
            id: span(if long { 15 } else { 7 }, ids).wrapping_add(1) as u16,
            tl0: span(8, descriptors().filter_map(|d| d.tl0_pic_idx).map(u32::from)).wrapping_add(1) as u8,
            key: span(5, descriptors().filter_map(|d| d.key_idx).map(u32::from)).wrapping_add(1) as u8,
        }
    }

    fn add(&mut self, turn: Self) {
        self.id = self.id.wrapping_add(turn.id);
        self.tl0 = self.tl0.wrapping_add(turn.tl0);
        self.key = self.key.wrapping_add(turn.key);
    }

    /// Adds itself to a payload's descriptor, each field in the width that it has there.
    fn shift(self, payload: &mut [u8]) {
        let Ok(descriptor) = Descriptor::parse(payload) else { return };
        let mut at = 2;
        match descriptor.picture_id {
            Some(id) if descriptor.long_picture_id => {
                let id = id.wrapping_add(self.id) | 0x8000;
                payload[at..at + 2].copy_from_slice(&id.to_be_bytes());
                at += 2;
            }
            Some(id) => {
                payload[at] = id.wrapping_add(self.id) as u8 & 0x7f;
                at += 1;
            }
            None => {}
        }
        if let Some(tl0) = descriptor.tl0_pic_idx {
            payload[at] = tl0.wrapping_add(self.tl0);
            at += 1;
        }
        if let Some(key) = descriptor.key_idx {
            payload[at] = payload[at] & 0xe0 | key.wrapping_add(self.key) & 0x1f;
        }
    }
}

/// One SSRC of a capture, played again and again.
#[derive(Debug, Clone)]
pub struct RecordedTrack {
    codec: Codec,
    packets: Arc<[Recorded]>,
    at: usize,
    /// What each turn adds to RTP timestamps and picture ids.
    turn: (u32, Pictures),
    /// How often it was played to the end: in time, in RTP timestamps, in pictures.
    time: Duration,
    timestamps: u32,
    pictures: Pictures,
}

impl RecordedTrack {
    fn new(codec: Codec, packets: Vec<Recorded>) -> Self {
        let gap = (GAP.as_millis() as u32) * (codec.clock_rate() / 1000);
        let timestamps = span(32, packets.iter().map(|packet| packet.timestamp)).wrapping_add(gap);
        let pictures = if codec == Codec::Vp8 { Pictures::of_turn(&packets) } else { Pictures::default() };
        Self {
            codec,
            packets: packets.into(),
            at: 0,
            turn: (timestamps, pictures),
            time: Duration::ZERO,
            timestamps: 0,
            pictures: Pictures::default(),
        }
    }

    /// Packets of one turn.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    fn wrap(&mut self) {
        let (Some(first), Some(last)) = (self.packets.first(), self.packets.last()) else { return };
        self.time = self.time.saturating_add(last.at.saturating_sub(first.at) + GAP);
        self.timestamps = self.timestamps.wrapping_add(self.turn.0);
        self.pictures.add(self.turn.1);
        self.at = 0;
    }
}

impl Track for RecordedTrack {
    fn codec(&self) -> Codec {
        self.codec
    }

    fn next_due(&self) -> Duration {
        self.time.saturating_add(self.packets.get(self.at).map_or(Duration::ZERO, |packet| packet.at))
    }

    fn next(&mut self, payload: &mut Vec<u8>) -> TrackPacket {
        payload.clear();
        let Some(packet) = self.packets.get(self.at) else {
            return TrackPacket { timestamp: 0, marker: false, level: None };
        };
        payload.extend_from_slice(&packet.payload);
        if self.codec == Codec::Vp8 {
            self.pictures.shift(payload);
        }
        let timestamp = packet.timestamp.wrapping_add(self.timestamps);
        let marker = packet.marker;
        self.at += 1;
        if self.at == self.packets.len() {
            self.wrap();
        }
        let level = (self.codec == Codec::Opus).then_some(30);
        TrackPacket { timestamp, marker, level }
    }
}
