//! Loss between bridges, and the RTCP that goes over a relay: repetitions, keyframe requests, reports.

mod forward_call;
mod relay_call;

use std::collections::HashMap;

use forward_call::*;
use relay_call::*;
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::messages::Command;
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use webrtc_srtp::context::Context;

/// A on bridge 0 publishes video in two encodings, and B on bridge 1 receives.
fn pair(bridges: &mut Bridges) -> ([usize; 2], usize, usize) {
    let sides = bridges.connect(0, 1, 0, &JICOFO.media());
    let sources = vec![audio_source("a-a0", 10), video_source("a-v0", &[11, 12])];
    let (a, _) = bridges.join(0, JICOFO.media(), sources, &[sides[1]]);
    let b = bridges.join(1, OTHER.media(), vec![], &[]).0;
    let id = bridges.calls[0].clients[a].id;
    bridges.want(sides[0], id, "a-v0", Limit::Unlimited);
    (sides, a, b)
}

/// The number of an RTP datagram, sealed or not.
fn number(datagram: &[u8]) -> (u32, u16) {
    let be =
        |range: std::ops::Range<usize>| datagram[range].iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
    (be(8..12), be(2..4) as u16)
}

/// What one side says in RTCP, opened.
fn rtcp_of<T: Clone + 'static>(context: &mut Context, sent: &[Vec<u8>]) -> Vec<T> {
    let packets = sent.iter().filter(|datagram| is_rtcp(datagram)).flat_map(|datagram| {
        let plain = context.decrypt_rtcp(datagram).expect("SRTCP opens at the other bridge");
        rtcp::packet::unmarshal(&mut plain.clone()).expect("RTCP parses at the other bridge")
    });
    packets.filter_map(|packet| packet.as_any().downcast_ref::<T>().cloned()).collect()
}

fn nack(media_ssrc: u32, numbers: &[u16]) -> TransportLayerNack {
    let nacks = numbers.iter().map(|number| NackPair { packet_id: *number, lost_packets: 0 }).collect();
    TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks }
}

/// A fiftieth of everything between the bridges is lost, both ways: the receiver misses nothing in the end, and a repetition is
/// the same datagram again, byte by byte.
#[test]
fn what_is_lost_between_bridges_is_repeated_as_it_was() {
    let mut bridges = Bridges::new(2);
    let (sides, a, b) = pair(&mut bridges);
    let mut random = 7u32;
    bridges.passes = Box::new(move |_, _| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 8 > u32::MAX / 256 / 50
    });
    let (mut low, mut high) = (Camera::new(JICOFO.vp8, 11, 65_000, 180), Camera::new(JICOFO.vp8, 12, 30_000, 360));
    let mut published = 0;
    for n in 0..300 {
        // The first keyframe must come through, or the receiver begins later.
        for p in low.frame(n == 0, 3).into_iter().chain(high.frame(n == 0, 3)) {
            published += 1;
            bridges.send(0, a, &p);
        }
        bridges.millis(30);
    }
    bridges.millis(1_000);
    let got = bridges.calls[1].clients[b].take_rtp();
    let mut numbers: Vec<u16> = got.iter().map(|p| p.header.sequence_number).collect();
    let first = numbers[0];
    numbers.iter_mut().for_each(|number| *number = number.wrapping_sub(first));
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..900).collect::<Vec<u16>>(), "one encoding, without a hole");
    let mut sent: HashMap<(u32, u16), Vec<Vec<u8>>> = HashMap::new();
    for datagram in bridges.take_sent(sides[0]) {
        sent.entry(number(&datagram)).or_default().push(datagram);
    }
    assert_eq!(sent.len(), published);
    // Last packets of pictures go twice over a link that loses so much.
    let again = sent.values().filter(|copies| copies.len() > 1 && !is_last(&copies[0])).count();
    assert!((12..60).contains(&again), "{again} repeated");
    assert!(sent.values().all(|copies| copies.windows(2).all(|pair| pair[0] == pair[1])));
    assert!(bridges.count(0, Counter::Retransmissions) >= again as u64);
    assert_eq!(bridges.count(0, Counter::DropCannotRepeat) + bridges.count(1, Counter::DropSrtpAuth), 0);
}

/// Whether a datagram ends a picture: the marker is not encrypted.
fn is_last(datagram: &[u8]) -> bool {
    datagram[1] & 0x80 != 0
}

/// Over a link that loses more than one packet in a hundred repetitions go twice, since what is lost again comes a round trip later, and so does
/// the last packet of each picture, whose loss would show only with the next one. Over any other link everything goes once.
#[test]
fn a_link_that_loses_much_gets_twice_what_would_come_too_late() {
    for (one_in, lossy) in [(25u16, true), (389, false), (u16::MAX, false)] {
        let mut bridges = Bridges::new(2);
        let (sides, a, b) = pair(&mut bridges);
        let side = sides[0];
        let mut seen = HashMap::new();
        bridges.passes = Box::new(move |from, datagram| {
            let first = from == side && !is_rtcp(datagram) && seen.insert(number(datagram), ()).is_none();
            !first || !seen.len().is_multiple_of(one_in.into())
        });
        let (mut low, mut high) = (Camera::new(JICOFO.vp8, 11, 65_000, 180), Camera::new(JICOFO.vp8, 12, 30_000, 360));
        for n in 0..300 {
            if n == 200 {
                bridges.take_sent(side);
                bridges.calls[1].clients[b].take_rtp();
            }
            for p in low.frame(n == 0, 4).into_iter().chain(high.frame(n == 0, 4)) {
                bridges.send(0, a, &p);
            }
            bridges.millis(30);
        }
        bridges.millis(500);
        let mut sent: HashMap<(u32, u16), Vec<Vec<u8>>> = HashMap::new();
        for datagram in bridges.take_sent(side) {
            sent.entry(number(&datagram)).or_default().push(datagram);
        }
        assert_eq!(sent.len(), 800, "one in {one_in}");
        assert!(sent.values().all(|copies| copies.windows(2).all(|pair| pair[0] == pair[1])));
        let copies = |last: bool, times: usize| {
            sent.values().filter(|copies| is_last(&copies[0]) == last && copies.len() == times).count()
        };
        if lossy {
            assert_eq!(copies(true, 1), 0, "each last packet once more");
            // An eighth of a last packet's losses is noticed by nobody: its second copy comes.
            assert_eq!(copies(false, 1) + copies(false, 3), 600, "what is asked for goes twice more");
            assert!((16..=32).contains(&copies(false, 3)), "{}", copies(false, 3));
        } else {
            assert_eq!(copies(true, 1) + copies(false, 1), 800 - 800 / usize::from(one_in));
        }
        let mut got: Vec<u16> =
            bridges.calls[1].clients[b].take_rtp().iter().map(|p| p.header.sequence_number).collect();
        got.sort_unstable();
        let all = got.len();
        got.dedup();
        assert_eq!((all, got.len()), (400, 400), "the receiver gets each once");
    }
}

/// A bridge that repeats by RTX is understood, too: another SSRC and payload type, from the source's FID group.
#[test]
fn a_bridge_that_repeats_by_rtx_is_understood() {
    let mut bridges = Bridges::new(1);
    let [side, _] = bridges.connect(0, 0, 0, &OTHER.media());
    bridges.announce(side, vec![video_source("p-v0", &[11])]);
    let listener = bridges.calls[0].join(JICOFO.media(), vec![]);
    bridges.settle();
    let mut seals = context(&keys(100).inbound);
    let mut arrive = |bridges: &mut Bridges, p: &RtpPacket| {
        use webrtc_util::marshal::Marshal;
        let mut datagram = seals.encrypt_rtp(&p.marshal().unwrap()).unwrap().to_vec();
        bridges.arrive(side, &mut datagram);
    };
    let mut camera = Camera::new(OTHER.vp8, 11, 1, 180);
    let frame = camera.frame(true, 4);
    for p in [&frame[0], &frame[1], &frame[3]] {
        arrive(&mut bridges, p);
    }
    bridges.carry();
    assert_eq!(bridges.count(0, Counter::NackSent), 1);
    for again in 1..=2 {
        arrive(&mut bridges, &rtx_of(&frame[2], OTHER.rtx.unwrap(), again));
        assert_eq!(bridges.count(0, Counter::DropDuplicate), u64::from(again) - 1, "the second one came before");
    }
    let mut got = bridges.calls[0].clients[listener].take_rtp();
    got.sort_by_key(|p| p.header.sequence_number);
    assert_eq!(got.len(), 4);
    assert!(got.windows(2).all(|w| w[1].header.sequence_number == w[0].header.sequence_number + 1));
    // Plain repetitions arrive as well, once.
    let next = camera.frame(false, 3);
    for p in [&next[0], &next[2], &next[1]] {
        arrive(&mut bridges, p);
    }
    assert_eq!(bridges.calls[0].clients[listener].take_rtp().len(), 3);
}

#[test]
fn requests_for_repetition_are_answered_within_bounds() {
    let mut bridges = Bridges::new(2);
    let (sides, a, _) = pair(&mut bridges);
    let (mut low, mut high) = (Camera::new(JICOFO.vp8, 11, 10, 180), Camera::new(JICOFO.vp8, 12, 20, 360));
    for n in 0..5 {
        for p in [low.one(n == 0), high.one(n == 0)] {
            bridges.send(0, a, &p);
        }
    }
    bridges.take_sent(sides[0]);
    let mut seals = context(&keys(100).inbound);
    let mut ask = |bridges: &mut Bridges, ssrc: u32, numbers: &[u16]| -> Vec<(u32, u16)> {
        let mut datagram = seals.encrypt_rtcp(&nack(ssrc, numbers).bytes()).unwrap().to_vec();
        bridges.arrive(sides[0], &mut datagram);
        bridges.carry();
        bridges.take_sent(sides[0]).iter().map(|datagram| number(datagram)).collect()
    };
    assert_eq!(ask(&mut bridges, 11, &[10, 12]), [(11, 10), (11, 12)]);
    assert_eq!(ask(&mut bridges, 12, &[12, 24]), [(12, 24)], "the same number of another encoding is another packet");
    assert_eq!(ask(&mut bridges, 11, &[10, 14]), [(11, 14)], "not again at once");
    bridges.millis(50);
    assert_eq!(ask(&mut bridges, 11, &[10]), [(11, 10)]);
    // What never went out there, or is not video, or nobody's.
    let misses = bridges.count(0, Counter::NackCacheMiss);
    for (ssrc, asked) in [(11, 15), (11, 9), (10, 0), (1011, 1), (99, 1)] {
        assert_eq!(ask(&mut bridges, ssrc, &[asked]), [], "{asked} of {ssrc}");
    }
    assert_eq!(bridges.count(0, Counter::NackCacheMiss), misses);
    // The relay negotiates anew: other numbers would make other bytes under the same index.
    let relay = bridges.sides[sides[0]].relay;
    bridges.command(0, Command::SetMedia { endpoint: relay, media: Box::new(relay_media(&OTHER.media())) });
    bridges.millis(50);
    assert_eq!(ask(&mut bridges, 11, &[11]), []);
    assert_eq!(bridges.count(0, Counter::DropCannotRepeat), 1);
}

/// A sender report crosses with its times, and with the counts of what this bridge sent, for every encoding that goes.
#[test]
fn sender_reports_keep_their_times() {
    let mut bridges = Bridges::new(2);
    let (sides, a, b) = pair(&mut bridges);
    let mut opens = context(&keys(100).outbound);
    let report = |ssrc| SenderReport {
        ssrc,
        ntp_time: 77 << 32,
        rtp_time: 12_345,
        packet_count: 999,
        ..SenderReport::default()
    };
    for ssrc in [10, 11, 12] {
        bridges.calls[0].send_rtcp(a, &report(ssrc));
    }
    bridges.carry();
    let reports = rtcp_of::<SenderReport>(&mut opens, &std::mem::take(&mut bridges.sides[sides[0]].sent));
    assert_eq!(reports, [], "nothing was sent yet");
    bridges.send(0, a, &with_extension(packet(JICOFO.opus, 1, 1, 10, &[5; 20]), JICOFO.level, &[30]));
    for (ssrc, height) in [(11, 180), (12, 360)] {
        for p in Camera::new(JICOFO.vp8, ssrc, 10, height).frame(true, 3) {
            bridges.send(0, a, &p);
        }
    }
    bridges.millis(100);
    bridges.sides[sides[0]].sent.retain(|datagram| !is_rtcp(datagram));
    bridges.calls[1].clients[b].take_rtcp::<SenderReport>();
    for ssrc in [10, 11, 12] {
        bridges.calls[0].send_rtcp(a, &report(ssrc));
    }
    bridges.carry();
    let reports = rtcp_of::<SenderReport>(&mut opens, &std::mem::take(&mut bridges.sides[sides[0]].sent));
    let reports: Vec<_> =
        reports.iter().map(|r| (r.ssrc, r.ntp_time, r.rtp_time, r.packet_count, r.reports.len())).collect();
    assert_eq!(reports, [(10, 77 << 32, 12_345, 1, 0), (11, 77 << 32, 12_345, 3, 0), (12, 77 << 32, 12_345, 3, 0)]);
    let mut received = bridges.calls[1].clients[b].take_rtcp::<SenderReport>();
    received.sort_by_key(|report| report.ssrc);
    assert_eq!(received.iter().map(|r| (r.ssrc, r.ntp_time)).collect::<Vec<_>>(), [(10, 77 << 32), (11, 77 << 32)]);
}

/// The other bridge learns what became of its packets, by receiver reports, and the round trip is measured.
#[test]
fn a_relay_is_reported_to() {
    let mut bridges = Bridges::new(2);
    let (sides, a, _) = pair(&mut bridges);
    let mut camera = Camera::new(JICOFO.vp8, 11, 10, 180);
    for n in 0..50 {
        let p = camera.one(n == 0);
        bridges.send(0, a, &p);
        bridges.millis(20);
    }
    let mut opens = context(&keys(100).inbound);
    let reports = rtcp_of::<ReceiverReport>(&mut opens, &std::mem::take(&mut bridges.sides[sides[1]].sent));
    assert!((1..=3).contains(&reports.len()), "{reports:?}");
    let last = reports.last().unwrap();
    assert_eq!(last.reports.iter().map(|r| (r.ssrc, r.fraction_lost)).collect::<Vec<_>>(), [(11, 0)]);
}

/// Keyframe requests go on to the sender, throttled, for the encoding that they name, if it goes there.
#[test]
fn keyframe_requests_of_a_relay_reach_the_sender() {
    let mut bridges = Bridges::new(2);
    let (sides, a, _) = pair(&mut bridges);
    for (ssrc, height) in [(11, 180), (12, 360)] {
        bridges.send(0, a, &Camera::new(JICOFO.vp8, ssrc, 10, height).one(true));
    }
    bridges.millis(300);
    bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>();
    let mut seals = context(&keys(100).inbound);
    let mut ask = |bridges: &mut Bridges, ssrc: u32| -> Vec<u32> {
        let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc };
        let mut datagram = seals.encrypt_rtcp(&pli.bytes()).unwrap().to_vec();
        bridges.arrive(sides[0], &mut datagram);
        let asked = bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>();
        asked.into_iter().map(|pli| pli.media_ssrc).collect()
    };
    assert_eq!(ask(&mut bridges, 12), [12]);
    assert_eq!(ask(&mut bridges, 12), []);
    assert_eq!(bridges.count(0, Counter::KeyframeRequestsThrottled), 1);
    bridges.millis(210);
    assert_eq!(ask(&mut bridges, 11), [11]);
    bridges.millis(210);
    for nothing in [10, 1011, 99] {
        assert_eq!(ask(&mut bridges, nothing), [], "{nothing}");
    }
    let id = bridges.calls[0].clients[a].id;
    bridges.want(sides[0], id, "a-v0", Limit::Max(180));
    assert_eq!(ask(&mut bridges, 12), [], "it does not go there");
}

/// Both bridges have two workers, and neither the sender nor the receiver is on that of the relay.
#[test]
fn workers_share_a_relay() {
    let mut bridges = Bridges::with(ForwarderConfig::default(), &[2, 2]);
    let sides = bridges.connect_on([(0, 0), (1, 1)], 0, &OTHER.media());
    let sources = vec![audio_source("a-a0", 10), video_source("a-v0", &[11, 12])];
    let a = bridges.calls[0].join_on(1, JICOFO.media(), sources.clone());
    bridges.announce(sides[1], sources);
    let b = bridges.calls[1].join_on(0, PLAIN.media(), vec![]);
    bridges.settle();
    let id = bridges.calls[0].clients[a].id;
    let (mut low, mut high) = (Camera::new(JICOFO.vp8, 11, 10, 180), Camera::new(JICOFO.vp8, 12, 20, 720));
    let mut play = |bridges: &mut Bridges, frames: u16, key: bool| -> (usize, usize) {
        for n in 0..frames {
            bridges.millis(30);
            bridges.send(
                0,
                a,
                &with_extension(packet(JICOFO.opus, low.sequence, 1, 10, &[5; 20]), JICOFO.level, &[30]),
            );
            for p in low.frame(key && n == 0, 2).into_iter().chain(high.frame(key && n == 0, 2)) {
                bridges.send(0, a, &p);
            }
        }
        let got = bridges.calls[1].clients[b].take_rtp();
        (bridges.take_sent(sides[0]).len(), got.len())
    };
    // Nobody is behind the other side: audio comes here all the same, and with it the other worker's video.
    assert_eq!(play(&mut bridges, 4, true), (4, 4));
    bridges.want(sides[0], id, "a-v0", Limit::Max(180));
    bridges.millis(250);
    assert_eq!(play(&mut bridges, 4, true), (12, 12));
    let on = |bridges: &Bridges, worker: usize, counter| bridges.calls[0].stats[worker].get(counter);
    bridges.want(sides[0], id, "a-v0", Limit::Off);
    let before = on(&bridges, 1, Counter::CrossWorkerPackets);
    assert_eq!(play(&mut bridges, 4, false), (4, 4));
    assert_eq!(
        on(&bridges, 1, Counter::CrossWorkerPackets) - before,
        4,
        "video does not even cross to the relay's worker"
    );
    bridges.want(sides[0], id, "a-v0", Limit::Unlimited);
    bridges.millis(250);
    bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>();
    assert_eq!(play(&mut bridges, 1, false), (1, 1));
    assert!(!bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>().is_empty(), "asked for a keyframe");
    assert_eq!(play(&mut bridges, 4, true).0, 20, "both encodings");
    // What the receiver asks for goes all the way, and sender reports come all the way.
    bridges.millis(300);
    bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>();
    bridges.calls[1].send_rtcp(b, &PictureLossIndication { sender_ssrc: 1, media_ssrc: 11 });
    bridges.carry();
    assert_eq!(bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>().len(), 1);
    let report = SenderReport { ssrc: 11, ntp_time: 5 << 32, rtp_time: 1, ..SenderReport::default() };
    bridges.calls[0].send_rtcp(a, &report);
    bridges.carry();
    assert_eq!(bridges.calls[1].clients[b].take_rtcp::<SenderReport>()[0].ntp_time, 5 << 32);
    // And repetitions are had from the relay's own worker.
    let mut first = true;
    bridges.passes =
        Box::new(move |_, datagram| is_rtcp(datagram) || number(datagram).0 != 11 || !std::mem::take(&mut first));
    let (sent, got) = play(&mut bridges, 3, false);
    assert_eq!((sent, got), (16, 9), "one more, for the one that was lost");
    assert_eq!(
        bridges.count(0, Counter::DropCrossWorkerUnknown) + bridges.count(1, Counter::DropCrossWorkerUnknown),
        0
    );
}
