//! What a packet says of the frame that it belongs to, in the terms that all codecs share. Read once for all receivers.

use crate::congestion::layer::{MAX_SPATIAL, MAX_TEMPORAL, Points};
use crate::rtp::{vp8, vp9};

/// Whether a packet is a point where a decoder can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The first packet of a keyframe.
    Keyframe,
    /// Any other packet.
    Delta,
    /// The codec does not mark where frames start: start anywhere.
    Anywhere,
}

/// Whom a frame lets move to a higher operating point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// It lets nobody move up.
    Nothing,
    /// Whoever could decode the temporal layer below it: it refers to nothing above that.
    Temporal,
    /// Whoever could decode the spatial layer below it: it refers to nothing but that.
    Spatial,
    /// Whoever is sent it, to any of these.
    Points(Points),
}

/// A packet's frame: one spatial layer of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// The operating points that need it.
    pub needed: Points,
    /// Whom it lets move up.
    pub opens: Opens,
    /// Whether the packet is the last one of the frame; only known where frames of several spatial layers make a picture.
    pub ends: bool,
}

impl Frame {
    /// Of a stream without layers, or of unknown ones: everybody needs it.
    pub const WHOLE: Self = Self { spatial: 0, temporal: 0, needed: Points::ALL, opens: Opens::Nothing, ends: false };

    /// A frame that all higher layers build upon.
    pub const fn layer(spatial: u8, temporal: u8) -> Self {
        Self { spatial, temporal, needed: Points::from(spatial, temporal, true), ..Self::WHOLE }
    }

    /// Of a VP8 packet (RFC 7741 section 4.2).
    pub fn vp8(descriptor: &vp8::Descriptor) -> Self {
        match descriptor.temporal {
            // Without both ids a receiver would take what is left out for lost.
            Some(t) if descriptor.picture_id.is_some() && descriptor.tl0_pic_idx.is_some() => Self {
                opens: if t.tid > 0 && t.layer_sync { Opens::Temporal } else { Opens::Nothing },
                ..Self::layer(0, t.tid)
            },
            _ => Self::WHOLE,
        }
    }

    /// Of a VP9 packet (RFC 9628 section 4.2).
    pub fn vp9(descriptor: &vp9::Descriptor) -> Self {
        let Some(layer) = descriptor.layer.filter(|_| descriptor.picture_id.is_some()) else { return Self::WHOLE };
        let (spatial, temporal) = (layer.sid.min(MAX_SPATIAL as u8 - 1), layer.tid.min(MAX_TEMPORAL as u8 - 1));
        let opens = match (layer.switching_up, temporal) {
            // Whatever follows refers to nothing before it but the base layer.
            (true, 0) => Opens::Points(Points::at_spatial(spatial)),
            (true, _) => Opens::Temporal,
            (false, _) if spatial > 0 && layer.inter_layer && !descriptor.inter_picture => Opens::Spatial,
            (false, _) => Opens::Nothing,
        };
        let needed = Points::from(spatial, temporal, !descriptor.not_referenced_above);
        Self { spatial, temporal, needed, opens, ends: descriptor.ends }
    }
}
