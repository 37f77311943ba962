//! Recorded RTP: pcap, pcapng and rtpdump files, played as tracks. Packets must be plain RTP over UDP (not SRTP).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use ringbridge_dataplane::rtp::Packet;

use super::{Codec, Track, TrackPacket};

/// Why a capture cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened or read.
    #[error("cannot read capture {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither of the three formats.
    #[error("{path} is no pcap, pcapng or rtpdump file: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It has no packet that can be played.
    #[error(
        "{path} has {packets} packets, but none is RTP with a known payload type (seen: {seen:?}); name them with --payload-types 96=vp8,111=opus"
    )]
    Nothing {
        /// The file.
        path: PathBuf,
        /// Packets in it.
        packets: usize,
        /// Payload types of what looks like RTP.
        seen: Vec<u8>,
    },
}

/// A packet of a file: when it was seen since the first, and its UDP payload.
type Seen = (Duration, Vec<u8>);

/// Reads a file into tracks, one for each SSRC, in order of appearance.
pub fn read(path: &Path, codecs: &BTreeMap<u8, Codec>) -> Result<Vec<RecordedTrack>, CaptureError> {
    let source = |source| CaptureError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map(BufReader::new).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(source)?;
    let packets = match bytes.get(..4) {
        Some(b"#!rt") => rtpdump(&bytes),
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(&bytes),
        _ => pcap(&bytes),
    };
    let packets = packets.map_err(|what| CaptureError::Format { path: path.to_owned(), what })?;
    tracks(&packets, codecs).map_err(|seen| CaptureError::Nothing {
        path: path.to_owned(),
        packets: packets.len(),
        seen,
    })
}

fn tracks(packets: &[Seen], codecs: &BTreeMap<u8, Codec>) -> Result<Vec<RecordedTrack>, Vec<u8>> {
    let mut order = Vec::new();
    let mut streams: BTreeMap<u32, (Codec, Vec<Recorded>)> = BTreeMap::new();
    let mut seen = Vec::new();
    for (at, datagram) in packets {
        // RTCP shares the port: its packet types lie where the payload types 64 to 95 would be with the marker bit.
        let Ok(packet) = Packet::parse(datagram) else { continue };
        if matches!(datagram.get(1), Some(192..=223)) || packet.payload().is_empty() {
            continue;
        }
        let Some(codec) = codecs.get(&packet.payload_type()).copied() else {
            if !seen.contains(&packet.payload_type()) {
                seen.push(packet.payload_type());
            }
            continue;
        };
        let (_, stream) = streams.entry(packet.ssrc()).or_insert_with(|| {
            order.push(packet.ssrc());
            (codec, Vec::new())
        });
        stream.push(Recorded {
            at: *at,
            timestamp: packet.timestamp(),
            marker: packet.marker(),
            payload: packet.payload().into(),
        });
    }
    let tracks: Vec<_> = order
        .into_iter()
        .filter_map(|ssrc| streams.remove(&ssrc).map(|(codec, packets)| RecordedTrack::new(codec, packets)))
        .collect();
    if tracks.is_empty() { Err(seen) } else { Ok(tracks) }
}

fn pcap(bytes: &[u8]) -> Result<Vec<Seen>, String> {
    let mut reader = PcapReader::new(bytes).map_err(|error| error.to_string())?;
    let link = u32::from(reader.header().datalink);
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| error.to_string())?;
        packets.extend(udp(link, &packet.data).map(|payload| (packet.timestamp, payload.to_vec())));
    }
    Ok(since_first(packets))
}

fn pcapng(bytes: &[u8]) -> Result<Vec<Seen>, String> {
    let mut reader = PcapNgReader::new(bytes).map_err(|error| error.to_string())?;
    let (mut packets, mut links) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.map_err(|error| error.to_string())? {
            Block::InterfaceDescription(interface) => links.push(u32::from(interface.linktype)),
            Block::EnhancedPacket(packet) => {
                let link = links.get(packet.interface_id as usize).copied().unwrap_or(1);
                packets.extend(udp(link, &packet.data).map(|payload| (packet.timestamp, payload.to_vec())));
            }
            _ => {}
        }
    }
    Ok(since_first(packets))
}

fn since_first(packets: Vec<Seen>) -> Vec<Seen> {
    let first = packets.iter().map(|(at, _)| *at).min().unwrap_or_default();
    packets.into_iter().map(|(at, bytes)| (at.saturating_sub(first), bytes)).collect()
}

/// The UDP payload of a frame of Ethernet, Linux cooked capture (both versions), loopback or raw IP.
fn udp(link: u32, frame: &[u8]) -> Option<&[u8]> {
    let ip = match link {
        0 | 108 => frame.get(4..)?,
        1 => match frame.get(12..14)? {
            [0x81, 0x00] => frame.get(18..)?,
            _ => frame.get(14..)?,
        },
        113 => frame.get(16..)?,
        276 => frame.get(20..)?,
        _ => frame,
    };
    let udp = match ip.first()? >> 4 {
        4 if ip.get(9) == Some(&17) => ip.get(usize::from(ip[0] & 15) * 4..)?,
        6 if ip.get(6) == Some(&17) => ip.get(40..)?,
        _ => return None,
    };
    let len = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    udp.get(8..len.min(udp.len()))
}

/// The format of rtptools: a text line, a header of 16 bytes, then records of length, RTP length and milliseconds.
fn rtpdump(bytes: &[u8]) -> Result<Vec<Seen>, String> {
    let line = bytes.iter().position(|byte| *byte == b'\n').ok_or("its first line does not end")?;
    let mut rest = bytes.get(line + 1 + 16..).ok_or("its header is cut")?;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let [l0, l1, p0, p1, m0, m1, m2, m3, body @ ..] = rest else {
            return Err(format!("record {} is cut", packets.len()));
        };
        let len = usize::from(u16::from_be_bytes([*l0, *l1])).saturating_sub(8);
        let rtp = usize::from(u16::from_be_bytes([*p0, *p1]));
        let record = body.get(..len).ok_or_else(|| format!("record {} is cut", packets.len()))?;
        let at = Duration::from_millis(u64::from(u32::from_be_bytes([*m0, *m1, *m2, *m3])));
        // An RTP length of zero marks RTCP.
        if rtp > 0 {
            packets.push((at, record.get(..rtp.min(record.len())).unwrap_or(record).to_vec()));
        }
        rest = body.get(len..).unwrap_or(&[]);
    }
    Ok(since_first(packets))
}

#[derive(Debug)]
struct Recorded {
    at: Duration,
    timestamp: u32,
    marker: bool,
    payload: Box<[u8]>,
}

/// One SSRC of a capture, played again and again.
#[derive(Debug, Clone)]
pub struct RecordedTrack {
    codec: Codec,
    packets: Arc<[Recorded]>,
    at: usize,
    /// How often it was played to the end, in time and in RTP timestamps.
    time: Duration,
    timestamps: u32,
}

impl RecordedTrack {
    fn new(codec: Codec, packets: Vec<Recorded>) -> Self {
        Self { codec, packets: packets.into(), at: 0, time: Duration::ZERO, timestamps: 0 }
    }

    /// Packets of one turn.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    fn wrap(&mut self) {
        // The first packet of the next turn comes a frame after the last of this one.
        const GAP: Duration = Duration::from_millis(33);
        let (Some(first), Some(last)) = (self.packets.first(), self.packets.last()) else { return };
        let turn = last.at.saturating_sub(first.at) + GAP;
        let gap = (GAP.as_millis() as u32) * (self.codec.clock_rate() / 1000);
        self.time += turn;
        self.timestamps = self.timestamps.wrapping_add(last.timestamp.wrapping_sub(first.timestamp)).wrapping_add(gap);
        self.at = 0;
    }
}

impl Track for RecordedTrack {
    fn codec(&self) -> Codec {
        self.codec
    }

    fn next_due(&self) -> Duration {
        self.time + self.packets.get(self.at).map_or(Duration::ZERO, |packet| packet.at)
    }

    fn next(&mut self, payload: &mut Vec<u8>) -> TrackPacket {
        payload.clear();
        let Some(packet) = self.packets.get(self.at) else {
            return TrackPacket { timestamp: 0, marker: false, level: None };
        };
        payload.extend_from_slice(&packet.payload);
        let timestamp = packet.timestamp.wrapping_add(self.timestamps);
        let marker = packet.marker;
        self.at += 1;
        if self.at == self.packets.len() {
            self.wrap();
        }
        let level = (self.codec == Codec::Opus).then_some(30);
        TrackPacket { timestamp, marker, level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(payload_type: u8, sequence: u8, timestamp: u8, ssrc: u8, payload: &[u8]) -> Vec<u8> {
        let header = [0x80, payload_type, 0, sequence, 0, 0, 0, timestamp, 0, 0, 0, ssrc];
        [&header[..], payload].concat()
    }

    fn codecs() -> BTreeMap<u8, Codec> {
        BTreeMap::from([(96, Codec::Vp8), (111, Codec::Opus)])
    }

    fn dump(packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"#!rtpplay1.0 127.0.0.1/5000\n".to_vec();
        bytes.extend([0; 16]);
        for (at, packet) in packets {
            bytes.extend((packet.len() as u16 + 8).to_be_bytes());
            bytes.extend((packet.len() as u16).to_be_bytes());
            bytes.extend(at.to_be_bytes());
            bytes.extend(packet);
        }
        bytes
    }

    fn ethernet(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        frame.extend([0, 9, 0, 9]);
        frame.extend((payload.len() as u16 + 8).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    fn pcap_of(packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let words: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (at, packet) in packets {
            let frame = ethernet(packet);
            for word in [7, at * 1000, frame.len() as u32, frame.len() as u32] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(frame);
        }
        bytes
    }

    fn played(mut track: RecordedTrack, count: usize) -> Vec<(u128, u32, Vec<u8>)> {
        let mut payload = Vec::new();
        (0..count)
            .map(|_| {
                let due = track.next_due().as_millis();
                let packet = track.next(&mut payload);
                (due, packet.timestamp, payload.clone())
            })
            .collect()
    }

    #[test]
    fn streams_come_out_of_every_format_and_repeat() {
        let packets = [
            (0, rtp(96, 1, 10, 1, &[1])),
            (5, rtp(111, 1, 0, 2, &[9, 9])),
            (10, rtp(96, 2, 20, 1, &[2, 2])),
            (11, vec![0x81, 200, 0, 1, 0, 0, 0, 1]),
            (12, b"not rtp".to_vec()),
        ];
        for bytes in [dump(&packets), pcap_of(&packets)] {
            let seen = if bytes.starts_with(b"#!") { rtpdump(&bytes) } else { pcap(&bytes) };
            let tracks = tracks(&seen.unwrap(), &codecs()).unwrap();
            assert_eq!(
                tracks.iter().map(|t| (t.codec(), t.packets())).collect::<Vec<_>>(),
                [(Codec::Vp8, 2), (Codec::Opus, 1)]
            );
            let expect =
                [(0, 10, vec![1]), (10, 20, vec![2, 2]), (43, 20 + 2970, vec![1]), (53, 30 + 2970, vec![2, 2])];
            assert_eq!(played(tracks[0].clone(), 4), expect);
        }
    }

    #[test]
    fn what_cannot_be_played_is_named() {
        let folder = std::env::temp_dir();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.join(format!("ringbridge-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path, &codecs()).unwrap_err().to_string();
            std::fs::remove_file(&path).unwrap();
            error
        };
        assert!(file("garbage", &[7; 100]).contains("no pcap, pcapng or rtpdump"));
        let cut = dump(&[(0, rtp(96, 1, 1, 1, &[1; 50]))]);
        assert!(file("cut", &cut[..cut.len() - 9]).contains("record 0 is cut"));
        let other = file("other", &dump(&[(0, rtp(120, 1, 1, 1, &[1]))]));
        assert!(other.contains("120") && other.contains("--payload-types"), "{other}");
        assert!(read(Path::new("/nowhere"), &codecs()).unwrap_err().to_string().contains("/nowhere"));
    }
}
