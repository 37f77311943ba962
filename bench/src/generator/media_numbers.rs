//! The payload types and extension ids that a participant negotiated.

use ringbridge_dataplane::ids::PayloadType;

use crate::media::Codec;

const fn number(number: u8) -> PayloadType {
    PayloadType::from_low_bits(number)
}

/// One participant's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    vp8: PayloadType,
    vp9: PayloadType,
    av1: PayloadType,
    h264: PayloadType,
    opus: PayloadType,
    /// Header extension `sdes:mid`.
    pub mid: u8,
    /// Header extension `ssrc-audio-level`.
    pub level: u8,
}

impl Numbers {
    /// What most participants have.
    pub const USUAL: Self = Self {
        vp8: number(96),
        vp9: number(98),
        av1: number(45),
        h264: number(102),
        opus: number(111),
        mid: 1,
        level: 2,
    };
    /// What the others have, so that a bridge that translates has something to translate.
    pub const OTHER: Self = Self {
        vp8: number(100),
        vp9: number(101),
        av1: number(41),
        h264: number(107),
        opus: number(109),
        mid: 4,
        level: 5,
    };

    /// The payload type of a codec.
    pub const fn payload_type(&self, codec: Codec) -> PayloadType {
        match codec {
            Codec::Vp8 => self.vp8,
            Codec::Vp9 => self.vp9,
            Codec::Av1 => self.av1,
            Codec::H264 => self.h264,
            Codec::Opus => self.opus,
        }
    }
}
