//! VP9 payload descriptor (RFC 9628 section 4.2).

use super::RtpError;

/// Spatial layers that a scalability structure can describe.
const MAX_SIZES: usize = 8;

/// Layer fields of the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Temporal layer, 0..=7.
    pub tid: u8,
    /// U bit: higher temporal layers may be switched to from here on.
    pub switching_up: bool,
    /// Spatial layer, 0..=7.
    pub sid: u8,
    /// D bit: predicted from the spatial layer below.
    pub inter_layer: bool,
}

/// Picture heights of the spatial layers, from low to high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heights {
    list: [u16; MAX_SIZES],
    count: usize,
}

impl Heights {
    /// The heights in pixels.
    pub fn as_slice(&self) -> &[u16] {
        self.list.get(..self.count).unwrap_or(&[])
    }
}

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// PictureID, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Whether PictureID has 15 bits on the wire.
    pub long_picture_id: bool,
    /// P bit: predicted from other pictures.
    pub inter_picture: bool,
    /// Layer indices.
    pub layer: Option<Layer>,
    /// TL0PICIDX; not in flexible mode.
    pub tl0_pic_idx: Option<u8>,
    /// B bit: first packet of a frame.
    pub begins: bool,
    /// E bit: last packet of a frame.
    pub ends: bool,
    /// Z bit: no higher spatial layer refers to the frame.
    pub not_referenced_above: bool,
    /// From the scalability structure, where there is one with heights.
    pub heights: Option<Heights>,
    /// Offset of TL0PICIDX.
    tl0_at: usize,
}

impl Descriptor {
    /// Parses the descriptor at the start of an RTP payload.
    pub fn parse(payload: &[u8]) -> Result<Self, RtpError> {
        const WHAT: RtpError = RtpError::Truncated("VP9 payload descriptor");
        let at = |i: usize| payload.get(i).copied().ok_or(WHAT);
        let first = at(0)?;
        let bit = |mask: u8| first & mask != 0;
        let (has_id, has_layer, flexible) = (bit(0x80), bit(0x20), bit(0x10));
        let mut descriptor = Self {
            picture_id: None,
            long_picture_id: false,
            inter_picture: bit(0x40),
            layer: None,
            tl0_pic_idx: None,
            begins: bit(0x08),
            ends: bit(0x04),
            not_referenced_above: bit(0x01),
            heights: None,
            tl0_at: 0,
        };
        let mut len = 1;
        if has_id {
            let high = at(len)?;
            len += 1;
            descriptor.long_picture_id = high & 0x80 != 0;
            let mut id = u16::from(high & 0x7f);
            if descriptor.long_picture_id {
                id = id << 8 | u16::from(at(len)?);
                len += 1;
            }
            descriptor.picture_id = Some(id);
        }
        if has_layer {
            let byte = at(len)?;
            len += 1;
            descriptor.layer = Some(Layer {
                tid: byte >> 5,
                switching_up: byte & 0x10 != 0,
                sid: byte >> 1 & 0x07,
                inter_layer: byte & 0x01 != 0,
            });
            if !flexible {
                descriptor.tl0_pic_idx = Some(at(len)?);
                descriptor.tl0_at = len;
                len += 1;
            }
        }
        if flexible && descriptor.inter_picture {
            // Up to three reference indices, each saying whether another one follows.
            for _ in 0..3 {
                let index = at(len)?;
                len += 1;
                if index & 0x01 == 0 {
                    break;
                }
            }
        }
        if bit(0x02) {
            descriptor.heights = heights(payload.get(len..).unwrap_or(&[]))?;
        }
        Ok(descriptor)
    }

    /// Whether the packet starts a picture that refers to no other one.
    pub fn is_keyframe_start(&self) -> bool {
        !self.inter_picture && self.begins && self.layer.is_none_or(|l| l.sid == 0)
    }

    /// Puts another PictureID (as many bits as it has) and TL0PICIDX into a copy of the payload that was parsed. A field
    /// that the payload lacks is not added.
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0_pic_idx: u8) {
        match (self.picture_id, self.long_picture_id) {
            (Some(_), true) => {
                if let Some(bytes) = payload.get_mut(1..3) {
                    bytes.copy_from_slice(&(picture_id | 0x8000).to_be_bytes());
                }
            }
            (Some(_), false) => {
                if let Some(byte) = payload.get_mut(1) {
                    *byte = (picture_id & 0x7f) as u8;
                }
            }
            (None, _) => {}
        }
        if self.tl0_pic_idx.is_some()
            && let Some(byte) = payload.get_mut(self.tl0_at)
        {
            *byte = tl0_pic_idx;
        }
    }
}

/// The heights in a scalability structure (RFC 9628 section 4.2.1).
fn heights(structure: &[u8]) -> Result<Option<Heights>, RtpError> {
    const WHAT: RtpError = RtpError::Truncated("VP9 scalability structure");
    let first = *structure.first().ok_or(WHAT)?;
    if first & 0x10 == 0 {
        return Ok(None);
    }
    let mut heights = Heights { count: usize::from(first >> 5) + 1, ..Heights::default() };
    for (height, at) in heights.list.iter_mut().take(heights.count).zip((1..).step_by(4)) {
        *height = super::u16_at(structure, at + 2).ok_or(WHAT)?;
    }
    Ok(Some(heights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_keyframe_with_a_structure() {
        // I, L, B, V; picture id 7 bits; layer byte sid 0; TL0PICIDX; structure with one layer of 320x180.
        let key = [0xaa, 0x01, 0x00, 0x05, 0x10, 0x01, 0x40, 0x00, 0xb4, 0xff];
        let d = Descriptor::parse(&key).unwrap();
        assert_eq!(d.heights.unwrap().as_slice(), [180]);
        assert!(d.is_keyframe_start());
        assert_eq!((d.picture_id, d.tl0_pic_idx), (Some(1), Some(5)));
        let mut copy = key;
        d.patch(&mut copy, 0x81, 9);
        assert_eq!(copy, [0xaa, 0x01, 0x00, 0x09, 0x10, 0x01, 0x40, 0x00, 0xb4, 0xff]);
    }

    #[test]
    fn flexible_mode_has_references_and_no_tl0() {
        // I, P, L, F, B, E, Z; 15 bits; tid 2, U, sid 1, D; two references.
        let delta = [0xfd, 0x92, 0x34, 0x53, 0x03, 0x04, 0xff];
        let d = Descriptor::parse(&delta).unwrap();
        assert_eq!(d.layer, Some(Layer { tid: 2, switching_up: true, sid: 1, inter_layer: true }));
        assert!(d.begins && d.ends && d.not_referenced_above && !d.is_keyframe_start());
        assert_eq!((d.picture_id, d.tl0_pic_idx), (Some(0x1234), None));
        let mut copy = delta;
        d.patch(&mut copy, 0x0102, 9);
        assert_eq!(copy, [0xfd, 0x81, 0x02, 0x53, 0x03, 0x04, 0xff]);
    }

    proptest! {
        #[test]
        fn patching_changes_what_it_names_and_nothing_else(
            mut payload in proptest::collection::vec(any::<u8>(), 0..60),
            id in 0u16..0x8000,
            tl0 in any::<u8>(),
        ) {
            let Ok(before) = Descriptor::parse(&payload) else { return Ok(()) };
            let original = payload.clone();
            before.patch(&mut payload, id, tl0);
            let after = Descriptor::parse(&payload).unwrap();
            let mask = if before.long_picture_id { 0x7fff } else { 0x7f };
            let expected = Descriptor {
                picture_id: before.picture_id.map(|_| id & mask),
                tl0_pic_idx: before.tl0_pic_idx.map(|_| tl0),
                ..before
            };
            prop_assert_eq!(after, expected);
            after.patch(&mut payload, before.picture_id.unwrap_or(0), before.tl0_pic_idx.unwrap_or(0));
            prop_assert_eq!(payload, original);
        }
    }
}
