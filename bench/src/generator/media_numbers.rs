//! The payload types and extension ids that a participant negotiated.

use crate::media::Codec;

/// One participant's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    vp8: u8,
    vp9: u8,
    av1: u8,
    h264: u8,
    opus: u8,
    /// Header extension `sdes:mid`.
    pub mid: u8,
    /// Header extension `ssrc-audio-level`.
    pub level: u8,
}

impl Numbers {
    /// What most participants have.
    pub const USUAL: Self = Self { vp8: 96, vp9: 98, av1: 45, h264: 102, opus: 111, mid: 1, level: 2 };
    /// What the others have, so that a bridge that translates has something to translate.
    pub const OTHER: Self = Self { vp8: 100, vp9: 101, av1: 41, h264: 107, opus: 109, mid: 4, level: 5 };

    /// The payload type of a codec.
    pub const fn payload_type(&self, codec: Codec) -> u8 {
        match codec {
            Codec::Vp8 => self.vp8,
            Codec::Vp9 => self.vp9,
            Codec::Av1 => self.av1,
            Codec::H264 => self.h264,
            Codec::Opus => self.opus,
        }
    }
}
