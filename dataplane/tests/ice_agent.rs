//! The ICE agent in virtual time, against the agent of the crate `is` and against hand-made messages.

mod ice_out;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ice_out::Out;
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};
use ring::rand::SystemRandom;
use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::ice::{Agent, AgentConfig, AgentEvent, Context, MAX_PAIRS};
use ringbridge_dataplane::ice::{IceCredentials, RemoteCandidate};
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::io::{LocalSocket, MAX_DATAGRAM, Path};
use ringbridge_dataplane::stats::{Counter, WorkerStats};

const BRIDGE: &str = "192.0.2.1:10000";
const PEER: &str = "198.51.100.7:4000";
const BRIDGE_PWD: &str = "bridge-password-of-22c";
const PEER_PWD: &str = "peer-password-of-22chr";
const SECOND: Duration = Duration::from_secs(1);

struct Bridge {
    agent: Agent,
    stats: WorkerStats,
    random: SystemRandom,
    out: Out,
    events: Vec<(Instant, AgentEvent)>,
}

fn credentials(ufrag: &str, pwd: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.into(), pwd: pwd.into() }
}

impl Bridge {
    fn new(controlling: bool) -> Self {
        let random = SystemRandom::new();
        let config = AgentConfig {
            endpoint: EndpointId(0x0102_0304),
            worker: WorkerId::new(3),
            local: credentials("3bridge", BRIDGE_PWD),
            controlling,
            sockets: LocalSocket::numbered(&[BRIDGE.parse().unwrap()]),
        };
        Self {
            agent: Agent::new(config, &random),
            stats: WorkerStats::default(),
            random,
            out: Out { slot: vec![0; MAX_DATAGRAM], sent: Vec::new() },
            events: Vec::new(),
        }
    }

    fn signal(&mut self, now: Instant, candidates: &[(&str, u32, bool)]) {
        let candidates: Vec<_> = candidates
            .iter()
            .map(|(addr, priority, relayed)| RemoteCandidate {
                addr: addr.parse().unwrap(),
                priority: *priority,
                relayed: *relayed,
            })
            .collect();
        self.agent.set_remote(now, Some(credentials("peer", PEER_PWD)), &candidates);
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let message = Message::parse(datagram).unwrap();
        let mut context = Context { sink: &mut self.out, stats: &self.stats, random: &self.random };
        self.agent.handle_message(now, path(from), &message, &mut context);
        self.collect(now);
    }

    fn tick(&mut self, now: Instant) {
        let mut calls = 0;
        while self.agent.poll_timeout().is_some_and(|at| at <= now) {
            let mut context = Context { sink: &mut self.out, stats: &self.stats, random: &self.random };
            self.agent.handle_timeout(now, &mut context);
            calls += 1;
            assert!(calls < 50, "the agent asks to be called again and again at the same time");
        }
        self.collect(now);
    }

    fn collect(&mut self, now: Instant) {
        while let Some(event) = self.agent.poll_event() {
            // Learnt is repeated with every request.
            if !self.events.iter().any(|(_, old)| *old == event) || !matches!(event, AgentEvent::Learnt { .. }) {
                self.events.push((now, event));
            }
        }
    }

    fn connected(&self) -> Option<SocketAddr> {
        self.agent.selected().map(|path| path.remote)
    }

    fn last(&self, event: AgentEvent) -> Option<Instant> {
        self.events.iter().rev().find(|(_, other)| *other == event).map(|(at, _)| *at)
    }
}

fn path(remote: SocketAddr) -> Path {
    Path { local: 0, remote }
}

fn peer_addr() -> SocketAddr {
    PEER.parse().unwrap()
}

/// A check as a controlled peer sends it.
fn request(transaction: u8, priority: u32) -> Vec<u8> {
    let mut buf = vec![0; 300];
    let len = Writer::new(&mut buf, Class::Request, &[transaction; 12])
        .username(b"3bridge:peer")
        .role(false, 0)
        .priority(priority)
        .finish(&integrity_key(BRIDGE_PWD))
        .unwrap();
    buf.truncate(len);
    buf
}

/// Answers a check as the peer would.
fn answer(check: &[u8], key: &str) -> Vec<u8> {
    let check = Message::parse(check).unwrap();
    assert!(check.verify(&integrity_key(PEER_PWD)));
    assert_eq!(check.username(), Some(&b"peer:3bridge"[..]));
    let mut buf = vec![0; 200];
    let len = Writer::new(&mut buf, Class::Success, &check.transaction())
        .mapped(BRIDGE.parse().unwrap())
        .finish(&integrity_key(key))
        .unwrap();
    buf.truncate(len);
    buf
}

struct World {
    now: Instant,
    bridge: Bridge,
    peer: IceAgent,
    /// Address that the bridge sees the peer at.
    seen_at: SocketAddr,
    blocked: bool,
    peer_sends_to: Option<SocketAddr>,
    from_peer: u64,
}

fn independent_agent(ufrag: &str, bridge_pwd: &str, controlling: bool) -> IceAgent {
    let mut peer = IceAgent::new(IceCreds { ufrag: ufrag.into(), pass: PEER_PWD.into() });
    peer.set_controlling(controlling);
    peer.add_local_candidate(Candidate::host(peer_addr(), Protocol::Udp).unwrap());
    peer.set_remote_credentials(IceCreds { ufrag: "3bridge".into(), pass: bridge_pwd.into() });
    peer.add_remote_candidate(Candidate::host(BRIDGE.parse().unwrap(), Protocol::Udp).unwrap());
    peer
}

impl World {
    fn new(controlling: bool, peer_controlling: bool, bridge_pwd: &str) -> Self {
        Self {
            now: Instant::now(),
            bridge: Bridge::new(controlling),
            peer: independent_agent("peer", bridge_pwd, peer_controlling),
            seen_at: peer_addr(),
            blocked: false,
            peer_sends_to: None,
            from_peer: 0,
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += Duration::from_millis(5);
            self.bridge.tick(self.now);
            if self.peer.poll_timeout().is_none_or(|at| at <= self.now) {
                self.peer.handle_timeout(self.now);
            }
            for (to, datagram) in std::mem::take(&mut self.bridge.out.sent) {
                if self.blocked || to.remote != self.seen_at {
                    continue;
                }
                let message = StunMessage::parse(&datagram).unwrap();
                let (source, destination) = (BRIDGE.parse().unwrap(), peer_addr());
                self.peer.handle_packet(self.now, StunPacket { proto: Protocol::Udp, source, destination, message });
            }
            while let Some(transmit) = self.peer.poll_transmit() {
                if !self.blocked {
                    self.from_peer += 1;
                    self.bridge.receive(self.now, self.seen_at, &transmit.contents);
                }
            }
            while let Some(event) = self.peer.poll_event() {
                if let IceAgentEvent::NominatedSend { destination, .. } = event {
                    self.peer_sends_to = Some(destination);
                }
            }
        }
    }

    #[track_caller]
    fn assert_connected(&self) {
        assert_eq!(self.bridge.connected(), Some(self.seen_at));
        assert!(self.peer.state().is_connected(), "{:?}", self.peer.state());
        assert_eq!(self.peer_sends_to, Some(BRIDGE.parse().unwrap()));
    }
}

#[test]
fn connects_to_an_independent_controlled_agent_and_keeps_consent() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    world.bridge.signal(world.now, &[(PEER, 2_130_706_431, false)]);
    world.run(SECOND / 4);
    world.assert_connected();
    let at = path(peer_addr());
    assert!(world.bridge.last(AgentEvent::Learnt { path: at, round_trip: true }).is_some());
    assert!(world.bridge.last(AgentEvent::Connected { path: at }).is_some());
    world.run(120 * SECOND);
    world.assert_connected();
    assert_eq!(world.bridge.last(AgentEvent::Disconnected), None);
}

#[test]
fn a_peer_that_signals_no_candidate_is_found_by_its_checks() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    // Behind a NAT: the address that it knows itself is not the one that the bridge sees.
    world.seen_at = "203.0.113.9:61000".parse().unwrap();
    world.bridge.signal(world.now, &[]);
    world.run(SECOND);
    world.assert_connected();
}

#[test]
fn checks_that_precede_the_credentials_are_answered_and_not_forgotten() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    world.bridge.receive(world.now, peer_addr(), &request(1, 1000));
    world.bridge.tick(world.now);
    let sent = std::mem::take(&mut world.bridge.out.sent);
    let [(to, answer)] = &sent[..] else { panic!("one answer and no check: {sent:?}") };
    assert_eq!(*to, path(peer_addr()));
    let answer = Message::parse(answer).unwrap();
    assert_eq!((answer.class(), answer.transaction(), answer.mapped()), (Class::Success, [1; 12], Some(peer_addr())));
    assert!(answer.verify(&integrity_key(BRIDGE_PWD)));
    assert!(world.bridge.last(AgentEvent::Learnt { path: path(peer_addr()), round_trip: false }).is_some());
    assert_eq!(world.bridge.connected(), None);

    // Five minutes later (somebody was asked for permission): the credentials, and no candidate.
    world.now += 300 * SECOND;
    world.bridge.signal(world.now, &[]);
    world.bridge.tick(world.now);
    assert_eq!(world.bridge.out.sent.len(), 1, "the pair is checked at once");
    world.run(SECOND / 4);
    world.assert_connected();
}

#[test]
fn integrity_comes_before_everything_else() {
    let mut world = World::new(true, false, "not the bridge's password");
    world.bridge.signal(world.now, &[]);
    world.run(5 * SECOND);
    assert!(world.from_peer > 3);
    assert_eq!(world.bridge.stats.get(Counter::DropStunIntegrity), world.from_peer);
    assert_eq!(world.bridge.events, [], "nothing is learnt");
    assert_eq!(world.bridge.agent.learnt_paths().count(), 0);

    // Not even an error is answered: no PRIORITY; a role conflict that we would lose; no integrity at all.
    let mut bridge = Bridge::new(true);
    let wrong = integrity_key("wrong");
    let mut buf = [0; 300];
    let len = Writer::new(&mut buf, Class::Request, &[9; 12]).username(b"3bridge:peer").finish(&wrong).unwrap();
    bridge.receive(world.now, peer_addr(), &buf[..len]);
    let writer = Writer::new(&mut buf, Class::Request, &[9; 12]).username(b"3bridge:peer");
    let len = writer.role(true, u64::MAX).priority(1).finish(&wrong).unwrap();
    bridge.receive(world.now, peer_addr(), &buf[..len]);
    let mut bare = request(9, 1);
    bare.truncate(bare.len() - 32);
    let length = (bare.len() - 20) as u16;
    bare[2..4].copy_from_slice(&length.to_be_bytes());
    bridge.receive(world.now, peer_addr(), &bare);
    assert_eq!(bridge.stats.get(Counter::DropStunIntegrity), 3);
    assert!(bridge.out.sent.is_empty() && bridge.events.is_empty() && bridge.agent.controlling());
}

#[test]
fn role_conflicts_are_resolved_by_the_tie_breaker() {
    for (controlling, peer_tie_breaker) in [(true, 0), (true, u64::MAX), (false, 0), (false, u64::MAX)] {
        let mut world = World::new(controlling, controlling, BRIDGE_PWD);
        world.peer.set_control_tie_breaker(peer_tie_breaker);
        world.bridge.signal(world.now, &[(PEER, 2_130_706_431, false)]);
        world.run(2 * SECOND);
        world.assert_connected();
        assert_eq!(world.bridge.agent.controlling(), peer_tie_breaker == 0, "{controlling} {peer_tie_breaker}");
    }
}

#[test]
fn a_role_conflict_is_answered_with_487() {
    let mut bridge = Bridge::new(true);
    let mut buf = vec![0; 300];
    let writer = Writer::new(&mut buf, Class::Request, &[5; 12]).username(b"3bridge:peer");
    let len = writer.role(true, 0).priority(1).finish(&integrity_key(BRIDGE_PWD)).unwrap();
    bridge.receive(Instant::now(), peer_addr(), &buf[..len]);
    let answer = Message::parse(&bridge.out.sent[0].1).unwrap();
    assert_eq!((answer.class(), answer.error(), answer.transaction()), (Class::Error, Some(487), [5; 12]));
    assert!(answer.verify(&integrity_key(BRIDGE_PWD)));
    assert!(bridge.events.is_empty());
}

#[test]
fn lost_consent_disconnects_within_30_seconds_and_comes_back() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    world.bridge.signal(world.now, &[(PEER, 2_130_706_431, false)]);
    world.run(20 * SECOND);
    world.assert_connected();
    world.blocked = true;
    let cut = world.now;
    world.run(31 * SECOND);
    let lost = world.bridge.last(AgentEvent::Disconnected).expect("consent must expire");
    assert!(lost - cut > 20 * SECOND && lost - cut <= 30 * SECOND, "{:?}", lost - cut);
    assert_eq!(world.bridge.connected(), None);
    world.blocked = false;
    world.run(10 * SECOND);
    world.assert_connected();
    assert!(world.bridge.last(AgentEvent::Connected { path: path(peer_addr()) }).unwrap() > lost);
}

#[test]
fn requests_alone_do_not_keep_consent() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    world.bridge.signal(world.now, &[(PEER, 2_130_706_431, false)]);
    world.run(SECOND);
    world.assert_connected();
    // The peer goes on checking but never hears our checks: RFC 7675 wants answers, not questions.
    let start = world.now;
    while world.bridge.connected().is_some() {
        world.now += SECOND;
        assert!(world.now < start + 31 * SECOND, "still connected");
        world.bridge.tick(world.now);
        world.bridge.out.sent.clear();
        world.bridge.receive(world.now, peer_addr(), &request(5, 1));
    }
}

#[test]
fn no_valid_pair_for_30_seconds_is_reported_once() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    world.blocked = true;
    world.bridge.signal(world.now, &[(PEER, 2_130_706_431, false)]);
    world.run(100 * SECOND);
    assert_eq!(world.bridge.events.iter().map(|(_, event)| *event).collect::<Vec<_>>(), [AgentEvent::Disconnected]);
    // The peer's network comes up at last, and it checks: that is enough.
    world.blocked = false;
    world.peer = independent_agent("peer", BRIDGE_PWD, false);
    world.run(SECOND);
    world.assert_connected();
}

/// A bridge that has just sent its first check to the peer, and that check.
fn checking_bridge(now: Instant) -> (Bridge, Vec<u8>) {
    let mut bridge = Bridge::new(true);
    bridge.signal(now, &[(PEER, 1, false)]);
    bridge.tick(now);
    let (_, check) = bridge.out.sent.pop().unwrap();
    (bridge, check)
}

#[test]
fn forged_answers_prove_nothing() {
    let now = Instant::now();
    let (mut bridge, check) = checking_bridge(now);
    bridge.receive(now, peer_addr(), &answer(&check, "wrong"));
    assert_eq!(bridge.stats.get(Counter::DropStunIntegrity), 1);
    bridge.receive(now, "198.51.100.8:4000".parse().unwrap(), &answer(&check, PEER_PWD));
    assert_eq!(bridge.stats.get(Counter::DropStunUnknownTransaction), 1);
    assert_eq!(bridge.connected(), None);
    bridge.receive(now, peer_addr(), &answer(&check, PEER_PWD));
    assert_eq!(bridge.connected(), Some(peer_addr()));
    bridge.receive(now, peer_addr(), &answer(&check, PEER_PWD));
    assert_eq!(bridge.stats.get(Counter::DropStunUnknownTransaction), 2, "an answer counts once");
}

#[test]
fn a_relay_is_nominated_only_when_nothing_else_works() {
    let (relay, direct) = ("203.0.113.50:3478", "198.51.100.7:4000");
    for direct_works in [true, false] {
        let mut now = Instant::now();
        let mut bridge = Bridge::new(true);
        bridge.signal(now, &[(relay, u32::MAX, true), (direct, 1, false)]);
        let mut nominated = Vec::new();
        let start = now;
        for _ in 0..800 {
            now += Duration::from_millis(5);
            bridge.tick(now);
            for (to, datagram) in std::mem::take(&mut bridge.out.sent) {
                // The direct path is slow to come up: its NAT opens after half a second.
                if to.remote == relay.parse().unwrap() || (direct_works && now > start + SECOND / 2) {
                    if Message::parse(&datagram).unwrap().use_candidate() {
                        nominated.push((to.remote.to_string(), now - start));
                    }
                    bridge.receive(now, to.remote, &answer(&datagram, PEER_PWD));
                }
            }
        }
        let (first, after) = nominated.first().expect("somebody is nominated");
        if direct_works {
            assert!(nominated.iter().all(|(remote, _)| remote == direct), "{nominated:?}");
            assert_eq!(bridge.connected(), Some(direct.parse().unwrap()));
        } else {
            assert_eq!(first, relay);
            assert!(*after >= 2 * SECOND && *after < 3 * SECOND, "{after:?}");
            assert_eq!(bridge.connected(), Some(relay.parse().unwrap()));
            assert!(bridge.agent.is_relayed(path(relay.parse().unwrap())));
            assert!(!bridge.agent.is_relayed(path(direct.parse().unwrap())));
        }
    }
}

#[test]
fn pairs_are_bounded_and_the_valid_one_stays() {
    let now = Instant::now();
    let (mut bridge, check) = checking_bridge(now);
    bridge.receive(now, peer_addr(), &answer(&check, PEER_PWD));
    for port in 1..500 {
        let now = now + Duration::from_millis(10 * u64::from(port));
        bridge.receive(now, SocketAddr::from(([203, 0, 113, 1], port)), &request(5, u32::from(port)));
    }
    assert_eq!(bridge.agent.learnt_paths().count(), MAX_PAIRS);
    assert_eq!(bridge.connected(), Some(peer_addr()));
    let forgotten = bridge.events.iter().filter(|(_, event)| matches!(event, AgentEvent::Forgotten { .. })).count();
    assert_eq!(forgotten, 499 + 1 - MAX_PAIRS, "every path that gave way is reported");
}

#[test]
fn new_remote_credentials_restart_the_checks_while_media_goes_on() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    world.bridge.signal(world.now, &[]);
    world.run(SECOND);
    world.assert_connected();
    world.bridge.agent.set_remote(world.now, Some(credentials("fresh", PEER_PWD)), &[]);
    assert_eq!(world.bridge.connected(), Some(peer_addr()));
    world.peer = independent_agent("fresh", BRIDGE_PWD, false);
    world.run(SECOND);
    world.assert_connected();
    assert_eq!(world.bridge.last(AgentEvent::Disconnected), None);
}

#[test]
fn forged_requests_without_end_are_not_hashed_and_do_not_end_what_goes_on() {
    let mut world = World::new(true, false, BRIDGE_PWD);
    world.bridge.signal(world.now, &[]);
    world.run(SECOND);
    world.assert_connected();
    let mut forged = request(5, 9);
    // Another's password; whoever forges leaves FINGERPRINT out or writes it anew.
    let end = forged.len() - 8;
    forged.truncate(end);
    forged[end - 1] ^= 1;
    let length = (end - 20) as u16;
    forged[2..4].copy_from_slice(&length.to_be_bytes());
    let start = world.now;
    for i in 0..10_000u64 {
        let now = start + Duration::from_micros(100 * i);
        world.bridge.receive(now, SocketAddr::from(([203, 0, 113, (i % 200) as u8], 7)), &forged);
    }
    let stats = &world.bridge.stats;
    assert!(stats.get(Counter::DropStunIntegrity) <= 160, "{}", stats.get(Counter::DropStunIntegrity));
    assert!(stats.get(Counter::DropStunRate) >= 9_840);
    world.run(SECOND * 40);
    world.assert_connected();
}

#[test]
fn requests_without_end_are_answered_at_a_rate_and_cost_the_others_nothing() {
    let now = Instant::now();
    let (mut bridge, check) = checking_bridge(now);
    bridge.receive(now, peer_addr(), &answer(&check, PEER_PWD));
    bridge.out.sent.clear();
    let bytes = (0..10_000u64).map(|i| {
        let flood = request(5, 9);
        bridge.receive(now + Duration::from_micros(i * 100), SocketAddr::from(([203, 0, 113, 1], 7)), &flood);
        flood.len()
    });
    let (asked, answered) = (bytes.sum::<usize>(), bridge.out.sent.iter().map(|(_, sent)| sent.len()).sum::<usize>());
    assert!(answered < asked / 20, "{answered} bytes for {asked}");
    assert!(bridge.stats.get(Counter::DropStunRate) >= 9_600);
    // Those who forge requests use up nobody's share, and answers are not requests.
    assert!(bridge.agent.learnt_paths().any(|known| known == path(peer_addr())));
    let later = now + SECOND * 4;
    bridge.out.sent.clear();
    bridge.receive(later, peer_addr(), &request(6, 9));
    assert!(!bridge.out.sent.is_empty());
    assert_eq!(bridge.connected(), Some(peer_addr()));
}
