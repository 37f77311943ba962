//! What a packet says of the frame that it belongs to, in the terms that all codecs share. Read once for all receivers.

use crate::congestion::layer::Points;
use crate::rtp::vp8;

/// A packet's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// The operating points that need it.
    pub needed: Points,
}

impl Frame {
    /// Of a stream without layers, or of unknown ones: everybody needs it.
    pub const WHOLE: Self = Self { spatial: 0, temporal: 0, needed: Points::ALL };

    /// A frame that all higher layers build upon.
    pub const fn layer(spatial: u8, temporal: u8) -> Self {
        Self { spatial, temporal, needed: Points::from(spatial, temporal, true) }
    }

    /// Of a VP8 packet (RFC 7741 section 4.2).
    pub fn vp8(descriptor: &vp8::Descriptor) -> Self {
        // Without both ids a receiver could not be told that frames are missing on purpose.
        match descriptor.temporal {
            Some(t) if descriptor.picture_id.is_some() && descriptor.tl0_pic_idx.is_some() => Self::layer(0, t.tid),
            _ => Self::WHOLE,
        }
    }
}
