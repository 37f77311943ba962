//! The one look into a payload that all receivers share: keyframe, height, VP8's picture fields.

use super::codec::Codec;
use super::projection::Entry;
use crate::rtp::keyframe::{self, KeyframeStart};
use crate::rtp::vp8;

/// What a video payload says.
#[derive(Debug, Clone, Copy)]
pub struct PayloadView {
    /// Whether a decoder can start here.
    pub entry: Entry,
    /// Height in pixels, where a keyframe tells.
    pub height: Option<u16>,
    /// VP8's descriptor.
    pub vp8: Option<vp8::Descriptor>,
}

impl PayloadView {
    /// A payload that nothing is known about.
    pub const OPAQUE: Self = Self { entry: Entry::Anywhere, height: None, vp8: None };

    /// Looks into a payload. One that does not parse is passed on as a packet that starts nothing.
    pub fn of(codec: Codec, payload: &[u8]) -> Self {
        let start = match codec {
            Codec::Vp8 => {
                let vp8 = vp8::Descriptor::parse(payload).ok();
                return Self { vp8, ..Self::starting(keyframe::vp8(payload)) };
            }
            Codec::Vp9 => keyframe::vp9(payload),
            Codec::H264 => keyframe::h264(payload),
            Codec::Av1 => keyframe::av1(payload),
            Codec::Opus | Codec::Red | Codec::Other => return Self::OPAQUE,
        };
        Self::starting(start)
    }

    fn starting(start: Option<KeyframeStart>) -> Self {
        match start {
            Some(start) => Self { entry: Entry::Keyframe, height: start.height, vp8: None },
            None => Self { entry: Entry::Delta, height: None, vp8: None },
        }
    }
}
