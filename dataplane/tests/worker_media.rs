//! Two clients in one conference exchange audio and video through a real dataplane on loopback, living on one worker or
//! on two: ICE by the crate `is`, SRTP by webrtc-srtp, keys installed by command, payload types that differ.

#[path = "worker_media/handover.rs"]
mod handover;
#[path = "worker_media/handover_times.rs"]
mod handover_times;
mod worker_client;

use std::net::SocketAddr;

use bytes::Bytes;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, PayloadType, Ssrc, WorkerId};
use ringbridge_dataplane::io::IoChoice;
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::media::{
    CodecParameters, Encoding, HeaderExtension, Limit, Media, MediaKind, ReceiverConstraints, SourceDescription,
    VideoConstraint, VideoType,
};
use ringbridge_dataplane::messages::Command;
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::stats::Counter;
use ringbridge_dataplane::{Dataplane, DataplaneConfig};
use rtp::codecs::vp8::Vp8Packet;
use rtp::packetizer::Depacketizer;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::marshal::{Marshal, Unmarshal};
use worker_client::*;

/// One participant's numbers.
struct Numbers {
    opus: u8,
    vp8: u8,
    audio_ssrc: u32,
    video_ssrc: u32,
}

const ALICE: Numbers = Numbers { opus: 111, vp8: 100, audio_ssrc: 0xa110_0001, video_ssrc: 0xa110_0002 };
const BOB: Numbers = Numbers { opus: 96, vp8: 97, audio_ssrc: 0xb0b0_0001, video_ssrc: 0xb0b0_0002 };

struct Participant {
    client: Client,
    numbers: &'static Numbers,
    seal: Context,
    open: Context,
    /// Of audio and of video.
    sequence: [u16; 2],
    /// Opened packets.
    heard: Vec<rtp::packet::Packet>,
    profile: SrtpProfile,
    /// Indices of the SRTCP packets that came.
    rtcp_indices: Vec<u32>,
}

fn key(seed: u8, profile: SrtpProfile) -> MasterKey {
    let mut salt = [0; 14];
    salt[..profile.salt_len()].fill(seed ^ 0x55);
    let mut key = [0; 32];
    key[..profile.key_len()].fill(seed);
    MasterKey { key, salt }
}

fn context(key: MasterKey, profile: SrtpProfile) -> Context {
    let theirs = match profile {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(&key.key[..profile.key_len()], &key.salt[..profile.salt_len()], theirs, None, None).unwrap()
}

/// Gives a command to the endpoint's home, and to the other workers of its conference where they need it.
fn send(links: &mut [WorkerLink], home: usize, spread: bool, command: &Command) {
    for link in links.iter_mut().filter(|l| l.worker() == WorkerId::from_index(home) || (spread && command.is_shared()))
    {
        link.send(command.clone()).unwrap();
    }
}

fn join(
    links: &mut [WorkerLink],
    home: usize,
    spread: bool,
    client: Client,
    numbers: &'static Numbers,
    profile: SrtpProfile,
) -> Participant {
    let mut give = |command| send(links, home, spread, &command);
    let endpoint = EndpointId(client.endpoint);
    let seed = client.endpoint as u8 * 16;
    let (inbound, outbound) = (key(seed + 1, profile), key(seed + 2, profile));
    give(Command::SetSrtp {
        endpoint,
        keys: Box::new(SrtpKeys { profile, inbound: inbound.clone(), outbound: outbound.clone() }),
    });
    let format = |id, kind, name: &str, clock_rate, channels| CodecParameters {
        payload_type: PayloadType::new(id).unwrap(),
        kind,
        name: name.into(),
        clock_rate,
        channels,
        parameters: Vec::new(),
        feedback: match kind {
            MediaKind::Audio => Vec::new(),
            MediaKind::Video => vec![("nack".into(), "pli".into()), ("ccm".into(), "fir".into())],
        },
    };
    let media = Media {
        codecs: vec![
            format(numbers.opus, MediaKind::Audio, "opus", 48_000, 2),
            format(numbers.vp8, MediaKind::Video, "VP8", 90_000, 1),
        ],
        header_extensions: vec![HeaderExtension {
            id: 1,
            kind: MediaKind::Audio,
            uri: "urn:ietf:params:rtp-hdrext:ssrc-audio-level".into(),
        }],
        ..Media::default()
    };
    give(Command::SetMedia { endpoint, media: Box::new(media) });
    let source = |kind, suffix, ssrc| SourceDescription {
        name: format!("client{}-{suffix}", client.endpoint),
        kind,
        video_type: VideoType::Camera,
        encodings: vec![Encoding { ssrc, rtx: None }],
    };
    let sources = vec![
        source(MediaKind::Audio, "a0", Ssrc::new(numbers.audio_ssrc)),
        source(MediaKind::Video, "v0", Ssrc::new(numbers.video_ssrc)),
    ];
    give(Command::SetSources { endpoint, sources });
    let default = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
    let constraints = Box::new(ReceiverConstraints { default, ..ReceiverConstraints::default() });
    give(Command::SetConstraints { endpoint, constraints });
    Participant {
        client,
        numbers,
        seal: context(inbound, profile),
        open: context(outbound, profile),
        sequence: [1000, 65_530],
        heard: Vec::new(),
        profile,
        rtcp_indices: Vec::new(),
    }
}

/// A VP8 keyframe in one packet: payload descriptor, frame tag, start code, 320x180.
fn keyframe(fill: u8) -> Vec<u8> {
    let mut payload = vec![0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00];
    payload.resize(900, fill);
    payload
}

impl Participant {
    fn sealed(&mut self, payload_type: u8, ssrc: u32, timestamp: u32, payload: Vec<u8>) -> Vec<u8> {
        let sequence = &mut self.sequence[usize::from(ssrc == self.numbers.video_ssrc)];
        *sequence = sequence.wrapping_add(1);
        let sequence_number = *sequence;
        let packet = rtp::packet::Packet {
            header: rtp::header::Header {
                version: 2,
                marker: true,
                payload_type,
                sequence_number,
                timestamp,
                ssrc,
                ..Default::default()
            },
            payload: Bytes::from(payload),
        };
        self.seal.encrypt_rtp(&packet.marshal().unwrap()).unwrap().to_vec()
    }

    fn send(&mut self, payload_type: u8, ssrc: u32, timestamp: u32, payload: Vec<u8>) {
        let sealed = self.sealed(payload_type, ssrc, timestamp, payload);
        self.client.send(&sealed);
    }

    fn collect(&mut self) {
        for datagram in std::mem::take(&mut self.client.inbox) {
            if (192..=223).contains(&datagram[1]) {
                self.open.decrypt_rtcp(&datagram).expect("SRTCP of the bridge opens");
                let behind = if self.profile == SrtpProfile::Aes128CmHmacSha1_80 { 10 } else { 0 };
                let at = datagram.len() - behind - 4;
                let index = u32::from_be_bytes(datagram[at..at + 4].try_into().unwrap());
                self.rtcp_indices.push(index & 0x7fff_ffff);
            } else {
                let mut plain = self.open.decrypt_rtp(&datagram).expect("SRTP of the bridge opens");
                self.heard.push(rtp::packet::Packet::unmarshal(&mut plain).unwrap());
            }
        }
    }

    fn audio_from(&self, other: &Numbers) -> Vec<Bytes> {
        let packets = self.heard.iter().filter(|p| p.header.ssrc == other.audio_ssrc);
        packets
            .map(|p| {
                assert_eq!(p.header.payload_type, self.numbers.opus, "in the receiver's own numbers");
                p.payload.clone()
            })
            .collect()
    }

    fn frames_from(&self, other: &Numbers) -> Vec<Bytes> {
        let packets = self.heard.iter().filter(|p| p.header.ssrc == other.video_ssrc);
        packets
            .map(|p| {
                assert_eq!(p.header.payload_type, self.numbers.vp8, "in the receiver's own numbers");
                Vp8Packet::default().depacketize(&p.payload).unwrap()
            })
            .collect()
    }
}

#[test]
fn audio_and_video_cross_the_bridge() {
    exchange([1, 1], 0);
}

#[test]
fn calls_go_on_when_others_take_over_time_and_again() {
    exchange([1, 1], 20);
}

#[test]
fn calls_between_workers_go_on_when_others_take_over() {
    exchange([0, 1], 5);
}

#[test]
fn audio_and_video_cross_between_workers() {
    exchange([0, 1], 0);
}

/// What a dataplane at these addresses is started with.
fn config_of(addresses: &[SocketAddr], workers: usize, io: IoChoice) -> DataplaneConfig {
    let local_addresses = addresses.iter().map(|address| address.ip()).collect();
    DataplaneConfig { local_addresses, port: addresses[0].port(), workers, io, ..DataplaneConfig::default() }
}

/// Another dataplane goes on with the calls, on another backend where there is one; `meanwhile` happens while nobody receives.
fn take_over(dataplane: Dataplane, io: IoChoice, meanwhile: impl FnOnce()) -> (Dataplane, Vec<WorkerLink>) {
    let config = config_of(dataplane.local_addresses(), dataplane.workers(), io);
    let mut suspended = dataplane.suspend().map_err(|(_, error)| error).unwrap();
    meanwhile();
    let (state, sockets) = suspended.export().unwrap();
    let state = postcard::from_bytes(&postcard::to_allocvec(&state).unwrap()).unwrap();
    let mut prepared = Dataplane::start_from(config, state, sockets).unwrap();
    drop(suspended);
    let links = prepared.take_links();
    (prepared.go(), links)
}

/// Alice and Bob live on the workers of `homes`; so often, other dataplanes take over in the middle of the call.
fn exchange(homes: [usize; 2], take_overs: u32) {
    let spread = homes[0] != homes[1];
    for io in backends() {
        for profile in [SrtpProfile::AeadAes256Gcm, SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80] {
            // Two workers: whichever the kernel picks for a client, its packets arrive.
            let (mut dataplane, mut links) = start(io, 2);
            let bridge = dataplane.local_addresses()[0];
            for worker in if spread { 0..2 } else { 1..2 } {
                create_conference(&mut links[worker], 1);
            }
            for (endpoint, home) in (1..).zip(homes) {
                create_endpoint(&mut links[home], 1, endpoint);
                if spread {
                    let (conference, endpoint) = (ConferenceId(1), EndpointId(endpoint));
                    let remote =
                        Command::CreateRemoteEndpoint { conference, endpoint, home: WorkerId::from_index(home) };
                    links[1 - home].send(remote).unwrap();
                }
            }
            let [a, b] = homes;
            let mut alice = join(&mut links, a, spread, Client::new(bridge, a, 1), &ALICE, profile);
            let mut bob = join(&mut links, b, spread, Client::new(bridge, b, 2), &BOB, profile);
            let mut events = Vec::new();
            let mut stats = [dataplane.stats(WorkerId::new(0)), dataplane.stats(WorkerId::new(1))];

            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            let mut round = 0u32;
            let done = |alice: &Participant, bob: &Participant| {
                [(alice, &BOB), (bob, &ALICE)]
                    .iter()
                    .all(|(to, from)| to.audio_from(from).len() >= 10 && to.frames_from(from).len() >= 10)
            };
            let (mut said, mut shown) = (Vec::new(), Vec::new());
            while !done(&alice, &bob) || (take_overs > 0 && round < take_overs * 3 + 5) {
                assert!(
                    std::time::Instant::now() < deadline,
                    "heard {} and {} packets; {:?}",
                    alice.heard.len(),
                    bob.heard.len(),
                    Counter::ALL.iter().map(|c| (c, stats[0].get(*c) + stats[1].get(*c))).collect::<Vec<_>>()
                );
                for participant in [&mut alice, &mut bob] {
                    participant.client.step();
                    participant.collect();
                }
                for link in &mut links {
                    events.extend(std::iter::from_fn(|| link.poll_event()));
                }
                if is_connected(&events, 1) && is_connected(&events, 2) {
                    round += 1;
                    let (audio, video) = (vec![round as u8; 80], keyframe(round as u8));
                    for participant in [&mut alice, &mut bob] {
                        let numbers = participant.numbers;
                        participant.send(numbers.opus, numbers.audio_ssrc, round * 960, audio.clone());
                        participant.send(numbers.vp8, numbers.video_ssrc, round * 3000, video.clone());
                    }
                    said.push(audio);
                    shown.push(video[1..].to_vec());
                    if round.is_multiple_of(3) && round <= take_overs * 3 {
                        let backends = backends();
                        let io = backends[(round / 3) as usize % backends.len()];
                        let waits = alice.sealed(ALICE.opus, ALICE.audio_ssrc, round * 960 + 480, vec![7; 7]);
                        said.push(vec![7; 7]);
                        (dataplane, links) = take_over(dataplane, io, || alice.client.send(&waits));
                        stats = [dataplane.stats(WorkerId::new(0)), dataplane.stats(WorkerId::new(1))];
                    }
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
            for (to, from) in [(&alice, &BOB), (&bob, &ALICE)] {
                assert!(to.audio_from(from).iter().all(|payload| said.iter().any(|sent| sent == payload)));
                assert!(to.frames_from(from).iter().all(|frame| shown.iter().any(|sent| sent == frame)));
                assert!(to.heard.iter().all(|p| [from.audio_ssrc, from.video_ssrc].contains(&p.header.ssrc)));
            }
            // What came while nobody received was not lost, and nothing had to be asked for anew.
            let waited = bob.heard.iter().filter(|p| p.payload[..] == [7; 7]).count();
            assert_eq!(waited, take_overs as usize);
            let requests = stats.iter().map(|s| s.get(Counter::KeyframeRequests)).sum::<u64>();
            assert!(requests <= 4, "{requests} keyframes asked for");
            // What is not authentic goes nowhere.
            let before = bob.heard.len();
            let mut forged = alice.sealed(ALICE.opus, ALICE.audio_ssrc, round * 960 + 960, vec![1, 2, 3]);
            *forged.last_mut().unwrap() ^= 1;
            alice.client.send(&forged);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while stats[a].get(Counter::DropSrtpAuth) == 0 {
                assert!(std::time::Instant::now() < deadline);
            }
            bob.client.step();
            bob.collect();
            assert!(bob.heard[before..].iter().all(|p| p.payload.len() != 3));
            assert_eq!(stats[a].get(Counter::DropSrtpAuth), 1);
            // What was heard is not heard again.
            let once = alice.sealed(ALICE.opus, ALICE.audio_ssrc, round * 960 + 1920, vec![4; 5]);
            alice.client.send(&once);
            alice.client.send(&once);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while stats[a].get(Counter::DropSrtpReplay) == 0
                || !bob.heard[before..].iter().any(|p| p.payload[..] == [4; 5])
            {
                assert!(std::time::Instant::now() < deadline);
                bob.client.step();
                bob.collect();
            }
            bob.client.step();
            bob.collect();
            assert_eq!(bob.heard[before..].iter().filter(|p| p.payload[..] == [4; 5]).count(), 1);
            assert_eq!(stats[a].get(Counter::DropSrtpReplay), 1);
            let crossed = stats.each_ref().map(|s| s.get(Counter::CrossWorkerPackets) > 0);
            assert_eq!(crossed, [spread; 2]);
            assert_eq!(dataplane.health().dead_worker(), None);
        }
    }
}
