//! Zero-copy view of one RTP packet (RFC 3550 section 5.1).

use crate::ids::{PayloadType, Ssrc};
use std::ops::Range;

use super::extension::Extensions;
use super::{RtpError, u16_at, u32_at};

/// Bytes of the fixed header.
pub const FIXED_HEADER_LEN: usize = 12;

/// Where the parts of a packet lie, apart from its bytes: what is parsed once need not be parsed again, wherever the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Profile and range of the extension block's body.
    extension: Option<(u16, usize, usize)>,
    header_len: usize,
    padding_len: u8,
}

impl Layout {
    /// Bytes of fixed header, contributing sources and header extensions.
    #[inline]
    pub fn header_len(self) -> usize {
        self.header_len
    }

    /// The same of a packet whose padding was cut.
    #[must_use]
    pub fn without_padding(self) -> Self {
        Self { padding_len: 0, ..self }
    }
}

/// One RTP packet whose lengths have been checked.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    data: &'a [u8],
    layout: Layout,
}

impl<'a> Packet<'a> {
    /// Checks a plaintext packet, padding included.
    pub fn parse(data: &'a [u8]) -> Result<Self, RtpError> {
        let sealed = Self::parse_sealed(data)?;
        Self::opened(data, sealed.layout)
    }

    /// Checks the plaintext of a packet whose header was checked while it was sealed: what is left is the padding.
    #[inline]
    pub fn opened(data: &'a [u8], sealed: Layout) -> Result<Self, RtpError> {
        let mut packet = Self::with_layout(data, sealed).ok_or(RtpError::Truncated("RTP payload"))?;
        if packet.has_padding() {
            let count = data.last().copied().unwrap_or(0);
            if count == 0 || usize::from(count) > data.len() - packet.layout.header_len {
                return Err(RtpError::Padding(count));
            }
            packet.layout.padding_len = count;
        }
        Ok(packet)
    }

    /// The bytes of a packet that was parsed before, perhaps elsewhere. `None` when they are too short to be those.
    #[inline]
    pub fn with_layout(data: &'a [u8], layout: Layout) -> Option<Self> {
        let whole = data.len() >= layout.header_len + usize::from(layout.padding_len);
        (whole && data.len() >= FIXED_HEADER_LEN).then_some(Self { data, layout })
    }

    /// Where its parts lie.
    #[inline]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Where a part of it lies, such as an extension's value.
    #[inline]
    pub fn offset_of(&self, part: &[u8]) -> Option<usize> {
        let offset = part.as_ptr().addr().checked_sub(self.data.as_ptr().addr())?;
        (offset + part.len() <= self.data.len()).then_some(offset)
    }

    /// Checks the header of a packet that is still encrypted: padding is not read, the payload is all the rest,
    /// authentication tag included.
    pub fn parse_sealed(data: &'a [u8]) -> Result<Self, RtpError> {
        if data.len() < FIXED_HEADER_LEN {
            return Err(RtpError::Truncated("RTP fixed header"));
        }
        let version = data[0] >> 6;
        if version != 2 {
            return Err(RtpError::Version(version));
        }
        let mut header_len = FIXED_HEADER_LEN + 4 * usize::from(data[0] & 0x0f);
        if data.len() < header_len {
            return Err(RtpError::Truncated("RTP contributing sources"));
        }
        let mut extension = None;
        if data[0] & 0x10 != 0 {
            let profile = u16_at(data, header_len).ok_or(RtpError::Truncated("RTP header extension"))?;
            let words = u16_at(data, header_len + 2).ok_or(RtpError::Truncated("RTP header extension"))?;
            let start = header_len + 4;
            let end = start + 4 * usize::from(words);
            if data.len() < end {
                return Err(RtpError::Truncated("RTP header extension"));
            }
            extension = Some((profile, start, end));
            header_len = end;
        }
        Ok(Self { data, layout: Layout { extension, header_len, padding_len: 0 } })
    }

    /// The whole packet.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.data
    }

    /// The P bit.
    #[inline]
    pub fn has_padding(&self) -> bool {
        self.data[0] & 0x20 != 0
    }

    /// The M bit.
    #[inline]
    pub fn marker(&self) -> bool {
        self.data[1] & 0x80 != 0
    }

    /// The payload type.
    #[inline]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType::from_low_bits(self.data[1])
    }

    /// The sequence number.
    #[inline]
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.data[2], self.data[3]])
    }

    /// The timestamp in units of the codec's clock.
    #[inline]
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.data[4], self.data[5], self.data[6], self.data[7]])
    }

    /// The synchronisation source.
    #[inline]
    pub fn ssrc(&self) -> Ssrc {
        Ssrc::from_be_bytes([self.data[8], self.data[9], self.data[10], self.data[11]])
    }

    /// The contributing sources in order, at most 15.
    pub fn csrcs(&self) -> impl ExactSizeIterator<Item = Ssrc> + use<'a> {
        let data = self.data;
        (0..usize::from(data[0] & 0x0f)).map(move |i| Ssrc::new(u32_at(data, FIXED_HEADER_LEN + 4 * i).unwrap_or(0)))
    }

    /// The header extensions, one- or two-byte form; empty when there are none or their profile is another.
    #[inline]
    pub fn extensions(&self) -> Extensions<'a> {
        match self.layout.extension {
            Some((profile, start, end)) => Extensions::new(profile, &self.data[start..end]),
            None => Extensions::new(0, &[]),
        }
    }

    /// The first extension with this id.
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions().find(|e| e.id == id).map(|e| e.data)
    }

    /// Bytes of fixed header, contributing sources and header extensions.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.layout.header_len
    }

    /// Bytes of padding at the end, the count byte included.
    #[inline]
    pub fn padding_len(&self) -> usize {
        usize::from(self.layout.padding_len)
    }

    /// Where the payload lies, without padding.
    #[inline]
    pub fn payload_range(&self) -> Range<usize> {
        self.layout.header_len..self.data.len() - self.padding_len()
    }

    /// The payload, without padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.data[self.payload_range()]
    }
}
