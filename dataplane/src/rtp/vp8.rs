//! VP8 payload descriptor (RFC 7741 section 4.2) and keyframe header (RFC 6386 section 9.1).

use super::RtpError;

/// Temporal layer fields of the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temporal {
    /// Temporal layer, 0..=3.
    pub tid: u8,
    /// Y bit: the frame depends on the base layer only.
    pub layer_sync: bool,
}

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// N bit: no other frame refers to this one.
    pub non_reference: bool,
    /// S bit: the packet starts a VP8 partition.
    pub partition_start: bool,
    /// PID: partition index, 0..=7.
    pub partition: u8,
    /// PictureID, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Whether PictureID has 15 bits on the wire.
    pub long_picture_id: bool,
    /// TL0PICIDX.
    pub tl0_pic_idx: Option<u8>,
    /// TID and Y.
    pub temporal: Option<Temporal>,
    /// KEYIDX, 0..=31.
    pub key_idx: Option<u8>,
    /// Bytes of the descriptor.
    pub len: usize,
}

impl Descriptor {
    /// Parses the descriptor at the start of an RTP payload.
    pub fn parse(payload: &[u8]) -> Result<Self, RtpError> {
        const WHAT: RtpError = RtpError::Truncated("VP8 payload descriptor");
        let at = |i: usize| payload.get(i).copied().ok_or(WHAT);
        let first = at(0)?;
        let mut descriptor = Self {
            non_reference: first & 0x20 != 0,
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            picture_id: None,
            long_picture_id: false,
            tl0_pic_idx: None,
            temporal: None,
            key_idx: None,
            len: 1,
        };
        if first & 0x80 == 0 {
            return Ok(descriptor);
        }
        let flags = at(1)?;
        let mut len = 2;
        if flags & 0x80 != 0 {
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
        if flags & 0x40 != 0 {
            descriptor.tl0_pic_idx = Some(at(len)?);
            len += 1;
        }
        if flags & 0x30 != 0 {
            let byte = at(len)?;
            len += 1;
            if flags & 0x20 != 0 {
                descriptor.temporal = Some(Temporal { tid: byte >> 6, layer_sync: byte & 0x20 != 0 });
            }
            if flags & 0x10 != 0 {
                descriptor.key_idx = Some(byte & 0x1f);
            }
        }
        descriptor.len = len;
        Ok(descriptor)
    }

    /// Whether the packet starts a frame.
    pub fn frame_start(&self) -> bool {
        self.partition_start && self.partition == 0
    }

    /// Whether the packet is the first of a keyframe; `payload` is the one that was parsed.
    pub fn is_keyframe_start(&self, payload: &[u8]) -> bool {
        self.frame_start() && payload.get(self.len).is_some_and(|b| b & 0x01 == 0)
    }

    /// Width and height in pixels from the keyframe header, when the packet is the first of a keyframe.
    pub fn keyframe_size(&self, payload: &[u8]) -> Option<(u16, u16)> {
        if !self.is_keyframe_start(payload) {
            return None;
        }
        // 3 bytes of frame tag, the start code, then width and height with 2 bits of scaling each, little-endian.
        match *payload.get(self.len + 3..self.len + 10)? {
            [0x9d, 0x01, 0x2a, w0, w1, h0, h1] => {
                Some((u16::from_le_bytes([w0, w1]) & 0x3fff, u16::from_le_bytes([h0, h1]) & 0x3fff))
            }
            _ => None,
        }
    }

    /// Copies `payload` into `out` with another PictureID (15-bit form, modulo 2^15) and TL0PICIDX, returning the new
    /// length: one byte longer when PictureID had 7 bits. A field that the payload lacks is not added.
    pub fn rewrite(&self, payload: &[u8], picture_id: u16, tl0_pic_idx: u8, out: &mut [u8]) -> Result<usize, RtpError> {
        if payload.len() < self.len {
            return Err(RtpError::Truncated("VP8 payload"));
        }
        let grow = usize::from(self.picture_id.is_some() && !self.long_picture_id);
        let need = payload.len() + grow;
        let have = out.len();
        let out = out.get_mut(..need).ok_or(RtpError::OutputTooSmall { need, have })?;
        // All in one copy, a byte further on where the picture id grows: what stands before that is written below.
        out.get_mut(grow..).unwrap_or(&mut []).copy_from_slice(payload);
        if self.picture_id.is_some()
            && let ([first, second, ..], Some(head)) = (payload, out.first_chunk_mut::<4>())
        {
            let [high, low] = (picture_id | 0x8000).to_be_bytes();
            *head = [*first, *second, high, low];
        }
        let tl0_at = if self.picture_id.is_some() { 4 } else { 2 };
        if let Some(tl0) = out.get_mut(tl0_at).filter(|_| self.tl0_pic_idx.is_some()) {
            *tl0 = tl0_pic_idx;
        }
        Ok(need)
    }
}
