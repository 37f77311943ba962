//! The forward step alone, in this thread and without sockets: one publisher of 1,200-byte packets, many receivers.
//! What counts instructions (callgrind) and allocations runs this.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::conference::{EndpointSlot, Forwarder, ForwarderConfig};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId, PayloadType, Ssrc};
use ringbridge_dataplane::io::{MAX_DATAGRAM, PacketSink, Path};
use ringbridge_dataplane::media::{
    CodecParameters, Encoding, Limit, Media, MediaKind, ReceiverConstraints, SourceDescription, VideoConstraint,
    VideoType,
};
use ringbridge_dataplane::messages::{Command, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::rtp::header::{self, HeaderFields};
use ringbridge_dataplane::srtp::Sealer;
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::stats::{Counter, WorkerStats};

const SSRC: u32 = 0x5000_0000;
/// VP8 of the publisher and of two receivers in three; and of the third.
const NUMBERS: [u8; 2] = [96, 100];
/// Packets of one frame, and their payload.
const FRAME: usize = 9;
const PAYLOAD: usize = 1_200;
/// One packet in so many is asked for again by [`run_repeats`].
const MISSED: usize = 20;
/// Bytes of a sealed NACK for one packet: 16, the tag and the index.
const NACK: usize = 16 + 16 + 4;
/// Packets before counting begins.
const WARM_UP: usize = 300;

/// Counts datagrams; slots take turns as in a worker's output.
struct Sink {
    slots: Vec<u8>,
    committed: usize,
}

impl PacketSink for Sink {
    fn slot(&mut self) -> Option<&mut [u8]> {
        let slot = self.committed % (self.slots.len() / MAX_DATAGRAM);
        self.slots.get_mut(slot * MAX_DATAGRAM..(slot + 1) * MAX_DATAGRAM)
    }

    fn commit(&mut self, _len: usize, _path: Path) {
        self.committed += 1;
    }
}

/// What the step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Packets forwarded, once per receiver.
    pub forwarded: u64,
    /// Packets sent again.
    pub repeated: u64,
    /// Allocations while forwarding.
    pub allocations: u64,
}

/// Forwards `packets` packets to `receivers` receivers, after a warm-up.
pub fn run(receivers: u32, packets: usize) -> Steps {
    let mut stage = Stage::new();
    stage.open(1);
    (0..=receivers).for_each(|n| stage.join(1, n, n == 0));
    let sent = sealed(0, packets + WARM_UP);
    stage.forward(&[0], &[sent], WARM_UP)
}

/// The same in `rooms` conferences of `participants` who all publish: each in turn sends one of `packets` packets, so that what
/// one packet has touched is mostly forgotten when the next of its conference comes.
pub fn run_rooms(rooms: u32, participants: u32, packets: usize) -> Steps {
    let mut stage = Stage::new();
    for room in 0..rooms {
        stage.open(room);
        (0..participants).for_each(|n| stage.join(room, room * participants + n, true));
    }
    let publishers: Vec<u32> = (0..rooms * participants).collect();
    // Two frames: the first one's keyframe goes before what is counted.
    let warm_up = 2 * FRAME;
    let sent: Vec<_> = publishers.iter().map(|n| sealed(*n, packets + warm_up)).collect();
    stage.forward(&publishers, &sent, warm_up)
}

/// Forwards `packets` packets to `relays` other bridges, after a warm-up.
pub fn run_relays(relays: u32, packets: usize) -> Steps {
    let mut stage = Stage::new();
    stage.open(1);
    stage.join(1, 0, true);
    (1..=relays).for_each(|n| stage.connect(1, n));
    let sent = sealed(0, packets + WARM_UP);
    stage.forward(&[0], &[sent], WARM_UP)
}

/// The same as [`run`], while the first receiver misses one packet in 20 and asks for it again.
pub fn run_repeats(receivers: u32, packets: usize) -> Steps {
    let mut stage = Stage::new();
    stage.open(1);
    (0..=receivers).for_each(|n| stage.join(1, n, n == 0));
    let sealer = Sealer::new(&keys(1).inbound, SrtpProfile::AeadAes128Gcm);
    stage.asking =
        stage.forwarder.slot(EndpointId(1)).map(|slot| Asking { receivers: receivers as usize, slot, sealer });
    let sent = sealed(0, packets + WARM_UP);
    stage.forward(&[0], &[sent], WARM_UP)
}

/// The first of the receivers, who misses packets.
struct Asking {
    receivers: usize,
    slot: EndpointSlot,
    sealer: Sealer,
}

impl Asking {
    /// A generic NACK (RFC 4585 section 6.2.1) for the packet that was sent to this receiver last.
    fn nack(&mut self, sink: &Sink) -> Option<[u8; NACK]> {
        let at = sink.committed.checked_sub(self.receivers)? % (sink.slots.len() / MAX_DATAGRAM) * MAX_DATAGRAM;
        let [_, _, s0, s1, _, _, _, _, c0, c1, c2, c3, ..] = *sink.slots.get(at..)? else { return None };
        let plain = [0x81, 205, 0, 3, 0, 0, 0, 9, c0, c1, c2, c3, s0, s1, 0, 0];
        let mut nack = [0; NACK];
        nack.get_mut(..plain.len())?.copy_from_slice(&plain);
        self.sealer.seal_rtcp(&mut nack, plain.len()).ok().map(|_| nack)
    }
}

/// A forwarder and its endpoints.
struct Stage {
    /// Who asks for packets again, if anybody does.
    asking: Option<Asking>,
    stats: Arc<WorkerStats>,
    forwarder: Forwarder,
    now: Instant,
    sink: Sink,
}

impl Stage {
    fn new() -> Self {
        let stats = Arc::new(WorkerStats::default());
        let forwarder = Forwarder::new(ForwarderConfig::default(), Arc::clone(&stats));
        let sink = Sink { slots: vec![0; 2048 * MAX_DATAGRAM], committed: 0 };
        Self { asking: None, stats, forwarder, now: Instant::now(), sink }
    }

    fn open(&mut self, conference: u32) {
        let (conference, feedback) =
            (ConferenceId(conference), FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) });
        self.forwarder.handle_command(self.now, Command::CreateConference { conference, feedback });
    }

    fn join(&mut self, conference: u32, n: u32, publishes: bool) {
        let Self { forwarder, now, .. } = self;
        let (conference, endpoint) = (ConferenceId(conference), EndpointId(n));
        let ice = IceCredentials { ufrag: String::new(), pwd: String::new() };
        let new = NewEndpoint { conference, endpoint, label: String::new(), ice, controlling: true };
        forwarder.handle_command(*now, Command::CreateEndpoint(Box::new(new)));
        forwarder.handle_command(*now, Command::SetSrtp { endpoint, keys: Box::new(keys(n)) });
        forwarder.handle_command(*now, Command::SetMedia { endpoint, media: Box::new(media(number(n))) });
        let published = if publishes { vec![source(n)] } else { Vec::new() };
        forwarder.handle_command(*now, Command::SetSources { endpoint, sources: published });
        let default = VideoConstraint { max_height: Limit::Max(2160), max_frame_rate: Limit::Unlimited };
        let constraints = Box::new(ReceiverConstraints { default, ..ReceiverConstraints::default() });
        forwarder.handle_command(*now, Command::SetConstraints { endpoint, constraints });
        let remote = SocketAddr::from(([127, 9, (n >> 8) as u8, n as u8], 4000));
        forwarder.set_path(endpoint, Some(Path { local: 0, remote }));
    }

    /// A relay, behind which somebody wants everything of the first publisher.
    fn connect(&mut self, conference: u32, n: u32) {
        let Self { forwarder, now, .. } = self;
        let (conference, relay, mesh) = (ConferenceId(conference), EndpointId(n), MeshId(n));
        let ice = IceCredentials { ufrag: String::new(), pwd: String::new() };
        let new = NewEndpoint { conference, endpoint: relay, label: String::new(), ice, controlling: true };
        forwarder.handle_command(*now, Command::CreateRelay { new: Box::new(new), mesh });
        forwarder.handle_command(*now, Command::SetSrtp { endpoint: relay, keys: Box::new(keys(n)) });
        forwarder.handle_command(*now, Command::SetMedia { endpoint: relay, media: Box::new(media(number(n))) });
        let (endpoint, source, max_height) = (EndpointId(0), source(0).name, Limit::Unlimited);
        forwarder.handle_command(*now, Command::SetRelayDemand { relay, endpoint, source, max_height });
        let remote = SocketAddr::from(([127, 9, (n >> 8) as u8, n as u8], 4000));
        forwarder.set_path(relay, Some(Path { local: 0, remote }));
    }

    /// Plays what each of `publishers` sent, one packet of each in turn; counts after the first `warm_up` of each.
    fn forward(&mut self, publishers: &[u32], sent: &[Vec<Vec<u8>>], warm_up: usize) -> Steps {
        let Self { asking, stats, forwarder, now, sink } = self;
        forwarder.handle_timeout(*now, sink);
        let slots: Vec<_> = publishers.iter().filter_map(|n| forwarder.slot(EndpointId(*n))).collect();
        let packets = sent.first().map_or(0, Vec::len);
        // Each stream has its packets 4 ms apart.
        let gap = Duration::from_millis(4) / publishers.len().max(1) as u32;
        let mut step = |range: std::ops::Range<usize>| {
            let mut datagram = [0; MAX_DATAGRAM];
            for i in range {
                for (slot, sent) in slots.iter().zip(sent) {
                    let Some(sealed) = sent.get(i) else { continue };
                    let Some(buffer) = datagram.get_mut(..sealed.len()) else { continue };
                    buffer.copy_from_slice(sealed);
                    *now += gap;
                    forwarder.handle_rtp(*now, *slot, buffer, sink);
                    if let Some(asking) = asking.as_mut().filter(|_| i.is_multiple_of(MISSED))
                        && let Some(mut nack) = asking.nack(sink)
                    {
                        forwarder.handle_rtcp(*now, asking.slot, &mut nack, sink);
                    }
                }
            }
        };
        step(0..warm_up);
        let count = || [Counter::PacketsForwarded, Counter::Retransmissions].map(|counter| stats.get(counter));
        let before = count();
        let allocations = allocation_counter::measure(|| step(warm_up..packets)).count_total;
        let [forwarded, repeated] = std::array::from_fn(|i| count()[i] - before[i]);
        Steps { forwarded, repeated, allocations }
    }
}

/// The payload type under which an endpoint has negotiated VP8.
fn number(n: u32) -> PayloadType {
    PayloadType::from_low_bits(NUMBERS[usize::from(n % 3 == 2)])
}

/// SRTP keys that only the endpoint of this number has.
pub fn keys(n: u32) -> SrtpKeys {
    let master = |part: u8| {
        let mut key = [part; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        MasterKey { key, salt: [part; 14] }
    };
    SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: master(1), outbound: master(2) }
}

fn media(vp8: PayloadType) -> Media {
    let feedback = [("nack", ""), ("nack", "pli")].map(|(name, parameter)| (name.to_owned(), parameter.to_owned()));
    let vp8 = CodecParameters {
        payload_type: vp8,
        kind: MediaKind::Video,
        name: "VP8".into(),
        clock_rate: 90_000,
        channels: 1,
        parameters: Vec::new(),
        feedback: feedback.into(),
    };
    Media { codecs: vec![vp8], ..Media::default() }
}

fn source(n: u32) -> SourceDescription {
    let encodings = vec![Encoding { ssrc: Ssrc::new(SSRC + n), rtx: None }];
    SourceDescription {
        name: format!("publisher{n}-v0"),
        kind: MediaKind::Video,
        video_type: VideoType::Camera,
        encodings,
    }
}

/// What an endpoint sends: frames of nine packets; the first is a keyframe, the others depend on it.
fn sealed(from: u32, packets: usize) -> Vec<Vec<u8>> {
    let sealer = Sealer::new(&keys(from).inbound, SrtpProfile::AeadAes128Gcm);
    let seal = |n: usize| {
        let frame = n / FRAME;
        let fields = HeaderFields {
            padding: false,
            marker: n % FRAME == FRAME - 1,
            payload_type: number(from),
            sequence: n as u16 + 1,
            timestamp: frame as u32 * 3_000,
            ssrc: Ssrc::new(SSRC + from),
        };
        let mut buffer = vec![0; MAX_DATAGRAM];
        let at = header::write(&fields, std::iter::empty(), &[], &mut buffer).unwrap_or(0);
        let end = at + PAYLOAD;
        // Payload descriptor with picture id and TL0PICIDX (RFC 7741), then a keyframe's header or a P bit.
        let start = if n.is_multiple_of(FRAME) { 0x10 } else { 0 };
        let id = (frame & 0x7fff) as u16;
        let body = [0x80 | start, 0xe0, 0x80 | (id >> 8) as u8, id as u8, frame as u8, 0];
        buffer[at..at + body.len()].copy_from_slice(&body);
        let vp8 = if n == 0 { [0, 0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2] } else { [1; 10] };
        buffer[at + body.len()..at + body.len() + vp8.len()].copy_from_slice(&vp8);
        let len = sealer.seal_rtp(&mut buffer, at, end, ((n + 1) >> 16) as u32).unwrap_or(0);
        buffer.truncate(len);
        buffer
    };
    (0..packets).map(seal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_goes_to_every_receiver_without_allocations() {
        let steps = run(10, 500);
        assert_eq!(steps, Steps { forwarded: 5000, repeated: 0, allocations: 0 });
    }

    #[test]
    fn what_a_receiver_misses_is_sent_again_without_allocations() {
        assert_eq!(run_repeats(10, 500), Steps { forwarded: 5000, repeated: 25, allocations: 0 });
    }

    #[test]
    fn every_packet_goes_to_every_relay_without_allocations() {
        assert_eq!(run_relays(10, 500), Steps { forwarded: 5000, repeated: 0, allocations: 0 });
    }

    #[test]
    fn every_packet_of_a_room_goes_to_the_others_in_it() {
        assert_eq!(run_rooms(5, 3, 60), Steps { forwarded: 5 * 3 * 2 * 60, repeated: 0, allocations: 0 });
        assert_eq!(run_rooms(4, 2, 60), Steps { forwarded: 4 * 2 * 60, repeated: 0, allocations: 0 });
    }
}
