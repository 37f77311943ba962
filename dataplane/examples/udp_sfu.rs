//! A minimal SFU: one UDP socket, one conference, audio. It prints what a client needs to take part, a line each, and forwards.
//!
//! ```sh
//! cargo run --example udp_sfu -- 3
//! ```
//!
//! What a signalling server and a DTLS handshake would agree on is made up here and printed: ICE credentials of both sides, SRTP
//! keys of both directions, SSRC. A client sends ICE checks to the printed address, and then SRTP.

use std::error::Error;
use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use ringbridge_dataplane::datagram::{MAX_DATAGRAM, PacketSink, Path};
use ringbridge_dataplane::demux::ufrag_prefix;
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, PayloadType, Ssrc, WorkerId};
use ringbridge_dataplane::media::{CodecParameters, Encoding, Media, MediaKind, SourceDescription, VideoType};
use ringbridge_dataplane::messages::{Command, Event, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use ringbridge_dataplane::{Engine, EngineConfig};

const CONFERENCE: ConferenceId = ConferenceId(1);
/// How soon a stop is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// Everything that both sides have to know of a client.
pub struct Ticket {
    /// Its number.
    pub endpoint: EndpointId,
    /// What it sends on.
    pub ssrc: u32,
    /// Of the SFU, and of the client.
    pub ice: [IceCredentials; 2],
    /// Of both directions.
    pub keys: SrtpKeys,
}

impl Ticket {
    fn new(number: u32) -> Result<Self, Box<dyn Error>> {
        let credentials = |prefix: String| -> Result<_, Box<dyn Error>> {
            Ok(IceCredentials { ufrag: prefix + &hex(&random::<4>()?), pwd: hex(&random::<12>()?) })
        };
        let key = || -> Result<_, Box<dyn Error>> { Ok(MasterKey { key: random()?, salt: random()? }) };
        Ok(Self {
            endpoint: EndpointId(number),
            ssrc: u32::from_be_bytes(random()?),
            ice: [credentials(ufrag_prefix(WorkerId::new(0)).into())?, credentials(String::new())?],
            keys: SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: key()?, outbound: key()? },
        })
    }

    /// The commands that let the client in.
    fn commands(&self) -> Result<Vec<Command>, Box<dyn Error>> {
        let (endpoint, [ours, theirs]) = (self.endpoint, self.ice.clone());
        let label = endpoint.to_string();
        let new = NewEndpoint { conference: CONFERENCE, endpoint, label, ice: ours, controlling: true };
        let opus = CodecParameters {
            payload_type: PayloadType::new(111).ok_or("a payload type has 7 bits")?,
            kind: MediaKind::Audio,
            name: "opus".into(),
            clock_rate: 48_000,
            channels: 2,
            parameters: Vec::new(),
            feedback: Vec::new(),
        };
        let microphone = SourceDescription {
            name: format!("{endpoint}-a0"),
            kind: MediaKind::Audio,
            video_type: VideoType::None,
            encodings: vec![Encoding { ssrc: Ssrc::new(self.ssrc), rtx: None }],
        };
        Ok(vec![
            Command::CreateEndpoint(Box::new(new)),
            Command::SetMedia { endpoint, media: Box::new(Media { codecs: vec![opus], ..Media::default() }) },
            Command::SetSources { endpoint, sources: vec![microphone] },
            Command::SetSrtp { endpoint, keys: Box::new(self.keys.clone()) },
            Command::SetRemoteIce { endpoint, credentials: Some(theirs), candidates: Vec::new() },
        ])
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, theirs] = &self.ice;
        let key = |master: &MasterKey| hex(&master.key[..16]) + &hex(&master.salt[..12]);
        write!(f, "{} ssrc {} remote {}:{}", self.endpoint, self.ssrc, ours.ufrag, ours.pwd)?;
        write!(f, " local {}:{}", theirs.ufrag, theirs.pwd)?;
        write!(f, " send {} receive {}", key(&self.keys.inbound), key(&self.keys.outbound))
    }
}

fn random<const N: usize>() -> Result<[u8; N], Box<dyn Error>> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "this host has no random numbers")?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends each datagram as it is committed.
struct Sender<'a> {
    socket: &'a UdpSocket,
    slot: [u8; MAX_DATAGRAM],
}

impl PacketSink for Sender<'_> {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize, path: Path) {
        if let Err(error) = self.socket.send_to(&self.slot[..len], path.remote) {
            eprintln!("cannot send to {}: {error}", path.remote);
        }
    }
}

/// An SFU with room for some clients.
pub struct Sfu {
    socket: UdpSocket,
    engine: Engine,
    /// One for each client.
    pub tickets: Vec<Ticket>,
}

impl Sfu {
    /// Binds the socket and makes a ticket for each client.
    pub fn bind(address: SocketAddr, clients: u32) -> Result<Self, Box<dyn Error>> {
        let socket = UdpSocket::bind(address)?;
        let config = EngineConfig::new([socket.local_addr()?]);
        let mut engine = Engine::new(config, Arc::new(WorkerStats::default()));
        let tickets = (1..=clients).map(Ticket::new).collect::<Result<Vec<_>, _>>()?;
        let (mut sender, now) = (Sender { socket: &socket, slot: [0; MAX_DATAGRAM] }, Instant::now());
        let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
        engine.handle_command(now, Command::CreateConference { conference: CONFERENCE, feedback }, &mut sender)?;
        for ticket in &tickets {
            let commands = ticket.commands()?;
            commands.into_iter().try_for_each(|command| engine.handle_command(now, command, &mut sender))?;
        }
        Ok(Self { socket, engine, tickets })
    }

    /// Where clients send to.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Forwards until `stop`; returns how many packets it forwarded.
    pub fn run(mut self, stop: &AtomicBool) -> Result<u64, Box<dyn Error>> {
        let mut sender = Sender { socket: &self.socket, slot: [0; MAX_DATAGRAM] };
        let mut datagram = [0; MAX_DATAGRAM];
        while !stop.load(Ordering::Relaxed) {
            let due = self.engine.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
            let wait = due.unwrap_or(LONGEST_WAIT).clamp(Duration::from_millis(1), LONGEST_WAIT);
            self.socket.set_read_timeout(Some(wait))?;
            // What goes wrong is the end of the wait, or what ICMP says of a client that left.
            if let Ok((len, remote)) = self.socket.recv_from(&mut datagram) {
                let path = Path { local: 0, remote };
                self.engine.handle_datagram(Instant::now(), path, &mut datagram[..len], &mut sender);
            }
            self.engine.handle_timeout(Instant::now(), &mut sender);
            while let Some(event) = self.engine.poll_event() {
                if let Event::Ice { endpoint, state, remote, .. } = event {
                    eprintln!("{endpoint}: {state:?} {}", remote.map(|r| r.to_string()).unwrap_or_default());
                }
            }
        }
        Ok(self.engine.stats().get(Counter::PacketsForwarded))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let clients = std::env::args().nth(1).map_or(Ok(2), |count| count.parse())?;
    let sfu = Sfu::bind("127.0.0.1:0".parse()?, clients)?;
    println!("listening on {}", sfu.address()?);
    sfu.tickets.iter().for_each(|ticket| println!("{ticket}"));
    sfu.run(&AtomicBool::new(false)).map(drop)
}
