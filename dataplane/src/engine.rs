//! One worker's endpoints without threads, sockets and rings: commands and packets go in, packets and events come out.

mod commands;
mod endpoints;
mod error;
mod events;
mod handover;
mod ice_drops;
mod questions;
mod sockets;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use ring::rand::SystemRandom;

use crate::conference::{Forwarder, ForwarderConfig};
use crate::congestion::shedding::Shedding;
use crate::datagram::{LocalSocket, PacketSink, Path};
use crate::demux::{AddressTable, EndpointIndex, Owner, Protocol, worker_of_ufrag};
use crate::ice::stun::{Class, Message};
use crate::ice::{AgentEvent, Context, SessionEvent, transaction_owner};
use crate::ice::{IceState, RestartOutcome};
use crate::ids::{ConferenceId, EndpointId, WorkerId};
use crate::io::Steering;
use crate::messages::Event;
use crate::peers::{PeerMessage, Peers};
use crate::stats::{Counter, WorkerStats};

use endpoints::Endpoints;
use events::EventQueue;
use questions::Questions;
use sockets::LocalSockets;

pub use error::CommandError;
pub use handover::{EngineState, ImportError};

/// Messages of one other worker that are handled before media gets its turn again.
const STEP: usize = 256;
/// Remote addresses per endpoint: most are seen at one or two.
pub(crate) const ADDRESSES_PER_ENDPOINT: usize = 4;

/// Bounds and identity of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The worker that it is: the ufrags of its endpoints begin with [`crate::demux::ufrag_prefix`] of that.
    pub worker: WorkerId,
    /// Addresses of the shared sockets, by index ([`Path::local`]).
    pub sockets: Arc<[SocketAddr]>,
    /// Most endpoints.
    pub max_endpoints: usize,
    /// Most remote addresses that endpoints are found under; an endpoint has one or two.
    pub max_addresses: usize,
    /// How media is forwarded.
    pub forwarder: ForwarderConfig,
}

impl EngineConfig {
    /// The usual bounds, for these sockets.
    pub fn new(sockets: impl Into<Arc<[SocketAddr]>>) -> Self {
        let max_endpoints = 4096;
        Self {
            worker: WorkerId::default(),
            sockets: sockets.into(),
            max_endpoints,
            max_addresses: max_endpoints * ADDRESSES_PER_ENDPOINT,
            forwarder: ForwarderConfig::default(),
        }
    }
}

/// Everything that one worker knows of its endpoints: ICE, keys, sources, receivers.
///
/// It has no sockets, no threads and no clock. Give it commands, datagrams and the time, in any order; it writes datagrams to a
/// [`PacketSink`] and keeps events to be polled. [`crate::Dataplane`] runs one per core.
///
/// ```
/// use std::time::Instant;
/// use ringbridge_dataplane::{Engine, EngineConfig};
/// use ringbridge_dataplane::ids::{ConferenceId, Ssrc};
/// use ringbridge_dataplane::io::{PacketSink, Path};
/// use ringbridge_dataplane::messages::{Command, FeedbackSsrcs};
///
/// /// Prints what would be sent.
/// struct Printer([u8; 1500]);
///
/// impl PacketSink for Printer {
///     fn slot(&mut self) -> Option<&mut [u8]> {
///         Some(&mut self.0)
///     }
///     fn commit(&mut self, len: usize, path: Path) {
///         println!("{len} bytes to {}", path.remote);
///     }
/// }
///
/// let local = "192.0.2.1:10000".parse()?;
/// let mut engine = Engine::new(EngineConfig::new([local]), Default::default());
/// let (mut sink, now) = (Printer([0; 1500]), Instant::now());
/// let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
/// engine.handle_command(now, Command::CreateConference { conference: ConferenceId(7), feedback }, &mut sink)?;
/// let unknown = Command::ExpireConference { conference: ConferenceId(8) };
/// assert!(engine.handle_command(now, unknown, &mut sink).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    config: EngineConfig,
    stats: Arc<WorkerStats>,
    random: SystemRandom,
    endpoints: Endpoints,
    conferences: HashSet<ConferenceId, foldhash::fast::RandomState>,
    addresses: AddressTable,
    sockets: LocalSockets,
    forwarder: Forwarder,
    /// Gives the kernel the addresses whose packets are to come to this worker, where it takes that.
    steering: Option<Steering>,
    events: EventQueue,
    questions: Questions,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("worker", &self.config.worker)
            .field("endpoints", &self.endpoints.len())
            .field("conferences", &self.conferences.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine by itself, which counts in `stats`.
    pub fn new(config: EngineConfig, stats: Arc<WorkerStats>) -> Self {
        Self::with_peers(config, stats, Peers::none(), None)
    }

    /// One of several that share conferences.
    pub(crate) fn with_peers(
        config: EngineConfig,
        stats: Arc<WorkerStats>,
        peers: Peers,
        steering: Option<Steering>,
    ) -> Self {
        Self {
            random: SystemRandom::new(),
            endpoints: Endpoints::default(),
            conferences: HashSet::default(),
            addresses: AddressTable::new(config.max_addresses),
            sockets: LocalSockets::new(&config.sockets),
            forwarder: Forwarder::with_peers(config.forwarder.clone(), Arc::clone(&stats), peers),
            steering,
            events: EventQueue::default(),
            questions: Questions::default(),
            config,
            stats,
        }
    }

    /// The worker that it is.
    pub fn worker(&self) -> WorkerId {
        self.config.worker
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// Takes one datagram that came in over `path`, and sends at once what follows from it: answers, or media to its receivers.
    /// `datagram` is opened in place. What is not authentic, not wanted or not known is counted, and changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &mut [u8], sink: &mut impl PacketSink) {
        self.gather(now, path, datagram, None, sink);
        self.release(now, sink);
    }

    /// The same for several at once, which costs less: a receiver is given the media of all of them together.
    pub fn handle_batch<'a>(
        &mut self,
        now: Instant,
        datagrams: impl IntoIterator<Item = (Path, &'a mut [u8])>,
        sink: &mut impl PacketSink,
    ) {
        for (path, datagram) in datagrams {
            self.gather(now, path, datagram, None, sink);
        }
        self.release(now, sink);
    }

    /// Gives the media of a batch to its receivers.
    pub(crate) fn release(&mut self, now: Instant, sink: &mut impl PacketSink) {
        // Before the sealing and sending, which takes its time: the others can work meanwhile.
        self.forwarder.peers().wake();
        self.forwarder.release(now, sink);
    }

    /// Takes one datagram, whose media waits for [`Self::release`]; `via` is the worker that handed it over, if any.
    pub(crate) fn gather(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &mut [u8],
        via: Option<WorkerId>,
        sink: &mut impl PacketSink,
    ) {
        let Some(protocol) = Protocol::of(datagram) else {
            return self.stats.count(Counter::DropUnknownProtocol);
        };
        if protocol == Protocol::Stun {
            return self.handle_stun(now, path, datagram, via, sink);
        }
        let index = match self.addresses.get(&path) {
            Some(Owner::Endpoint(index)) => index,
            Some(Owner::Worker(worker)) if via.is_none() => {
                return self.hand_over(worker, path, datagram);
            }
            _ => {
                if let Some(via) = via {
                    // It steers by what is no longer true.
                    self.forwarder.peers().send(via, PeerMessage::Release { path });
                }
                return self.stats.count(Counter::DropUnknownAddress);
            }
        };
        let Some(endpoint) = self.endpoints.get_mut(index) else {
            return self.stats.count(Counter::DropUnknownAddress);
        };
        match (protocol, endpoint.slot()) {
            (Protocol::Rtp, Some(slot)) => self.forwarder.gather_rtp(now, slot, datagram, sink),
            (Protocol::Rtcp, Some(slot)) => self.forwarder.handle_rtcp(now, slot, datagram, sink),
            (Protocol::Dtls, _) => {
                if !endpoint.take_dtls(now) {
                    return self.stats.count(Counter::DropDtlsRate);
                }
                let event = Event::Dtls { endpoint: endpoint.id(), datagram: datagram.to_vec() };
                self.events.push(event, &self.stats);
            }
            _ => self.stats.count(Counter::DropNoKeys),
        }
    }

    fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &mut [u8],
        via: Option<WorkerId>,
        sink: &mut impl PacketSink,
    ) {
        let Ok(message) = Message::read_unchecked(datagram) else {
            return self.stats.count(Counter::DropStunMalformed);
        };
        let (index, owner, unknown) = match message.class() {
            Class::Request => {
                let Some((ufrag, _)) = message.ufrags() else {
                    return self.stats.count(Counter::DropStunMalformed);
                };
                let owner = std::str::from_utf8(ufrag).ok().and_then(worker_of_ufrag);
                (self.endpoints.index_of_ufrag(ufrag), owner, Counter::DropStunUnknownUfrag)
            }
            Class::Success | Class::Error => {
                let (worker, endpoint) = transaction_owner(&message.transaction());
                let index = self.endpoints.index_of(endpoint).filter(|_| worker == self.config.worker);
                (index, Some(worker), Counter::DropStunUnknownTransaction)
            }
            // A keep-alive: it did its work on the way.
            Class::Indication => return,
        };
        // Where a relay has a socket of its own, nobody else is found, and no other worker has that socket.
        let is_shared = self.sockets.is_shared(path.local);
        let Some(index) = index else {
            return match owner {
                _ if !is_shared => self.stats.count(Counter::DropForeignSocket),
                Some(owner) if via.is_none() && self.forwarder.peers().has_other(owner) => {
                    self.hand_over(owner, path, datagram)
                }
                _ if matches!(message.class(), Class::Success | Class::Error)
                    && self.questions.take_answered(path, &message) =>
                {
                    let event = Event::ServerAnswered { path, datagram: datagram.to_vec() };
                    self.events.push(event, &self.stats);
                }
                _ => self.stats.count(unknown),
            };
        };
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        if !self.sockets.may_use(endpoint.id(), path.local) {
            return self.stats.count(Counter::DropForeignSocket);
        }
        // Only now, since it costs more than to find out that nobody is meant.
        if !message.is_intact() {
            return self.stats.count(Counter::DropStunMalformed);
        }
        let mut context = Context { sink, stats: &self.stats, random: &self.random };
        let authentic = endpoint.ice_mut().handle_message(now, path, &message, &mut context);
        if let (true, Some(slot)) = (authentic, endpoint.slot()) {
            self.forwarder.note_activity(now, slot);
        }
        self.settle(now, index, via);
    }

    fn hand_over(&mut self, worker: WorkerId, path: Path, datagram: &[u8]) {
        if self.forwarder.peers().send_datagram(worker, path, datagram) {
            self.stats.count(Counter::Handovers);
        } else {
            self.stats.count(Counter::DropHandoverFull);
        }
    }

    /// Carries out what an endpoint's ICE reported, and plans its next timer.
    fn settle(&mut self, now: Instant, index: EndpointIndex, via: Option<WorkerId>) {
        while let Some(endpoint) = self.endpoints.get_mut(index) {
            let Some(event) = endpoint.ice_mut().poll_event() else { break };
            let id = endpoint.id();
            match event {
                SessionEvent::Agent(event) => self.follow(event, index, via),
                SessionEvent::Restarted { generation } => {
                    tracing::debug!(endpoint = %endpoint.label(), generation, "ICE restarted");
                    let event = Event::IceRestart { endpoint: id, generation, outcome: RestartOutcome::Connected };
                    self.events.push(event, &self.stats);
                }
                SessionEvent::Abandoned { generation } => {
                    tracing::debug!(endpoint = %endpoint.label(), generation, "ICE restart abandoned");
                    let event = Event::IceRestart { endpoint: id, generation, outcome: RestartOutcome::Abandoned };
                    self.events.push(event, &self.stats);
                }
                SessionEvent::Released { ufrag } => self.endpoints.release_ufrag(&ufrag),
            }
        }
        self.endpoints.schedule(index, now + Duration::from_millis(1));
    }

    fn follow(&mut self, event: AgentEvent, index: EndpointIndex, via: Option<WorkerId>) {
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        let id = endpoint.id();
        match event {
            AgentEvent::Learnt { path, round_trip } => {
                let owner = Owner::Endpoint(index);
                // What was proven before and came here by itself is steered already.
                let steered = via.is_none() && self.addresses.is_proven(&path, owner);
                match self.addresses.learn(path, owner, round_trip) {
                    Err(_) => {
                        self.stats.count(Counter::DropTableFull);
                        endpoint.ice_mut().refuse(path);
                    }
                    Ok(false) => {}
                    Ok(true) => {
                        // A mere request may come from a forged address, and the map is everybody's.
                        let steerable = self.sockets.is_shared(path.local) && !steered;
                        if let (Some(steering), true) = (&self.steering, round_trip && steerable)
                            && steering.claim(&path, self.config.worker).is_err()
                        {
                            self.stats.count(Counter::SteeringRefused);
                        }
                        if let Some(via) = via {
                            self.addresses.note_steered(&path, via);
                            self.forwarder.peers().send(via, PeerMessage::Claim { path, round_trip });
                        }
                    }
                }
            }
            AgentEvent::Forgotten { path } => self.forget(path, index),
            AgentEvent::Connected { path } => {
                tracing::debug!(endpoint = %endpoint.label(), remote = %path.remote, "ICE connected");
                let relayed = endpoint.ice().is_relayed(path);
                self.forwarder.set_path(id, Some(path));
                let event = Event::Ice { endpoint: id, state: IceState::Connected, remote: Some(path.remote), relayed };
                self.events.push(event, &self.stats);
            }
            AgentEvent::Disconnected => {
                tracing::info!(endpoint = %endpoint.label(), "ICE disconnected");
                self.forwarder.set_path(id, None);
                let event = Event::Ice { endpoint: id, state: IceState::Disconnected, remote: None, relayed: false };
                self.events.push(event, &self.stats);
            }
        }
    }

    fn forget(&mut self, path: Path, index: EndpointIndex) {
        let Some(steered_by) = self.addresses.forget(&path, Owner::Endpoint(index)) else { return };
        if let (Some(steering), true) = (&self.steering, self.sockets.is_shared(path.local)) {
            steering.release(&path, self.config.worker);
        }
        for worker in steered_by {
            self.forwarder.peers().send(worker, PeerMessage::Release { path });
        }
    }

    /// Takes what other workers queued, within bounds, and says whether there is more; media waits for [`Self::release`].
    pub(crate) fn handle_peers(&mut self, now: Instant, sink: &mut impl PacketSink) -> bool {
        let mut more = false;
        for worker in self.forwarder.peers().all() {
            for turn in 0..STEP {
                let Some(message) = self.forwarder.peers().poll(worker) else { break };
                match message {
                    PeerMessage::Datagram { path, len, mut data } => {
                        if let Some(datagram) = data.get_mut(..usize::from(len)) {
                            self.gather(now, path, datagram, Some(worker), sink);
                        }
                    }
                    PeerMessage::Media { header, len, data } => {
                        let packet = data.get(..usize::from(len)).unwrap_or(&[]);
                        self.forwarder.handle_cross_worker(now, worker, header, packet, sink);
                    }
                    PeerMessage::Signal(signal) => self.forwarder.handle_signal(now, worker, signal, sink),
                    PeerMessage::Claim { path, round_trip } => {
                        if self.addresses.learn(path, Owner::Worker(worker), round_trip).is_err() {
                            self.stats.count(Counter::DropTableFull);
                        }
                    }
                    PeerMessage::Release { path } => {
                        self.addresses.forget(&path, Owner::Worker(worker));
                    }
                }
                if turn + 1 == STEP {
                    more = true;
                }
            }
        }
        more
    }

    fn remove_endpoint(&mut self, id: EndpointId) -> bool {
        let Some((index, endpoint)) = self.endpoints.remove(id) else { return false };
        for path in endpoint.ice().learnt_paths() {
            self.forget(path, index);
        }
        self.sockets.take_back(id);
        true
    }

    /// Gives sockets of its own to an endpoint that is about to be created: those of [`Command::OpenSockets`], opened. Its ICE uses
    /// only them, and nobody else does. None at all say that they could not be opened: the endpoint will be refused.
    ///
    /// An error, and they are to be closed, when the endpoint exists or was given others.
    ///
    /// [`Command::OpenSockets`]: crate::messages::Command::OpenSockets
    pub fn give_sockets(&mut self, endpoint: EndpointId, sockets: &[LocalSocket]) -> Result<(), CommandError> {
        let exists = self.endpoints.index_of(endpoint).is_some() || self.forwarder.slot(endpoint).is_some();
        let given = !exists && self.sockets.give(endpoint, sockets);
        if !given {
            self.sockets.close(sockets);
        }
        if !given || sockets.is_empty() {
            self.stats.count(Counter::HandedSocketsRefused);
        }
        if given { Ok(()) } else { Err(CommandError::TooLate) }
    }

    /// A socket that was given to an endpoint, and that nobody uses any more: to be closed once all that was sent over it has gone.
    pub fn poll_closed_socket(&mut self) -> Option<u16> {
        self.sockets.poll_closed()
    }

    /// Does what is due; see [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl PacketSink) {
        while let Some(index) = self.endpoints.pop_due(now) {
            self.run_ice(now, index, sink);
        }
        if self.forwarder.poll_timeout().is_some_and(|at| at <= now) {
            self.forwarder.handle_timeout(now, sink);
        }
    }

    /// Does what an endpoint's ICE has to do by now.
    fn run_ice(&mut self, now: Instant, index: EndpointIndex, sink: &mut impl PacketSink) {
        if let Some(endpoint) = self.endpoints.get_mut(index) {
            let mut context = Context { sink, stats: &self.stats, random: &self.random };
            endpoint.ice_mut().handle_timeout(now, &mut context);
        }
        self.settle(now, index, None);
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.take_forwarder_events();
        self.events.pop()
    }

    fn take_forwarder_events(&mut self) {
        while let Some(event) = self.forwarder.poll_event() {
            self.events.push(event, &self.stats);
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` when only input can change anything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.endpoints.next_timer(), self.forwarder.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether something waits for room elsewhere: with the other workers, or for events to be polled. Nobody wakes the worker
    /// when there is room again.
    pub(crate) fn is_held_up(&mut self) -> bool {
        !self.events.is_empty() || self.forwarder.peers().backlog()
    }

    /// Whether other workers queued anything for this one.
    pub(crate) fn has_messages(&mut self) -> bool {
        self.forwarder.peers().has_messages()
    }

    /// Whether something for other workers waits for room.
    pub(crate) fn has_backlog(&mut self) -> bool {
        self.forwarder.peers().backlog()
    }

    /// Has its paths steered to it by something else from now on.
    pub(crate) fn steer_by(&mut self, steering: Steering) {
        let shared = |path: &Path| self.sockets.is_shared(path.local);
        for path in self.addresses.proven().filter(shared) {
            if steering.claim(&path, self.config.worker).is_err() {
                self.stats.count(Counter::SteeringRefused);
            }
        }
        self.steering = Some(steering);
    }

    /// Wakes the workers that were given something.
    pub(crate) fn wake_peers(&mut self) {
        self.forwarder.peers().wake();
    }

    /// How much video is left out.
    pub(crate) fn shedding(&self) -> Shedding {
        self.forwarder.shedding()
    }

    /// Leaves out more or less video from now on.
    pub fn set_shedding(&mut self, shedding: Shedding) {
        self.forwarder.set_shedding(shedding);
    }

    /// Shows in the counters how much is kept: what stays when everybody has left is a leak.
    pub(crate) fn note_held(&self) {
        for (counter, held) in [
            (Counter::HeldEndpoints, self.endpoints.len()),
            (Counter::HeldConferences, self.conferences.len()),
            (Counter::HeldAddresses, self.addresses.len()),
            (Counter::HeldTimers, self.endpoints.timers()),
            (Counter::HeldSockets, self.sockets.held()),
        ] {
            self.stats.set(counter, held as u64);
        }
    }
}
