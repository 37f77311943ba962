//! Views over RTP packets and codec payloads, and the writer of outgoing headers. Nothing here owns a packet.
//!
//! Every parser takes bytes that came off a wire: lengths are checked, errors are plain values, nothing allocates.

pub mod audio_level;
pub mod dependency;
pub mod extension;
pub mod header;
pub mod keyframe;
mod packet;
pub mod red;
pub mod rtx;
pub mod sps;
pub mod twcc;
pub mod vp8;
pub mod vp9;

pub use extension::{Extension, Extensions};
pub use header::HeaderFields;
pub use packet::{Layout, Packet};

/// Why bytes are not the RTP thing that they should be, or why one could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// The bytes end inside the named part.
    #[error("{0} is cut off: drop the packet")]
    Truncated(&'static str),
    /// The version field is not 2.
    #[error("RTP version is {0}, not 2: drop the packet")]
    Version(u8),
    /// The padding count is zero or larger than the payload.
    #[error("RTP padding count {0} does not fit the payload: drop the packet")]
    Padding(u8),
    /// A field has a value that its specification forbids.
    #[error("{0} has a forbidden value: drop the packet")]
    Invalid(&'static str),
    /// The output slice is too small.
    #[error("output of {have} bytes is too small for {need}: pass a larger slice")]
    OutputTooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// A header extension cannot be encoded: id 0, more than 255 bytes, or too many in all.
    #[error("header extension {0} cannot be encoded: ids are 1..=255, values at most 255 bytes")]
    Extension(u8),
}

/// Reads a big-endian `u16`.
#[inline]
pub(crate) fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}

/// Reads a big-endian `u32`.
#[inline]
pub(crate) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}
