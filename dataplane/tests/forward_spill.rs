//! One conference on two workers: what crosses, how often, and what comes back.

mod forward_call;

use forward_call::*;
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

/// A and B on worker 0, C and D on worker 1; A publishes audio and two encodings of video.
fn four(ring: usize) -> Call {
    let mut call = Call::spread(ForwarderConfig::default(), 2, ring);
    call.join_on(0, JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11, 12])]);
    call.join_on(0, OTHER.media(), vec![]);
    call.join_on(1, OTHER.media(), vec![audio_source("c-a0", 30)]);
    call.join_on(1, PLAIN.media(), vec![]);
    call.settle();
    call.take_events();
    call
}

fn camera() -> Camera {
    Camera::new(100, 11, 1, 180)
}

fn pli(media_ssrc: u32) -> PictureLossIndication {
    PictureLossIndication { sender_ssrc: 1, media_ssrc }
}

fn on(call: &Call, worker: usize, counter: Counter) -> u64 {
    call.stats[worker].get(counter)
}

#[test]
fn a_packet_crosses_once_however_many_want_it() {
    let mut call = four(64);
    for n in 0..3u16 {
        call.send(A, &with_extension(packet(111, n, 960 * u32::from(n), 10, &[n as u8; 40]), JICOFO.level, &[30]));
        for p in camera_frames(n) {
            call.send(A, &p);
        }
    }
    for client in [B, C, D] {
        let got = call.clients[client].take_rtp();
        let audio: Vec<_> = got.iter().filter(|p| p.header.ssrc == 10).collect();
        assert_eq!(audio.iter().map(|p| p.payload[0]).collect::<Vec<_>>(), [0, 1, 2], "client {client}");
        let (opus, vp8) = if client == D { (8, 120) } else { (109, 96) };
        assert!(audio.iter().all(|p| p.header.payload_type == opus && p.payload.len() == 40));
        let video: Vec<_> = got.iter().filter(|p| p.header.ssrc == 11).collect();
        assert_eq!(video.len(), 6);
        assert!(video.iter().all(|p| p.header.payload_type == vp8 && p.payload[p.payload.len() - 30..] == [0x77; 30]));
        assert!(video.windows(2).all(|w| w[1].header.sequence_number == w[0].header.sequence_number.wrapping_add(1)));
    }
    assert_eq!((on(&call, 0, Counter::CrossWorkerPackets), on(&call, 1, Counter::CrossWorkerPackets)), (9, 0));
    assert_eq!((on(&call, 0, Counter::PacketsForwarded), on(&call, 1, Counter::PacketsForwarded)), (9, 18));
    // And the other way: C's audio crosses once for two receivers.
    call.send(C, &packet(109, 1, 1, 30, &[5; 20]));
    assert_eq!((call.clients[A].take_rtp().len(), call.clients[B].take_rtp().len()), (1, 1));
    assert_eq!((call.clients[D].take_rtp().len(), on(&call, 1, Counter::CrossWorkerPackets)), (1, 1));
    assert_eq!(call.count(Counter::DropCrossWorkerFull) + call.count(Counter::DropCrossWorkerUnknown), 0);
}

fn camera_frames(n: u16) -> Vec<RtpPacket> {
    let mut camera = Camera::new(100, 11, 1 + 2 * n, 180);
    camera.picture += n;
    camera.frame(n == 0, 2)
}

#[test]
fn video_that_nobody_wants_there_does_not_cross() {
    let mut call = four(64);
    let mut camera = camera();
    call.want(C, 0);
    call.want(D, 0);
    call.send(A, &camera.one(true));
    assert_eq!((on(&call, 0, Counter::CrossWorkerPackets), call.clients[B].take_rtp().len()), (0, 1));
    call.want(D, 180);
    // It missed the keyframe: one is asked for, and comes.
    call.clients[A].take_rtcp::<PictureLossIndication>();
    call.send(A, &camera.one(false));
    assert_eq!(
        call.clients[A].take_rtcp::<PictureLossIndication>(),
        [PictureLossIndication { sender_ssrc: FEEDBACK.video.get(), media_ssrc: 11 }]
    );
    call.send(A, &camera.one(true));
    assert_eq!((call.clients[D].take_rtp().len(), call.clients[C].take_rtp().len()), (1, 0));
    assert_eq!(on(&call, 0, Counter::CrossWorkerPackets), 2);
    // Off and on again: nothing goes on in the middle.
    call.want(D, 0);
    call.send(A, &camera.one(false));
    call.want(D, 180);
    call.send(A, &camera.one(false));
    assert!(call.clients[D].take_rtp().is_empty());
}

#[test]
fn keyframe_requests_of_all_workers_are_one() {
    let mut call = four(64);
    call.send(A, &camera().one(true));
    call.millis(300);
    call.clients[A].take_rtcp::<PictureLossIndication>();
    let expected = PictureLossIndication { sender_ssrc: FEEDBACK.video.get(), media_ssrc: 11 };
    for client in [C, D, B] {
        call.send_rtcp(client, &pli(11));
    }
    assert_eq!(call.clients[A].take_rtcp::<PictureLossIndication>(), std::slice::from_ref(&expected));
    assert_eq!(call.count(Counter::KeyframeRequests), 1);
    call.millis(250);
    call.send_rtcp(D, &pli(11));
    assert_eq!(call.clients[A].take_rtcp::<PictureLossIndication>(), [expected]);
}

#[test]
fn lost_packets_are_repeated_from_where_the_receiver_lives() {
    let mut call = four(64);
    let packets = camera().frame(true, 4);
    packets.iter().for_each(|p| call.send(A, p));
    for (client, rtx) in [(C, true), (D, false)] {
        let got = call.clients[client].take_rtp();
        let nacks = vec![NackPair { packet_id: got[2].header.sequence_number, lost_packets: 0 }];
        call.millis(30);
        call.send_rtcp(client, &TransportLayerNack { sender_ssrc: 1, media_ssrc: 11, nacks });
        let again = call.clients[client].take_rtp();
        if rtx {
            assert_eq!((again[0].header.ssrc, again[0].header.payload_type), (1011, 97));
            assert_eq!(again[0].payload[..2], got[2].header.sequence_number.to_be_bytes());
            assert_eq!(again[0].payload[2..], got[2].payload);
        } else {
            // Without RTX its keys forbid it, there as here.
            assert_eq!((again.len(), on(&call, 1, Counter::DropCannotRepeat)), (0, 1));
        }
    }
    assert_eq!((on(&call, 0, Counter::Retransmissions), on(&call, 1, Counter::Retransmissions)), (0, 1));
}

#[test]
fn what_came_as_a_retransmission_crosses_as_what_it_repeats() {
    let mut call = four(64);
    let packets = camera().frame(true, 3);
    for p in [&packets[0], &packets[2], &rtx_of(&packets[1], 96, 1)] {
        call.send(A, p);
    }
    for client in [C, D] {
        let got = call.clients[client].take_rtp();
        let first = got[0].header.sequence_number;
        let order: Vec<u16> = got.iter().map(|p| p.header.sequence_number.wrapping_sub(first)).collect();
        assert_eq!(order, [0, 2, 1], "client {client}");
    }
}

#[test]
fn sender_reports_mute_and_new_keys_reach_everybody() {
    let mut call = four(64);
    let report = |rtp_time| SenderReport { ssrc: 10, ntp_time: 7 << 32, rtp_time, ..SenderReport::default() };
    call.send(A, &packet(111, 1, 1000, 10, &[1; 20]));
    call.send_rtcp(A, &report(1000));
    for client in [B, C, D] {
        let got = call.clients[client].take_rtcp::<SenderReport>();
        assert_eq!((got[0].ssrc, got[0].ntp_time, got[0].packet_count, got[0].octet_count), (10, 7 << 32, 1, 20));
        assert_eq!(got[0].rtp_time, call.clients[client].rtp[0].header.timestamp);
    }
    let endpoint = call.clients[A].id;
    call.command(Command::SetForceMute { endpoint, audio: true, video: false });
    call.send(A, &packet(111, 2, 1960, 10, &[2; 20]));
    call.send_rtcp(A, &report(1960));
    assert_eq!((call.count(Counter::DropForceMuted), on(&call, 0, Counter::CrossWorkerPackets)), (1, 1));
    call.command(Command::SetForceMute { endpoint, audio: false, video: false });
    call.send(A, &packet(111, 3, 2920, 10, &[3; 20]));
    // New keys: A counts from anywhere, and receivers everywhere see the stream go on.
    call.rekey(A, 77);
    call.send(A, &packet(111, 40_000, 50_000, 10, &[4; 20]));
    for client in [B, C, D] {
        let got = call.clients[client].take_rtp();
        assert_eq!(got.iter().map(|p| p.payload[0]).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(got.windows(2).all(|w| w[1].header.sequence_number == w[0].header.sequence_number.wrapping_add(1)));
    }
}

fn demands(events: &[Event]) -> Vec<Limit> {
    let demand = |e: &Event| match e {
        Event::SourceDemand { endpoint: EndpointId(100), source, max_height } if source == "a-v0" => Some(*max_height),
        _ => None,
    };
    events.iter().filter_map(demand).collect()
}

#[test]
fn the_highest_wish_wins_wherever_it_is() {
    let mut call = four(64);
    call.want(C, 720);
    call.want(B, 360);
    call.want(D, 90);
    assert_eq!(demands(&call.take_events()), [Limit::Max(720)]);
    call.want(C, 90);
    assert_eq!(demands(&call.take_events()), [Limit::Max(360)]);
    call.want_up_to(C, Limit::Unlimited);
    assert_eq!(demands(&call.take_events()), [Limit::Unlimited]);
    for client in [C, D] {
        let endpoint = call.clients[client].id;
        call.command(Command::ExpireEndpoint { endpoint });
    }
    assert_eq!(demands(&call.take_events()), [Limit::Max(360)], "the demand of a worker goes with its last receiver");
    // A new source, of which the other worker hears first or last.
    for first in [0, 1] {
        let mut call = four(64);
        call.want(C, 720);
        call.take_events();
        let endpoint = call.clients[A].id;
        let sources = vec![video_source("a-v0", &[11, 12]), video_source("a-v1", &[51 + first as u32])];
        for worker in [first, 1 - first] {
            let command = Command::SetSources { endpoint, sources: sources.clone() };
            call.forwarders[worker].handle_command(call.now, command);
            call.settle();
        }
        call.millis(10);
        let last = call.take_events().into_iter().rev().find_map(|e| match e {
            Event::SourceDemand { source, max_height, .. } if source == "a-v1" => Some(max_height),
            _ => None,
        });
        assert_eq!(last, Some(Limit::Max(720)), "worker {first} first");
    }
}

#[test]
fn one_worker_tells_who_speaks_and_another_takes_over() {
    let mut call = four(64);
    let mut number = 0u16;
    let mut speak = |call: &mut Call, client: usize, ssrc: u32, payload_type: u8, id: u8| {
        for n in 0..100u8 {
            number = number.wrapping_add(1);
            let level = if n % 10 == 9 { 100 } else { 20 };
            let p = packet(payload_type, number, 960 * u32::from(number), ssrc, &[1; 20]);
            call.send(client, &with_extension(p, id, &[level]));
            call.millis(20);
        }
    };
    let speakers = |events: Vec<Event>| -> Vec<Vec<EndpointId>> {
        let recent = |e| match e {
            Event::DominantSpeaker { recent, .. } => Some(recent),
            _ => None,
        };
        events.into_iter().filter_map(recent).collect()
    };
    speak(&mut call, C, 30, 109, OTHER.level);
    let (a, c) = (call.clients[A].id, call.clients[C].id);
    assert_eq!(speakers(call.take_events()), [vec![c]]);
    speak(&mut call, A, 10, 111, JICOFO.level);
    assert_eq!(speakers(call.take_events()), [vec![a, c]]);
    for client in [A, B] {
        let endpoint = call.clients[client].id;
        call.command(Command::ExpireEndpoint { endpoint });
    }
    assert_eq!(speakers(call.take_events()), [vec![c]], "worker 1 has heard the same all the time");
}

#[test]
fn who_leaves_is_gone_everywhere() {
    let mut call = four(64);
    call.send(A, &packet(111, 1, 1, 10, &[1; 20]));
    let endpoint = call.clients[A].id;
    let late = call.seal(A, &packet(111, 2, 1, 10, &[2; 20]));
    // Worker 1 has dropped it already, worker 0 has not.
    call.forwarders[1].handle_command(call.now, Command::ExpireEndpoint { endpoint });
    call.send_raw(A, &mut late.clone());
    assert_eq!(on(&call, 1, Counter::DropCrossWorkerUnknown), 1);
    call.forwarders[0].handle_command(call.now, Command::ExpireEndpoint { endpoint });
    call.settle();
    assert!(call.forwarders.iter().all(|f| f.slot(endpoint).is_none()));
    // Its SSRCs are free again, and go on where they were.
    let n = call.join_on(1, JICOFO.media(), vec![audio_source("e-a0", 10)]);
    call.clients[D].take_rtp();
    call.send(n, &packet(111, 9, 1, 10, &[3; 20]));
    for client in [B, C, D] {
        assert_eq!(call.clients[client].take_rtp().last().unwrap().payload[..], [3; 20]);
    }
    call.command(Command::ExpireConference { conference: CONFERENCE });
    assert!(call.clients.iter().all(|c| call.forwarders.iter().all(|f| f.slot(c.id).is_none())));
}

#[test]
fn a_full_ring_drops_and_counts_and_feedback_gets_through() {
    let mut call = four(4);
    let mut camera = camera();
    let (home, slot) = (call.clients[A].home, call.clients[A].slot);
    let mut sealed: Vec<Vec<u8>> = (0..10).map(|i| camera.one(i == 0)).map(|p| call.seal(A, &p)).collect();
    for datagram in &mut sealed {
        // Worker 1 gets no turn meanwhile.
        call.forwarders[home].handle_rtp(call.now, slot, datagram, &mut call.sink);
    }
    assert_eq!((on(&call, 0, Counter::CrossWorkerPackets), on(&call, 0, Counter::DropCrossWorkerFull)), (4, 6));
    call.deliver();
    assert_eq!((call.clients[B].take_rtp().len(), call.clients[C].take_rtp().len()), (10, 4));
    // Ten demands do not fit the ring the other way, but wait.
    let endpoint = call.clients[A].id;
    let sources: Vec<_> = (0..10).map(|i| video_source(&format!("a-v{i}"), &[100 + i])).collect();
    call.command(Command::SetSources { endpoint, sources });
    call.take_events();
    call.want(C, 1080);
    (0..5).for_each(|_| call.millis(10));
    let announced = call
        .take_events()
        .iter()
        .filter(|e| matches!(e, Event::SourceDemand { max_height: Limit::Max(1080), .. }))
        .count();
    assert_eq!(announced, 10);
}

#[test]
fn a_worker_that_claims_what_is_not_its_own_is_refused() {
    let mut call = Call::spread(ForwarderConfig::default(), 3, 16);
    call.join_on(0, JICOFO.media(), vec![audio_source("a-a0", 10)]);
    call.join_on(1, OTHER.media(), vec![]);
    let endpoint = EndpointId(900);
    let remote = |home| Command::CreateRemoteEndpoint { conference: CONFERENCE, endpoint, home };
    for home in [0, 3] {
        call.forwarders[0].handle_command(call.now, remote(WorkerId::new(home)));
    }
    assert_eq!(on(&call, 0, Counter::DropCommandUnknown), 2, "itself, and nobody");
    // Worker 1 believes that A lives on worker 2.
    let a = call.clients[A].id;
    call.forwarders[1].handle_command(call.now, Command::ExpireEndpoint { endpoint: a });
    let wrong = Command::CreateRemoteEndpoint { conference: CONFERENCE, endpoint: a, home: WorkerId::new(2) };
    call.forwarders[1].handle_command(call.now, wrong);
    call.send(A, &packet(111, 1, 1, 10, &[1; 20]));
    assert_eq!((on(&call, 1, Counter::DropCrossWorkerUnknown), call.clients[B].rtp.len()), (1, 0));
}
