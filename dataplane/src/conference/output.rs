//! Writes one packet for one receiver: header under its numbers, payload, seal.

use super::extension_map::{AUDIO_LEVEL, ExtensionMap, Meaning};
use super::format::{CodecIndex, CodecKind, FormatTable};
use super::projection::Outgoing;
use crate::io::MAX_DATAGRAM;
use crate::rtp::extension::Extension;
use crate::rtp::{self, HeaderFields, Packet, header, red, vp8};
use crate::srtp::{MAX_OVERHEAD, Sealer};

/// Extensions of one packet that are looked at.
const MAX_EXTENSIONS: usize = 16;

/// A plain packet with everything about it that does not depend on the receiver.
pub struct PlainPacket<'a> {
    /// The packet.
    pub rtp: Packet<'a>,
    /// What it carries.
    pub codec: CodecIndex,
    /// Which payload view applies.
    pub kind: CodecKind,
    /// VP8's payload descriptor.
    pub vp8: Option<vp8::Descriptor>,
    extensions: [(Meaning, Extension<'a>); MAX_EXTENSIONS],
    extension_count: usize,
}

impl<'a> PlainPacket<'a> {
    /// Reads what receivers have in common; `map` is the sender's.
    pub fn new(rtp: Packet<'a>, codec: CodecIndex, kind: CodecKind, map: &ExtensionMap) -> Self {
        let mut extensions = [(Meaning::Dropped, Extension { id: 0, data: &[][..] }); MAX_EXTENSIONS];
        let mut extension_count = 0;
        for extension in rtp.extensions() {
            let meaning = map.meaning(extension.id);
            if matches!(meaning, Meaning::AudioLevel | Meaning::Forwarded(_)) && extension_count < MAX_EXTENSIONS {
                extensions[extension_count] = (meaning, extension);
                extension_count += 1;
            }
        }
        let vp8 = (kind == CodecKind::Vp8).then(|| vp8::Descriptor::parse(rtp.payload()).ok()).flatten();
        Self { rtp, codec, kind, vp8, extensions, extension_count }
    }

    /// Picture id and TL0PICIDX as far as both matter to a projection.
    pub fn vp8_numbers(&self) -> Option<(u16, u8)> {
        let descriptor = self.vp8?;
        Some((descriptor.picture_id?, descriptor.tl0_pic_idx.unwrap_or(0)))
    }
}

/// A receiver's side of a packet.
pub struct Target<'a> {
    /// Its payload types.
    pub formats: &'a FormatTable,
    /// Its header extensions.
    pub extensions: &'a ExtensionMap,
    /// Its keys.
    pub sealer: &'a Sealer,
    /// SSRC that it knows the source by.
    pub ssrc: u32,
    /// Its transport-wide number for this packet, if it negotiated that.
    pub transport_cc: Option<u16>,
    /// Whether numbers are translated; off only to prove that the end-to-end check can fail.
    pub rewrite: bool,
}

/// A retransmission over RTX (RFC 4588).
#[derive(Debug, Clone, Copy)]
pub struct Rtx {
    /// SSRC of the retransmission stream.
    pub ssrc: u32,
    /// Extended sequence number there.
    pub index: u64,
    /// Payload type of retransmissions.
    pub payload_type: u8,
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// The receiver did not negotiate the codec.
    LacksCodec,
    /// The packet does not fit its own format, or grew beyond a datagram.
    Malformed,
}

impl Target<'_> {
    /// The receiver's payload type for a packet, and whether RED has to be taken off.
    pub fn payload_type(&self, packet: &PlainPacket<'_>, sender: &FormatTable) -> Result<(u8, bool), WriteError> {
        if !self.rewrite {
            return Ok((packet.rtp.payload_type(), false));
        }
        if let Some(number) = self.formats.output(packet.codec) {
            return Ok((number, false));
        }
        if packet.kind != CodecKind::Red {
            return Err(WriteError::LacksCodec);
        }
        let primary = red::primary(packet.rtp.payload()).map_err(|_| WriteError::Malformed)?;
        let codec = sender.media(primary.payload_type).ok_or(WriteError::Malformed)?;
        self.formats.output(codec).map(|number| (number, true)).ok_or(WriteError::LacksCodec)
    }

    /// Writes and seals the packet into `slot`; returns its length and the payload bytes in it.
    pub fn write(
        &self,
        packet: &PlainPacket<'_>,
        sender: &FormatTable,
        out: Outgoing,
        rtx: Option<Rtx>,
        slot: &mut [u8],
    ) -> Result<(usize, usize), WriteError> {
        let (payload_type, strip_red) = self.payload_type(packet, sender)?;
        let fields = HeaderFields {
            padding: false,
            marker: packet.rtp.marker(),
            payload_type: rtx.map_or(payload_type, |rtx| rtx.payload_type),
            sequence: rtx.map_or(out.index, |rtx| rtx.index) as u16,
            timestamp: out.timestamp,
            ssrc: rtx.map_or(self.ssrc, |rtx| rtx.ssrc),
        };
        let limit = MAX_DATAGRAM - MAX_OVERHEAD;
        let buffer = slot.get_mut(..limit).ok_or(WriteError::Malformed)?;
        let transport_cc = self.transport_cc.map(rtp::twcc::encode);
        let header_len = self.write_header(packet, &fields, transport_cc.as_ref().map(|bytes| &bytes[..]), buffer)?;
        let mut len = header_len;
        if rtx.is_some() {
            let osn = buffer.get_mut(len..).ok_or(WriteError::Malformed)?;
            if !rtp::rtx::write(out.index as u16, osn) {
                return Err(WriteError::Malformed);
            }
            len += rtp::rtx::OSN_LEN;
        }
        let payload_len =
            self.write_payload(packet, sender, out, strip_red, buffer.get_mut(len..).ok_or(WriteError::Malformed)?)?;
        len += payload_len;
        let index = rtx.map_or(out.index, |rtx| rtx.index);
        let sealed = self.sealer.seal_rtp(slot, header_len, len, (index >> 16) as u32);
        Ok((sealed.map_err(|_| WriteError::Malformed)?, payload_len))
    }

    fn write_header(
        &self,
        packet: &PlainPacket<'_>,
        fields: &HeaderFields,
        transport_cc: Option<&[u8]>,
        buffer: &mut [u8],
    ) -> Result<usize, WriteError> {
        let mut extensions = [Extension { id: 0, data: &[][..] }; MAX_EXTENSIONS + 1];
        let mut count = 0;
        for (meaning, extension) in &packet.extensions[..packet.extension_count] {
            let id = match meaning {
                _ if !self.rewrite => Some(extension.id),
                Meaning::AudioLevel => self.extensions.output(AUDIO_LEVEL),
                Meaning::Forwarded(index) => self.extensions.output(*index),
                Meaning::Dropped | Meaning::TransportCc => None,
            };
            if let Some(id) = id {
                extensions[count] = Extension { id, data: extension.data };
                count += 1;
            }
        }
        if let Some(data) = transport_cc {
            extensions[count] = Extension { id: self.extensions.transport_cc, data };
            count += 1;
        }
        header::write(fields, packet.rtp.csrcs(), &extensions[..count], buffer).map_err(|_| WriteError::Malformed)
    }

    fn write_payload(
        &self,
        packet: &PlainPacket<'_>,
        sender: &FormatTable,
        out: Outgoing,
        strip_red: bool,
        buffer: &mut [u8],
    ) -> Result<usize, WriteError> {
        let payload = packet.rtp.payload();
        if let (Some(descriptor), Some((picture_id, tl0))) = (packet.vp8, out.vp8) {
            return descriptor.rewrite(payload, picture_id, tl0, buffer).map_err(|_| WriteError::Malformed);
        }
        let payload = match strip_red {
            true => red::primary(payload).map_err(|_| WriteError::Malformed)?.data,
            false => payload,
        };
        let copy = buffer.get_mut(..payload.len()).ok_or(WriteError::Malformed)?;
        copy.copy_from_slice(payload);
        if packet.kind == CodecKind::Red && !strip_red && self.rewrite {
            let inner = |number: u8| self.formats.output(sender.media(number)?);
            red::patch_payload_types(copy, inner).map_err(|_| WriteError::LacksCodec)?;
        }
        Ok(payload.len())
    }
}
