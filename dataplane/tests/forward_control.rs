//! RTCP, counters, mute, activity, speakers.

mod forward_call;

use std::time::Duration;

use forward_call::*;
use ringbridge_dataplane::conference::{ForwarderConfig, LoudestOnly};
use ringbridge_dataplane::media::{AudioSubscription, Bitrate, Limit, ReceiverConstraints, VideoConstraint};
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

fn three() -> Call {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11, 12])]);
    call.join(OTHER.media(), vec![audio_source("b-a0", 20)]);
    call.join(PLAIN.media(), vec![audio_source("c-a0", 30)]);
    call.settle();
    call
}

fn pli(media_ssrc: u32) -> PictureLossIndication {
    PictureLossIndication { sender_ssrc: 1, media_ssrc }
}

#[test]
fn pli_and_fir_reach_the_owner_and_are_throttled() {
    let mut call = three();
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    call.clients[0].take_rtcp::<PictureLossIndication>();
    let expected = PictureLossIndication { sender_ssrc: FEEDBACK.video.get(), media_ssrc: 11 };
    call.send_rtcp(1, &pli(11));
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>(), std::slice::from_ref(&expected));
    call.send_rtcp(1, &pli(11));
    call.send_rtcp(2, &pli(11));
    assert!(call.clients[0].take_rtcp::<PictureLossIndication>().is_empty());
    assert_eq!(call.count(Counter::KeyframeRequestsThrottled), 2);
    call.millis(200);
    let fir = FullIntraRequest {
        sender_ssrc: 1,
        media_ssrc: 0,
        fir: vec![FirEntry { ssrc: 999, sequence_number: 1 }, FirEntry { ssrc: 11, sequence_number: 1 }],
    };
    call.send_rtcp(2, &fir);
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>(), [expected]);
    call.send_rtcp(2, &pli(4711));
    call.send_rtcp(0, &pli(11));
    assert_eq!(call.count(Counter::KeyframeRequests), 2);
}

#[test]
fn fir_where_the_sender_lacks_pli() {
    let mut call = Call::new();
    let mut media = JICOFO.media();
    media.codecs.iter_mut().for_each(|p| p.feedback.retain(|f| f.1 != "pli"));
    call.join(media, vec![video_source("a-v0", &[11])]);
    call.join(OTHER.media(), vec![]);
    call.settle();
    call.send(0, &Camera::new(100, 11, 1, 180).one(true));
    for n in 0..2u8 {
        call.send_rtcp(1, &pli(11));
        let got = call.clients[0].take_rtcp::<FullIntraRequest>();
        assert_eq!(got[0].fir, [FirEntry { ssrc: 11, sequence_number: n }]);
        call.millis(200);
    }
}

fn sender_report(ssrc: u32, ntp_time: u64, rtp_time: u32) -> SenderReport {
    SenderReport { ssrc, ntp_time, rtp_time, packet_count: 77, octet_count: 7777, ..SenderReport::default() }
}

#[test]
fn sender_reports_are_rewritten_for_what_each_receiver_gets() {
    let mut call = three();
    call.want(1, 360);
    call.millis(10);
    let mut low = Camera::new(100, 11, 1, 180);
    let mut high = Camera::new(100, 12, 1, 360);
    call.send_rtcp(0, &sender_report(11, 5, 6));
    assert!(call.clients[1].take_rtcp::<SenderReport>().is_empty(), "nothing was sent yet");
    let mut last = [0; 2];
    for i in 0..4 {
        call.millis(30);
        let (l, h) = (low.one(i == 0), high.one(i == 0));
        call.send(0, &l);
        call.send(0, &h);
        last = [l.header.timestamp, h.header.timestamp];
    }
    let rtp = [call.clients[1].take_rtp(), call.clients[2].take_rtp()];
    let ntp = 0x0123_4567_89ab_cdef;
    call.send_rtcp(0, &sender_report(11, ntp, last[0].wrapping_add(100)));
    assert!(call.clients[1].take_rtcp::<SenderReport>().is_empty(), "it gets the other encoding");
    let to_low = call.clients[2].take_rtcp::<SenderReport>();
    call.send_rtcp(0, &sender_report(12, ntp, last[1].wrapping_add(100)));
    let to_high = call.clients[1].take_rtcp::<SenderReport>();
    assert!(call.clients[2].take_rtcp::<SenderReport>().is_empty());
    for (reports, sent) in [(to_high, &rtp[0]), (to_low, &rtp[1])] {
        let [report] = &reports[..] else { panic!("{} reports", reports.len()) };
        let newest = sent.last().unwrap();
        assert_eq!((report.ssrc, report.ntp_time), (11, ntp));
        assert_eq!(report.rtp_time, newest.header.timestamp.wrapping_add(100));
        assert_eq!(report.packet_count as usize, sent.len());
        assert_eq!(report.octet_count as usize, sent.iter().map(|p| p.payload.len()).sum::<usize>());
    }
}

#[test]
fn receiver_reports_tell_loss_every_half_second() {
    let mut call = three();
    for i in [1u16, 2, 4] {
        call.send(0, &packet(111, i, 960 * u32::from(i), 10, &[1; 20]));
    }
    call.send_rtcp(0, &sender_report(10, 0x1111_2222_3333_4444, 0));
    call.millis(500);
    let reports = call.clients[0].take_rtcp::<ReceiverReport>();
    let [report] = &reports[..] else { panic!("{} reports", reports.len()) };
    assert_eq!(report.ssrc, FEEDBACK.video.get());
    let block = &report.reports[0];
    assert_eq!((block.ssrc, block.fraction_lost, block.total_lost), (10, 64, 1));
    assert_eq!((block.last_sequence_number, block.last_sender_report), (4, 0x2222_3333));
    assert_eq!(block.delay, 32_768);
    call.millis(2000);
    assert!(call.clients[0].take_rtcp::<ReceiverReport>().is_empty(), "nothing to report in silence");
}

#[test]
fn video_counts_in_half_seconds_for_each_encoding() {
    let mut call = three();
    let mut cameras = [Camera::new(100, 11, 1, 180), Camera::new(100, 12, 1, 360)];
    call.send(0, &packet(111, 1, 960, 10, &[1; 20]));
    call.millis(500);
    assert_eq!(call.count(Counter::VideoMillis), 0, "audio is none");
    for encodings in [2, 1] {
        for _ in 0..4 {
            for camera in &mut cameras[..encodings] {
                call.send(0, &camera.one(true));
            }
            call.millis(250);
        }
    }
    call.millis(5_000);
    let counted = call.count(Counter::VideoMillis);
    assert!((2_500..=3_500).contains(&counted), "{counted} ms of two encodings for a second and one for another");
    call.millis(5_000);
    assert_eq!(call.count(Counter::VideoMillis), counted);
}

#[test]
fn transport_feedback_covers_losses_and_the_tail() {
    let mut call = three();
    let mut camera = Camera::new(100, 11, 1, 180);
    for n in [65_534u16, 65_535, 2, 3] {
        call.millis(4);
        let mut p = with_extension(camera.one(n == 65_534), JICOFO.tcc, &n.to_be_bytes());
        p.header.marker = false;
        call.send(0, &p);
    }
    assert!(call.clients[0].take_rtcp::<TransportLayerCc>().is_empty());
    call.millis(100);
    let got = call.clients[0].take_rtcp::<TransportLayerCc>();
    let [feedback] = &got[..] else { panic!("{} messages", got.len()) };
    assert_eq!((feedback.sender_ssrc, feedback.media_ssrc), (FEEDBACK.video.get(), 11));
    assert_eq!((feedback.base_sequence_number, feedback.packet_status_count, feedback.fb_pkt_count), (65_534, 6, 0));
    let deltas: Vec<i64> = feedback.recv_deltas.iter().map(|d| d.delta).collect();
    assert_eq!(deltas[1..], [4000, 4000, 4000], "microseconds");
    // A frame's end after 20 ms does not wait for the timer; a probe on the RTX SSRC counts too.
    call.millis(25);
    let mut probe = rtx_of(&camera.one(false), 96, 1);
    probe.payload = vec![].into();
    probe.header.marker = true;
    call.send(0, &with_extension(probe, JICOFO.tcc, &4u16.to_be_bytes()));
    let got = call.clients[0].take_rtcp::<TransportLayerCc>();
    assert_eq!((got[0].base_sequence_number, got[0].packet_status_count, got[0].fb_pkt_count), (4, 1, 1));
}

#[test]
fn force_mute_drops_at_the_input_and_leaves_no_hole() {
    let mut call = three();
    let endpoint = call.clients[0].id;
    let audio = |i: u16| packet(111, i, 960 * u32::from(i), 10, &[1; 20]);
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &audio(1));
    call.send(0, &camera.one(true));
    call.command(Command::SetForceMute { endpoint, audio: true, video: false });
    call.send(0, &audio(2));
    call.send(0, &camera.one(false));
    call.command(Command::SetForceMute { endpoint, audio: false, video: true });
    call.send(0, &audio(3));
    let muted = camera.one(false);
    call.send(0, &muted);
    call.send(0, &rtx_of(&camera.one(false), 96, 1));
    assert_eq!(call.count(Counter::DropForceMuted), 3);
    call.command(Command::SetForceMute { endpoint, audio: false, video: false });
    call.send(0, &camera.one(false));
    let got = call.clients[1].take_rtp();
    for ssrc in [10, 11] {
        let numbers: Vec<u16> =
            got.iter().filter(|p| p.header.ssrc == ssrc).map(|p| p.header.sequence_number).collect();
        let expected: Vec<u16> = (0..numbers.len() as u16).map(|i| numbers[0].wrapping_add(i)).collect();
        assert_eq!(numbers, expected, "ssrc {ssrc}");
    }
    assert_eq!(got.len(), 2 + 3);
}

#[test]
fn bad_packets_are_counted_exactly_and_disturb_nobody() {
    let mut call = three();
    let audio = |i: u16| packet(111, i, 960 * u32::from(i), 10, &[1; 20]);
    let mut first = call.seal(0, &audio(1));
    let replay = first.clone();
    call.send_raw(0, &mut first);
    call.send_raw(0, &mut replay.clone());
    let mut forged = call.seal(0, &audio(2));
    let good = forged.clone();
    *forged.last_mut().unwrap() ^= 1;
    call.send_raw(0, &mut forged);
    call.send_raw(0, &mut good.clone());
    call.send(0, &packet(111, 1, 0, 4711, &[1; 20]));
    call.send(0, &packet(77, 3, 0, 10, &[1; 20]));
    call.send_raw(0, &mut [0x80, 111, 0]);
    call.send_raw(0, &mut [0x80; 13]);
    let mut short = replay[..20].to_vec();
    call.send_raw(0, &mut short);
    for (counter, expected) in [
        (Counter::DropSrtpReplay, 1),
        (Counter::DropSrtpAuth, 1),
        (Counter::DropUnknownSsrc, 2),
        (Counter::DropUnknownPayloadType, 1),
        (Counter::DropRtpMalformed, 2),
    ] {
        assert_eq!(call.count(counter), expected, "{counter:?}");
    }
    assert_eq!(call.clients[1].take_rtp().len(), 2);
    call.send(1, &packet(109, 1, 1, 20, &[2; 20]));
    assert_eq!(call.clients[0].take_rtp().len(), 1);
    assert_eq!(call.clients[2].take_rtp().len(), 3);
}

#[test]
fn bad_rtcp_is_counted_exactly() {
    let mut call = three();
    let Client { home, slot, .. } = call.clients[1];
    let mut garbage =
        [0x81, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0x80, 0, 0, 1];
    call.forwarders[home].handle_rtcp(call.now, slot, &mut garbage, &mut call.sink);
    call.forwarders[home].handle_rtcp(call.now, slot, &mut [0x81, 206, 0, 2], &mut call.sink);
    assert_eq!(call.count(Counter::DropSrtcpAuth), 1);
    assert_eq!(call.count(Counter::DropRtcpMalformed), 1);
}

/// RTCP as it is on the wire.
struct Raw(Vec<u8>);

impl Marshal2 for Raw {
    fn bytes(&self) -> bytes::Bytes {
        self.0.clone().into()
    }
}

#[test]
fn blocks_of_no_interest_are_skipped_and_damaged_ones_counted_without_harm_to_the_rest() {
    let mut call = three();
    let mut camera = Camera::new(100, 11, 1, 180);
    call.send(0, &camera.one(true));
    call.clients.iter_mut().for_each(|c| drop((c.take_rtp(), c.take_rtcp::<SenderReport>())));
    let wish = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 11];
    let receiver_report = [0x80, 201, 0, 1, 0, 0, 0, 1];
    let sdes = [0x81, 202, 0, 3, 0, 0, 0, 1, 1, 4, b'n', b'a', b'm', b'e', 0, 0];
    let xr = [0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
    let app = [0x80, 204, 0, 2, 0, 0, 0, 1, b't', b'e', b's', b't'];
    let unknown = [0x80, 211, 0, 1, 0, 0, 0, 1];
    let bye = [0x81, 203, 0, 1, 0, 0, 0, 1];
    // Two report blocks are promised, none is there; a NACK without a media SSRC; a transport feedback without a body.
    let short_report = [0x82, 201, 0, 1, 0, 0, 0, 1];
    let short_nack = [0x81, 205, 0, 1, 0, 0, 0, 1];
    let short_feedback = [0x8f, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 11];
    let parts: [&[u8]; 10] =
        [&receiver_report, &sdes, &xr, &short_report, &app, &short_nack, &unknown, &short_feedback, &bye, &wish];
    call.send_rtcp(1, &Raw(parts.concat()));
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>().len(), 1, "the request behind them is heard");
    assert_eq!(call.count(Counter::DropRtcpMalformed), 3);
    // A length beyond the end: what came before it counts.
    call.millis(250);
    call.send_rtcp(1, &Raw([&wish[..], &[0x81, 206, 0, 9, 0, 0, 0, 1]].concat()));
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>().len(), 1, "reduced size, without a report");
    assert_eq!(call.count(Counter::DropRtcpMalformed), 4);
    // Who says goodbye and goes on is heard: only the control plane takes an endpoint away.
    call.send_rtcp(0, &Raw(vec![0x81, 203, 0, 1, 0, 0, 0, 11]));
    call.send(0, &camera.one(false));
    assert_eq!(call.clients[1].take_rtp().len(), 1);
}

#[test]
fn without_keys_or_room_everything_is_dropped_and_counted() {
    let mut call = three();
    call.sink.full = true;
    call.send(0, &packet(111, 1, 1, 10, &[1; 20]));
    assert_eq!(call.count(Counter::DropOutputFull), 2);
    call.sink.full = false;
    let slot = call.clients[0].slot;
    let endpoint = call.clients[0].id;
    call.command(Command::ExpireEndpoint { endpoint });
    let mut datagram = call.seal(0, &packet(111, 2, 1, 10, &[1; 20]));
    call.forwarders[0].handle_rtp(call.now, slot, &mut datagram, &mut call.sink);
    assert_eq!(call.count(Counter::DropUnknownAddress), 1);
    assert_eq!(call.forwarders[0].slot(endpoint), None);
    call.command(Command::ExpireEndpoint { endpoint });
    assert_eq!(call.stats[0].get(Counter::DropCommandUnknown), 1);
}

#[test]
fn activity_ends_after_eight_seconds_and_comes_back() {
    let mut call = three();
    call.take_events();
    let endpoint = call.clients[0].id;
    let activity = |events: Vec<Event>| -> Vec<Event> {
        events.into_iter().filter(|e| matches!(e, Event::Activity { .. })).collect()
    };
    call.send(0, &packet(111, 1, 1, 10, &[1; 20]));
    call.advance(Duration::from_secs(5));
    let slot = call.clients[0].slot;
    call.forwarders[0].note_activity(call.now, slot);
    call.advance(Duration::from_millis(7990));
    // The other two never sent anything.
    assert!(
        activity(call.take_events())
            .iter()
            .all(|e| !matches!(e, Event::Activity { endpoint: e, .. } if *e == endpoint))
    );
    call.millis(20);
    assert_eq!(activity(call.take_events()), [Event::Activity { endpoint, active: false }]);
    call.forwarders[0].note_activity(call.now, slot);
    call.settle();
    assert_eq!(activity(call.take_events()), [Event::Activity { endpoint, active: true }]);
}

#[test]
fn the_speaker_is_announced_and_comes_first() {
    let mut call = three();
    let mut media = OTHER.media();
    media.offered_codecs.clear();
    call.take_events();
    for i in 0..60u16 {
        let level = if i % 10 == 9 { 90 } else { 25 };
        let p = packet(109, i, 960 * u32::from(i), 20, &[1; 20]);
        call.send(1, &with_extension(p, OTHER.level, &[level]));
        call.millis(20);
    }
    let speakers: Vec<Event> =
        call.take_events().into_iter().filter(|e| matches!(e, Event::DominantSpeaker { .. })).collect();
    let recent = vec![call.clients[1].id];
    assert_eq!(speakers, [Event::DominantSpeaker { conference: CONFERENCE, recent }]);
}

#[test]
fn forwarded_sources_follow_last_n() {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
    call.join(OTHER.media(), vec![video_source("b-v0", &[21])]);
    let c = call.join(PLAIN.media(), vec![]);
    call.settle();
    let endpoint = call.clients[c].id;
    let last = |call: &mut Call| {
        call.take_events().into_iter().rev().find_map(|e| match e {
            Event::ForwardedSources { endpoint: e, sources } if e == endpoint => Some(sources),
            _ => None,
        })
    };
    assert_eq!(last(&mut call), Some(vec!["a-v0".to_owned(), "b-v0".to_owned()]));
    let mut constraints = ReceiverConstraints {
        last_n: Limit::Max(1),
        on_stage: vec!["b-v0".to_owned()],
        default: VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited },
        ..ReceiverConstraints::default()
    };
    call.constrain(c, constraints.clone());
    assert_eq!(last(&mut call), Some(vec!["b-v0".to_owned()]));
    constraints.last_n = Limit::Off;
    call.constrain(c, constraints);
    assert_eq!(last(&mut call), Some(vec![]));
    let endpoint = call.clients[0].id;
    call.command(Command::ExpireEndpoint { endpoint });
    assert_eq!(last(&mut call), None, "what was not forwarded is not missed");
}

#[test]
fn an_expired_conference_leaves_nothing() {
    let mut call = three();
    call.command(Command::ExpireConference { conference: CONFERENCE });
    assert!(call.clients.iter().all(|c| call.forwarders[0].slot(c.id).is_none()));
    call.advance(Duration::from_secs(20));
    assert_eq!(call.forwarders[0].poll_timeout(), None);
}

/// A sender is asked again for a packet when it can have answered, by the round-trip time that its reports show.
#[test]
fn a_sender_is_asked_again_after_its_own_round_trip() {
    use rtcp::receiver_report::ReceiverReport;
    use rtcp::reception_report::ReceptionReport;
    use rtcp::sender_report::SenderReport;
    use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
    let mut call = Call::new();
    let (a, b) = (
        call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]),
        call.join(JICOFO.media(), vec![video_source("b-v0", &[21])]),
    );
    call.want(a, 720);
    // b's picture and its report go to a, which answers 40 ms later.
    let mut other = Camera::new(JICOFO.vp8, 21, 1, 360);
    let key = other.one(true);
    call.send(b, &key);
    let ntp = 0x1111_2222_3333_4444;
    let report = SenderReport { ssrc: 21, ntp_time: ntp, rtp_time: key.header.timestamp, ..SenderReport::default() };
    call.send_rtcp(b, &report);
    assert_eq!(call.clients[a].take_rtcp::<SenderReport>().len(), 1);
    call.millis(40);
    let block = ReceptionReport { ssrc: 21, last_sender_report: 0x2222_3333, ..ReceptionReport::default() };
    call.send_rtcp(a, &ReceiverReport { ssrc: 1, reports: vec![block], ..ReceiverReport::default() });
    let mut camera = Camera::new(JICOFO.vp8, 11, 1, 180);
    call.send(a, &camera.one(true));
    camera.one(false);
    call.send(a, &camera.one(false));
    let asked = |call: &mut Call| call.clients[a].take_rtcp::<TransportLayerNack>().len();
    assert_eq!(asked(&mut call), 1);
    call.millis(55);
    assert_eq!(asked(&mut call), 0);
    call.millis(10);
    assert_eq!(asked(&mut call), 1, "after one and a quarter of the round trip, and 10 ms");
}

#[test]
fn a_receiver_gets_the_audio_that_it_subscribed_to() {
    let mut call = Call::new();
    for n in 0..3 {
        call.join(JICOFO.media(), vec![audio_source(&format!("{n}-a0"), 100 + n)]);
    }
    let receiver = call.join(OTHER.media(), Vec::new());
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut sequence = 0;
    let mut heard = |call: &mut Call, senders: u32| -> Vec<u32> {
        sequence += 1;
        for n in 0..senders {
            call.send(
                n as usize + usize::from(n == 3),
                &packet(111, sequence, u32::from(sequence) * 960, 100 + n, &[1; 40]),
            );
        }
        call.clients[receiver].take_rtp().iter().map(|p| p.header.ssrc).collect()
    };
    let subscribe = |call: &mut Call, all, include: &[&str], exclude: &[&str]| {
        let audio = AudioSubscription { all, include: names(include), exclude: names(exclude) };
        call.constrain(receiver, ReceiverConstraints { audio, ..Default::default() });
    };
    assert_eq!(heard(&mut call, 3), [100, 101, 102]);
    subscribe(&mut call, true, &[], &["1-a0"]);
    assert_eq!(heard(&mut call, 3), [100, 102]);
    subscribe(&mut call, false, &["1-a0", "2-a0", "3-a0"], &["2-a0"]);
    assert_eq!(heard(&mut call, 3), [101]);
    // Names count for sources that appear later, too.
    call.join(JICOFO.media(), vec![audio_source("3-a0", 103)]);
    assert_eq!(heard(&mut call, 4), [101, 103]);
    subscribe(&mut call, false, &[], &[]);
    assert_eq!(heard(&mut call, 4), []);
    // What was left out leaves no gap.
    let before: Vec<u16> = {
        subscribe(&mut call, true, &[], &[]);
        heard(&mut call, 1);
        call.send(0, &packet(111, 50, 48_000, 100, &[1; 40]));
        call.clients[receiver].take_rtp().iter().map(|p| p.header.sequence_number).collect()
    };
    subscribe(&mut call, false, &[], &[]);
    call.send(0, &packet(111, 51, 48_960, 100, &[1; 40]));
    subscribe(&mut call, true, &[], &[]);
    call.send(0, &packet(111, 52, 49_920, 100, &[1; 40]));
    let after = call.clients[receiver].take_rtp();
    assert_eq!(after.iter().map(|p| p.header.sequence_number).collect::<Vec<_>>(), [before[0] + 1]);
}

#[test]
fn what_came_and_what_did_not_is_counted() {
    let mut call = Call::new();
    let sender = call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
    call.join(OTHER.media(), Vec::new());
    let mut camera = Camera::new(100, 11, 1, 180);
    for i in 0..20 {
        for (n, p) in camera.frame(i % 10 == 0, 2).iter().enumerate() {
            if (i, n) != (5, 1) {
                call.send(sender, p);
            }
        }
        call.millis(30);
    }
    call.millis(600);
    assert_eq!((call.count(Counter::RtpExpected), call.count(Counter::RtpLost)), (40, 1));
    assert_eq!(call.count(Counter::KeyframesReceived), 2);
    assert!(call.count(Counter::LayeringChanges) > 0);
}

#[test]
fn the_control_plane_hears_of_video_left_out_and_of_remb_in_vain() {
    let mut call = Call::new();
    for (n, ssrc) in [(0, 11), (1, 21)] {
        call.join(JICOFO.media(), vec![video_source(&format!("{n}-v0"), &[ssrc])]);
    }
    let receiver = call.join(JICOFO.media(), Vec::new());
    let default = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
    // Room for the least of one.
    let assumed = ReceiverConstraints { default, assumed_bandwidth: Some(Bitrate::new(1_000)), ..Default::default() };
    call.constrain(receiver, assumed);
    let mut cameras = [Camera::new(100, 11, 1, 180), Camera::new(100, 21, 1, 180)];
    for i in 0..100 {
        for (n, camera) in cameras.iter_mut().enumerate() {
            let p = camera.one(i % 30 == 0);
            call.send(n, &p);
        }
        call.millis(30);
    }
    let id = call.clients[receiver].id;
    let last = |call: &mut Call| {
        let mut reports = call.take_events().into_iter().filter_map(|e| match e {
            Event::Bandwidth { endpoint, bandwidth } if endpoint == id => Some(bandwidth),
            _ => None,
        });
        reports.next_back().expect("at least one report")
    };
    let before = last(&mut call);
    assert_eq!((before.suspended, before.spurious_remb), (1, false), "{before:?}");
    let remb = rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate {
        sender_ssrc: 1,
        bitrate: 1e6,
        ssrcs: vec![11],
    };
    call.send_rtcp(receiver, &remb);
    call.constrain(receiver, ReceiverConstraints { default, ..Default::default() });
    for (n, camera) in cameras.iter_mut().enumerate() {
        let p = camera.one(true);
        call.send(n, &p);
    }
    call.millis(2_500);
    let after = last(&mut call);
    assert_eq!((after.suspended, after.spurious_remb), (0, true), "{after:?}");
}

/// Of four voices the two loudest go on, and nobody sees a hole where others were left out.
#[test]
fn the_loudest_alone_are_forwarded_where_that_is_asked_for() {
    let only = LoudestOnly { count: 2, dominant: false };
    let mut call = Call::with(ForwarderConfig { loudest_only: Some(only), ..ForwarderConfig::default() });
    for n in 0..4u32 {
        call.join(JICOFO.media(), vec![audio_source(&format!("{n}-a0"), 11 + n)]);
    }
    let listener = call.join(JICOFO.media(), vec![]);
    call.settle();
    let mut sequence = 0;
    let mut speak = |call: &mut Call, levels: [u8; 4], packets: u16| {
        for _ in 0..packets {
            call.millis(20);
            sequence += 1;
            for (n, level) in levels.iter().enumerate() {
                let p = packet(111, sequence, u32::from(sequence) * 960, 11 + n as u32, &[n as u8; 40]);
                call.send(n, &with_extension(p, JICOFO.level, &[*level]));
            }
        }
    };
    // -dBov: the noise of each first, so that its floor is known.
    speak(&mut call, [110; 4], 10);
    call.clients[listener].take_rtp();
    speak(&mut call, [20, 90, 30, 80], 25);
    let heard = |got: &[RtpPacket], ssrc: u32| got.iter().filter(|p| p.header.ssrc == ssrc).count();
    let first = call.clients[listener].take_rtp();
    assert!(heard(&first, 11) >= 24 && heard(&first, 13) >= 24, "{} {}", heard(&first, 11), heard(&first, 13));
    assert!(heard(&first, 12) + heard(&first, 14) <= 4);
    speak(&mut call, [90, 20, 100, 30], 25);
    let second = call.clients[listener].take_rtp();
    assert!(heard(&second, 12) >= 20 && heard(&second, 14) >= 20);
    assert!(call.count(Counter::DropNotLoudest) >= 80);
    let audio = AudioSubscription { include: vec!["0-a0".to_owned()], ..AudioSubscription::default() };
    call.constrain(listener, ReceiverConstraints { audio, ..ReceiverConstraints::default() });
    speak(&mut call, [90, 20, 100, 30], 10);
    assert_eq!(heard(&call.clients[listener].take_rtp(), 11), 10, "asked for by name");
    for ssrc in 11..15 {
        let of: Vec<&RtpPacket> = first.iter().chain(&second).filter(|p| p.header.ssrc == ssrc).collect();
        for pair in of.windows(2) {
            let step = pair[1].header.sequence_number.wrapping_sub(pair[0].header.sequence_number);
            assert_eq!(step, 1, "a hole in {ssrc}");
        }
    }
}
