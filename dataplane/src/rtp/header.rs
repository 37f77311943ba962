//! Writes RTP headers (RFC 3550 section 5.1) with a chosen set of extensions.

use super::RtpError;
use super::extension::{self, BlockSize, Extension};
use super::packet::FIXED_HEADER_LEN;
use crate::ids::{PayloadType, Ssrc};

/// The fixed header's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFields {
    /// The P bit; the caller writes the padding itself.
    pub padding: bool,
    /// The M bit.
    pub marker: bool,
    /// What the payload is, in the receiver's numbers.
    pub payload_type: PayloadType,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in units of the codec's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: Ssrc,
}

/// Writes a header and returns its length. More than 15 contributing sources are cut to 15.
pub fn write(
    fields: &HeaderFields,
    csrcs: impl ExactSizeIterator<Item = Ssrc>,
    extensions: &[Extension<'_>],
    out: &mut [u8],
) -> Result<usize, RtpError> {
    write_sized(fields, csrcs, (BlockSize::of(extensions), extensions.iter().copied()), out)
}

/// The same with extensions that were counted before.
#[inline]
pub fn write_sized<'a>(
    fields: &HeaderFields,
    csrcs: impl ExactSizeIterator<Item = Ssrc>,
    (size, extensions): (BlockSize, impl Iterator<Item = Extension<'a>>),
    out: &mut [u8],
) -> Result<usize, RtpError> {
    let csrc_count = csrcs.len().min(15);
    let start = FIXED_HEADER_LEN + 4 * csrc_count;
    let (need, have) = (start + size.bytes(), out.len());
    let too_small = RtpError::OutputTooSmall { need, have };
    let (fixed, rest) = out.get_mut(..need).and_then(<[u8]>::split_first_chunk_mut).ok_or(too_small)?;
    let x = if size.bytes() == 0 { 0 } else { 0x10 };
    let first = 0x80 | u8::from(fields.padding) << 5 | x | csrc_count as u8;
    let second = u8::from(fields.marker) << 7 | fields.payload_type.get();
    let [s0, s1] = fields.sequence.to_be_bytes();
    let [t0, t1, t2, t3] = fields.timestamp.to_be_bytes();
    let [c0, c1, c2, c3] = fields.ssrc.to_be_bytes();
    let written: [u8; FIXED_HEADER_LEN] = [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
    *fixed = written;
    let (words, block) = rest.split_at_mut_checked(4 * csrc_count).ok_or(too_small)?;
    for (word, csrc) in words.chunks_exact_mut(4).zip(csrcs) {
        word.copy_from_slice(&csrc.to_be_bytes());
    }
    Ok(start + extension::write_sized(size, extensions, block)?)
}
