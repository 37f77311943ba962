//! One packet for one receiver: its payload type, extension ids, SSRC, numbers; sealed and queued.

use std::time::Instant;

use super::Receiver;
use super::downlink::Downlink;
use super::projection::Output;
use super::subscription::{Retransmission, Stream};
use crate::clock::WorkerTime;
use crate::conference::packet::MediaPacket;
use crate::conference::packet::payload::Descriptor;
use crate::congestion::shedding::Shedding;
use crate::datagram::PacketSink;
use crate::ids::PayloadType;
use crate::media::MAX_MID_LEN;
use crate::media::MediaKind;
use crate::negotiation::extensions::OutgoingExtensions;
use crate::negotiation::formats::{Codec, FormatTable, OutputFormat};
use crate::negotiation::ids::UriId;
use crate::rtp::{dependency, extension, header, red, rtx};
use crate::stats::WorkerStats;

/// What the deliveries of one step have in common, whatever is delivered and to whom.
pub struct Delivery<'a, S> {
    /// The time of the step.
    pub now: Instant,
    /// The same by the worker's clock.
    pub worker_time: WorkerTime,
    /// The same as abs-send-time carries it ([`send_time`]).
    pub send_time: [u8; 3],
    /// Counters.
    pub stats: &'a WorkerStats,
    /// What the worker leaves out for want of time.
    pub shedding: Shedding,
    /// False passes payload types and extension ids through.
    pub translate: bool,
    /// Where packets go.
    pub sink: &'a mut S,
    /// Packets that went out for the first time.
    pub forwarded: u64,
}

/// The value of abs-send-time: seconds as 6.18 bits.
pub fn send_time(time: WorkerTime) -> [u8; 3] {
    let (seconds, micros) = (time.as_micros() / 1_000_000, time.as_micros() % 1_000_000);
    let [_, time @ ..] = (((seconds << 18) + (micros << 18) / 1_000_000) as u32).to_be_bytes();
    time
}

/// Where a packet goes: the stream, its number in it, and how its payload is written.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Its numbers in the receiver's stream of the source.
    pub output: Output,
    /// The SSRC.
    pub stream: Stream,
    /// The payload.
    pub shape: Shape,
}

/// Why a packet did not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// It has no keys or no path yet.
    NotReady,
    /// No room in the output.
    OutputFull,
    /// It does not fit a datagram after rewriting, or its payload contradicts itself.
    Malformed,
}

/// How the receiver is to be given the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it is, under this number.
    Whole(OutputFormat),
    /// RED's primary block alone, under this number.
    Primary(OutputFormat),
}

impl Shape {
    /// The receiver's numbers.
    pub fn output(self) -> OutputFormat {
        match self {
            Self::Whole(o) | Self::Primary(o) => o,
        }
    }
}

/// Finds the receiver's number for a packet. RED goes whole only to those who know it and everything inside.
#[inline(always)]
pub fn shape(packet: &MediaPacket<'_>, translate: bool, receiver: &FormatTable) -> Option<Shape> {
    if !translate {
        let rtx = receiver.output(packet.format.id).and_then(|o| o.rtx);
        return Some(Shape::Whole(OutputFormat { payload_type: packet.rtp.payload_type(), rtx }));
    }
    if packet.format.codec != Codec::Red {
        return receiver.output(packet.format.id).map(Shape::Whole);
    }
    let blocks = red::blocks(packet.rtp.payload()).ok()?;
    let known = |number: PayloadType| packet.sender.media(packet.kind, number).and_then(|f| receiver.output(f.id));
    let mut primary = None;
    let mut whole = true;
    for block in blocks {
        let number = known(block.payload_type);
        whole &= number.is_some();
        if block.primary {
            primary = number;
        }
    }
    match receiver.output(packet.format.id) {
        Some(red) if whole => Some(Shape::Whole(red)),
        _ => primary.map(Shape::Primary),
    }
}

/// The same for whoever is not asked for every packet of every receiver.
#[inline(never)]
pub fn shape_aside(packet: &MediaPacket<'_>, translate: bool, receiver: &FormatTable) -> Option<Shape> {
    shape(packet, translate, receiver)
}

/// Rewrites, seals and queues one packet; returns the bytes of its payload.
#[inline]
pub fn send(
    packet: &MediaPacket<'_>,
    outgoing: &Outgoing,
    receiver: &mut Receiver,
    delivery: &mut Delivery<'_, impl PacketSink>,
) -> Result<usize, NotSent> {
    write::<false>(packet, outgoing, receiver, delivery)
}

/// The same with the payload as it came, but for the numbers inside RED.
#[inline]
pub fn send_verbatim(
    packet: &MediaPacket<'_>,
    outgoing: &Outgoing,
    receiver: &mut Receiver,
    delivery: &mut Delivery<'_, impl PacketSink>,
) -> Result<usize, NotSent> {
    write::<true>(packet, outgoing, receiver, delivery)
}

#[inline]
fn write<const VERBATIM: bool>(
    packet: &MediaPacket<'_>,
    outgoing: &Outgoing,
    receiver: &mut Receiver,
    delivery: &mut Delivery<'_, impl PacketSink>,
) -> Result<usize, NotSent> {
    let Outgoing { output, stream, shape } = outgoing;
    let (sealer, path) = receiver.transport().ok_or(NotSent::NotReady)?;
    let slot = delivery.sink.slot().ok_or(NotSent::OutputFull)?;
    let video = packet.kind == MediaKind::Video;
    let mut extensions = OutgoingExtensions::select(
        packet.extensions,
        packet.kind,
        &receiver.negotiated().extensions,
        delivery.translate,
    );
    let transport_cc = receiver.negotiated().extensions.id(packet.kind, UriId::TRANSPORT_CC).filter(|_| video);
    let send_time_id = receiver.negotiated().extensions.id(packet.kind, UriId::ABS_SEND_TIME).filter(|_| video);
    let transport_sequence = receiver.downlink().map_or(0, Downlink::next_sequence);
    let (transport_bytes, send_time) = (transport_sequence.to_be_bytes(), delivery.send_time);
    if let Some(id) = transport_cc {
        extensions.push(id, &transport_bytes);
    } else if let Some(id) = send_time_id {
        extensions.push(id, &send_time);
    }
    let mut dependency = None;
    if let Some((templates, _)) = packet.picture.templates
        && let Some(data) = packet.extensions.dependency()
        && let Some(id) = receiver.negotiated().extensions.id(packet.kind, UriId::DEPENDENCY)
    {
        extensions.push(id, data);
        dependency = Some((id, templates));
    }
    let mut mid = [0; MAX_MID_LEN];
    if let Some(section) = stream.mid
        && let Some(id) = receiver.negotiated().extensions.id(packet.kind, UriId::MID)
    {
        extensions.push(id, section.write(&mut mid));
    }
    let (payload_type, index) = match stream.rtx {
        None => (shape.output().payload_type, output.sequence),
        Some(Retransmission { payload_type, index }) => (payload_type, index),
    };
    let fields = header::HeaderFields {
        padding: false,
        marker: packet.rtp.marker() || output.ends_picture,
        payload_type,
        sequence: index as u16,
        timestamp: output.timestamp,
        ssrc: stream.ssrc,
    };
    let block = (extensions.size(), extensions.iter());
    let header_len = header::write_sized(&fields, packet.rtp.csrcs(), block, slot).map_err(|_| NotSent::Malformed)?;
    if let Some((id, templates)) = dependency
        && let Some(data) = extension::find_mut(slot.get_mut(..header_len).unwrap_or(&mut []), id)
    {
        let shift = output.picture.templates.map_or(0, |(start, _)| start.wrapping_sub(templates));
        dependency::patch(data, output.picture.id.unwrap_or(0) as u16, shift);
    }
    let body = slot.get_mut(header_len..).ok_or(NotSent::Malformed)?;
    let payload_len = match stream.rtx {
        None => write_payload::<VERBATIM>(packet, outgoing, &receiver.negotiated().formats, delivery.translate, body)?,
        Some(_) => {
            if !rtx::write(output.sequence as u16, body) {
                return Err(NotSent::Malformed);
            }
            let rest = body.get_mut(rtx::OSN_LEN..).ok_or(NotSent::Malformed)?;
            rtx::OSN_LEN
                + write_payload::<VERBATIM>(packet, outgoing, &receiver.negotiated().formats, delivery.translate, rest)?
        }
    };
    let len = sealer
        .seal_rtp(slot, header_len, header_len + payload_len, (index >> 16) as u32)
        .map_err(|_| NotSent::Malformed)?;
    delivery.sink.commit(len, path);
    if let Some(downlink) = receiver.downlink_mut() {
        downlink.sent(delivery.worker_time, len, transport_cc.is_some());
    }
    Ok(payload_len)
}

/// Writes the payload as this receiver reads it and returns its length.
#[inline]
fn write_payload<const VERBATIM: bool>(
    packet: &MediaPacket<'_>,
    outgoing: &Outgoing,
    receiver: &FormatTable,
    translate: bool,
    out: &mut [u8],
) -> Result<usize, NotSent> {
    let Outgoing { output, shape, .. } = outgoing;
    let payload = packet.rtp.payload();
    let (id, tl0) = ((output.picture.id.unwrap_or(0) & 0x7fff) as u16, output.picture.tl0.unwrap_or(0));
    match &packet.view.descriptor {
        _ if VERBATIM => {}
        Descriptor::Vp8(vp8) => return vp8.rewrite(payload, id, tl0, out).map_err(|_| NotSent::Malformed),
        Descriptor::Vp9(vp9) => {
            let out = out.get_mut(..payload.len()).ok_or(NotSent::Malformed)?;
            out.copy_from_slice(payload);
            vp9.patch(out, id, tl0);
            return Ok(payload.len());
        }
        Descriptor::None => {}
    }
    let payload = match shape {
        Shape::Primary(_) => red::primary(payload).map_err(|_| NotSent::Malformed)?.data,
        Shape::Whole(_) => payload,
    };
    let out = out.get_mut(..payload.len()).ok_or(NotSent::Malformed)?;
    out.copy_from_slice(payload);
    if packet.format.codec == Codec::Red && translate && matches!(shape, Shape::Whole(_)) {
        let number = |number: PayloadType| {
            let format = packet.sender.media(packet.kind, number)?;
            receiver.output(format.id).map(|o| o.payload_type)
        };
        red::patch_payload_types(out, number).map_err(|_| NotSent::Malformed)?;
    }
    Ok(payload.len())
}
