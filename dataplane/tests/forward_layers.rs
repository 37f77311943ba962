//! Layers within one encoding, through the whole forwarder: VP8's temporal ones, VP9's spatial ones, AV1's by dependency
//! descriptor.

mod dependency_writer;
mod forward_call;

use bytes::Bytes;
use dependency_writer::{Structure, attached, descriptor, l1t3};
use forward_call::*;
use ringbridge_dataplane::media::*;
use ringbridge_dataplane::rtp::{dependency::Descriptor, vp9};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

const DEPENDENCY: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

fn want_rate(call: &mut Call, client: usize, max_frame_rate: Limit) {
    let default = VideoConstraint { max_height: Limit::Max(720), max_frame_rate };
    call.constrain(client, ReceiverConstraints { default, ..ReceiverConstraints::default() });
}

fn follow(got: &[RtpPacket]) {
    for pair in got.windows(2) {
        let (a, b) = (&pair[0].header, &pair[1].header);
        assert_eq!(b.sequence_number, a.sequence_number.wrapping_add(1), "a hole");
        assert!(b.timestamp.wrapping_sub(a.timestamp) < 1 << 31, "time runs backwards");
    }
}

/// VP8 with libwebrtc's pattern of three temporal layers: those of the first half of eight frames are sync frames.
struct Temporal {
    camera: Camera,
    position: usize,
}

impl Temporal {
    fn new() -> Self {
        Self { camera: Camera::new(100, 11, 65_000, 180), position: 0 }
    }

    fn frame(&mut self) -> (u8, Vec<RtpPacket>) {
        let tid = [0u8, 2, 1, 2][self.position % 4];
        let sync = tid > 0 && self.position % 8 < 4 && self.position % 4 != 3;
        if tid > 0 {
            // The camera counts every frame as one of the base layer.
            self.camera.tl0 = self.camera.tl0.wrapping_sub(1);
        }
        let mut packets = self.camera.frame(self.position == 0, 2);
        for p in &mut packets {
            let mut payload = p.payload.to_vec();
            payload[5] = tid << 6 | u8::from(sync) << 5;
            p.payload = payload.into();
        }
        self.position += 1;
        (tid, packets)
    }

    fn send(&mut self, call: &mut Call, frames: usize) {
        for _ in 0..frames {
            call.millis(33);
            for p in self.frame().1 {
                call.send(0, &p);
            }
        }
    }
}

fn tid(p: &RtpPacket) -> u8 {
    p.payload[5] >> 6
}

/// A sender of three temporal layers, and a receiver that got all of 60 frames and then wished for 15 a second; 40 more
/// were sent, and what of them came to it is still to be taken.
fn at_half_rate() -> (Call, Temporal) {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
    call.join(OTHER.media(), vec![]);
    call.settle();
    let mut sender = Temporal::new();
    sender.send(&mut call, 60);
    assert_eq!(call.clients[1].take_rtp().len(), 120, "all of it");
    want_rate(&mut call, 1, Limit::Max(15));
    call.settle();
    sender.send(&mut call, 40);
    (call, sender)
}

#[test]
fn vp8_temporal_layers_go_at_once_and_come_back_at_a_sync_frame() {
    let (mut call, mut sender) = at_half_rate();
    call.stay();
    let slow = call.clients[1].take_rtp();
    assert_eq!(slow.len(), 40);
    assert!(slow.iter().all(|p| tid(p) < 2));
    want_rate(&mut call, 1, Limit::Unlimited);
    call.settle();
    sender.send(&mut call, 24);
    let again = call.clients[1].take_rtp();
    let first = again.iter().find(|p| tid(p) == 2).expect("the full frame rate is back");
    assert_ne!(first.payload[5] & 0x20, 0, "a sync frame");
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>().len(), 0, "no keyframe was needed");
    let all: Vec<RtpPacket> = slow.into_iter().chain(again).collect();
    follow(&all);
    for pair in all.windows(2).filter(|pair| pair[0].header.marker) {
        let (a, b) = (vp8_ids(&pair[0].payload), vp8_ids(&pair[1].payload));
        assert_eq!(b.0, (a.0 + 1) & 0x7fff, "picture ids leave no hole");
        assert_eq!(b.1, a.1.wrapping_add(u8::from(tid(&pair[1]) == 0)), "TL0PICIDX counts base frames");
    }
    // Every number leads back to its packet, also across what was left out.
    for p in all.iter().rev().take(30) {
        let nacks = vec![NackPair { packet_id: p.header.sequence_number, lost_packets: 0 }];
        call.send_rtcp(1, &TransportLayerNack { sender_ssrc: 1, media_ssrc: 11, nacks });
        let repeated = call.clients[1].take_rtp();
        assert_eq!(repeated.len(), 1);
        assert_eq!(repeated[0].payload[2..], p.payload[..]);
        call.millis(30);
    }
}

fn media(name: &str, number: u8, dependency: Option<u8>) -> Media {
    let mut media = JICOFO.media();
    media.codecs = vec![pt(number, MediaKind::Video, name, &[])];
    media.header_extensions.extend(dependency.map(|id| extension(id, MediaKind::Video, DEPENDENCY)));
    media
}

/// Three spatial layers, predicted from each other in keyframes only.
struct Svc {
    sequence: u16,
    picture: u16,
}

impl Svc {
    fn picture(&mut self, key: bool, layers: u8) -> Vec<RtpPacket> {
        self.picture += 1;
        let mut out = Vec::new();
        for sid in 0..layers {
            for part in 0..2u8 {
                let (begins, ends) = (part == 0, part == 1);
                let structure = key && sid == 0 && begins;
                // I, P, L, B, E, V, Z.
                let mut payload = vec![
                    0xa0 | u8::from(!key) << 6
                        | u8::from(begins) << 3
                        | u8::from(ends) << 2
                        | u8::from(structure) << 1
                        | u8::from(!key),
                ];
                payload.extend((self.picture | 0x8000).to_be_bytes());
                payload.extend([sid << 1 | u8::from(key && sid > 0), self.picture as u8]);
                if structure {
                    payload.push(2 << 5 | 0x10);
                    for (w, h) in [(320u16, 180u16), (640, 360), (1280, 720)] {
                        payload.extend(w.to_be_bytes());
                        payload.extend(h.to_be_bytes());
                    }
                }
                payload.extend([sid; 40]);
                let mut p = packet(101, self.sequence, u32::from(self.picture) * 3000, 11, &payload);
                p.header.marker = ends && sid + 1 == layers;
                self.sequence = self.sequence.wrapping_add(1);
                out.push(p);
            }
        }
        out
    }
}

fn sids(got: &[RtpPacket]) -> Vec<u8> {
    got.iter().map(|p| vp9::Descriptor::parse(&p.payload).unwrap().layer.unwrap().sid).collect()
}

#[test]
fn vp9_spatial_layers_change_at_keyframes_and_pictures_end_with_a_marker() {
    let mut call = Call::new();
    call.join(media("VP9", 101, None), vec![video_source("a-v0", &[11])]);
    call.join(media("VP9", 98, None), vec![]);
    call.settle();
    call.want(1, 720);
    let mut svc = Svc { sequence: 9, picture: 7 };
    let send = |call: &mut Call, svc: &mut Svc, key: bool, layers: u8, count: usize| {
        for i in 0..count {
            call.millis(33);
            for p in svc.picture(key && i == 0, layers) {
                call.send(0, &p);
            }
        }
    };
    send(&mut call, &mut svc, true, 3, 30);
    let high = call.clients[1].take_rtp();
    assert_eq!(sids(&high)[..8], [0, 0, 1, 1, 2, 2, 2, 2], "after the keyframe only what is shown");
    assert_eq!(high.len(), 6 + 29 * 2);
    call.clients[0].take_rtcp::<PictureLossIndication>();

    call.want(1, 180);
    call.settle();
    send(&mut call, &mut svc, false, 3, 3);
    let waiting = call.clients[1].take_rtp();
    assert_eq!(sids(&waiting), [2; 6], "the old layer stays");
    assert!(!call.clients[0].take_rtcp::<PictureLossIndication>().is_empty(), "a keyframe is asked for");
    send(&mut call, &mut svc, true, 3, 10);
    let low = call.clients[1].take_rtp();
    assert_eq!(sids(&low), [0; 20]);
    assert!(low.chunks(2).all(|picture| !picture[0].header.marker && picture[1].header.marker));

    call.want(1, 720);
    call.settle();
    send(&mut call, &mut svc, true, 3, 5);
    // The sender gives up its top layer: what is left takes over with the next keyframe, asked for within 300 ms.
    call.clients[0].take_rtcp::<PictureLossIndication>();
    send(&mut call, &mut svc, false, 2, 10);
    let asked = call.clients[0].take_rtcp::<PictureLossIndication>();
    assert!(!asked.is_empty(), "a layer that ended is noticed");
    let up = call.clients[1].take_rtp();
    assert_eq!(sids(&up), [vec![0, 0, 1, 1], vec![2; 10]].concat());
    send(&mut call, &mut svc, true, 2, 3);
    let fallen = call.clients[1].take_rtp();
    assert_eq!(sids(&fallen), [0, 0, 1, 1, 1, 1, 1, 1]);
    let all: Vec<RtpPacket> = [high, waiting, low, up, fallen].concat();
    follow(&all);
    assert!(all.iter().all(|p| p.header.payload_type == 98));
    let ends = all.windows(2).filter(|pair| pair[0].header.timestamp != pair[1].header.timestamp);
    assert!(ends.into_iter().all(|pair| pair[0].header.marker), "every picture ends");
}

/// One encoding, L1T3 by dependency descriptor: AV1 as number 41, VP8 as number 100.
struct Described {
    number: u8,
    ssrc: u32,
    sequence: u16,
    frame: u16,
    position: usize,
    structure: Structure,
}

impl Described {
    fn picture(&mut self, now: u32, key: bool, id: u8) -> Vec<RtpPacket> {
        if key {
            self.position = 0;
        }
        let temporal = [0u8, 2, 1, 2][self.position % 4];
        let index = self.structure.template(0, temporal, usize::from(temporal == 0 && !key));
        self.position += 1;
        self.frame = self.frame.wrapping_add(1);
        (0..2)
            .map(|part| {
                let dd =
                    descriptor((part == 0, part == 1), index, self.frame, &self.structure, attached(key && part == 0));
                let payload = match self.number {
                    // As libwebrtc sends it beside a descriptor: no picture id, no layer.
                    100 => [u8::from(part == 0) << 4, u8::from(!key), temporal],
                    _ => [0x10, 7, temporal],
                };
                let time = now.wrapping_add(self.ssrc * 77);
                let mut p = packet(self.number, self.sequence, time, self.ssrc, &payload);
                p.header.extension = true;
                p.header.extension_profile = 0x1000;
                p.header.set_extension(id, Bytes::from(dd)).unwrap();
                p.header.marker = part == 1;
                self.sequence = self.sequence.wrapping_add(1);
                p
            })
            .collect()
    }
}

/// Two encodings of `name`, which the sender calls `number`; one receiver goes from the low to the high one, to a low frame rate
/// and back. Returns what it got, and what another one got that wants the same but negotiated no descriptors.
fn simulcast_by_descriptors(name: &str, number: u8) -> [Vec<RtpPacket>; 2] {
    let mut call = Call::new();
    call.join(media(name, number, Some(11)), vec![video_source("a-v0", &[11, 12])]);
    call.join(media(name, 45, Some(8)), vec![]);
    call.join(media(name, 47, None), vec![]);
    call.settle();
    let wish = |call: &mut Call, height| [1, 2].map(|client| call.want(client, height));
    let wish_rate = |call: &mut Call, rate| [1, 2].map(|client| want_rate(call, client, rate));
    wish(&mut call, 180);
    call.settle();
    let structure = |height| Structure { sizes: vec![(height * 16 / 9, height)], ..l1t3(5) };
    let mut low = Described { number, ssrc: 11, sequence: 100, frame: 65_530, position: 0, structure: structure(180) };
    let mut high = Described { number, ssrc: 12, sequence: 900, frame: 200, position: 0, structure: structure(360) };
    // Nothing can be said of what comes before a structure.
    for p in low.picture(0, false, 11) {
        call.send(0, &p);
    }
    assert_eq!(call.count(Counter::DropDependencyUnknown), 2);
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>().len(), 1, "but it is asked for");
    let mut now = 0;
    let mut send = |call: &mut Call, low: &mut Described, high: &mut Described, key: bool, count: usize| {
        for i in 0..count {
            call.millis(33);
            now += 2970;
            for p in [low.picture(now, key && i == 0, 11), high.picture(now, key && i == 0, 11)].concat() {
                call.send(0, &p);
            }
        }
    };
    send(&mut call, &mut low, &mut high, true, 8);
    wish(&mut call, 360);
    call.settle();
    send(&mut call, &mut low, &mut high, false, 4);
    assert!(!call.clients[0].take_rtcp::<PictureLossIndication>().is_empty());
    send(&mut call, &mut low, &mut high, true, 40);
    wish_rate(&mut call, Limit::Max(8));
    call.settle();
    send(&mut call, &mut low, &mut high, false, 40);
    let slow_from = [1, 2].map(|client| call.clients[client].rtp.len() - 20);
    wish_rate(&mut call, Limit::Unlimited);
    call.settle();
    send(&mut call, &mut low, &mut high, false, 8);
    assert!(call.clients[0].take_rtcp::<PictureLossIndication>().is_empty(), "the frame rate needs no keyframe");
    [(1, slow_from[0]), (2, slow_from[1])].map(|(client, slow_from)| {
        let got = call.clients[client].take_rtp();
        follow(&got);
        assert!(got[slow_from..].iter().take(18).all(|p| p.payload[2] == 0), "the base layer alone");
        assert!(got.iter().rev().take(8).any(|p| p.payload[2] == 2), "all layers again");
        got
    })
}

/// The descriptors that a receiver got under id 8 describe one continuous stream.
fn descriptors_follow(got: &[RtpPacket]) {
    let mut known = None;
    let mut frames: Vec<u16> = Vec::new();
    for p in got {
        let dd = p.header.get_extension(8).expect("a descriptor under the receiver's id");
        let parsed = Descriptor::parse(&dd, &mut known).expect("templates fit the structure");
        assert_eq!(parsed.frame.temporal, p.payload[2], "the template is the one that the sender meant");
        if parsed.starts {
            frames.push(parsed.frame_number);
        }
    }
    assert_eq!(known.unwrap().heights(), [360]);
    assert!(frames.windows(2).all(|pair| (1..=4).contains(&pair[1].wrapping_sub(pair[0]))), "{frames:?}");
}

#[test]
fn av1_simulcast_goes_by_dependency_descriptors_that_stay_continuous() {
    let [got, bare] = simulcast_by_descriptors("AV1", 41);
    descriptors_follow(&got);
    assert!(bare.iter().all(|p| p.header.get_extension(8).is_none()));
}

/// VP8 beside descriptors has neither picture ids nor layers of its own.
#[test]
fn vp8_without_picture_ids_goes_by_dependency_descriptors() {
    let [got, bare] = simulcast_by_descriptors("VP8", 100);
    descriptors_follow(&got);
    assert_eq!(got.len(), bare.len());
    assert!(got.iter().zip(&bare).all(|(a, b)| a.payload == b.payload));
    assert!(bare.iter().all(|p| p.header.get_extension(8).is_none()));
}

/// A sender that may not attach a structure of more than 16 bytes leaves the descriptor of a keyframe's first packet out.
#[test]
fn av1_goes_on_without_descriptors_when_a_keyframe_brings_no_structure() {
    let mut call = Call::new();
    call.join(media("AV1", 41, Some(11)), vec![video_source("a-v0", &[11])]);
    call.join(media("AV1", 45, Some(8)), vec![]);
    call.settle();
    let mut camera = Described { number: 41, ssrc: 11, sequence: 100, frame: 7, position: 0, structure: l1t3(5) };
    let mut now = 0;
    let mut send = |call: &mut Call, camera: &mut Described, key: bool, bare: bool| {
        call.millis(33);
        now += 2970;
        for (part, mut p) in camera.picture(now, key, 11).into_iter().enumerate() {
            if bare && key && part == 0 {
                // A new coded video sequence (AV1 RTP specification, section 4.4).
                p.payload = vec![0x18, 0, 7].into();
                p.header.extensions.clear();
                p.header.extension = false;
            }
            call.send(0, &p);
        }
    };
    send(&mut call, &mut camera, true, false);
    send(&mut call, &mut camera, false, false);
    call.clients[0].take_rtcp::<PictureLossIndication>();
    let described = |call: &mut Call| -> Vec<bool> {
        let got = call.clients[1].take_rtp();
        follow(&got);
        got.iter().map(|p| p.header.get_extension(8).is_some()).collect()
    };
    assert_eq!(described(&mut call), [true; 4]);
    camera.structure = l1t3(30);
    for i in 0..5 {
        send(&mut call, &mut camera, i == 0, true);
    }
    assert_eq!(described(&mut call), [false; 10], "all of it, since nothing says what could be left out");
    assert_eq!(call.count(Counter::DropDependencyUnknown), 0);
    assert!(call.clients[0].take_rtcp::<PictureLossIndication>().is_empty());
    for i in 0..2 {
        send(&mut call, &mut camera, i == 0, false);
    }
    assert_eq!(described(&mut call), [true; 4], "a structure is believed again");
}

/// A packet that the sender lost leaves a hole before anybody knows whether the receiver was to have it.
#[test]
fn the_hole_of_a_layer_that_is_not_forwarded_is_closed_when_it_is_asked_for() {
    let (mut call, mut sender) = at_half_rate();
    call.stay();
    call.clients[1].take_rtp();
    let lost: Vec<RtpPacket> = loop {
        call.millis(33);
        let (layer, packets) = sender.frame();
        if layer == 2 {
            break packets;
        }
        packets.iter().for_each(|p| call.send(0, p));
    };
    sender.send(&mut call, 1);
    let before = call.clients[1].take_rtp();
    lost.iter().for_each(|p| call.send(0, p));
    assert!(call.clients[1].take_rtp().is_empty(), "not of its layer");
    let first = before.last().unwrap().header.sequence_number.wrapping_sub(3);
    for (number, sent) in (first..first.wrapping_add(2)).zip(&lost) {
        assert!(!before.iter().any(|p| p.header.sequence_number == number), "a hole");
        let nacks = vec![NackPair { packet_id: number, lost_packets: 0 }];
        call.send_rtcp(1, &TransportLayerNack { sender_ssrc: 1, media_ssrc: 11, nacks });
        let answer = call.clients[1].take_rtp();
        assert_eq!(answer.len(), 1);
        assert_eq!(answer[0].payload[..], number.to_be_bytes(), "the number and nothing of {:?}", sent.header);
        call.millis(30);
    }
}
