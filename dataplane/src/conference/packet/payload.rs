//! The one look into a payload that all receivers share: keyframe, heights, layers, picture numbers.

use crate::conference::packet::frame::Entry;
use crate::conference::packet::frame::Frame;
use crate::congestion::layer::MAX_SPATIAL;
use crate::negotiation::formats::Codec;
use crate::rtp::keyframe::{self, KeyframeStart};
use crate::rtp::{vp8, vp9};

/// A codec's descriptor at the start of a payload, for rewriting.
#[derive(Debug, Clone, Copy)]
pub enum Descriptor {
    /// Nothing to rewrite.
    None,
    /// VP8's.
    Vp8(vp8::Descriptor),
    /// VP9's.
    Vp9(vp9::Descriptor),
}

/// What a video payload says.
#[derive(Debug, Clone, Copy)]
pub struct PayloadView {
    /// Whether a decoder can start here.
    pub entry: Entry,
    /// Heights in pixels by spatial layer, where a keyframe says it; zero elsewhere.
    pub heights: [u16; MAX_SPATIAL],
    /// Its spatial and temporal layer.
    pub frame: Frame,
    /// Whether it is the first packet of its frame, where the payload says so.
    pub begins: Option<bool>,
    /// The descriptor, for rewriting.
    pub descriptor: Descriptor,
}

impl PayloadView {
    /// A payload that nothing is known about.
    pub const OPAQUE: Self = Self {
        entry: Entry::Anywhere,
        heights: [0; MAX_SPATIAL],
        frame: Frame::WHOLE,
        begins: None,
        descriptor: Descriptor::None,
    };

    /// Looks into a payload. One that does not parse is passed on as a packet that starts nothing.
    pub fn of(codec: Codec, payload: &[u8]) -> Self {
        match codec {
            Codec::Vp8 => Self::vp8(payload),
            Codec::Vp9 => Self::vp9(payload),
            Codec::H264 => Self::starting(keyframe::h264(payload)),
            Codec::Av1 => Self::starting(keyframe::av1(payload)),
            Codec::Opus | Codec::Red | Codec::Other => Self::OPAQUE,
        }
    }

    fn vp8(payload: &[u8]) -> Self {
        let Ok(vp8) = vp8::Descriptor::parse(payload) else { return Self::starting(None) };
        let start = vp8
            .is_keyframe_start(payload)
            .then(|| KeyframeStart { height: vp8.keyframe_size(payload).map(|(_, height)| height) });
        Self {
            frame: Frame::vp8(&vp8),
            begins: Some(vp8.frame_start()),
            descriptor: Descriptor::Vp8(vp8),
            ..Self::starting(start)
        }
    }

    fn vp9(payload: &[u8]) -> Self {
        let Ok(vp9) = vp9::Descriptor::parse(payload) else { return Self::starting(None) };
        let mut view = Self {
            frame: Frame::vp9(&vp9),
            begins: Some(vp9.begins),
            descriptor: Descriptor::Vp9(vp9),
            ..Self::starting(vp9.is_keyframe_start().then(KeyframeStart::default))
        };
        if let Some(known) = &vp9.heights {
            view.heights.iter_mut().zip(known.as_slice()).for_each(|(height, known)| *height = *known);
        }
        view
    }

    fn starting(start: Option<KeyframeStart>) -> Self {
        let (entry, height) = match start {
            Some(start) => (Entry::Keyframe, start.height),
            None => (Entry::Delta, None),
        };
        let mut heights = [0; MAX_SPATIAL];
        heights[0] = height.unwrap_or(0);
        Self { entry, heights, ..Self::OPAQUE }
    }
}
