//! What a member of a conference that misbehaves may cost: bounded, counted, and nobody else's loss.

mod forward_call;

use std::time::Duration;

use bytes::Bytes;
use forward_call::*;
use proptest::prelude::*;
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::{
    AudioSubscription, Bitrate, Limit, Media, MediaKind, ReceiverConstraints, VideoConstraint, VideoType,
};
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

/// RTCP as it stands.
struct Raw(Vec<u8>);

impl Marshal2 for Raw {
    fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

/// One RTCP packet: count or format, type, and what follows the header, to be a multiple of four bytes.
fn rtcp(count: u8, packet_type: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80 | count, packet_type];
    packet.extend((body.len() as u16 / 4).to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

fn feedback(format: u8, packet_type: u8, media: u32, rest: &[u8]) -> Vec<u8> {
    rtcp(format, packet_type, &[&1u32.to_be_bytes(), &media.to_be_bytes(), rest].concat())
}

/// REMB with an exponent and a mantissa.
fn remb(exponent: u8, mantissa: u32) -> Vec<u8> {
    let rate = [exponent << 2 | (mantissa >> 16) as u8 & 3, (mantissa >> 8) as u8, mantissa as u8];
    feedback(15, 206, 0, &[b"REMB".as_slice(), &[1], &rate, &11u32.to_be_bytes()].concat())
}

/// A NACK of 1.4 kB, for 5,780 numbers from `first` on.
fn large_nack(media: u32, first: u16) -> Vec<u8> {
    let entries = (0..340u16).flat_map(|i| {
        let [a, b] = first.wrapping_add(17 * i).to_be_bytes();
        [a, b, 0xff, 0xff]
    });
    feedback(1, 205, media, &entries.collect::<Vec<u8>>())
}

/// One who sends video, one who misbehaves, one who does not.
fn three() -> (Call, Camera) {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
    call.join(OTHER.media(), vec![]);
    call.join(JICOFO.media(), vec![]);
    call.settle();
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    (call, camera)
}

fn nack(call: &mut Call, client: usize, sequence: u16) {
    let nacks = vec![NackPair { packet_id: sequence, lost_packets: 0 }];
    call.send_rtcp(client, &TransportLayerNack { sender_ssrc: 1, media_ssrc: 11, nacks });
}

#[test]
fn nacks_cost_what_one_may_cost_and_no_more() {
    let (mut call, mut camera) = three();
    let mut last = [0; 2];
    for _ in 0..300 {
        call.send(0, &camera.one(false));
        call.millis(5);
        for (client, last) in [1, 2].into_iter().zip(&mut last) {
            *last = call.clients[client].take_rtp().last().map_or(*last, |p| p.header.sequence_number);
        }
    }
    // 25 Mbit/s of them for a second.
    let before = [Counter::NackCacheMiss, Counter::Retransmissions].map(|c| call.count(c));
    for i in 0..2_200u16 {
        call.send_rtcp(1, &Raw(large_nack(11, last[0].wrapping_sub(290).wrapping_add(i))));
        call.advance(Duration::from_micros(450));
    }
    let asked = [Counter::NackCacheMiss, Counter::Retransmissions].map(|c| call.count(c));
    let looked_at = asked[0] + asked[1] - before[0] - before[1];
    assert!(looked_at < 60_000, "{looked_at} numbers of 12.7 million");
    assert!(call.count(Counter::DropRtcpBudget) > 2_000);
    // It does not cost anybody else their repetitions.
    call.clients[2].take_rtp();
    nack(&mut call, 2, last[1]);
    assert_eq!(call.clients[2].take_rtp().len(), 1);
    // Nor itself, once it stops.
    call.millis(1_000);
    call.clients[1].take_rtp();
    nack(&mut call, 1, last[0]);
    assert_eq!(call.clients[1].take_rtp().len(), 1);
}

/// However many numbers it asks for, and whatever is known of its path.
#[test]
fn who_asks_for_repetitions_is_not_sent_a_flood() {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
    let mut media = OTHER.media();
    media.header_extensions.retain(|e| e.uri != TCC);
    media.codecs.iter_mut().for_each(|pt| pt.feedback.retain(|f| f.0 != "transport-cc"));
    call.join(media, vec![]);
    call.settle();
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    let mut large = Vec::new();
    for _ in 0..300 {
        let mut packet = camera.one(false);
        packet.payload = [packet.payload.as_ref(), &[7; 1_000]].concat().into();
        call.millis(5);
        call.send(0, &packet);
        large.extend(call.clients[1].take_rtp());
    }
    let last = large.last().unwrap().header.sequence_number;
    let mut sent = 0;
    for _ in 0..100 {
        call.send_rtcp(1, &Raw(large_nack(11, last.wrapping_sub(290))));
        sent += call.clients[1].take_rtp().iter().map(|p| p.payload.len()).sum::<usize>();
        call.millis(20);
    }
    assert!(sent > 100_000, "{sent}: some of it is");
    assert!(sent < 1_000_000 + 2 * 2_500_000, "{sent} bytes for 140,000");
    assert!(call.count(Counter::DropRepairBudget) + call.count(Counter::DropRtcpBudget) > 0);
}

/// Every kind of RTCP, each packet as full of it as can be, at 25 Mbit/s.
#[test]
fn every_kind_of_rtcp_is_bounded() {
    let many = |part: Vec<u8>| part.repeat(1_400 / part.len());
    let block = [0u8; 24];
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("PLI", many(feedback(1, 206, 11, &[]))),
        ("FIR", feedback(4, 206, 0, &[0u8, 0, 0, 11, 1, 0, 0, 0].repeat(170))),
        ("REMB", many(remb(3, 9))),
        ("REMB with many SSRCs", {
            let ssrcs = 11u32.to_be_bytes().repeat(255);
            feedback(15, 206, 0, &[b"REMB".as_slice(), &[255, 4, 1, 1], &ssrcs].concat())
        }),
        ("RR", many(rtcp(31, 201, &[&1u32.to_be_bytes()[..], &block.repeat(31)].concat()))),
        ("SDES", many(rtcp(1, 202, &[0, 0, 0, 11, 0, 0, 0, 0]))),
        ("BYE", many(rtcp(1, 203, &[0, 0, 0, 11]))),
        ("APP", many(rtcp(0, 204, &[0, 0, 0, 11, b'x', b'x', b'x', b'x']))),
        ("XR", many(rtcp(0, 207, &[0, 0, 0, 11]))),
        ("headers only", many(rtcp(0, 210, &[]))),
        ("SR", many(rtcp(0, 200, &[&11u32.to_be_bytes()[..], &[3; 20]].concat()))),
        (
            "TWCC of many packets",
            feedback(15, 205, 0, &[0, 1, 0x3f, 0xff, 0, 0, 1, 1, 0x1f, 0xff, 0x1f, 0xff, 0, 0, 0, 0]),
        ),
        ("TWCC in small parts", many(feedback(15, 205, 0, &[0, 1, 0, 7, 0, 0, 1, 1, 0xc0, 0, 0, 0]))),
        ("TWCC damaged", many(feedback(15, 205, 0, &[0, 1, 0xff, 0xff, 0, 0, 1, 1]))),
    ];
    for (kind, packet) in kinds {
        let (mut call, mut camera) = three();
        let mut last = 0;
        // The SSRCs of REMB are not looked at: it takes 110 Mbit/s of it to cost much.
        let pace = if kind == "REMB with many SSRCs" { 100 } else { 450 };
        for _ in 0..1_000_000 / pace {
            call.send_rtcp(1, &Raw(packet.clone()));
            call.advance(Duration::from_micros(pace));
        }
        assert!(call.count(Counter::DropRtcpBudget) > 100, "{kind}: {}", call.count(Counter::DropRtcpBudget));
        for _ in 0..10 {
            call.millis(100);
            call.send(0, &camera.one(false));
            last = call.clients[1].take_rtp().last().map_or(last, |p| p.header.sequence_number);
        }
        nack(&mut call, 1, last);
        assert_eq!(call.clients[1].take_rtp().len(), 1, "{kind}: it is heard again");
    }
}

/// Each sender report that goes on is a packet for every receiver.
#[test]
fn sender_reports_go_on_at_a_rate() {
    let (mut call, mut camera) = three();
    call.send(0, &camera.one(false));
    (1..3).for_each(|client| drop(std::mem::take(&mut call.clients[client].rtcp)));
    let report = rtcp(0, 200, &[&11u32.to_be_bytes()[..], &[3; 20]].concat()).repeat(50);
    for _ in 0..1_000 {
        call.send_rtcp(0, &Raw(report.clone()));
        call.millis(1);
    }
    let heard = call.clients[2].take_rtcp::<rtcp::sender_report::SenderReport>().len();
    assert!((20..=32).contains(&heard), "{heard} of 50,000");
}

/// The whole room is looked at when the size of a picture changes, and when layers come and go.
#[test]
fn changes_without_end_are_followed_at_a_rate() {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
    for n in 0..20u32 {
        call.join(OTHER.media(), vec![video_source(&format!("c{n}-v0"), &[100 + n])]);
        call.millis(50);
    }
    call.millis(2_000);
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    call.millis(1_000);
    // One change is followed at once.
    let before = call.count(Counter::Allocations);
    camera.height = 360;
    call.send(0, &camera.one(true));
    call.settle();
    assert_eq!(call.count(Counter::Allocations), before + 1);
    call.millis(2_000);
    // 200 a second, for ten seconds, are not.
    let before = call.count(Counter::Allocations);
    for i in 0..2_000 {
        camera.height = 180 + 180 * (i % 2);
        call.send(0, &camera.one(true));
        call.millis(5);
    }
    let flood = call.count(Counter::Allocations) - before;
    assert!((80..=32 + 8 * 10 + 20).contains(&flood), "{flood} allocations in 10 s");
    // What came last is known.
    call.millis(200);
    let before = call.count(Counter::Allocations);
    call.millis(1_000);
    assert!(call.count(Counter::Allocations) <= before + 1);
    // Nobody else has to wait for it.
    for i in 0..200 {
        camera.height = 180 + 180 * (i % 2);
        call.send(0, &camera.one(true));
        call.millis(5);
    }
    call.take_events();
    call.want(3, 0);
    call.millis(20);
    let reported = |e: &Event| matches!(e, Event::ForwardedSources { endpoint, sources } if *endpoint == EndpointId(103) && sources.is_empty());
    assert!(call.take_events().iter().any(reported));
}

/// As `commands` that arrive without end.
#[test]
fn wishes_without_end_are_followed_at_a_rate() {
    let (mut call, _) = three();
    call.millis(5_000);
    let before = call.count(Counter::Allocations);
    for i in 0..5_000 {
        call.want(1, 180 + i % 2);
        call.millis(1);
    }
    let flood = call.count(Counter::Allocations) - before;
    assert!((45..=40 + 50 + 20).contains(&flood), "{flood} allocations in 5 s");
    // The last constraints count.
    call.want(1, 0);
    call.take_events();
    call.millis(200);
    let off = |e: &Event| matches!(e, Event::ForwardedSources { endpoint, sources } if *endpoint == EndpointId(101) && sources.is_empty());
    assert!(call.take_events().iter().any(off));
}

/// A conference's timers do not run more often than every 5 ms, whatever makes them due.
#[test]
fn what_is_due_with_every_packet_waits_for_others() {
    let (mut call, mut camera) = three();
    call.millis(1_000);
    let mut turns = 0;
    for i in 0..4_000u32 {
        // Gaps to ask for, estimates that fall, levels that change.
        camera.sequence = camera.sequence.wrapping_add(2);
        call.send(0, &camera.one(false));
        call.send_rtcp(1, &Raw(remb(10, i % 1_000 + 1)));
        let until = call.now + Duration::from_micros(250);
        while let Some(at) = call.forwarders[0].poll_timeout().filter(|at| *at <= until) {
            call.now = call.now.max(at);
            call.settle();
            turns += 1;
            assert!(turns < 100_000, "a timer spins");
        }
        call.now = until;
    }
    // In one second: as many turns as there were deadlines, the most of them refused.
    assert!(call.count(Counter::Allocations) < 200);
}

#[test]
fn lists_of_names_without_end_are_cut() {
    let (mut call, mut camera) = three();
    let names: Vec<String> = (0..10_000).map(|i| format!("x{i}-v0")).collect();
    let wishes = ReceiverConstraints {
        on_stage: names.clone(),
        selected: names.clone(),
        per_source: names
            .iter()
            .map(|n| (n.clone(), VideoConstraint { max_height: Limit::Max(180), max_frame_rate: Limit::Unlimited }))
            .collect(),
        default: VideoConstraint { max_height: Limit::Max(360), max_frame_rate: Limit::Unlimited },
        assumed_bandwidth: Some(Bitrate::new(u64::MAX)),
        audio: AudioSubscription { all: true, include: names.clone(), exclude: names },
        ..ReceiverConstraints::default()
    };
    call.constrain(1, wishes);
    call.millis(100);
    assert_eq!(call.count(Counter::ConstraintsRefused), 5 * 10_000 - 64 - 2 * 256 - 2 * 512);
    call.clients[1].take_rtp();
    call.send(0, &camera.one(true));
    assert_eq!(call.clients[1].take_rtp().len(), 1);
}

#[test]
fn made_up_codecs_and_extensions_leave_room_for_others() {
    let mut call = Call::new();
    let made_up = |tag: usize| {
        let types = (0..1_100).map(|i| pt((i % 128) as u8, MediaKind::Video, &format!("x-{tag}-{i}"), &[]));
        let uris = (0..256).map(|i| extension((i % 255 + 1) as u8, MediaKind::Video, &format!("urn:x:{tag}:{i}")));
        Media { codecs: types.collect(), header_extensions: uris.collect(), ..Media::default() }
    };
    for tag in 0..5 {
        let client = call.join(made_up(tag), vec![]);
        for again in 0..5 {
            let endpoint = call.clients[client].id;
            let media = Box::new(made_up(100 * tag + again));
            call.command(Command::SetMedia { endpoint, media });
        }
    }
    assert!(call.count(Counter::FormatsRefused) > 1_000 && call.count(Counter::ExtensionsRefused) > 100);
    // Two who agree on something new, beside what everybody has.
    let mut media = [JICOFO.media(), OTHER.media()];
    for (media, number) in media.iter_mut().zip([50, 51]) {
        media.codecs.push(pt(number, MediaKind::Audio, "x-lyra", &[]));
    }
    let [ours, theirs] = media;
    let a = call.join(ours, vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
    let b = call.join(theirs, vec![]);
    call.settle();
    call.send(a, &packet(50, 1, 960, 10, &[1; 20]));
    call.send(a, &packet(111, 2, 1920, 10, &[1; 20]));
    call.send(a, &Camera::new(100, 11, 1, 180).one(true));
    let got: Vec<u8> = call.clients[b].take_rtp().iter().map(|p| p.header.payload_type).collect();
    assert_eq!(got, [51, 109, 96]);
}

/// Forwarder fuzz input of a REMB of 2^62 and more, and all its neighbours.
#[test]
fn estimates_of_any_size_are_taken() {
    for exponent in 0..64 {
        for mantissa in [0, 1, 2, 0x1_ffff, 0x3_ffff] {
            let (mut call, mut camera) = three();
            for _ in 0..3 {
                call.send_rtcp(1, &Raw(remb(exponent, mantissa)));
                call.millis(120);
                call.send(0, &camera.one(false));
            }
        }
    }
}

fn video_type() -> impl Strategy<Value = VideoType> {
    prop_oneof![Just(VideoType::Camera), Just(VideoType::Desktop), Just(VideoType::None)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Compound packets of any content, between packets and time: nothing overflows, and others are served.
    #[test]
    fn rtcp_of_any_content_harms_nobody(
        parts in proptest::collection::vec(
            (0u8..32, prop_oneof![200u8..=207, any::<u8>()], proptest::collection::vec(any::<u8>(), 0..80), 0u64..3_000), 1..40,
        ),
        media in prop_oneof![Just(11u32), any::<u32>()],
    ) {
        let (mut call, mut camera) = three();
        for (count, packet_type, mut body, wait) in parts {
            body.truncate(body.len() / 4 * 4);
            if body.len() >= 8 {
                body[4..8].copy_from_slice(&media.to_be_bytes());
            }
            if body.len() >= 12 && count == 15 && packet_type == 206 {
                body[8..12].copy_from_slice(b"REMB");
            }
            let packet = [rtcp(1, 201, &[0; 28]), rtcp(count, packet_type, &body)].concat();
            call.send_rtcp(1, &Raw(packet.clone()));
            call.send_rtcp(0, &Raw(packet));
            call.send(0, &camera.one(false));
            call.millis(wait);
        }
        call.millis(500);
        call.send_rtcp(2, &PictureLossIndication { sender_ssrc: 1, media_ssrc: 11 });
        call.millis(1_000);
        call.clients[2].take_rtp();
        call.send(0, &camera.one(true));
        prop_assert!(!call.clients[2].take_rtp().is_empty());
    }

    /// RTP of any content from who holds the keys.
    #[test]
    fn rtp_of_any_content_harms_nobody(
        packets in proptest::collection::vec(
            (
                prop_oneof![Just(100u8), Just(96), Just(111), any::<u8>()],
                any::<u16>(),
                any::<u32>(),
                prop_oneof![Just(10u32), Just(11), Just(1011)],
                proptest::collection::vec(any::<u8>(), 0..60),
                proptest::collection::vec((1u8..15, proptest::collection::vec(any::<u8>(), 1..16)), 0..4),
                0u64..1_500,
            ),
            1..60,
        ),
        kind in video_type(),
    ) {
        let (mut call, _) = three();
        let sources = vec![
            audio_source("a-a0", 10),
            ringbridge_dataplane::media::SourceDescription { video_type: kind, ..video_source("a-v0", &[11]) },
        ];
        call.command(Command::SetSources { endpoint: EndpointId(100), sources });
        for (number, sequence, timestamp, ssrc, payload, extensions, wait) in packets {
            let mut p = packet(number & 0x7f, sequence, timestamp, ssrc, &payload);
            for (id, data) in extensions {
                p = with_extension(p, id, &data);
            }
            call.send(0, &p);
            call.millis(wait);
        }
        call.send(0, &packet(111, 1, 1, 10, &[]));
        call.millis(500);
    }
}

/// Without congestion control, too, and with the loudest alone.
#[test]
fn other_knobs_have_the_same_bounds() {
    for config in [
        ForwarderConfig { congestion_control: false, ..ForwarderConfig::default() },
        ForwarderConfig { loudest_only: Some(Default::default()), ..ForwarderConfig::default() },
    ] {
        let mut call = Call::with(config);
        call.join(JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
        call.join(OTHER.media(), vec![]);
        call.settle();
        for _ in 0..1_000 {
            call.send_rtcp(1, &Raw(remb(63, 0x3_ffff)));
            call.send_rtcp(1, &Raw(large_nack(11, 0)));
            call.millis(1);
        }
        assert!(call.count(Counter::DropRtcpBudget) > 500);
    }
}

/// Every receiver remembers the SSRCs that it was sent something on: one who makes up new ones without end has to stop before
/// there is no room for anybody else's.
#[test]
fn ssrcs_without_end_are_refused_and_leave_room_for_others() {
    let (mut call, _) = three();
    for round in 0..3_000u32 {
        let sources = (0..3).map(|i| video_source(&format!("b{round}-v{i}"), &[100_000 + round * 10 + i])).collect();
        call.command(Command::SetSources { endpoint: EndpointId(101), sources });
    }
    assert_eq!(call.count(Counter::DropTableFull), 3_000 * 3 - 128);
    // One that comes and goes with its SSRC is no other.
    for _ in 0..500 {
        for sources in [vec![], vec![video_source("c-v0", &[12])]] {
            call.command(Command::SetSources { endpoint: EndpointId(102), sources });
        }
    }
    assert_eq!(call.count(Counter::DropTableFull), 3_000 * 3 - 128);
    call.millis(500);
    let late = call.join(JICOFO.media(), vec![video_source("d-v0", &[77])]);
    call.millis(500);
    (0..3).for_each(|client| drop(call.clients[client].take_rtp()));
    call.send(late, &Camera::new(100, 77, 1, 180).one(true));
    for client in 0..3 {
        assert_eq!(call.clients[client].take_rtp().len(), 1, "{client}");
    }
}
