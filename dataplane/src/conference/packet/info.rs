//! What all receivers need to know of a received packet to decide whether it is theirs, and under which numbers.

use super::frame::{Entry, Frame};
use super::picture::Picture;
use crate::negotiation::ids::FormatId;

/// A packet's sequence number, its layers and its picture numbers.
#[derive(Debug, Clone, Copy)]
pub struct PacketInfo {
    /// Simulcast encoding, from low to high.
    pub encoding: u8,
    /// Extended sequence number, discarded packets closed up.
    pub sequence: i64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Format of the payload; `None` when the stream may change formats freely (audio).
    pub format: Option<FormatId>,
    /// Whether a decoder can start here.
    pub entry: Entry,
    /// Its frame.
    pub frame: Frame,
    /// Whether it is the first packet of its frame.
    pub begins: bool,
    /// Whether it is the first packet seen of the newest picture of its encoding.
    pub first: bool,
    /// Whether it belongs to the newest picture seen of its encoding.
    pub newest: bool,
    /// Whether receivers take a missing picture id for a lost picture, so that numbers have to close up (VP8).
    pub closes_ids: bool,
    /// The codec's picture numbers.
    pub picture: Picture,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// How far the timestamps of its encoding are ahead of the first named one's, once sender reports say it.
    pub ahead: Option<u32>,
}
