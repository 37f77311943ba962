//! The ICE agents of one endpoint against a peer that knows the passwords and does as it likes.
//!
//! Fed: the role, then steps: requests, answers to checks of ours, raw datagrams, candidates, restarts from either side, time.
//! Held: nothing panics; an unauthenticated message has no effect at all; one request is answered by one message that is not
//! larger than 1.5 times itself, and by at most one check per path, generation and pace; pairs and generations stay within
//! their bounds; a path is said to be learnt before media is sent there, and not forgotten while it is; timers advance.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::ice::{
    Agent, AgentConfig, AgentEvent, Context, MAX_PAIRS, Session, SessionEvent, transaction_owner,
};
use ringbridge_dataplane::ice::{IceCredentials, RemoteCandidate};
use ringbridge_dataplane::ids::{EndpointId, WorkerId};
use ringbridge_dataplane::io::{LocalSocket, Path};
use ringbridge_dataplane::stats::WorkerStats;

use crate::input::Input;
use crate::sink::ListSink;
use crate::stun::sign;

const OURS: &str = "our password of 22 char";
const THEIRS: [&str; 3] = ["their password", "another password", ""];

struct World {
    agent: Session,
    /// Number of the latest restart.
    generation: u32,
    stats: WorkerStats,
    sink: ListSink,
    now: Instant,
    /// The password index that was signalled last, and all that were.
    remote: Option<usize>,
    signalled: HashSet<usize>,
    /// Checks of ours, newest last: path, transaction, index of the password, our ufrag.
    checks: Vec<(Path, [u8; 12], usize, String)>,
    learnt: HashSet<Path>,
    selected: Option<Path>,
    /// Paths whose requests triggered a check of a generation since time passed or an answer came.
    triggered: HashSet<(Path, String)>,
}

fn random() -> &'static SystemRandom {
    static RANDOM: OnceLock<SystemRandom> = OnceLock::new();
    RANDOM.get_or_init(SystemRandom::new)
}

fn credentials(index: usize) -> IceCredentials {
    IceCredentials { ufrag: format!("theirs{index}"), pwd: THEIRS[index].to_owned() }
}

/// Our ufrag of a generation.
fn ours(generation: u32) -> String {
    if generation == 0 { "3ours".to_owned() } else { format!("3ours{generation}") }
}

fn path(input: &mut Input<'_>) -> Path {
    let byte = input.u8();
    let port = 1 + u16::from(byte & 0x3f);
    let remote: SocketAddr = match byte >> 6 {
        0 | 1 => ([192, 0, 2, 1], port).into(),
        2 => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], port).into(),
        _ => ([198, 51, 100, 7], port).into(),
    };
    let local = u8::from(remote.is_ipv6()) * 2 + (byte >> 6) % 2;
    Path { local: u16::from(local.min(2)), remote }
}

impl World {
    fn with<R>(&mut self, step: impl FnOnce(&mut Session, Instant, &mut Context<'_, ListSink>) -> R) -> R {
        let Self { agent, stats, sink, now, .. } = self;
        step(agent, *now, &mut Context { sink, stats, random: random() })
    }

    /// Takes what the agent sent and said; returns how many messages it sent.
    fn settle(&mut self) -> (usize, usize) {
        let (mut messages, mut bytes) = (0, 0);
        for (path, datagram) in std::mem::take(&mut self.sink.datagrams) {
            messages += 1;
            bytes += datagram.len();
            let message = Message::parse(&datagram).expect("the agent sends STUN");
            if message.class() == Class::Request {
                assert_eq!(transaction_owner(&message.transaction()), (WorkerId::new(3), EndpointId(77)));
                let username = String::from_utf8(message.username().expect("a username").to_vec()).expect("text");
                let (remote, local) = username.split_once(':').expect("two parts");
                let theirs = remote.strip_prefix("theirs").and_then(|n| n.parse().ok()).expect("their ufrag");
                assert!(self.signalled.contains(&theirs), "a check needs credentials");
                assert!(message.verify(&integrity_key(THEIRS[theirs])));
                self.checks.push((path, message.transaction(), theirs, local.to_owned()));
            } else {
                assert!(message.verify(&integrity_key(OURS)));
            }
        }
        while let Some(event) = self.agent.poll_event() {
            let SessionEvent::Agent(event) = event else { continue };
            match event {
                AgentEvent::Learnt { path, .. } => drop(self.learnt.insert(path)),
                AgentEvent::Forgotten { path } => {
                    assert!(self.learnt.remove(&path), "forgotten without having been learnt");
                    assert_ne!(self.selected, Some(path), "the path in use is not forgotten");
                }
                AgentEvent::Connected { path } => {
                    assert!(self.learnt.contains(&path), "media goes only where the peer is known to be");
                    self.selected = Some(path);
                }
                AgentEvent::Disconnected => self.selected = None,
            }
        }
        assert_eq!(self.agent.selected(), self.selected);
        assert!(self.agent.learnt_paths().count() <= 2 * MAX_PAIRS);
        assert!(self.agent.local_ufrags().count() <= 2, "two generations at most");
        assert_eq!(self.agent.learnt_paths().collect::<HashSet<_>>(), self.learnt);
        (messages, bytes)
    }

    fn deliver(&mut self, path: Path, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else { return };
        let pairs = format!("{:?}", self.agent);
        let due = self.agent.poll_timeout();
        let checks = self.checks.len();
        let authentic = self.with(|agent, now, cx| agent.handle_message(now, path, &message, cx));
        if !authentic {
            assert_eq!(format!("{:?}", self.agent), pairs, "an unauthenticated message changes nothing");
            assert_eq!(self.agent.poll_timeout(), due);
        }
        let (messages, bytes) = self.settle();
        if !authentic {
            assert_eq!(messages, 0, "an unauthenticated message is not answered");
        }
        if message.class() == Class::Request {
            let news: HashSet<String> =
                self.checks[checks..].iter().filter(|c| c.0 == path).map(|c| c.3.clone()).collect();
            for local in news {
                assert!(self.triggered.insert((path, local)), "a flood of requests becomes a flood of checks");
            }
        } else {
            self.triggered.retain(|(to, _)| *to != path);
        }
        // The answer, a triggered check and a nomination.
        assert!(messages <= 3, "{messages} messages for one");
        if messages == 1 && message.class() == Class::Request {
            assert!(bytes <= datagram.len() * 3 / 2 + 60, "{bytes} bytes for {}", datagram.len());
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.agent.poll_timeout().filter(|due| *due <= end) {
            turns += 1;
            // The pace of checks is 50 ms; beside it come the ends of consent and of patience.
            assert!(turns <= 200 + time.as_millis() / 20, "timers of the agent do not advance");
            self.now = self.now.max(due);
            self.with(|agent, now, cx| agent.handle_timeout(now, cx));
            self.settle();
        }
        self.now = end;
        self.triggered.clear();
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let sockets: Vec<SocketAddr> =
        vec![([10, 0, 0, 1], 10_000).into(), ([10, 0, 0, 2], 10_000).into(), ([0u16; 8], 10_000).into()];
    let config = AgentConfig {
        endpoint: EndpointId(77),
        worker: WorkerId::new(3),
        local: IceCredentials { ufrag: "3ours".to_owned(), pwd: OURS.to_owned() },
        controlling: input.flag(),
        sockets: LocalSocket::numbered(&sockets),
    };
    let mut world = World {
        agent: Session::new(Agent::new(config, random())),
        generation: 0,
        stats: WorkerStats::default(),
        sink: ListSink::default(),
        now: Instant::now(),
        remote: None,
        signalled: HashSet::new(),
        checks: Vec::new(),
        learnt: HashSet::new(),
        selected: None,
        triggered: HashSet::new(),
    };
    let mut steps = 0;
    while !input.is_empty() && steps < 300 {
        steps += 1;
        match input.u8() % 10 {
            // A request of the peer.
            0 | 1 => {
                let (from, flags) = (path(&mut input), input.u8());
                let transaction: [u8; 12] = std::array::from_fn(|_| 7);
                let mut buffer = [0; 600];
                let ours = ours(if flags & 0x80 == 0 { 0 } else { world.generation });
                let username = format!("{ours}:theirs{}", world.remote.unwrap_or(0));
                let mut writer = Writer::new(&mut buffer, Class::Request, &transaction).username(username.as_bytes());
                if flags & 1 == 0 {
                    writer = writer.priority(input.u32());
                }
                if flags & 6 != 6 {
                    writer = writer.role(flags & 2 != 0, input.u64());
                }
                if flags & 8 != 0 {
                    writer = writer.unknown(0x7000);
                }
                let password = if flags & 0x30 == 0x30 { "wrong" } else { OURS };
                let writer = writer.use_candidate(flags & 0x40 != 0);
                if let Some(len) = writer.finish(&integrity_key(password)) {
                    world.deliver(from, &buffer[..len]);
                }
            }
            // An answer to one of our checks, from where it went or from elsewhere.
            2 | 3 => {
                let Some((to, transaction, theirs, _)) = world
                    .checks
                    .len()
                    .checked_sub(1 + usize::from(input.u8()) % 12)
                    .and_then(|index| world.checks.get(index))
                    .cloned()
                else {
                    continue;
                };
                let flags = input.u8();
                let from = if flags & 1 == 1 { path(&mut input) } else { to };
                let password = if flags & 2 == 2 { "wrong" } else { THEIRS[theirs] };
                let mut buffer = [0; 300];
                let class = if flags & 4 == 4 { Class::Error } else { Class::Success };
                let mut writer = Writer::new(&mut buffer, class, &transaction).mapped(([192, 0, 2, 9], 9).into());
                if class == Class::Error {
                    writer = writer.error(if flags & 8 == 8 { 487 } else { 400 }, "no");
                }
                if let Some(len) = writer.finish(&integrity_key(password)) {
                    world.deliver(from, &buffer[..len]);
                }
            }
            // Any attributes, signed.
            4 => {
                let (from, kind) = (path(&mut input), input.pick(&[0x0001, 0x0011, 0x0101, 0x0111]));
                let password = input.pick(&[OURS, OURS, THEIRS[0], "wrong"]);
                let transaction = world.checks.last().map_or([9; 12], |check| check.1);
                let message = sign(kind, transaction, input.bytes(), password);
                world.deliver(from, &message);
            }
            5 => {
                let from = path(&mut input);
                world.deliver(from, input.bytes());
            }
            // Signalling.
            6 => {
                let flags = input.u8();
                let candidates: Vec<RemoteCandidate> = (0..flags >> 4)
                    .map(|_| {
                        let remote = path(&mut input).remote;
                        let flags = input.u8();
                        RemoteCandidate {
                            addr: if flags & 2 == 2 { SocketAddr::new(remote.ip(), 0) } else { remote },
                            priority: input.u32(),
                            relayed: flags & 1 == 1,
                        }
                    })
                    .collect();
                let remote = (flags & 1 == 1).then(|| usize::from(flags >> 1) % THEIRS.len());
                world.remote = remote.or(world.remote);
                world.signalled.extend(remote);
                let now = world.now;
                world.agent.set_remote(now, remote.map(credentials), &candidates);
                world.settle();
            }
            7 => world.pass(Duration::from_millis(u64::from(input.u8()))),
            8 => world.pass(Duration::from_millis(u64::from(input.u16()))),
            _ => match input.u8() {
                full @ 0..=1 => world.sink.full = full == 1,
                // A restart, perhaps the same again.
                step if step & 1 == 1 => {
                    world.generation += u32::from(step & 2 == 0);
                    let (now, generation) = (world.now, world.generation);
                    let local = IceCredentials { ufrag: ours(generation), pwd: OURS.to_owned() };
                    world.agent.restart(now, generation, local, random());
                    world.settle();
                }
                // The peer's part of one, perhaps of another.
                step => {
                    let remote = usize::from(step >> 3) % THEIRS.len();
                    let generation = world.generation.wrapping_sub(u32::from(step & 4 == 4));
                    let candidate =
                        RemoteCandidate { addr: path(&mut input).remote, priority: 5, relayed: step & 64 == 64 };
                    let (now, with) = (world.now, step & 2 == 2);
                    world.signalled.insert(remote);
                    world.agent.answer_restart(now, generation, with.then(|| credentials(remote)), &[candidate]);
                    world.settle();
                }
            },
        }
    }
    world.sink.full = false;
    world.pass(Duration::from_secs(100));
}
