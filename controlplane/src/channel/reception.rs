//! What a client's SCTP may cost: chunks per second, associations, and the memory of messages that do not become whole.
//! The library bounds the bytes that it holds, not what holding them costs: each chunk keeps its whole packet, and is
//! compared with all others of its message.

use std::time::Instant;

use super::limits::{ASSOCIATIONS, CHUNKS as CHUNK_RATE, MAX_HELD_OVERHEAD, MAX_HELD_SMALL};
use crate::pace::Bucket;

/// Offset of the first chunk (RFC 9260 section 3).
const CHUNKS: usize = 12;
/// Length of a chunk's own header, and of the fixed part of DATA.
const HEADER: usize = 4;
const DATA_HEADER: usize = 16;
/// Chunk types.
const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;
/// A chunk of less data counts as small, bytes: a packet has room for several of them.
const SMALL: usize = 200;
/// What the library keeps for a chunk beside its packet, bytes.
const CHUNK_OVERHEAD: usize = 128;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Take,
    /// Too many chunks in too short a time; a client repeats what was left out.
    TooFast,
    /// Too much is held for what is not whole: the association ends.
    TooMuchHeld,
}

/// The accounts of one endpoint.
#[derive(Debug)]
pub(super) struct Reception {
    chunks: Bucket,
    beginnings: Bucket,
    /// Since the library last said that it holds nothing: bytes that are no content, and small chunks.
    overhead: usize,
    small: usize,
}

impl Default for Reception {
    fn default() -> Self {
        Self { chunks: Bucket::new(CHUNK_RATE), beginnings: Bucket::new(ASSOCIATIONS), overhead: 0, small: 0 }
    }
}

impl Reception {
    /// Whether another association, or another channel, may begin.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.beginnings.take(now, 1)
    }

    /// Counts a packet of the peer.
    pub fn receive(&mut self, now: Instant, packet: &[u8]) -> Verdict {
        let (mut count, mut content, mut small) = (0, 0, 0);
        let mut data = 0;
        for (kind, chunk) in chunks(packet) {
            count += 1;
            if kind == DATA {
                let length = chunk.len().saturating_sub(DATA_HEADER);
                data += 1;
                content += length;
                small += usize::from(length < SMALL);
            }
        }
        if !self.chunks.take(now, count) {
            return Verdict::TooFast;
        }
        if data > 0 {
            self.overhead += packet.len().saturating_sub(content) + data * CHUNK_OVERHEAD;
            self.small += small;
        }
        if self.overhead > MAX_HELD_OVERHEAD || self.small > MAX_HELD_SMALL {
            self.restart();
            return Verdict::TooMuchHeld;
        }
        Verdict::Take
    }

    /// Looks at a packet of ours: its acknowledgement says whether anything is held, by the room that is left of `room`.
    pub fn send(&mut self, packet: &[u8], room: u32) {
        let left = chunks(packet).filter(|(kind, _)| *kind == SACK).filter_map(|(_, chunk)| {
            // Cumulative TSN, then the advertised window (section 3.3.4).
            Some(u32::from_be_bytes(chunk.get(HEADER + 4..HEADER + 8)?.try_into().ok()?))
        });
        if left.last().is_some_and(|left| left >= room) {
            self.restart();
        }
    }

    /// The association is another one, or holds nothing.
    pub fn restart(&mut self) {
        (self.overhead, self.small) = (0, 0);
    }
}

/// Type and bytes of each chunk, as far as they are whole; empty ones would never end.
fn chunks(packet: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = packet.get(CHUNKS..).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[kind, _, high, low, ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low])).max(HEADER);
        let chunk = &rest[..length.min(rest.len())];
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, chunk))
    })
}

/// The Initiate Tag when the packet is an INIT, which always comes alone (section 3.3.2).
pub(super) fn init_tag(packet: &[u8]) -> Option<u32> {
    let (kind, chunk) = chunks(packet).next()?;
    (kind == INIT).then_some(())?;
    Some(u32::from_be_bytes(chunk.get(HEADER..HEADER + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chunks: &[(u8, usize)]) -> Vec<u8> {
        let mut packet = vec![0; CHUNKS];
        for (kind, length) in chunks {
            packet.extend_from_slice(&[*kind, 0, (length >> 8) as u8, *length as u8]);
            packet.resize(packet.len() + length.next_multiple_of(4) - HEADER, 0);
        }
        packet
    }

    #[test]
    fn chunks_of_any_bytes_end() {
        assert_eq!(
            chunks(&packet(&[(0, 17), (3, 16), (7, 4)])).map(|(kind, c)| (kind, c.len())).collect::<Vec<_>>(),
            [(0, 17), (3, 16), (7, 4)]
        );
        for bytes in [&[][..], &[0; 11], &[0; 12], &[0; 15], &[0; 1200], &[255; 1200]] {
            assert!(chunks(bytes).count() <= 300);
        }
        assert_eq!((init_tag(&[]), init_tag(&packet(&[(1, 20)]))), (None, Some(0)));
    }

    #[test]
    fn tiny_pieces_that_never_become_whole_are_not_held() {
        let mut now = Instant::now();
        let mut first = |packet: &[u8]| {
            let mut reception = Reception::default();
            (0..1_000_000).find(|_| {
                now += std::time::Duration::from_millis(500);
                reception.receive(now, packet) == Verdict::TooMuchHeld
            })
        };
        let many = first(&packet(&[(DATA, DATA_HEADER + 1); 50])).expect("in the end");
        assert_eq!(many, MAX_HELD_SMALL / 50);
        // One byte of data, the rest padding of another chunk.
        let padded = packet(&[(DATA, DATA_HEADER + 1), (0x84, 1_100)]);
        assert!(first(&padded).expect("in the end") * padded.len() <= MAX_HELD_OVERHEAD);
        // Whole packets of data are bounded by the library's own window.
        assert!(first(&packet(&[(DATA, 1_100)])).expect("in the end") > 10_000);
    }

    #[test]
    fn what_was_delivered_is_not_held() {
        let (mut reception, mut now) = (Reception::default(), Instant::now());
        let mut acknowledged = packet(&[(SACK, 16)]);
        acknowledged[CHUNKS + 8..CHUNKS + 12].copy_from_slice(&1_000u32.to_be_bytes());
        for _ in 0..100_000 {
            now += std::time::Duration::from_millis(10);
            assert_eq!(reception.receive(now, &packet(&[(DATA, 100); 5])), Verdict::Take);
            reception.send(&acknowledged, 1_000);
        }
        for _ in 0..MAX_HELD_SMALL {
            now += std::time::Duration::from_millis(10);
            assert_eq!(reception.receive(now, &packet(&[(DATA, 100)])), Verdict::Take);
            // Something is held.
            reception.send(&acknowledged, 1_001);
        }
        assert_eq!(reception.receive(now, &packet(&[(DATA, 100)])), Verdict::TooMuchHeld);
    }

    #[test]
    fn chunks_and_beginnings_have_a_rate() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        let sack = packet(&[(SACK, 16)]);
        let taken = (0..100_000).take_while(|_| reception.receive(now, &sack) == Verdict::Take).count();
        assert!((1_000..10_000).contains(&taken), "{taken}");
        let begun = (0..1_000).take_while(|_| reception.begin(now)).count();
        assert!((2..50).contains(&begun), "{begun}");
        assert!(reception.begin(now + std::time::Duration::from_secs(1)));
    }
}
