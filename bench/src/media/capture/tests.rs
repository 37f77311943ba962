use std::time::Duration;

use proptest::prelude::*;

use super::super::{Codec, Track};
use super::left_out::Reason;
use super::*;

const COUNT: usize = 12;
const START: u128 = 1_700_000_000;

type Packets = Vec<(u64, Vec<u8>)>;

/// Video of 100 bytes and audio of 40 in turns, 20 ms apart: milliseconds and packet.
fn packets() -> Packets {
    let packet = |i: usize| {
        let (kind, ssrc) = if i.is_multiple_of(2) { (96, 1) } else { (111, 2) };
        let header = [0x80, kind, 0, i as u8, 0, 0, 0, i as u8, 0, 0, 0, ssrc];
        let body =
            if kind == 96 { [&[0x90, 0x80, 0x80, i as u8][..], &[i as u8; 96]].concat() } else { vec![i as u8; 40] };
        (i as u64 * 20, [&header[..], &body].concat())
    };
    (0..COUNT).map(packet).collect()
}

fn udp(payload: &[u8]) -> Vec<u8> {
    [&[0, 9, 0, 9][..], &(payload.len() as u16 + 8).to_be_bytes(), &[0, 0], payload].concat()
}

fn ip4_of(protocol: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let total = (body.len() as u16 + 20).to_be_bytes();
    let fragment = fragment.to_be_bytes();
    let head = [0x45, 0, total[0], total[1], 0, 0, fragment[0], fragment[1], 64, protocol, 0, 0];
    [&head[..], &[127, 0, 0, 1, 127, 0, 0, 1], body].concat()
}

fn ip4(payload: &[u8]) -> Vec<u8> {
    ip4_of(17, 0, &udp(payload))
}

fn ip6(headers: &[(u8, [u8; 8])], payload: &[u8]) -> Vec<u8> {
    let (mut next, mut body) = (17, udp(payload));
    for (kind, header) in headers.iter().rev() {
        body = [&[next], &header[1..], &body].concat();
        next = *kind;
    }
    let len = (body.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, len[0], len[1], next, 64][..], &[0; 32], &body].concat()
}

fn ethernet(types: &[u16], ip: Vec<u8>) -> Vec<u8> {
    let mut frame = vec![0; 12];
    for (at, kind) in types.iter().enumerate() {
        frame.extend(kind.to_be_bytes());
        frame.extend(if at + 1 < types.len() { &[0, 5][..] } else { &[] });
    }
    [frame, ip].concat()
}

fn plain(payload: &[u8]) -> Vec<u8> {
    ethernet(&[0x0800], ip4(payload))
}

fn sll(kind: &[u8], ip: Vec<u8>) -> Vec<u8> {
    [&[0; 14][..], kind, &ip].concat()
}

fn sll2(kind: u16, behind: &[u8], ip: Vec<u8>) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &[0; 18], behind, &ip].concat()
}

fn word(big: bool, word: u32) -> [u8; 4] {
    if big { word.to_be_bytes() } else { word.to_le_bytes() }
}

struct Pcap {
    link: u32,
    big: bool,
    nanos: bool,
    snap: usize,
}

impl Default for Pcap {
    fn default() -> Self {
        Self { link: 1, big: false, nanos: false, snap: 65_535 }
    }
}

impl Pcap {
    fn of(&self, packets: &Packets, frame: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let version = if self.big { 0x0002_0004 } else { 0x0004_0002 };
        let magic = if self.nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut words = vec![magic, version, 0, 0, self.snap as u32, self.link];
        let mut bytes: Vec<u8> = words.drain(..).flat_map(|w| word(self.big, w)).collect();
        for (at, packet) in packets {
            let frame = frame(packet);
            let kept = &frame[..frame.len().min(self.snap)];
            let fraction = at % 1000 * if self.nanos { 1_000_000 } else { 1_000 };
            let head = [START as u32 + (at / 1000) as u32, fraction as u32, kept.len() as u32, frame.len() as u32];
            bytes.extend(head.into_iter().flat_map(|w| word(self.big, w)));
            bytes.extend(kept);
        }
        bytes
    }
}

fn block(big: bool, kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    let len = word(big, body.len() as u32 + 12);
    [&word(big, kind)[..], &len, &body, &len].concat()
}

fn half(big: bool, half: u16) -> [u8; 2] {
    if big { half.to_be_bytes() } else { half.to_le_bytes() }
}

fn section(big: bool) -> Vec<u8> {
    block(big, 0x0a0d_0d0a, [&word(big, 0x1a2b_3c4d)[..], &half(big, 1), &half(big, 0), &[255; 8]].concat())
}

fn interface(big: bool, link: u16, resolution: Option<u8>) -> Vec<u8> {
    let option = resolution.map(|r| [&half(big, 9)[..], &half(big, 1), &[r, 0, 0, 0, 0, 0, 0, 0]].concat());
    block(big, 1, [&half(big, link)[..], &[0; 6], &option.unwrap_or_default()].concat())
}

/// An old (2), simple (3) or enhanced (6) packet block; `unit` is ticks per second.
fn packet_block(big: bool, kind: u32, number: u16, (at, unit): (u64, u128), frame: &[u8]) -> Vec<u8> {
    let ticks = START * unit + u128::from(at) * unit / 1000;
    let len = word(big, frame.len() as u32);
    let number = match kind {
        2 => [half(big, number), half(big, 0xffff)].concat(),
        _ => word(big, u32::from(number)).to_vec(),
    };
    let time = [word(big, (ticks >> 32) as u32), word(big, ticks as u32)].concat();
    let head = if kind == 3 { len.to_vec() } else { [&number[..], &time, &len, &len].concat() };
    block(big, kind, [&head[..], frame].concat())
}

fn ng(big: bool, kind: u32, resolution: Option<u8>, unit: u128) -> Vec<u8> {
    let mut bytes = [section(big), interface(big, 1, resolution)].concat();
    for (at, packet) in packets() {
        bytes.extend(packet_block(big, kind, 0, (at, unit), &plain(&packet)));
    }
    bytes
}

fn dump(packets: &Packets) -> Vec<u8> {
    let mut bytes = [&b"#!rtpplay1.0 127.0.0.1/5000\n"[..], &[0; 16]].concat();
    for (at, packet) in packets {
        bytes.extend((packet.len() as u16 + 8).to_be_bytes());
        bytes.extend((packet.len() as u16).to_be_bytes());
        bytes.extend((*at as u32).to_be_bytes());
        bytes.extend(packet);
    }
    bytes
}

fn parsed(bytes: &[u8]) -> Capture {
    let codecs = BTreeMap::from([(96, Codec::Vp8), (111, Codec::Opus)]);
    parse(bytes, &codecs).unwrap()
}

/// One turn of every track: milliseconds (rounded) and payload, by time.
fn turn(capture: Capture) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    for mut track in capture.into_tracks() {
        for _ in 0..track.packets() {
            let at = (track.next_due() + Duration::from_micros(500)).as_millis() as u64;
            let mut payload = Vec::new();
            track.next(&mut payload);
            all.push((at, payload));
        }
    }
    all.sort();
    all
}

/// When, in milliseconds, and what.
type Played = (u64, Vec<u8>);

fn sent() -> Vec<Played> {
    packets().into_iter().map(|(at, packet)| (at, packet[12..].to_vec())).collect()
}

#[track_caller]
fn assert_whole(name: &str, bytes: &[u8]) {
    let capture = parsed(bytes);
    assert!(capture.left_out().is_empty(), "{name}: {}", capture.left_out());
    assert_eq!(turn(capture), sent(), "{name}");
}

#[test]
fn pcap_of_both_orders_and_units() {
    for (big, nanos) in [(false, false), (false, true), (true, false), (true, true)] {
        assert_whole("pcap", &Pcap { big, nanos, ..Pcap::default() }.of(&packets(), plain));
    }
    assert_whole("rtpdump", &dump(&packets()));
}

#[test]
fn pcapng_of_every_resolution_order_and_block() {
    for big in [false, true] {
        assert_whole("microseconds by default", &ng(big, 6, None, 1_000_000));
        assert_whole("old packet blocks", &ng(big, 2, None, 1_000_000));
        for exponent in 3..=9 {
            assert_whole("power of ten", &ng(big, 6, Some(exponent), 10_u128.pow(u32::from(exponent))));
        }
        for exponent in [10, 20, 30] {
            // Milliseconds are no whole numbers of such units.
            let played = turn(parsed(&ng(big, 6, Some(0x80 | exponent), 1 << exponent)));
            let near = |(played, sent): (&Played, &Played)| played.0.abs_diff(sent.0) <= 1 && played.1 == sent.1;
            assert!(played.len() == COUNT && played.iter().zip(&sent()).all(near), "2^-{exponent}");
        }
        for resolution in [0, 38, 39, 127, 128, 255] {
            assert_eq!(turn(parsed(&ng(big, 6, Some(resolution), 1))).len(), COUNT, "{resolution}");
        }
    }
    // Without times, a stream goes by its RTP timestamps: one tick here.
    let simple = turn(parsed(&ng(false, 3, None, 1)));
    assert_eq!(simple.len(), COUNT);
    assert!(simple.iter().all(|(at, _)| *at < 2));
}

#[test]
fn pcapng_of_several_sections_interfaces_and_foreign_blocks() {
    let cooked = |packet: &[u8]| sll2(0x0800, &[], ip4(packet));
    let (mut sections, mut links) = (Vec::new(), [section(false), interface(false, 1, Some(9))].concat());
    links.extend(
        [interface(false, 276, Some(3)), block(false, 0x0bad, vec![1, 2, 3]), block(false, 10, vec![0; 8])].concat(),
    );
    for (at, (time, packet)) in packets().into_iter().enumerate() {
        let (number, unit, frame) =
            if at % 2 == 0 { (0, 1_000_000_000, plain(&packet)) } else { (1, 1000, cooked(&packet)) };
        links.extend(packet_block(false, 6, number, (time, unit), &frame));
        // Each section numbers its interfaces anew and has its own order.
        let big = at >= COUNT / 2;
        if at % (COUNT / 2) == 0 {
            sections.extend([section(big), interface(big, if big { 276 } else { 1 }, None)].concat());
        }
        let frame = if big { cooked(&packet) } else { plain(&packet) };
        sections.extend(packet_block(big, 6, 0, (time, 1_000_000), &frame));
    }
    assert_whole("interfaces", &links);
    assert_whole("sections", &sections);
    let unknown = [section(false), packet_block(false, 6, 3, (0, 1), &plain(&packets()[0].1))].concat();
    assert_eq!(parsed(&unknown).left_out().count(Reason::Malformed), 1);
}

#[test]
fn every_link_layer() {
    let of = |link, frame: &dyn Fn(&[u8]) -> Vec<u8>| Pcap { link, ..Pcap::default() }.of(&packets(), frame);
    assert_whole("null", &of(0, &|p| [&[2, 0, 0, 0][..], &ip4(p)].concat()));
    for link in [12, 14, 101, 228] {
        assert_whole("raw", &of(link, &ip4));
    }
    assert_whole("frame checksum", &of(1 | 0x2400_0000, &|p| [plain(p), vec![9; 4]].concat()));
    for tags in [&[0x8100][..], &[0x88a8, 0x8100], &[0x8100, 0x8100], &[0x9100, 0x88a8, 0x8100]] {
        assert_whole("VLAN", &of(1, &|p| ethernet(&[tags, &[0x0800]].concat(), ip4(p))));
    }
    assert_whole("SLL", &of(113, &|p| sll(&[8, 0], ip4(p))));
    assert_whole("SLL, VLAN", &of(113, &|p| sll(&[0x81, 0, 0, 5, 8, 0], ip4(p))));
    assert_whole("SLL, QinQ", &of(113, &|p| sll(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 5, 8, 0], ip4(p))));
    assert_whole("SLL2", &of(276, &|p| sll2(0x0800, &[], ip4(p))));
    assert_whole("SLL2, VLAN", &of(276, &|p| sll2(0x8100, &[0, 5, 8, 0], ip4(p))));
    let options = [0, 0, 1, 4, 0, 0, 0, 0];
    for kinds in [&[][..], &[0], &[60, 43], &[0, 43, 60, 135], &[44]] {
        // A fragment header whose offset is zero, and no more come.
        let headers: Vec<_> = kinds.iter().map(|kind| (*kind, if *kind == 44 { [0; 8] } else { options })).collect();
        assert_whole("IPv6", &of(1, &|p| ethernet(&[0x86dd], ip6(&headers, p))));
    }
    assert_whole("AH", &of(229, &|p| ip6(&[(51, [0; 8])], p)));
}

#[test]
fn what_is_not_whole_or_not_rtp_is_named() {
    let of = |frame: &dyn Fn(&[u8]) -> Vec<u8>| parsed(&Pcap::default().of(&packets(), frame)).left_out().clone();
    let all = |reason, frame: &dyn Fn(&[u8]) -> Vec<u8>| {
        let left_out = of(frame);
        assert_eq!(left_out.count(reason), COUNT, "{reason:?}: {left_out}");
    };
    all(Reason::Fragment, &|p| ethernet(&[0x0800], ip4_of(17, 0x2000, &udp(p))));
    all(Reason::Fragment, &|p| ethernet(&[0x0800], ip4_of(17, 100, p)));
    all(Reason::Fragment, &|p| ethernet(&[0x86dd], ip6(&[(44, [0, 0, 0, 1, 0, 0, 0, 0])], p)));
    all(Reason::Fragment, &|p| ethernet(&[0x86dd], ip6(&[(44, [0, 0, 1, 0, 0, 0, 0, 0])], p)));
    all(Reason::NotUdp, &|p| ethernet(&[0x0800], ip4_of(6, 0, p)));
    all(Reason::NotUdp, &|p| ethernet(&[0x86dd], ip6(&[(50, [0; 8])], p)));
    all(Reason::NotIp, &|p| ethernet(&[0x0806], ip4(p)));
    all(Reason::NotRtp, &|_| plain(b"\0\x01\0\0 a STUN request"));
    all(Reason::Rtcp, &|_| plain(&[0x81, 200, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]));
    all(Reason::PayloadType(120), &|p| plain(&[&[0x80, 120], &p[2..]].concat()));
    all(Reason::Malformed, &|p| ethernet(&[0x0800], ip4_of(17, 0, &udp(p)[..30])));
    let link = parsed(&Pcap { link: 147, ..Pcap::default() }.of(&packets(), plain));
    assert_eq!(link.left_out().count(Reason::LinkType(147)), COUNT);

    // Video is longer than the snap length, audio fits to the byte.
    let snapped = parsed(&Pcap { snap: 14 + 20 + 8 + 12 + 40, ..Pcap::default() }.of(&packets(), plain));
    assert_eq!(snapped.left_out().count(Reason::SnapLength), COUNT / 2);
    assert_eq!(turn(snapped).len(), COUNT / 2);
}

#[test]
fn copies_and_retransmissions_are_played_once() {
    let mut twice: Packets = packets().into_iter().flat_map(|packet| [packet.clone(), packet]).collect();
    twice.push((900, packets()[4].1.clone()));
    let capture = parsed(&Pcap::default().of(&twice, plain));
    assert_eq!(capture.left_out().count(Reason::Repeated), COUNT + 1);
    assert_eq!(turn(capture), sent());
}

#[test]
fn a_recording_that_loops_is_one_sender_that_goes_on() {
    for long in [true, false] {
        // Of one picture each, in two packets; all three counters, near their ends.
        let packet = |i: u8| {
            let id = 125 + i / 2;
            let id = if long { vec![0xff, id] } else { vec![id & 0x7f] };
            let header = [0x80, 96, 0, i, 0, 0, i / 2, 0, 0, 0, 0, 1];
            (u64::from(i / 2) * 30, [&header[..], &[0x90, 0xf0], &id, &[254 + i / 4, 0x20 | 30, 7]].concat())
        };
        let mut track = parsed(&dump(&(0..4).map(packet).collect())).into_tracks().remove(0);
        let mut before: Option<(Duration, u32, u16)> = None;
        for number in 0..200_u16 {
            let (due, mut payload) = (track.next_due(), Vec::new());
            let timestamp = track.next(&mut payload).timestamp;
            let descriptor = ringbridge_dataplane::rtp::vp8::Descriptor::parse(&payload).unwrap();
            let first = if long { 0x7f00 + 125 } else { 125 };
            let id = (first + number / 2) & if long { 0x7fff } else { 0x7f };
            assert_eq!(descriptor.picture_id, Some(id), "{number}");
            assert_eq!(descriptor.tl0_pic_idx, Some((254 + number / 4) as u8));
            assert_eq!(descriptor.key_idx, Some((30 + number / 4) as u8 & 31));
            assert_eq!(payload.last(), Some(&7));
            if let Some((last_due, last_timestamp, _)) = before {
                assert!(due >= last_due && timestamp >= last_timestamp, "{number}");
            }
            before = Some((due, timestamp, id));
        }
    }
}

#[test]
fn no_packets_and_no_capture_are_said() {
    let empty = Packets::new();
    for bytes in [Pcap::default().of(&empty, plain), dump(&empty), section(false)] {
        let capture = parsed(&bytes);
        assert!(capture.left_out().is_empty() && capture.into_tracks().is_empty());
    }
    let error = |name: &str, bytes: &[u8]| {
        let path = std::env::temp_dir().join(format!("ringbridge-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path, &BTreeMap::from([(96, Codec::Vp8)])).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        error
    };
    assert!(error("garbage", &[7; 100]).contains("not a pcap, pcapng or rtpdump"));
    assert!(error("nothing", &[]).contains("0 bytes"));
    assert!(error("empty", &section(true)).contains("it is empty"));
    let cut = dump(&packets()[..1].to_vec());
    assert!(error("cut", &cut[..cut.len() - 9]).contains("1 cut by the end of the file"));
    let other = error("other", &dump(&packets()[1..2].to_vec()));
    assert!(other.contains("payload type 111") && other.contains("--payload-types"), "{other}");
    assert!(read(Path::new("/nowhere"), &BTreeMap::new()).unwrap_err().to_string().contains("/nowhere"));
}

fn kinds() -> Vec<Vec<u8>> {
    vec![
        Pcap::default().of(&packets(), plain),
        Pcap { big: true, nanos: true, ..Pcap::default() }.of(&packets(), plain),
        ng(false, 6, Some(9), 1_000_000_000),
        ng(true, 2, None, 1_000_000),
        ng(false, 3, None, 1),
        dump(&packets()),
    ]
}

#[test]
fn a_file_cut_at_every_byte_plays_whole_packets_alone() {
    let sent: Vec<_> = sent().into_iter().map(|(_, payload)| payload).collect();
    let codecs = BTreeMap::from([(96, Codec::Vp8), (111, Codec::Opus)]);
    for bytes in kinds() {
        let mut most = 0;
        for len in 0..bytes.len() {
            let Ok(capture) = parse(&bytes[..len], &codecs) else { continue };
            let said = capture.left_out().count(Reason::CutRecord);
            let played = turn(capture);
            assert!(said <= 1 && played.len() >= most && played.len() < COUNT, "{len}");
            assert!(played.iter().all(|(_, payload)| sent.contains(payload)), "{len}");
            most = played.len();
        }
        assert_eq!(most, COUNT - 1);
    }
}

proptest! {
    /// Bytes are damaged anywhere: nothing panics, and no more is played than is there.
    #[test]
    fn damage_never_panics(kind in 0..6_usize, damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = kinds().swap_remove(kind);
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(capture) = parse(&bytes, &BTreeMap::from([(96, Codec::Vp8), (111, Codec::Opus)])) {
            prop_assert!(turn(capture).len() <= COUNT);
        }
    }
}
