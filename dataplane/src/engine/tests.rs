//! Workers in virtual time: steering, bounds, junk.

mod handover;
mod ice_restart;
mod own_sockets;

use crate::ids::{MeshId, PayloadType, Ssrc, WorkerId};
use proptest::prelude::*;

use super::*;
use crate::ice::IceCredentials;
use crate::ice::stun::{Writer, integrity_key};
use crate::io::{HandedSocket, IoError, MAX_DATAGRAM, SocketPool};
use crate::link::{self, WorkerLink};
use crate::media::{CodecParameters, Encoding, Media, MediaKind, SourceDescription, VideoType};
use crate::messages::{Command, CreateError, FeedbackSsrcs, NewEndpoint};
use crate::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use crate::worker::Worker;

/// What was sent, and the sockets that were opened and closed.
struct Out {
    slot: Vec<u8>,
    sent: Vec<(Path, Vec<u8>)>,
    opened: u16,
    closed: Vec<u16>,
    /// How many sockets may be opened.
    room: u16,
}

impl Out {
    fn new() -> Self {
        Self { slot: vec![0; MAX_DATAGRAM], sent: Vec::new(), opened: 0, closed: Vec::new(), room: 100 }
    }
}

impl PacketSink for Out {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.sent.push((path, self.slot[..len].to_vec()));
    }
}

/// Opens sockets under indices from 100 on.
impl SocketPool for Out {
    fn open(&mut self, _: HandedSocket) -> Result<u16, IoError> {
        if self.opened >= self.room {
            return Err(IoError::HandedSockets(self.room.into()));
        }
        self.opened += 1;
        Ok(99 + self.opened)
    }

    fn close(&mut self, local: u16) -> std::io::Result<()> {
        self.closed.push(local);
        Ok(())
    }

    fn open_at(&mut self, local: u16, socket: HandedSocket) -> Result<(), IoError> {
        assert_eq!(self.open(socket)?, local, "handed over in order");
        Ok(())
    }
}

struct Rig {
    workers: Vec<Worker>,
    links: Vec<WorkerLink>,
    out: Out,
    now: Instant,
}

/// Two workers in one thread; endpoint 1 lives on worker 0.
fn rig(max_addresses: usize, handover_ring: usize) -> Rig {
    let (mut links, controls): (Vec<_>, Vec<_>) =
        (0..2).map(|worker| link::links(WorkerId::new(worker), 64, 64).unwrap()).unzip();
    let wakeups: Vec<_> = controls.iter().map(|control| control.wakeup().clone()).collect();
    let peers = crate::peers::mesh(&wakeups, handover_ring);
    let mut workers = Vec::new();
    for (index, (control, peers)) in controls.into_iter().zip(peers).enumerate() {
        let config = EngineConfig {
            worker: WorkerId::from_index(index),
            sockets: vec!["192.0.2.1:10000".parse().unwrap()].into(),
            max_endpoints: 8,
            max_addresses,
            forwarder: ForwarderConfig::default(),
        };
        workers.push(Worker::new(Engine::with_peers(config, Arc::default(), peers, None), control, 64, Duration::ZERO));
    }
    let conference = ConferenceId(1);
    let create =
        Command::CreateConference { conference, feedback: FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) } };
    links[0].send(create).unwrap();
    let new = NewEndpoint {
        conference,
        endpoint: EndpointId(1),
        label: "one".into(),
        ice: IceCredentials { ufrag: "0one".into(), pwd: "password".into() },
        controlling: true,
    };
    links[0].send(Command::CreateEndpoint(Box::new(new))).unwrap();
    let mut rig = Rig { workers, links, out: Out::new(), now: Instant::now() };
    rig.workers[0].handle_commands(rig.now, &mut rig.out);
    rig
}

impl Rig {
    fn receive(&mut self, worker: usize, port: u16, datagram: &[u8]) {
        let path = Path { local: 0, remote: ([198, 51, 100, 1], port).into() };
        self.workers[worker].engine.gather(self.now, path, &mut datagram.to_vec(), None, &mut self.out);
        self.workers[worker].engine.release(self.now, &mut self.out);
        self.workers[worker].handle_events();
    }

    fn exchange(&mut self) {
        for _ in 0..3 {
            for worker in &mut self.workers {
                worker.engine.handle_peers(self.now, &mut self.out);
                worker.engine.release(self.now, &mut self.out);
                worker.handle_events();
            }
        }
    }

    fn count(&self, worker: usize, counter: Counter) -> u64 {
        self.workers[worker].engine.stats.get(counter)
    }
}

fn request(ufrag: &str) -> Vec<u8> {
    let mut buf = vec![0; 200];
    let writer = Writer::new(&mut buf, Class::Request, &[3; 12]).username(format!("{ufrag}:x").as_bytes());
    let len = writer.role(false, 1).priority(1).finish(&integrity_key("password")).unwrap();
    buf.truncate(len);
    buf
}

#[test]
fn a_path_is_steered_only_after_its_owner_confirms_it() {
    let mut rig = rig(16, 16);
    rig.receive(1, 5, &[22; 50]);
    assert_eq!(rig.count(1, Counter::DropUnknownAddress), 1);
    // Forged: the owner refuses it, and nothing is learnt here either.
    let mut forged = request("0one");
    let tag = forged.len() - 10;
    forged[tag] ^= 1;
    let mut crc_free = forged[..forged.len() - 8].to_vec();
    let length = (crc_free.len() - 20) as u16;
    crc_free[2..4].copy_from_slice(&length.to_be_bytes());
    rig.receive(1, 5, &crc_free);
    rig.exchange();
    assert_eq!((rig.count(1, Counter::Handovers), rig.count(0, Counter::DropStunIntegrity)), (1, 1));
    rig.receive(1, 5, &[22; 50]);
    assert_eq!(rig.count(1, Counter::DropUnknownAddress), 2);
    assert!(rig.out.sent.is_empty());
    // Authentic: from now on everything from there is handed over.
    rig.receive(1, 5, &request("0one"));
    rig.exchange();
    assert_eq!(rig.out.sent.len(), 1, "the owner answers by itself");
    rig.receive(1, 5, &[22; 50]);
    rig.exchange();
    assert_eq!(rig.count(1, Counter::Handovers), 3);
    assert!(matches!(rig.links[0].poll_event(), Some(Event::Dtls { .. })));
    // The endpoint ends: the steering, too.
    rig.links[0].send(Command::ExpireEndpoint { endpoint: EndpointId(1) }).unwrap();
    rig.workers[0].handle_commands(rig.now, &mut rig.out);
    rig.exchange();
    rig.receive(1, 5, &[22; 50]);
    assert_eq!((rig.count(1, Counter::Handovers), rig.count(1, Counter::DropUnknownAddress)), (3, 3));
    assert!(rig.workers.iter().all(|worker| worker.engine.addresses.is_empty()));
}

#[test]
fn a_full_handover_ring_drops_and_counts() {
    let mut rig = rig(16, 4);
    for _ in 0..10 {
        rig.receive(1, 5, &request("0one"));
    }
    // Half of it is for media.
    assert_eq!((rig.count(1, Counter::Handovers), rig.count(1, Counter::DropHandoverFull)), (2, 8));
}

#[test]
fn nobody_makes_workers_play_ping_pong() {
    let mut rig = rig(16, 16);
    for ufrag in ["0nobody", "1nobody", "9nobody", "Znobody", ""] {
        rig.receive(1, 5, &request(ufrag));
        rig.exchange();
    }
    assert_eq!(rig.count(1, Counter::Handovers), 1, "only worker 0 exists beside");
    assert_eq!(rig.count(0, Counter::DropStunUnknownUfrag), 1);
    assert_eq!(rig.count(1, Counter::DropStunUnknownUfrag), 4);
}

#[test]
fn the_address_table_is_bounded() {
    let mut rig = rig(4, 16);
    for port in 1..=10 {
        rig.receive(0, port, &request("0one"));
    }
    assert_eq!((rig.workers[0].engine.addresses.len(), rig.count(0, Counter::DropTableFull)), (4, 6));
    assert_eq!(rig.out.sent.len(), 10, "answered all the same");
}

/// Puts an endpoint with keys and a verified path on a worker, and its stand-in on the other.
fn connect(rig: &mut Rig, home: usize, id: u32, port: u16, sources: &[u32]) -> EndpointId {
    let (conference, endpoint) = (ConferenceId(1), EndpointId(id));
    let master = |tag| MasterKey { key: [tag; 32], salt: [tag; 14] };
    let keys = SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: master(id as u8), outbound: master(100) };
    let opus = CodecParameters {
        payload_type: PayloadType::new(111).unwrap(),
        kind: MediaKind::Audio,
        name: "opus".into(),
        clock_rate: 48_000,
        channels: 2,
        parameters: Vec::new(),
        feedback: Vec::new(),
    };
    let media = Box::new(Media { codecs: vec![opus], ..Media::default() });
    let audio = |ssrc: &u32| SourceDescription {
        name: format!("{ssrc}-a0"),
        kind: MediaKind::Audio,
        video_type: VideoType::Camera,
        encodings: vec![Encoding { ssrc: Ssrc::new(*ssrc), rtx: None }],
    };
    let ice = IceCredentials { ufrag: format!("{home}u{id}"), pwd: "password".into() };
    let new = NewEndpoint { conference, endpoint, label: format!("{id}"), ice, controlling: true };
    for worker in 0..2 {
        let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
        rig.links[worker].send(Command::CreateConference { conference, feedback }).unwrap();
        let create = match worker == home {
            true => Command::CreateEndpoint(Box::new(new.clone())),
            false => Command::CreateRemoteEndpoint { conference, endpoint, home: WorkerId::from_index(home) },
        };
        rig.links[worker].send(create).unwrap();
        rig.links[worker].send(Command::SetMedia { endpoint, media: media.clone() }).unwrap();
        let sources = sources.iter().map(audio).collect();
        rig.links[worker].send(Command::SetSources { endpoint, sources }).unwrap();
        if worker == home {
            rig.links[worker].send(Command::SetSrtp { endpoint, keys: Box::new(keys.clone()) }).unwrap();
        }
        rig.workers[worker].handle_commands(rig.now, &mut rig.out);
    }
    let path = Path { local: 0, remote: ([198, 51, 100, 1], port).into() };
    let index = rig.workers[home].engine.endpoints.index_of(endpoint).unwrap();
    rig.workers[home].engine.addresses.learn(path, Owner::Endpoint(index), true).unwrap();
    rig.workers[home].engine.forwarder.set_path(endpoint, Some(path));
    endpoint
}

/// Opus of SSRC 77, sealed by the endpoint whose keys [`connect`] made.
fn sealed(id: u32, sequence: u16) -> Vec<u8> {
    let mut data = vec![0x80, 111, 0, 0, 0, 0, 0, 1, 0, 0, 0, 77];
    data[2..4].copy_from_slice(&sequence.to_be_bytes());
    data.resize(12 + 40 + 16, 7);
    let key = MasterKey { key: [id as u8; 32], salt: [id as u8; 14] };
    crate::srtp::Sealer::new(&key, SrtpProfile::AeadAes128Gcm).seal_rtp(&mut data, 12, 52, 0).unwrap();
    data
}

#[test]
fn media_reaches_receivers_on_the_other_worker() {
    let mut rig = rig(16, 16);
    connect(&mut rig, 0, 10, 10, &[77]);
    connect(&mut rig, 0, 11, 11, &[]);
    let first = connect(&mut rig, 1, 12, 12, &[]);
    let second = connect(&mut rig, 1, 13, 13, &[]);
    rig.receive(0, 10, &sealed(10, 1));
    let ports = |rig: &mut Rig| rig.out.sent.drain(..).map(|(path, _)| path.remote.port()).collect::<Vec<_>>();
    assert_eq!(ports(&mut rig), [11], "here at once");
    rig.exchange();
    assert_eq!(ports(&mut rig), [12, 13], "there in its own turn");
    assert_eq!((rig.count(0, Counter::CrossWorkerPackets), rig.count(1, Counter::PacketsForwarded)), (1, 2));
    // It arrives at the wrong worker: handed over to its home, opened there, and given back opened.
    let path = Path { local: 0, remote: ([198, 51, 100, 1], 10).into() };
    rig.workers[1].engine.addresses.learn(path, Owner::Worker(WorkerId::new(0)), true).unwrap();
    rig.receive(1, 10, &sealed(10, 2));
    rig.exchange();
    assert_eq!(ports(&mut rig), [11, 12, 13]);
    // The last receiver there takes the header along, and the other way round nothing is left behind.
    for endpoint in [first, second] {
        for link in &mut rig.links {
            link.send(Command::ExpireEndpoint { endpoint }).unwrap();
        }
    }
    for worker in &mut rig.workers {
        worker.handle_commands(rig.now, &mut rig.out);
    }
    rig.receive(0, 10, &sealed(10, 3));
    rig.exchange();
    assert_eq!(ports(&mut rig), [11]);
    assert_eq!(rig.count(0, Counter::CrossWorkerPackets), 2);
    assert_eq!(rig.count(0, Counter::DropCommandUnknown) + rig.count(1, Counter::DropCommandUnknown), 0);
}

#[test]
fn cross_worker_packets_beyond_the_ring_are_dropped_and_counted() {
    let mut rig = rig(16, 4);
    connect(&mut rig, 0, 10, 10, &[77]);
    connect(&mut rig, 1, 12, 12, &[]);
    // What the joining itself had to report.
    rig.exchange();
    for sequence in 0..10 {
        rig.receive(0, 10, &sealed(10, sequence));
    }
    assert_eq!((rig.count(0, Counter::CrossWorkerPackets), rig.count(0, Counter::DropCrossWorkerFull)), (4, 6));
}

proptest! {
    #[test]
    fn any_datagram_is_survived(datagrams in prop::collection::vec((0..2usize, 1..4u16, prop::collection::vec(any::<u8>(), 0..80)), 1..60)) {
        let mut rig = rig(16, 16);
        rig.receive(0, 1, &request("0one"));
        rig.receive(1, 2, &request("0one"));
        rig.exchange();
        for (worker, port, mut datagram) in datagrams {
            // Half of them from a verified address, a fifth each STUN, DTLS, RTP, RTCP, other.
            if let [first, second, ..] = &mut datagram[..] {
                match *first % 5 {
                    0 => *first %= 4,
                    1 => *first = 20 + *first % 44,
                    2 => *first = 128 + *first % 64,
                    3 => (*first, *second) = (128 + *first % 64, 192 + *second % 32),
                    _ => {}
                }
            }
            rig.receive(worker, port, &datagram);
            rig.exchange();
            rig.now += Duration::from_millis(7);
            for worker in &mut rig.workers {
                worker.engine.handle_timeout(rig.now, &mut rig.out);
                worker.handle_events();
            }
        }
    }
}

/// A Binding success of a STUN server.
fn mapped(transaction: [u8; 12]) -> Vec<u8> {
    let mut buf = vec![0; 64];
    let writer = Writer::new(&mut buf, Class::Success, &transaction).mapped("203.0.113.9:10000".parse().unwrap());
    let len = writer.finish_unsigned().unwrap();
    buf.truncate(len);
    buf
}

#[test]
fn only_the_server_that_was_asked_answers_whichever_worker_hears_it() {
    let mut rig = rig(16, 16);
    let path = Path { local: 0, remote: ([198, 51, 100, 1], 3478).into() };
    let transaction = crate::ice::question(WorkerId::new(0), [5; 7]);
    let ask = |path| Command::AskServer { path, transaction };
    rig.links[0].send(ask(path)).unwrap();
    rig.links[0].send(ask(path)).unwrap();
    // No such socket, and one of the other family.
    rig.links[0].send(ask(Path { local: 1, ..path })).unwrap();
    rig.links[0].send(ask(Path { remote: "[2001:db8::1]:3478".parse().unwrap(), ..path })).unwrap();
    rig.workers[0].handle_commands(rig.now, &mut rig.out);
    assert_eq!(rig.count(0, Counter::DropCommandUnknown), 2);
    assert_eq!(rig.out.sent.len(), 2, "asked, and asked again");
    for (to, request) in &rig.out.sent {
        let request = Message::parse(request).unwrap();
        assert_eq!((*to, request.class(), request.transaction()), (path, Class::Request, transaction));
    }
    // From elsewhere, to another question, damaged, and from the server to a request that nobody made.
    let mut damaged = mapped(transaction);
    damaged[30] ^= 1;
    let forged = [(9, mapped(transaction)), (3478, mapped([7; 12])), (3478, damaged), (3478, mapped([0; 12]))];
    for (port, datagram) in &forged {
        rig.receive(0, *port, datagram);
    }
    assert_eq!(rig.count(0, Counter::DropStunUnknownTransaction), forged.len() as u64);
    assert_eq!(rig.links[0].poll_event(), None);
    // The kernel gives it to the other worker.
    rig.receive(1, 3478, &mapped(transaction));
    rig.exchange();
    let answered = Event::ServerAnswered { path, datagram: mapped(transaction) };
    assert_eq!(rig.links[0].poll_event(), Some(answered));
    // Once.
    rig.receive(0, 3478, &mapped(transaction));
    assert_eq!(rig.links[0].poll_event(), None);
}

#[test]
fn the_oldest_of_too_many_questions_gives_way() {
    let mut rig = rig(16, 16);
    let path = |port| Path { local: 0, remote: ([198, 51, 100, 1], port).into() };
    let transaction = |port: u16| crate::ice::question(WorkerId::new(0), [port as u8; 7]);
    for port in 0..=questions::MAX_QUESTIONS as u16 {
        let command = Command::AskServer { path: path(port), transaction: transaction(port) };
        rig.workers[0].engine.handle_command(rig.now, command, &mut rig.out).unwrap();
    }
    for (port, heard) in [(0, false), (1, true), (questions::MAX_QUESTIONS as u16, true)] {
        rig.receive(0, port, &mapped(transaction(port)));
        assert_eq!(rig.links[0].poll_event().is_some(), heard, "{port}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_created_is_refused_by_an_event() {
    let mut rig = rig(16, 16);
    let (known, other) = (ConferenceId(1), ConferenceId(2));
    let create = |conference, id: u32, ufrag: &str| {
        Command::CreateEndpoint(Box::new(NewEndpoint {
            conference,
            endpoint: EndpointId(id),
            label: format!("e{id}"),
            ice: IceCredentials { ufrag: ufrag.into(), pwd: "password".into() },
            controlling: true,
        }))
    };
    let remote = |id, home| Command::CreateRemoteEndpoint { conference: known, endpoint: EndpointId(id), home };
    let refused = |id, error| Event::EndpointRefused { endpoint: EndpointId(id), error };
    let say = |rig: &mut Rig, command| {
        rig.links[0].send(command).unwrap();
        rig.workers[0].handle_commands(rig.now, &mut rig.out);
        rig.workers[0].handle_events();
        std::iter::from_fn(|| rig.links[0].poll_event()).collect::<Vec<_>>()
    };
    for (command, event) in [
        (create(other, 2, "0two"), refused(2, CreateError::UnknownConference)),
        (create(known, 1, "0two"), refused(1, CreateError::Taken)),
        (create(known, 2, "0one"), refused(2, CreateError::Taken)),
        (remote(2, WorkerId::new(0)), refused(2, CreateError::UnknownWorker)),
        (remote(2, WorkerId::new(2)), refused(2, CreateError::UnknownWorker)),
        (remote(1, WorkerId::new(1)), refused(1, CreateError::Taken)),
    ] {
        assert_eq!(say(&mut rig, command), [event]);
    }
    assert_eq!(rig.count(0, Counter::DropCommandUnknown), 6);
    // The id of an endpoint that lives elsewhere is taken, too.
    assert_eq!(say(&mut rig, remote(20, WorkerId::new(1))), []);
    assert_eq!(say(&mut rig, create(known, 20, "0twenty")), [refused(20, CreateError::Taken)]);
    // It has room for eight.
    for id in 2..=8 {
        assert_eq!(say(&mut rig, create(known, id, &format!("0e{id}"))), []);
    }
    assert_eq!(say(&mut rig, create(known, 9, "0e9")), [refused(9, CreateError::WorkerFull)]);
    assert_eq!(rig.workers[0].engine.endpoints.len(), 8);
    say(&mut rig, Command::ExpireEndpoint { endpoint: EndpointId(8) });
    assert_eq!(say(&mut rig, create(known, 9, "0e9")), []);
}

#[test]
fn a_relay_is_created_refused_and_removed_as_an_endpoint_is() {
    let mut rig = rig(16, 16);
    let (known, other, mesh) = (ConferenceId(1), ConferenceId(2), MeshId(0));
    let create = |conference, id: u32, ufrag: &str| {
        let new = Box::new(NewEndpoint {
            conference,
            endpoint: EndpointId(id),
            label: format!("r{id}"),
            ice: IceCredentials { ufrag: ufrag.into(), pwd: "password".into() },
            controlling: true,
        });
        Command::CreateRelay { new, mesh }
    };
    let remote = |id, home| Command::CreateRemoteRelay { conference: known, relay: EndpointId(id), home, mesh };
    let behind = |id, relay| Command::CreateRelayedEndpoint {
        conference: known,
        endpoint: EndpointId(id),
        relay: EndpointId(relay),
    };
    let refused = |id, error| vec![Event::EndpointRefused { endpoint: EndpointId(id), error }];
    let say = |rig: &mut Rig, command| {
        rig.links[0].send(command).unwrap();
        rig.workers[0].handle_commands(rig.now, &mut rig.out);
        rig.workers[0].handle_events();
        std::iter::from_fn(|| rig.links[0].poll_event()).collect::<Vec<_>>()
    };
    for (command, events) in [
        (create(other, 2, "0two"), refused(2, CreateError::UnknownConference)),
        (create(known, 1, "0two"), refused(1, CreateError::Taken)),
        (create(known, 2, "0one"), refused(2, CreateError::Taken)),
        (remote(2, WorkerId::new(0)), refused(2, CreateError::UnknownWorker)),
        (behind(3, 2), refused(3, CreateError::UnknownRelay)),
        (create(known, 2, "0two"), vec![]),
        (create(known, 2, "0again"), refused(2, CreateError::Taken)),
        (remote(2, WorkerId::new(1)), refused(2, CreateError::Taken)),
        (behind(3, 2), vec![]),
        (behind(3, 2), refused(3, CreateError::Taken)),
        (create(known, 3, "0three"), refused(3, CreateError::Taken)),
        (remote(4, WorkerId::new(1)), vec![]),
        (behind(5, 4), vec![]),
    ] {
        assert_eq!(say(&mut rig, command.clone()), events, "{command:?}");
    }
    let engine = &rig.workers[0].engine;
    assert_eq!((engine.endpoints.len(), engine.endpoints.ufrags()), (2, 2), "those behind it have no ICE");
    for (gone, left) in [(2, [false, false, true, true]), (4, [false; 4])] {
        say(&mut rig, Command::ExpireEndpoint { endpoint: EndpointId(gone) });
        let slots = [2, 3, 4, 5].map(|id| rig.workers[0].engine.forwarder.slot(EndpointId(id)).is_some());
        assert_eq!(slots, left);
    }
    assert_eq!(rig.workers[0].engine.endpoints.len(), 1);
    assert_eq!(say(&mut rig, create(known, 6, "0two")), [], "the ufrag is free again");
    // It counts as one of those that a worker has room for.
    for id in 7..=12 {
        assert_eq!(say(&mut rig, create(known, id, &format!("0r{id}"))), []);
    }
    assert_eq!(say(&mut rig, create(known, 13, "0r13")), refused(13, CreateError::WorkerFull));
}

#[test]
fn what_the_forwarder_refuses_is_not_kept_by_the_worker_either() {
    let mut rig = rig(16, 16);
    let limit = ForwarderConfig::default().max_endpoints_per_conference;
    for id in 0..limit as u32 {
        let conference = ConferenceId(1);
        let remote =
            Command::CreateRemoteEndpoint { conference, endpoint: EndpointId(100 + id), home: WorkerId::new(1) };
        rig.links[0].send(remote).unwrap();
        rig.workers[0].handle_commands(rig.now, &mut rig.out);
    }
    let last = EndpointId(100 + limit as u32 - 1);
    let refused = |endpoint| Some(Event::EndpointRefused { endpoint, error: CreateError::ConferenceFull });
    rig.workers[0].handle_events();
    assert_eq!(rig.links[0].poll_event(), refused(last), "one endpoint lives here");
    let new = NewEndpoint {
        conference: ConferenceId(1),
        endpoint: EndpointId(2),
        label: "two".into(),
        ice: IceCredentials { ufrag: "0two".into(), pwd: "password".into() },
        controlling: true,
    };
    rig.links[0].send(Command::CreateEndpoint(Box::new(new))).unwrap();
    rig.workers[0].handle_commands(rig.now, &mut rig.out);
    rig.workers[0].handle_events();
    assert_eq!(rig.links[0].poll_event(), refused(EndpointId(2)));
    assert_eq!((rig.workers[0].engine.endpoints.len(), rig.workers[0].engine.endpoints.ufrags()), (1, 1));
    assert_eq!(rig.count(0, Counter::DropTableFull), 2);
}

#[test]
fn a_creation_is_refused_at_once_although_packets_wait() {
    let mut rig = rig(16, 16);
    connect(&mut rig, 0, 10, 10, &[77]);
    connect(&mut rig, 0, 11, 11, &[]);
    let path = Path { local: 0, remote: ([198, 51, 100, 1], 10).into() };
    rig.out.sent.clear();
    let (engine, now) = (&mut rig.workers[0].engine, rig.now);
    engine.gather(now, path, &mut sealed(10, 1), None, &mut rig.out);
    assert!(rig.out.sent.is_empty(), "it waits");
    let remote =
        |id, home| Command::CreateRemoteEndpoint { conference: ConferenceId(1), endpoint: EndpointId(id), home };
    let refused = engine.handle_command(now, remote(11, WorkerId::new(1)), &mut rig.out);
    assert_eq!(refused, Err(CommandError::Refused(CreateError::Taken)));
    assert_eq!(rig.out.sent.len(), 1, "the packet went out before");
    let unknown = engine.handle_command(now, remote(12, WorkerId::new(7)), &mut rig.out);
    assert_eq!(unknown, Err(CommandError::Refused(CreateError::UnknownWorker)));
    let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    for (id, error) in [(11, CreateError::Taken), (12, CreateError::UnknownWorker)] {
        let event = Event::EndpointRefused { endpoint: EndpointId(id), error };
        assert_eq!(events.iter().filter(|known| **known == event).count(), 1, "{event:?}");
    }
}

#[test]
fn a_command_that_is_not_carried_out_says_why_and_is_counted() {
    let mut engine = Engine::new(EngineConfig::new(["192.0.2.1:10000".parse().unwrap()]), Arc::default());
    let (mut out, now) = (Out::new(), Instant::now());
    let (conference, endpoint, nobody) = (ConferenceId(1), EndpointId(1), EndpointId(2));
    let ice = |ufrag: &str| IceCredentials { ufrag: ufrag.into(), pwd: "password".into() };
    let new = |endpoint, ufrag| {
        let new = NewEndpoint { conference, endpoint, label: "one".into(), ice: ice(ufrag), controlling: true };
        Command::CreateEndpoint(Box::new(new))
    };
    let restart = |endpoint, ufrag| Command::RestartIce { endpoint, generation: 1, local: ice(ufrag) };
    let dtls = |endpoint| Command::SendDtls { endpoint, datagram: vec![22; 40] };
    let keys = SrtpKeys {
        profile: SrtpProfile::AeadAes128Gcm,
        inbound: MasterKey { key: [1; 32], salt: [1; 14] },
        outbound: MasterKey { key: [2; 32], salt: [2; 14] },
    };
    let ask = Command::AskServer {
        path: Path { local: 1, remote: ([198, 51, 100, 1], 3478).into() },
        transaction: crate::ice::question(WorkerId::new(0), [5; 7]),
    };
    let answer = Command::AnswerIceRestart { endpoint, generation: 7, credentials: None, candidates: Vec::new() };
    let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
    let unknown = Err(CommandError::UnknownEndpoint);
    for (command, result, counter) in [
        (
            new(endpoint, "0one"),
            Err(CommandError::Refused(CreateError::UnknownConference)),
            Counter::DropCommandUnknown,
        ),
        (Command::ExpireConference { conference }, Err(CommandError::UnknownConference), Counter::DropCommandUnknown),
        (Command::CreateConference { conference, feedback }, Ok(()), Counter::DropCommandUnknown),
        (new(endpoint, "0one"), Ok(()), Counter::DropCommandUnknown),
        (new(nobody, "0one"), Err(CommandError::Refused(CreateError::Taken)), Counter::DropCommandUnknown),
        (
            Command::CreateRemoteEndpoint { conference, endpoint: nobody, home: WorkerId::new(3) },
            Err(CommandError::Refused(CreateError::UnknownWorker)),
            Counter::DropCommandUnknown,
        ),
        (Command::ExpireEndpoint { endpoint: nobody }, unknown, Counter::DropCommandUnknown),
        (Command::SetSrtp { endpoint: nobody, keys: Box::new(keys.clone()) }, unknown, Counter::DropCommandUnknown),
        (Command::SetSrtp { endpoint, keys: Box::new(keys) }, Ok(()), Counter::DropCommandUnknown),
        (dtls(nobody), unknown, Counter::DropCommandUnknown),
        (dtls(endpoint), Err(CommandError::NoPath), Counter::DropNoPath),
        (restart(nobody, "0new"), unknown, Counter::DropCommandUnknown),
        (restart(endpoint, "1new"), Err(CommandError::Ufrag), Counter::DropCommandUnknown),
        (answer, Err(CommandError::NoRestart), Counter::DropRestartAnswer),
        (ask, Err(CommandError::UnknownSocket), Counter::DropCommandUnknown),
        (Command::Shutdown, Ok(()), Counter::DropCommandUnknown),
    ] {
        let (text, before) = (format!("{command:?}"), engine.stats().get(counter));
        assert_eq!(engine.handle_command(now, command, &mut out), result, "{text}");
        assert_eq!(engine.stats().get(counter) - before, u64::from(result.is_err()), "{text}");
    }
    assert_eq!(out.sent, []);
}
