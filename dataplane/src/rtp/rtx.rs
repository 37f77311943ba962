//! Retransmission payload format (RFC 4588): two bytes of original sequence number before the original payload.

use super::u16_at;

/// Bytes of the original sequence number.
pub const OSN_LEN: usize = 2;

/// The original sequence number and payload; `None` for padding probes, which carry neither.
pub fn parse(payload: &[u8]) -> Option<(u16, &[u8])> {
    Some((u16_at(payload, 0)?, payload.get(OSN_LEN..)?))
}

/// Writes the original sequence number at the start of an RTX payload; false when `out` is too short.
pub fn write(original: u16, out: &mut [u8]) -> bool {
    match out.get_mut(..OSN_LEN) {
        Some(osn) => {
            osn.copy_from_slice(&original.to_be_bytes());
            true
        }
        None => false,
    }
}
