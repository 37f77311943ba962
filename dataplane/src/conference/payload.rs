//! The one look into a payload that all receivers share: keyframe, height, VP8's picture fields.

use super::codec::Codec;
use super::frame::Frame;
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
    /// Its place among the layers.
    pub frame: Frame,
    /// Whether it is the first packet of its frame, where the payload says so.
    pub begins: Option<bool>,
    /// VP8's descriptor.
    pub vp8: Option<vp8::Descriptor>,
}

impl PayloadView {
    /// A payload that nothing is known about.
    pub const OPAQUE: Self =
        Self { entry: Entry::Anywhere, height: None, frame: Frame::WHOLE, begins: None, vp8: None };

    /// Looks into a payload. One that does not parse is passed on as a packet that starts nothing.
    pub fn of(codec: Codec, payload: &[u8]) -> Self {
        let start = match codec {
            Codec::Vp8 => {
                let Ok(vp8) = vp8::Descriptor::parse(payload) else { return Self::starting(None) };
                let start =
                    vp8.is_keyframe_start(payload).then(|| vp8.keyframe_size(payload).map(|(_, height)| height));
                return Self {
                    frame: Frame::vp8(&vp8),
                    begins: Some(vp8.frame_start()),
                    vp8: Some(vp8),
                    ..Self::starting(start.map(|height| KeyframeStart { height }))
                };
            }
            Codec::Vp9 => keyframe::vp9(payload),
            Codec::H264 => keyframe::h264(payload),
            Codec::Av1 => keyframe::av1(payload),
            Codec::Opus | Codec::Red | Codec::Other => return Self::OPAQUE,
        };
        Self::starting(start)
    }

    fn starting(start: Option<KeyframeStart>) -> Self {
        let (entry, height) = match start {
            Some(start) => (Entry::Keyframe, start.height),
            None => (Entry::Delta, None),
        };
        Self { entry, height, ..Self::OPAQUE }
    }
}
