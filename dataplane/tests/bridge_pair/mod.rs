//! Two bridges of an engine each, and the network between them, in virtual time.
#![allow(dead_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::ice::{IceCredentials, IceState, RemoteCandidate};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId, Ssrc};
use ringbridge_dataplane::io::{LocalSocket, MAX_DATAGRAM, PacketSink, Path};
use ringbridge_dataplane::messages::{Command, Event, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use ringbridge_dataplane::{CommandError, Engine, EngineConfig};

/// Which port a relay uses on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// That of all.
    Shared,
    /// One of its own.
    Own,
}

/// What lies in front of side 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Its addresses are reached as they are.
    None,
    /// A NAT: own ports get another address and port outside, and only answers come back in.
    OwnPorts,
}

/// Whether another engine takes over after every step, by nothing but what the one before wrote: where whole suites run that way.
const HANDS_OVER: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"forward_handover");

/// The first index of sockets that are handed over.
pub const HANDED: u16 = 300;
/// Where the bridges are.
const HOSTS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
/// Outside of the NAT.
const PUBLIC: [u8; 4] = [203, 0, 113, 1];

struct Sink(Vec<u8>, Vec<(Path, Vec<u8>)>);

impl PacketSink for Sink {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.0)
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.1.push((path, self.0[..len].to_vec()));
    }
}

/// One bridge.
pub struct Side {
    pub engine: Engine,
    stats: Arc<WorkerStats>,
    /// Addresses by index; those that are handed over count up.
    sockets: HashMap<u16, SocketAddr>,
    sink: Sink,
    pub events: Vec<Event>,
    /// The latest state of ICE of each relay.
    pub states: HashMap<EndpointId, IceState>,
    activity: HashMap<EndpointId, bool>,
    given: HashMap<EndpointId, u16>,
    /// Sockets that the engine gave back.
    pub closed: Vec<u16>,
}

impl Side {
    fn new(host: [u8; 4]) -> Self {
        let shared: SocketAddr = (host, 10_000).into();
        let stats = Arc::new(WorkerStats::default());
        Self {
            engine: Engine::new(EngineConfig::new([shared]), stats.clone()),
            stats,
            sockets: [(0, shared)].into(),
            sink: Sink(vec![0; MAX_DATAGRAM], Vec::new()),
            events: Vec::new(),
            states: HashMap::new(),
            activity: HashMap::new(),
            given: HashMap::new(),
            closed: Vec::new(),
        }
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    pub fn state(&self, relay: EndpointId) -> Option<IceState> {
        self.states.get(&relay).copied()
    }

    pub fn active(&self, relay: EndpointId) -> Option<bool> {
        self.activity.get(&relay).copied()
    }

    pub fn lost(&self, relay: EndpointId) -> bool {
        self.state(relay) == Some(IceState::Disconnected)
    }

    /// Gives so many sockets to a relay that is about to be created.
    pub fn give_sockets(&mut self, relay: EndpointId, count: usize) -> Result<(), CommandError> {
        let mut given = Vec::new();
        for _ in 0..count {
            let local = (HANDED + 1..).find(|local| !self.sockets.contains_key(local)).unwrap();
            let address = SocketAddr::new(self.sockets[&0].ip(), 40_000 + local);
            self.sockets.insert(local, address);
            given.push(LocalSocket { local, address });
        }
        let result = self.engine.give_sockets(relay, &given);
        if result.is_ok() && count > 0 {
            self.given.insert(relay, given[0].local);
        }
        self.take_news();
        result
    }

    /// The index of the first socket that a relay was given.
    pub fn socket_of(&self, relay: EndpointId) -> u16 {
        self.given[&relay]
    }

    pub fn address(&self, local: u16) -> SocketAddr {
        self.sockets[&local]
    }

    /// Another engine takes its place, and knows what it wrote as bytes.
    fn hand_over(&mut self, now: Instant) {
        let state = self.engine.export(now).expect("a state is written");
        self.stats = Arc::default();
        let config = EngineConfig::new([self.sockets[&0]]);
        self.engine = Engine::import(config, &state, self.stats.clone(), now).expect("a state is read");
        assert_eq!(self.engine.export(now).expect("and written again"), state, "what was read is not what was written");
    }

    fn take_news(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match &event {
                Event::Ice { endpoint, state, .. } => drop(self.states.insert(*endpoint, *state)),
                Event::Activity { endpoint, active } => drop(self.activity.insert(*endpoint, *active)),
                _ => {}
            }
            self.events.push(event);
        }
        while let Some(local) = self.engine.poll_closed_socket() {
            self.sockets.remove(&local).expect("closed once");
            self.closed.push(local);
        }
    }
}

/// A participant of one bridge: answers checks, and keeps what else comes.
pub struct Client {
    pub side: usize,
    pub endpoint: EndpointId,
    pub address: SocketAddr,
    pub inbox: Vec<Vec<u8>>,
}

impl Client {
    fn credentials(&self) -> IceCredentials {
        IceCredentials { ufrag: format!("client{}", self.endpoint.0), pwd: format!("password{}", self.endpoint.0) }
    }

    /// Takes a datagram; the answer.
    fn hear(&mut self, from: SocketAddr, data: Vec<u8>) -> Option<Vec<u8>> {
        let Ok(message) = Message::read_unchecked(&data) else {
            self.inbox.push(data);
            return None;
        };
        if message.class() != Class::Request {
            return None;
        }
        let mut buffer = vec![0; 200];
        let writer = Writer::new(&mut buffer, Class::Success, &message.transaction()).mapped(from);
        let len = writer.finish(&integrity_key(&self.credentials().pwd)).unwrap();
        buffer.truncate(len);
        Some(buffer)
    }
}

/// Both, and what lies between them.
pub struct Bridges {
    pub now: Instant,
    pub sides: [Side; 2],
    /// Whether what a side sends is lost.
    pub cut: [bool; 2],
    /// All that was sent, by whom, and lost or not.
    pub sent: Vec<(usize, Path, Vec<u8>)>,
    pub clients: Vec<Client>,
    mapping: Mapping,
    /// Ports outside of the NAT, by what is inside.
    mapped: HashMap<SocketAddr, SocketAddr>,
}

/// Those of a relay on a side.
pub fn credentials(side: usize, relay: EndpointId) -> IceCredentials {
    IceCredentials { ufrag: format!("0side{side}relay{}", relay.0), pwd: format!("password{side}of{}", relay.0) }
}

impl Bridges {
    pub fn new(mapping: Mapping) -> Self {
        let sides = HOSTS.map(Side::new);
        Self {
            now: Instant::now(),
            sides,
            cut: [false; 2],
            sent: Vec::new(),
            clients: Vec::new(),
            mapping,
            mapped: HashMap::new(),
        }
    }

    /// Creates a relay in a conference of its own on both sides, under the same id, and gives each the other's transport.
    pub fn connect(&mut self, relay: EndpointId, ports: [Ports; 2], controlling: usize) {
        let conference = ConferenceId(relay.0);
        let mut candidates = Vec::new();
        for (side, ports) in ports.into_iter().enumerate() {
            self.create_conference(side, conference);
            candidates.push(match ports {
                Ports::Own => {
                    self.sides[side].give_sockets(relay, 1).unwrap();
                    self.sides[side].address(self.sides[side].socket_of(relay))
                }
                Ports::Shared => self.sides[side].sockets[&0],
            });
            let ice = credentials(side, relay);
            let label = format!("relay{}", relay.0);
            let new = NewEndpoint { conference, endpoint: relay, label, ice, controlling: side == controlling };
            self.command(side, Command::CreateRelay { new: Box::new(new), mesh: MeshId(0) });
        }
        for side in 0..2 {
            let candidate = RemoteCandidate { addr: candidates[1 - side], priority: 1 << 30, relayed: false };
            let credentials = Some(credentials(1 - side, relay));
            self.command(side, Command::SetRemoteIce { endpoint: relay, credentials, candidates: vec![candidate] });
        }
    }

    pub fn create_conference(&mut self, side: usize, conference: ConferenceId) {
        let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
        self.command(side, Command::CreateConference { conference, feedback });
    }

    /// Creates a relay on one side alone.
    pub fn create(&mut self, side: usize, relay: EndpointId, conference: ConferenceId) -> Result<(), CommandError> {
        let (ice, label) = (credentials(side, relay), format!("relay{}", relay.0));
        let new = NewEndpoint { conference, endpoint: relay, label, ice, controlling: true };
        let Side { engine, sink, .. } = &mut self.sides[side];
        let created =
            engine.handle_command(self.now, Command::CreateRelay { new: Box::new(new), mesh: MeshId(0) }, sink);
        self.sides[side].take_news();
        created
    }

    pub fn command(&mut self, side: usize, command: Command) {
        let Side { engine, sink, .. } = &mut self.sides[side];
        engine.handle_command(self.now, command, sink).unwrap();
        self.sides[side].take_news();
        self.hand_over();
        self.exchange();
    }

    /// Adds a participant and lets it connect; its number.
    pub fn join(&mut self, side: usize, conference: ConferenceId, endpoint: EndpointId) -> usize {
        let address = ([198, 51, 100, 1], 6000 + self.clients.len() as u16).into();
        let client = Client { side, endpoint, address, inbox: Vec::new() };
        let ours = credentials(side, endpoint);
        let (credentials, local) = (Some(client.credentials()), ours.clone());
        self.clients.push(client);
        let label = format!("client{}", endpoint.0);
        let new = NewEndpoint { conference, endpoint, label, ice: local, controlling: true };
        self.command(side, Command::CreateEndpoint(Box::new(new)));
        self.command(side, Command::SetRemoteIce { endpoint, credentials, candidates: Vec::new() });
        let mut buffer = vec![0; 200];
        let writer =
            Writer::new(&mut buffer, Class::Request, &[5; 12]).username(format!("{}:x", ours.ufrag).as_bytes());
        let len = writer.role(false, 1).priority(1).finish(&integrity_key(&ours.pwd)).unwrap();
        buffer.truncate(len);
        let path = Path { local: 0, remote: address };
        self.sides[side].engine.handle_datagram(self.now, path, &mut buffer, &mut self.sides[side].sink);
        self.run(Duration::from_millis(200));
        self.clients.len() - 1
    }

    /// A client sends something to its bridge.
    pub fn send_from(&mut self, client: usize, datagram: &[u8]) {
        let (side, address) = (self.clients[client].side, self.clients[client].address);
        let Side { engine, sink, .. } = &mut self.sides[side];
        engine.handle_datagram(self.now, Path { local: 0, remote: address }, &mut datagram.to_vec(), sink);
        self.exchange();
    }

    /// Sends a DTLS record over a relay, if that has a pair of addresses.
    pub fn send_dtls(&mut self, side: usize, relay: EndpointId, content: &[u8]) {
        let datagram = [&[22], content].concat();
        let Side { engine, sink, .. } = &mut self.sides[side];
        let _ = engine.handle_command(self.now, Command::SendDtls { endpoint: relay, datagram }, sink);
        self.exchange();
    }

    /// A datagram from anywhere; what the bridge sends back at once.
    pub fn receive(&mut self, side: usize, path: Path, datagram: &[u8]) -> Vec<(Path, Vec<u8>)> {
        let Side { engine, sink, .. } = &mut self.sides[side];
        engine.handle_datagram(self.now, path, &mut datagram.to_vec(), sink);
        self.sides[side].take_news();
        std::mem::take(&mut self.sides[side].sink.1)
    }

    pub fn clear(&mut self) {
        self.sides.iter_mut().for_each(|side| side.events.clear());
    }

    /// Carries what was sent until nobody sends anything.
    fn exchange(&mut self) {
        for _ in 0..100 {
            let sent = [0, 1].map(|side| std::mem::take(&mut self.sides[side].sink.1));
            if sent.iter().all(Vec::is_empty) {
                return;
            }
            for (side, datagrams) in sent.into_iter().enumerate() {
                for (path, data) in datagrams {
                    self.carry(side, path, data);
                }
            }
        }
        panic!("they do not stop");
    }

    fn carry(&mut self, from: usize, path: Path, mut data: Vec<u8>) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.address == path.remote) {
            assert_eq!(client.side, from);
            let Some(mut answer) = client.hear(self.sides[from].sockets[&path.local], data) else { return };
            return self.sides[from].engine.handle_datagram(self.now, path, &mut answer, &mut self.sides[from].sink);
        }
        self.sent.push((from, path, data.clone()));
        let mut source = self.sides[from].sockets[&path.local];
        let mut to = path.remote;
        if self.mapping == Mapping::OwnPorts {
            let inside =
                |address: SocketAddr| address.ip() == std::net::IpAddr::from(HOSTS[0]) && address.port() != 10_000;
            if inside(source) {
                let port = 50_000 + self.mapped.len() as u16;
                source = *self.mapped.entry(source).or_insert((PUBLIC, port).into());
            }
            if inside(to) {
                // Not reached from outside.
                return;
            }
            if let Some((inside, _)) = self.mapped.iter().find(|(_, outside)| **outside == to) {
                to = *inside;
            }
        }
        if self.cut[from] {
            return;
        }
        let receiver = &mut self.sides[1 - from];
        let Some((&local, _)) = receiver.sockets.iter().find(|(_, address)| **address == to) else { return };
        receiver.engine.handle_datagram(self.now, Path { local, remote: source }, &mut data, &mut receiver.sink);
        receiver.take_news();
    }

    fn hand_over(&mut self) {
        if HANDS_OVER {
            self.sides.iter_mut().for_each(|side| side.hand_over(self.now));
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.exchange();
        loop {
            let due = self.sides.iter().filter_map(|side| side.engine.poll_timeout()).min();
            let Some(at) = due.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            for side in &mut self.sides {
                side.engine.handle_timeout(self.now, &mut side.sink);
                side.take_news();
            }
            self.hand_over();
            self.exchange();
        }
        self.now = end;
    }
}
