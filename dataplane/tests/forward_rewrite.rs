//! Three clients whose payload types and extension ids all differ.

mod forward_call;

use forward_call::*;
use proptest::prelude::*;
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::media::{Media, MediaKind};
use ringbridge_dataplane::messages::Command;
use ringbridge_dataplane::stats::Counter;

fn three() -> Call {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
    call.join(OTHER.media(), vec![audio_source("b-a0", 20), video_source("b-v0", &[21])]);
    call.join(PLAIN.media(), vec![audio_source("c-a0", 30), video_source("c-v0", &[31])]);
    call.settle();
    call
}

#[test]
fn every_receiver_gets_its_own_numbers_and_the_same_payload() {
    let mut call = three();
    let numbers = [&JICOFO, &OTHER, &PLAIN];
    for from in 0..3 {
        let base = 10 * (from as u32 + 1);
        let mut camera = Camera::new(numbers[from].vp8, base + 1, 1000, 180);
        let video = with_extension(camera.one(true), numbers[from].mid, b"1");
        let audio = packet(numbers[from].opus, 7, 960, base, &[9; 60]);
        let audio = with_extension(audio, numbers[from].level, &[0x80 | 30]);
        call.send(from, &video);
        call.send(from, &audio);
        for (to, receiver) in numbers.iter().enumerate() {
            let got = call.clients[to].take_rtp();
            if to == from {
                assert!(got.is_empty());
                continue;
            }
            let [v, a] = &got[..] else { panic!("{} packets at {to} from {from}", got.len()) };
            assert_eq!((v.header.payload_type, v.header.ssrc), (receiver.vp8, base + 1));
            assert_eq!(v.payload, video.payload);
            assert_eq!(v.header.marker, video.header.marker);
            assert_eq!(
                v.header.get_extension_ids(),
                [receiver.tcc],
                "mid is dropped, transport-cc is the receiver's own"
            );
            assert_eq!((a.header.payload_type, a.header.ssrc), (receiver.opus, base));
            assert_eq!(a.payload, audio.payload);
            assert_eq!(a.header.get_extension(receiver.level).unwrap(), vec![0x80 | 30]);
        }
    }
    assert_eq!(call.count(Counter::PacketsForwarded), 12);
}

#[test]
fn extensions_travel_by_uri_and_transport_numbers_count_per_receiver() {
    let mut call = three();
    let mut camera = Camera::new(100, 11, 1, 180);
    for i in 0..3u16 {
        let p = with_extension(camera.one(i == 0), JICOFO.orientation.unwrap(), &[0x03]);
        let p = with_extension(p, JICOFO.tcc, &(9000 + i).to_be_bytes());
        call.send(0, &p);
    }
    let other = call.clients[1].take_rtp();
    for (p, n) in other.iter().zip(1u16..) {
        assert_eq!(p.header.get_extension(OTHER.orientation.unwrap()).unwrap(), vec![0x03]);
        assert_eq!(p.header.get_extension(OTHER.tcc).unwrap(), n.to_be_bytes().to_vec());
    }
    assert_eq!(other.len(), 3);
    let plain = call.clients[2].take_rtp();
    assert!(plain.iter().all(|p| p.header.get_extension_ids() == [PLAIN.tcc]), "no orientation for who lacks it");
}

#[test]
fn abs_send_time_only_without_transport_cc() {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
    let mut media = OTHER.media();
    media.header_extensions.retain(|e| e.uri != TCC);
    media.header_extensions.push(extension(9, MediaKind::Video, AST));
    call.join(media, vec![]);
    call.settle();
    call.millis(1500);
    call.send(0, &Camera::new(100, 11, 1, 180).one(true));
    let got = call.clients[1].take_rtp();
    let time = got[0].header.get_extension(9).unwrap();
    assert_eq!(u32::from_be_bytes([0, time[0], time[1], time[2]]), 3 << 17);
}

#[test]
fn retransmissions_of_a_sender_become_media() {
    let mut call = three();
    let mut camera = Camera::new(100, 11, 65_534, 180);
    let packets = camera.frame(true, 5);
    call.send(0, &packets[0]);
    call.send(0, &packets[2]);
    call.send(0, &packets[3]);
    call.send(0, &rtx_of(&packets[1], 96, 4));
    call.send(0, &rtx_of(&packets[2], 96, 5));
    call.send(0, &packets[4]);
    for to in [1, 2] {
        let got = call.clients[to].take_rtp();
        let first = got[0].header.sequence_number;
        let order: Vec<u16> = got.iter().map(|p| p.header.sequence_number.wrapping_sub(first)).collect();
        assert_eq!(order, [0, 2, 3, 1, 4], "a repeated packet that was not lost is dropped");
        assert_eq!(got[3].payload, packets[1].payload);
        assert!(got.iter().all(|p| p.header.ssrc == 11 && p.header.timestamp == packets[0].header.timestamp));
    }
}

#[test]
fn number_96_is_rtx_of_one_and_vp8_of_the_other() {
    let mut call = three();
    call.send(1, &Camera::new(96, 21, 1, 180).one(true));
    assert_eq!(call.clients[0].take_rtp()[0].header.payload_type, 100);
    // 96 on a media SSRC of a client for whom 96 is RTX.
    call.send(0, &Camera::new(96, 11, 1, 180).one(true));
    assert_eq!(call.count(Counter::DropUnknownPayloadType), 1);
    assert!(call.clients[1].take_rtp().is_empty());
}

#[test]
fn the_offers_numbers_are_understood_after_the_answer_renumbered() {
    let mut call = three();
    let mut media = OTHER.media();
    media.offered_codecs = JICOFO.media().codecs;
    let endpoint = call.clients[1].id;
    call.command(Command::SetMedia { endpoint, media: Box::new(media) });
    let mut camera = Camera::new(100, 21, 50, 180);
    let packets = camera.frame(true, 3);
    call.send(1, &packets[0]);
    call.send(1, &packets[2]);
    call.send(1, &rtx_of(&packets[1], 96, 1));
    let got = call.clients[2].take_rtp();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|p| p.header.payload_type == 120));
}

fn red(number: u8, older: &[u8], primary: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | number];
    let field = 960u32 << 10 | older.len() as u32;
    out.extend(&field.to_be_bytes()[1..]);
    out.push(number);
    out.extend(older);
    out.extend(primary);
    out
}

#[test]
fn red_is_translated_inside_or_stripped() {
    let mut call = three();
    call.send(0, &packet(112, 1, 960, 10, &red(111, &[1; 20], &[2; 30])));
    let translated = call.clients[1].take_rtp();
    assert_eq!(translated[0].header.payload_type, 63);
    assert_eq!(translated[0].payload, red(109, &[1; 20], &[2; 30]));
    let stripped = call.clients[2].take_rtp();
    assert_eq!(stripped[0].header.payload_type, 8);
    assert_eq!(stripped[0].payload, vec![2; 30]);
}

#[test]
fn a_receiver_without_the_codec_is_counted_and_left_out() {
    let mut call = three();
    let mut media = PLAIN.media();
    media.codecs.retain(|p| p.name != "VP8");
    let endpoint = call.clients[2].id;
    call.command(Command::SetMedia { endpoint, media: Box::new(media) });
    call.send(0, &Camera::new(100, 11, 1, 180).one(true));
    assert!(call.clients[2].take_rtp().is_empty());
    assert_eq!(call.clients[1].take_rtp().len(), 1);
    assert_eq!(call.count(Counter::DropReceiverLacksCodec), 1);
}

#[test]
fn audio_numbers_close_up_over_a_format_that_the_receiver_lacks() {
    let mut call = Call::new();
    let dtmf = |id| pt(id, MediaKind::Audio, "telephone-event", &[]);
    let mut media = JICOFO.media();
    media.codecs.push(dtmf(126));
    call.join(media, vec![audio_source("a-a0", 10)]);
    call.join(OTHER.media(), vec![]);
    for i in 0..6u16 {
        let number = if i == 2 || i == 3 { 126 } else { 111 };
        call.send(0, &packet(number, 100 + i, 960 * u32::from(i), 10, &[5; 10]));
    }
    let got = call.clients[1].take_rtp();
    let first = got[0].header.sequence_number;
    let numbers: Vec<u16> = got.iter().map(|p| p.header.sequence_number - first).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(call.count(Counter::DropReceiverLacksCodec), 2);
}

#[test]
fn without_rewriting_numbers_pass_through() {
    let mut call = Call::with(ForwarderConfig { rewrite: false, ..ForwarderConfig::default() });
    call.join(JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
    call.join(OTHER.media(), vec![]);
    call.settle();
    call.send(0, &with_extension(packet(111, 1, 1, 10, &[1; 9]), JICOFO.level, &[33]));
    call.send(0, &Camera::new(100, 11, 1, 180).one(true));
    let got = call.clients[1].take_rtp();
    assert_eq!((got[0].header.payload_type, got[1].header.payload_type), (111, 100));
    assert_eq!(got[0].header.get_extension(JICOFO.level).unwrap(), vec![33]);
}

#[test]
fn nothing_is_sent_to_who_negotiated_nothing() {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![audio_source("a-a0", 10)]);
    call.join(Media::default(), vec![]);
    call.send(0, &packet(111, 1, 1, 10, &[1; 9]));
    assert!(call.clients[1].take_rtp().is_empty());
    assert_eq!(call.count(Counter::DropReceiverLacksCodec), 1);
}

#[test]
fn a_source_with_anothers_ssrc_is_refused() {
    let mut call = three();
    let endpoint = call.clients[1].id;
    let mut thief = video_source("b-v1", &[77]);
    thief.encodings[0].rtx = Some(Ssrc::new(11));
    call.command(Command::SetSources { endpoint, sources: vec![thief, video_source("b-v2", &[1011])] });
    assert!(call.stats.iter().all(|stats| stats.get(Counter::DropTableFull) == 2), "every worker decides alike");
    call.send(1, &Camera::new(96, 77, 1, 180).one(true));
    assert_eq!(call.count(Counter::DropUnknownSsrc), 1);
}

fn distinct(range: std::ops::Range<u8>, count: usize) -> impl Strategy<Value = Vec<u8>> {
    Just(range.collect::<Vec<u8>>()).prop_shuffle().prop_map(move |mut v| {
        v.truncate(count);
        v
    })
}

prop_compose! {
    fn numbers()(pts in distinct(35..63, 4), ids in distinct(1..15, 4)) -> Numbers {
        Numbers {
            opus: pts[0], red: Some(pts[1]), vp8: pts[2], rtx: Some(pts[3]),
            level: ids[0], mid: ids[1], tcc: ids[2], orientation: Some(ids[3]),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the numbers of both sides: meaning, payload and header fields arrive as they were sent, and what the
    /// receiver sends back under the numbers that it got arrives at the first one.
    #[test]
    fn any_numbers_round_trip(
        a in numbers(),
        b in numbers(),
        payload in proptest::collection::vec(any::<u8>(), 1..1000),
        level in any::<u8>(),
        orientation in any::<u8>(),
        marker in any::<bool>(),
        timestamp in any::<u32>(),
        sequence in any::<u16>(),
    ) {
        let mut call = Call::new();
        call.join(a.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
        call.join(b.media(), vec![audio_source("b-a0", 20)]);
        call.settle();
        let mut audio = packet(a.opus, sequence, timestamp, 10, &payload);
        audio.header.marker = marker;
        call.send(0, &with_extension(audio, a.level, &[level]));
        let got = call.clients[1].take_rtp();
        prop_assert_eq!((got[0].header.payload_type, got[0].header.marker), (b.opus, marker));
        prop_assert_eq!((got[0].header.timestamp, &got[0].payload[..]), (timestamp, &payload[..]));
        prop_assert_eq!(got[0].header.get_extension_ids(), vec![b.level]);
        let mut back = got[0].clone();
        back.header.ssrc = 20;
        call.send(1, &back);
        let back = call.clients[0].take_rtp();
        prop_assert_eq!(back[0].header.payload_type, a.opus);
        prop_assert_eq!(back[0].header.get_extension(a.level).unwrap(), vec![level]);
        prop_assert_eq!(&back[0].payload[..], &payload[..]);

        let red_packet = packet(a.red.unwrap(), sequence.wrapping_add(1), timestamp, 10, &red(a.opus, &payload, &[1]));
        call.send(0, &red_packet);
        let got = call.clients[1].take_rtp();
        prop_assert_eq!(got[0].header.payload_type, b.red.unwrap());
        prop_assert_eq!(&got[0].payload[..], &red(b.opus, &payload, &[1])[..]);

        let video = with_extension(Camera::new(a.vp8, 11, sequence, 180).one(true), a.orientation.unwrap(), &[orientation]);
        call.send(0, &with_extension(video.clone(), a.mid, b"x"));
        let got = call.clients[1].take_rtp();
        prop_assert_eq!(got[0].header.payload_type, b.vp8);
        prop_assert_eq!(&got[0].payload, &video.payload);
        let mut ids = got[0].header.get_extension_ids();
        ids.sort_unstable();
        let mut expected = vec![b.orientation.unwrap(), b.tcc];
        expected.sort_unstable();
        prop_assert_eq!(ids, expected);
        prop_assert_eq!(got[0].header.get_extension(b.orientation.unwrap()).unwrap(), vec![orientation]);
    }

    /// Bytes that are no packet, from a client with keys, never panic and always count.
    #[test]
    fn garbage_is_counted(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), rtcp in any::<bool>()) {
        let mut call = three();
        let slot = call.clients[0].slot;
        if rtcp {
            call.forwarders[0].handle_rtcp(call.now, slot, &mut bytes, &mut call.sink);
        } else {
            call.forwarders[0].handle_rtp(call.now, slot, &mut bytes, &mut call.sink);
        }
        let dropped: u64 = Counter::ALL.iter().filter(|c| c.metric() == "dropped").map(|c| call.count(*c)).sum();
        prop_assert_eq!(dropped, 1);
    }
}
