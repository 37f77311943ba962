//! Recent packets of one video source, in plaintext, for receivers that ask again. Shared by all of them.
//!
//! They lie in parts that are filled one after the other. Once the oldest part is older than anybody asks for, it is filled again
//! instead of another one: a quiet source gets along with few of them, whose memory is there already and in the processor's caches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::MediaPacket;
use super::frame::Frame;
use super::payload::PayloadView;
use super::picture::Picture;
use crate::congestion::reorder::{self, Moves};
use crate::datagram::MAX_DATAGRAM;
use crate::ids::SourceId;
use crate::media::MediaKind;
use crate::negotiation::extensions::{ExtensionLayout, ReceivedExtensions};
use crate::negotiation::formats::Format;
use crate::negotiation::negotiated::Negotiated;
use crate::rtp::{Layout, Packet};

/// Packets kept per encoding.
const ENTRIES: usize = 512;
/// How many parts the memory has.
const PARTS: usize = 32;
/// So long a packet is kept where there is room: receivers ask for two seconds.
const KEEP: Duration = Duration::from_secs(2);
/// Parts that are kept however old they are, besides the one that is filled: probes repeat the last packets of slow streams.
const KEPT_PARTS: usize = 3;

/// What is kept beside a packet's bytes.
#[derive(Debug, Clone, Copy)]
pub struct CachedPacket {
    /// Format of the payload.
    pub format: Format,
    /// Its frame.
    pub frame: Frame,
    /// Its picture numbers.
    pub picture: Picture,
}

/// The header of a kept packet, parsed anew: few packets are sent again, and to keep this of all costs more (docs/decisions.md).
#[derive(Debug)]
pub struct KeptHeader {
    layout: Layout,
    extensions: ExtensionLayout,
}

impl KeptHeader {
    /// Parses a kept packet; `None` when the bytes are none.
    pub fn parse(kind: MediaKind, bytes: &[u8], sender: &Negotiated) -> Option<Self> {
        let rtp = Packet::parse(bytes).ok()?;
        let extensions = ExtensionLayout::resolve(&rtp, kind, &sender.extensions);
        Some(Self { layout: rtp.layout(), extensions })
    }
}

impl CachedPacket {
    /// The packet together with its header and bytes, its payload not looked into; `None` when they are those of another one.
    pub fn media<'a>(
        &self,
        (source, kind): (SourceId, MediaKind),
        (header, bytes): (&'a KeptHeader, &'a [u8]),
        sender: &'a Negotiated,
    ) -> Option<MediaPacket<'a>> {
        Some(MediaPacket {
            rtp: Packet::with_layout(bytes, header.layout)?,
            source,
            kind,
            format: self.format,
            extensions: ReceivedExtensions::new(&header.extensions, bytes),
            view: PayloadView::OPAQUE,
            picture: self.picture,
            sender: &sender.formats,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Record {
    sequence: i64,
    /// Number of its part.
    part: u64,
    at: u32,
    len: u32,
    packet: CachedPacket,
}

/// Which packet of a source: of two encodings, both may have the same sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketKey {
    /// Position of the encoding among the source's.
    pub encoding: u8,
    /// Sequence number, without its wrapping.
    pub sequence: i64,
}

impl PacketKey {
    /// Where its record lies among those of its encoding.
    fn place(self) -> usize {
        self.sequence.rem_euclid(ENTRIES as i64) as usize
    }
}

/// A part of the memory that is in use.
#[derive(Debug)]
struct Part {
    /// Where it lies, in parts.
    place: usize,
    /// When something was added to it.
    last: Instant,
}

/// Bounded in packets and bytes; memory is taken once, when the source sends its first packet.
#[derive(Debug)]
pub struct PacketCache {
    /// As long as what was used so far: to write all of it at once would stop a worker where hundreds of sources begin together.
    data: Vec<u8>,
    capacity: usize,
    /// Bytes of a part.
    part_len: usize,
    /// Those in use, the oldest first; the last one is being filled.
    parts: VecDeque<Part>,
    /// How many were begun so far: the last one has the number before this.
    begun: u64,
    /// Bytes in the last one.
    filled: usize,
    entries: Vec<Box<[Option<Record>]>>,
}

impl PacketCache {
    /// A cache of `capacity` bytes for `encodings` encodings.
    pub fn new(capacity: usize, encodings: usize) -> Self {
        let entries = (0..encodings).map(|_| vec![None; ENTRIES].into_boxed_slice()).collect();
        let part_len = (capacity / PARTS).max(MAX_DATAGRAM).min(capacity);
        let (data, parts) = (Vec::with_capacity(capacity), VecDeque::with_capacity(PARTS));
        Self { data, capacity, part_len, parts, begun: 0, filled: 0, entries }
    }

    /// Makes room for further encodings.
    pub fn extend_to(&mut self, encodings: usize) {
        while self.entries.len() < encodings {
            self.entries.push(vec![None; ENTRIES].into_boxed_slice());
        }
    }

    /// The encodings have other positions from now on.
    pub fn renumber(&mut self, moves: &Moves) {
        reorder::permute(&mut self.entries, moves);
    }

    fn entry(&mut self, key: PacketKey) -> Option<&mut Option<Record>> {
        self.entries.get_mut(usize::from(key.encoding))?.get_mut(key.place())
    }

    /// Keeps a packet that came `now`; the oldest ones make room.
    pub fn insert(&mut self, now: Instant, key: PacketKey, bytes: &[u8], packet: CachedPacket) {
        if bytes.len() > self.part_len {
            return;
        }
        if self.parts.is_empty() || self.filled + bytes.len() > self.part_len {
            self.begin_part(now);
        }
        let Some(part) = self.parts.back_mut() else { return };
        part.last = now;
        let at = part.place * self.part_len + self.filled;
        let (part, filled) = (self.begun - 1, self.filled + bytes.len());
        let Some(entry) = self.entry(key) else { return };
        *entry = Some(Record { sequence: key.sequence, part, at: at as u32, len: bytes.len() as u32, packet });
        if at + bytes.len() > self.data.len() {
            // Not used yet, and within what was reserved.
            self.data.resize(at, 0);
            self.data.extend_from_slice(bytes);
        } else if let Some(room) = self.data.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.filled = filled;
    }

    /// Goes on in the oldest part, if nobody asks for what it holds, in one that was not used yet, or in the oldest one all the same.
    fn begin_part(&mut self, now: Instant) {
        let (used, all) = (self.parts.len(), self.capacity / self.part_len.max(1));
        let old = |part: &Part| now.saturating_duration_since(part.last) >= KEEP;
        let spare = used > KEPT_PARTS && self.parts.front().is_some_and(old);
        let place = if used < all && !spare { used } else { self.parts.pop_front().map_or(0, |part| part.place) };
        self.parts.push_back(Part { place, last: now });
        (self.begun, self.filled) = (self.begun + 1, 0);
    }

    /// A packet, if it is still there.
    pub fn get(&self, key: PacketKey) -> Option<(&[u8], CachedPacket)> {
        let entries = self.entries.get(usize::from(key.encoding))?;
        let record = (*entries.get(key.place())?)?;
        let oldest = self.begun - self.parts.len() as u64;
        if record.sequence != key.sequence || record.part < oldest {
            return None;
        }
        let at = record.at as usize;
        Some((self.data.get(at..at + record.len as usize)?, record.packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PayloadType;
    use crate::media::{CodecParameters, Media, MediaKind};
    use crate::negotiation::formats::FormatTable;
    use crate::negotiation::vocabulary::{Names, Vocabulary};
    use proptest::prelude::*;

    fn format() -> Format {
        let payload_type = PayloadType::new(96).unwrap();
        let vp8 = CodecParameters {
            payload_type,
            kind: MediaKind::Video,
            name: "VP8".to_owned(),
            clock_rate: 90_000,
            channels: 1,
            parameters: Vec::new(),
            feedback: Vec::new(),
        };
        let media = Media { codecs: vec![vp8], ..Media::default() };
        let table = FormatTable::compile(&media, &mut Names::new(&mut Vocabulary::default()));
        table.media(MediaKind::Video, payload_type).unwrap()
    }

    const PACKET: Frame = Frame::WHOLE;

    fn kept() -> CachedPacket {
        CachedPacket { format: format(), frame: PACKET, picture: Picture::default() }
    }

    proptest! {
        #[test]
        fn a_hit_is_always_the_packet_itself(
            packets in proptest::collection::vec((1usize..1500, 0u64..200), 1..900),
            capacity in 20_000usize..600_000,
        ) {
            let packet = kept();
            let key = |i: usize| PacketKey { encoding: (i % 2) as u8, sequence: i as i64 };
            let mut cache = PacketCache::new(capacity, 2);
            let (mut buffer, mut now, mut times) = ([0u8; 1500], Instant::now(), Vec::new());
            for (i, (len, millis)) in packets.iter().enumerate() {
                now += Duration::from_millis(*millis);
                times.push(now);
                let bytes = &mut buffer[..*len];
                bytes.fill(i as u8);
                cache.insert(now, key(i), bytes, packet);
                prop_assert_eq!(cache.get(key(i)).unwrap().0.len(), *len);
            }
            let (mut hits, mut since) = (0, 0);
            for (i, (len, _)) in packets.iter().enumerate().rev() {
                since += len;
                let found = cache.get(key(i));
                if let Some((bytes, _)) = found {
                    hits += 1;
                    prop_assert_eq!(bytes.len(), *len);
                    prop_assert!(bytes.iter().all(|b| *b == i as u8));
                }
                // What does not fit at a part's end is the only room that is lost, besides the part that is being filled.
                let parts = capacity / cache.part_len - 1;
                let fits = since <= parts * (cache.part_len - 1500) && packets.len() - i < 2 * ENTRIES;
                prop_assert!(found.is_some() || !fits || now - times[i] > KEEP, "packet {} is asked for", i);
            }
            prop_assert!(hits >= packets.len().min(6));
            let none = PacketKey { encoding: 7, sequence: 0 };
            prop_assert!(cache.get(none).is_none());
        }
    }

    #[test]
    fn a_quiet_source_fills_the_same_memory_again() {
        let (packet, bytes, mut now) = (kept(), [7; 1200], Instant::now());
        let key = |sequence| PacketKey { encoding: 0, sequence };
        for (per_second, used) in [(5, 4), (30, 7), (400, 32)] {
            let mut cache = PacketCache::new(512 * 1024, 1);
            let packets = 60 * per_second;
            for i in 0..packets {
                now += Duration::from_secs(1) / per_second as u32;
                cache.insert(now, key(i), &bytes, packet);
            }
            assert!(cache.parts.len() <= used, "{per_second} a second take {} parts", cache.parts.len());
            assert!(cache.data.len() <= cache.parts.len() * 16 * 1024, "{} bytes", cache.data.len());
            assert_eq!(cache.data.capacity(), 512 * 1024);
            let kept = (0..packets).rev().take_while(|i| cache.get(key(*i)).is_some()).count();
            // Of fast sources it is the memory that bounds it; probes repeat 32 packets of slow ones.
            assert!(kept >= (2 * per_second as usize).clamp(32, 390), "{kept} of {per_second} a second");
        }
    }
}
