//! ICE restarts in place, in virtual time: two generations of one endpoint against agents of the crate `is`, and attacks.

mod ice_out;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ice_out::Out;
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceCreds, Protocol};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::ice::{
    Agent, AgentConfig, AgentEvent, Context, MAX_PAIRS, RESTART_TIMEOUT, Session, SessionEvent, TRANSITION,
};
use ringbridge_dataplane::ice::{IceCredentials, RemoteCandidate};
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::io::{LocalSocket, MAX_DATAGRAM, Path};
use ringbridge_dataplane::stats::{Counter, WorkerStats};

const BRIDGE: &str = "192.0.2.1:10000";
/// Wi-Fi.
const OLD: &str = "198.51.100.7:4000";
/// Phone.
const NEW: &str = "203.0.113.9:61000";
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Credentials of the bridge for a generation, or of the peer.
fn ours(generation: u32) -> IceCredentials {
    IceCredentials { ufrag: format!("3bridge{generation}"), pwd: format!("bridge-password-of-22c-{generation}") }
}

fn theirs(generation: u32) -> IceCredentials {
    IceCredentials { ufrag: format!("peer{generation}"), pwd: format!("peer-password-of-22chr-{generation}") }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> Path {
    Path { local: 0, remote: addr(text) }
}

/// What the peer's browser has for one generation.
struct Peer {
    agent: IceAgent,
    seen_at: SocketAddr,
    reachable: bool,
}

struct World {
    now: Instant,
    session: Session,
    stats: WorkerStats,
    random: SystemRandom,
    out: Out,
    events: Vec<(Instant, SessionEvent)>,
    /// What the owner's address table has for this endpoint.
    table: BTreeMap<SocketAddr, bool>,
    selected: Option<Path>,
    peers: Vec<Peer>,
}

impl World {
    /// A session whose peer is at [`OLD`] and does not answer yet.
    fn new() -> Self {
        let random = SystemRandom::new();
        let config = AgentConfig {
            endpoint: EndpointId(0x0102_0304),
            worker: WorkerId::new(3),
            local: ours(0),
            controlling: true,
            sockets: LocalSocket::numbered(&[addr(BRIDGE)]),
        };
        let mut world = Self {
            now: Instant::now(),
            session: Session::new(Agent::new(config, &random)),
            stats: WorkerStats::default(),
            random,
            out: Out { slot: vec![0; MAX_DATAGRAM], sent: Vec::new() },
            events: Vec::new(),
            table: BTreeMap::new(),
            selected: None,
            peers: Vec::new(),
        };
        world.add_peer(0, OLD);
        world
    }

    fn connected() -> Self {
        let mut world = Self::new();
        world.session.set_remote(world.now, Some(theirs(0)), &[]);
        world.run(SECOND);
        assert_eq!(world.session.selected(), Some(at(OLD)));
        world
    }

    /// The peer begins to check our credentials of that generation from there.
    fn add_peer(&mut self, generation: u32, seen_at: &str) {
        let local = theirs(generation);
        let mut agent = IceAgent::new(IceCreds { ufrag: local.ufrag, pass: local.pwd });
        agent.set_controlling(false);
        agent.add_local_candidate(Candidate::host(addr(seen_at), Protocol::Udp).unwrap());
        let remote = ours(generation);
        agent.set_remote_credentials(IceCreds { ufrag: remote.ufrag, pass: remote.pwd });
        agent.add_remote_candidate(Candidate::host(addr(BRIDGE), Protocol::Udp).unwrap());
        self.peers.push(Peer { agent, seen_at: addr(seen_at), reachable: true });
    }

    fn restart(&mut self, generation: u32) -> bool {
        let made = self.session.restart(self.now, generation, ours(generation), &self.random);
        self.collect();
        made
    }

    fn answer(&mut self, generation: u32) -> bool {
        let taken = self.session.answer_restart(self.now, generation, Some(theirs(generation)), &[]);
        self.collect();
        taken
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let message = Message::parse(datagram).unwrap();
        let path = Path { local: 0, remote: from };
        let mut context = Context { sink: &mut self.out, stats: &self.stats, random: &self.random };
        let authentic = self.session.handle_message(self.now, path, &message, &mut context);
        self.collect();
        authentic
    }

    /// As the worker does: keeps the address table.
    fn collect(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match &event {
                SessionEvent::Agent(AgentEvent::Learnt { path, round_trip }) => {
                    *self.table.entry(path.remote).or_default() |= round_trip;
                    continue;
                }
                SessionEvent::Agent(AgentEvent::Forgotten { path }) => {
                    assert!(self.table.remove(&path.remote).is_some(), "forgotten twice: {path:?}");
                    assert_ne!(self.selected, Some(*path), "media goes there");
                }
                SessionEvent::Agent(AgentEvent::Connected { path }) => {
                    assert_eq!(
                        self.table.get(&path.remote),
                        Some(&true),
                        "media goes only where the peer is proven to be"
                    );
                    self.selected = Some(*path);
                }
                SessionEvent::Agent(AgentEvent::Disconnected) => self.selected = None,
                _ => {}
            }
            self.events.push((self.now, event));
        }
        assert_eq!(self.session.selected(), self.selected);
        assert!(self.session.local_ufrags().count() <= 2, "at most two generations");
        let learnt: std::collections::BTreeSet<_> = self.session.learnt_paths().map(|path| path.remote).collect();
        assert!(self.table.keys().all(|known| learnt.contains(known)), "addresses stay behind");
        assert!(self.table.len() <= 2 * MAX_PAIRS);
    }

    fn tick(&mut self) {
        let mut calls = 0;
        while self.session.poll_timeout().is_some_and(|due| due <= self.now) {
            let mut context = Context { sink: &mut self.out, stats: &self.stats, random: &self.random };
            self.session.handle_timeout(self.now, &mut context);
            calls += 1;
            assert!(calls < 50, "the session asks to be called again and again at the same time");
        }
        self.collect();
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += 5 * MS;
            self.tick();
            for (to, datagram) in std::mem::take(&mut self.out.sent) {
                let message = StunMessage::parse(&datagram).unwrap();
                let meant = |peer: &&mut Peer| {
                    peer.reachable && peer.seen_at == to.remote && peer.agent.accepts_message(&message)
                };
                if let Some(peer) = self.peers.iter_mut().find(meant) {
                    let (source, destination) = (addr(BRIDGE), peer.seen_at);
                    let packet = StunPacket { proto: Protocol::Udp, source, destination, message };
                    peer.agent.handle_packet(self.now, packet);
                }
            }
            for index in 0..self.peers.len() {
                let peer = &mut self.peers[index];
                if peer.agent.poll_timeout().is_none_or(|due| due <= self.now) {
                    peer.agent.handle_timeout(self.now);
                }
                let mut sent = Vec::new();
                while let Some(transmit) = peer.agent.poll_transmit() {
                    sent.extend(peer.reachable.then(|| transmit.contents.to_vec()));
                }
                while peer.agent.poll_event().is_some() {}
                let from = peer.seen_at;
                for datagram in sent {
                    self.receive(from, &datagram);
                }
            }
        }
    }

    fn when(&self, wanted: &SessionEvent) -> Option<Instant> {
        self.events.iter().rev().find(|(_, event)| event == wanted).map(|(at, _)| *at)
    }

    fn released(&self, generation: u32) -> bool {
        self.when(&SessionEvent::Released { ufrag: ours(generation).ufrag }).is_some()
    }

    fn disconnected(&self) -> bool {
        self.when(&SessionEvent::Agent(AgentEvent::Disconnected)).is_some()
    }
}

/// A check of the peer for a generation of ours.
fn request(generation: u32, transaction: u8, pwd: &str) -> Vec<u8> {
    let mut buf = vec![0; 300];
    let username = format!("{}:{}", ours(generation).ufrag, theirs(generation).ufrag);
    let len = Writer::new(&mut buf, Class::Request, &[transaction; 12])
        .username(username.as_bytes())
        .role(false, 0)
        .priority(9)
        .finish(&integrity_key(pwd))
        .unwrap();
    buf.truncate(len);
    buf
}

#[test]
fn media_moves_without_a_gap_and_the_old_pair_is_let_go() {
    let mut world = World::connected();
    assert!(world.restart(1));
    assert_eq!(world.session.local_ufrags().count(), 2);
    world.add_peer(1, NEW);
    // The client has our credentials before we have its: it is answered, and nothing moves.
    world.run(SECOND);
    assert_eq!(world.session.selected(), Some(at(OLD)));
    assert!(world.table.contains_key(&addr(NEW)));
    let answered = world.now;
    assert!(world.answer(1));
    world.run(SECOND / 2);
    assert_eq!(world.session.selected(), Some(at(NEW)));
    let moved = world.when(&SessionEvent::Restarted { generation: 1 }).expect("it moved");
    assert!(moved - answered <= 100 * MS, "{:?}", moved - answered);
    assert_eq!(world.when(&SessionEvent::Agent(AgentEvent::Connected { path: at(NEW) })), Some(moved));
    assert!(!world.disconnected(), "never without a pair");

    // What was sent to the old generation is still answered, for a while.
    world.out.sent.clear();
    assert!(world.receive(addr(OLD), &request(0, 7, &ours(0).pwd)));
    assert_eq!(world.out.sent.len(), 1, "answered, and not checked: {:?}", world.out.sent);
    assert!(world.table.contains_key(&addr(OLD)));
    world.run(TRANSITION);
    assert!(world.released(0) && !world.released(1));
    assert_eq!(world.table.keys().copied().collect::<Vec<_>>(), [addr(NEW)]);
    world.out.sent.clear();
    assert!(!world.receive(addr(OLD), &request(0, 8, &ours(0).pwd)));
    assert_eq!((world.out.sent.len(), world.stats.get(Counter::DropStunUnknownUfrag)), (0, 1));
    world.run(120 * SECOND);
    assert_eq!(world.session.selected(), Some(at(NEW)), "consent of the new pair is kept");
    assert!(!world.disconnected());
}

#[test]
fn an_address_that_is_gone_costs_a_round_trip() {
    let mut world = World::connected();
    world.peers[0].reachable = false;
    world.run(2 * SECOND);
    let asked = world.now;
    world.restart(1);
    world.add_peer(1, NEW);
    // What signalling takes.
    world.run(SECOND / 5);
    world.answer(1);
    world.run(SECOND / 2);
    assert_eq!(world.session.selected(), Some(at(NEW)));
    let moved = world.when(&SessionEvent::Restarted { generation: 1 }).unwrap();
    assert!(moved - asked <= SECOND / 2, "{:?}", moved - asked);
}

#[test]
fn a_restart_after_consent_was_lost_brings_media_back() {
    let mut world = World::connected();
    world.peers[0].reachable = false;
    world.run(40 * SECOND);
    assert_eq!(world.session.selected(), None);
    world.restart(1);
    world.add_peer(1, NEW);
    world.answer(1);
    world.run(SECOND / 2);
    assert_eq!(world.session.selected(), Some(at(NEW)));
}

#[test]
fn the_same_address_and_the_same_credentials_of_the_peer_are_no_obstacle() {
    let mut world = World::connected();
    world.peers[0].reachable = false;
    world.restart(1);
    world.add_peer(1, OLD);
    // A client that does not change its own credentials, as it should.
    let same = theirs(0);
    let peer = world.peers.last_mut().unwrap();
    peer.agent = IceAgent::new(IceCreds { ufrag: same.ufrag.clone(), pass: same.pwd.clone() });
    peer.agent.set_controlling(false);
    peer.agent.add_local_candidate(Candidate::host(addr(OLD), Protocol::Udp).unwrap());
    peer.agent.set_remote_credentials(IceCreds { ufrag: ours(1).ufrag, pass: ours(1).pwd });
    peer.agent.add_remote_candidate(Candidate::host(addr(BRIDGE), Protocol::Udp).unwrap());
    assert!(world.session.answer_restart(world.now, 1, Some(same), &[]));
    world.run(SECOND);
    assert!(world.when(&SessionEvent::Restarted { generation: 1 }).is_some());
    world.run(TRANSITION + SECOND);
    assert_eq!(world.table.keys().copied().collect::<Vec<_>>(), [addr(OLD)], "the new generation has it, too");
    world.run(60 * SECOND);
    assert_eq!(world.session.selected(), Some(at(OLD)));
}

#[test]
fn a_restart_that_leads_nowhere_is_given_up_and_costs_nothing() {
    for answered in [false, true] {
        let mut world = World::connected();
        world.restart(1);
        // Somebody answers nothing, but knows the password.
        assert!(world.receive(addr(NEW), &request(1, 1, &ours(1).pwd)));
        if answered {
            world.answer(1);
        }
        world.run(RESTART_TIMEOUT - SECOND);
        assert!(!world.released(1) && world.table.contains_key(&addr(NEW)));
        world.run(2 * SECOND);
        assert!(world.when(&SessionEvent::Abandoned { generation: 1 }).is_some() && world.released(1));
        assert_eq!(world.table.keys().copied().collect::<Vec<_>>(), [addr(OLD)]);
        assert_eq!(world.session.selected(), Some(at(OLD)));
        assert!(!world.answer(1), "too late");
        assert!(!world.receive(addr(NEW), &request(1, 2, &ours(1).pwd)));
        world.run(60 * SECOND);
        assert!(!world.disconnected());
        // And the next one is as good as the first.
        world.restart(2);
        world.add_peer(2, NEW);
        world.answer(2);
        world.run(SECOND);
        assert_eq!(world.session.selected(), Some(at(NEW)));
    }
}

#[test]
fn a_later_restart_replaces_the_one_under_way() {
    let mut world = World::connected();
    world.restart(1);
    world.add_peer(1, NEW);
    world.peers[1].reachable = false;
    assert!(world.receive(addr(NEW), &request(1, 1, &ours(1).pwd)));
    world.answer(1);
    world.run(SECOND);
    assert!(!world.restart(1), "the same again changes nothing");
    assert!(world.restart(2) && world.released(1) && !world.table.contains_key(&addr(NEW)));
    assert!(!world.answer(1), "an answer to the one before");
    assert!(!world.receive(addr(NEW), &request(1, 2, &ours(1).pwd)), "its password is worth nothing");
    world.add_peer(2, "203.0.113.10:5");
    world.answer(2);
    world.run(SECOND);
    assert_eq!(world.session.selected(), Some(at("203.0.113.10:5")));
    // The next one does not wait for the transition; the first generation goes at once.
    assert!(!world.released(0));
    assert!(!world.restart(2), "done already");
    assert!(world.restart(3) && world.released(0));
    assert_eq!(world.session.selected(), Some(at("203.0.113.10:5")));
}

#[test]
fn credentials_of_the_peer_count_once() {
    let mut world = World::connected();
    world.restart(1);
    world.add_peer(1, NEW);
    assert!(world.answer(1));
    let stranger = IceCredentials { ufrag: "x".into(), pwd: "another".into() };
    assert!(!world.session.answer_restart(world.now, 1, Some(stranger), &[]));
    assert!(!world.session.answer_restart(world.now, 7, Some(theirs(1)), &[]));
    world.run(SECOND);
    assert_eq!(world.session.selected(), Some(at(NEW)));
}

#[test]
fn a_restart_before_anything_is_connected_disturbs_nothing() {
    let mut world = World::new();
    world.session.set_remote(world.now, Some(theirs(0)), &[]);
    world.peers[0].reachable = false;
    world.restart(1);
    world.run(SECOND);
    world.peers[0].reachable = true;
    world.run(SECOND);
    assert_eq!(world.session.selected(), Some(at(OLD)));
    world.run(RESTART_TIMEOUT);
    assert!(world.when(&SessionEvent::Abandoned { generation: 1 }).is_some());
    assert_eq!(world.session.selected(), Some(at(OLD)));
    assert!(!world.disconnected());
}

#[test]
fn a_relayed_pair_does_not_wait_for_a_better_one() {
    let mut world = World::connected();
    world.peers[0].reachable = false;
    world.restart(1);
    world.add_peer(1, NEW);
    let relay = RemoteCandidate { addr: addr(NEW), priority: 5, relayed: true };
    world.session.answer_restart(world.now, 1, Some(theirs(1)), &[relay]);
    world.run(SECOND / 2);
    assert_eq!(world.session.selected(), Some(at(NEW)));
    world.run(10 * SECOND);
    assert_eq!(world.session.selected(), Some(at(NEW)));
    assert!(!world.disconnected());
}

#[test]
fn forged_checks_of_either_generation_move_nothing() {
    let mut world = World::connected();
    world.restart(1);
    world.add_peer(1, NEW);
    let before = world.table.clone();
    let own = world.stats.get(Counter::DropStunIntegrity);
    for (generation, pwd) in [(0, ours(1).pwd), (1, ours(0).pwd), (0, "x".into()), (1, "x".into())] {
        assert!(!world.receive(addr("192.0.2.66:6"), &request(generation, 5, &pwd)), "{generation} {pwd}");
    }
    assert_eq!(world.stats.get(Counter::DropStunIntegrity) - own, 4);
    assert!(!world.receive(addr("192.0.2.66:6"), &request(9, 5, &ours(0).pwd)));
    assert_eq!(world.stats.get(Counter::DropStunUnknownUfrag), 1);
    assert_eq!(world.table, before);
    // Who knows our new password and answers nothing gets no media: an address that is only claimed is not used.
    assert!(world.receive(addr("192.0.2.66:6"), &request(1, 5, &ours(1).pwd)));
    world.answer(1);
    world.run(SECOND);
    assert_eq!(world.session.selected(), Some(at(NEW)));
}

#[test]
fn answers_of_one_generation_prove_nothing_for_the_other() {
    let mut world = World::connected();
    world.restart(1);
    assert!(world.receive(addr(NEW), &request(1, 1, &ours(1).pwd)));
    world.out.sent.clear();
    world.answer(1);
    world.tick();
    let check = world.out.sent.iter().find(|(to, _)| to.remote == addr(NEW)).expect("checked at once").1.clone();
    let check = Message::parse(&check).unwrap();
    assert_eq!(check.username(), Some(format!("{}:{}", theirs(1).ufrag, ours(1).ufrag).as_bytes()));
    let answer = |pwd: &str| {
        let mut buf = vec![0; 200];
        let writer = Writer::new(&mut buf, Class::Success, &check.transaction()).mapped(addr(BRIDGE));
        let len = writer.finish(&integrity_key(pwd)).unwrap();
        buf.truncate(len);
        buf
    };
    assert!(!world.receive(addr(NEW), &answer(&theirs(0).pwd)), "the old password");
    assert!(!world.receive(addr(OLD), &answer(&theirs(1).pwd)), "from elsewhere");
    assert_eq!(world.session.selected(), Some(at(OLD)));
    assert!(world.receive(addr(NEW), &answer(&theirs(1).pwd)));
    assert_eq!(world.session.selected(), Some(at(OLD)), "valid, and not nominated yet");
}

#[test]
fn a_path_without_room_is_not_chosen() {
    let mut world = World::connected();
    world.restart(1);
    world.answer(1);
    // The worker's table is full: it says so of every path of the new generation.
    for transaction in 0..20 {
        let message = request(1, transaction, &ours(1).pwd);
        let message = Message::parse(&message).unwrap();
        let mut context = Context { sink: &mut world.out, stats: &world.stats, random: &world.random };
        world.session.handle_message(world.now, at(NEW), &message, &mut context);
        while let Some(event) = world.session.poll_event() {
            if let SessionEvent::Agent(AgentEvent::Learnt { path, .. }) = event {
                world.session.refuse(path);
            }
        }
        world.now += 20 * MS;
    }
    assert_eq!(world.session.selected(), Some(at(OLD)));
    assert_eq!(world.session.learnt_paths().collect::<Vec<_>>(), [at(OLD)]);
    // The pair in use is kept whatever is said.
    world.session.refuse(at(OLD));
    assert_eq!(world.session.selected(), Some(at(OLD)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order requests, answers, restarts and addresses come in: the bounds of `World::collect` hold, and a client
    /// that ends up with the newest credentials has media.
    #[test]
    fn a_storm_of_restarts_leaves_nothing_behind(
        steps in prop::collection::vec((0..6u8, 0..8u32, 1..40u16, 0..1500u64), 1..60)
    ) {
        let mut world = World::connected();
        let mut newest = 0;
        for (step, generation, port, wait) in steps {
            match step {
                0 => {
                    newest += 1;
                    world.restart(newest);
                }
                1 => drop(world.restart(generation)),
                2 => drop(world.answer(newest)),
                3 => drop(world.answer(generation)),
                4 => {
                    let from = SocketAddr::from(([203, 0, 113, 1], port));
                    let known = newest.saturating_sub(generation % 3);
                    world.receive(from, &request(known, port as u8, &ours(known).pwd));
                }
                _ => world.run(Duration::from_millis(wait)),
            }
            newest = newest.max(generation * u32::from(step == 1));
        }
        world.restart(newest + 1);
        world.peers.clear();
        world.add_peer(newest + 1, NEW);
        world.answer(newest + 1);
        world.run(SECOND);
        prop_assert_eq!(world.session.selected(), Some(at(NEW)));
        world.run(TRANSITION + SECOND);
        prop_assert_eq!(world.table.keys().copied().collect::<Vec<_>>(), [addr(NEW)]);
        prop_assert_eq!(world.session.local_ufrags().count(), 1);
    }
}
