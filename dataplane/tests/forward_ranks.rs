//! Encodings in any order of naming, through the whole forwarder: receivers get the height that they ask for.

mod forward_call;

use forward_call::*;
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::congestion::shedding::Shedding;
use ringbridge_dataplane::media::*;
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

const FRAME: u64 = 30;
/// Every order of three.
const ORDERS: [[u16; 3]; 6] =
    [[720, 360, 180], [720, 180, 360], [360, 720, 180], [360, 180, 720], [180, 720, 360], [180, 360, 720]];

/// A sender of VP8 whose encodings are named from SSRC 11 on. The last byte of every payload is the encoding's index.
struct Sender {
    cameras: Vec<Camera>,
    /// Packets of each frame.
    packets: Vec<usize>,
    sends: Vec<bool>,
    wanted: Vec<bool>,
}

impl Sender {
    fn new(heights: &[u16]) -> Self {
        let named = |(i, height): (u32, &u16)| Camera::new(100, 11 + i, 65_500 + 7 * i as u16, *height);
        Self {
            cameras: (0..).zip(heights).map(named).collect(),
            packets: heights.iter().map(|height| usize::from(height / 90).max(1)).collect(),
            sends: vec![true; heights.len()],
            wanted: vec![true; heights.len()],
        }
    }

    fn ssrcs(&self) -> Vec<u32> {
        self.cameras.iter().map(|c| c.ssrc).collect()
    }

    /// A call with a receiver for each of the constraints.
    fn call(&self, workers: usize, wishes: &[Limit]) -> Call {
        let mut call = Call::spread(ForwarderConfig::default(), workers, 256);
        call.join_on(0, JICOFO.media(), vec![video_source("a-v0", &self.ssrcs())]);
        for wish in wishes {
            let client = call.join(OTHER.media(), vec![]);
            call.want_up_to(client, *wish);
        }
        call.settle();
        call
    }

    /// Sends frames, with keyframes of the encodings that were asked for.
    fn send(&mut self, call: &mut Call, frames: usize) {
        for _ in 0..frames {
            call.millis(FRAME);
            for pli in call.clients[0].take_rtcp::<PictureLossIndication>() {
                let asked = self.cameras.iter().position(|c| c.ssrc == pli.media_ssrc).expect("an SSRC of the sender");
                self.wanted[asked] = true;
            }
            for (i, camera) in self.cameras.iter_mut().enumerate() {
                let key = std::mem::take(&mut self.wanted[i]);
                for mut packet in camera.frame(key, self.packets[i]) {
                    let mut payload = packet.payload.to_vec();
                    *payload.last_mut().unwrap() = i as u8;
                    packet.payload = payload.into();
                    if self.sends[i] {
                        call.send(0, &packet);
                    }
                }
                // It begins anew with a keyframe.
                self.wanted[i] |= !self.sends[i];
            }
        }
    }

    /// Height of the encoding that a packet is of.
    fn height(&self, packet: &RtpPacket) -> u16 {
        self.cameras[usize::from(*packet.payload.last().unwrap())].height
    }

    /// Heights in the order in which a receiver got them, each once; its stream is whole.
    fn seen(&self, got: &[RtpPacket]) -> Vec<u16> {
        whole(got);
        let mut heights: Vec<u16> = got.iter().map(|p| self.height(p)).collect();
        heights.dedup();
        heights
    }
}

/// One stream on the first named SSRC, without a hole, its time and its pictures going forward; a new encoding begins with a
/// keyframe.
fn whole(got: &[RtpPacket]) {
    assert!(got.iter().all(|p| p.header.ssrc == 11));
    for pair in got.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert_eq!(b.header.sequence_number, a.header.sequence_number.wrapping_add(1), "a hole");
        assert!(b.header.timestamp.wrapping_sub(a.header.timestamp) < 90_000, "time jumps");
        let step = vp8_ids(&b.payload).0.wrapping_sub(vp8_ids(&a.payload).0) & 0x7fff;
        assert!(step <= 1, "picture ids jump by {step}");
        if a.payload.last() != b.payload.last() {
            assert!(b.payload.len() > 12 && b.payload[9..12] == [0x9d, 1, 0x2a], "no keyframe at a switch");
        }
    }
}

#[test]
fn every_order_gives_what_is_asked_for() {
    for workers in [1, 2] {
        for heights in ORDERS {
            let mut sender = Sender::new(&heights);
            let mut call = sender.call(
                workers,
                &[Limit::Max(180), Limit::Max(360), Limit::Max(720), Limit::Unlimited, Limit::Max(719), Limit::Max(1)],
            );
            sender.send(&mut call, 60);
            call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
            sender.send(&mut call, 100);
            for (client, expected) in [180, 360, 720, 720, 360, 180].into_iter().enumerate() {
                let got = call.clients[client + 1].take_rtp();
                assert_eq!(sender.seen(&got), [expected], "{heights:?}, receiver {client}, {workers} workers");
                assert_eq!(got.len(), 100 * usize::from(expected / 90), "all of it");
            }
        }
    }
}

#[test]
fn nobody_gets_more_than_asked_for_once_heights_are_known() {
    for heights in ORDERS {
        let mut sender = Sender::new(&heights);
        let mut call = sender.call(1, &[Limit::Max(180), Limit::Max(720)]);
        sender.send(&mut call, 200);
        let small = sender.seen(&call.clients[1].take_rtp());
        assert_eq!(small.last(), Some(&180));
        assert!(small.len() <= 2, "{heights:?}: {small:?}");
        let large = sender.seen(&call.clients[2].take_rtp());
        assert_eq!(large.last(), Some(&720));
        // Its first keyframes show the order.
        assert!(large.len() <= 4, "{heights:?}: {large:?}");
    }
}

#[test]
fn two_encodings_and_one() {
    for (heights, expected) in [(&[720u16, 180][..], [180, 720]), (&[180, 720], [180, 720]), (&[720], [720, 720])] {
        let mut sender = Sender::new(heights);
        let mut call = sender.call(1, &[Limit::Max(180), Limit::Max(720)]);
        sender.send(&mut call, 40);
        call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
        sender.send(&mut call, 40);
        assert_eq!(sender.seen(&call.clients[1].take_rtp()), [expected[0]], "{heights:?}");
        assert_eq!(sender.seen(&call.clients[2].take_rtp()), [expected[1]], "{heights:?}");
    }
}

#[test]
fn unknown_heights_go_by_bitrate() {
    let mut sender = Sender::new(&[720, 360, 180]);
    sender.cameras.iter_mut().for_each(|camera| camera.height = 0);
    let mut call = sender.call(1, &[Limit::Max(180), Limit::Unlimited]);
    sender.send(&mut call, 80);
    assert_eq!(call.count(Counter::EncodingsReranked), 1, "after a second, once");
    call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
    sender.send(&mut call, 40);
    assert_eq!(call.clients[1].take_rtp().len(), 40 * 2);
    assert_eq!(call.clients[2].take_rtp().len(), 40 * 8);
}

#[test]
fn equal_heights_go_by_frame_rate_and_bitrate() {
    let mut sender = Sender::new(&[1080, 1080]);
    sender.packets = vec![12, 2];
    let mut call = sender.call(1, &[Limit::Unlimited]);
    let limited = ReceiverConstraints {
        default: VideoConstraint { max_height: Limit::Unlimited, max_frame_rate: Limit::Unlimited },
        assumed_bandwidth: Some(Bitrate::new(60_000)),
        ..ReceiverConstraints::default()
    };
    call.join(OTHER.media(), vec![]);
    call.constrain(2, limited);
    sender.send(&mut call, 80);
    call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
    sender.send(&mut call, 40);
    assert_eq!(call.clients[1].take_rtp().len(), 40 * 12);
    let few = call.clients[2].take_rtp();
    whole(&few);
    assert_eq!(few.len(), 40 * 2);
}

#[test]
fn a_limited_path_gets_the_height_that_it_carries() {
    for heights in ORDERS {
        let mut sender = Sender::new(&heights);
        let mut call = sender.call(1, &[]);
        // Encodings of about 24, 48 and 96 kbit/s.
        for (client, bandwidth) in [(1, 30_000), (2, 70_000), (3, 200_000)] {
            call.join(OTHER.media(), vec![]);
            let default = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
            let assumed_bandwidth = Some(Bitrate::new(bandwidth));
            call.constrain(
                client,
                ReceiverConstraints { default, assumed_bandwidth, ..ReceiverConstraints::default() },
            );
        }
        sender.send(&mut call, 80);
        for _ in 0..3 {
            // The allocation runs again as constraints change.
            call.want(1, 719);
            let default = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
            let assumed_bandwidth = Some(Bitrate::new(30_000));
            call.constrain(1, ReceiverConstraints { default, assumed_bandwidth, ..ReceiverConstraints::default() });
            sender.send(&mut call, 20);
        }
        call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
        sender.send(&mut call, 40);
        for (client, expected) in [(1, 180), (2, 360), (3, 720)] {
            assert_eq!(sender.seen(&call.clients[client].take_rtp()), [expected], "{heights:?}");
        }
    }
}

#[test]
fn an_overloaded_worker_lowers_the_height() {
    for heights in ORDERS {
        let mut sender = Sender::new(&heights);
        let mut call = sender.call(1, &[Limit::Unlimited]);
        sender.send(&mut call, 60);
        for (level, expected) in [(1, 360), (2, 180), (0, 720)] {
            call.forwarders[0].set_shedding(Shedding::at(level));
            sender.send(&mut call, 20);
            call.clients[1].take_rtp();
            sender.send(&mut call, 20);
            assert_eq!(sender.seen(&call.clients[1].take_rtp()), [expected], "{heights:?}, level {level}");
        }
    }
}

#[test]
fn the_highest_stops_and_comes_back() {
    for heights in ORDERS {
        let mut sender = Sender::new(&heights);
        let mut call = sender.call(1, &[Limit::Unlimited, Limit::Max(180)]);
        sender.send(&mut call, 60);
        let highest = heights.iter().position(|height| *height == 720).unwrap();
        for (sends, expected) in [(false, 360), (true, 720)] {
            sender.sends[highest] = sends;
            sender.send(&mut call, 60);
            call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
            sender.send(&mut call, 60);
            assert_eq!(sender.seen(&call.clients[1].take_rtp()), [expected], "{heights:?}");
            assert_eq!(sender.seen(&call.clients[2].take_rtp()), [180], "{heights:?}");
        }
    }
}

#[test]
fn heights_that_change_places_while_it_runs() {
    let mut sender = Sender::new(&[180, 360, 720]);
    let mut call = sender.call(1, &[Limit::Unlimited, Limit::Max(180)]);
    sender.send(&mut call, 60);
    let before: Vec<RtpPacket> = call.clients[1].take_rtp();
    call.clients[2].take_rtp();
    // The sender turns its ladder over, as one that negotiates anew may do.
    for (camera, height) in sender.cameras.iter_mut().zip([720, 360, 180]) {
        camera.height = height;
    }
    sender.packets = vec![8, 4, 2];
    sender.wanted = vec![true; 3];
    sender.send(&mut call, 60);
    let large = call.clients[1].take_rtp();
    whole(&large);
    assert_eq!(sender.height(large.last().unwrap()), 720);
    let small = call.clients[2].take_rtp();
    whole(&small);
    assert_eq!(sender.height(small.last().unwrap()), 180);
    // What went out under the old order can still be had, and is the same.
    for p in before.iter().rev().take(40).chain(large.iter().rev().take(40)) {
        let nacks = vec![NackPair { packet_id: p.header.sequence_number, lost_packets: 0 }];
        call.send_rtcp(1, &TransportLayerNack { sender_ssrc: 1, media_ssrc: 11, nacks });
        let repeated = call.clients[1].take_rtp();
        assert_eq!(repeated.len(), 1, "{}", p.header.sequence_number);
        assert_eq!(repeated[0].payload[2..], p.payload[..]);
        call.millis(FRAME);
        call.clients[1].take_rtp();
    }
}

#[test]
fn a_description_in_another_order_disturbs_nobody() {
    let mut sender = Sender::new(&[720, 360, 180]);
    let mut call = sender.call(1, &[Limit::Unlimited, Limit::Max(180)]);
    sender.send(&mut call, 60);
    call.clients.iter_mut().for_each(|client| drop(client.take_rtp()));
    let endpoint = call.clients[0].id;
    // The first stays the first: it is what receivers know the source by. One more is added.
    for ssrcs in [&[11, 13, 12][..], &[11, 12, 13, 14], &[11, 14, 13, 12]] {
        call.command(Command::SetSources { endpoint, sources: vec![video_source("a-v0", ssrcs)] });
        sender.send(&mut call, 20);
    }
    sender.cameras.push(Camera::new(100, 14, 9, 1080));
    sender.packets.push(12);
    sender.sends.push(true);
    sender.wanted.push(true);
    let large = sender.seen(&call.clients[1].take_rtp());
    assert_eq!(large, [720], "no switch, no keyframe");
    assert_eq!(sender.seen(&call.clients[2].take_rtp()), [180]);
    sender.send(&mut call, 40);
    assert_eq!(sender.seen(&call.clients[1].take_rtp()), [720, 1080]);
    assert_eq!(sender.seen(&call.clients[2].take_rtp()), [180]);
    // One that goes away is a new start, which receivers see as the same stream.
    call.command(Command::SetSources { endpoint, sources: vec![video_source("a-v0", &[11, 13, 12])] });
    sender.sends[3] = false;
    sender.wanted = vec![true; 4];
    sender.send(&mut call, 40);
    assert_eq!(sender.seen(&call.clients[1].take_rtp()).last(), Some(&720));
}

#[test]
fn time_is_exact_over_switches_by_sender_reports() {
    for heights in ORDERS {
        let mut sender = Sender::new(&heights);
        let mut call = sender.call(1, &[Limit::Unlimited]);
        sender.send(&mut call, 40);
        let ntp = 0x0000_1000_0000_0000;
        for camera in &sender.cameras {
            let report = SenderReport {
                ssrc: camera.ssrc,
                ntp_time: ntp,
                rtp_time: camera.timestamp,
                ..SenderReport::default()
            };
            call.send_rtcp(0, &report);
        }
        sender.send(&mut call, 10);
        call.clients[1].take_rtp();
        for wish in [180, 720, 360, 180, 720] {
            call.want(1, wish);
            sender.send(&mut call, 20);
        }
        let got = call.clients[1].take_rtp();
        whole(&got);
        let [first, .., last] = &got[..] else { panic!("nothing came") };
        let elapsed = last.header.timestamp.wrapping_sub(first.header.timestamp);
        assert!(elapsed.abs_diff(99 * 2700) <= 2, "{heights:?}: {elapsed}");
    }
}

#[test]
fn ssrc_rewriting_gives_the_height_too() {
    for heights in ORDERS {
        let mut sender = Sender::new(&heights);
        let mut call = sender.call(1, &[]);
        let client = call.join_rewriting(2, 2, OTHER.media(), vec![]);
        call.want(client, 720);
        let endpoint = call.clients[client].id;
        sender.send(&mut call, 10);
        for event in call.take_events() {
            if let Event::SourcesMapped { announcement, .. } = event {
                call.command(Command::MappingsSignalled { endpoint, announcement });
            }
        }
        sender.send(&mut call, 200);
        call.clients[client].take_rtp();
        sender.send(&mut call, 30);
        let got = call.clients[client].take_rtp();
        assert_eq!(got.len(), 30 * 8, "{heights:?}");
        assert!(got.iter().all(|p| sender.height(p) == 720), "{heights:?}");
    }
}
