//! A worker: receives, demultiplexes, forwards, sends. `Worker` is sans-I/O; `Worker::run` drives it.

mod endpoints;
mod ice_drops;
mod outbox;
mod questions;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use ring::rand::SystemRandom;

use crate::conference::{Forwarder, ForwarderConfig};
use crate::congestion::shedding::LoadMeter;
use crate::datagram::{PacketSink, Path};
use crate::demux::{AddressTable, EndpointIndex, Owner, Protocol, ufrag_prefix, worker_of_ufrag};
use crate::ice::stun::{Class, Message};
use crate::ice::{Agent, AgentConfig, AgentEvent, Context, Session, SessionEvent, transaction_owner};
use crate::ice::{IceCredentials, IceState, RestartOutcome};
use crate::ids::{ConferenceId, EndpointId};
use crate::io::{Flush, PacketIo, Steering};
use crate::link::ControlLink;
use crate::messages::{Command, CreateError, Event, NewEndpoint};
use crate::peers::{PeerMessage, Peers};
use crate::stats::{Counter, WorkerStats};

use endpoints::{Endpoint, Endpoints};
use outbox::Outbox;
use questions::Questions;

/// The longest that a worker sleeps.
pub const MAX_SLEEP: Duration = Duration::from_millis(10);
/// Commands and peer messages that are handled before media gets its turn again.
const STEP: usize = 256;

/// Bounds and identity of one worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerConfig {
    /// Its index.
    pub index: usize,
    /// Local addresses by socket index.
    pub sockets: Arc<[SocketAddr]>,
    /// Most endpoints.
    pub max_endpoints: usize,
    /// Messages per received batch: a full one says that more is waiting.
    pub batch: usize,
    /// Entries of the address table.
    pub max_addresses: usize,
    /// Tells the kernel whose packets come to this worker, where it takes that.
    pub steering: Option<Steering>,
    /// The forwarder's knobs.
    pub forwarder: ForwarderConfig,
}

/// One worker's state: everything of its endpoints but sockets.
pub(crate) struct Worker {
    config: WorkerConfig,
    stats: Arc<WorkerStats>,
    random: SystemRandom,
    endpoints: Endpoints,
    conferences: HashSet<ConferenceId, foldhash::fast::RandomState>,
    addresses: AddressTable,
    forwarder: Forwarder,
    link: ControlLink,
    outbox: Outbox,
    questions: Questions,
    load: LoadMeter,
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// All that was queued is done.
    Idle,
    /// More is queued: do not sleep.
    More,
    /// A shutdown was asked for.
    Stop,
}

impl Worker {
    pub fn new(config: WorkerConfig, link: ControlLink, peers: Peers, stats: Arc<WorkerStats>) -> Self {
        Self {
            random: SystemRandom::new(),
            endpoints: Endpoints::default(),
            conferences: HashSet::default(),
            addresses: AddressTable::new(config.max_addresses),
            forwarder: Forwarder::with_peers(config.forwarder.clone(), Arc::clone(&stats), peers),
            link,
            outbox: Outbox::default(),
            questions: Questions::default(),
            load: LoadMeter::default(),
            config,
            stats,
        }
    }

    /// The loop: receive, step, flush, events. Ends by [`Command::Shutdown`], by `stop`, or by an I/O failure.
    pub fn run<I: PacketIo>(mut self, mut io: I, stop: &AtomicBool) -> std::io::Result<()> {
        let mut timeout = Duration::ZERO;
        loop {
            let received = io.receive(timeout)?;
            let now = Instant::now();
            // `receive` has drained the eventfd; from here on, new wake-ups write it again.
            self.link.wakeup().clear();
            let (batch, tx) = io.parts();
            let mut bytes = 0;
            for i in 0..received {
                let Some(datagram) = batch.get(i) else { continue };
                bytes += datagram.data.len() as u64;
                self.handle_datagram(now, datagram.path, datagram.data, None, tx);
            }
            self.stats.add(Counter::PacketsReceived, received as u64);
            self.stats.add(Counter::BytesReceived, bytes);
            let peers = self.handle_peers(now, tx);
            self.release(now, tx);
            let commands = self.handle_commands(now, tx);
            self.handle_timers(now, tx);
            self.forwarder.peers().wake();
            // Nothing stays queued while the loop sleeps.
            tx.flush()?;
            self.handle_events();
            self.note_held();
            self.stats.count(Counter::LoopTurns);
            if commands == Step::Stop || stop.load(Ordering::Acquire) {
                return Ok(());
            }
            let end = Instant::now();
            timeout = match (peers, commands) {
                (Step::Idle, Step::Idle) => self.sleep(end),
                _ => Duration::ZERO,
            };
            let work = end.saturating_duration_since(now);
            self.stats.add(Counter::BusyNanos, work.as_nanos() as u64);
            self.note_load(end, work, received >= self.config.batch);
        }
    }

    /// Gives the media of a batch to its receivers.
    fn release(&mut self, now: Instant, sink: &mut impl PacketSink) {
        // Before the sealing and sending, which takes its time: the others can work meanwhile.
        self.forwarder.peers().wake();
        self.forwarder.release(now, sink);
    }

    /// Shows how much is kept: what stays when everybody has left is a leak.
    fn note_held(&self) {
        for (counter, held) in [
            (Counter::HeldEndpoints, self.endpoints.len()),
            (Counter::HeldConferences, self.conferences.len()),
            (Counter::HeldAddresses, self.addresses.len()),
            (Counter::HeldTimers, self.endpoints.timers()),
        ] {
            self.stats.set(counter, held as u64);
        }
    }

    fn note_load(&mut self, now: Instant, work: Duration, full: bool) {
        let Some(shedding) = self.load.turn(now, work, full, self.stats.get(Counter::DropSocketOverflow)) else {
            return;
        };
        let before = self.stats.get(Counter::SheddingLevel);
        if before == 0 {
            tracing::warn!(
                worker = self.config.index,
                "worker is at its limit and leaves out video; add workers or bridges"
            );
        } else if shedding.level() == 0 {
            tracing::info!(worker = self.config.index, "worker carries everything again");
        }
        self.stats.set(Counter::SheddingLevel, u64::from(shedding.level()));
        self.forwarder.set_shedding(shedding);
    }

    /// Takes one datagram, whose media waits for [`Self::release`]; `via` is the worker that handed it over, if any.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &mut [u8],
        via: Option<usize>,
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
                return self.hand_over(usize::from(worker), path, datagram);
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
        match (protocol, endpoint.slot) {
            (Protocol::Rtp, Some(slot)) => self.forwarder.gather_rtp(now, slot, datagram, sink),
            (Protocol::Rtcp, Some(slot)) => self.forwarder.handle_rtcp(now, slot, datagram, sink),
            (Protocol::Dtls, _) => {
                if !endpoint.dtls_rate.take(now) {
                    return self.stats.count(Counter::DropDtlsRate);
                }
                let event = Event::Dtls { endpoint: endpoint.id, datagram: datagram.to_vec() };
                self.outbox.send(event, &mut self.link, &self.stats);
            }
            _ => self.stats.count(Counter::DropNoKeys),
        }
    }

    fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &mut [u8],
        via: Option<usize>,
        sink: &mut impl PacketSink,
    ) {
        let Ok(message) = Message::read_unchecked(datagram) else {
            return self.stats.count(Counter::DropStunMalformed);
        };
        let (index, owner, unknown) = match message.class {
            Class::Request => {
                let Some((ufrag, _)) = message.ufrags() else {
                    return self.stats.count(Counter::DropStunMalformed);
                };
                let owner = std::str::from_utf8(ufrag).ok().and_then(worker_of_ufrag);
                (self.endpoints.index_of_ufrag(ufrag), owner, Counter::DropStunUnknownUfrag)
            }
            Class::Success | Class::Error => {
                let (worker, endpoint) = transaction_owner(&message.transaction);
                let index = self.endpoints.index_of(endpoint).filter(|_| usize::from(worker) == self.config.index);
                (index, Some(usize::from(worker)), Counter::DropStunUnknownTransaction)
            }
            // A keep-alive: it did its work on the way.
            Class::Indication => return,
        };
        let Some(index) = index else {
            return match owner {
                Some(owner)
                    if via.is_none() && owner != self.config.index && owner < self.forwarder.peers().workers() =>
                {
                    self.hand_over(owner, path, datagram)
                }
                _ if matches!(message.class, Class::Success | Class::Error)
                    && self.questions.take_answered(path, &message) =>
                {
                    let event = Event::ServerAnswered { path, datagram: datagram.to_vec() };
                    self.outbox.send(event, &mut self.link, &self.stats);
                }
                _ => self.stats.count(unknown),
            };
        };
        // Only now, since it costs more than to find out that nobody is meant.
        if !message.is_intact() {
            return self.stats.count(Counter::DropStunMalformed);
        }
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        let mut context = Context { sink, stats: &self.stats, random: &self.random };
        let authentic = endpoint.ice.handle_message(now, path, &message, &mut context);
        if let (true, Some(slot)) = (authentic, endpoint.slot) {
            self.forwarder.note_activity(now, slot);
        }
        self.settle(now, index, via);
    }

    fn hand_over(&mut self, worker: usize, path: Path, datagram: &[u8]) {
        if self.forwarder.peers().send_datagram(worker, path, datagram) {
            self.stats.count(Counter::Handovers);
        } else {
            self.stats.count(Counter::DropHandoverFull);
        }
    }

    /// Carries out what an endpoint's ICE reported, and plans its next timer.
    fn settle(&mut self, now: Instant, index: EndpointIndex, via: Option<usize>) {
        while let Some(endpoint) = self.endpoints.get_mut(index) {
            let Some(event) = endpoint.ice.poll_event() else { break };
            let id = endpoint.id;
            match event {
                SessionEvent::Agent(event) => self.follow(event, index, via),
                SessionEvent::Restarted { generation } => {
                    tracing::debug!(endpoint = %endpoint.label, generation, "ICE restarted");
                    let event = Event::IceRestart { endpoint: id, generation, outcome: RestartOutcome::Connected };
                    self.outbox.send(event, &mut self.link, &self.stats);
                }
                SessionEvent::Abandoned { generation } => {
                    tracing::debug!(endpoint = %endpoint.label, generation, "ICE restart abandoned");
                    let event = Event::IceRestart { endpoint: id, generation, outcome: RestartOutcome::Abandoned };
                    self.outbox.send(event, &mut self.link, &self.stats);
                }
                SessionEvent::Released { ufrag } => self.endpoints.release_ufrag(&ufrag),
            }
        }
        self.endpoints.schedule(index, now + Duration::from_millis(1));
    }

    fn follow(&mut self, event: AgentEvent, index: EndpointIndex, via: Option<usize>) {
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        let id = endpoint.id;
        match event {
            AgentEvent::Learnt { path, round_trip } => {
                let owner = Owner::Endpoint(index);
                // What was proven before and came here by itself is steered already.
                let steered = via.is_none() && self.addresses.is_proven(&path, owner);
                match self.addresses.learn(path, owner, round_trip) {
                    Err(_) => {
                        self.stats.count(Counter::DropTableFull);
                        endpoint.ice.refuse(path);
                    }
                    Ok(false) => {}
                    Ok(true) => {
                        // A mere request may come from a forged address, and the map is everybody's.
                        if let (Some(steering), true) = (&self.config.steering, round_trip && !steered)
                            && steering.claim(&path, self.config.index).is_err()
                        {
                            self.stats.count(Counter::SteeringRefused);
                        }
                        if let Some(via) = via {
                            self.addresses.told(&path, via as u8);
                            self.forwarder.peers().send(via, PeerMessage::Claim { path, round_trip });
                        }
                    }
                }
            }
            AgentEvent::Forgotten { path } => self.forget(path, index),
            AgentEvent::Connected { path } => {
                tracing::debug!(endpoint = %endpoint.label, remote = %path.remote, "ICE connected");
                let relayed = endpoint.ice.is_relayed(path);
                self.forwarder.set_path(id, Some(path));
                let event = Event::Ice { endpoint: id, state: IceState::Connected, remote: Some(path.remote), relayed };
                self.outbox.send(event, &mut self.link, &self.stats);
            }
            AgentEvent::Disconnected => {
                tracing::info!(endpoint = %endpoint.label, "ICE disconnected");
                self.forwarder.set_path(id, None);
                let event = Event::Ice { endpoint: id, state: IceState::Disconnected, remote: None, relayed: false };
                self.outbox.send(event, &mut self.link, &self.stats);
            }
        }
    }

    fn forget(&mut self, path: Path, index: EndpointIndex) {
        let Some(told) = self.addresses.forget(&path, Owner::Endpoint(index)) else { return };
        if let Some(steering) = &self.config.steering {
            steering.release(&path, self.config.index);
        }
        for worker in (0..self.forwarder.peers().workers()).filter(|worker| told >> (worker % 64) & 1 == 1) {
            self.forwarder.peers().send(worker, PeerMessage::Release { path });
        }
    }

    /// Takes what other workers queued, within bounds; media waits for [`Self::release`].
    pub fn handle_peers(&mut self, now: Instant, sink: &mut impl PacketSink) -> Step {
        let mut step = Step::Idle;
        for worker in 0..self.forwarder.peers().workers() {
            for turn in 0..STEP {
                let Some(message) = self.forwarder.peers().poll(worker) else { break };
                match message {
                    PeerMessage::Datagram { path, len, mut data } => {
                        if let Some(datagram) = data.get_mut(..usize::from(len)) {
                            self.handle_datagram(now, path, datagram, Some(worker), sink);
                        }
                    }
                    PeerMessage::Media { header, len, data } => {
                        let packet = data.get(..usize::from(len)).unwrap_or(&[]);
                        self.forwarder.handle_relayed(now, worker, header, packet, sink);
                    }
                    PeerMessage::Signal(signal) => self.forwarder.handle_signal(now, worker, signal, sink),
                    PeerMessage::Claim { path, round_trip } => {
                        if self.addresses.learn(path, Owner::Worker(worker as u8), round_trip).is_err() {
                            self.stats.count(Counter::DropTableFull);
                        }
                    }
                    PeerMessage::Release { path } => {
                        self.addresses.forget(&path, Owner::Worker(worker as u8));
                    }
                }
                if turn + 1 == STEP {
                    step = Step::More;
                }
            }
        }
        step
    }

    /// Takes what the control plane queued, within bounds.
    pub fn handle_commands(&mut self, now: Instant, sink: &mut impl PacketSink) -> Step {
        for _ in 0..STEP {
            match self.link.poll_command() {
                None => return Step::Idle,
                Some(Command::Shutdown) => return Step::Stop,
                Some(command) => self.handle_command(now, command, sink),
            }
        }
        Step::More
    }

    fn handle_command(&mut self, now: Instant, command: Command, sink: &mut impl PacketSink) {
        match command {
            Command::CreateConference { conference, .. } => {
                self.conferences.insert(conference);
                self.forwarder.handle_command(now, command);
            }
            Command::ExpireConference { conference } => {
                if !self.conferences.remove(&conference) {
                    return self.stats.count(Counter::DropCommandUnknown);
                }
                for endpoint in self.endpoints.of_conference(conference) {
                    self.remove_endpoint(endpoint);
                }
                self.forwarder.handle_command(now, command);
            }
            Command::CreateEndpoint(new) => self.create_endpoint(now, new),
            Command::ExpireEndpoint { endpoint } => {
                // One that lives elsewhere is known to the forwarder only.
                if self.remove_endpoint(endpoint) || self.forwarder.slot(endpoint).is_some() {
                    self.forwarder.handle_command(now, command);
                } else {
                    self.stats.count(Counter::DropCommandUnknown);
                }
            }
            Command::SetRemoteIce { endpoint, credentials, candidates } => {
                let Some(index) = self.endpoints.index_of(endpoint) else {
                    return self.stats.count(Counter::DropCommandUnknown);
                };
                let Some(endpoint) = self.endpoints.get_mut(index) else { return };
                endpoint.ice.set_remote(now, credentials, &candidates);
                let mut context = Context { sink, stats: &self.stats, random: &self.random };
                endpoint.ice.handle_timeout(now, &mut context);
                self.settle(now, index, None);
            }
            Command::RestartIce { endpoint, generation, local } => self.restart_ice(now, endpoint, generation, local),
            Command::AnswerIceRestart { endpoint, generation, credentials, candidates } => {
                let Some(index) = self.endpoints.index_of(endpoint) else {
                    return self.stats.count(Counter::DropCommandUnknown);
                };
                let Some(endpoint) = self.endpoints.get_mut(index) else { return };
                if !endpoint.ice.answer_restart(now, generation, credentials, &candidates) {
                    self.stats.count(Counter::DropRestartAnswer);
                }
                let mut context = Context { sink, stats: &self.stats, random: &self.random };
                endpoint.ice.handle_timeout(now, &mut context);
                self.settle(now, index, None);
            }
            Command::SendDtls { endpoint, datagram } => {
                let Some(endpoint) = self.endpoints.index_of(endpoint).and_then(|index| self.endpoints.get_mut(index))
                else {
                    return self.stats.count(Counter::DropCommandUnknown);
                };
                let Some(path) = endpoint.ice.selected() else { return self.stats.count(Counter::DropNoPath) };
                let slot = sink.slot().and_then(|slot| slot.get_mut(..datagram.len()));
                let Some(slot) = slot else { return self.stats.count(Counter::DropOutputFull) };
                slot.copy_from_slice(&datagram);
                sink.commit(datagram.len(), path);
            }
            Command::AskServer { path, transaction } => {
                let socket = self.config.sockets.get(usize::from(path.local));
                if socket.is_none_or(|socket| socket.is_ipv4() != path.remote.is_ipv4()) {
                    return self.stats.count(Counter::DropCommandUnknown);
                }
                if !self.questions.ask(path, transaction, sink) {
                    self.stats.count(Counter::DropOutputFull);
                }
            }
            // Media, sources, keys, wishes; the forwarder counts ids that it does not know. `Shutdown` does not get here.
            command => self.forwarder.handle_command(now, command),
        }
    }

    fn create_endpoint(&mut self, now: Instant, new: Box<NewEndpoint>) {
        let endpoint = new.endpoint;
        if let Err(error) = self.add_endpoint(&new) {
            self.stats.count(error.counter());
            return self.outbox.send(Event::EndpointRefused { endpoint, error }, &mut self.link, &self.stats);
        }
        self.forwarder.handle_command(now, Command::CreateEndpoint(new));
        let slot = self.forwarder.slot(endpoint);
        if slot.is_none() {
            // The forwarder has told why.
            self.remove_endpoint(endpoint);
        } else if let Some(endpoint) = self.endpoints.index_of(endpoint).and_then(|index| self.endpoints.get_mut(index))
        {
            endpoint.slot = slot;
        }
    }

    fn add_endpoint(&mut self, new: &NewEndpoint) -> Result<(), CreateError> {
        let NewEndpoint { conference, endpoint: id, .. } = *new;
        if !self.conferences.contains(&conference) {
            return Err(CreateError::UnknownConference);
        }
        if self.endpoints.len() >= self.config.max_endpoints {
            tracing::warn!(endpoint = %new.label, limit = self.config.max_endpoints, "worker has no room for an endpoint");
            return Err(CreateError::WorkerFull);
        }
        if !new.ice.ufrag.starts_with(ufrag_prefix(self.config.index)) {
            tracing::warn!(endpoint = %new.label, worker = self.config.index, "ufrag lacks the tag of its worker");
        }
        let config = AgentConfig {
            endpoint: id,
            worker: self.config.index as u8,
            local: new.ice.clone(),
            controlling: new.controlling,
            sockets: Arc::clone(&self.config.sockets),
        };
        let ice = Session::new(Agent::new(config, &self.random));
        // A remote endpoint of that id is known to the forwarder only.
        if self.forwarder.slot(id).is_some()
            || !self.endpoints.insert(Endpoint::new(id, conference, new.label.clone(), ice))
        {
            tracing::error!(endpoint = %new.label, "endpoint id or ufrag is taken; endpoint refused");
            return Err(CreateError::Taken);
        }
        Ok(())
    }

    fn restart_ice(&mut self, now: Instant, id: EndpointId, generation: u32, local: IceCredentials) {
        let Some(index) = self.endpoints.index_of(id) else { return self.stats.count(Counter::DropCommandUnknown) };
        let owner = self.endpoints.index_of_ufrag(local.ufrag.as_bytes());
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        if owner.is_some_and(|owner| owner != index) || !local.ufrag.starts_with(ufrag_prefix(self.config.index)) {
            tracing::error!(endpoint = %endpoint.label, "ufrag is taken or another worker's; ICE restart refused");
            self.stats.count(Counter::DropCommandUnknown);
            let event = Event::IceRestart { endpoint: id, generation, outcome: RestartOutcome::Abandoned };
            return self.outbox.send(event, &mut self.link, &self.stats);
        }
        let ufrag = local.ufrag.clone();
        if endpoint.ice.restart(now, generation, local, &self.random) {
            self.endpoints.add_ufrag(index, &ufrag);
        }
        self.settle(now, index, None);
    }

    fn remove_endpoint(&mut self, id: EndpointId) -> bool {
        let Some((index, endpoint)) = self.endpoints.remove(id) else { return false };
        for path in endpoint.ice.learnt_paths() {
            self.forget(path, index);
        }
        true
    }

    /// Runs what is due.
    pub fn handle_timers(&mut self, now: Instant, sink: &mut impl PacketSink) {
        while let Some(index) = self.endpoints.pop_due(now) {
            if let Some(endpoint) = self.endpoints.get_mut(index) {
                let mut context = Context { sink: &mut *sink, stats: &self.stats, random: &self.random };
                endpoint.ice.handle_timeout(now, &mut context);
            }
            self.settle(now, index, None);
        }
        if self.forwarder.poll_timeout().is_some_and(|at| at <= now) {
            self.forwarder.handle_timeout(now, sink);
        }
    }

    /// Hands events to the control plane.
    pub fn handle_events(&mut self) {
        self.outbox.retry(&mut self.link);
        while let Some(event) = self.forwarder.poll_event() {
            self.outbox.send(event, &mut self.link, &self.stats);
        }
    }

    /// How long the loop may sleep.
    pub fn sleep(&mut self, now: Instant) -> Duration {
        let next = [self.endpoints.next_timer(), self.forwarder.poll_timeout()].into_iter().flatten().min();
        let sleep = next.map_or(MAX_SLEEP, |at| at.saturating_duration_since(now).min(MAX_SLEEP));
        // Full rings wake nobody when they have room again.
        if self.outbox.is_empty() && !self.forwarder.peers().backlog() {
            sleep
        } else {
            sleep.min(Duration::from_millis(1))
        }
    }
}
