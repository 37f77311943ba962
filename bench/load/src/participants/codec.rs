//! What scripted participants know of video codecs: how a frame becomes RTP payloads, and where one begins in what arrives.
//!
//! Written from the payload formats by itself, not with the data plane's parsers, so that it checks them.

use clap::ValueEnum;

/// Largest slice of a frame in one RTP packet, bytes.
const MAX_FRAGMENT: usize = 1_100;

/// A video codec that participants send, and take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VideoCodec {
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// H.264 (RFC 6184).
    H264,
    /// AV1 (AV1 RTP specification).
    Av1,
}

/// What a payload says of the beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// Whether it begins a frame; nothing where the codec leaves that to the packet before.
    pub frame: Option<bool>,
    /// Whether a keyframe begins here, if a frame does.
    pub keyframe: bool,
}

impl Beginning {
    const NOT: Self = Self { frame: Some(false), keyframe: false };
}

impl VideoCodec {
    /// Its name in signalling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
            Self::Av1 => "AV1",
        }
    }

    /// RTP payloads of one frame, of which the last one gets the marker; `picture` counts frames.
    pub fn packetize(self, frame: &[u8], picture: u16) -> Vec<Vec<u8>> {
        match self {
            Self::Vp8 => vp8(frame, picture),
            Self::Vp9 => vp9(frame, picture),
            Self::H264 => units(frame).into_iter().flat_map(h264).collect(),
            Self::Av1 => av1(frame),
        }
    }

    /// Whether a frame begins with a payload.
    pub fn beginning(self, payload: &[u8]) -> Beginning {
        match self {
            Self::Vp8 => vp8_beginning(payload),
            Self::Vp9 => vp9_beginning(payload),
            Self::H264 => h264_beginning(payload),
            Self::Av1 => av1_beginning(payload),
        }
    }
}

/// A 15-bit picture id, as both VP8 and VP9 have it.
fn picture_id(picture: u16) -> [u8; 2] {
    (0x8000 | picture).to_be_bytes()
}

fn vp8(frame: &[u8], picture: u16) -> Vec<Vec<u8>> {
    let [high, low] = picture_id(picture);
    let packet = |(index, fragment): (usize, &[u8])| {
        let start_of_partition = if index == 0 { 0x10 } else { 0 };
        [&[0x80 | start_of_partition, 0x80, high, low], fragment].concat()
    };
    frame.chunks(MAX_FRAGMENT).enumerate().map(packet).collect()
}

fn vp8_beginning(payload: &[u8]) -> Beginning {
    let Some(&first) = payload.first() else { return Beginning::NOT };
    let mut at = 1;
    if first & 0x80 != 0 {
        let Some(&bits) = payload.get(1) else { return Beginning::NOT };
        at = 2;
        if bits & 0x80 != 0 {
            at += if payload.get(at).is_some_and(|id| id & 0x80 != 0) { 2 } else { 1 };
        }
        at += usize::from(bits & 0x40 != 0) + usize::from(bits & 0x30 != 0);
    }
    let begins = first & 0x10 != 0 && first & 0x0f == 0;
    Beginning { frame: Some(begins), keyframe: begins && payload.get(at).is_some_and(|byte| byte & 1 == 0) }
}

/// In flexible mode, one layer, each frame built on the one before it.
fn vp9(frame: &[u8], picture: u16) -> Vec<Vec<u8>> {
    // Uncompressed header of profile 0: marker, profile, show_existing_frame, frame_type (VP9 bitstream 6.2).
    let keyframe = frame.first().is_some_and(|first| first & 0x04 == 0);
    let last = frame.len().saturating_sub(1) / MAX_FRAGMENT;
    let [high, low] = picture_id(picture);
    let packet = |(index, fragment): (usize, &[u8])| {
        let mut first = 0x80 | 0x20 | 0x10;
        first |= if keyframe { 0 } else { 0x40 };
        first |= if index == 0 { 0x08 } else { 0 };
        first |= if index == last { 0x04 } else { 0 };
        first |= if keyframe && index == 0 { 0x02 } else { 0 };
        let mut payload = vec![first, high, low, 0];
        if !keyframe {
            payload.push(1 << 1);
        } else if index == 0 {
            // One spatial layer and its size, which the frame repeats: 320 by 180.
            payload.extend([0x10, 0x01, 0x40, 0x00, 0xb4]);
        }
        payload.extend_from_slice(fragment);
        payload
    };
    frame.chunks(MAX_FRAGMENT).enumerate().map(packet).collect()
}

fn vp9_beginning(payload: &[u8]) -> Beginning {
    let Some(&first) = payload.first() else { return Beginning::NOT };
    let mut at = 1;
    if first & 0x80 != 0 {
        at += if payload.get(at).is_some_and(|id| id & 0x80 != 0) { 2 } else { 1 };
    }
    let spatial = if first & 0x20 == 0 { 0 } else { payload.get(at).map_or(0, |layers| layers >> 1 & 0x07) };
    let begins = first & 0x08 != 0 && spatial == 0;
    Beginning { frame: Some(begins), keyframe: begins && first & 0x40 == 0 }
}

/// NAL units of a byte stream, without their start codes (H.264 annex B).
pub fn units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, bytes)| *bytes == [0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let unit = &stream[start + 3..end];
            // Zeros behind a unit belong to the next start code.
            &unit[..unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
        })
        .filter(|unit| !unit.is_empty())
        .collect()
}

/// Whether a NAL unit is a slice, of which our clip has one in each frame.
pub fn is_slice(unit: &[u8]) -> bool {
    unit.first().is_some_and(|first| matches!(first & 0x1f, 1 | 5))
}

/// One NAL unit as it is, or in FU-As.
fn h264(unit: &[u8]) -> Vec<Vec<u8>> {
    if unit.len() <= MAX_FRAGMENT {
        return vec![unit.to_vec()];
    }
    let Some((&header, rest)) = unit.split_first() else { return Vec::new() };
    let last = rest.len().saturating_sub(1) / MAX_FRAGMENT;
    let packet = |(index, fragment): (usize, &[u8])| {
        let (start, end) = (if index == 0 { 0x80 } else { 0 }, if index == last { 0x40 } else { 0 });
        [&[header & 0xe0 | 28, start | end | header & 0x1f], fragment].concat()
    };
    rest.chunks(MAX_FRAGMENT).enumerate().map(packet).collect()
}

fn h264_beginning(payload: &[u8]) -> Beginning {
    let starts_sequence = |unit: Option<&u8>| unit.is_some_and(|first| matches!(first & 0x1f, 5 | 7));
    let Some(&first) = payload.first() else { return Beginning::NOT };
    match first & 0x1f {
        // A STAP-A: length and header of its first unit.
        24 => Beginning { frame: None, keyframe: starts_sequence(payload.get(3)) },
        28 if payload.get(1).is_none_or(|fragment| fragment & 0x80 == 0) => Beginning::NOT,
        28 => Beginning { frame: None, keyframe: starts_sequence(payload.get(1)) },
        _ => Beginning { frame: None, keyframe: starts_sequence(Some(&first)) },
    }
}

/// The number at the start, and how long it is (AV1 4.10.5).
fn leb128(data: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in data.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// The OBUs of a temporal unit without their sizes, and without what RTP leaves out; whether a sequence header is among them.
fn obus(unit: &[u8]) -> (Vec<Vec<u8>>, bool) {
    const SEQUENCE_HEADER: u8 = 1;
    const TEMPORAL_DELIMITER: u8 = 2;
    let (mut rest, mut found, mut starts_sequence) = (unit, Vec::new(), false);
    while let [header, after @ ..] = rest {
        let (kind, extension, sized) = (header >> 3 & 0x0f, header & 0x04 != 0, header & 0x02 != 0);
        let (start, after) = if extension { (rest.get(..2), after.get(1..)) } else { (rest.get(..1), Some(after)) };
        let (Some(start), Some(after)) = (start, after) else { break };
        let (length, skip) = if sized { leb128(after).unwrap_or((0, after.len())) } else { (after.len(), 0) };
        let Some(content) = after.get(skip..skip + length) else { break };
        if kind != TEMPORAL_DELIMITER {
            let mut obu = [start, content].concat();
            obu[0] &= !0x02;
            found.push(obu);
        }
        starts_sequence |= kind == SEQUENCE_HEADER;
        rest = &after[skip + length..];
    }
    (found, starts_sequence)
}

/// A number as `leb128` reads it.
fn to_leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = value > 0x7f;
        bytes.push((value & 0x7f) as u8 | if more { 0x80 } else { 0 });
        value >>= 7;
        if !more {
            return bytes;
        }
    }
}

/// OBUs one after the other, each element with its length. Packets end within an OBU until the last one: without a dependency
/// descriptor receivers take a packet that ends with an OBU for the end of the frame.
fn av1(unit: &[u8]) -> Vec<Vec<u8>> {
    const LEAST: usize = 16;
    let (obus, starts_sequence) = obus(unit);
    let (mut packets, mut packet) = (Vec::new(), vec![if starts_sequence { 0x08 } else { 0 }]);
    for obu in &obus {
        let mut rest = obu.as_slice();
        loop {
            let room = MAX_FRAGMENT.saturating_sub(packet.len()).max(LEAST);
            let (fragment, after) = rest.split_at(rest.len().min(room));
            packet.extend(to_leb128(fragment.len()));
            packet.extend_from_slice(fragment);
            if after.is_empty() {
                break;
            }
            packet[0] |= 0x40;
            packets.push(std::mem::replace(&mut packet, vec![0x80]));
            rest = after;
        }
    }
    packets.push(packet);
    packets
}

fn av1_beginning(payload: &[u8]) -> Beginning {
    match payload.first() {
        Some(first) if first & 0x80 == 0 && first & 0x08 != 0 => Beginning { frame: Some(true), keyframe: true },
        Some(first) if first & 0x80 == 0 => Beginning { frame: None, keyframe: false },
        _ => Beginning::NOT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOT: Beginning = Beginning::NOT;
    const DELTA: Beginning = Beginning { frame: Some(true), keyframe: false };
    const KEYFRAME: Beginning = Beginning { frame: Some(true), keyframe: true };
    const PERHAPS: Beginning = Beginning { frame: None, keyframe: false };
    const PERHAPS_KEYFRAME: Beginning = Beginning { frame: None, keyframe: true };

    fn large(first: &[u8]) -> Vec<u8> {
        first.iter().copied().chain((0..3_000u32).map(|i| i as u8 | 1)).collect()
    }

    #[test]
    fn vp8_fragments_add_up_to_the_frame() {
        let frame = large(&[]);
        let packets = VideoCodec::Vp8.packetize(&frame, 0x1234);
        assert_eq!(packets.len(), 3);
        assert_eq!(packets[0][..4], [0x90, 0x80, 0x92, 0x34]);
        assert_eq!(packets[1][..4], [0x80, 0x80, 0x92, 0x34]);
        assert_eq!(packets.iter().flat_map(|packet| packet[4..].to_vec()).collect::<Vec<_>>(), frame);
    }

    #[test]
    fn vp8_descriptors_of_all_lengths() {
        let beginning = |payload: &[u8]| VideoCodec::Vp8.beginning(payload);
        assert_eq!(beginning(&[]), NOT);
        assert_eq!(beginning(&[0x10, 0x00]), KEYFRAME);
        assert_eq!(beginning(&[0x10, 0x01]), DELTA);
        assert_eq!(beginning(&[0x90, 0x80, 0x81, 0x02, 0x00]), KEYFRAME);
        assert_eq!(beginning(&[0x90, 0xe0, 0x01, 0x02, 0x03, 0x01]), DELTA);
        assert_eq!(beginning(&[0x80, 0x80]), NOT);
    }

    #[test]
    fn vp9_says_where_frames_begin_end_and_what_they_need() {
        let keyframe = VideoCodec::Vp9.packetize(&large(&[0x82]), 5);
        assert_eq!(keyframe[0][..9], [0xba, 0x80, 5, 0, 0x10, 0x01, 0x40, 0x00, 0xb4]);
        assert_eq!(keyframe[1][..4], [0xb0, 0x80, 5, 0]);
        assert_eq!(keyframe[2][..4], [0xb4, 0x80, 5, 0]);
        let delta = VideoCodec::Vp9.packetize(&[0x86, 7], 6);
        assert_eq!(delta, [[0xfc, 0x80, 6, 0, 2, 0x86, 7]]);
        let beginning = |payload: &[u8]| VideoCodec::Vp9.beginning(payload);
        assert_eq!((beginning(&keyframe[0]), beginning(&keyframe[1]), beginning(&delta[0])), (KEYFRAME, NOT, DELTA));
        // The second spatial layer, a short picture id.
        assert_eq!(beginning(&[0xa8, 0x05, 0x02, 0x07]), NOT);
    }

    #[test]
    fn h264_units_alone_and_in_parts() {
        let slice = large(&[0x65]);
        let stream = [&[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1][..], &slice].concat();
        assert_eq!(units(&stream), [&[0x67, 1][..], &[0x68, 2], &slice]);
        let packets = VideoCodec::H264.packetize(&stream, 0);
        assert_eq!(packets[..2], [vec![0x67, 1], vec![0x68, 2]]);
        let heads: Vec<_> = packets[2..].iter().map(|packet| (packet[0], packet[1])).collect();
        assert_eq!(heads, [(0x7c, 0x85), (0x7c, 0x05), (0x7c, 0x45)]);
        assert_eq!(packets[2..].iter().flat_map(|packet| packet[2..].to_vec()).collect::<Vec<_>>(), slice[1..]);
        let beginning = |payload: &[u8]| VideoCodec::H264.beginning(payload);
        let all: Vec<_> = packets.iter().map(|packet| beginning(packet)).collect();
        assert_eq!(all, [PERHAPS_KEYFRAME, PERHAPS, PERHAPS_KEYFRAME, NOT, NOT]);
        assert_eq!(beginning(&[0x78, 0, 2, 0x67, 1]), PERHAPS_KEYFRAME);
        assert_eq!(beginning(&[0x41, 1]), PERHAPS);
    }

    #[test]
    fn av1_without_delimiters_and_sizes() {
        let frame = large(&[0x10]);
        let length = [0x80 | (frame.len() & 0x7f) as u8, (frame.len() >> 7) as u8];
        let unit = [&[0x12, 0, 0x0a, 2, 7, 8, 0x32][..], &length, &frame].concat();
        let packets = VideoCodec::Av1.packetize(&unit, 0);
        let heads: Vec<_> = packets.iter().map(|packet| packet[0]).collect();
        assert_eq!(heads, [0x48, 0xc0, 0x80], "one frame: only the last packet ends with an OBU");
        assert_eq!(packets[0][1..5], [3, 0x08, 7, 8]);
        let (mut joined, mut lengths) = (Vec::new(), Vec::new());
        for packet in &packets {
            let mut rest = &packet[1..];
            while let Some((length, skip)) = leb128(rest) {
                lengths.push(length);
                joined.extend_from_slice(&rest[skip..skip + length]);
                rest = &rest[skip + length..];
            }
        }
        assert_eq!(joined, [&[0x08, 7, 8, 0x30][..], &frame].concat());
        assert_eq!(lengths, [3, 1_095, 1_099, 808]);
        let all: Vec<_> = packets.iter().map(|packet| VideoCodec::Av1.beginning(packet)).collect();
        assert_eq!(all, [KEYFRAME, NOT, NOT]);
        assert_eq!(VideoCodec::Av1.beginning(&VideoCodec::Av1.packetize(&[0x32, 1, 7], 1)[0]), PERHAPS);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for codec in VideoCodec::value_variants() {
                let _ = (codec.beginning(&bytes), codec.packetize(&bytes, 1));
            }
        }
    }
}
