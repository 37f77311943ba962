//! Encoding switches, loss, late joiners, retransmissions.

mod forward_call;

use forward_call::*;
use proptest::prelude::*;
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

const SIM: [u32; 3] = [11, 12, 13];

fn cameras() -> [Camera; 3] {
    [Camera::new(100, 11, 65_500, 180), Camera::new(100, 12, 300, 360), Camera::new(100, 13, 40_000, 720)]
}

fn simulcast() -> Call {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![video_source("a-v0", &SIM)]);
    call.join(OTHER.media(), vec![]);
    call.settle();
    call
}

fn nack(media_ssrc: u32, sequences: &[u16]) -> TransportLayerNack {
    let nacks = sequences.iter().map(|s| NackPair { packet_id: *s, lost_packets: 0 }).collect();
    TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks }
}

/// Sends one frame of two packets on each encoding.
fn round(call: &mut Call, cameras: &mut [Camera], key: bool) {
    call.millis(30);
    for camera in cameras {
        for p in camera.frame(key, 2) {
            call.send(0, &p);
        }
    }
}

#[test]
fn switching_up_and_down_is_seamless_and_waits_for_keyframes() {
    let mut call = simulcast();
    let mut cameras = cameras();
    round(&mut call, &mut cameras, true);
    (0..30).for_each(|_| round(&mut call, &mut cameras, false));
    let asked = call.clients[0].take_rtcp::<PictureLossIndication>().len();
    assert_eq!(asked, 0, "the receiver has what it wants");
    call.want(1, 720);
    (0..5).for_each(|_| round(&mut call, &mut cameras, false));
    let asked = call.clients[0].take_rtcp::<PictureLossIndication>();
    assert_eq!(asked, [PictureLossIndication { sender_ssrc: FEEDBACK.video.get(), media_ssrc: 13 }]);
    round(&mut call, &mut cameras, true);
    (0..5).for_each(|_| round(&mut call, &mut cameras, false));
    call.want(1, 180);
    round(&mut call, &mut cameras, true);
    (0..5).for_each(|_| round(&mut call, &mut cameras, false));
    let got = call.clients[1].take_rtp();
    // Frames: 31 low, 5 low while waiting, keyframes of all three at once on the way up, 5 high, 1 + 5 low.
    assert_eq!(got.len(), 2 * (31 + 5 + 3 + 5 + 6));
    for pair in got.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        assert_eq!(b.header.ssrc, 11);
        assert_eq!(b.header.sequence_number, a.header.sequence_number.wrapping_add(1));
        let (step, ids) =
            (b.header.timestamp.wrapping_sub(a.header.timestamp), (vp8_ids(&a.payload), vp8_ids(&b.payload)));
        if a.header.marker {
            assert_eq!(ids.1, ((ids.0.0 + 1) & 0x7fff, ids.0.1.wrapping_add(1)));
            assert!((1..=2700).contains(&step), "timestamp step {step}");
        } else {
            assert_eq!((ids.1, step), (ids.0, 0));
        }
    }
    assert!(got.iter().map(|p| p.header.sequence_number).any(|s| s < got[0].header.sequence_number || s > 0));
}

#[test]
fn falls_back_when_the_sender_stops_the_high_encoding() {
    let mut call = simulcast();
    let mut cameras = cameras();
    call.want(1, 720);
    round(&mut call, &mut cameras, true);
    round(&mut call, &mut cameras, false);
    call.clients[1].take_rtp();
    for _ in 0..25 {
        round(&mut call, &mut cameras[..2], false);
    }
    let asked = call.clients[0].take_rtcp::<PictureLossIndication>();
    assert_eq!(asked.first().map(|p| p.media_ssrc), Some(12));
    assert!(call.clients[1].take_rtp().is_empty());
    round(&mut call, &mut cameras[..2], true);
    let got = call.clients[1].take_rtp();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].payload[9..12], [0x9d, 1, 0x2a]);
    assert_eq!(u16::from_le_bytes([got[0].payload[14], got[0].payload[15]]), 360);
}

#[test]
fn loss_and_reordering_keep_their_places() {
    let mut call = simulcast();
    let mut camera = Camera::new(100, 11, 65_533, 180);
    let packets = camera.frame(true, 10);
    for i in [0, 2, 1, 5, 4, 8, 9, 7] {
        call.send(0, &packets[i]);
    }
    let got = call.clients[1].take_rtp();
    let first = got[0].header.sequence_number;
    let order: Vec<u16> = got.iter().map(|p| p.header.sequence_number.wrapping_sub(first)).collect();
    assert_eq!(order, [0, 2, 1, 5, 4, 8, 9, 7]);
}

#[test]
fn the_bridge_asks_the_sender_for_lost_packets_and_stops_when_they_come() {
    let mut call = simulcast();
    let mut camera = Camera::new(100, 11, 65_534, 180);
    let packets = camera.frame(true, 5);
    call.send(0, &packets[0]);
    call.send(0, &packets[4]);
    let lists = |nacks: Vec<TransportLayerNack>| -> Vec<u16> {
        nacks
            .iter()
            .inspect(|n| assert_eq!((n.sender_ssrc, n.media_ssrc), (FEEDBACK.video.get(), 11)))
            .flat_map(|n| n.nacks.iter().flat_map(|p| p.packet_list()))
            .collect()
    };
    assert_eq!(lists(call.clients[0].take_rtcp()), [65_535, 0, 1]);
    call.millis(149);
    assert_eq!(lists(call.clients[0].take_rtcp()), []);
    call.send(0, &rtx_of(&packets[2], 96, 1));
    call.millis(10);
    assert_eq!(lists(call.clients[0].take_rtcp()), [65_535, 1]);
    call.send(0, &packets[1]);
    call.send(0, &packets[3]);
    call.millis(1000);
    assert_eq!(lists(call.clients[0].take_rtcp()), []);
    assert_eq!(call.count(Counter::NackSent), 5);
    assert_eq!(call.clients[1].take_rtp().len(), 5);
}

#[test]
fn padding_and_probes_leave_no_hole() {
    let mut call = simulcast();
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    for _ in 0..3 {
        let mut padding = camera.one(false);
        padding.payload = vec![0, 0, 0, 4].into();
        let mut datagram = {
            use webrtc_util::marshal::Marshal;
            let mut plain = padding.marshal().unwrap().to_vec();
            plain[0] |= 0x20;
            seal_plain(&plain)
        };
        call.send_raw(0, &mut datagram);
    }
    let mut probe = rtx_of(&camera.one(false), 96, 9);
    camera.sequence -= 1;
    probe.payload = vec![].into();
    call.send(0, &probe);
    call.send(0, &camera.one(false));
    let got = call.clients[1].take_rtp();
    assert_eq!(got.len(), 2);
    assert_eq!(got[1].header.sequence_number, got[0].header.sequence_number.wrapping_add(1));
}

/// Seals bytes with the first client's key, without `rtp`'s own idea of padding.
fn seal_plain(plain: &[u8]) -> Vec<u8> {
    let mut context = context(&keys(0).inbound);
    context.encrypt_rtp_with_header(plain, &header_of(plain)).unwrap().to_vec()
}

fn header_of(plain: &[u8]) -> rtp::header::Header {
    use webrtc_util::marshal::Unmarshal;
    rtp::header::Header::unmarshal(&mut &plain[..]).unwrap()
}

#[test]
fn a_nack_is_answered_over_rtx_with_the_original_number() {
    let mut call = simulcast();
    let mut cameras = cameras();
    round(&mut call, &mut cameras, true);
    call.want(1, 720);
    round(&mut call, &mut cameras, true);
    round(&mut call, &mut cameras, false);
    let got = call.clients[1].take_rtp();
    let lost: Vec<_> = got[got.len() - 3..].to_vec();
    let numbers: Vec<u16> = lost.iter().map(|p| p.header.sequence_number).collect();
    call.send_rtcp(1, &nack(11, &numbers));
    let again = call.clients[1].take_rtp();
    assert_eq!(again.len(), 3);
    let first = again[0].header.sequence_number;
    for ((repeated, original), n) in again.iter().zip(&lost).zip(first..) {
        assert_eq!((repeated.header.ssrc, repeated.header.payload_type), (1011, 97));
        assert_eq!(repeated.header.sequence_number, n);
        assert_eq!(repeated.header.timestamp, original.header.timestamp);
        assert_eq!(repeated.header.marker, original.header.marker);
        assert_eq!(repeated.payload[..2], original.header.sequence_number.to_be_bytes());
        assert_eq!(repeated.payload[2..], original.payload[..]);
    }
    call.send_rtcp(1, &nack(11, &numbers));
    assert!(call.clients[1].take_rtp().is_empty(), "not twice within 20 ms");
    call.millis(20);
    call.send_rtcp(1, &nack(11, &numbers[..1]));
    assert_eq!(call.clients[1].take_rtp()[0].header.sequence_number, first + 3);
    assert_eq!(call.count(Counter::Retransmissions), 4);
    call.send_rtcp(1, &nack(11, &[numbers[0].wrapping_add(100)]));
    assert_eq!(call.count(Counter::NackCacheMiss), 1);
}

#[test]
fn without_rtx_the_same_packet_is_repeated_unless_that_would_break_the_cipher() {
    for with_tcc in [false, true] {
        let mut call = Call::new();
        call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
        let mut media = PLAIN.media();
        media.header_extensions.retain(|e| with_tcc || e.uri != TCC);
        call.join(media, vec![]);
        call.settle();
        call.send(0, &Camera::new(100, 11, 1, 180).one(true));
        let original = call.clients[1].take_rtp().remove(0);
        call.send_rtcp(1, &nack(11, &[original.header.sequence_number]));
        let again = call.clients[1].take_rtp();
        if with_tcc {
            assert!(again.is_empty());
            assert_eq!(call.count(Counter::DropCannotRepeat), 1);
        } else {
            assert_eq!(again, [original]);
        }
    }
}

#[test]
fn a_late_joiner_starts_at_a_keyframe_that_is_asked_for() {
    let mut call = simulcast();
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    call.millis(500);
    call.send(0, &camera.one(false));
    call.clients[0].take_rtcp::<PictureLossIndication>();
    let late = call.join(PLAIN.media(), vec![]);
    call.settle();
    call.send(0, &camera.one(false));
    assert!(call.clients[late].take_rtp().is_empty());
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>().len(), 1);
    call.send(0, &camera.one(true));
    call.send(0, &camera.one(false));
    assert_eq!(call.clients[late].take_rtp().len(), 2);
    assert_eq!(call.clients[1].take_rtp().len(), 5, "the other receiver saw no interruption");
}

#[test]
fn a_source_that_comes_back_goes_on_counting() {
    let mut call = simulcast();
    let endpoint = call.clients[0].id;
    let mut camera = Camera::new(100, 11, 1, 180);
    (0..5).for_each(|i| call.send(0, &camera.one(i == 0)));
    let before = call.clients[1].take_rtp().last().unwrap().header.sequence_number;
    call.command(Command::SetSources { endpoint, sources: vec![] });
    call.send(0, &camera.one(true));
    assert_eq!(call.count(Counter::DropUnknownSsrc), 1);
    call.command(Command::SetSources { endpoint, sources: vec![video_source("a-v0", &SIM)] });
    call.send(0, &camera.one(true));
    let after = call.clients[1].take_rtp();
    assert_eq!(after[0].header.sequence_number, before.wrapping_add(1));
}

#[test]
fn new_keys_start_new_counting_both_ways() {
    let mut call = simulcast();
    let mut camera = Camera::new(100, 11, 65_530, 180);
    (0..20).for_each(|i| call.send(0, &camera.one(i == 0)));
    let before = call.clients[1].take_rtp().last().unwrap().header.sequence_number;
    // The sender gets new keys and goes on at a low number; then the receiver gets new keys too.
    call.rekey(0, 40);
    let mut camera = Camera::new(100, 11, 5, 180);
    call.send(0, &camera.one(true));
    assert_eq!(call.clients[1].take_rtp()[0].header.sequence_number, before.wrapping_add(1));
    call.rekey(1, 50);
    call.send(0, &camera.one(false));
    assert!(call.clients[1].take_rtp().is_empty(), "starts at a keyframe");
    call.send(0, &camera.one(true));
    assert!(call.clients[1].take_rtp()[0].header.sequence_number < 1 << 15);
}

#[test]
fn off_means_off_and_resumes_at_a_keyframe() {
    let mut call = simulcast();
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    call.want(1, 0);
    call.send(0, &camera.one(true));
    call.want(1, 180);
    call.send(0, &camera.one(false));
    call.send(0, &camera.one(true));
    let got = call.clients[1].take_rtp();
    assert_eq!(got.len(), 2);
    assert_eq!(got[1].header.sequence_number, got[0].header.sequence_number.wrapping_add(1));
    let (a, b) = (vp8_ids(&got[0].payload), vp8_ids(&got[1].payload));
    assert_eq!(b, (a.0 + 1, a.1.wrapping_add(1)));
    let demand: Vec<Limit> = call
        .take_events()
        .into_iter()
        .filter_map(|e| match e {
            Event::SourceDemand { max_height, source, .. } if source == "a-v0" => Some(max_height),
            _ => None,
        })
        .collect();
    assert_eq!(demand, [180, 0, 180].map(Limit::at_most));
}

#[test]
fn heights_from_keyframes_beat_nominal_ones() {
    let mut call = simulcast();
    let mut cameras = [Camera::new(100, 11, 1, 270), Camera::new(100, 12, 1, 540), Camera::new(100, 13, 1, 1080)];
    call.want(1, 360);
    round(&mut call, &mut cameras, true);
    call.settle();
    round(&mut call, &mut cameras, true);
    let got = call.clients[1].take_rtp();
    let heights: Vec<u16> = got
        .iter()
        .filter(|p| p.payload.len() == 46)
        .map(|p| u16::from_le_bytes([p.payload[14], p.payload[15]]))
        .collect();
    assert_eq!(heights.last(), Some(&270), "540 is more than 360: {heights:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any course of constraints and keyframes without loss: every receiver sees a stream without holes or repeats, and
    /// retransmission of any packet repeats exactly that packet.
    #[test]
    fn any_course_is_seamless(
        course in proptest::collection::vec((proptest::bool::weighted(0.25), 0usize..4, 1usize..3), 1..60)
    ) {
        let mut call = simulcast();
        let mut cameras = cameras();
        let mut got: Vec<RtpPacket> = Vec::new();
        for (key, wish, packets) in course {
            call.want(1, [0, 180, 360, 720][wish]);
            call.millis(30);
            for camera in &mut cameras {
                for p in camera.frame(key, packets) {
                    call.send(0, &p);
                }
            }
            got.extend(call.clients[1].take_rtp());
        }
        for pair in got.windows(2) {
            prop_assert_eq!(pair[1].header.sequence_number, pair[0].header.sequence_number.wrapping_add(1));
            let (a, b) = (vp8_ids(&pair[0].payload), vp8_ids(&pair[1].payload));
            if pair[0].header.marker {
                prop_assert_eq!(b, ((a.0 + 1) & 0x7fff, a.1.wrapping_add(1)));
                prop_assert!((1u32..1 << 31).contains(&pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp)));
            } else {
                prop_assert_eq!((a, pair[0].header.timestamp), (b, pair[1].header.timestamp));
            }
        }
        for p in got.iter().rev().take(8) {
            call.send_rtcp(1, &nack(11, &[p.header.sequence_number]));
            let again = call.clients[1].take_rtp();
            prop_assert_eq!(again.len(), 1);
            prop_assert_eq!(&again[0].payload[2..], &p.payload[..]);
            prop_assert_eq!(again[0].header.timestamp, p.header.timestamp);
        }
    }
}
