//! Recordings, pictures made of packets, and ffmpeg.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use ringbridge_dataplane::media::*;
use rtp::codecs::h264::H264Packet;
use rtp::codecs::vp8::Vp8Packet;
use rtp::codecs::vp9::Vp9Packet;
use rtp::packetizer::Depacketizer;
use webrtc_util::marshal::Unmarshal;

use crate::forward_call::{RtpPacket, extension, pt};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Vp8,
    Vp9,
    Av1,
    H264,
}

impl Codec {
    pub const ALL: [Self; 4] = [Self::Vp8, Self::Vp9, Self::Av1, Self::H264];

    pub fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
            Self::H264 => "h264",
        }
    }

    /// In IVF, and ffmpeg's decoder that WebRTC uses, too.
    fn ivf(self) -> Option<(&'static [u8; 4], &'static str)> {
        match self {
            Self::Vp8 => Some((b"VP80", "libvpx")),
            Self::Vp9 => Some((b"VP90", "libvpx-vp9")),
            Self::Av1 => Some((b"AV01", "libdav1d")),
            Self::H264 => None,
        }
    }
}

/// The video of what `tools/record` wrote.
pub struct Recording {
    pub codec: Codec,
    /// SSRCs, the smallest picture first.
    pub encodings: Vec<u32>,
    /// Milliseconds, packet.
    pub packets: Vec<(u64, RtpPacket)>,
    payload_type: u8,
    parameters: Vec<(String, String)>,
    extensions: Vec<(u8, String)>,
}

impl Recording {
    pub fn read(codec: Codec, file: &Path) -> Self {
        let sdp = std::fs::read_to_string(format!("{}.sdp", file.display())).expect("the description beside the file");
        let video = &sdp[sdp.find("m=video").expect("video")..];
        // The first format is the one that was sent.
        let payload_type: u8 = video.split_whitespace().nth(3).unwrap().parse().unwrap();
        let named = format!("a=rtpmap:{payload_type} {}/", codec.name());
        assert!(video.to_lowercase().contains(&named), "{named} is not in {}.sdp", file.display());
        let prefix = format!("a=fmtp:{payload_type} ");
        let parameters = video.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("");
        let parameters = parameters.split(';').filter_map(|p| p.split_once('='));
        let extensions = video.lines().filter_map(|line| {
            let (id, uri) = line.strip_prefix("a=extmap:")?.split_once(' ')?;
            Some((id.split('/').next()?.parse().ok()?, uri.trim_end().to_owned()))
        });
        let mut recording = Self {
            codec,
            encodings: Vec::new(),
            packets: Vec::new(),
            payload_type,
            parameters: parameters.map(|(a, b)| (a.trim().to_owned(), b.trim_end().to_owned())).collect(),
            extensions: extensions.collect(),
        };
        recording.packets(&std::fs::read(file).unwrap());
        let mut bytes = BTreeMap::<u32, usize>::new();
        for (_, packet) in &recording.packets {
            *bytes.entry(packet.header.ssrc).or_default() += packet.payload.len();
        }
        recording.encodings = bytes.keys().copied().collect();
        recording.encodings.sort_by_key(|ssrc| bytes[ssrc]);
        recording
    }

    /// rtpdump: a line, 16 bytes, then records of length, RTP length, milliseconds.
    fn packets(&mut self, file: &[u8]) {
        let mut rest = &file[file.iter().position(|b| *b == b'\n').unwrap() + 17..];
        while let [l0, l1, _, _, m0, m1, m2, m3, body @ ..] = rest {
            let (data, after) = body.split_at(usize::from(u16::from_be_bytes([*l0, *l1])) - 8);
            let packet = RtpPacket::unmarshal(&mut &data[..]).expect("RTP");
            // Padding alone is no picture.
            if packet.header.payload_type == self.payload_type && !packet.payload.is_empty() {
                self.packets.push((u32::from_be_bytes([*m0, *m1, *m2, *m3]).into(), packet));
            }
            rest = after;
        }
    }

    pub fn media(&self) -> Media {
        let parameters: Vec<(&str, &str)> = self.parameters.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        Media {
            codecs: vec![pt(self.payload_type, MediaKind::Video, &self.codec.name().to_uppercase(), &parameters)],
            header_extensions: self.extensions.iter().map(|(id, uri)| extension(*id, MediaKind::Video, uri)).collect(),
            ..Media::default()
        }
    }
}

/// One picture: what a decoder is given at once.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub timestamp: u32,
    pub keyframe: bool,
    /// By spatial layer, as the codec's elementary stream has it.
    pub frames: BTreeMap<u8, Vec<u8>>,
}

/// Puts packets, in order and without holes, together.
pub fn pictures(codec: Codec, packets: &[RtpPacket]) -> Vec<Picture> {
    let mut all: Vec<Picture> = Vec::new();
    let mut h264 = H264Packet::default();
    let mut obus = Obus::default();
    for packet in packets {
        if all.last().is_none_or(|p| p.timestamp != packet.header.timestamp) {
            all.push(Picture { timestamp: packet.header.timestamp, ..Picture::default() });
        }
        let picture = all.last_mut().unwrap();
        let payload = &packet.payload;
        match codec {
            Codec::Vp8 => {
                let data = Vp8Packet::default().depacketize(payload).expect("VP8");
                let frame = picture.frames.entry(0).or_default();
                if frame.is_empty() {
                    picture.keyframe = data[0] & 1 == 0;
                }
                frame.extend(&data);
            }
            Codec::Vp9 => {
                let mut vp9 = Vp9Packet::default();
                let data = vp9.depacketize(payload).expect("VP9");
                picture.keyframe |= !vp9.p && vp9.sid == 0;
                picture.frames.entry(vp9.sid).or_default().extend(&data);
            }
            Codec::H264 => {
                let data = h264.depacketize(payload).expect("H264");
                picture.keyframe |= data.windows(5).any(|w| w[..4] == [0, 0, 0, 1] && w[4] & 0x1f == 5);
                picture.frames.entry(0).or_default().extend(&data);
            }
            Codec::Av1 => {
                picture.keyframe |= payload[0] & 0x08 != 0;
                for (spatial, obu) in obus.take(payload) {
                    picture.frames.entry(spatial).or_default().extend(obu);
                }
            }
        }
    }
    all
}

/// OBUs out of packets (AV1 RTP specification, section 4).
#[derive(Default)]
struct Obus {
    started: Vec<u8>,
}

impl Obus {
    /// Complete OBUs with their spatial layer, each with its size in it.
    fn take(&mut self, payload: &Bytes) -> Vec<(u8, Vec<u8>)> {
        let (first, mut rest) = (payload[0], &payload[1..]);
        let (continues, goes_on, count) = (first & 0x80 != 0, first & 0x40 != 0, first >> 4 & 3);
        let mut elements: Vec<&[u8]> = Vec::new();
        while !rest.is_empty() {
            let last = count > 0 && elements.len() + 1 == usize::from(count);
            let size = if last { rest.len() } else { leb128(&mut rest) };
            let (element, after) = rest.split_at(size);
            elements.push(element);
            rest = after;
        }
        let number = elements.len();
        let mut out = Vec::new();
        for (i, element) in elements.into_iter().enumerate() {
            if i > 0 || !continues {
                assert!(self.started.is_empty(), "an OBU that did not end");
            }
            self.started.extend(element);
            if i + 1 < number || !goes_on {
                out.push(with_size(&std::mem::take(&mut self.started)));
            }
        }
        out
    }
}

fn leb128(bytes: &mut &[u8]) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("leb128");
        *bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn with_size(obu: &[u8]) -> (u8, Vec<u8>) {
    let extended = obu[0] & 4 != 0;
    let spatial = if extended { obu[1] >> 3 & 3 } else { 0 };
    let mut body = &obu[1 + usize::from(extended)..];
    if obu[0] & 2 != 0 {
        let size = leb128(&mut body);
        body = &body[..size];
    }
    let mut out = vec![obu[0] | 2];
    out.extend(obu.get(1).filter(|_| extended));
    let mut size = body.len();
    loop {
        let byte = (size & 0x7f) as u8;
        size >>= 7;
        out.push(byte | if size > 0 { 0x80 } else { 0 });
        if size == 0 {
            break;
        }
    }
    out.extend(body);
    (spatial, out)
}

/// Decodes; every picture's size in bytes and checksum, in order. Any complaint of the decoder is a failure.
pub fn decode(codec: Codec, pictures: &[Picture], file: &Path) -> Vec<String> {
    if pictures.is_empty() {
        return Vec::new();
    }
    let mut stream = Vec::new();
    if let Some((name, _)) = codec.ivf() {
        stream.extend(b"DKIF\0\0\x20\0");
        stream.extend(name);
        // Width and height are the stream's own.
        stream.extend([0x40, 1, 0xb4, 0]);
        stream.extend([30u32, 1, pictures.len() as u32, 0].into_iter().flat_map(u32::to_le_bytes));
    }
    for (picture, number) in pictures.iter().zip(0u64..) {
        let mut data: Vec<u8> = if codec == Codec::Av1 { vec![0x12, 0] } else { Vec::new() };
        picture.frames.values().for_each(|frame| data.extend(frame));
        if codec.ivf().is_some() {
            stream.extend((data.len() as u32).to_le_bytes());
            stream.extend(number.to_le_bytes());
        }
        stream.extend(data);
    }
    std::fs::write(file, stream).unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-xerror"]);
    match codec.ivf() {
        Some((_, decoder)) => ffmpeg.args(["-f", "ivf", "-c:v", decoder]),
        None => ffmpeg.args(["-f", "h264"]),
    };
    ffmpeg.arg("-i").arg(file).args(["-autoscale", "0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let output = ffmpeg.output().expect("ffmpeg runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", file.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let fields = |line: &str| -> Vec<String> { line.split(',').map(|f| f.trim().to_owned()).collect() };
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(fields);
    lines.map(|f| format!("{} {}", f[4], f[5])).collect()
}
