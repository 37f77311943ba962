//! Compound and reduced-size RTCP (RFC 3550 section 6.1, RFC 5506) as an iterator over blocks.
//!
//! A block with a damaged body is reported as malformed and skipped; a damaged length ends the iteration.

use super::packet_type as pt;
use crate::ids::Ssrc;

/// Sender information of a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// NTP time, 32.32 fixed point.
    pub ntp: u64,
    /// The same instant in RTP time.
    pub rtp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// One report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source reported on.
    pub ssrc: Ssrc,
    /// Fraction lost since the last report, out of 256.
    pub fraction_lost: u8,
    /// Packets lost in all, 24 bits.
    pub lost: u32,
    /// Highest extended sequence number received.
    pub highest: u32,
    /// Interarrival jitter in RTP time.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time.
    pub last_sr: u32,
    /// Delay since that report, 1/65536 s.
    pub delay: u32,
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block<'a> {
    /// Sender report; its report blocks are in `reports`.
    SenderReport {
        /// SSRC of the sender.
        ssrc: Ssrc,
        /// Its clocks and counters.
        info: SenderInfo,
        /// Report blocks, 24 bytes each.
        reports: &'a [u8],
    },
    /// Receiver report.
    ReceiverReport {
        /// The reporter.
        ssrc: Ssrc,
        /// Report blocks, 24 bytes each.
        reports: &'a [u8],
    },
    /// Generic NACK (RFC 4585 section 6.2.1); see [`super::nack::sequences`].
    Nack {
        /// The media source.
        media: Ssrc,
        /// PID and BLP pairs, 4 bytes each.
        entries: &'a [u8],
    },
    /// Picture loss indication.
    Pli {
        /// The media source.
        media: Ssrc,
    },
    /// Full intra request; each entry is an SSRC, a sequence number and three reserved bytes.
    Fir {
        /// 8 bytes each.
        entries: &'a [u8],
    },
    /// Transport-wide feedback; see [`super::Feedback`].
    Twcc {
        /// From the base sequence number on.
        body: &'a [u8],
    },
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Bits per second.
        bitrate: u64,
    },
    /// Anything else that is well-formed: SDES, BYE, XR, APP.
    Other {
        /// Packet type.
        packet_type: u8,
    },
    /// A block whose body does not fit its type.
    Malformed,
}

/// Iterates over the blocks of a compound packet.
#[derive(Debug, Clone)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Starts at the first block.
    pub fn new(packet: &'a [u8]) -> Self {
        Self { rest: packet }
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

impl<'a> Iterator for Compound<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (first, length) = match self.rest {
            [first, _, high, low, ..] => (*first, 4 * (usize::from(u16::from_be_bytes([*high, *low])) + 1)),
            _ => {
                self.rest = &[];
                return Some(Block::Malformed);
            }
        };
        if first >> 6 != 2 || length > self.rest.len() {
            self.rest = &[];
            return Some(Block::Malformed);
        }
        let (packet, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(parse(packet).unwrap_or(Block::Malformed))
    }
}

fn parse(packet: &[u8]) -> Option<Block<'_>> {
    let (count, packet_type) = (packet[0] & 0x1f, packet[1]);
    let mut body = packet.get(4..)?;
    if packet[0] & 0x20 != 0 {
        let padding = usize::from(*body.last()?);
        body = body.get(..body.len().checked_sub(padding)?)?;
    }
    let reports = |at: usize| body.get(at..at + 24 * usize::from(count));
    Some(match (packet_type, count) {
        (pt::SR, _) => Block::SenderReport {
            ssrc: Ssrc::new(word(body, 0)?),
            info: SenderInfo {
                ntp: u64::from(word(body, 4)?) << 32 | u64::from(word(body, 8)?),
                rtp: word(body, 12)?,
                packets: word(body, 16)?,
                octets: word(body, 20)?,
            },
            reports: reports(24)?,
        },
        (pt::RR, _) => Block::ReceiverReport { ssrc: Ssrc::new(word(body, 0)?), reports: reports(4)? },
        (pt::RTPFB, 1) => {
            let entries = body.get(8..)?;
            Block::Nack { media: Ssrc::new(word(body, 4)?), entries: entries.get(..entries.len() / 4 * 4)? }
        }
        (pt::RTPFB, 15) => Block::Twcc { body: body.get(8..).filter(|body| body.len() >= 8)? },
        (pt::PSFB, 1) => Block::Pli { media: Ssrc::new(word(body, 4)?) },
        (pt::PSFB, 4) => {
            let entries = body.get(8..)?;
            Block::Fir { entries: entries.get(..entries.len() / 8 * 8)? }
        }
        (pt::PSFB, 15) => match body.get(8..) {
            Some([b'R', b'E', b'M', b'B', _, first, second, third, ..]) => {
                let exponent = u32::from(first >> 2);
                let mantissa = u64::from(first & 3) << 16 | u64::from(*second) << 8 | u64::from(*third);
                Block::Remb { bitrate: mantissa.saturating_mul(1u64.checked_shl(exponent).unwrap_or(u64::MAX)) }
            }
            _ => Block::Other { packet_type },
        },
        _ => Block::Other { packet_type },
    })
}

/// The report blocks of a sender or receiver report.
pub fn report_blocks(reports: &[u8]) -> impl Iterator<Item = ReportBlock> + '_ {
    reports.chunks_exact(24).filter_map(|block| {
        let loss = word(block, 4)?;
        Some(ReportBlock {
            ssrc: Ssrc::new(word(block, 0)?),
            fraction_lost: (loss >> 24) as u8,
            lost: loss & 0x00ff_ffff,
            highest: word(block, 8)?,
            jitter: word(block, 12)?,
            last_sr: word(block, 16)?,
            delay: word(block, 20)?,
        })
    })
}

/// The SSRCs that a FIR asks a keyframe of.
pub fn fir_targets(entries: &[u8]) -> impl Iterator<Item = Ssrc> + '_ {
    entries.chunks_exact(8).filter_map(|entry| word(entry, 0).map(Ssrc::new))
}
