//! DTLS: a client and our server, and somebody in between who changes, repeats, drops and invents datagrams.
//!
//! Fed: who has which fingerprint, then what becomes of each datagram, and time.
//! Held: nothing panics; a session is reported connected once at most, only to a peer with the signalled fingerprint, and both
//! sides then have the same keys; application data comes out as it went in; after a failure nothing follows; without success
//! it fails in 30 s; timers advance; one datagram causes a bounded number of others.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ringbridge_controlplane::transport::{Certificate, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};
use ringbridge_dataplane::srtp::SrtpKeys;

use crate::input::Input;

/// Datagrams that one may cause: a flight of a handshake, and its repetition.
const MOST_FOR_ONE: usize = 40;

fn certificates() -> &'static [Certificate; 3] {
    static CERTIFICATES: OnceLock<[Certificate; 3]> = OnceLock::new();
    CERTIFICATES.get_or_init(|| std::array::from_fn(|_| Certificate::generate().expect("a certificate")))
}

struct Side {
    session: DtlsSession,
    keys: Option<SrtpKeys>,
    failed: bool,
    /// What it sent and nobody has taken yet.
    out: VecDeque<Vec<u8>>,
    heard: Vec<Vec<u8>>,
}

impl Side {
    fn new(now: Instant, own: usize, role: DtlsRole, peer: usize) -> Self {
        let [server, client, other] = certificates();
        let of = |index| [server, client, other][index];
        let fingerprint = Fingerprint { hash: "sha-256".to_owned(), value: of(peer).fingerprint().to_owned() };
        let session = DtlsSession::new(now, of(own), role, vec![fingerprint]).expect("a session");
        Self { session, keys: None, failed: false, out: VecDeque::new(), heard: Vec::new() }
    }

    fn settle(&mut self) {
        let mut sent = 0;
        while let Some(output) = self.session.poll_output() {
            assert!(!self.failed, "{output:?} after a failure");
            match output {
                DtlsOutput::Datagram(datagram) => {
                    sent += 1;
                    assert!(sent <= MOST_FOR_ONE, "{sent} datagrams at once");
                    assert!(datagram.len() <= 1_500);
                    // What nobody takes is lost.
                    if self.out.len() < 64 {
                        self.out.push_back(datagram);
                    }
                }
                DtlsOutput::Connected(keys) => assert!(self.keys.replace(keys).is_none(), "connected twice"),
                DtlsOutput::ApplicationData(data) => self.heard.push(data),
                DtlsOutput::Failed(_) => self.failed = true,
            }
        }
    }

    fn take(&mut self, now: Instant, datagram: &[u8]) {
        self.session.handle_datagram(now, datagram);
        self.settle();
    }

    fn pass(&mut self, from: Instant, until: Instant) {
        let (mut turns, mut now) = (0, from);
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= until) {
            turns += 1;
            assert!(turns <= 500, "timers of a session do not advance");
            now = now.max(due);
            self.session.handle_timeout(now);
            self.settle();
        }
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let mut now = Instant::now();
    let right = flags & 1 == 0;
    // Ours is the server; its peer is who signalling said, or somebody else.
    let mut ours = Side::new(now, 0, DtlsRole::Server, 1);
    let mut theirs = Side::new(now, if right { 1 } else { 2 }, DtlsRole::Client, 0);
    ours.settle();
    theirs.settle();
    let mut said: Vec<Vec<u8>> = Vec::new();
    let mut steps = 0;
    while !input.is_empty() && steps < 100 {
        steps += 1;
        let what = input.u8();
        let up = what & 0x80 == 0;
        let (from, to) = if up { (&mut theirs, &mut ours) } else { (&mut ours, &mut theirs) };
        match what & 0x7f {
            // What a network does.
            0..=15 => {
                for _ in 0..=what & 3 {
                    let Some(datagram) = from.out.pop_front() else { break };
                    to.take(now, &datagram);
                }
            }
            16 => drop(from.out.pop_front()),
            17 => from.out.iter().cloned().collect::<Vec<_>>().iter().for_each(|datagram| to.take(now, datagram)),
            18 => from.out.rotate_left(usize::from(from.out.len() > 1)),
            // What somebody in between does.
            19..=40 => {
                let Some(mut datagram) = from.out.pop_front() else { continue };
                for _ in 0..=what & 3 {
                    let at = usize::from(input.u16()) % datagram.len().max(1);
                    if let Some(byte) = datagram.get_mut(at) {
                        *byte ^= input.u8();
                    }
                }
                to.take(now, &datagram);
            }
            41 => {
                let Some(mut datagram) = from.out.pop_front() else { continue };
                datagram.truncate(usize::from(input.u16()) % datagram.len().max(1));
                to.take(now, &datagram);
            }
            42 => {
                let Some(mut datagram) = from.out.pop_front() else { continue };
                datagram.extend(input.long_bytes(1_000));
                to.take(now, &datagram);
            }
            43..=60 => to.take(now, input.long_bytes(1_500)),
            61..=70 => {
                let later = now + Duration::from_millis(u64::from(input.u16()) % 2_000);
                ours.pass(now, later);
                theirs.pass(now, later);
                now = later;
            }
            71..=80 => {
                let text = input.bytes().to_vec();
                if !text.is_empty() {
                    from.session.send(now, &text);
                    from.settle();
                    said.push(text);
                }
            }
            _ => {
                // Until nobody has anything to say.
                for _ in 0..20 {
                    while let Some(datagram) = theirs.out.pop_front() {
                        ours.take(now, &datagram);
                    }
                    while let Some(datagram) = ours.out.pop_front() {
                        theirs.take(now, &datagram);
                    }
                }
            }
        }
    }
    if let Some(keys) = &ours.keys {
        assert!(right, "connected to somebody whose fingerprint was not signalled");
        if let Some(others) = &theirs.keys {
            assert!(keys.inbound == others.outbound && keys.outbound == others.inbound, "both have the same keys");
        }
    }
    for heard in ours.heard.iter().chain(&theirs.heard) {
        assert!(said.contains(heard), "data that nobody said");
    }
    let later = now + Duration::from_secs(31);
    ours.pass(now, later);
    assert!(ours.keys.is_some() || ours.failed, "neither connected nor failed after 31 s");
}
