//! Reading transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): what became of each
//! packet, and when it arrived.

/// Bytes before the first status chunk, counted from the base sequence number.
const HEAD: usize = 8;
/// Microseconds of one delta unit.
const DELTA: i64 = 250;

/// What the receiver says of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not received so far.
    Missing,
    /// Received at this many microseconds after the packet's reference time, by the receiver's clock.
    Received(i64),
    /// Received, nobody says when: symbol 3, which the draft reserves and its second version gives this meaning.
    Untimed,
}

impl Status {
    /// Whether it arrived.
    pub fn is_received(self) -> bool {
        !matches!(self, Self::Missing)
    }

    /// When it arrived, if the feedback says so.
    pub fn arrival(self) -> Option<i64> {
        match self {
            Self::Received(at) => Some(at),
            Self::Missing | Self::Untimed => None,
        }
    }
}

/// A feedback packet whose chunks and deltas are complete.
#[derive(Debug, Clone, Copy)]
pub struct Feedback<'a> {
    base: u16,
    count: u16,
    reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Reads what follows the SSRCs. `None` when chunks or deltas are cut off.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let [b0, b1, c0, c1, r0, r1, r2, _count, ..] = *body else { return None };
        let count = u16::from_be_bytes([c0, c1]);
        let rest = body.get(HEAD..)?;
        let (mut left, mut chunks, mut delta_bytes) = (usize::from(count), 0, 0);
        while left > 0 {
            let chunk = Chunk::parse(rest.get(chunks..chunks + 2)?)?;
            let symbols = chunk.len().min(left);
            delta_bytes += (0..symbols).map(|i| delta_len(chunk.symbol(i))).sum::<usize>();
            left -= symbols;
            chunks += 2;
        }
        Some(Self {
            base: u16::from_be_bytes([b0, b1]),
            count,
            reference: u32::from_be_bytes([0, r0, r1, r2]),
            chunks: rest.get(..chunks)?,
            deltas: rest.get(chunks..chunks + delta_bytes)?,
        })
    }

    /// How many packets a feedback packet says that it speaks of.
    pub fn count(body: &[u8]) -> u32 {
        body.get(2..4).map_or(0, |count| u32::from(u16::from_be_bytes([count[0], count[1]])))
    }

    /// Reference time in units of 64 ms, 24 bits.
    pub fn reference(&self) -> u32 {
        self.reference
    }

    /// Sequence numbers in order, with what became of them.
    pub fn packets(&self) -> impl Iterator<Item = (u16, Status)> + use<'a> {
        let Self { base, count, chunks, mut deltas, .. } = *self;
        let mut at = 0i64;
        let symbols =
            chunks.chunks_exact(2).filter_map(Chunk::parse).flat_map(|c| (0..c.len()).map(move |i| c.symbol(i)));
        symbols.take(usize::from(count)).zip(0u16..).map(move |(symbol, offset)| {
            let (delta, rest) = deltas.split_at_checked(delta_len(symbol)).unwrap_or((&[], &[]));
            deltas = rest;
            let status = match (symbol, delta) {
                (0, _) => Status::Missing,
                (_, [small]) => {
                    at += i64::from(*small) * DELTA;
                    Status::Received(at)
                }
                (_, [high, low]) => {
                    at += i64::from(i16::from_be_bytes([*high, *low])) * DELTA;
                    Status::Received(at)
                }
                _ => Status::Untimed,
            };
            (base.wrapping_add(offset), status)
        })
    }
}

fn delta_len(symbol: u8) -> usize {
    match symbol {
        1 => 1,
        2 => 2,
        _ => 0,
    }
}

#[derive(Debug, Clone, Copy)]
enum Chunk {
    Run { symbol: u8, len: u16 },
    OneBit(u16),
    TwoBits(u16),
}

impl Chunk {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = u16::from_be_bytes(bytes.try_into().ok()?);
        Some(match word >> 14 {
            0b10 => Self::OneBit(word),
            0b11 => Self::TwoBits(word),
            _ => Self::Run { symbol: (word >> 13 & 3) as u8, len: word & 0x1fff },
        })
    }

    fn len(self) -> usize {
        match self {
            Self::Run { len, .. } => usize::from(len),
            Self::OneBit(_) => 14,
            Self::TwoBits(_) => 7,
        }
    }

    fn symbol(self, at: usize) -> u8 {
        match self {
            Self::Run { symbol, .. } => symbol,
            Self::OneBit(word) => (word >> (13 - at.min(13)) & 1) as u8,
            Self::TwoBits(word) => (word >> (12 - 2 * at.min(6)) & 3) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ssrc;
    use crate::rtcp::{Block, Compound, TwccRecorder};
    use proptest::prelude::*;
    use rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
        SymbolTypeTcc, TransportLayerCc,
    };
    use std::time::{Duration, Instant};
    use webrtc_util::marshal::Marshal;

    fn symbol(of: u8) -> SymbolTypeTcc {
        [
            SymbolTypeTcc::PacketNotReceived,
            SymbolTypeTcc::PacketReceivedSmallDelta,
            SymbolTypeTcc::PacketReceivedLargeDelta,
        ][usize::from(of)]
    }

    /// What another implementation writes; each item is a chunk: kind, symbols.
    fn written(chunks: &[(u8, Vec<u8>)], deltas: &[i16]) -> Vec<u8> {
        let mut packet_chunks = Vec::new();
        let (mut recv_deltas, mut all) = (Vec::new(), Vec::new());
        for (kind, symbols) in chunks {
            all.extend(symbols);
            packet_chunks.push(match kind {
                0 => PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                    type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                    packet_status_symbol: symbol(symbols[0]),
                    run_length: symbols.len() as u16,
                }),
                kind => PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                    type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                    symbol_size: if *kind == 1 { SymbolSizeTypeTcc::OneBit } else { SymbolSizeTypeTcc::TwoBit },
                    symbol_list: symbols.iter().map(|s| symbol(*s)).collect(),
                }),
            });
        }
        for (s, delta) in all.iter().filter(|s| **s != 0).zip(deltas) {
            let delta = if *s == 1 { i64::from(*delta as u8) } else { i64::from(*delta) };
            recv_deltas.push(RecvDelta { type_tcc_packet: symbol(*s), delta: delta * DELTA });
        }
        let feedback = TransportLayerCc {
            sender_ssrc: 1,
            media_ssrc: 2,
            base_sequence_number: 65_530,
            packet_status_count: all.len() as u16,
            reference_time: 0x00ab_cdef,
            fb_pkt_count: 7,
            packet_chunks,
            recv_deltas,
        };
        feedback.marshal().unwrap().to_vec()
    }

    fn body(packet: &[u8]) -> &[u8] {
        match Compound::new(packet).next() {
            Some(Block::Twcc { body }) => body,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn every_kind_of_chunk_is_read(
            chunks in proptest::collection::vec(prop_oneof![
                (Just(0u8), 0u8..3, 1usize..60).prop_map(|(k, s, n)| (k, vec![s; n])),
                (Just(1u8), proptest::collection::vec(0u8..2, 14)),
                (Just(2u8), proptest::collection::vec(0u8..3, 7)),
            ], 1..12),
            deltas in proptest::collection::vec(any::<i16>(), 720),
        ) {
            let packet = written(&chunks, &deltas);
            let feedback = Feedback::parse(body(&packet)).unwrap();
            prop_assert_eq!(feedback.reference(), 0x00ab_cdef);
            let symbols: Vec<u8> = chunks.iter().flat_map(|(_, s)| s.iter().copied()).collect();
            let read: Vec<(u16, Status)> = feedback.packets().collect();
            prop_assert_eq!(read.len(), symbols.len());
            let (mut at, mut next) = (0, deltas.iter());
            for (i, (symbol, (sequence, status))) in symbols.iter().zip(&read).enumerate() {
                prop_assert_eq!(*sequence, 65_530u16.wrapping_add(i as u16));
                let expected = match symbol {
                    0 => Status::Missing,
                    s => {
                        let delta = *next.next().unwrap();
                        at += if *s == 1 { i64::from(delta as u8) } else { i64::from(delta) } * DELTA;
                        Status::Received(at)
                    }
                };
                prop_assert_eq!(*status, expected);
            }
        }

        #[test]
        fn nothing_off_a_wire_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(feedback) = Feedback::parse(&bytes) {
                prop_assert!(feedback.packets().count() <= 0xffff);
            }
        }

        #[test]
        fn a_cut_off_packet_is_refused(cut in 1usize..40) {
            let packet = written(&[(2, vec![1, 2, 1, 0, 1, 2, 1]), (0, vec![1; 20])], &[5; 40]);
            let body = body(&packet);
            let needed = HEAD + 4 + 4 + 2 * 2 + 20;
            prop_assert!(Feedback::parse(&body[..needed]).is_some());
            prop_assert!(Feedback::parse(&body[..needed.saturating_sub(cut)]).is_none());
        }
    }

    #[test]
    fn the_reserved_symbol_is_received_without_a_time() {
        let body = [0, 9, 0, 3, 0, 0, 1, 0, 0b1101_1100, 0, 4];
        let read: Vec<_> = Feedback::parse(&body).unwrap().packets().collect();
        assert_eq!(read, [(9, Status::Received(1000)), (10, Status::Untimed), (11, Status::Missing)]);
    }

    #[test]
    fn what_our_recorder_writes_is_read() {
        let start = Instant::now();
        let mut recorder = TwccRecorder::default();
        for i in (0..300u16).filter(|i| i % 7 != 3) {
            recorder.record(start + Duration::from_millis(u64::from(i) * 3), i, false);
        }
        let mut out = [0; 1_200];
        let len = recorder.take_feedback(start + Duration::from_secs(9), Ssrc::new(1), Ssrc::new(2), &mut out).unwrap();
        let feedback = Feedback::parse(body(&out[..len])).unwrap();
        for (sequence, status) in feedback.packets() {
            match status.arrival() {
                Some(at) => assert_eq!(i64::from(feedback.reference()) * 64_000 + at, i64::from(sequence) * 3_000),
                None => assert_eq!(sequence % 7, 3),
            }
        }
    }
}
