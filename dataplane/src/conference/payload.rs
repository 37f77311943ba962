//! The one look into a payload that all receivers share: keyframe, height, VP8's picture fields.

use super::codec::Codec;
use super::extension_map::{ReceivedExtensions, UriId};
use super::projection::Entry;
use crate::rtp::{av1, dependency, h264, vp8, vp9};

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
    pub fn of(codec: Codec, payload: &[u8], extensions: &ReceivedExtensions<'_>) -> Self {
        let delta = Self { entry: Entry::Delta, height: None, vp8: None };
        match codec {
            Codec::Vp8 => match vp8::Descriptor::parse(payload) {
                Ok(d) => {
                    let entry = entry(d.is_keyframe_start(payload));
                    Self { entry, height: d.keyframe_size(payload).map(|(_, h)| h), vp8: Some(d) }
                }
                Err(_) => delta,
            },
            Codec::Vp9 => match vp9::Descriptor::parse(payload) {
                Ok(d) => Self { entry: entry(d.is_keyframe_start()), height: d.height(), vp8: None },
                Err(_) => delta,
            },
            Codec::H264 => Self { entry: entry(h264::is_keyframe_start(payload)), height: None, vp8: None },
            Codec::Av1 => {
                let start = match extensions.get(UriId::DEPENDENCY_DESCRIPTOR) {
                    Some(data) => dependency::starts_structure(data),
                    None => av1::is_keyframe_start(payload),
                };
                Self { entry: entry(start), height: None, vp8: None }
            }
            Codec::Opus | Codec::Red | Codec::Other => Self::OPAQUE,
        }
    }
}

fn entry(keyframe: bool) -> Entry {
    if keyframe { Entry::Keyframe } else { Entry::Delta }
}
