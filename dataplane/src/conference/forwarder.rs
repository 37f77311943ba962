//! The forwarding core of one worker, without I/O: packets and time in, packets (through a sink) and events out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use super::context::{Env, ForwarderConfig};
use super::members::Conference;
use super::packet::batch::Batch;
use super::participant::Role;
use super::participant::relay::Relay;
use crate::carry::{CarryError, State};
use crate::congestion::fair_share::FairShare;
use crate::congestion::shedding::Shedding;
use crate::datagram::{PacketSink, Path};
use crate::deadlines::Deadlines;
use crate::ids::{ConferenceId, ConferenceIndex, EndpointId, ParticipantId, WorkerId};
use crate::io::{IoError, read_clock};
use crate::limits::Complaints;
use crate::link::Wakeup;
use crate::messages::{Command, CreateError, Event, FeedbackSsrcs};
use crate::negotiation::negotiated::Negotiations;
use crate::peers::{CrossWorkerHeader, PeerMessage, PeerSignal, Peers, mesh};
use crate::slab::Slab;
use crate::stats::{Counter, WorkerStats};

/// An endpoint in its worker's forwarder; looked up once, then passed with every packet.
/// A slot of an endpoint that is gone is harmless: its packets are dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointSlot {
    conference: ConferenceIndex,
    participant: ParticipantId,
    generation: u32,
}

/// Forwards the media of all conferences of one worker, for whoever has ICE already: it is given the addresses.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
/// use ringbridge_dataplane::conference::{Forwarder, ForwarderConfig};
/// use ringbridge_dataplane::datagram::{MAX_DATAGRAM, PacketSink, Path};
/// use ringbridge_dataplane::ice::IceCredentials;
/// use ringbridge_dataplane::ids::{ConferenceId, EndpointId, Ssrc};
/// use ringbridge_dataplane::messages::{Command, FeedbackSsrcs, NewEndpoint};
/// use ringbridge_dataplane::stats::{Counter, WorkerStats};
///
/// /// Where what is to be sent is written: here, nowhere.
/// struct Nowhere([u8; MAX_DATAGRAM]);
///
/// impl PacketSink for Nowhere {
///     fn slot(&mut self) -> Option<&mut [u8]> {
///         Some(&mut self.0)
///     }
///     fn commit(&mut self, _len: usize, _path: Path) {}
/// }
///
/// let (stats, now) = (Arc::new(WorkerStats::default()), Instant::now());
/// let mut forwarder = Forwarder::new(ForwarderConfig::default(), Arc::clone(&stats));
/// let (conference, endpoint) = (ConferenceId(1), EndpointId(1));
/// let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
/// forwarder.handle_command(now, Command::CreateConference { conference, feedback });
/// let ice = IceCredentials { ufrag: String::new(), pwd: String::new() };
/// let new = NewEndpoint { conference, endpoint, label: "alice".into(), ice, controlling: true };
/// forwarder.handle_command(now, Command::CreateEndpoint(Box::new(new)));
/// forwarder.set_path(endpoint, Some(Path { local: 0, remote: "198.51.100.7:4000".parse()? }));
/// let alice = forwarder.slot(endpoint).ok_or("it was refused")?;
/// // It has no keys yet (`Command::SetSrtp`): what it sends is dropped, and counted with that reason.
/// forwarder.handle_rtp(now, alice, &mut [0x80; 200], &mut Nowhere([0; MAX_DATAGRAM]));
/// assert_eq!(stats.get(Counter::DropNoKeys), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `examples/two_endpoints.rs` goes on from here: keys, formats, sources, and packets that arrive.
pub struct Forwarder {
    worker: WorkerState,
    /// Commands that came while packets waited.
    waiting: VecDeque<Command>,
    conferences: Slab<ConferenceIndex, Conference>,
    /// When each conference is due.
    due: Deadlines<ConferenceIndex>,
    by_conference: HashMap<ConferenceId, ConferenceIndex, foldhash::fast::RandomState>,
    by_endpoint: HashMap<EndpointId, EndpointSlot, foldhash::fast::RandomState>,
}

/// What another process takes over.
#[derive(Serialize)]
struct Leaving<'a> {
    epoch: &'a Option<Moment>,
    events: &'a VecDeque<Event>,
    shedding: Shedding,
    share: &'a FairShare,
    complaints: &'a Complaints,
    negotiations: &'a Negotiations,
    conferences: &'a Slab<ConferenceIndex, Conference>,
    due: &'a Deadlines<ConferenceIndex>,
}

/// The same as it is read.
#[derive(Deserialize)]
pub(crate) struct Arriving {
    epoch: Option<Moment>,
    events: VecDeque<Event>,
    shedding: Shedding,
    share: FairShare,
    complaints: Complaints,
    negotiations: Negotiations,
    conferences: Slab<ConferenceIndex, Conference>,
    due: Deadlines<ConferenceIndex>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Moment(#[serde(with = "crate::carry::checked")] Instant);

impl Serialize for Forwarder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // All of them by name, so that a new one is thought of here.
        let Self { worker, waiting, conferences, due, by_conference: _, by_endpoint: _ } = self;
        let WorkerState { config: _, stats: _, epoch, events, shedding, peers, batch, share, complaints, negotiations } =
            worker;
        if !batch.is_empty() || !waiting.is_empty() || peers.backlog() {
            return Err(S::Error::custom("packets, commands or signals wait"));
        }
        let epoch = &epoch.map(Moment);
        let shedding = *shedding;
        Leaving { epoch, events, shedding, share, complaints, negotiations, conferences, due }.serialize(serializer)
    }
}

/// What all conferences of a worker have in common.
struct WorkerState {
    config: ForwarderConfig,
    stats: Arc<WorkerStats>,
    epoch: Option<Instant>,
    events: VecDeque<Event>,
    shedding: Shedding,
    peers: Peers,
    batch: Batch,
    share: FairShare,
    complaints: Complaints,
    negotiations: Negotiations,
}

impl WorkerState {
    fn env(&mut self, now: Instant) -> Env<'_> {
        let Self { config, stats, epoch, events, shedding, peers, batch, share, complaints, negotiations } = self;
        let epoch = *epoch.get_or_insert(now);
        Env { now, epoch, stats, config, events, shedding: *shedding, peers, batch, share, complaints, negotiations }
    }
}

impl CreateError {
    /// What it is counted as.
    pub(crate) fn counter(self) -> Counter {
        match self {
            Self::WorkerFull | Self::ConferenceFull => Counter::DropTableFull,
            Self::NoSockets => Counter::HandedSocketsRefused,
            Self::Taken | Self::UnknownConference | Self::UnknownWorker | Self::UnknownRelay => {
                Counter::DropCommandUnknown
            }
        }
    }
}

impl Forwarder {
    /// An empty forwarder of the only worker.
    pub fn new(config: ForwarderConfig, stats: Arc<WorkerStats>) -> Self {
        Self::with_peers(config, stats, Peers::none())
    }

    /// Empty forwarders that hand each other what crosses, one for each entry of `stats`; `capacity` is the entries of
    /// each ring between two of them. For whoever drives forwarders without workers around them.
    pub fn connected(
        config: &ForwarderConfig,
        stats: &[Arc<WorkerStats>],
        capacity: usize,
    ) -> Result<Vec<Self>, IoError> {
        let wakeups: Vec<Wakeup> = stats.iter().map(|_| Wakeup::new()).collect::<Result<_, _>>()?;
        let parts = stats.iter().zip(mesh(&wakeups, capacity));
        Ok(parts.map(|(stats, peers)| Self::with_peers(config.clone(), Arc::clone(stats), peers)).collect())
    }

    /// An empty forwarder of one of several workers.
    pub(crate) fn with_peers(config: ForwarderConfig, stats: Arc<WorkerStats>, peers: Peers) -> Self {
        Self {
            worker: WorkerState {
                config,
                stats,
                epoch: None,
                events: VecDeque::with_capacity(64),
                shedding: Shedding::default(),
                peers,
                batch: Batch::new(),
                share: FairShare::default(),
                complaints: Complaints::new(),
                negotiations: Negotiations::default(),
            },
            waiting: VecDeque::new(),
            conferences: Slab::default(),
            due: Deadlines::default(),
            by_conference: HashMap::default(),
            by_endpoint: HashMap::default(),
        }
    }

    /// Goes on with what another one wrote; this one has done nothing so far. An error when that contradicts itself.
    pub(crate) fn take_over(&mut self, arriving: Arriving) -> Result<(), &'static str> {
        let Arriving { epoch, events, shedding, share, complaints, negotiations, conferences, due } = arriving;
        let worker = &mut self.worker;
        worker.epoch = epoch.map(|moment| moment.0);
        worker.events = events;
        (worker.shedding, worker.share) = (shedding, share);
        (worker.complaints, worker.negotiations) = (complaints, negotiations);
        (self.conferences, self.due) = (conferences, due);
        self.due.reserve(self.conferences.bound());
        for (index, conference) in self.conferences.iter_mut() {
            if conference.index() != index || conference.len() > self.worker.config.max_endpoints_per_conference {
                return Err("a conference stands in another's place, or is too large");
            }
            conference.follow(&self.worker.config);
            if self.by_conference.insert(conference.id(), index).is_some() {
                return Err("a conference comes twice");
            }
            for (endpoint, participant, generation) in conference.members() {
                let slot = EndpointSlot { conference: index, participant, generation };
                if self.by_endpoint.insert(endpoint, slot).is_some() {
                    return Err("an endpoint comes twice");
                }
            }
        }
        Ok(())
    }

    /// All that it knows, for [`Self::renewed`] or to compare.
    pub fn export(&self) -> Result<State, CarryError> {
        crate::carry::set_clock(read_clock);
        State::write(self)
    }

    /// A forwarder that goes on where this one stopped, by nothing but what that wrote; it takes the rings along. For whoever drives
    /// forwarders without engines around them.
    pub fn renewed(self) -> Result<Self, CarryError> {
        let state = self.export()?;
        let WorkerState { config, stats, peers, .. } = self.worker;
        Self::with_peers(config, stats, peers).importing(&state)
    }

    /// A forwarder that goes on with what another one wrote, which is not trusted.
    pub fn import(config: ForwarderConfig, stats: Arc<WorkerStats>, state: &State) -> Result<Self, CarryError> {
        Self::new(config, stats).importing(state)
    }

    fn importing(mut self, state: &State) -> Result<Self, CarryError> {
        crate::carry::set_clock(read_clock);
        self.take_over(state.read()?).map_err(|what| CarryError::Invalid(what.to_owned()))?;
        Ok(self)
    }

    /// How much is left out.
    pub(crate) fn shedding(&self) -> Shedding {
        self.worker.shedding
    }

    /// Applies a command; those for ICE and DTLS are ignored, those for unknown ids are counted.
    /// An endpoint that cannot be created is answered by [`Event::EndpointRefused`].
    /// It comes after the packets that were gathered before it: while some wait, so does the command, until [`Self::release`].
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        if self.worker.batch.is_empty() {
            // What is refused is an event already.
            let _ = self.apply(now, command);
        } else {
            // A packet of before must not meet the conferences and keys of after.
            self.waiting.push_back(command);
        }
    }

    /// The same for a command that creates an endpoint, after the packets that wait; the refusal is an event, too.
    pub(crate) fn create(
        &mut self,
        now: Instant,
        command: Command,
        sink: &mut impl PacketSink,
    ) -> Result<(), CreateError> {
        self.release(now, sink);
        self.apply(now, command)
    }

    fn apply(&mut self, now: Instant, command: Command) -> Result<(), CreateError> {
        match command {
            Command::CreateConference { conference, feedback } => self.create_conference(conference, feedback),
            Command::ExpireConference { conference } => self.expire_conference(conference),
            Command::CreateEndpoint(new) => {
                let created = self.create_participant(now, new.conference, new.endpoint, None, Role::Endpoint);
                return self.note_created(now, new.endpoint, created);
            }
            Command::CreateRemoteEndpoint { conference, endpoint, home } => {
                let home = self.other_worker(home);
                let created =
                    home.and_then(|home| self.create_participant(now, conference, endpoint, home, Role::Endpoint));
                return self.note_created(now, endpoint, created);
            }
            Command::CreateRelay { new, mesh } => {
                let role = Role::Relay(Box::new(Relay::new(mesh)));
                let created = self.create_participant(now, new.conference, new.endpoint, None, role);
                return self.note_created(now, new.endpoint, created);
            }
            Command::CreateRemoteRelay { conference, relay, home, mesh } => {
                let (home, role) = (self.other_worker(home), Role::Relay(Box::new(Relay::new(mesh))));
                let created = home.and_then(|home| self.create_participant(now, conference, relay, home, role));
                return self.note_created(now, relay, created);
            }
            Command::CreateRelayedEndpoint { conference, endpoint, relay } => {
                let created = self.create_relayed(now, conference, endpoint, relay);
                return self.note_created(now, endpoint, created);
            }
            Command::ExpireEndpoint { endpoint } => {
                let mut gone = Vec::new();
                self.with_endpoint(now, endpoint, |conference, env, id| gone = conference.leave(env, id));
                for endpoint in gone {
                    self.by_endpoint.remove(&endpoint);
                }
            }
            Command::SetSrtp { endpoint, keys } => {
                self.with_endpoint(now, endpoint, |conference, _, id| conference.set_keys(id, &keys));
            }
            Command::SetMedia { endpoint, media } => {
                self.with_endpoint(now, endpoint, |conference, env, id| conference.set_media(env, id, &media));
            }
            Command::SetSources { endpoint, sources } => {
                self.with_endpoint(now, endpoint, |conference, env, id| conference.set_sources(env, id, &sources));
            }
            Command::SetConstraints { endpoint, constraints } => {
                self.with_endpoint(now, endpoint, |conference, env, id| {
                    conference.set_constraints(env, id, *constraints);
                });
            }
            Command::SetSsrcRewriting { endpoint, rewriting } => {
                self.with_endpoint(now, endpoint, |conference, env, id| {
                    conference.set_ssrc_rewriting(env, id, &rewriting);
                });
            }
            Command::MappingsSignalled { endpoint, announcement } => {
                self.with_endpoint(now, endpoint, |conference, env, id| {
                    conference.mappings_signalled(env, id, announcement);
                });
            }
            Command::SetUnsignalled { endpoint, sources } => {
                self.with_endpoint(now, endpoint, |conference, env, id| conference.set_unsignalled(env, id, sources));
            }
            Command::SetForceMute { endpoint, audio, video } => {
                self.with_endpoint(now, endpoint, |conference, _, id| conference.set_force_mute(id, audio, video));
            }
            Command::SetRelayDemand { relay, endpoint, source, max_height } => {
                self.with_endpoint(now, relay, |conference, env, id| {
                    conference.set_relay_demand(env, id, endpoint, source, max_height);
                });
            }
            Command::SetRemoteIce { .. }
            | Command::RestartIce { .. }
            | Command::AnswerIceRestart { .. }
            | Command::SendDtls { .. }
            | Command::OpenSockets { .. }
            | Command::AskServer { .. }
            | Command::Shutdown => {}
        }
        Ok(())
    }

    fn create_conference(&mut self, id: ConferenceId, feedback: FeedbackSsrcs) {
        if self.by_conference.contains_key(&id) {
            return;
        }
        let index = self.conferences.insert_with(|index| Conference::new(id, index, feedback));
        self.due.reserve(self.conferences.bound());
        self.by_conference.insert(id, index);
    }

    fn expire_conference(&mut self, id: ConferenceId) {
        let Some(index) = self.by_conference.remove(&id) else {
            return self.worker.stats.count(Counter::DropCommandUnknown);
        };
        self.by_endpoint.retain(|_, slot| slot.conference != index);
        self.conferences.remove(index);
        self.due.set(index, None);
    }

    /// The home of one that lives on another worker.
    fn other_worker(&self, home: WorkerId) -> Result<Option<WorkerId>, CreateError> {
        if self.worker.peers.has_other(home) { Ok(Some(home)) } else { Err(CreateError::UnknownWorker) }
    }

    fn create_relayed(
        &mut self,
        now: Instant,
        id: ConferenceId,
        endpoint: EndpointId,
        relay: EndpointId,
    ) -> Result<(), CreateError> {
        let slot = self.slot(relay).filter(|slot| self.by_conference.get(&id) == Some(&slot.conference));
        let participant =
            slot.and_then(|slot| self.conferences.get_mut(slot.conference)?.participant(slot.participant));
        let behind = participant.and_then(|relay| Some((relay.home(), relay.relay()?.mesh())));
        let (Some(slot), Some((home, mesh))) = (slot, behind) else { return Err(CreateError::UnknownRelay) };
        let role = Role::Relayed { relay: slot.participant, mesh };
        self.create_participant(now, id, endpoint, home, role)
    }

    fn create_participant(
        &mut self,
        now: Instant,
        id: ConferenceId,
        endpoint: EndpointId,
        home: Option<WorkerId>,
        role: Role,
    ) -> Result<(), CreateError> {
        if self.by_endpoint.contains_key(&endpoint) {
            return Err(CreateError::Taken);
        }
        let index = *self.by_conference.get(&id).ok_or(CreateError::UnknownConference)?;
        let conference = self.conferences.get_mut(index).ok_or(CreateError::UnknownConference)?;
        let mut env = self.worker.env(now);
        let limit = env.config.max_endpoints_per_conference;
        if conference.len() >= limit {
            tracing::warn!(conference = %id, %endpoint, limit, "endpoint refused: the conference is full");
            return Err(CreateError::ConferenceFull);
        }
        let (participant, generation) = conference.join(&mut env, endpoint, home, role);
        self.by_endpoint.insert(endpoint, EndpointSlot { conference: index, participant, generation });
        self.reschedule(index);
        Ok(())
    }

    /// Reports, and counts, an endpoint that could not be created.
    fn note_created(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        created: Result<(), CreateError>,
    ) -> Result<(), CreateError> {
        created.inspect_err(|&error| {
            self.worker.stats.count(error.counter());
            self.worker.env(now).emit(Event::EndpointRefused { endpoint, error });
        })
    }

    fn with_endpoint(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        step: impl FnOnce(&mut Conference, &mut Env<'_>, ParticipantId),
    ) {
        let slot = self.by_endpoint.get(&endpoint).copied();
        let conference = slot.and_then(|slot| Some((slot, self.conferences.get_mut(slot.conference)?)));
        let Some((slot, conference)) = conference else { return self.worker.stats.count(Counter::DropCommandUnknown) };
        step(conference, &mut self.worker.env(now), slot.participant);
        self.reschedule(slot.conference);
    }

    /// Follows what a step made of a conference's deadline.
    #[inline]
    fn reschedule(&mut self, index: ConferenceIndex) {
        if let Some(at) = self.conferences.get(index).and_then(|conference| conference.deadline()) {
            self.due.wake(index, at);
        }
    }

    /// The slot of an endpoint.
    pub fn slot(&self, endpoint: EndpointId) -> Option<EndpointSlot> {
        self.by_endpoint.get(&endpoint).copied()
    }

    /// Sets where the endpoint's packets go; `None` stops sending.
    pub fn set_path(&mut self, endpoint: EndpointId, path: Option<Path>) {
        if let Some(slot) = self.slot(endpoint)
            && let Some(conference) = self.conferences.get_mut(slot.conference)
            && let Some(participant) = conference.participant(slot.participant)
        {
            participant.receiver.set_path(path);
        }
    }

    /// The rings to and from the other workers.
    pub(crate) fn peers(&mut self) -> &mut Peers {
        &mut self.worker.peers
    }

    /// Leaves out more or less from now on.
    pub fn set_shedding(&mut self, shedding: Shedding) {
        self.worker.shedding = shedding;
    }

    /// Takes an authenticated sign of life other than media, e.g. ICE consent.
    pub fn note_activity(&mut self, now: Instant, slot: EndpointSlot) {
        self.with_slot(now, slot, |conference, env| conference.note_activity(env, slot.participant));
    }

    /// Takes one SRTP packet, and gives it to its receivers.
    pub fn handle_rtp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        self.gather_rtp(now, from, datagram, sink);
        self.release(now, sink);
    }

    /// Takes one SRTP packet. It goes to its receivers with the others of its batch: when [`Self::release`] is called, when no
    /// other packet fits, or when timers run.
    pub fn gather_rtp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        self.with_slot(now, from, |conference, env| conference.handle_rtp(env, from.participant, datagram, sink));
        if self.worker.batch.is_full() {
            self.release(now, sink);
        }
    }

    /// Gives what was gathered to its receivers; then commands that came meanwhile are applied.
    pub fn release(&mut self, now: Instant, sink: &mut impl PacketSink) {
        if self.worker.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.worker.batch);
        let mut done = 0;
        while let Some((index, members)) = batch.next_conference(done) {
            done |= members;
            if let Some(conference) = self.conferences.get_mut(index) {
                conference.fan_out(&mut self.worker.env(now), &batch, members, sink);
                self.reschedule(index);
            }
        }
        batch.clear();
        self.worker.batch = batch;
        while let Some(command) = self.waiting.pop_front() {
            // What is refused is an event already.
            let _ = self.apply(now, command);
        }
    }

    /// Takes one SRTCP packet.
    pub fn handle_rtcp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        self.with_slot(now, from, |conference, env| conference.handle_rtcp(env, from.participant, datagram, sink));
    }

    /// Takes what other forwarders sent, where no worker does.
    pub fn handle_peers(&mut self, now: Instant, sink: &mut impl PacketSink) {
        for worker in self.worker.peers.all() {
            while let Some(message) = self.worker.peers.poll(worker) {
                match message {
                    PeerMessage::Media { header, len, data } => {
                        let packet = data.get(..usize::from(len)).unwrap_or(&[]);
                        self.handle_cross_worker(now, worker, header, packet, sink);
                    }
                    PeerMessage::Signal(signal) => self.handle_signal(now, worker, signal, sink),
                    // Steering is the workers' business.
                    PeerMessage::Datagram { .. } | PeerMessage::Claim { .. } | PeerMessage::Release { .. } => {}
                }
            }
        }
        self.worker.peers.wake();
        self.release(now, sink);
    }

    /// Takes a packet that its home, `worker`, has opened; it goes on with [`Self::release`].
    pub(crate) fn handle_cross_worker(
        &mut self,
        now: Instant,
        worker: WorkerId,
        header: CrossWorkerHeader,
        packet: &[u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(slot) = self.slot(header.endpoint) else {
            return self.worker.stats.count(Counter::DropCrossWorkerUnknown);
        };
        let from = (worker, slot.participant);
        self.with_slot(now, slot, |conference, env| conference.handle_cross_worker(env, from, header, packet, sink));
        if self.worker.batch.is_full() {
            self.release(now, sink);
        }
    }

    /// Takes a signal of another worker. One about an endpoint that is not known here came too early or too late: whoever
    /// is early is asked again.
    pub(crate) fn handle_signal(
        &mut self,
        now: Instant,
        worker: WorkerId,
        signal: PeerSignal,
        sink: &mut impl PacketSink,
    ) {
        let (PeerSignal::KeyframeRequest { endpoint, .. }
        | PeerSignal::Demand { endpoint, .. }
        | PeerSignal::RepeatDemand { endpoint }
        | PeerSignal::SenderReport { endpoint, .. }) = signal;
        let Some(slot) = self.slot(endpoint) else { return };
        let about = (worker, slot.participant);
        self.with_slot(now, slot, |conference, env| conference.handle_signal(env, about, signal, sink));
    }

    #[inline]
    fn with_slot(&mut self, now: Instant, slot: EndpointSlot, step: impl FnOnce(&mut Conference, &mut Env<'_>)) {
        let conference = self.conferences.get_mut(slot.conference);
        let Some(conference) = conference.filter(|c| c.is_current(slot.participant, slot.generation)) else {
            return self.worker.stats.count(Counter::DropUnknownAddress);
        };
        step(conference, &mut self.worker.env(now));
        self.reschedule(slot.conference);
    }

    /// Runs what is due, after the packets that were gathered.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl PacketSink) {
        self.release(now, sink);
        while let Some(index) = self.due.pop(now) {
            let Some(conference) = self.conferences.get_mut(index) else { continue };
            if conference.deadline().is_some_and(|at| at <= now) {
                conference.handle_timeout(&mut self.worker.env(now), sink);
            }
            self.reschedule(index);
        }
    }

    /// When `handle_timeout` wants to run next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.worker.events.pop_front()
    }
}
