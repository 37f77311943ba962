//! The public addresses by STUN (RFC 8489): a Binding request from every socket to every server, as a state machine.
//!
//! A round asks everybody; the next one comes when addresses change, and after a while anyhow. What is known stays until a
//! round shows otherwise: a server that is down moves nobody.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::stun::{Class, Message, TransactionId};

use super::address::PublicAddress;
use super::failure::{Failure, Failures};
use super::finding::Finding;
use super::server::{MAX_SERVERS, StunServer};
use super::usable::is_usable;

/// How long a start waits for an answer, and when silence is reported: two requests have been sent by then.
pub const HOLD: Duration = Duration::from_secs(1);

/// Most questions of a round; as many as a worker keeps open.
const MAX_QUESTIONS: usize = 128;
/// The first wait for an answer (RFC 8489 section 6.2.1: RTO); doubled with every repetition.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Requests in all (the same: Rc).
const MAX_REQUESTS: u32 = 7;
/// The last wait, in first waits (the same: Rm).
const LAST_WAIT: u32 = 16;
/// From the end of a round to the next one, when an address was reported.
const RECHECK: Duration = Duration::from_secs(300);
/// The same when nothing was.
const RETRY: Duration = Duration::from_secs(60);
/// MAPPED-ADDRESS, and what servers of RFC 3489 send beside it: nothing that changes XOR-MAPPED-ADDRESS.
const OLD_ATTRIBUTES: [u16; 3] = [0x0001, 0x0004, 0x0005];

/// A socket to ask from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Its index for whoever sends.
    pub index: u16,
    /// What it is bound to.
    pub address: SocketAddr,
    /// Whether it has the media port, so that the port that others see counts.
    pub is_media: bool,
}

/// Something that the caller must do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Look this server's name up, and say what came of it.
    Resolve {
        /// Its position among the servers.
        server: usize,
    },
    /// Send a Binding request.
    Ask {
        /// Index of the socket to ask from.
        socket: u16,
        /// Address of the server.
        server: SocketAddr,
        /// Under which id.
        transaction: TransactionId,
    },
    /// Report to the operator.
    Report(Finding),
}

/// Makes transaction ids that nobody can guess.
pub type MakeTransaction = Box<dyn FnMut() -> TransactionId + Send>;

#[derive(Debug)]
struct Server {
    server: StunServer,
    /// A look-up is under way.
    resolving: bool,
    /// Why nothing is known from it in this round.
    why: Option<Failure>,
    /// Its addresses came in this round.
    resolved: bool,
}

#[derive(Debug)]
struct Question {
    server: usize,
    to: SocketAddr,
    socket: Socket,
    transaction: TransactionId,
    requests: u32,
    /// When to repeat it, or to give up.
    next: Instant,
    done: Option<Result<SocketAddr, Failure>>,
}

/// What a server said of a local address.
#[derive(Debug, Clone, Copy)]
struct Known {
    local: IpAddr,
    server: usize,
    public: SocketAddr,
    round: u64,
}

/// What was reported of the mapping of one local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapping {
    Plain,
    OtherPort,
    Differs,
}

/// See the module.
pub struct StunDiscovery {
    servers: Vec<Server>,
    sockets: Vec<Socket>,
    questions: Vec<Question>,
    known: Vec<Known>,
    make_transaction: MakeTransaction,
    outputs: VecDeque<Output>,
    failures: Failures,
    round: u64,
    started: Instant,
    /// What this round brought was judged.
    judged: bool,
    /// When the next round begins, once this one has ended.
    next_round: Option<Instant>,
    /// Silence was reported, and nothing was heard since.
    silence_reported: bool,
    mappings: Vec<(IpAddr, Mapping)>,
}

impl std::fmt::Debug for StunDiscovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StunDiscovery").field("round", &self.round).field("known", &self.known).finish_non_exhaustive()
    }
}

impl StunDiscovery {
    /// Asks the first `MAX_SERVERS` of these servers, from now on.
    pub fn new(now: Instant, servers: &[StunServer], sockets: Vec<Socket>, make_transaction: MakeTransaction) -> Self {
        let server =
            |server: &StunServer| Server { server: server.clone(), resolving: false, why: None, resolved: false };
        let mut discovery = Self {
            servers: servers.iter().take(MAX_SERVERS).map(server).collect(),
            sockets,
            questions: Vec::new(),
            known: Vec::new(),
            make_transaction,
            outputs: VecDeque::new(),
            failures: Failures::default(),
            round: 0,
            started: now,
            judged: false,
            next_round: None,
            silence_reported: false,
            mappings: Vec::new(),
        };
        discovery.start_round(now);
        discovery
    }

    /// Asks anew, from these sockets; what is known of others is forgotten.
    pub fn set_sockets(&mut self, now: Instant, sockets: Vec<Socket>) {
        self.known.retain(|known| sockets.iter().any(|socket| socket.address.ip() == known.local));
        self.sockets = sockets;
        self.start_round(now);
    }

    fn start_round(&mut self, now: Instant) {
        self.round += 1;
        (self.started, self.judged, self.next_round) = (now, false, None);
        self.questions.clear();
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            (server.why, server.resolved) = (None, false);
            if let Some(address) = server.server.address() {
                self.handle_resolved(now, index, &[address]);
            } else if !server.resolving {
                server.resolving = true;
                self.outputs.push_back(Output::Resolve { server: index });
            }
        }
        self.settle(now);
    }

    /// Takes the addresses of a server; none when its name has none.
    pub fn handle_resolved(&mut self, now: Instant, index: usize, addresses: &[SocketAddr]) {
        let Some(server) = self.servers.get_mut(index) else { return };
        server.resolving = false;
        if std::mem::replace(&mut server.resolved, true) {
            return;
        }
        let of_family = |v4: bool| addresses.iter().copied().find(|address| address.is_ipv4() == v4);
        let chosen: Vec<SocketAddr> = [of_family(true), of_family(false)].into_iter().flatten().collect();
        if chosen.is_empty() {
            server.why = Some(Failure::Unresolved);
            self.failures.count(Failure::Unresolved);
        }
        for to in chosen {
            for socket in self.sockets.clone() {
                if reaches(socket.address.ip(), to.ip()) && self.questions.len() < MAX_QUESTIONS {
                    let transaction = (self.make_transaction)();
                    let question =
                        Question { server: index, to, socket, transaction, requests: 0, next: now, done: None };
                    self.questions.push(question);
                }
            }
        }
        self.handle_timeout(now);
    }

    /// Takes a datagram that came to a socket.
    pub fn handle_datagram(&mut self, now: Instant, socket: u16, from: SocketAddr, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else { return self.failures.count(Failure::Malformed) };
        let is_answered = |question: &&mut Question| {
            question.done.is_none()
                && question.requests > 0
                && (question.to, question.socket.index, question.transaction) == (from, socket, message.transaction())
        };
        let question = self.questions.iter_mut().find(is_answered);
        let Some(question) = question.filter(|_| matches!(message.class(), Class::Success | Class::Error)) else {
            return self.failures.count(Failure::Stray);
        };
        let known_attributes = message.unknown_required().is_none_or(|kind| OLD_ATTRIBUTES.contains(&kind));
        let outcome = match message.mapped() {
            _ if message.class() == Class::Error => Err(Failure::Refused),
            Some(public) if known_attributes => {
                let usable = public.port() != 0 && is_usable(question.socket.address.ip(), public.ip());
                usable.then_some(public).ok_or(Failure::Unusable)
            }
            _ => Err(Failure::Malformed),
        };
        question.done = Some(outcome);
        let (local, server) = (question.socket.address.ip(), question.server);
        match outcome {
            Ok(public) => self.learn(Known { local, server, public, round: self.round }),
            Err(failure) => {
                self.failures.count(failure);
                self.servers[server].why = Some(failure);
            }
        }
        self.settle(now);
    }

    fn learn(&mut self, new: Known) {
        let Known { local, server, public, .. } = new;
        self.silence_reported = false;
        let news = !self.known.iter().any(|known| (known.local, known.public.ip()) == (local, public.ip()));
        self.known.retain(|known| (known.local, known.server) != (local, server));
        self.known.push(new);
        self.known.sort_by_key(|known| known.server);
        if news {
            let source = format!("STUN server {}", self.servers[server].server);
            let finding = match self.no_nat(local, public.ip()) {
                true => Finding::NoNat { local, source },
                false => Finding::Found { local, public: public.ip(), source },
            };
            self.outputs.push_back(Output::Report(finding));
        }
    }

    /// Whether a socket is seen under its own address, or under another one of this host, which needs no second candidate.
    fn no_nat(&self, local: IpAddr, public: IpAddr) -> bool {
        local == public || self.sockets.iter().any(|socket| socket.address.ip() == public)
    }

    /// Whether another socket is seen under this address and the media port: one public port is given to one of them alone, as
    /// where a container's network of this host leads through another of its addresses.
    fn is_taken(&self, local: IpAddr, public: IpAddr) -> bool {
        let plain = |known: &Known| {
            let socket = self.sockets.iter().find(|socket| socket.address.ip() == known.local);
            socket
                .is_some_and(|socket| socket.is_media && known.public == SocketAddr::new(public, socket.address.port()))
        };
        self.known.iter().any(|known| known.local != local && known.round == self.round && plain(known))
    }

    /// Repeats what is due, gives up, judges, and begins the next round.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_round.is_some_and(|at| at <= now) {
            return self.start_round(now);
        }
        for question in self.questions.iter_mut().filter(|question| question.done.is_none() && question.next <= now) {
            if question.requests >= MAX_REQUESTS {
                question.done = Some(Err(Failure::Timeout));
                self.failures.count(Failure::Timeout);
                self.servers[question.server].why.get_or_insert(Failure::Timeout);
                continue;
            }
            let wait = if question.requests + 1 == MAX_REQUESTS { LAST_WAIT } else { 1 << question.requests };
            question.requests += 1;
            question.next = now + FIRST_WAIT * wait;
            self.outputs.push_back(Output::Ask {
                socket: question.socket.index,
                server: question.to,
                transaction: question.transaction,
            });
        }
        self.settle(now);
    }

    fn is_over(&self) -> bool {
        self.questions.iter().all(|question| question.done.is_some())
            && self.servers.iter().all(|server| server.resolved)
    }

    fn settle(&mut self, now: Instant) {
        let over = self.is_over();
        if !self.judged && (over || now.saturating_duration_since(self.started) >= HOLD) {
            self.judged = true;
            self.judge_silence();
        }
        if self.judged {
            self.judge_mappings();
        }
        if over && self.next_round.is_none() {
            let reported =
                |local: IpAddr| self.known.iter().any(|known| known.local == local && known.round == self.round);
            let current: Vec<Known> = self
                .known
                .iter()
                .copied()
                .filter(|known| known.round == self.round || !reported(known.local))
                .collect();
            let heard = current.iter().any(|known| known.round == self.round);
            self.known = current;
            self.next_round = Some(now + if heard { RECHECK } else { RETRY });
        }
    }

    fn judge_silence(&mut self) {
        let asked = |local: IpAddr| self.questions.iter().any(|question| question.socket.address.ip() == local);
        let knows = |local: IpAddr| self.known.iter().any(|known| known.local == local);
        // Who is reachable from this host alone needs nobody's address.
        let outside = self.sockets.iter().any(|socket| !socket.address.ip().is_loopback());
        if self.known.is_empty() && (outside || !self.questions.is_empty()) {
            if std::mem::replace(&mut self.silence_reported, true) {
                return;
            }
            let reason = |(index, server): (usize, &Server)| {
                let asked = self.questions.iter().any(|question| question.server == index);
                let why = match server.why {
                    Some(failure) => failure.reason(),
                    None if !server.resolved => "its name is not looked up yet",
                    None if !asked => "no local address of its family",
                    None => Failure::Timeout.reason(),
                };
                format!("{}: {why}", server.server)
            };
            let servers = self.servers.iter().enumerate().map(reason).collect();
            self.outputs.push_back(Output::Report(Finding::Silent { servers }));
            return;
        }
        let silent: Vec<IpAddr> =
            self.sockets.iter().map(|socket| socket.address.ip()).filter(|ip| asked(*ip) && !knows(*ip)).collect();
        for local in silent {
            self.outputs.push_back(Output::Report(Finding::SilentOf { local }));
        }
    }

    fn judge_mappings(&mut self) {
        for socket in self.sockets.clone() {
            let local = socket.address.ip();
            // What an earlier round reported may be of another time.
            let current = |known: &Known| known.local == local && known.round == self.round;
            let reported: Vec<Known> = self.known.iter().copied().filter(current).collect();
            let Some(first) = reported.first() else { continue };
            let name = |known: &Known| (known.public, self.servers[known.server].server.to_string());
            let other = reported.iter().find(|known| known.public != first.public);
            let other_port = socket.is_media && first.public.port() != socket.address.port();
            let explained =
                |known: &Known| self.no_nat(local, known.public.ip()) || self.is_taken(local, known.public.ip());
            let finding = if reported.iter().all(explained) {
                None
            } else if let Some(other) = other {
                Some(Finding::Differs { local: socket.address, one: name(first), other: name(other) })
            } else {
                other_port.then_some(Finding::OtherPort { local: socket.address, public: first.public })
            };
            let mapping = match finding {
                None => Mapping::Plain,
                Some(Finding::OtherPort { .. }) => Mapping::OtherPort,
                Some(_) => Mapping::Differs,
            };
            let before =
                self.mappings.iter().position(|(known, _)| *known == local).map(|at| self.mappings.remove(at).1);
            self.mappings.push((local, mapping));
            if let (Some(finding), true) = (finding, before != Some(mapping)) {
                self.outputs.push_back(Output::Report(finding));
            }
        }
    }

    /// Whether a start should wait: no answer came yet for some socket that may get one, and the time is not up.
    pub fn holds(&self, now: Instant) -> bool {
        let waits = |socket: &Socket| {
            let known = self.known.iter().any(|known| known.local == socket.address.ip());
            let open =
                self.questions.iter().any(|question| question.socket.index == socket.index && question.done.is_none());
            let resolving = self.servers.iter().any(|server| !server.resolved);
            !known && (open || resolving)
        };
        self.round == 1 && now.saturating_duration_since(self.started) < HOLD && self.sockets.iter().any(waits)
    }

    /// The public addresses that are known, those of the first socket first.
    pub fn addresses(&self) -> Vec<PublicAddress> {
        let mut addresses: Vec<PublicAddress> = Vec::new();
        for socket in &self.sockets {
            let local = socket.address.ip();
            for known in self.known.iter().filter(|known| known.local == local) {
                let address = known.public.ip();
                let public = PublicAddress { local: (!local.is_unspecified()).then_some(local), address, port: None };
                if !self.no_nat(local, address) && !addresses.contains(&public) {
                    addresses.push(public);
                }
            }
        }
        addresses
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let questions = self.questions.iter().filter(|question| question.done.is_none()).map(|question| question.next);
        let judgement = (!self.judged).then(|| self.started + HOLD);
        questions.chain(judgement).chain(self.next_round).min()
    }

    /// Whether everybody answered, or will not.
    pub fn is_settled(&self) -> bool {
        self.next_round.is_some()
    }

    /// Counts of what failed, by reason.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// The server at a position, for whoever looks it up.
    pub fn server(&self, index: usize) -> Option<&StunServer> {
        self.servers.get(index).map(|server| &server.server)
    }
}

/// Whether it makes sense to ask: of one family, and from loopback only what is on this host.
fn reaches(local: IpAddr, server: IpAddr) -> bool {
    let link_local = matches!(local, IpAddr::V6(v6) if v6.is_unicast_link_local());
    local.is_ipv4() == server.is_ipv4() && !link_local && (!local.is_loopback() || server.is_loopback())
}

#[cfg(test)]
#[path = "stun/tests.rs"]
mod tests;
