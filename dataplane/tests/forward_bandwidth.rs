//! A receiver behind a link of limited rate, in virtual time: what it is sent follows what its path carries.

mod forward_call;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forward_call::*;
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::ids::{EndpointId, Ssrc};
use ringbridge_dataplane::media::*;
use ringbridge_dataplane::messages::Event;
use ringbridge_dataplane::rtcp::TwccRecorder;
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use webrtc_util::marshal::MarshalSize;

/// Bytes of a frame of each encoding at 30 frames per second: 150, 480 and 1,920 kbit/s.
const FRAMES: [usize; 3] = [625, 2_000, 8_000];
const HEIGHTS: [u16; 3] = [180, 360, 720];

/// Raw feedback, as it comes off the wire.
struct Raw(Vec<u8>);

impl Marshal2 for Raw {
    fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

/// Three simulcast encodings; keyframes when asked for.
struct Simulcast {
    cameras: Vec<Camera>,
    wanted: Vec<bool>,
    /// The frame's index in libwebrtc's pattern of three temporal layers; `None` has one.
    temporal: Option<usize>,
}

impl Simulcast {
    fn new(ssrc: u32) -> Self {
        let cameras = (0..3).map(|i| Camera::new(JICOFO.vp8, ssrc + i, 1, HEIGHTS[i as usize])).collect();
        Self { cameras, wanted: vec![true; 3], temporal: None }
    }

    fn frame(&mut self) -> Vec<RtpPacket> {
        let mut packets = Vec::new();
        let place = self.temporal.map(|at| at % 8);
        self.temporal = self.temporal.map(|at| at + 1);
        let (tid, share) = place.map_or((0, 100), |at| [(0u8, 320), (2, 140), (1, 200), (2, 140)][at % 4]);
        // Those of the first half refer to the base layer alone, but for the second of the highest.
        let sync = tid > 0 && place.is_some_and(|at| at < 3);
        for ((camera, wanted), size) in self.cameras.iter_mut().zip(&mut self.wanted).zip(FRAMES) {
            let key = std::mem::take(wanted);
            let size = if key { size * 2 } else { size * share / 100 };
            if tid > 0 {
                camera.tl0 = camera.tl0.wrapping_sub(1);
            }
            for mut packet in camera.frame(key, size.div_ceil(1_000)) {
                let mut payload = packet.payload.to_vec();
                payload.resize(payload.len().max(size.min(1_000)), 0x55);
                if !key {
                    payload[5] = tid << 6 | u8::from(sync) << 5;
                }
                packet.payload = payload.into();
                packets.push(packet);
            }
        }
        packets
    }
}

/// What the receiver saw in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    bits: u64,
    /// Longest wait in the link's queue, microseconds.
    queue: u64,
    height: u16,
    /// Milliseconds in which nothing waited.
    free: u64,
    /// Longest time without a picture that can be decoded without anything sent again, milliseconds.
    gap: u64,
}

struct World {
    call: Call,
    sender: usize,
    receiver: usize,
    source: Simulcast,
    recorder: TwccRecorder,
    rate: f64,
    queue: Duration,
    busy_until: Instant,
    on_the_way: VecDeque<(Instant, RtpPacket)>,
    feedback: VecDeque<(Instant, Vec<u8>)>,
    height: u16,
    /// The number that the next packet of an intact stream has; none after a loss, until the next keyframe.
    intact: Option<u16>,
    last_picture: Instant,
    next_frame: Instant,
    /// False: the receiver never says when packets arrived.
    tells: bool,
    /// A receiver that estimates by what arrives, like Firefox.
    remb: Option<Remb>,
}

/// As libwebrtc's: up by 8 % a second, to one and a half times of what arrives at most; down where packets wait.
struct Remb {
    estimate: f64,
    bits: u64,
    queue: Duration,
    next: Instant,
}

impl Remb {
    fn packet(&mut self, bits: u64, waits: Duration) {
        self.bits += bits;
        self.queue = self.queue.max(waits);
    }

    /// Once a second, what is to be said.
    fn poll(&mut self, now: Instant) -> Option<ReceiverEstimatedMaximumBitrate> {
        if now < self.next {
            return None;
        }
        self.next += Duration::from_secs(1);
        let arrived = std::mem::take(&mut self.bits) as f64;
        let waited = std::mem::take(&mut self.queue);
        self.estimate = match waited > Duration::from_millis(100) {
            true => self.estimate.min(arrived * 0.85),
            false => (self.estimate * 1.08).min(1.5 * arrived + 10_000.0).max(self.estimate),
        };
        Some(ReceiverEstimatedMaximumBitrate { sender_ssrc: 99, bitrate: self.estimate as f32, ssrcs: vec![11] })
    }
}

const DELAY: Duration = Duration::from_millis(20);

impl World {
    fn new(config: ForwarderConfig, media: Media, rate: f64) -> Self {
        let mut call = Call::spread(config, 1, 64);
        let sender = call.join(JICOFO.media(), vec![video_source("a-v0", &[11, 12, 13])]);
        let receiver = call.join(media, vec![]);
        call.want(receiver, 720);
        let start = call.now;
        Self {
            call,
            sender,
            receiver,
            source: Simulcast::new(11),
            recorder: TwccRecorder::default(),
            rate,
            queue: Duration::from_secs(1),
            busy_until: start,
            on_the_way: VecDeque::new(),
            feedback: VecDeque::new(),
            height: 0,
            intact: None,
            last_picture: start,
            next_frame: start,
            tells: true,
            remb: None,
        }
    }

    /// One whose receiver estimates, at first 200 kbit/s.
    fn with_remb(media: Media, rate: f64) -> Self {
        let mut world = Self::new(ForwarderConfig::default(), media, rate);
        let next = world.call.now + Duration::from_secs(1);
        world.remb = Some(Remb { estimate: 200_000.0, bits: 0, queue: Duration::ZERO, next });
        world.tells = false;
        world
    }

    fn millisecond(&mut self, second: &mut Second) {
        self.call.millis(1);
        let now = self.call.now;
        if now >= self.next_frame {
            // With temporal layers at half the rate, as cameras that spare their processor.
            let frame_rate = if self.source.temporal.is_some() { 15.0 } else { 30.0 };
            self.next_frame += Duration::from_secs_f64(1.0 / frame_rate);
            for packet in self.source.frame() {
                self.call.send(self.sender, &packet);
            }
        }
        for wish in self.call.clients[self.sender]
            .take_rtcp::<rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication>()
        {
            self.source.wanted[(wish.media_ssrc - 11) as usize] = true;
        }
        for packet in self.call.clients[self.receiver].take_rtp() {
            let waits = self.busy_until.saturating_duration_since(now);
            second.queue = second.queue.max(waits.as_micros() as u64);
            if waits > self.queue {
                continue;
            }
            let bytes = packet.marshal_size() + 16;
            if let Some(remb) = &mut self.remb {
                remb.packet(bytes as u64 * 8, waits);
            }
            self.busy_until = self.busy_until.max(now) + Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate);
            self.on_the_way.push_back((self.busy_until + DELAY, packet));
        }
        while self.on_the_way.front().is_some_and(|(at, _)| *at <= now) {
            let (at, packet) = self.on_the_way.pop_front().unwrap();
            second.bits += (packet.marshal_size() as u64 + 16) * 8;
            let numbered = self.tells.then(|| self.call.clients[self.receiver].extension(MediaKind::Video, TCC));
            if let Some(value) = numbered.and_then(|id| packet.header.get_extension(id)) {
                self.recorder.record(at, u16::from_be_bytes([value[0], value[1]]), packet.header.marker);
            }
            if packet.header.ssrc == 11 {
                // The keyframe header of `vp8` has the size.
                let keyframe = packet.payload.get(6).is_some_and(|b| b & 1 == 0) && packet.payload[0] & 0x10 != 0;
                if keyframe {
                    self.height = u16::from_le_bytes([packet.payload[14], packet.payload[15]]);
                }
                let number = packet.header.sequence_number;
                let intact = keyframe || self.intact == Some(number);
                self.intact = intact.then(|| number.wrapping_add(1));
                if intact && packet.header.marker {
                    self.last_picture = now;
                }
            }
        }
        let mut out = [0; 1_200];
        while let Some(len) = self.recorder.take_feedback(now, Ssrc::new(99), Ssrc::new(11), &mut out) {
            self.feedback.push_back((now + DELAY, out[..len].to_vec()));
        }
        while self.feedback.front().is_some_and(|(at, _)| *at <= now) {
            let (_, packet) = self.feedback.pop_front().unwrap();
            if self.tells {
                self.call.send_rtcp(self.receiver, &Raw(packet));
            }
        }
        if let Some(estimate) = self.remb.as_mut().and_then(|remb| remb.poll(now)) {
            self.call.send_rtcp(self.receiver, &estimate);
        }
        second.height = self.height;
        second.free += u64::from(self.busy_until <= now);
        second.gap = second.gap.max(now.duration_since(self.last_picture).as_millis() as u64);
    }

    /// Lets seconds pass.
    fn run(&mut self, seconds: usize) -> Vec<Second> {
        (0..seconds)
            .map(|_| {
                let mut second = Second::default();
                (0..1000).for_each(|_| self.millisecond(&mut second));
                second
            })
            .collect()
    }
}

#[test]
fn a_squeezed_link_gets_less_and_gets_the_top_layer_back() {
    let mut world = World::new(ForwarderConfig::default(), JICOFO.media(), 3e6);
    let free = world.run(10);
    assert_eq!(free[4].height, 720, "{free:?}");
    assert!(free[9].bits > 1_900_000 && free[9].queue < 60_000, "{free:?}");
    world.rate = 400_000.0;
    let squeezed = world.run(12);
    assert_eq!(squeezed[1].height, 180, "within two seconds: {squeezed:?}");
    assert!(squeezed[3..].iter().all(|s| s.queue < 150_000), "{squeezed:?}");
    world.rate = 3e6;
    let back = world.run(10);
    assert_eq!(back[9].height, 720, "{back:?}");
    assert!(world.call.count(Counter::ProbePackets) > 0);
    let reported = world.call.take_events().into_iter().filter_map(|e| match e {
        Event::Bandwidth { endpoint: EndpointId(101), bandwidth } => Some(bandwidth),
        _ => None,
    });
    let reported: Vec<_> = reported.collect();
    assert!((10..=33).contains(&reported.len()), "at most once a second: {}", reported.len());
    let last = reported.last().unwrap();
    assert!(last.estimate > Some(Bitrate::new(2_000_000)) && last.target > Bitrate::new(1_900_000), "{last:?}");
    assert!((1_900_000..3_000_000).contains(&last.sent.get()), "{last:?}");
    assert!(last.rtt.is_some_and(|rtt| (40..200).contains(&rtt.as_millis())), "{last:?}");
}

/// A process that takes over knows what the link carries: it sends no more, and no less, than the one before.
#[test]
fn estimates_go_on_over_hand_overs() {
    let mut world = World::new(ForwarderConfig::default(), JICOFO.media(), 3e6);
    let in_turns = |world: &mut World, times, seconds| -> Vec<Second> {
        let turns = (0..times).flat_map(|_| {
            world.call.hand_over();
            world.run(seconds)
        });
        turns.collect()
    };
    world.run(10);
    let free = in_turns(&mut world, 3, 2);
    assert!(free.iter().all(|s| s.height == 720 && s.bits > 1_900_000 && s.queue < 60_000 && s.gap < 250), "{free:?}");
    world.rate = 400_000.0;
    let squeezed = in_turns(&mut world, 6, 2);
    assert!(squeezed[2..].iter().all(|s| s.height == 180), "{squeezed:?}");
    assert!(squeezed[4..].iter().all(|s| s.queue < 150_000 && s.gap < 250), "{squeezed:?}");
    world.rate = 3e6;
    let back = in_turns(&mut world, 2, 5);
    assert_eq!(back[9].height, 720, "{back:?}");
}

/// Few frames are left of the lowest encoding on a narrow link; what that link carries more is found all the same.
#[test]
fn temporal_layers_fill_a_narrow_link_and_do_not_hide_a_wide_one() {
    let mut world = World::new(ForwarderConfig::default(), JICOFO.media(), 3e6);
    world.source.temporal = Some(0);
    let free = world.run(10);
    assert!(free[9].height == 720 && free[9].bits > 1_900_000, "{free:?}");
    world.rate = 200_000.0;
    let squeezed = world.run(25);
    assert!(squeezed[6..].iter().all(|s| s.height == 180 && s.gap < 500), "{squeezed:?}");
    let used = squeezed[10..].iter().map(|s| s.bits).sum::<u64>() / 15;
    assert!(used > 120_000, "{used} of 200,000 bits per second: {squeezed:?}");
    world.rate = 3e6;
    let back = world.run(10);
    assert_eq!(back[9].height, 720, "{back:?}");
}

/// The queue of a link that shrinks is full at once: what follows must find room in it, or the picture stands for seconds.
#[test]
fn a_squeeze_stops_the_picture_for_less_than_a_second() {
    for (rate, queue) in [(400_000.0, 600), (400_000.0, 300), (300_000.0, 500), (600_000.0, 800)] {
        let mut world = World::new(ForwarderConfig::default(), JICOFO.media(), 3e6);
        world.queue = Duration::from_millis(queue);
        world.run(10);
        world.rate = rate;
        let squeezed = world.run(12);
        let gap = squeezed.iter().map(|s| s.gap).max().unwrap();
        assert!(gap < 1_000, "{gap} ms at {rate} with {queue} ms: {squeezed:?}");
        assert!(squeezed[4..].iter().all(|s| s.gap < 250), "{rate} with {queue} ms: {squeezed:?}");
    }
}

#[test]
fn a_receiver_that_tells_nothing_is_not_held_back() {
    let mut world = World::new(ForwarderConfig::default(), JICOFO.media(), 9e6);
    world.tells = false;
    let seconds = world.run(6);
    assert_eq!(seconds[5].height, 720, "{seconds:?}");
    assert_eq!(world.call.count(Counter::ProbePackets), 0);
}

#[test]
fn without_congestion_control_everything_is_sent() {
    let config = ForwarderConfig { congestion_control: false, ..ForwarderConfig::default() };
    let mut world = World::new(config, JICOFO.media(), 400_000.0);
    let seconds = world.run(6);
    assert!(seconds[5].queue > 900_000, "{seconds:?}");
}

#[test]
fn without_rtx_there_are_no_probes() {
    let mut world = World::new(ForwarderConfig::default(), Numbers { rtx: None, ..JICOFO }.media(), 400_000.0);
    let seconds = world.run(8);
    assert_eq!(seconds[7].height, 180, "{seconds:?}");
    assert_eq!(world.call.count(Counter::ProbePackets), 0);
}

/// What a Firefox negotiates; behind a Jicofo the bridge does not hear of it.
fn firefox() -> Media {
    let mut media = JICOFO.media();
    media.header_extensions.retain(|extension| extension.uri != TCC);
    for codec in &mut media.codecs {
        for feedback in codec.feedback.iter_mut().filter(|(kind, _)| kind == "transport-cc") {
            *feedback = ("goog-remb".to_owned(), String::new());
        }
    }
    media
}

/// The lowest encoding alone would keep its estimate at 235 kbit/s for ever, half of what the next one needs.
#[test]
fn a_receiver_that_estimates_by_what_arrives_gets_to_the_top() {
    for media in [firefox(), JICOFO.media()] {
        let mut world = World::with_remb(media, 5e6);
        let seconds = world.run(40);
        let first = |height| seconds.iter().position(|s| s.height == height);
        assert!(first(360).is_some_and(|at| at < 18), "{seconds:?}");
        assert_eq!(seconds[39].height, 720, "{seconds:?}");
        assert!(world.call.count(Counter::ProbePackets) > 0);
        // Nothing more is wanted, and nothing is sent beyond it.
        let before = world.call.count(Counter::ProbePackets);
        world.remb.as_mut().unwrap().estimate = 4e6;
        world.run(3);
        let settled = world.call.count(Counter::ProbePackets);
        assert!(settled - before < 300, "{before} {settled}");
        world.run(5);
        assert_eq!(world.call.count(Counter::ProbePackets), settled);
    }
}

/// There is no room: that is found out now and then, and costs little.
#[test]
fn a_narrow_link_to_a_receiver_that_estimates_is_not_kept_full() {
    let mut world = World::with_remb(firefox(), 300_000.0);
    let seconds = world.run(120);
    assert!(seconds[5..].iter().all(|s| s.height == 180 && s.queue < 250_000), "{seconds:?}");
    let long = seconds[5..].iter().filter(|s| s.queue > 100_000).count();
    assert!((2..16).contains(&long), "{long} of 115 seconds with a queue: {seconds:?}");
}

#[test]
fn assumed_bandwidth_takes_the_place_of_the_estimate() {
    let mut world = World::new(ForwarderConfig::default(), JICOFO.media(), 9e6);
    let default = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
    let assumed = ReceiverConstraints {
        default,
        assumed_bandwidth: Some(Bitrate::new(600_000)),
        ..ReceiverConstraints::default()
    };
    world.call.constrain(world.receiver, assumed);
    let seconds = world.run(5);
    assert_eq!(seconds[4].height, 360, "{seconds:?}");
}

/// One stream far above what the link carries: it pauses until the queue has drained, again and again, so that audio has
/// a chance; where a lower layer fits, it is given at once.
#[test]
fn a_stream_that_never_fits_leaves_room() {
    let mut world = World::new(ForwarderConfig::default(), JICOFO.media(), 120_000.0);
    world.source.cameras.truncate(1);
    let seconds = world.run(20);
    let free: u64 = seconds[5..].iter().map(|s| s.free).sum();
    assert!(free > 1_000, "{free} ms of 15 s: {seconds:?}");
    world.rate = 2e6;
    let seconds = world.run(6);
    assert!(seconds[5].bits > 140_000 && seconds[5].queue < 50_000, "{seconds:?}");
}
