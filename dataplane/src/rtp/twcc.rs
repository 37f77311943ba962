//! Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).

use super::u16_at;

/// Reads the extension's value.
pub fn parse(data: &[u8]) -> Option<u16> {
    u16_at(data, 0)
}

/// The extension's value.
pub fn encode(sequence: u16) -> [u8; 2] {
    sequence.to_be_bytes()
}
