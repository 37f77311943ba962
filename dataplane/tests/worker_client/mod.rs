//! A client on loopback, in real time: a socket, the ICE agent of the crate `is`, and the commands that a control plane
//! would give for it.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceCreds, Protocol};
use ringbridge_dataplane::demux::ufrag_prefix;
use ringbridge_dataplane::ice::{IceCredentials, IceState};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, Ssrc, WorkerId};
use ringbridge_dataplane::io::{IoChoice, IoExtras, probe};
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::messages::{Command, Event, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::{Dataplane, DataplaneConfig};

/// The backends that this host allows.
pub fn backends() -> Vec<IoChoice> {
    [IoChoice::Mmsg, IoChoice::Uring].into_iter().filter(|choice| probe(*choice, IoExtras::default()).is_ok()).collect()
}

pub fn start(io: IoChoice, workers: usize) -> (Dataplane, Vec<WorkerLink>) {
    start_steered(io, workers, true)
}

pub fn start_steered(io: IoChoice, workers: usize, steer: bool) -> (Dataplane, Vec<WorkerLink>) {
    let mut dataplane = Dataplane::start(DataplaneConfig {
        local_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        port: 0,
        workers,
        io,
        steer,
        ..DataplaneConfig::default()
    })
    .expect("the dataplane starts on loopback");
    let links = dataplane.take_links();
    (dataplane, links)
}

pub fn credentials(worker: usize, endpoint: u32) -> IceCredentials {
    IceCredentials {
        ufrag: format!("{}local{endpoint}", ufrag_prefix(WorkerId::from_index(worker))),
        pwd: format!("local-password-of-endpoint-{endpoint}"),
    }
}

pub fn remote_credentials(endpoint: u32) -> IceCredentials {
    IceCredentials { ufrag: format!("remote{endpoint}"), pwd: format!("remote-password-of-endpoint-{endpoint}") }
}

pub fn create_conference(link: &mut WorkerLink, conference: u32) {
    let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
    link.send(Command::CreateConference { conference: ConferenceId(conference), feedback }).unwrap();
}

/// Creates an endpoint and gives it its remote credentials, without candidates.
pub fn create_endpoint(link: &mut WorkerLink, conference: u32, endpoint: u32) {
    link.send(Command::CreateEndpoint(Box::new(NewEndpoint {
        conference: ConferenceId(conference),
        endpoint: EndpointId(endpoint),
        label: format!("client{endpoint}"),
        ice: credentials(link.worker().index(), endpoint),
        controlling: true,
    })))
    .unwrap();
    link.send(Command::SetRemoteIce {
        endpoint: EndpointId(endpoint),
        credentials: Some(remote_credentials(endpoint)),
        candidates: Vec::new(),
    })
    .unwrap();
}

pub struct Client {
    pub endpoint: u32,
    pub socket: UdpSocket,
    pub agent: IceAgent,
    pub bridge: SocketAddr,
    /// Everything but STUN that came in.
    pub inbox: Vec<Vec<u8>>,
}

impl Client {
    /// A client of the endpoint that lives on `worker`.
    pub fn new(bridge: SocketAddr, worker: usize, endpoint: u32) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let (ours, theirs) = (remote_credentials(endpoint), credentials(worker, endpoint));
        let mut agent = IceAgent::new(IceCreds { ufrag: ours.ufrag, pass: ours.pwd });
        agent.set_controlling(false);
        agent.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), Protocol::Udp).unwrap());
        agent.set_remote_credentials(IceCreds { ufrag: theirs.ufrag, pass: theirs.pwd });
        agent.add_remote_candidate(Candidate::host(bridge, Protocol::Udp).unwrap());
        Self { endpoint, socket, agent, bridge, inbox: Vec::new() }
    }

    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.bridge).unwrap();
    }

    pub fn step(&mut self) {
        let now = Instant::now();
        if self.agent.poll_timeout().is_none_or(|at| at <= now) {
            self.agent.handle_timeout(now);
        }
        let mut buf = [0; 2048];
        while let Ok((len, source)) = self.socket.recv_from(&mut buf) {
            if buf[0] > 3 {
                self.inbox.push(buf[..len].to_vec());
                continue;
            }
            let message = StunMessage::parse(&buf[..len]).unwrap();
            let destination = self.addr();
            self.agent.handle_packet(now, StunPacket { proto: Protocol::Udp, source, destination, message });
        }
        while let Some(transmit) = self.agent.poll_transmit() {
            self.socket.send_to(&transmit.contents, transmit.destination).unwrap();
        }
        while self.agent.poll_event().is_some() {}
    }
}

/// Steps all clients and collects events until `done`, at most ten seconds.
#[track_caller]
pub fn until(
    clients: &mut [Client],
    links: &mut [WorkerLink],
    events: &mut Vec<Event>,
    mut done: impl FnMut(&[Client], &[Event]) -> bool,
) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for client in clients.iter_mut() {
            client.step();
        }
        for link in links.iter_mut() {
            link.clear_wakeup();
            while let Some(event) = link.poll_event() {
                events.push(event);
            }
        }
        if done(clients, events) {
            return;
        }
        assert!(Instant::now() < deadline, "did not happen within ten seconds; events: {events:?}");
    }
}

pub fn is_connected(events: &[Event], endpoint: u32) -> bool {
    let state = events.iter().rev().find_map(|event| match event {
        Event::Ice { endpoint: id, state, .. } if id.0 == endpoint => Some(*state),
        _ => None,
    });
    state == Some(IceState::Connected)
}
