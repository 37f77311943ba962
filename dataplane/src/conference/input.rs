//! RTP in: authenticate, unprotect, undo retransmission, then once per receiver: decide, copy, patch, seal, queue.

use std::time::Instant;

use super::extension_map::Meaning;
use super::format::{CodecIndex, CodecKind};
use super::forwarder::{EndpointSlot, Forwarder};
use super::output::{PlainPacket, Target, WriteError};
use super::projection::Incoming;
use crate::io::PacketSink;
use crate::media::MediaKind;
use crate::rtp::audio_level::AudioLevel;
use crate::rtp::{Packet, keyframe, rtx, twcc};
use crate::srtp::OpenError;
use crate::stats::Counter;

/// A plain packet that lies in the datagram and belongs to a source.
struct Located {
    source: usize,
    encoding: u8,
    codec: CodecIndex,
    /// Bytes of the datagram that are the packet.
    len: usize,
    /// Extended sequence number as sent.
    index: u64,
}

impl Forwarder {
    /// Takes one SRTP packet from an endpoint and forwards it.
    pub fn handle_rtp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        match self.open_rtp(now, from, datagram) {
            Ok(Some(located)) => self.forward(now, from, located, &datagram[..], sink),
            Ok(None) => {}
            Err(counter) => self.stats.count(counter),
        }
    }

    /// Authenticates, unprotects and locates; `None` is a probe that carried nothing.
    fn open_rtp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8]) -> Result<Option<Located>, Counter> {
        let Some(endpoint) =
            self.endpoints.get_mut(from.index as usize).and_then(Option::as_deref_mut).filter(|e| e.id == from.id)
        else {
            return Err(Counter::DropUnknownAddress);
        };
        let Some(opener) = endpoint.opener.as_mut() else { return Err(Counter::DropNoKeys) };
        let header_len = match Packet::parse_sealed(datagram) {
            Ok(packet) => packet.header_len(),
            Err(_) => return Err(Counter::DropRtpMalformed),
        };
        let opened = opener.open_rtp(datagram, header_len).map_err(|error| match error {
            OpenError::Auth => Counter::DropSrtpAuth,
            OpenError::Replay => Counter::DropSrtpReplay,
            OpenError::TooShort => Counter::DropRtpMalformed,
        })?;
        let Ok(packet) = Packet::parse(&datagram[..opened.len]) else { return Err(Counter::DropRtpMalformed) };
        endpoint.last_activity = now;
        let mut level = None;
        for extension in packet.extensions() {
            match endpoint.extensions.meaning(extension.id) {
                Meaning::TransportCc if endpoint.wants_twcc => {
                    if let Some(sequence) = twcc::parse(extension.data) {
                        endpoint.twcc.record(now, sequence, packet.marker());
                    }
                }
                Meaning::AudioLevel => level = AudioLevel::parse(extension.data),
                _ => {}
            }
        }
        let Some(role) = endpoint.role(packet.ssrc()) else { return Err(Counter::DropUnknownSsrc) };
        let Some(source) = self.sources.get_mut(role.source).and_then(Option::as_deref_mut) else {
            return Err(Counter::DropUnknownSsrc);
        };
        let muted = match source.description.kind {
            MediaKind::Audio => endpoint.mute_audio,
            MediaKind::Video => endpoint.mute_video,
        };
        if muted {
            return Err(Counter::DropForceMuted);
        }
        let Some(encoding) = source.encodings.get_mut(usize::from(role.encoding)) else {
            return Err(Counter::DropUnknownSsrc);
        };
        let payload_type = packet.payload_type();
        let (codec, index, len) = if role.rtx {
            let (codec, apt) = endpoint.formats.retransmission(payload_type).ok_or(Counter::DropUnknownPayloadType)?;
            let range = packet.payload_range();
            // Less than an original sequence number and a byte: a probe for bandwidth.
            let Some((original, _)) = rtx::parse(packet.payload()).filter(|(_, rest)| !rest.is_empty()) else {
                return Ok(None);
            };
            let ssrc = encoding.ssrc;
            datagram.copy_within(range.start + rtx::OSN_LEN..range.end, range.start);
            datagram[0] &= !0x20;
            datagram[1] = datagram[1] & 0x80 | apt;
            datagram[2..4].copy_from_slice(&original.to_be_bytes());
            datagram[8..12].copy_from_slice(&ssrc.to_be_bytes());
            (codec, encoding.seen.estimate(original), range.end - rtx::OSN_LEN)
        } else {
            let codec = endpoint.formats.media(payload_type).ok_or(Counter::DropUnknownPayloadType)?;
            let empty = packet.payload().is_empty();
            encoding.reception.received(
                now,
                self.epoch.unwrap_or(now),
                opened.index,
                packet.timestamp(),
                if source.description.kind == MediaKind::Audio { 48_000 } else { 90_000 },
            );
            encoding.last_packet = Some(now);
            if empty {
                encoding.loss.received(now, opened.index);
                encoding.closer.drop(opened.index);
                return Ok(None);
            }
            (codec, opened.index, opened.len)
        };
        // A packet and its retransmission must not both go out: that would use one key stream twice.
        if !encoding.seen.is_fresh(index) {
            return Err(Counter::DropSrtpReplay);
        }
        encoding.seen.mark(index);
        if source.description.kind == MediaKind::Video {
            encoding.loss.received(now, index);
            self.loss_pending |= encoding.loss.poll_timeout().is_some_and(|due| due <= now);
        } else if let (Some(level), Some(conference)) = (level, self.conferences.get_mut(&endpoint.conference)) {
            conference.speaker.level(now, endpoint.id, level.level);
        }
        Ok(Some(Located { source: role.source, encoding: role.encoding, codec, len, index }))
    }

    /// Sends a located packet to every receiver that should have it.
    fn forward(
        &mut self,
        now: Instant,
        from: EndpointSlot,
        located: Located,
        datagram: &[u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(bytes) = datagram.get(..located.len) else { return };
        let Ok(rtp) = Packet::parse(bytes) else { return };
        let Some(source) = self.sources.get_mut(located.source).and_then(Option::as_deref_mut) else { return };
        let (video, output_ssrc) = (source.is_video(), source.output_ssrc());
        let Some(encoding) = source.encodings.get_mut(usize::from(located.encoding)) else { return };
        // The sender's tables are read while receivers are written: it steps out of the table for the walk.
        let Some(owner) = self.endpoints.get_mut(from.index as usize).and_then(Option::take) else { return };
        let kind = self.codecs.kind(located.codec);
        let packet = PlainPacket::new(rtp, located.codec, kind, &owner.extensions);
        let start = if video { keyframe_start(kind, rtp.payload()) } else { None };
        if let Some(height) = start.and_then(|start| start.height) {
            if encoding.height.replace(height) != Some(height) {
                if let Some(conference) = self.conferences.get_mut(&source.conference) {
                    conference.dirty = true;
                }
            }
        }
        let index = encoding.closer.close(located.index);
        if let Some(cache) = source.cache.as_mut() {
            cache.insert(located.encoding, index, bytes);
        }
        let incoming = Incoming {
            encoding: located.encoding,
            index,
            timestamp: rtp.timestamp(),
            vp8: packet.vp8_numbers(),
            keyframe: start.is_some(),
            codec: kind,
            audio: !video,
        };
        let mut wanted_keyframe = None;
        let mut forwarded = 0;
        for leg in &mut source.legs {
            let Some(receiver) = self.endpoints.get_mut(leg.receiver).and_then(Option::as_deref_mut) else { continue };
            let (Some(path), Some(sealer)) = (receiver.path, receiver.sealer.as_ref()) else { continue };
            let Some(out) = leg.stream.projection.project(now, leg.target, &incoming) else {
                if leg.stream.projection.needs_keyframe(leg.target) && leg.target == Some(located.encoding) {
                    wanted_keyframe = leg.target;
                }
                continue;
            };
            let numbered = video && receiver.extensions.transport_cc != 0;
            let target = Target {
                formats: &receiver.formats,
                extensions: &receiver.extensions,
                sealer,
                ssrc: output_ssrc,
                transport_cc: numbered.then_some(receiver.next_transport_cc),
                rewrite: self.config.rewrite,
            };
            let Some(slot) = sink.slot() else {
                self.stats.count(Counter::DropOutputFull);
                continue;
            };
            match target.write(&packet, &owner.formats, out, None, slot) {
                Ok((len, payload)) => {
                    sink.commit(len, path);
                    leg.remember(now, out, located.encoding, index, receiver.next_transport_cc);
                    leg.stream.packets = leg.stream.packets.wrapping_add(1);
                    leg.stream.octets = leg.stream.octets.wrapping_add(payload as u32);
                    receiver.next_transport_cc = receiver.next_transport_cc.wrapping_add(u16::from(numbered));
                    forwarded += 1;
                }
                Err(WriteError::LacksCodec) => self.stats.count(Counter::DropReceiverLacksCodec),
                Err(WriteError::Malformed) => self.stats.count(Counter::DropRtpMalformed),
            }
        }
        self.endpoints[from.index as usize] = Some(owner);
        self.stats.add(Counter::PacketsForwarded, forwarded);
        if let Some(encoding) = wanted_keyframe {
            self.request_keyframe(now, located.source, encoding, sink);
        }
    }
}

fn keyframe_start(kind: CodecKind, payload: &[u8]) -> Option<keyframe::KeyframeStart> {
    match kind {
        CodecKind::Vp8 => keyframe::vp8(payload),
        CodecKind::Vp9 => keyframe::vp9(payload),
        CodecKind::Av1 => keyframe::av1(payload),
        CodecKind::H264 => keyframe::h264(payload),
        CodecKind::Red | CodecKind::Other => None,
    }
}
