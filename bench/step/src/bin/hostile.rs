//! What datagrams of peers that misbehave cost a worker, apart from the kernel's part: nanoseconds each, and for floods at a
//! rate the share of a core. Processor time of this thread, so that a loaded machine says nearly the same.
//! `cargo run --release -p ringbridge-step --bin hostile`.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::conference::{EndpointSlot, Forwarder, ForwarderConfig};
use ringbridge_dataplane::congestion::shedding::Shedding;
use ringbridge_dataplane::demux::{AddressTable, Owner, Protocol};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, PayloadType, Ssrc};
use ringbridge_dataplane::io::{MAX_DATAGRAM, PacketSink, Path, processor_time};
use ringbridge_dataplane::media::{
    CodecParameters, Encoding, Limit, Media, MediaKind, ReceiverConstraints, SourceDescription, VideoConstraint,
    VideoType,
};
use ringbridge_dataplane::messages::{Command, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::srtp::Sealer;
use ringbridge_dataplane::srtp::SrtpProfile;
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use ringbridge_step::keys;

const CONFERENCE: ConferenceId = ConferenceId(1);

struct Sink {
    slot: [u8; MAX_DATAGRAM],
    sent: u64,
}

impl PacketSink for Sink {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.slot)
    }

    fn commit(&mut self, _len: usize, _path: Path) {
        self.sent += 1;
    }
}

/// A conference in which everybody sends one video.
struct Room {
    forwarder: Forwarder,
    stats: Arc<WorkerStats>,
    sink: Sink,
    now: Instant,
    slots: Vec<EndpointSlot>,
    sealers: Vec<Sealer>,
}

fn media() -> Media {
    let video = |id, name: &str, parameters: &[(&str, &str)], feedback: &[(&str, &str)]| CodecParameters {
        payload_type: PayloadType::from_low_bits(id),
        kind: MediaKind::Video,
        name: name.into(),
        clock_rate: 90_000,
        channels: 1,
        parameters: parameters.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect(),
        feedback: feedback.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect(),
    };
    let vp8 = video(96, "VP8", &[], &[("nack", ""), ("nack", "pli"), ("goog-remb", "")]);
    Media { codecs: vec![vp8, video(97, "rtx", &[("apt", "96")], &[])], ..Media::default() }
}

impl Room {
    fn new(endpoints: u32) -> Self {
        let stats = Arc::new(WorkerStats::default());
        let mut forwarder = Forwarder::new(ForwarderConfig::default(), Arc::clone(&stats));
        let mut now = Instant::now();
        let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
        forwarder.handle_command(now, Command::CreateConference { conference: CONFERENCE, feedback });
        let mut sink = Sink { slot: [0; MAX_DATAGRAM], sent: 0 };
        let (mut slots, mut sealers) = (Vec::new(), Vec::new());
        for n in 0..endpoints {
            let endpoint = EndpointId(n);
            let ice = IceCredentials { ufrag: String::new(), pwd: String::new() };
            let label = String::new();
            let new = NewEndpoint { conference: CONFERENCE, endpoint, label, ice, controlling: true };
            forwarder.handle_command(now, Command::CreateEndpoint(Box::new(new)));
            sealers.push(Sealer::new(&keys(n).inbound, SrtpProfile::AeadAes128Gcm));
            forwarder.handle_command(now, Command::SetSrtp { endpoint, keys: Box::new(keys(n)) });
            forwarder.handle_command(now, Command::SetMedia { endpoint, media: Box::new(media()) });
            let encodings = vec![Encoding { ssrc: Ssrc::new(1_000 + n), rtx: Some(Ssrc::new(5_000 + n)) }];
            let name = format!("{n}-v0");
            let video_type = VideoType::Camera;
            let source = SourceDescription { name, kind: MediaKind::Video, video_type, encodings };
            forwarder.handle_command(now, Command::SetSources { endpoint, sources: vec![source] });
            let default = VideoConstraint { max_height: Limit::Max(2160), max_frame_rate: Limit::Unlimited };
            let constraints = Box::new(ReceiverConstraints { default, ..ReceiverConstraints::default() });
            forwarder.handle_command(now, Command::SetConstraints { endpoint, constraints });
            let remote = SocketAddr::from(([127, 9, (n >> 8) as u8, n as u8], 4000));
            forwarder.set_path(endpoint, Some(Path { local: 0, remote }));
            now += Duration::from_millis(50);
            forwarder.handle_timeout(now, &mut sink);
            slots.extend(forwarder.slot(endpoint));
        }
        Self { forwarder, stats, sink, now, slots, sealers }
    }

    /// A packet of `from` on an SSRC, as it goes over the wire; every one a keyframe of its own.
    fn video(&self, from: usize, ssrc: u32, n: u32, height: u16, payload: usize) -> Vec<u8> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        buffer[..2].copy_from_slice(&[0x80, 0x80 | 96]);
        buffer[2..4].copy_from_slice(&(n as u16).to_be_bytes());
        buffer[4..8].copy_from_slice(&(n * 450).to_be_bytes());
        buffer[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let id = n as u16 & 0x7fff;
        let vp8 = [0x90, 0xe0, 0x80 | (id >> 8) as u8, id as u8, n as u8, 0, 0, 0, 0, 0x9d, 1, 0x2a, 0, 5];
        buffer[12..26].copy_from_slice(&vp8);
        buffer[26..28].copy_from_slice(&height.to_le_bytes());
        let len = self.sealers[from].seal_rtp(&mut buffer, 12, 12 + payload, n >> 16).unwrap_or(0);
        buffer.truncate(len);
        buffer
    }

    fn rtcp(&mut self, from: usize, plain: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        buffer[..plain.len()].copy_from_slice(plain);
        let len = self.sealers[from].seal_rtcp(&mut buffer, plain.len()).unwrap_or(0);
        buffer.truncate(len);
        buffer
    }

    fn take(&mut self, from: usize, datagram: &mut [u8]) {
        let slot = self.slots[from];
        match Protocol::of(datagram) {
            Some(Protocol::Rtcp) => self.forwarder.handle_rtcp(self.now, slot, datagram, &mut self.sink),
            _ => self.forwarder.handle_rtp(self.now, slot, datagram, &mut self.sink),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.forwarder.handle_timeout(self.now, &mut self.sink);
    }

    /// Gives the forwarder datagrams at a rate; prints what that takes.
    fn flood(&mut self, what: &str, from: usize, rate: u32, mut datagrams: Vec<Vec<u8>>) {
        let count = datagrams.len() as u32;
        let dropped = |stats: &WorkerStats| -> u64 {
            let all = Counter::ALL.iter().filter(|counter| counter.metric() == "dropped");
            all.map(|counter| stats.get(*counter)).sum()
        };
        let (before, started) = (dropped(&self.stats), processor_time());
        for datagram in &mut datagrams {
            self.take(from, datagram);
            self.pass(Duration::from_secs(1) / rate);
        }
        let took = processor_time() - started;
        let share = took.as_secs_f64() * f64::from(rate) / f64::from(count) * 100.0;
        let each = took.as_nanos() as f64 / f64::from(count);
        let lost = dropped(&self.stats) - before;
        println!("{what:<66} {each:>9.0} ns  {rate:>7}/s: {share:>6.2} % of a core, {lost} of {count} dropped");
    }
}

fn time(what: &str, count: u32, mut step: impl FnMut(u32)) {
    (0..count / 10).for_each(&mut step);
    let started = processor_time();
    (0..count).for_each(&mut step);
    println!("{what:<66} {:>9.0} ns", (processor_time() - started).as_nanos() as f64 / f64::from(count));
}

fn stun(password: &str, padding: usize) -> Vec<u8> {
    let mut buffer = vec![0; 600];
    let username = vec![b'x'; padding.max(9)];
    let writer = Writer::new(&mut buffer, Class::Request, &[7; 12]);
    let writer = writer.username(&username).priority(1).role(true, 5);
    let len = writer.finish(&integrity_key(password)).unwrap_or(0);
    buffer.truncate(len);
    buffer
}

fn before_authentication() {
    let path = |n: u32| Path { local: 0, remote: SocketAddr::from((n.to_be_bytes(), 9)) };
    let mut table = AddressTable::new(16_384);
    (0..8_000).for_each(|n| {
        let _ = table.learn(path(n), Owner::Endpoint(n), true);
    });
    time("random bytes: no protocol", 1_000_000, |n| {
        black_box(Protocol::of(&black_box([0xff, n as u8])));
    });
    time("DTLS, RTP, RTCP from an unknown address", 1_000_000, |n| {
        black_box(table.get(&path(n | 1 << 20)));
    });
    let key = integrity_key("right");
    for (what, padding) in [("STUN of 100 bytes", 9), ("STUN of 600 bytes", 513)] {
        let datagram = stun("wrong", padding);
        time(&format!("{what} for an unknown ufrag"), 100_000, |_| {
            let _ = black_box(Message::read_unchecked(black_box(&datagram)));
        });
        time(&format!("{what} with a wrong MESSAGE-INTEGRITY"), 100_000, |_| {
            if let Ok(message) = Message::parse(black_box(&datagram)) {
                black_box(message.verify(&key));
            }
        });
    }
}

fn members() {
    let large_nack = |media: u32| {
        let entries = (0..340u16).flat_map(|i| {
            let [a, b] = (17 * i).to_be_bytes();
            [a, b, 0xff, 0xff]
        });
        let head = [0x81u8, 205, 1, 0x56, 0, 0, 0, 9];
        head.into_iter().chain(media.to_be_bytes()).chain(entries).collect::<Vec<u8>>()
    };
    let mut room = Room::new(2);
    let video = |room: &Room, range: std::ops::Range<u32>, ssrc: u32| {
        range.map(|n| room.video(0, ssrc, n, 720, 1_200)).collect::<Vec<_>>()
    };
    let one = video(&room, 1..20_001, 1_000);
    let again = one.clone();
    room.flood("RTP of 1,200 bytes, to one receiver", 0, 1_000, one);
    room.flood("RTP that was seen before", 0, 1_000, again);
    let unknown = video(&room, 1..20_001, 9);
    room.flood("RTP of an SSRC that was not signalled", 0, 1_000, unknown);
    let mut forged = video(&room, 20_001..40_001, 1_000);
    forged.iter_mut().for_each(|datagram| *datagram.last_mut().unwrap_or(&mut 0) ^= 1);
    room.flood("RTP with a wrong tag", 0, 1_000, forged);
    let nacks: Vec<_> = (0..5_000).map(|_| room.rtcp(1, &large_nack(1_000))).collect();
    room.flood("NACK of 5,780 numbers, 25 Mbit/s", 1, 2_200, nacks);
    let parts = [0x80u8, 210, 0, 0].repeat(350);
    let parts: Vec<_> = (0..5_000).map(|_| room.rtcp(1, &parts)).collect();
    room.flood("RTCP of 350 parts, 25 Mbit/s", 1, 2_200, parts);
    for others in [9, 49, 199] {
        let mut room = Room::new(others + 1);
        let flood = (1..4_001).map(|n| room.video(0, 1_000, n, 720, 1_200)).collect();
        room.flood(&format!("RTP to {others} receivers, ten times a camera's rate"), 0, 3_800, flood);
        // The others send as cameras do, on a worker at its limit.
        room.forwarder.set_shedding(Shedding::at(3));
        let mut flood: Vec<_> = (4_001..8_001).map(|n| room.video(0, 1_000, n, 720, 1_200)).collect();
        let honest: Vec<_> = (1..401).map(|n| room.video(1, 1_001, n, 720, 1_200)).collect();
        let (before, started) = (room.stats.get(Counter::DropInputShare), processor_time());
        for (n, datagram) in flood.iter_mut().enumerate() {
            room.take(0, datagram);
            if let Some(mut datagram) = honest.get(n / 10).filter(|_| n % 10 == 0).cloned() {
                room.take(1, &mut datagram);
            }
            room.pass(Duration::from_secs(1) / 3_800);
        }
        let seconds = 4_000.0 / 3_800.0;
        let share = (processor_time() - started).as_secs_f64() / seconds * 100.0;
        let dropped = room.stats.get(Counter::DropInputShare) - before;
        println!(
            "{:<66} {share:>6.2} % of a core, {dropped} of 4,000 dropped",
            "  on a worker at its limit, beside a camera"
        );
    }
    let mut room = Room::new(50);
    for n in 0..50 {
        let mut first = room.video(n, 1_000 + n as u32, 1, 720, 200);
        room.take(n, &mut first);
        room.pass(Duration::from_millis(20));
    }
    let before = room.stats.get(Counter::Allocations);
    let flood = (2..2_002).map(|n| room.video(0, 1_000, n, 360 * (n % 2 + 1) as u16, 40)).collect();
    room.flood("keyframes of alternating heights in a conference of 50", 0, 200, flood);
    println!("  allocations in 10 s: {}", room.stats.get(Counter::Allocations) - before);
}

fn main() {
    before_authentication();
    members();
}
