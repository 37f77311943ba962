//! Sends a packet of a source to one of its receivers: for the first time, or again.

use super::Receiver;
use super::downlink::Downlink;
use super::projection::Output;
use super::rewrite::{self, Delivery, NotSent, Outgoing};
use super::subscription::{NO_SSRC, Stream, Subscription};
use crate::conference::packet::cache::{CachedPacket, KeptHeader, PacketCache, PacketKey};
use crate::conference::packet::frame::Entry;
use crate::conference::packet::payload::PayloadView;
use crate::conference::packet::picture::Picture;
use crate::conference::packet::{MediaPacket, ReceivedPacket};
use crate::datagram::PacketSink;
use crate::ids::SourceId;
use crate::media::{Encoding, MediaKind};
use crate::negotiation::extensions::ReceivedExtensions;
use crate::negotiation::negotiated::Negotiated;
use crate::rtp::Packet;
use crate::stats::{Counter, WorkerStats};

/// What a receiver lacks to get on with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A keyframe of this encoding.
    Keyframe(u8),
    /// An SSRC to get it on.
    Ssrc,
}

/// Why a packet is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The receiver misses it.
    Nack,
    /// To see whether the path carries more.
    Probe,
    /// It would be missed too late.
    Guard,
}

/// A packet that is to be sent again, and where it is found.
#[derive(Clone, Copy)]
pub struct Repeat<'a> {
    /// Its number in the receiver's stream.
    pub sequence: u16,
    /// Why it is sent again.
    pub reason: Reason,
    /// The source's recent packets.
    pub cache: &'a PacketCache,
    /// The source.
    pub source: SourceId,
    /// Audio or video.
    pub kind: MediaKind,
    /// The SSRCs that the receiver gets the source on.
    pub ssrcs: Encoding,
    /// The sender's numbers.
    pub sender: &'a Negotiated,
}

impl Subscription {
    /// Gives the receiver a packet of the source, if it is to have it. Returns what it lacks to go on.
    #[inline]
    pub fn deliver(
        &mut self,
        packet: &MediaPacket<'_>,
        received: &ReceivedPacket,
        receiver: &mut Receiver,
        delivery: &mut Delivery<'_, impl PacketSink>,
    ) -> Option<Missing> {
        let info = &received.info;
        let Some(target) = self.target() else {
            self.stop();
            if packet.kind == MediaKind::Audio && !self.is_unwanted() {
                return self.wait_for_ssrc(packet.source, receiver, delivery);
            }
            delivery.stats.count(Counter::LeftOutUnwanted);
            return None;
        };
        if !receiver.is_ready() {
            self.stop();
            delivery.stats.count(Counter::LeftOutNotConnected);
            return None;
        }
        if packet.kind == MediaKind::Video && !delivery.shedding.spares(self.receiver_number()) {
            // Stopped, not thinned out: it goes on with a keyframe.
            self.stop();
            delivery.stats.count(Counter::DropShed);
            return None;
        }
        let Some(shape) = rewrite::shape(packet, delivery.translate, &receiver.negotiated().formats) else {
            delivery.stats.count(Counter::DropReceiverLacksCodec);
            if info.entry == Entry::Anywhere {
                self.leave_out(info.sequence);
            }
            return None;
        };
        let desired = received.active.desired(delivery.shedding, target);
        let output = self.project(delivery.now, info, desired);
        let awaits = self.awaits_keyframe(delivery.now, desired);
        let Some(output) = output else {
            let begun = self.current().is_some();
            let counter = if begun { Counter::LeftOutUnwanted } else { Counter::LeftOutAwaitsKeyframe };
            delivery.stats.count(counter);
            return awaits.then_some(Missing::Keyframe(desired.encoding));
        };
        let stream = self.stream();
        match rewrite::send(packet, &Outgoing { output, stream, shape }, receiver, delivery) {
            Ok(payload) => {
                delivery.forwarded += 1;
                self.count(payload);
            }
            Err(error) => count_not_sent(error, delivery.stats),
        }
        awaits.then_some(Missing::Keyframe(desired.encoding))
    }

    /// The receiver gets nothing of audio that it wants: it has no SSRC for it, or does not know of it yet.
    #[cold]
    fn wait_for_ssrc<S>(
        &self,
        source: SourceId,
        receiver: &mut Receiver,
        delivery: &Delivery<'_, S>,
    ) -> Option<Missing> {
        let ready = receiver.is_ready();
        let Some(slots) = receiver.ssrc_slots_mut() else {
            delivery.stats.count(Counter::DropUnsignalled);
            return None;
        };
        delivery.stats.count(Counter::DropUnmapped);
        (ready && self.ssrc() == NO_SSRC && slots.wait(delivery.now, source)).then_some(Missing::Ssrc)
    }

    /// Sends a packet again; true when it went out.
    pub fn resend(
        &mut self,
        repeat: &Repeat<'_>,
        receiver: &mut Receiver,
        delivery: &mut Delivery<'_, impl PacketSink>,
    ) -> bool {
        let nacked = repeat.reason == Reason::Nack;
        let origin = self.origin(repeat.sequence);
        let gone = origin.is_some_and(|(encoding, _)| self.current() != Some(encoding));
        if gone && nacked && receiver.downlink().is_some_and(Downlink::is_queued) {
            // Of an encoding that was given up for the queue: it would only make that longer.
            delivery.stats.count(Counter::DropRepairBudget);
            return false;
        }
        let Some((bytes, cached)) =
            origin.and_then(|(encoding, sequence)| repeat.cache.get(PacketKey { encoding, sequence }))
        else {
            if nacked {
                delivery.stats.count(Counter::NackCacheMiss);
            }
            return false;
        };
        let Some(header) = KeptHeader::parse(repeat.kind, bytes, repeat.sender) else { return false };
        let Some((packet, output)) = self.repeated(repeat, (&header, bytes), &cached) else { return false };
        let formats = &receiver.negotiated().formats;
        let Some(shape) = rewrite::shape_aside(&packet, delivery.translate, formats) else { return false };
        let stream = match (shape.output().rtx, repeat.ssrcs.rtx) {
            (Some(payload_type), Some(ssrc)) => self.retransmissions(ssrc, payload_type),
            _ if nacked && receiver.may_repeat_index() && self.may_repeat(output.sequence) => {
                Stream { ssrc: repeat.ssrcs.ssrc, ..self.stream() }
            }
            _ => {
                if nacked {
                    delivery.stats.count(Counter::DropCannotRepeat);
                }
                return false;
            }
        };
        if nacked && !self.may_resend(delivery.now, repeat.sequence, receiver.rtt()) {
            return false;
        }
        self.send_copies(repeat.reason, &packet, Outgoing { output, stream, shape }, receiver, delivery)
    }

    /// A cached packet, and where it goes in the receiver's stream; `None` when it has no number there.
    fn repeated<'a>(
        &self,
        repeat: &Repeat<'a>,
        (header, bytes): (&'a KeptHeader, &'a [u8]),
        cached: &CachedPacket,
    ) -> Option<(MediaPacket<'a>, Output)> {
        let packet = cached.media((repeat.source, repeat.kind), (header, bytes), repeat.sender)?;
        let rtp = packet.rtp;
        let packet = MediaPacket { view: PayloadView::of(cached.format.codec, rtp.payload()), ..packet };
        let replayed = self.replay(repeat.sequence, rtp.timestamp(), cached.picture, &cached.frame);
        match replayed {
            Some(output) => Some((packet, output)),
            // It was lost on the way here, and turned out to be of a layer that this receiver is not sent: an empty packet
            // ends the waiting for it.
            None if repeat.reason == Reason::Nack => {
                let output = self.vacant(repeat.sequence)?;
                let empty = MediaPacket {
                    rtp: Packet::parse(bytes.get(..rtp.header_len())?).ok()?,
                    extensions: ReceivedExtensions::NONE,
                    view: PayloadView::OPAQUE,
                    picture: Picture::default(),
                    ..packet
                };
                Some((empty, output))
            }
            None => None,
        }
    }

    fn send_copies(
        &mut self,
        reason: Reason,
        packet: &MediaPacket<'_>,
        mut outgoing: Outgoing,
        receiver: &mut Receiver,
        delivery: &mut Delivery<'_, impl PacketSink>,
    ) -> bool {
        // What was lost once is lost again often enough where much is lost, and then it is too late for its picture.
        let copies = if reason == Reason::Nack && receiver.is_lossy() { 2 } else { 1 };
        let size = packet.rtp.bytes().len();
        let mut any = false;
        for _ in 0..copies {
            if reason != Reason::Probe && !receiver.pays_for_repeat(delivery.now, delivery.worker_time, size) {
                delivery.stats.count(Counter::DropRepairBudget);
                break;
            }
            let payload = match rewrite::send(packet, &outgoing, receiver, delivery) {
                Ok(payload) => payload,
                Err(error) => {
                    count_not_sent(error, delivery.stats);
                    break;
                }
            };
            any = true;
            delivery.stats.count(match reason {
                Reason::Nack | Reason::Guard => Counter::Retransmissions,
                Reason::Probe => Counter::ProbePackets,
            });
            let Some(rtx) = &mut outgoing.stream.rtx else {
                self.count(payload);
                // The same number again is the same packet again: receivers drop it.
                break;
            };
            rtx.index = self.retransmitted(rtx.index);
        }
        any
    }
}

pub(super) fn count_not_sent(error: NotSent, stats: &WorkerStats) {
    match error {
        NotSent::OutputFull => stats.count(Counter::DropOutputFull),
        NotSent::Malformed => stats.count(Counter::DropRewriteFailed),
        NotSent::NotReady => stats.count(Counter::LeftOutNotConnected),
    }
}
