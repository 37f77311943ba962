//! The ICE agent of one endpoint: a full agent, controlling by default, sans-I/O.
//!
//! Nothing is stored and nothing is learnt from a message before its MESSAGE-INTEGRITY is verified. Requests are
//! answered from the first moment, also before the peer's credentials are known (RFC 8445 section 7.3): the pair
//! that they reveal is kept and checked as soon as signalling delivers the credentials.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::datagram::{LocalSocket, PacketSink, Path};
use crate::ids::{EndpointId, WorkerId};

use super::drops::{DropCounter, DropReason};
use super::integrity::IntegrityKey;
use super::limits::{ForgedOnKnownPaths, ForgedRequests, MAX_PAIRS, StunRequests};
use super::pair::{CONSENT_INTERVAL, Check, Pair};
use super::signalling::{IceCredentials, RemoteCandidate};
use super::stun::{Class, Message, TransactionId, Writer};

/// Pace of ordinary checks (RFC 8445 section 14.2).
const TA: Duration = Duration::from_millis(50);
/// How long a relayed pair waits for a direct one before it is nominated.
const RELAY_PATIENCE: Duration = Duration::from_secs(2);
/// No valid pair this long after the credentials arrived: reported as disconnected. Checks go on.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// An incoming request on a valid but unused pair refreshes it when its consent has less left than this.
const REFRESH_BELOW: Duration = Duration::from_secs(20);

/// What an agent needs to know at birth.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentConfig {
    /// Whose agent it is; becomes part of transaction ids, so that answers find their way.
    pub endpoint: EndpointId,
    /// The worker that owns it, likewise.
    pub worker: WorkerId,
    /// Our credentials.
    pub local: IceCredentials,
    /// The role to start in.
    pub controlling: bool,
    /// The local sockets that it may use.
    #[serde(with = "crate::carry::shared_list")]
    pub sockets: Arc<[LocalSocket]>,
}

/// What an agent works with during one call.
#[derive(Debug)]
pub struct Context<'a, S> {
    /// Takes what the agent sends.
    pub sink: &'a mut S,
    /// Counts what it drops.
    pub stats: &'a dyn DropCounter,
    /// For transaction ids, tie-breakers, jitter.
    pub random: &'a SystemRandom,
}

/// What the owner of the agent must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentEvent {
    /// Datagrams over this path come from this endpoint. `round_trip`: it answered a check there, so it cannot have
    /// forged the address.
    Learnt {
        /// Socket and remote address.
        path: Path,
        /// Proven by an answer.
        round_trip: bool,
    },
    /// The path is not this endpoint's any more.
    Forgotten {
        /// Socket and remote address.
        path: Path,
    },
    /// Send over this path from now on; follows [`AgentEvent::Learnt`].
    Connected {
        /// Socket and remote address.
        path: Path,
    },
    /// Send nothing any more.
    Disconnected,
}

#[derive(Serialize, Deserialize)]
struct Remote {
    ufrag: String,
    key: IntegrityKey,
    /// `remote:local`, the USERNAME of our checks.
    username: Vec<u8>,
}

/// One endpoint's ICE session.
#[derive(Serialize, Deserialize)]
pub struct Agent {
    config: AgentConfig,
    key: IntegrityKey,
    remote: Option<Remote>,
    controlling: bool,
    tie_breaker: u64,
    pairs: Vec<Pair>,
    selected: Option<Path>,
    #[serde(with = "crate::carry::checked")]
    next_slot: Option<Instant>,
    #[serde(with = "crate::carry::checked")]
    connect_deadline: Option<Instant>,
    #[serde(with = "crate::carry::checked")]
    first_valid: Option<Instant>,
    #[serde(with = "crate::carry::checked")]
    nominate_at: Option<Instant>,
    events: VecDeque<AgentEvent>,
    requests: StunRequests,
    forged: ForgedRequests,
    forged_known: ForgedOnKnownPaths,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("endpoint", &self.config.endpoint)
            .field("controlling", &self.controlling)
            .field("selected", &self.selected)
            .field("pairs", &self.pairs)
            .finish_non_exhaustive()
    }
}

/// Bytes 0 (worker) and 1 to 4 (endpoint) of a transaction id that an agent of ours made.
pub fn transaction_owner(id: &TransactionId) -> (WorkerId, EndpointId) {
    let [worker, a, b, c, d, ..] = *id;
    (WorkerId::new(worker), EndpointId(u32::from_be_bytes([a, b, c, d])))
}

/// In place of an endpoint in transaction ids of questions to STUN servers; no endpoint has it.
const NOBODY: u32 = u32::MAX;

/// The transaction id of a question that a worker asks a STUN server, from so many random bytes.
pub fn question(worker: WorkerId, random: [u8; 7]) -> TransactionId {
    let [a, b, c, d] = NOBODY.to_be_bytes();
    let [e, f, g, h, i, j, k] = random;
    [worker.get(), a, b, c, d, e, f, g, h, i, j, k]
}

/// Candidate priority of RFC 8445 section 5.1.2.1 for component 1.
fn candidate_priority(type_preference: u32, socket: u16) -> u32 {
    (type_preference << 24) | ((65_535 - u32::from(socket)) << 8) | 255
}

impl Agent {
    /// An agent that answers requests; it checks nothing before [`Self::set_remote`].
    pub fn new(config: AgentConfig, random: &SystemRandom) -> Self {
        Self {
            key: IntegrityKey::new(config.local.pwd.clone()),
            remote: None,
            controlling: config.controlling,
            tie_breaker: u64::from_be_bytes(random_bytes(random)),
            pairs: Vec::new(),
            selected: None,
            next_slot: None,
            connect_deadline: None,
            first_valid: None,
            nominate_at: None,
            events: VecDeque::new(),
            requests: StunRequests::new(),
            forged: ForgedRequests::new(),
            forged_known: ForgedOnKnownPaths::new(),
            config,
        }
    }

    /// Our ufrag.
    pub fn local_ufrag(&self) -> &str {
        &self.config.local.ufrag
    }

    /// What it was made with.
    pub(super) fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// Whether the peer's credentials are known.
    pub(super) fn has_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Whether the pair in use is nominated: both sides have agreed on it.
    pub(super) fn is_settled(&self) -> bool {
        self.pairs.iter().any(|pair| self.selected == Some(pair.path()) && pair.nominated())
    }

    /// Another agent has taken over: this one checks nothing any more, and only answers.
    pub(super) fn retire(&mut self) {
        self.remote = None;
        self.connect_deadline = None;
        self.nominate_at = None;
    }

    /// Gives up a pair that is not in use, and reports nothing: its path was refused.
    pub(super) fn refuse(&mut self, path: Path) {
        self.pairs.retain(|pair| pair.path() != path || self.selected == Some(path));
    }

    /// Whether we are the controlling agent now.
    pub fn controlling(&self) -> bool {
        self.controlling
    }

    /// Where packets go; `None` without a valid pair.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether the peer's end of a path is a relayed (TURN) candidate, as far as was signalled.
    pub fn is_relayed(&self, path: Path) -> bool {
        self.pairs.iter().any(|pair| pair.path() == path && pair.relayed())
    }

    /// Sets the peer's credentials (new ones restart the checks) and adds candidates.
    pub fn set_remote(&mut self, now: Instant, credentials: Option<IceCredentials>, candidates: &[RemoteCandidate]) {
        if let Some(credentials) = credentials {
            let key = IntegrityKey::new(credentials.pwd);
            let username = format!("{}:{}", credentials.ufrag, self.config.local.ufrag).into_bytes();
            let restart = self.remote.as_ref().is_some_and(|remote| remote.ufrag != credentials.ufrag);
            if self.remote.is_none() || restart {
                self.connect_deadline = self.selected.is_none().then(|| now + CONNECT_TIMEOUT);
                for pair in &mut self.pairs {
                    pair.forget_checks();
                    pair.trigger(now);
                }
            }
            self.remote = Some(Remote { ufrag: credentials.ufrag, key, username });
        }
        for candidate in candidates {
            for socket in Arc::clone(&self.config.sockets).iter() {
                let same_family = socket.address.is_ipv4() == candidate.addr.is_ipv4();
                if !same_family || candidate.addr.port() == 0 {
                    continue;
                }
                let path = Path { local: socket.local, remote: candidate.addr };
                if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.path() == path) {
                    pair.signalled(candidate.priority, candidate.relayed);
                } else if self.make_room() {
                    let mut pair = Pair::new(path, candidate.priority, candidate.relayed);
                    if self.remote.is_some() {
                        pair.check_from(now);
                    }
                    self.pairs.push(pair);
                }
            }
        }
    }

    /// Makes room for one more pair: gives up the idle one, or else the unproven one, of the lowest priority.
    fn make_room(&mut self) -> bool {
        if self.pairs.len() < MAX_PAIRS {
            return true;
        }
        let worst = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| !pair.valid())
            .min_by_key(|(_, pair)| (!pair.idle(), pair.learnt(), pair.remote_priority()))
            .map(|(index, _)| index);
        let Some(worst) = worst else { return false };
        let pair = self.pairs.swap_remove(worst);
        if pair.learnt() {
            self.events.push_back(AgentEvent::Forgotten { path: pair.path() });
        }
        true
    }

    /// Takes a STUN message that the demultiplexer found to be this endpoint's, by ufrag or transaction id.
    /// True when it was authentic: a sign of life.
    pub fn handle_message<S: PacketSink>(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
        cx: &mut Context<'_, S>,
    ) -> bool {
        let key = match (message.class(), &self.remote) {
            (Class::Request, _) => &self.key,
            // A keep-alive (RFC 8445 section 11): it asks for nothing, and nothing authenticates it.
            (Class::Indication, _) => return false,
            // The answer must come from where the check went (RFC 8445 section 7.2.5.2.1).
            (Class::Success | Class::Error, Some(remote)) if self.awaits(path, message) => &remote.key,
            (Class::Success | Class::Error, _) => {
                cx.stats.count_drop(DropReason::UnknownTransaction);
                return false;
            }
        };
        // Hashing costs: whoever knows a ufrag might make us hash all day.
        let known =
            message.class() != Class::Request || self.pairs.iter().any(|pair| pair.learnt() && pair.path() == path);
        let looked_at = if known { self.forged_known.has_any(now) } else { self.forged.has_any(now) };
        if !looked_at {
            cx.stats.count_drop(DropReason::Rate);
            return false;
        }
        // First of all: an unauthenticated message leaves no trace but counters.
        if !message.verify(key.get()) {
            cx.stats.count_drop(DropReason::Integrity);
            let _ = if known { self.forged_known.take(now) } else { self.forged.take(now) };
            return false;
        }
        if message.class() == Class::Request && !self.requests.take(now) {
            cx.stats.count_drop(DropReason::Rate);
            return true;
        }
        match message.class() {
            Class::Request => self.handle_request(now, path, message, cx),
            _ => self.handle_response(now, path, message, cx),
        }
        true
    }

    fn handle_request<S: PacketSink>(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
        cx: &mut Context<'_, S>,
    ) {
        if let Some(kind) = message.unknown_required() {
            cx.stats.count_drop(DropReason::Malformed);
            return self.respond(path, message, cx, Class::Error, |w| w.error(420, "Unknown Attribute").unknown(kind));
        }
        let Some(priority) = message.priority() else {
            cx.stats.count_drop(DropReason::Malformed);
            return self.respond(path, message, cx, Class::Error, |w| w.error(400, "Bad Request"));
        };
        // Role conflicts, RFC 8445 section 7.3.1.1: the larger tie-breaker is controlling.
        let stays = match (self.controlling, message.controlling(), message.controlled()) {
            (true, Some(theirs), _) => Some(self.tie_breaker >= theirs),
            (false, _, Some(theirs)) => Some(self.tie_breaker < theirs),
            _ => None,
        };
        match stays {
            Some(true) => return self.respond(path, message, cx, Class::Error, |w| w.error(487, "Role Conflict")),
            Some(false) => self.switch_role(),
            None => {}
        }
        self.respond(path, message, cx, Class::Success, |w| w.mapped(path.remote));

        let index = match self.pairs.iter().position(|pair| pair.path() == path) {
            Some(index) => index,
            None if self.make_room() => {
                self.pairs.push(Pair::new(path, priority, false));
                self.pairs.len() - 1
            }
            None => return cx.stats.count_drop(DropReason::PairsFull),
        };
        let (controlling, selected, known) = (self.controlling, self.selected, self.remote.is_some());
        let Some(pair) = self.pairs.get_mut(index) else { return };
        pair.requested(!controlling && message.use_candidate());
        // Said again with every request: the table may have refused it, or given it to another worker's endpoint.
        self.events.push_back(AgentEvent::Learnt { path, round_trip: pair.valid() });
        let stale = match pair.consent_until() {
            None => true,
            Some(until) => selected != Some(path) && until.saturating_duration_since(now) < REFRESH_BELOW,
        };
        if known && stale && !pair.checked_within(TA, now) {
            pair.trigger(now);
            self.send_check(now, index, cx);
        }
        self.evaluate(now, cx);
    }

    /// Whether a response is the answer to a check that went there.
    pub(super) fn awaits(&self, path: Path, message: &Message<'_>) -> bool {
        self.pairs.iter().any(|pair| pair.path() == path && pair.check(&message.transaction()).is_some())
    }

    fn handle_response<S: PacketSink>(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
        cx: &mut Context<'_, S>,
    ) {
        let Some(index) = self.pairs.iter().position(|pair| pair.path() == path) else { return };
        let Some(pair) = self.pairs.get_mut(index) else { return };
        let Some(check) = pair.check(&message.transaction()) else { return };
        if message.class() == Class::Error {
            if message.error() == Some(487) && check.controlling == self.controlling {
                self.switch_role();
                self.tie_breaker = u64::from_be_bytes(random_bytes(cx.random));
                self.send_check(now, index, cx);
            }
            return;
        }
        let fresh = !pair.valid();
        pair.answered(now, check, jitter(cx.random));
        if fresh {
            self.events.push_back(AgentEvent::Learnt { path, round_trip: true });
            self.first_valid.get_or_insert(now);
        }
        self.evaluate(now, cx);
    }

    /// Lets time pass: at most one ordinary check per call, and the ends of consent.
    pub fn handle_timeout<S: PacketSink>(&mut self, now: Instant, cx: &mut Context<'_, S>) {
        let mut expired = false;
        for pair in &mut self.pairs {
            if pair.consent_until().is_some_and(|until| until <= now) {
                pair.expire(now);
                expired = true;
            }
        }
        if expired || self.nominate_at.is_some_and(|at| at <= now) {
            self.evaluate(now, cx);
        }
        if self.connect_deadline.is_some_and(|deadline| deadline <= now) {
            self.connect_deadline = None;
            if self.selected.is_none() {
                self.events.push_back(AgentEvent::Disconnected);
            }
        }
        if self.remote.is_none() || self.next_slot.is_some_and(|slot| slot > now) {
            return;
        }
        self.quiet_unused();
        let due = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| pair.next_check().is_some_and(|at| at <= now))
            .max_by_key(|(_, pair)| (pair.valid(), self.pair_priority(pair)))
            .map(|(index, _)| index);
        if let Some(index) = due {
            self.send_check(now, index, cx);
            self.next_slot = Some(now + TA);
        }
    }

    /// Once a pair carries media, the other valid or failed ones are not checked on our own account any more
    /// (RFC 8445 section 8.3); the peer's requests still revive them.
    fn quiet_unused(&mut self) {
        let Some(selected) = self.selected else { return };
        let settled = self.pairs.iter().any(|pair| pair.path() == selected && pair.nominated());
        for pair in &mut self.pairs {
            if settled && pair.path() != selected && (pair.valid() || pair.was_valid()) {
                pair.quiet();
            }
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` when only input can change anything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut next = [self.connect_deadline, self.nominate_at].into_iter().flatten().min();
        for pair in &self.pairs {
            let check = pair.next_check().filter(|_| self.remote.is_some());
            let check = check.map(|at| self.next_slot.map_or(at, |slot| at.max(slot)));
            next = [next, check, pair.consent_until()].into_iter().flatten().min();
        }
        next
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    /// Every path that was reported as learnt and not forgotten since: to be removed with the endpoint.
    pub fn learnt_paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.pairs.iter().filter(|pair| pair.learnt()).map(|pair| pair.path())
    }

    fn pair_priority(&self, pair: &Pair) -> u64 {
        pair.priority(candidate_priority(126, pair.path().local), self.controlling)
    }

    /// Chooses the pair to send over; the controlling agent nominates it.
    fn evaluate<S: PacketSink>(&mut self, now: Instant, cx: &mut Context<'_, S>) {
        let best = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| pair.valid())
            .max_by_key(|(_, pair)| (!self.controlling && pair.nominated(), !pair.relayed(), self.pair_priority(pair)))
            .map(|(index, pair)| (index, pair.path()));
        let Some((index, path)) = best else {
            if self.selected.take().is_some() {
                self.first_valid = None;
                self.nominate_at = None;
                self.events.push_back(AgentEvent::Disconnected);
            }
            return;
        };
        if self.selected != Some(path) {
            self.selected = Some(path);
            self.connect_deadline = None;
            self.events.push_back(AgentEvent::Connected { path });
        }
        let patience_ends = self.patience_ends(now);
        let Some(pair) = self.pairs.get_mut(index) else { return };
        pair.check_from(now);
        self.nominate_at = patience_ends.filter(|_| pair.relayed() && !pair.nominated());
        if self.controlling && !pair.nominated() && self.nominate_at.is_none() && !pair.checked_within(TA, now) {
            self.send_check(now, index, cx);
        }
    }

    /// While a direct pair may still turn up: until when a relayed one waits for its nomination.
    fn patience_ends(&self, now: Instant) -> Option<Instant> {
        self.first_valid.map(|at| at + RELAY_PATIENCE).filter(|at| now < *at)
    }

    fn switch_role(&mut self) {
        self.controlling = !self.controlling;
        for pair in &mut self.pairs {
            pair.reset_role();
        }
    }

    /// Sends one check; it nominates when we are controlling and this is the pair in use.
    fn send_check<S: PacketSink>(&mut self, now: Instant, index: usize, cx: &mut Context<'_, S>) {
        let patient = self.patience_ends(now).is_some();
        let (Some(pair), Some(remote)) = (self.pairs.get_mut(index), &self.remote) else { return };
        let nominating = self.controlling && self.selected == Some(pair.path()) && !(pair.relayed() && patient);
        let mut id: TransactionId = random_bytes(cx.random);
        id[0] = self.config.worker.get();
        id[1..5].copy_from_slice(&self.config.endpoint.0.to_be_bytes());
        pair.sent(now, Check { id, nominating, controlling: self.controlling });
        let Some(slot) = cx.sink.slot() else { return cx.stats.count_drop(DropReason::OutputFull) };
        let written = Writer::new(slot, Class::Request, &id)
            .username(&remote.username)
            .role(self.controlling, self.tie_breaker)
            .priority(candidate_priority(110, pair.path().local))
            .use_candidate(nominating)
            .finish(remote.key.get());
        if let Some(len) = written {
            cx.sink.commit(len, pair.path());
        }
    }

    fn respond<S: PacketSink>(
        &self,
        path: Path,
        request: &Message<'_>,
        cx: &mut Context<'_, S>,
        class: Class,
        content: impl for<'w> FnOnce(Writer<'w>) -> Writer<'w>,
    ) {
        let Some(slot) = cx.sink.slot() else { return cx.stats.count_drop(DropReason::OutputFull) };
        if let Some(len) = content(Writer::new(slot, class, &request.transaction())).finish(self.key.get()) {
            cx.sink.commit(len, path);
        }
    }
}

fn random_bytes<const N: usize>(random: &SystemRandom) -> [u8; N] {
    let mut bytes = [0; N];
    // It fails only where the kernel has no random numbers; integrity does not rest on these.
    let _ = random.fill(&mut bytes);
    bytes
}

/// The time to the next consent check: 0.8 to 1.2 times the interval (RFC 7675 section 5.1).
fn jitter(random: &SystemRandom) -> Duration {
    let [byte] = random_bytes::<1>(random);
    CONSENT_INTERVAL * (4 * 255 + 2 * u32::from(byte)) / (5 * 255)
}
