//! Recent packets of one video source, in plaintext, for receivers that ask again. Shared by all of them.

use super::MediaPacket;
use super::frame::Frame;
use super::payload::PayloadView;
use super::picture::Picture;
use crate::congestion::reorder::{self, Moves};
use crate::ids::SourceId;
use crate::media::MediaKind;
use crate::negotiation::extensions::{ExtensionLayout, ReceivedExtensions};
use crate::negotiation::formats::Format;
use crate::negotiation::negotiated::Negotiated;
use crate::rtp::{Layout, Packet};

/// Packets kept per encoding.
const ENTRIES: usize = 512;

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
    offset: u64,
    len: usize,
    packet: CachedPacket,
}

/// Bounded in packets and bytes; memory is taken once, when the source sends its first packet.
#[derive(Debug)]
pub struct PacketCache {
    capacity: usize,
    data: Box<[u8]>,
    written: u64,
    entries: Vec<Box<[Option<Record>]>>,
}

impl PacketCache {
    /// A cache of `capacity` bytes for `encodings` encodings.
    pub fn new(capacity: usize, encodings: usize) -> Self {
        let entries = (0..encodings).map(|_| vec![None; ENTRIES].into_boxed_slice()).collect();
        Self { capacity, data: vec![0; capacity].into_boxed_slice(), written: 0, entries }
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

    fn entry(&mut self, encoding: u8, sequence: i64) -> Option<&mut Option<Record>> {
        self.entries.get_mut(usize::from(encoding))?.get_mut(sequence.rem_euclid(ENTRIES as i64) as usize)
    }

    /// Keeps a packet; the oldest bytes make room.
    pub fn insert(&mut self, encoding: u8, sequence: i64, bytes: &[u8], packet: CachedPacket) {
        if bytes.len() > self.capacity {
            return;
        }
        let mut at = (self.written % self.capacity as u64) as usize;
        if at + bytes.len() > self.capacity {
            // Records do not wrap: the rest of the ring stays unused this time.
            self.written += (self.capacity - at) as u64;
            at = 0;
        }
        let offset = self.written;
        let Some(entry) = self.entry(encoding, sequence) else { return };
        *entry = Some(Record { sequence, offset, len: bytes.len(), packet });
        if let Some(room) = self.data.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.written += bytes.len() as u64;
    }

    /// A packet, if it is still there.
    pub fn get(&self, encoding: u8, sequence: i64) -> Option<(&[u8], CachedPacket)> {
        let entries = self.entries.get(usize::from(encoding))?;
        let record = (*entries.get(sequence.rem_euclid(ENTRIES as i64) as usize)?)?;
        if record.sequence != sequence || self.written - record.offset > self.capacity as u64 {
            return None;
        }
        let at = (record.offset % self.capacity as u64) as usize;
        Some((self.data.get(at..at + record.len)?, record.packet))
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

    proptest! {
        #[test]
        fn a_hit_is_always_the_packet_itself(lens in proptest::collection::vec(1usize..1500, 1..900)) {
            let packet = CachedPacket { format: format(), frame: Frame::WHOLE, picture: Picture::default() };
            let mut cache = PacketCache::new(20_000, 2);
            let mut buffer = [0u8; 1500];
            for (i, len) in lens.iter().enumerate() {
                let bytes = &mut buffer[..*len];
                bytes.fill(i as u8);
                cache.insert((i % 2) as u8, i as i64, bytes, packet);
                prop_assert_eq!(cache.get((i % 2) as u8, i as i64).unwrap().0.len(), *len);
            }
            let mut hits = 0;
            for (i, len) in lens.iter().enumerate() {
                if let Some((bytes, _)) = cache.get((i % 2) as u8, i as i64) {
                    hits += 1;
                    prop_assert_eq!(bytes.len(), *len);
                    prop_assert!(bytes.iter().all(|b| *b == i as u8));
                }
            }
            prop_assert!(hits >= lens.len().min(12));
            prop_assert!(cache.get(7, 0).is_none());
        }
    }
}
