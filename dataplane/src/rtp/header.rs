//! Writes RTP headers (RFC 3550 section 5.1) with a chosen set of extensions.

use super::RtpError;
use super::extension::{self, Extension};
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
    let csrc_count = csrcs.len().min(15);
    let start = FIXED_HEADER_LEN + 4 * csrc_count;
    let need = start + extension::encoded_len(extensions);
    if out.len() < need {
        return Err(RtpError::OutputTooSmall { need, have: out.len() });
    }
    let x = if extensions.is_empty() { 0 } else { 0x10 };
    out[0] = 0x80 | u8::from(fields.padding) << 5 | x | csrc_count as u8;
    out[1] = u8::from(fields.marker) << 7 | fields.payload_type.get();
    out[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
    out[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    out[8..12].copy_from_slice(&fields.ssrc.to_be_bytes());
    for (word, csrc) in out[FIXED_HEADER_LEN..start].chunks_exact_mut(4).zip(csrcs) {
        word.copy_from_slice(&csrc.to_be_bytes());
    }
    Ok(start + extension::write(extensions, &mut out[start..])?)
}
