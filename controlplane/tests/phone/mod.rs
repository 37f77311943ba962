//! A participant without a browser: ICE (controlled, one pair), DTLS, SRTP over a UDP socket, packets with payloads that say whose
//! they are.

#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ringbridge_controlplane::colibri::elements as xml;
use ringbridge_controlplane::transport::{Certificate, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};
use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::srtp::{Opener, Sealer};

const CHECK: Duration = Duration::from_millis(200);
const NEVER: Duration = Duration::from_secs(86_400);
const PASSWORD: &str = "a-password-of-the-phone-of-the-test";

/// An RTP packet that arrived.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heard {
    pub payload_type: u8,
    pub ssrc: u32,
    /// The last bytes of the payload.
    pub says: String,
}

/// What came of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Sequence number of the first and of the last packet, as far as they rose.
    pub first: u16,
    pub last: u16,
    /// Packets.
    pub count: u64,
    /// When the last one came.
    pub at: Instant,
    /// Longest wait for a packet.
    pub longest: Duration,
}

impl Received {
    /// Packets that did not come.
    pub fn missing(&self) -> u64 {
        u64::from(self.last.wrapping_sub(self.first)) + 1 - self.count
    }
}

pub struct Phone {
    socket: UdpSocket,
    bridge: SocketAddr,
    ufrag: String,
    username: String,
    remote_password: String,
    certificate: Certificate,
    dtls: DtlsSession,
    started: bool,
    /// Nothing is sent a second time: what the bridge does not take is lost.
    pub patient: bool,
    /// Its handshake does not begin yet.
    pub holds: bool,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    next_check: Instant,
    /// Next of each source.
    sequences: BTreeMap<u32, u16>,
    pub heard: BTreeSet<Heard>,
    /// By SSRC.
    pub received: BTreeMap<u32, Received>,
}

impl Phone {
    /// Calls the bridge that offered this transport.
    pub fn new(name: &str, offered: &xml::IceTransport) -> Self {
        let candidate = &offered.candidates[0];
        let fingerprint = &offered.fingerprints[0];
        let certificate = Certificate::generate().expect("a certificate");
        let signalled = vec![Fingerprint { hash: fingerprint.hash.clone(), value: fingerprint.value.clone() }];
        let now = Instant::now();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_nonblocking(true).expect("non-blocking");
        Self {
            socket,
            bridge: SocketAddr::new(candidate.ip.parse().expect("an address"), candidate.port),
            username: format!("{}:{name}", offered.ufrag.as_deref().expect("a ufrag")),
            ufrag: name.to_owned(),
            remote_password: offered.pwd.clone().expect("a password"),
            dtls: DtlsSession::new(now, &certificate, DtlsRole::Client, signalled).expect("DTLS"),
            certificate,
            started: false,
            patient: false,
            holds: false,
            sealer: None,
            opener: None,
            next_check: now,
            sequences: BTreeMap::new(),
            heard: BTreeSet::new(),
            received: BTreeMap::new(),
        }
    }

    /// What signalling sends the bridge of it.
    pub fn transport(&self) -> xml::IceTransport {
        xml::IceTransport {
            ufrag: Some(self.ufrag.clone()),
            pwd: Some(PASSWORD.to_owned()),
            fingerprints: vec![xml::Fingerprint {
                hash: "sha-256".to_owned(),
                setup: Some(xml::Setup::Active),
                value: self.certificate.fingerprint().to_owned(),
            }],
            ..xml::IceTransport::default()
        }
    }

    pub fn is_connected(&self) -> bool {
        self.sealer.is_some()
    }

    /// Whether the bridge has answered a check.
    pub fn is_reached(&self) -> bool {
        self.started
    }

    /// Does what is due.
    pub fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.next_check {
            self.next_check = now + if self.patient { NEVER } else { CHECK };
            let mut check = [0; 256];
            let writer = Writer::new(&mut check, Class::Request, &rand::random())
                .username(self.username.as_bytes())
                .priority(1_853_824_767)
                .role(false, 1);
            let length = writer.finish(&integrity_key(&self.remote_password)).expect("room");
            self.send(&check[..length]);
        }
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            match buffer[0] {
                0..=3 => self.stun(now, from, &buffer[..length]),
                20..=63 => self.dtls.handle_datagram(now, &buffer[..length]),
                _ => self.media(&mut buffer[..length]),
            }
        }
        if self.started && !self.patient && self.dtls.poll_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
        }
        while let Some(output) = (self.started && !self.holds).then(|| self.dtls.poll_output()).flatten() {
            match output {
                DtlsOutput::Datagram(datagram) => self.send(&datagram),
                DtlsOutput::Connected(keys) => {
                    self.sealer = Some(Sealer::new(&keys.outbound, keys.profile));
                    self.opener = Some(Opener::new(&keys.inbound, keys.profile));
                }
                DtlsOutput::ApplicationData(_) => {}
                DtlsOutput::Failed(error) => panic!("{}: {error}", self.ufrag),
            }
        }
    }

    fn stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else { return };
        match message.class() {
            Class::Request if message.verify(&integrity_key(PASSWORD)) => {
                let mut answer = [0; 256];
                let writer = Writer::new(&mut answer, Class::Success, &message.transaction()).mapped(from);
                let length = writer.finish(&integrity_key(PASSWORD)).expect("room");
                self.send(&answer[..length]);
            }
            Class::Success if !self.started => {
                self.started = true;
                self.dtls.handle_timeout(now);
            }
            _ => {}
        }
    }

    fn media(&mut self, packet: &mut [u8]) {
        let Some(opener) = &mut self.opener else { return };
        // RTCP (RFC 5761 section 4) is of no interest.
        if packet.len() < 24 || (192..=223).contains(&packet[1]) {
            return;
        }
        let csrcs = usize::from(packet[0] & 0x0f) * 4;
        let extension = match packet[0] & 0x10 {
            0 => 0,
            _ => 4 + 4 * usize::from(u16::from_be_bytes([packet[14 + csrcs], packet[15 + csrcs]])),
        };
        let header = 12 + csrcs + extension;
        let opened = opener.open_rtp(packet, header).expect("ours");
        let payload = &packet[header..opened.len];
        let says = String::from_utf8_lossy(&payload[payload.len().saturating_sub(8)..]).into_owned();
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let (number, now) = (u16::from_be_bytes([packet[2], packet[3]]), Instant::now());
        let first = Received { first: number, last: number, count: 0, at: now, longest: Duration::ZERO };
        let received = self.received.entry(ssrc).or_insert(first);
        received.last = if number.wrapping_sub(received.last) < 0x8000 { number } else { received.last };
        received.count += 1;
        received.longest = received.longest.max(now - received.at);
        received.at = now;
        self.heard.insert(Heard { payload_type: packet[1] & 0x7f, ssrc, says });
    }

    /// Sends one packet whose payload ends with `says`, eight letters.
    pub fn say(&mut self, payload_type: u8, ssrc: u32, head: &[u8], says: &str) {
        let Some(sealer) = &self.sealer else { return };
        let mut packet = vec![0x80, payload_type | 0x80, 0, 0, 0, 0, 0, 0];
        let next = self.sequences.entry(ssrc).or_insert(1);
        packet[2..4].copy_from_slice(&next.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(*next) * 960).to_be_bytes());
        *next = next.wrapping_add(1);
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend_from_slice(head);
        packet.extend_from_slice(says.as_bytes());
        let length = packet.len();
        packet.resize(length + 64, 0);
        let sealed = sealer.seal_rtp(&mut packet, 12, length, 0).expect("room");
        self.send(&packet[..sealed]);
    }

    fn send(&self, datagram: &[u8]) {
        let _ = self.socket.send_to(datagram, self.bridge);
    }
}
