//! Two endpoints in memory: Alice sends a packet, and Bob gets it under his own keys and payload type.
//!
//! ```sh
//! cargo run --example two_endpoints
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::conference::{Forwarder, ForwarderConfig};
use ringbridge_dataplane::datagram::{MAX_DATAGRAM, PacketSink, Path};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, PayloadType, Ssrc};
use ringbridge_dataplane::media::{CodecParameters, Encoding, Media, MediaKind, SourceDescription, VideoType};
use ringbridge_dataplane::messages::{Command, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::rtp::{HeaderFields, Packet, header};
use ringbridge_dataplane::srtp::{MasterKey, Opener, Sealer, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::stats::{Counter, WorkerStats};

const CONFERENCE: ConferenceId = ConferenceId(1);
const ALICE: EndpointId = EndpointId(1);
const BOB: EndpointId = EndpointId(2);
const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const SSRC: u32 = 0xa11ce;

/// Keeps what the forwarder sends.
struct Sent {
    slot: [u8; MAX_DATAGRAM],
    datagrams: Vec<(Path, Vec<u8>)>,
}

impl PacketSink for Sent {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.datagrams.push((path, self.slot[..len].to_vec()));
    }
}

/// Keys as a DTLS handshake would yield them.
fn keys(seed: u8) -> SrtpKeys {
    let key = |seed| MasterKey { key: [seed; 32], salt: [seed; 14] };
    SrtpKeys { profile: PROFILE, inbound: key(seed), outbound: key(seed + 1) }
}

/// Opus under the number that an endpoint negotiated for it.
fn opus(payload_type: PayloadType) -> Box<Media> {
    let (name, parameters, feedback) = ("opus".to_owned(), Vec::new(), Vec::new());
    let opus = CodecParameters {
        payload_type,
        kind: MediaKind::Audio,
        name,
        clock_rate: 48_000,
        channels: 2,
        parameters,
        feedback,
    };
    Box::new(Media { codecs: vec![opus], ..Media::default() })
}

/// What Alice's microphone sends: an RTP packet, sealed with her keys.
fn spoken(sequence: u16, words: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let timestamp = u32::from(sequence) * 960;
    let (payload_type, ssrc) = (PayloadType::new(111).ok_or("a payload type has 7 bits")?, Ssrc::new(SSRC));
    let fields = HeaderFields { padding: false, marker: false, payload_type, sequence, timestamp, ssrc };
    let mut packet = vec![0; MAX_DATAGRAM];
    let start = header::write(&fields, std::iter::empty(), &[], &mut packet)?;
    let end = start + words.len();
    packet[start..end].copy_from_slice(words);
    let len = Sealer::new(&keys(1).inbound, PROFILE).seal_rtp(&mut packet, start, end, 0)?;
    packet.truncate(len);
    Ok(packet)
}

/// A payload type and a payload.
type Heard = (u8, Vec<u8>);

/// Sends a few packets of Alice, and returns what Bob hears.
pub fn run() -> Result<Vec<Heard>, Box<dyn Error>> {
    let (stats, now) = (Arc::new(WorkerStats::default()), Instant::now());
    let mut forwarder = Forwarder::new(ForwarderConfig::default(), Arc::clone(&stats));
    let mut sent = Sent { slot: [0; MAX_DATAGRAM], datagrams: Vec::new() };

    let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
    forwarder.handle_command(now, Command::CreateConference { conference: CONFERENCE, feedback });
    for (endpoint, seed, number, port) in [(ALICE, 1, 111, 4001), (BOB, 11, 96, 4002)] {
        let payload_type = PayloadType::new(number).ok_or("a payload type has 7 bits")?;
        // The forwarder takes ICE for done: it is given the addresses.
        let ice = IceCredentials { ufrag: String::new(), pwd: String::new() };
        let new = NewEndpoint { conference: CONFERENCE, endpoint, label: endpoint.to_string(), ice, controlling: true };
        forwarder.handle_command(now, Command::CreateEndpoint(Box::new(new)));
        forwarder.handle_command(now, Command::SetMedia { endpoint, media: opus(payload_type) });
        forwarder.handle_command(now, Command::SetSrtp { endpoint, keys: Box::new(keys(seed)) });
        forwarder.set_path(endpoint, Some(Path { local: 0, remote: ([192, 0, 2, 1], port).into() }));
    }
    let microphone = SourceDescription {
        name: "alice-a0".into(),
        kind: MediaKind::Audio,
        video_type: VideoType::None,
        encodings: vec![Encoding { ssrc: Ssrc::new(SSRC), rtx: None }],
    };
    forwarder.handle_command(now, Command::SetSources { endpoint: ALICE, sources: vec![microphone] });

    let alice = forwarder.slot(ALICE).ok_or("Alice was refused")?;
    for (sequence, words) in [(1, "Hello Bob"), (2, "can you hear me?")] {
        forwarder.handle_rtp(now, alice, &mut spoken(sequence, words.as_bytes())?, &mut sent);
    }
    println!("{} packets forwarded", stats.get(Counter::PacketsForwarded));

    let (mut opener, mut heard) = (Opener::new(&keys(11).outbound, PROFILE), Vec::new());
    for (path, mut datagram) in sent.datagrams {
        let header_len = Packet::parse_sealed(&datagram)?.header_len();
        let opened = opener.open_rtp(&mut datagram, header_len)?;
        let packet = Packet::parse(&datagram[..opened.len])?;
        println!("{}: {:?}", path.remote, String::from_utf8_lossy(packet.payload()));
        heard.push((packet.payload_type().get(), packet.payload().to_vec()));
    }
    Ok(heard)
}

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}
