//! Relays between two running dataplanes on loopback, with ports of their own on one side: on both I/O backends, with several workers.

mod worker_client;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::{IceState, RemoteCandidate};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId, WorkerId};
use ringbridge_dataplane::io::{HandedSocket, RelayPorts, SocketOptions};
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::messages::{Command, CreateError, Event, NewEndpoint};
use ringbridge_dataplane::stats::Counter;
use ringbridge_dataplane::{Dataplane, DataplaneConfig};

use worker_client::{backends, create_conference, credentials, start};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 2;
const RELAYS: u32 = 6;

/// One bridge, and what its workers reported.
struct Bridge {
    dataplane: Option<Dataplane>,
    links: Vec<WorkerLink>,
    events: Vec<Event>,
    ports: RelayPorts,
}

/// Relays live on both workers.
fn home(relay: u32) -> usize {
    relay as usize % WORKERS
}

impl Bridge {
    fn new(io: ringbridge_dataplane::io::IoChoice) -> Self {
        let (dataplane, links) = start(io, WORKERS);
        let ports = RelayPorts::new(vec![Ipv4Addr::LOCALHOST.into()], None, SocketOptions::default());
        Self { dataplane: Some(dataplane), links, events: Vec::new(), ports }
    }

    fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().expect("it runs")
    }

    /// Another dataplane takes its place, and its sockets.
    fn take_over(&mut self, io: ringbridge_dataplane::io::IoChoice) {
        let former = self.dataplane.take().expect("it runs");
        let bound = former.local_addresses()[0];
        let mut suspended = former.suspend().map_err(|(_, error)| error).unwrap();
        self.step();
        let (state, sockets) = suspended.export().unwrap();
        assert_eq!(state.descriptors(), sockets.len());
        let (local_addresses, port) = (vec![bound.ip()], bound.port());
        let config = DataplaneConfig { local_addresses, port, workers: WORKERS, io, ..DataplaneConfig::default() };
        let mut prepared = Dataplane::start_from(config, state, sockets).unwrap();
        drop(suspended);
        self.links = prepared.take_links();
        self.dataplane = Some(prepared.go());
    }

    fn send(&mut self, relay: u32, command: Command) {
        self.links[home(relay)].send(command).unwrap();
    }

    /// Creates a relay in a conference of its own; where it is reached.
    fn create(&mut self, relay: u32, own_port: bool, controlling: bool) -> SocketAddr {
        create_conference(&mut self.links[home(relay)], relay);
        let mut address = self.dataplane().local_addresses()[0];
        if own_port {
            let sockets = self.ports.bind().unwrap();
            address = sockets[0].candidate_address();
            self.send(relay, Command::OpenSockets { endpoint: EndpointId(relay), sockets });
        }
        self.create_with_sockets_given(relay, controlling);
        address
    }

    fn create_with_sockets_given(&mut self, relay: u32, controlling: bool) {
        let new = Box::new(NewEndpoint {
            conference: ConferenceId(relay),
            endpoint: EndpointId(relay),
            label: format!("relay{relay}"),
            ice: credentials(home(relay), relay),
            controlling,
        });
        self.send(relay, Command::CreateRelay { new, mesh: MeshId(0) });
    }

    fn know(&mut self, relay: u32, addr: SocketAddr) {
        // Both bridges name theirs alike.
        let credentials = Some(credentials(home(relay), relay));
        let candidates = vec![RemoteCandidate { addr, priority: 1 << 30, relayed: false }];
        self.send(relay, Command::SetRemoteIce { endpoint: EndpointId(relay), credentials, candidates });
    }

    fn step(&mut self) {
        for link in &mut self.links {
            self.events.extend(std::iter::from_fn(|| link.poll_event()));
        }
    }

    fn is_connected(&self, relay: u32) -> bool {
        self.events.iter().any(
            |event| matches!(event, Event::Ice { endpoint, state: IceState::Connected, .. } if endpoint.0 == relay),
        )
    }

    fn count(&self, counter: Counter) -> u64 {
        (0..WORKERS).map(|worker| self.dataplane().stats(WorkerId::from_index(worker)).get(counter)).sum()
    }
}

fn wait(bridges: &mut [Bridge; 2], what: &str, mut done: impl FnMut(&mut [Bridge; 2]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        bridges.iter_mut().for_each(Bridge::step);
        if done(bridges) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {:?} {:?}", bridges[0].events, bridges[1].events);
        std::thread::yield_now();
    }
}

#[test]
fn each_relay_reaches_its_other_side_and_gives_its_port_back() {
    reach(0);
}

#[test]
fn so_it_does_when_others_take_over_both_bridges_and_their_ports() {
    reach(4);
}

/// Relays connect, others take over so often on one backend after the other, and relays are heard and end.
fn reach(take_overs: usize) {
    for io in backends() {
        let mut bridges = [Bridge::new(io), Bridge::new(io)];
        let mut own = Vec::new();
        for relay in 1..=RELAYS {
            // Either bridge is the one that asks for it, as initiator or not.
            let (side, controlling) = (relay as usize % 3 % 2, relay % 2 == 0);
            let addresses = [0, 1].map(|n| bridges[n].create(relay, n == side, (n == side) == controlling));
            own.push(addresses[side]);
            for n in 0..2 {
                bridges[n].know(relay, addresses[1 - n]);
            }
        }
        wait(&mut bridges, "connected", |bridges| {
            (1..=RELAYS).all(|relay| bridges.iter().all(|bridge| bridge.is_connected(relay)))
        });
        for n in 0..take_overs {
            let backends = backends();
            for bridge in &mut bridges {
                bridge.take_over(backends[n % backends.len()]);
            }
            assert!(own.iter().all(|address| UdpSocket::bind(address).is_err()), "still taken");
        }
        // A check that is faster than the command which creates its relay finds nobody there.
        let early = [0, 1].map(|n| bridges[n].count(Counter::DropForeignSocket));
        for relay in 1..=RELAYS {
            for (n, bridge) in bridges.iter_mut().enumerate() {
                let datagram = vec![22, n as u8, relay as u8];
                bridge.send(relay, Command::SendDtls { endpoint: EndpointId(relay), datagram });
            }
        }
        let dtls = |bridge: &Bridge| {
            let heard = bridge.events.iter().filter_map(|event| match event {
                Event::Dtls { endpoint, datagram } => Some((endpoint.0, datagram.clone())),
                _ => None,
            });
            heard.collect::<std::collections::BTreeSet<_>>()
        };
        wait(&mut bridges, "heard", |bridges| bridges.iter().all(|bridge| dtls(bridge).len() == RELAYS as usize));
        for (n, bridge) in bridges.iter().enumerate() {
            let expect = (1..=RELAYS).map(|relay| (relay, vec![22, 1 - n as u8, relay as u8])).collect();
            assert_eq!(dtls(bridge), expect, "{io:?}: each by its own relay");
            assert_eq!(bridge.count(Counter::DropForeignSocket), early[n]);
        }
        assert!(own.iter().all(|address| UdpSocket::bind(address).is_err()), "taken");
        for relay in 1..=RELAYS {
            for bridge in &mut bridges {
                bridge.send(relay, Command::ExpireEndpoint { endpoint: EndpointId(relay) });
            }
        }
        wait(&mut bridges, "closed", |_| own.iter().all(|address| UdpSocket::bind(address).is_ok()));
        wait(&mut bridges, "forgotten", |bridges| bridges.iter().all(|bridge| bridge.count(Counter::HeldSockets) == 0));
        assert_eq!(bridges[0].dataplane().health().dead_worker(), None);
        assert_eq!(bridges[1].dataplane().health().dead_worker(), None);
    }
}

#[test]
fn beyond_the_limit_a_relay_is_refused_and_its_port_is_free() {
    for io in backends() {
        let mut bridges = [Bridge::new(io), Bridge::new(io)];
        let limit = ringbridge_dataplane::io::IoLimits::default().handed_sockets;
        let socket = || {
            let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
            HandedSocket::new(socket).unwrap()
        };
        let open = |bridge: &mut Bridge, relay, sockets: Vec<HandedSocket>| {
            bridge.send(relay, Command::OpenSockets { endpoint: EndpointId(relay), sockets });
        };
        // All on one worker: half of the limit, and more than the other half.
        create_conference(&mut bridges[0].links[0], 4);
        open(&mut bridges[0], 2, (0..limit / 2).map(|_| socket()).collect());
        let too_many: Vec<_> = (0..limit / 2 + 1).map(|_| socket()).collect();
        let addresses: Vec<_> = too_many.iter().map(HandedSocket::address).collect();
        open(&mut bridges[0], 4, too_many);
        bridges[0].create_with_sockets_given(4, true);
        let refused = Event::EndpointRefused { endpoint: EndpointId(4), error: CreateError::NoSockets };
        wait(&mut bridges, "refused", |bridges| bridges[0].events.contains(&refused));
        wait(&mut bridges, "closed", |_| addresses.iter().all(|address| UdpSocket::bind(address).is_ok()));
        assert_eq!(bridges[0].count(Counter::HandedSocketsRefused), 2);
        // There is room for others yet.
        let fits = socket();
        let address = fits.address();
        open(&mut bridges[0], 6, vec![fits]);
        wait(&mut bridges, "taken up", |bridges| {
            bridges[0].count(Counter::HeldSockets) == limit as u64 / 2 + 1 && UdpSocket::bind(address).is_err()
        });
    }
}
