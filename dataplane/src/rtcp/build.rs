//! Writers for the RTCP packets that the bridge originates. Each appends one packet at the start of a slice and returns
//! its length, or `None` when the slice is too short.

use super::compound::{ReportBlock, SenderInfo};
use super::{nack, packet_type as pt};
use crate::ids::Ssrc;

fn header(out: &mut [u8], count: u8, packet_type: u8, len: usize) -> Option<&mut [u8]> {
    let packet = out.get_mut(..len)?;
    packet[0] = 0x80 | count;
    packet[1] = packet_type;
    packet[2..4].copy_from_slice(&u16::try_from(len / 4 - 1).ok()?.to_be_bytes());
    Some(packet)
}

fn put(packet: &mut [u8], at: usize, value: u32) {
    packet[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Sender report without report blocks, 28 bytes.
pub fn sender_report(ssrc: Ssrc, info: &SenderInfo, out: &mut [u8]) -> Option<usize> {
    let packet = header(out, 0, pt::SR, 28)?;
    put(packet, 4, ssrc.get());
    packet[8..16].copy_from_slice(&info.ntp.to_be_bytes());
    put(packet, 16, info.rtp);
    put(packet, 20, info.packets);
    put(packet, 24, info.octets);
    Some(28)
}

/// Receiver report with up to 31 blocks.
pub fn receiver_report(ssrc: Ssrc, blocks: &[ReportBlock], out: &mut [u8]) -> Option<usize> {
    let blocks = &blocks[..blocks.len().min(31)];
    let len = 8 + 24 * blocks.len();
    let packet = header(out, blocks.len() as u8, pt::RR, len)?;
    put(packet, 4, ssrc.get());
    for (block, at) in blocks.iter().zip((8..).step_by(24)) {
        put(packet, at, block.ssrc.get());
        put(packet, at + 4, u32::from(block.fraction_lost) << 24 | (block.lost & 0x00ff_ffff));
        put(packet, at + 8, block.highest);
        put(packet, at + 12, block.jitter);
        put(packet, at + 16, block.last_sr);
        put(packet, at + 20, block.delay);
    }
    Some(len)
}

/// Picture loss indication, 12 bytes.
pub fn pli(sender: Ssrc, media: Ssrc, out: &mut [u8]) -> Option<usize> {
    let packet = header(out, 1, pt::PSFB, 12)?;
    put(packet, 4, sender.get());
    put(packet, 8, media.get());
    Some(12)
}

/// Full intra request for one source, 20 bytes (RFC 5104 section 4.3.1).
pub fn fir(sender: Ssrc, media: Ssrc, sequence: u8, out: &mut [u8]) -> Option<usize> {
    let packet = header(out, 4, pt::PSFB, 20)?;
    put(packet, 4, sender.get());
    put(packet, 8, 0);
    put(packet, 12, media.get());
    put(packet, 16, u32::from(sequence) << 24);
    Some(20)
}

/// Generic NACK for ascending sequence numbers.
pub fn nack(sender: Ssrc, media: Ssrc, missing: &[u16], out: &mut [u8]) -> Option<usize> {
    let room = out.len().min(512);
    let entries = nack::write_entries(missing, out.get_mut(12..room)?);
    let packet = header(out, 1, pt::RTPFB, 12 + entries)?;
    put(packet, 4, sender.get());
    put(packet, 8, media.get());
    Some(12 + entries)
}
