//! The forwarding core of one worker, without I/O: packets and time in, packets (through a sink) and events out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use crate::conference::context::{Env, ForwarderConfig};
use crate::conference::ingress;
use crate::conference::members::Conference;
use crate::conference::packet::batch::Batch;
use crate::congestion::fair_share::FairShare;
use crate::congestion::shedding::Shedding;
use crate::ids::{ConferenceId, EndpointId};
use crate::io::{IoError, PacketSink, Path};
use crate::limits::Complaints;
use crate::link::Wakeup;
use crate::messages::{Command, CreateError, Event};
use crate::negotiation::negotiated::Negotiations;
use crate::peers::{Crossing, Note, PeerMessage, Peers, mesh};
use crate::stats::{Counter, WorkerStats};

/// Index of an endpoint in its worker's forwarder; looked up once, then passed with every packet.
/// A slot of an endpoint that is gone is harmless: its packets are dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointSlot {
    conference: u32,
    index: u32,
    generation: u32,
}

/// Forwards the media of all conferences of one worker.
pub struct Forwarder {
    surroundings: Surroundings,
    negotiations: Negotiations,
    conferences: Vec<Option<Conference>>,
    by_conference: HashMap<ConferenceId, usize, foldhash::fast::RandomState>,
    by_endpoint: HashMap<EndpointId, EndpointSlot, foldhash::fast::RandomState>,
    deadline: Option<Instant>,
}

/// What all conferences of a worker have in common.
struct Surroundings {
    config: ForwarderConfig,
    stats: Arc<WorkerStats>,
    epoch: Option<Instant>,
    events: VecDeque<Event>,
    shedding: Shedding,
    peers: Peers,
    batch: Batch,
    share: FairShare,
    complaints: Complaints,
}

impl Surroundings {
    fn env(&mut self, now: Instant) -> Env<'_> {
        let Self { config, stats, epoch, events, shedding, peers, batch, share, complaints } = self;
        Env {
            now,
            epoch: *epoch.get_or_insert(now),
            stats,
            config,
            events,
            shedding: *shedding,
            peers,
            batch,
            share,
            complaints,
        }
    }
}

impl CreateError {
    /// What it is counted as.
    pub(crate) fn counter(self) -> Counter {
        match self {
            Self::WorkerFull | Self::ConferenceFull => Counter::DropTableFull,
            Self::Taken | Self::UnknownConference | Self::UnknownWorker => Counter::DropCommandUnknown,
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
            surroundings: Surroundings {
                config,
                stats,
                epoch: None,
                events: VecDeque::with_capacity(64),
                shedding: Shedding::default(),
                peers,
                batch: Batch::new(),
                share: FairShare::default(),
                complaints: Complaints::new(),
            },
            negotiations: Negotiations::default(),
            conferences: Vec::new(),
            by_conference: HashMap::default(),
            by_endpoint: HashMap::default(),
            deadline: None,
        }
    }

    /// Applies a command; those for ICE and DTLS are ignored, those for unknown ids are counted.
    /// An endpoint that cannot be created is answered by [`Event::EndpointRefused`].
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        if !self.surroundings.batch.is_empty() {
            // A packet of before must not meet the conferences and keys of after.
            debug_assert!(false, "a command came before the release of a batch");
            self.surroundings.stats.add(Counter::DropOutputFull, self.surroundings.batch.len() as u64);
            self.surroundings.batch.clear();
        }
        match command {
            Command::CreateConference { conference, feedback } => {
                if self.by_conference.contains_key(&conference) {
                    return;
                }
                let index = self.conferences.iter().position(Option::is_none).unwrap_or_else(|| {
                    self.conferences.push(None);
                    self.conferences.len() - 1
                });
                self.conferences[index] = Some(Conference::new(conference, index as u32, feedback));
                self.by_conference.insert(conference, index);
            }
            Command::ExpireConference { conference } => match self.by_conference.remove(&conference) {
                Some(index) => {
                    self.by_endpoint.retain(|_, slot| slot.conference as usize != index);
                    if let Some(place) = self.conferences.get_mut(index) {
                        *place = None;
                    }
                }
                None => self.surroundings.stats.count(Counter::DropCommandUnknown),
            },
            Command::CreateEndpoint(new) => {
                let created = self.create_endpoint(now, new.conference, new.endpoint, None);
                self.note_created(now, new.endpoint, created);
            }
            Command::CreateRemoteEndpoint { conference, endpoint, home } => {
                let elsewhere = home != self.surroundings.peers.index() && home < self.surroundings.peers.workers();
                let created = match elsewhere {
                    true => self.create_endpoint(now, conference, endpoint, Some(home)),
                    false => Err(CreateError::UnknownWorker),
                };
                self.note_created(now, endpoint, created);
            }
            Command::ExpireEndpoint { endpoint } => {
                self.with_endpoint(now, endpoint, |conference, env, index, _| conference.leave(env, index));
                self.by_endpoint.remove(&endpoint);
            }
            Command::SetSrtp { endpoint, keys } => {
                self.with_endpoint(now, endpoint, |conference, _, index, _| conference.set_keys(index, &keys));
            }
            Command::SetMedia { endpoint, media } => {
                self.with_endpoint(now, endpoint, |conference, env, index, negotiations| {
                    let negotiated = negotiations.compile(&media, &mut conference.negotiations, env.stats);
                    conference.set_media(env, index, negotiated);
                });
            }
            Command::SetSources { endpoint, sources } => {
                self.with_endpoint(now, endpoint, |conference, env, index, _| {
                    conference.set_sources(env, index, &sources)
                });
            }
            Command::SetConstraints { endpoint, constraints } => {
                self.with_endpoint(now, endpoint, |conference, env, index, _| {
                    conference.set_constraints(env, index, *constraints);
                });
            }
            Command::SetSsrcRewriting { endpoint, rewriting } => {
                self.with_endpoint(now, endpoint, |conference, env, index, _| {
                    conference.set_ssrc_rewriting(env, index, &rewriting);
                });
            }
            Command::MappingsTold { endpoint, announcement } => {
                self.with_endpoint(now, endpoint, |conference, env, index, _| {
                    conference.mappings_told(env, index, announcement);
                });
            }
            Command::SetUntold { endpoint, sources } => {
                self.with_endpoint(now, endpoint, |conference, env, index, _| {
                    conference.set_untold(env, index, sources)
                });
            }
            Command::SetForceMute { endpoint, audio, video } => {
                self.with_endpoint(now, endpoint, |conference, _, index, _| {
                    if let Some(endpoint) = conference.endpoint(index) {
                        endpoint.force_mute = [audio, video];
                    }
                });
            }
            Command::SetRemoteIce { .. }
            | Command::RestartIce { .. }
            | Command::AnswerIceRestart { .. }
            | Command::SendDtls { .. }
            | Command::AskServer { .. }
            | Command::Shutdown => {}
        }
    }

    fn create_endpoint(
        &mut self,
        now: Instant,
        conference: ConferenceId,
        endpoint: EndpointId,
        home: Option<usize>,
    ) -> Result<(), CreateError> {
        if self.by_endpoint.contains_key(&endpoint) {
            return Err(CreateError::Taken);
        }
        let index = *self.by_conference.get(&conference).ok_or(CreateError::UnknownConference)?;
        let mut env = self.surroundings.env(now);
        let state = self.conferences.get_mut(index).and_then(Option::as_mut).ok_or(CreateError::UnknownConference)?;
        let limit = env.config.max_endpoints_per_conference;
        if state.endpoints.iter().flatten().count() >= limit {
            tracing::warn!(%conference, %endpoint, limit, "endpoint refused: the conference has as many as it takes");
            return Err(CreateError::ConferenceFull);
        }
        let (place, generation) = state.join(&mut env, endpoint, home, self.negotiations.nothing());
        let slot = EndpointSlot { conference: index as u32, index: place as u32, generation };
        self.by_endpoint.insert(endpoint, slot);
        self.deadline = earlier(self.deadline, state.deadline);
        Ok(())
    }

    /// Tells of, and counts, an endpoint that could not be created.
    fn note_created(&mut self, now: Instant, endpoint: EndpointId, created: Result<(), CreateError>) {
        if let Err(error) = created {
            self.surroundings.stats.count(error.counter());
            self.surroundings.env(now).emit(Event::EndpointRefused { endpoint, error });
        }
    }

    fn with_endpoint(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        step: impl FnOnce(&mut Conference, &mut Env<'_>, usize, &mut Negotiations),
    ) {
        let slot = self.by_endpoint.get(&endpoint).copied();
        let conference = slot.and_then(|s| Some((s, self.conferences.get_mut(s.conference as usize)?.as_mut()?)));
        let Some((slot, conference)) = conference else {
            return self.surroundings.stats.count(Counter::DropCommandUnknown);
        };
        let mut env = self.surroundings.env(now);
        step(conference, &mut env, slot.index as usize, &mut self.negotiations);
        self.deadline = earlier(self.deadline, conference.deadline);
    }

    /// The slot of an endpoint.
    pub fn slot(&self, endpoint: EndpointId) -> Option<EndpointSlot> {
        self.by_endpoint.get(&endpoint).copied()
    }

    /// Sets where the endpoint's packets go; `None` stops sending.
    pub fn set_path(&mut self, endpoint: EndpointId, path: Option<Path>) {
        if let Some(slot) = self.slot(endpoint)
            && let Some(conference) = self.conferences.get_mut(slot.conference as usize).and_then(Option::as_mut)
            && let Some(endpoint) = conference.endpoint(slot.index as usize)
        {
            endpoint.path = path;
        }
    }

    /// The rings to and from the other workers.
    pub(crate) fn peers(&mut self) -> &mut Peers {
        &mut self.surroundings.peers
    }

    /// Leaves out more or less from now on.
    pub fn set_shedding(&mut self, shedding: Shedding) {
        self.surroundings.shedding = shedding;
    }

    /// Tells of an authenticated sign of life other than media, e.g. ICE consent.
    pub fn note_activity(&mut self, now: Instant, slot: EndpointSlot) {
        self.with_slot(now, slot, |conference, env| {
            if let Some(endpoint) = conference.endpoint(slot.index as usize) {
                ingress::note_activity(env, endpoint);
                conference.wake(env.now + crate::conference::participant::ACTIVITY_TIMEOUT);
            }
        });
    }

    /// Takes one SRTP packet, and gives it to its receivers.
    pub fn handle_rtp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        self.gather_rtp(now, from, datagram, sink);
        self.release(now, sink);
    }

    /// Takes one SRTP packet. It goes to its receivers with the others of its batch, when [`Self::release`] is called:
    /// after the batch, and before any command.
    pub fn gather_rtp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        self.with_slot(now, from, |conference, env| conference.handle_rtp(env, from.index as usize, datagram, sink));
        if self.surroundings.batch.is_full() {
            self.release(now, sink);
        }
    }

    /// Gives what was gathered to its receivers.
    pub fn release(&mut self, now: Instant, sink: &mut impl PacketSink) {
        if self.surroundings.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.surroundings.batch);
        let mut done = 0;
        while let Some((place, members)) = batch.next_conference(done) {
            done |= members;
            if let Some(conference) = self.conferences.get_mut(place as usize).and_then(Option::as_mut) {
                let mut env = self.surroundings.env(now);
                conference.fan_out(&mut env, &batch, members, sink);
                self.deadline = earlier(self.deadline, conference.deadline);
            }
        }
        batch.clear();
        self.surroundings.batch = batch;
    }

    /// Takes one SRTCP packet.
    pub fn handle_rtcp(&mut self, now: Instant, from: EndpointSlot, datagram: &mut [u8], sink: &mut impl PacketSink) {
        self.with_slot(now, from, |conference, env| conference.handle_rtcp(env, from.index as usize, datagram, sink));
    }

    /// Takes what other forwarders sent, where no worker does.
    pub fn handle_peers(&mut self, now: Instant, sink: &mut impl PacketSink) {
        for worker in 0..self.surroundings.peers.workers() {
            while let Some(message) = self.surroundings.peers.poll(worker) {
                match message {
                    PeerMessage::Media { crossing, len, data } => {
                        let packet = data.get(..usize::from(len)).unwrap_or(&[]);
                        self.handle_crossing(now, worker, crossing, packet, sink);
                    }
                    PeerMessage::Note(note) => self.handle_note(now, worker, note, sink),
                    // Steering is the workers' business.
                    PeerMessage::Datagram { .. } | PeerMessage::Claim { .. } | PeerMessage::Release { .. } => {}
                }
            }
        }
        self.surroundings.peers.wake();
        self.release(now, sink);
    }

    /// Takes a packet that its home, `worker`, has opened; it goes on with [`Self::release`].
    pub(crate) fn handle_crossing(
        &mut self,
        now: Instant,
        worker: usize,
        crossing: Crossing,
        packet: &[u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(slot) = self.slot(crossing.endpoint) else {
            return self.surroundings.stats.count(Counter::DropCrossingUnknown);
        };
        let index = slot.index as usize;
        self.with_slot(now, slot, |conference, env| {
            conference.handle_crossing(env, worker, index, crossing, packet, sink)
        });
        if self.surroundings.batch.is_full() {
            self.release(now, sink);
        }
    }

    /// Takes a note of another worker. One about an endpoint that is not known here came too early or too late: whoever
    /// is early is asked again.
    pub(crate) fn handle_note(&mut self, now: Instant, worker: usize, note: Note, sink: &mut impl PacketSink) {
        let (Note::KeyframeWish { endpoint, .. }
        | Note::Demand { endpoint, .. }
        | Note::TellDemand { endpoint }
        | Note::SenderReport { endpoint, .. }) = note;
        let Some(slot) = self.slot(endpoint) else { return };
        let index = slot.index as usize;
        self.with_slot(now, slot, |conference, env| conference.handle_note(env, worker, index, note, sink));
    }

    #[inline]
    fn with_slot(&mut self, now: Instant, slot: EndpointSlot, step: impl FnOnce(&mut Conference, &mut Env<'_>)) {
        let conference = self.conferences.get_mut(slot.conference as usize).and_then(Option::as_mut);
        let Some(conference) = conference else { return self.surroundings.stats.count(Counter::DropUnknownAddress) };
        if conference.endpoint(slot.index as usize).is_none_or(|e| e.generation != slot.generation) {
            return self.surroundings.stats.count(Counter::DropUnknownAddress);
        }
        let mut env = self.surroundings.env(now);
        step(conference, &mut env);
        self.deadline = earlier(self.deadline, conference.deadline);
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl PacketSink) {
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.deadline = None;
        for conference in self.conferences.iter_mut().flatten() {
            if conference.deadline.is_some_and(|at| at <= now) {
                let mut env = self.surroundings.env(now);
                conference.handle_timeout(&mut env, sink);
            }
            self.deadline = earlier(self.deadline, conference.deadline);
        }
    }

    /// When `handle_timeout` wants to run next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.surroundings.events.pop_front()
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
