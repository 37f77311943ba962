//! What an authenticated but faulty relay does, decided by bytes: the property test `relay_hostile` and the fuzz target `relay`.
//! Whatever it sends and whatever is signalled of those behind it, nothing panics, everything that goes out opens with an
//! independent SRTP, no packet index is used for two packets, nobody is given what is not meant for it, what one datagram causes
//! is bounded, and the others still hear each other.

use std::collections::HashMap;

use crate::forward_call::*;
use crate::relay_call::{self, relay_media};
use ringbridge_dataplane::conference::{EndpointSlot, ForwarderConfig};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{EndpointId, MeshId, WorkerId};
use ringbridge_dataplane::io::Path;
use ringbridge_dataplane::media::{Limit, Media, SourceDescription};
use ringbridge_dataplane::messages::{Command, NewEndpoint};
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use webrtc_srtp::context::Context;
use webrtc_util::marshal::{Marshal, Unmarshal};

/// Datagrams that one of the faulty relay may cause: a NACK asks for some hundred packets.
const MOST_FOR_ONE: usize = 700;
const FAULTY: usize = 0;
const HONEST: usize = 1;

struct Relay {
    id: EndpointId,
    home: usize,
    slot: EndpointSlot,
    seals: Context,
    opens: Context,
    /// What went under each number of each SSRC since the keys changed.
    sent: HashMap<(u32, u32), Vec<u8>>,
    newest: HashMap<u32, u32>,
    media: Media,
}

struct World {
    call: Call,
    relays: Vec<Relay>,
    /// Those behind the faulty relay, at most two at a time.
    behind: [Option<EndpointId>; 2],
    next_id: u32,
    next_tag: u8,
}

/// Bytes that decide what happens; zeros when they are used up.
struct Input<'a>(std::slice::Iter<'a, u8>);

impl Input<'_> {
    fn u8(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn bytes(&mut self, most: u8) -> Vec<u8> {
        let len = self.u8() % most;
        (0..len).map(|_| self.u8()).collect()
    }
}

fn relay_path(relay: usize) -> Path {
    Path { local: 0, remote: ([127, 0, 0, 1], RELAY_PORTS + relay as u16).into() }
}

/// SSRCs of the honest clients, of those behind each relay, and of nobody.
const SSRCS: [u32; 16] = [10, 11, 12, 1011, 20, 21, 22, 50, 51, 52, 1051, 60, 61, 1061, 70, 99];

/// Sources that may be signalled of those behind the faulty relay; some claim SSRCs of others, or each other's.
fn claimed(input: &mut Input<'_>, name: usize) -> Vec<SourceDescription> {
    let all = [
        audio_source(&format!("f{name}-a0"), 50),
        video_source(&format!("f{name}-v0"), &[51, 52]),
        video_source(&format!("f{name}-v1"), &[51]),
        video_source(&format!("f{name}-v2"), &[60, 12]),
        audio_source("a-a0", 10),
        video_source(&format!("f{name}-v3"), &[61, 61]),
        video_source(&format!("f{name}-v4"), &[70, 71, 1070]),
        video_source(&format!("f{name}-v5"), &[1011]),
    ];
    let chosen = input.u8();
    all.into_iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1).map(|(_, source)| source).collect()
}

impl World {
    fn new() -> Self {
        let mut call = Call::spread(ForwarderConfig::default(), 2, 256);
        call.join_on(0, JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11, 12])]);
        call.join_on(1, OTHER.media(), vec![audio_source("b-a0", 20), video_source("b-v0", &[21, 22])]);
        let mut world = Self { call, relays: Vec::new(), behind: [None; 2], next_id: 1000, next_tag: 60 };
        for (home, numbers) in [(0, JICOFO), (1, OTHER)] {
            world.connect(home, relay_media(&numbers.media()));
        }
        world.announce(0, vec![audio_source("f0-a0", 50), video_source("f0-v0", &[51, 52])]);
        for n in 0..2 {
            let id = world.call.clients[n].id;
            for relay in [FAULTY, HONEST] {
                world.want(relay, id, ["a-v0", "b-v0"][n], Limit::Unlimited);
            }
        }
        world
    }

    fn id(&mut self) -> EndpointId {
        self.next_id += 1;
        EndpointId(self.next_id)
    }

    fn everywhere(&mut self, command: &Command) {
        let now = self.call.now;
        self.call.forwarders.iter_mut().for_each(|forwarder| forwarder.handle_command(now, command.clone()));
        self.settle();
    }

    fn connect(&mut self, home: usize, media: Media) {
        let (relay, mesh) = (self.id(), MeshId(self.relays.len() as u32));
        let ice = IceCredentials { ufrag: "u".to_owned(), pwd: "p".to_owned() };
        let new = NewEndpoint { conference: CONFERENCE, endpoint: relay, label: String::new(), ice, controlling: true };
        let here = Command::CreateRelay { new: Box::new(new), mesh };
        let now = self.call.now;
        for (worker, forwarder) in self.call.forwarders.iter_mut().enumerate() {
            let elsewhere =
                Command::CreateRemoteRelay { conference: CONFERENCE, relay, home: WorkerId::from_index(home), mesh };
            let command = if worker == home { here.clone() } else { elsewhere };
            forwarder.handle_command(now, command);
        }
        let slot = self.call.forwarders[home].slot(relay).unwrap();
        let (seals, opens) = (context(&keys(0).inbound), context(&keys(0).outbound));
        self.relays.push(Relay {
            id: relay,
            home,
            slot,
            seals,
            opens,
            sent: HashMap::new(),
            newest: HashMap::new(),
            media: Media::default(),
        });
        let at = self.relays.len() - 1;
        self.rekey(at);
        self.negotiate(at, media);
        self.call.forwarders[home].set_path(relay, Some(relay_path(at)));
    }

    fn rekey(&mut self, at: usize) {
        self.next_tag += 1;
        let keys = keys(self.next_tag);
        let relay = &mut self.relays[at];
        (relay.seals, relay.opens) = (context(&keys.inbound), context(&keys.outbound));
        relay.sent.clear();
        relay.newest.clear();
        let (endpoint, home) = (relay.id, relay.home);
        let now = self.call.now;
        self.call.forwarders[home].handle_command(now, Command::SetSrtp { endpoint, keys: Box::new(keys) });
    }

    fn negotiate(&mut self, at: usize, media: Media) {
        self.relays[at].media = media.clone();
        let endpoint = self.relays[at].id;
        self.everywhere(&Command::SetMedia { endpoint, media: Box::new(media) });
    }

    fn announce(&mut self, at: usize, sources: Vec<SourceDescription>) {
        let (endpoint, relay) = (self.id(), self.relays[FAULTY].id);
        self.everywhere(&Command::CreateRelayedEndpoint { conference: CONFERENCE, endpoint, relay });
        let media = Box::new(self.relays[FAULTY].media.clone());
        self.everywhere(&Command::SetMedia { endpoint, media });
        self.everywhere(&Command::SetSources { endpoint, sources });
        self.behind[at] = Some(endpoint);
    }

    fn want(&mut self, at: usize, endpoint: EndpointId, source: &str, max_height: Limit) {
        let Relay { id: relay, home, .. } = self.relays[at];
        let command = Command::SetRelayDemand { relay, endpoint, source: source.to_owned(), max_height };
        let now = self.call.now;
        self.call.forwarders[home].handle_command(now, command);
        self.settle();
    }

    fn settle(&mut self) {
        self.call.settle();
        self.deliver();
    }

    /// What went to relays arrives there; returns how many datagrams that were.
    fn deliver(&mut self) -> usize {
        self.call.deliver();
        let datagrams = std::mem::take(&mut self.call.to_relays);
        let count = datagrams.len();
        for (path, datagram) in datagrams {
            let at = usize::from(path.remote.port() - RELAY_PORTS);
            let relay = &mut self.relays[at];
            if relay_call::is_rtcp(&datagram) {
                let plain = relay.opens.decrypt_rtcp(&datagram).expect("SRTCP opens at the relay");
                rtcp::packet::unmarshal(&mut plain.clone()).expect("RTCP at the relay");
                continue;
            }
            let plain = relay.opens.decrypt_rtp(&datagram).expect("SRTP opens at the relay");
            let packet = RtpPacket::unmarshal(&mut plain.clone()).expect("RTP at the relay");
            let ssrc = packet.header.ssrc;
            let number = relay.media.codecs.iter().find(|codec| codec.payload_type.get() == packet.header.payload_type);
            assert!(number.is_some(), "payload type {}", packet.header.payload_type);
            let newest = relay.newest.entry(ssrc).or_insert(u32::from(packet.header.sequence_number));
            let step = packet.header.sequence_number.wrapping_sub(*newest as u16) as i16;
            let index = newest.wrapping_add_signed(i32::from(step));
            *newest = index.max(*newest);
            if let Some(before) = relay.sent.insert((ssrc, index), datagram.clone()) {
                assert_eq!(before, datagram, "two packets under index {index} of SSRC {ssrc}");
            }
            if at == FAULTY {
                assert!([10, 11, 12, 20, 21, 22].contains(&ssrc), "{ssrc} is not of this bridge");
            }
        }
        count
    }

    /// The faulty relay sends a datagram.
    fn send(&mut self, datagram: &mut [u8]) {
        let Relay { home, slot, .. } = self.relays[FAULTY];
        let clients = |call: &Call| call.clients.iter().map(|c| c.rtp.len() + c.rtcp.len()).sum::<usize>();
        let before = clients(&self.call);
        let now = self.call.now;
        let forwarder = &mut self.call.forwarders[home];
        match relay_call::is_rtcp(datagram) {
            true => forwarder.handle_rtcp(now, slot, datagram, &mut self.call.sink),
            false => forwarder.handle_rtp(now, slot, datagram, &mut self.call.sink),
        }
        let caused = self.deliver() + clients(&self.call) - before;
        assert!(caused <= MOST_FOR_ONE, "{caused} datagrams for one");
    }

    fn send_rtp(&mut self, packet: &RtpPacket) {
        let mut sealed = self.relays[FAULTY].seals.encrypt_rtp(&packet.marshal().unwrap()).unwrap().to_vec();
        self.send(&mut sealed);
    }

    fn send_rtcp(&mut self, packet: &dyn Marshal2) {
        let mut sealed = self.relays[FAULTY].seals.encrypt_rtcp(&packet.bytes()).unwrap().to_vec();
        self.send(&mut sealed);
    }

    /// An honest client sends something.
    fn play(&mut self, client: usize, cameras: &mut [Camera; 4], what: u8) {
        let numbers = [JICOFO, OTHER][client].clone();
        let packet = match what % 3 {
            2 => {
                let camera = &mut cameras[2 * client];
                let ssrc = 10 * (client as u32 + 1);
                camera.timestamp += 960;
                let audio = packet(numbers.opus, (camera.timestamp / 60) as u16, camera.timestamp, ssrc, &[what; 40]);
                with_extension(audio, numbers.level, &[20])
            }
            encoding => cameras[2 * client + usize::from(encoding)].one(what & 0x80 != 0),
        };
        self.call.send(client, &packet);
        self.deliver();
    }
}

fn step(world: &mut World, cameras: &mut [Camera; 4], input: &mut Input<'_>) {
    let ssrc = SSRCS[usize::from(input.u8()) % SSRCS.len()];
    match input.u8() % 16 {
        0..=4 => {
            let numbers = [JICOFO.opus, JICOFO.vp8, JICOFO.rtx.unwrap(), JICOFO.red.unwrap(), 3];
            let number = numbers[usize::from(input.u8()) % numbers.len()];
            let what = input.u8();
            let payload = match what & 3 {
                0 => vp8(input.u16() & 0x7fff, input.u8(), what & 4 != 0, what & 8 != 0, 180 << (what >> 6)),
                _ => input.bytes(60),
            };
            let mut p = packet(number, input.u16(), u32::from(input.u16()) << 8, ssrc, &payload);
            p.header.marker = what & 16 != 0;
            if what & 32 != 0 {
                p = with_extension(p, 1 + what % 14, &[input.u8()]);
            }
            world.send_rtp(&p);
        }
        5 | 6 => {
            let nacks = (0..input.u8() % 40)
                .map(|_| {
                    let newest = world.relays[FAULTY].newest.get(&ssrc).copied().unwrap_or(0) as u16;
                    NackPair { packet_id: newest.wrapping_sub(u16::from(input.u8())), lost_packets: input.u16() }
                })
                .collect();
            world.send_rtcp(&TransportLayerNack { sender_ssrc: 1, media_ssrc: ssrc, nacks });
        }
        7 => {
            world.send_rtcp(&PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc });
            let fir = vec![FirEntry { ssrc, sequence_number: input.u8() }];
            world.send_rtcp(&FullIntraRequest { sender_ssrc: 1, media_ssrc: 0, fir });
            let (ntp_time, rtp_time) = (u64::from(input.u16()) << 32, u32::from(input.u16()));
            world.send_rtcp(&SenderReport { ssrc, ntp_time, rtp_time, ..SenderReport::default() });
        }
        8 => {
            let mut plain = vec![0x80 | input.u8() & 0x1f, 200 + input.u8() % 8, 0, input.u8() % 12];
            plain.extend(ssrc.to_be_bytes());
            plain.extend(input.bytes(120));
            let mut sealed = world.relays[FAULTY].seals.encrypt_rtcp(&plain).map(|bytes| bytes.to_vec());
            if let Ok(sealed) = &mut sealed {
                world.send(sealed);
            }
        }
        9 => {
            let mut raw = input.bytes(120);
            raw.resize(raw.len().max(2), 0x80);
            world.send(&mut raw);
        }
        10 => {
            let at = usize::from(input.u8() & 1);
            let sources = claimed(input, at);
            match world.behind[at] {
                Some(endpoint) if input.u8() & 1 == 0 => world.everywhere(&Command::SetSources { endpoint, sources }),
                Some(endpoint) => {
                    world.everywhere(&Command::ExpireEndpoint { endpoint });
                    world.behind[at] = None;
                }
                None => world.announce(at, sources),
            }
        }
        11 => {
            let heights = [Limit::Off, Limit::Max(1), Limit::Max(180), Limit::Max(360), Limit::Unlimited];
            let height = heights[usize::from(input.u8()) % heights.len()];
            let client = usize::from(input.u8() & 1);
            let id = world.call.clients[client].id;
            world.want(FAULTY, id, ["a-v0", "b-v0", "none"][usize::from(input.u8()) % 3], height);
        }
        12 if input.u8() & 3 == 0 && world.next_tag < 120 => world.rekey(FAULTY),
        12 => {
            let numbers = if input.u8() & 1 == 0 { JICOFO } else { OTHER };
            world.negotiate(FAULTY, relay_media(&numbers.media()));
        }
        13 if input.u8() & 3 == 0 && world.next_tag < 120 => {
            // An honest client connects anew, and counts from elsewhere.
            let client = usize::from(input.u8() & 1);
            world.next_tag += 1;
            world.call.rekey(client, world.next_tag);
            cameras[2 * client].sequence = u16::from(input.u8() & 7);
            cameras[2 * client + 1].sequence = u16::from(input.u8() & 7);
        }
        13 => {
            let millis = u64::from(input.u8()) * 4;
            world.call.millis(millis);
            world.deliver();
        }
        _ => {
            let client = usize::from(input.u8() & 1);
            let what = input.u8();
            world.play(client, cameras, what);
        }
    }
}

fn cameras() -> [Camera; 4] {
    [(100, 11, 180), (100, 12, 360), (96, 21, 180), (96, 22, 360)]
        .map(|(number, ssrc, height)| Camera::new(number, ssrc, 65_000, height))
}

/// Steps of one input.
const MOST_STEPS: usize = 1_500;

/// Runs one input.
pub fn run(data: &[u8]) {
    let (mut world, mut cameras) = (World::new(), cameras());
    let mut input = Input(data.iter());
    for _ in 0..MOST_STEPS {
        if input.0.len() == 0 {
            break;
        }
        step(&mut world, &mut cameras, &mut input);
    }
    // The honest ones still hear each other, and the honest relay hears them.
    world.call.millis(2_000);
    world.deliver();
    let mut known = 0;
    for round in 0..6 {
        if round == 3 {
            // Whoever got another encoding of late has noticed by now.
            world.call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
            known = world.relays[HONEST].sent.len();
        }
        for client in 0..2 {
            world.play(client, &mut cameras, 0x81);
        }
        world.call.millis(100);
        world.deliver();
    }
    for (client, ssrc) in [(0, 21), (1, 11)] {
        let got = world.call.clients[client].take_rtp();
        assert_eq!(got.iter().filter(|p| p.header.ssrc == ssrc).count(), 3, "client {client} hears the other");
    }
    assert_eq!(world.relays[HONEST].sent.len() - known, 6, "the honest relay hears both");
}
