//! `record`: takes the place of a bridge for one sender and writes what it sends, decrypted, into an rtpdump file.

use ringbridge_dataplane::ids::Ssrc;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Args;
use ringbridge_controlplane::transport::Certificate;
use ringbridge_dataplane::rtcp::build;
use serde::{Deserialize, Serialize};

use crate::generator::client::Client;
use crate::generator::sdp::{self, Local, Remote, SdpError};

/// How long a sender may take to offer, and then to send.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the client's timers are looked at.
const TICK: Duration = Duration::from_millis(5);

/// Record what a WebRTC sender sends, decrypted, as an rtpdump file for `replay --capture`. Reads the sender's offer from
/// standard input and writes the answer to standard output, one JSON object per line, as the peers of `compare` do.
/// `tools/record` does so with Chromium.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The file to write.
    file: PathBuf,
    /// Seconds to record, from the first packet on.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Start and minimum bitrate to ask of the sender, bits per second; there is no receiver feedback to adapt to.
    #[arg(long, default_value_t = 2_500_000)]
    bitrate: u64,
    /// Ask for a keyframe of every video stream this often, in milliseconds, so that a receiver can switch layers there;
    /// 0 is never.
    #[arg(long, default_value_t = 0)]
    keyframes: u64,
    /// Loopback address to receive on.
    #[arg(long, default_value = "127.0.0.1")]
    address: Ipv4Addr,
}

/// Media packets that may overtake the end of the handshake.
const EARLY: usize = 1000;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A socket or file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// What came on standard input is no request.
    #[error("expected {{\"publish\":{{\"id\":0,\"sdp\":\"...\"}}}} on standard input, got {0:?}")]
    Request(String),
    /// The offer is of no use.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// The sender did not offer or send in time.
    #[error("{0} within {seconds} s", seconds = PATIENCE.as_secs())]
    Silence(&'static str),
    /// No certificate, or no handshake with the sender.
    #[error("DTLS: {0}")]
    Dtls(#[from] ringbridge_controlplane::transport::DtlsError),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Publish { id: usize, sdp: String },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Answer { id: usize, sdp: String },
    Recorded { packets: usize, undecryptable: usize, streams: BTreeMap<u32, Stream> },
}

/// What was recorded of one SSRC.
#[derive(Debug, Default, Serialize)]
struct Stream {
    payload_type: u8,
    packets: usize,
}

/// Records and writes the file; false when a packet could not be decrypted.
pub fn run(args: &RecordArgs) -> Result<bool, RecordError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| RecordError::Io { what, source }
    };
    let socket = UdpSocket::bind((args.address, 0)).map_err(failed(&format!("cannot bind {}", args.address)))?;
    socket.set_read_timeout(Some(TICK)).map_err(failed("cannot set a timeout"))?;
    let Ok(SocketAddr::V4(address)) = socket.local_addr() else { return Err(RecordError::Silence("no address")) };
    let certificate = Certificate::generate()?;
    let mut client = Client::new(address);

    let (id, offer) = offer(&lines())?;
    let remote = sdp::parse(&offer)?;
    let (ufrag, pwd) = client.credentials();
    let video = number_of_video(&remote);
    let local = Local { ufrag: &ufrag, pwd: &pwd, address, fingerprint: certificate.fingerprint() };
    say(&Reply::Answer { id, sdp: answer(&local, &remote, &offer, args.bitrate) })?;
    client.set_remote(remote, false);

    let mut recording = Recording::default();
    let keyframes = (args.keyframes > 0).then(|| Duration::from_millis(args.keyframes));
    let keyframes = Keyframes { every: keyframes, next: None, payload_type: video };
    receive(&socket, &mut client, &certificate, Duration::from_secs_f64(args.seconds), &mut recording, keyframes)?;
    let file = args.file.display();
    std::fs::write(&args.file, &recording.dump).map_err(failed(&format!("cannot write {file}")))?;
    let Recording { packets, undecryptable, streams, .. } = recording;
    say(&Reply::Recorded { packets, undecryptable, streams })?;
    Ok(undecryptable == 0)
}

fn say(reply: &Reply) -> Result<(), RecordError> {
    let line = serde_json::to_string(reply).unwrap_or_default();
    writeln!(io::stdout(), "{line}").map_err(|source| RecordError::Io { what: "cannot answer".into(), source })
}

fn lines() -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn offer(lines: &Receiver<String>) -> Result<(usize, String), RecordError> {
    let line = lines.recv_timeout(PATIENCE).map_err(|_| RecordError::Silence("nobody offered anything"))?;
    match serde_json::from_str(&line) {
        Ok(Request::Publish { id, sdp }) => Ok((id, sdp)),
        Err(_) => Err(RecordError::Request(line)),
    }
}

/// Takes everything as offered, simulcast included (RFC 8853), and asks for a bit rate.
fn answer(local: &Local<'_>, remote: &Remote, offer: &str, bitrate: u64) -> String {
    let kilobits = bitrate / 1000;
    let rate = format!("x-google-start-bitrate={kilobits};x-google-min-bitrate={kilobits}");
    let mut video = String::new();
    for line in offer.lines().map(str::trim_end) {
        if let Some(id) = line.strip_prefix("a=rid:").and_then(|rest| rest.split(' ').next()) {
            let _ = write!(video, "a=rid:{id} recv\r\n");
        } else if let Some(layers) = line.strip_prefix("a=simulcast:send ") {
            let _ = write!(video, "a=simulcast:recv {layers}\r\n");
        }
    }
    let mut remote = remote.clone();
    for section in remote.sections.iter_mut().filter(|section| section.media == "video") {
        // The first format is the one that will be sent.
        let Some(number) = section.formats.split(' ').nth(1) else { continue };
        let prefix = format!("fmtp:{number} ");
        match section.attributes.iter_mut().find(|attribute| attribute.starts_with(&prefix)) {
            Some(parameters) => *parameters = format!("{parameters};{rate}"),
            None => section.attributes.push(format!("{prefix}{rate}")),
        }
    }
    // The video section is the last one of what tools/record offers; its lines may stand anywhere in it.
    let mut text = sdp::answer(local, &remote) + &video;
    // Without it a dependency descriptor with a structure of three spatial layers does not fit a packet (RFC 8285).
    if offer.contains("a=extmap-allow-mixed")
        && let Some(media) = text.find("m=")
    {
        text.insert_str(media, "a=extmap-allow-mixed\r\n");
    }
    text
}

/// The payload type that video will come in: the first one of its section.
fn number_of_video(remote: &Remote) -> Option<u8> {
    let section = remote.sections.iter().find(|section| section.media == "video")?;
    section.formats.split(' ').nth(1)?.parse().ok()
}

/// When to ask for keyframes.
struct Keyframes {
    every: Option<Duration>,
    next: Option<Instant>,
    payload_type: Option<u8>,
}

impl Keyframes {
    /// Sends what is due.
    fn ask(&mut self, now: Instant, socket: &UdpSocket, client: &mut Client, streams: &BTreeMap<u32, Stream>) {
        let (Some(every), Some(srtp), Some(bridge)) = (self.every, &mut client.srtp, client.bridge) else { return };
        if *self.next.get_or_insert(now + every) > now {
            return;
        }
        self.next = Some(now + every);
        let video = streams.iter().filter(|(_, stream)| Some(stream.payload_type) == self.payload_type);
        for (ssrc, _) in video {
            let mut packet = [0; 128];
            let sealed = build::pli(Ssrc::new(1), Ssrc::new(*ssrc), &mut packet)
                .and_then(|len| srtp.seal.seal_rtcp(&mut packet, len).ok());
            // One that is lost is asked for again.
            let _ = sealed.map(|len| socket.send_to(packet.get(..len).unwrap_or(&[]), bridge));
        }
    }
}

/// An rtpdump file in the making (the format of rtptools).
struct Recording {
    dump: Vec<u8>,
    packets: usize,
    undecryptable: usize,
    streams: BTreeMap<u32, Stream>,
}

impl Default for Recording {
    fn default() -> Self {
        let mut dump = b"#!rtpplay1.0 127.0.0.1/5000\n".to_vec();
        dump.extend([0; 16]);
        Self { dump, packets: 0, undecryptable: 0, streams: BTreeMap::new() }
    }
}

impl Recording {
    /// Adds a plain RTP packet, `at` after the first.
    fn push(&mut self, at: Duration, packet: &[u8]) {
        let (Ok(record), Ok(len)) = (u16::try_from(packet.len() + 8), u16::try_from(packet.len())) else { return };
        self.dump.extend(record.to_be_bytes());
        self.dump.extend(len.to_be_bytes());
        self.dump.extend((at.as_millis() as u32).to_be_bytes());
        self.dump.extend(packet);
        self.packets += 1;
        if let [_, second, _, _, _, _, _, _, a, b, c, d, ..] = *packet {
            let stream = self.streams.entry(u32::from_be_bytes([a, b, c, d])).or_default();
            (stream.payload_type, stream.packets) = (second & 0x7f, stream.packets + 1);
        }
    }
}

fn receive(
    socket: &UdpSocket,
    client: &mut Client,
    certificate: &Certificate,
    length: Duration,
    recording: &mut Recording,
    mut keyframes: Keyframes,
) -> Result<(), RecordError> {
    let failed = |source| RecordError::Io { what: "the socket failed".into(), source };
    let started = Instant::now();
    let mut first = None;
    // Media that overtakes the end of the handshake.
    let mut early: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = [0; 2048];
    loop {
        let now = Instant::now();
        match first {
            None if now.duration_since(started) > PATIENCE => {
                return Err(RecordError::Silence("the sender sent no media"));
            }
            Some(first) if now.duration_since(first) > length => return Ok(()),
            _ => {}
        }
        client.handle_timeout(now, certificate);
        if let Some(error) = client.failure.take() {
            return Err(error.into());
        }
        while let Some((to, datagram)) = client.poll_transmit() {
            socket.send_to(&datagram, to).map_err(failed)?;
        }
        match socket.recv_from(&mut buffer) {
            Ok((len, SocketAddr::V4(from))) => {
                let (now, datagram) = (Instant::now(), &buffer[..len]);
                match datagram {
                    // RFC 7983, RFC 5761: RTP, not RTCP.
                    [128..=191, second, ..] if !(192..=223).contains(second) => {
                        if early.len() < EARLY {
                            early.push_back((now, datagram.to_vec()));
                        }
                    }
                    [128..=191, ..] => {}
                    _ => client.handle_datagram(now, from, datagram),
                }
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(failed(error)),
        }
        keyframes.ask(now, socket, client, &recording.streams);
        let Some(srtp) = &mut client.srtp else { continue };
        for (at, datagram) in early.drain(..) {
            match srtp.open.decrypt_rtp(&datagram) {
                Ok(plain) => recording.push(at.duration_since(*first.get_or_insert(at)), &plain),
                Err(_) => recording.undecryptable += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;
    use crate::media::{Codec, Track, capture};

    #[test]
    fn what_was_recorded_can_be_played() {
        let mut recording = Recording::default();
        let packet = |sequence: u8| [0x80, 96, 0, sequence, 0, 0, 0, sequence, 0, 0, 0, 7, 1, 2, 3];
        recording.push(Duration::ZERO, &packet(1));
        recording.push(Duration::from_millis(40), &packet(2));
        assert_eq!((recording.packets, recording.streams[&7].packets), (2, 2));
        let path = std::env::temp_dir().join(format!("ringbridge-record-{}", std::process::id()));
        std::fs::write(&path, &recording.dump).unwrap();
        let mut tracks = capture::read(&path, &BTreeMap::from([(96, Codec::Vp8)])).unwrap().into_tracks();
        std::fs::remove_file(&path).unwrap();
        let mut payload = Vec::new();
        tracks[0].next(&mut payload);
        assert_eq!(payload, [1, 2, 3]);
        assert_eq!(tracks[0].next_due(), Duration::from_millis(40));
    }

    #[test]
    fn the_answer_takes_all_layers_and_asks_for_a_rate() {
        let local = Local {
            ufrag: "abcd",
            pwd: "0123456789012345678901",
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5000),
            fingerprint: "AB:CD",
        };
        let offer = "v=0\r\na=extmap-allow-mixed\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\na=fingerprint:sha-256 AA\r\na=setup:actpass\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=mid:0\r\n\
            a=rtpmap:96 VP8/90000\r\na=rid:0 send\r\na=rid:1 send\r\na=simulcast:send 0;1\r\n";
        let text = answer(&local, &sdp::parse(offer).unwrap(), offer, 2_500_000);
        for line in [
            "a=extmap-allow-mixed",
            "a=rid:0 recv",
            "a=rid:1 recv",
            "a=simulcast:recv 0;1",
            "x-google-min-bitrate=2500",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
