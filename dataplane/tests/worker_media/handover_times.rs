//! How long a hand-over of many calls takes; a debug build takes longer than is waited for (`cargo test --release --test worker_media -- --ignored --nocapture times`).

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};

use super::*;

/// A participant that answers checks and sends, and no more: there may be hundreds.
struct Peer {
    endpoint: u32,
    socket: UdpSocket,
    seal: Context,
    sequence: u16,
    connected: bool,
}

impl Peer {
    fn ssrc(&self, stream: u32) -> u32 {
        self.endpoint * 100 + stream
    }

    fn join(link: &mut WorkerLink, conference: u32, endpoint: u32, bridge: SocketAddr) -> Self {
        create_endpoint(link, conference, endpoint);
        let profile = SrtpProfile::AeadAes128Gcm;
        let inbound = key(endpoint as u8, profile);
        let keys = SrtpKeys { profile, inbound: inbound.clone(), outbound: key(!(endpoint as u8), profile) };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(bridge).unwrap();
        socket.set_nonblocking(true).unwrap();
        let peer = Self { endpoint, socket, seal: context(inbound, profile), sequence: 0, connected: false };
        let id = EndpointId(endpoint);
        link.send(Command::SetSrtp { endpoint: id, keys: Box::new(keys) }).unwrap();
        let format = |id, kind, name: &str, clock_rate| CodecParameters {
            payload_type: PayloadType::new(id).unwrap(),
            kind,
            name: name.into(),
            clock_rate,
            channels: if kind == MediaKind::Audio { 2 } else { 1 },
            parameters: if name == "rtx" { vec![("apt".into(), "100".into())] } else { Vec::new() },
            feedback: vec![("transport-cc".into(), String::new()), ("nack".into(), String::new())],
        };
        let extension = |id, kind, uri: &str| HeaderExtension { id, kind, uri: uri.into() };
        let tcc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
        let media = Media {
            codecs: vec![
                format(111, MediaKind::Audio, "opus", 48_000),
                format(100, MediaKind::Video, "VP8", 90_000),
                format(96, MediaKind::Video, "rtx", 90_000),
            ],
            header_extensions: vec![
                extension(1, MediaKind::Audio, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
                extension(5, MediaKind::Video, tcc),
            ],
            ..Media::default()
        };
        link.send(Command::SetMedia { endpoint: id, media: Box::new(media) }).unwrap();
        let source = |name, kind, encodings| SourceDescription {
            name: format!("client{endpoint}-{name}"),
            kind,
            video_type: VideoType::Camera,
            encodings,
        };
        let encoding = |stream| Encoding {
            ssrc: Ssrc::new(peer.ssrc(stream)),
            rtx: (stream > 0).then(|| Ssrc::new(peer.ssrc(stream + 10))),
        };
        let sources = vec![
            source("a0", MediaKind::Audio, vec![encoding(0)]),
            source("v0", MediaKind::Video, vec![encoding(1), encoding(2), encoding(3)]),
        ];
        link.send(Command::SetSources { endpoint: id, sources }).unwrap();
        let default = VideoConstraint { max_height: Limit::Max(180), max_frame_rate: Limit::Unlimited };
        let constraints = ReceiverConstraints { last_n: Limit::Max(20), default, ..ReceiverConstraints::default() };
        link.send(Command::SetConstraints { endpoint: id, constraints: Box::new(constraints) }).unwrap();
        peer
    }

    /// Knocks until it is let in.
    fn knock(&self, worker: usize) {
        let ours = credentials(worker, self.endpoint);
        let mut buffer = [0; 200];
        let id = [&self.endpoint.to_be_bytes()[..], &[7; 8]].concat().try_into().unwrap();
        let writer = Writer::new(&mut buffer, Class::Request, &id).username(format!("{}:x", ours.ufrag).as_bytes());
        let len = writer.role(false, 1).priority(1).finish(&integrity_key(&ours.pwd)).unwrap();
        self.socket.send(&buffer[..len]).unwrap();
    }

    /// Answers checks; everything else is thrown away.
    fn listen(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            if buffer[0] > 3 {
                continue;
            }
            let Ok(message) = Message::read_unchecked(&buffer[..len]) else { continue };
            if message.class() != Class::Request {
                continue;
            }
            let (id, mut answer) = (message.transaction(), [0; 200]);
            let writer = Writer::new(&mut answer, Class::Success, &id).mapped(self.socket.local_addr().unwrap());
            let len = writer.finish(&integrity_key(&remote_credentials(self.endpoint).pwd)).unwrap();
            self.socket.send(&answer[..len]).unwrap();
        }
    }

    /// 20 ms of sound and video in three encodings.
    fn send(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        for stream in 0..4 {
            let header = rtp::header::Header {
                version: 2,
                marker: true,
                payload_type: if stream == 0 { 111 } else { 100 },
                sequence_number: self.sequence,
                timestamp: u32::from(self.sequence) * if stream == 0 { 960 } else { 1_800 },
                ssrc: self.ssrc(stream),
                ..Default::default()
            };
            let payload = if stream == 0 { vec![7; 80] } else { keyframe(self.sequence as u8) };
            let mut packet = rtp::packet::Packet { header, payload: Bytes::from(payload) };
            let value = if stream == 0 { vec![0x94] } else { self.sequence.to_be_bytes().to_vec() };
            packet.header.set_extension(if stream == 0 { 1 } else { 5 }, Bytes::from(value)).unwrap();
            let _ = self.socket.send(&self.seal.encrypt_rtp(&packet.marshal().unwrap()).unwrap());
        }
    }
}

/// Rooms of so many each, on one worker, whose participants have sent and received for a while.
fn measure(rooms: u32, size: u32) {
    for io in backends() {
        let (dataplane, mut links) = start(io, 1);
        let bridge = dataplane.local_addresses()[0];
        let mut peers = Vec::new();
        for room in 0..rooms {
            create_conference(&mut links[0], room + 1);
            for n in 0..size {
                peers.push(Peer::join(&mut links[0], room + 1, room * size + n + 1, bridge));
                if peers.len() % 50 == 0 {
                    // The ring of commands is not endless.
                    let deadline = Instant::now() + Duration::from_millis(20);
                    while Instant::now() < deadline {
                        links[0].poll_event();
                    }
                }
            }
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut connected = 0;
        while connected < peers.len() {
            assert!(Instant::now() < deadline, "{connected} of {} connected", peers.len());
            for peer in peers.iter_mut().filter(|peer| !peer.connected) {
                peer.knock(0);
            }
            let pause = Instant::now() + Duration::from_millis(100);
            while Instant::now() < pause {
                peers.iter_mut().for_each(Peer::listen);
                while let Some(event) = links[0].poll_event() {
                    let events = [event];
                    for peer in peers.iter_mut().filter(|peer| !peer.connected) {
                        if is_connected(&events, peer.endpoint) {
                            peer.connected = true;
                            connected += 1;
                        }
                    }
                }
            }
        }
        // Each in turn, so that this is no overload: what a hand-over takes is measured, not how long a turn is then.
        for round in 0..40 {
            let next = Instant::now() + Duration::from_millis(20);
            peers.iter_mut().filter(|peer| peer.endpoint % 20 == round % 20).for_each(Peer::send);
            while Instant::now() < next {
                peers.iter_mut().for_each(Peer::listen);
                while links[0].poll_event().is_some() {}
            }
        }
        let stats = dataplane.stats(WorkerId::new(0));
        let counted = [Counter::PacketsReceived, Counter::PacketsSent].map(|counter| stats.get(counter));
        let began = Instant::now();
        let mut suspended = dataplane.suspend().map_err(|(_, error)| error).unwrap();
        let suspending = began.elapsed();
        let (state, sockets) = suspended.export().unwrap();
        let exporting = began.elapsed() - suspending;
        let bytes = postcard::to_allocvec(&state).unwrap();
        let state = postcard::from_bytes(&bytes).unwrap();
        let carrying = began.elapsed() - suspending - exporting;
        let prepared = Dataplane::start_from(config_of(&[bridge], 1, io), state, sockets).unwrap();
        let importing = began.elapsed() - suspending - exporting - carrying;
        drop(suspended);
        let ending = began.elapsed() - suspending - exporting - carrying - importing;
        let dataplane = prepared.go();
        eprintln!(
            "{rooms} rooms of {size}, {io:?}, {counted:?} packets in and out: {} KiB; suspend {suspending:?}, \
             export {exporting:?}, two copies {carrying:?}, import {importing:?}, the old one's end {ending:?}",
            bytes.len() / 1024
        );
        assert_eq!(dataplane.health().dead_worker(), None);
    }
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn times_of_many_small_rooms() {
    measure(300, 3);
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn times_of_one_large_room() {
    measure(1, 200);
}
