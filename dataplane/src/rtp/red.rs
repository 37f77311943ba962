//! Redundant audio (RFC 2198): block headers, the primary block, payload types inside.

use super::RtpError;
use crate::ids::PayloadType;

const HEADER_LEN: usize = 4;
/// Blocks of one packet, a few times what anybody sends: every receiver's numbers are looked up for each.
const MAX_BLOCKS: usize = 32;

/// One block of a RED payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedBlock<'a> {
    /// Payload type of the block's codec.
    pub payload_type: PayloadType,
    /// How much older than the packet's timestamp it is; zero for the primary block.
    pub timestamp_offset: u16,
    /// Whether it is the primary block, which is always the last.
    pub primary: bool,
    /// The encoded audio.
    pub data: &'a [u8],
}

/// Iterates over the blocks of a payload whose lengths have been checked; oldest first, primary last.
#[derive(Debug, Clone)]
pub struct RedBlocks<'a> {
    headers: &'a [u8],
    data: &'a [u8],
}

/// Checks all block headers against the payload's length.
pub fn blocks(payload: &[u8]) -> Result<RedBlocks<'_>, RtpError> {
    let mut at = 0;
    let mut redundant = 0;
    loop {
        let first = *payload.get(at).ok_or(RtpError::Truncated("RED block header"))?;
        if first & 0x80 == 0 {
            at += 1;
            break;
        }
        let header = payload.get(at..at + HEADER_LEN).ok_or(RtpError::Truncated("RED block header"))?;
        redundant += block_len(header);
        at += HEADER_LEN;
        if at >= MAX_BLOCKS * HEADER_LEN {
            return Err(RtpError::Invalid("RED block count"));
        }
    }
    let (headers, data) = payload.split_at(at);
    if redundant > data.len() {
        return Err(RtpError::Truncated("RED block"));
    }
    Ok(RedBlocks { headers, data })
}

fn block_len(header: &[u8]) -> usize {
    match header {
        [_, _, high, low] => usize::from(high & 0x03) << 8 | usize::from(*low),
        _ => 0,
    }
}

impl<'a> Iterator for RedBlocks<'a> {
    type Item = RedBlock<'a>;

    fn next(&mut self) -> Option<RedBlock<'a>> {
        let first = *self.headers.first()?;
        let payload_type = PayloadType::from_low_bits(first);
        if first & 0x80 == 0 {
            self.headers = &[];
            let data = std::mem::take(&mut self.data);
            return Some(RedBlock { payload_type, timestamp_offset: 0, primary: true, data });
        }
        let (header, headers) = self.headers.split_at_checked(HEADER_LEN)?;
        let (data, rest) = self.data.split_at_checked(block_len(header))?;
        self.headers = headers;
        self.data = rest;
        let timestamp_offset = u16::from(header[1]) << 6 | u16::from(header[2]) >> 2;
        Some(RedBlock { payload_type, timestamp_offset, primary: false, data })
    }
}

/// The primary block: what a receiver without RED is sent.
pub fn primary(payload: &[u8]) -> Result<RedBlock<'_>, RtpError> {
    blocks(payload)?.last().ok_or(RtpError::Truncated("RED block header"))
}

/// Replaces the payload type of every block in place. On error, or when `map` knows no number for a block,
/// the payload is left as it was.
pub fn patch_payload_types(
    payload: &mut [u8],
    map: impl Fn(PayloadType) -> Option<PayloadType>,
) -> Result<(), RtpError> {
    for block in blocks(payload)? {
        map(block.payload_type).ok_or(RtpError::Invalid("RED block payload type"))?;
    }
    let mut at = 0;
    while let Some(byte) = payload.get_mut(at) {
        let follow = *byte & 0x80;
        let number = PayloadType::from_low_bits(*byte);
        *byte = follow | map(number).unwrap_or(number).get();
        if follow == 0 {
            break;
        }
        at += HEADER_LEN;
    }
    Ok(())
}
