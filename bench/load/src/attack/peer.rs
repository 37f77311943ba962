//! ICE (controlled, one pair), DTLS (as client) and the sealing of what is sent. No I/O.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::distr::{Alphanumeric, SampleString};
use ring::hmac;
use ringbridge_controlplane::transport::{Certificate, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};
use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::srtp::Sealer;
use serde_json::{Value, json};

/// Time between two of our checks.
const CHECK: Duration = Duration::from_millis(500);
/// Largest sealed packet.
const LARGEST: usize = 65_500;
/// Priority of a peer-reflexive candidate.
const PRIORITY: u32 = 1_853_824_767;

/// What happened, or is to be sent.
#[derive(Debug)]
pub enum Event {
    /// Send this datagram.
    Send(Vec<u8>),
    /// The handshake is complete.
    Connected,
    /// The handshake failed.
    Failed(String),
}

/// One session with a bridge.
pub struct Peer {
    ufrag: String,
    own_key: hmac::Key,
    own_password: String,
    remote_key: hmac::Key,
    username: String,
    fingerprint: String,
    dtls: DtlsSession,
    started: bool,
    silent: bool,
    next_check: Instant,
    sealer: Option<Sealer>,
    /// Rollover counter and last sequence number by SSRC.
    rollovers: HashMap<u32, (u32, u16)>,
    events: VecDeque<Event>,
    buffer: Vec<u8>,
}

impl Peer {
    /// A session with the bridge that offered these credentials.
    pub fn new(now: Instant, ufrag: &str, password: &str, fingerprint: &str) -> Result<Self, String> {
        let certificate = Certificate::generate().map_err(|error| error.to_string())?;
        let signalled = vec![Fingerprint { hash: "sha-256".into(), value: fingerprint.to_owned() }];
        let dtls = DtlsSession::new(now, &certificate, DtlsRole::Client, signalled).map_err(|e| e.to_string())?;
        let own = Alphanumeric.sample_string(&mut rand::rng(), 8);
        let own_password = Alphanumeric.sample_string(&mut rand::rng(), 24);
        Ok(Self {
            username: format!("{ufrag}:{own}"),
            ufrag: own,
            own_key: integrity_key(&own_password),
            own_password,
            remote_key: integrity_key(password),
            fingerprint: certificate.fingerprint().to_owned(),
            dtls,
            started: false,
            silent: false,
            next_check: now,
            sealer: None,
            rollovers: HashMap::new(),
            events: VecDeque::new(),
            buffer: Vec::new(),
        })
    }

    /// Our own credentials, for the answer.
    pub fn credentials(&self) -> Value {
        json!({ "ufrag": self.ufrag, "password": self.own_password, "fingerprint": self.fingerprint })
    }

    /// A check at once, for an address that is new.
    pub fn check_now(&mut self, now: Instant) {
        self.next_check = now;
    }

    /// Neither checks nor answers from now on.
    pub fn silence(&mut self) {
        self.silent = true;
    }

    /// Takes a datagram of the bridge.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        match datagram.first() {
            Some(0..=3) => self.handle_stun(now, from, datagram),
            Some(20..=63) => {
                self.dtls.handle_datagram(now, datagram);
                self.drain();
            }
            _ => {}
        }
    }

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else { return };
        match message.class() {
            Class::Request if !self.silent && message.verify(&self.own_key) => {
                let mut answer = [0; 256];
                let writer = Writer::new(&mut answer, Class::Success, &message.transaction()).mapped(from);
                if let Some(length) = writer.finish(&self.own_key) {
                    self.events.push_back(Event::Send(answer[..length].to_vec()));
                }
            }
            // DTLS begins when a check was answered: before, the bridge does not know our address.
            Class::Success if !self.started && message.verify(&self.remote_key) => {
                self.started = true;
                self.dtls.handle_timeout(now);
                self.drain();
            }
            _ => {}
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.silent && now >= self.next_check {
            self.next_check = now + CHECK;
            let mut check = [0; 256];
            let writer = Writer::new(&mut check, Class::Request, &rand::random())
                .username(self.username.as_bytes())
                .priority(PRIORITY)
                .role(false, 1);
            if let Some(length) = writer.finish(&self.remote_key) {
                self.events.push_back(Event::Send(check[..length].to_vec()));
            }
        }
        if self.started && self.dtls.poll_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while self.started {
            match self.dtls.poll_output() {
                Some(DtlsOutput::Datagram(datagram)) => self.events.push_back(Event::Send(datagram)),
                Some(DtlsOutput::Connected(keys)) => {
                    self.sealer = Some(Sealer::new(&keys.outbound, keys.profile));
                    self.events.push_back(Event::Connected);
                }
                Some(DtlsOutput::ApplicationData(_)) => {}
                Some(DtlsOutput::Failed(error)) => self.events.push_back(Event::Failed(error.to_string())),
                None => return,
            }
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends application data.
    pub fn send_data(&mut self, now: Instant, data: &[u8]) {
        self.dtls.send(now, data);
        self.drain();
    }

    /// Seals an RTP packet; nothing before there are keys, or when it has no header.
    pub fn seal_rtp(&mut self, packet: &[u8]) -> Option<&[u8]> {
        let sealer = self.sealer.as_ref()?;
        let header = packet.first_chunk::<12>()?;
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let (roc, last) = self.rollovers.entry(ssrc).or_insert((0, sequence));
        if sequence < *last && *last - sequence > 0x8000 {
            *roc += 1;
        }
        *last = sequence;
        self.buffer.clear();
        self.buffer.extend_from_slice(packet);
        self.buffer.resize((packet.len() + 64).min(LARGEST), 0);
        let sealed = sealer.seal_rtp(&mut self.buffer, header_length(packet), packet.len(), *roc).ok()?;
        self.buffer.get(..sealed)
    }

    /// Seals an RTCP packet; nothing before there are keys, or when it has no header.
    pub fn seal_rtcp(&mut self, packet: &[u8]) -> Option<&[u8]> {
        let sealer = self.sealer.as_mut()?;
        self.buffer.clear();
        self.buffer.extend_from_slice(packet);
        self.buffer.resize((packet.len() + 64).min(LARGEST), 0);
        let sealed = sealer.seal_rtcp(&mut self.buffer, packet.len()).ok()?;
        self.buffer.get(..sealed)
    }
}

/// Length of an RTP header (RFC 3550 section 5.1); all of the packet when it claims to be longer.
fn header_length(packet: &[u8]) -> usize {
    let csrcs = usize::from(packet[0] & 0x0f) * 4;
    let extension = match packet.get(12 + csrcs..16 + csrcs) {
        Some(head) if packet[0] & 0x10 != 0 => 4 + usize::from(u16::from_be_bytes([head[2], head[3]])) * 4,
        _ => 0,
    };
    (12 + csrcs + extension).min(packet.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_and_without_extension() {
        let mut packet = [0u8; 40];
        packet[0] = 0x80;
        assert_eq!(header_length(&packet), 12);
        packet[0] = 0x92;
        packet[23] = 2;
        assert_eq!(header_length(&packet), 32);
        packet[23] = 200;
        assert_eq!(header_length(&packet), 40);
    }

    #[test]
    fn checks_carry_both_ufrags_and_are_signed() {
        let now = Instant::now();
        let mut peer = Peer::new(now, "theirs", "secret", "AA:BB").expect("a peer");
        peer.handle_timeout(now);
        let Some(Event::Send(check)) = peer.poll() else { panic!("a check") };
        let message = Message::parse(&check).expect("well-formed");
        assert!(message.verify(&integrity_key("secret")));
        assert_eq!(message.ufrags().map(|(ours, _)| ours), Some(&b"theirs"[..]));
        assert!(peer.seal_rtp(&[0x80; 20]).is_none(), "no keys yet");
        peer.silence();
        peer.handle_timeout(now + CHECK);
        assert!(peer.poll().is_none());
    }
}
