//! RTCP in: sender reports go on to receivers, requests go to who can answer them, the rest is consumed.

use std::time::Instant;

use super::forwarder::{EndpointSlot, Forwarder};
use super::output::{PlainPacket, Rtx, Target};
use crate::io::PacketSink;
use crate::rtcp::{Block, Compound, SenderInfo, build, compound, nack};
use crate::rtp::Packet;
use crate::srtp::OpenError;
use crate::stats::Counter;

impl Forwarder {
    /// Takes one SRTCP packet from an endpoint.
    pub fn handle_rtcp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        let Some(endpoint) = self.endpoint_mut(from) else {
            self.stats.count(Counter::DropUnknownAddress);
            return;
        };
        let Some(opener) = endpoint.opener.as_mut() else {
            self.stats.count(Counter::DropNoKeys);
            return;
        };
        let len = match opener.open_rtcp(datagram) {
            Ok(len) => len,
            Err(error) => {
                self.stats.count(match error {
                    OpenError::Auth => Counter::DropSrtcpAuth,
                    OpenError::Replay => Counter::DropSrtcpReplay,
                    OpenError::TooShort => Counter::DropRtcpMalformed,
                });
                return;
            }
        };
        endpoint.last_activity = now;
        for block in Compound::new(&datagram[..len]) {
            match block {
                Block::SenderReport { ssrc, info, .. } => self.forward_sender_report(now, from, ssrc, info, sink),
                Block::Nack { media, entries } => self.answer_nack(now, from, media, entries, sink),
                Block::Pli { media } => self.keyframe_wanted(now, from, media, sink),
                Block::Fir { entries } => {
                    for media in compound::fir_targets(entries) {
                        self.keyframe_wanted(now, from, media, sink);
                    }
                }
                Block::Malformed => self.stats.count(Counter::DropRtcpMalformed),
                // Receiver reports and transport-wide feedback will feed the bandwidth estimator.
                Block::ReceiverReport { .. } | Block::Twcc { .. } | Block::Other { .. } => {}
            }
        }
    }

    /// A receiver's view of the source that it knows by this SSRC.
    fn source_for_receiver(&self, from: EndpointSlot, media: u32) -> Option<(usize, usize)> {
        let endpoint = self.endpoints.get(from.index as usize)?.as_deref()?;
        let conference = self.conferences.get(&endpoint.conference)?;
        conference.sources.iter().find_map(|index| {
            let source = self.sources.get(*index)?.as_deref()?;
            let mine = source.output_ssrc() == media || source.output_rtx() == Some(media);
            let leg = source.legs.iter().position(|leg| leg.receiver == from.index as usize).filter(|_| mine)?;
            Some((*index, leg))
        })
    }

    fn keyframe_wanted(&mut self, now: Instant, from: EndpointSlot, media: u32, sink: &mut impl PacketSink) {
        let Some((index, leg)) = self.source_for_receiver(from, media) else { return };
        let source = self.sources[index].as_deref();
        let Some(leg) = source.and_then(|source| source.legs.get(leg)) else { return };
        if let Some(encoding) = leg.stream.projection.current().or(leg.target) {
            self.request_keyframe(now, index, encoding, sink);
        }
    }

    fn forward_sender_report(
        &mut self,
        now: Instant,
        from: EndpointSlot,
        ssrc: u32,
        info: SenderInfo,
        sink: &mut impl PacketSink,
    ) {
        let Some(endpoint) = self.endpoint_mut(from) else { return };
        let Some(role) = endpoint.role(ssrc).filter(|role| !role.rtx) else { return };
        let Some(source) = self.sources.get_mut(role.source).and_then(Option::as_deref_mut) else { return };
        if let Some(encoding) = source.encodings.get_mut(usize::from(role.encoding)) {
            encoding.reception.sender_report(now, info);
        }
        let output = source.output_ssrc();
        for leg in source.legs.iter().filter(|leg| leg.stream.projection.current() == Some(role.encoding)) {
            let Some(receiver) = self.endpoints.get_mut(leg.receiver).and_then(Option::as_deref_mut) else { continue };
            let Some(rtp) = leg.stream.projection.map_timestamp(info.rtp) else { continue };
            let (packets, octets) = (leg.stream.packets, leg.stream.octets);
            let report = SenderInfo { ntp: info.ntp, rtp, packets, octets };
            receiver.send_rtcp(sink, &self.stats, |out| build::sender_report(output, &report, out));
        }
    }

    fn answer_nack(
        &mut self,
        now: Instant,
        from: EndpointSlot,
        media: u32,
        entries: &[u8],
        sink: &mut impl PacketSink,
    ) {
        let Some((index, leg)) = self.source_for_receiver(from, media) else { return };
        let Some(source) = self.sources.get_mut(index).and_then(Option::as_deref_mut) else { return };
        let (output_ssrc, output_rtx) = (source.output_ssrc(), source.output_rtx());
        let Some(cache) = source.cache.as_ref() else { return };
        let [receiver, owner] = match self.endpoints.get_disjoint_mut([from.index as usize, source.owner]) {
            Ok([Some(receiver), Some(owner)]) => [receiver, owner],
            _ => return,
        };
        let (Some(path), Some(sealer), Some(leg)) = (receiver.path, receiver.sealer.as_ref(), source.legs.get_mut(leg))
        else {
            return;
        };
        for sequence in nack::sequences(entries) {
            let Some(sent) = leg.repeat(now, sequence) else { continue };
            let Some(bytes) = cache.get(sent.encoding, sent.index) else {
                self.stats.count(Counter::NackCacheMiss);
                continue;
            };
            let Ok(rtp) = Packet::parse(bytes) else { continue };
            let Some(codec) = owner.formats.media(rtp.payload_type()) else { continue };
            let packet = PlainPacket::new(rtp, codec, self.codecs.kind(codec), &owner.extensions);
            let mut target = Target {
                formats: &receiver.formats,
                extensions: &receiver.extensions,
                sealer,
                ssrc: output_ssrc,
                transport_cc: None,
                rewrite: self.config.rewrite,
            };
            let numbered = receiver.extensions.transport_cc != 0;
            let rtx = target.payload_type(&packet, &owner.formats).ok().and_then(|(number, _)| {
                let payload_type = receiver.formats.output_rtx(number)?;
                Some(Rtx { ssrc: output_rtx?, index: leg.stream.next_rtx, payload_type })
            });
            target.transport_cc = numbered.then_some(match rtx {
                Some(_) => receiver.next_transport_cc,
                // Without RTX the very same packet goes again, bit for bit, or its key stream would be used twice.
                None => sent.transport_cc,
            });
            let Some(slot) = sink.slot() else {
                self.stats.count(Counter::DropOutputFull);
                return;
            };
            let Ok((len, _)) = target.write(&packet, &owner.formats, sent.out, rtx, slot) else { continue };
            sink.commit(len, path);
            if rtx.is_some() {
                leg.stream.next_rtx += 1;
                receiver.next_transport_cc = receiver.next_transport_cc.wrapping_add(u16::from(numbered));
            }
            self.stats.count(Counter::Retransmissions);
        }
    }
}
