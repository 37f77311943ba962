//! One conference and its endpoints: who is in it, and which workers know it.

use std::time::{Duration, Instant};

use rand::Rng;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId, Ssrc};
use ringbridge_dataplane::messages::{Command, FeedbackSsrcs};
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::context::Context;
use super::elements::{ConferenceModify, MediaSource, MediaType, Source, Sources};
use super::endpoint::EndpointState;
use super::placement::Share;
use super::relay::RelayState;

/// An empty conference younger than this is left alone.
const EMPTY_GRACE: Duration = Duration::from_secs(20);

/// One conference.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Conference {
    id: ConferenceId,
    meeting_id: String,
    /// Random, in hexadecimal; part of WebSocket URLs.
    hex_id: String,
    name: Option<String>,
    /// Whether third parties may collect statistics of it.
    rtcstats: bool,
    /// Those that it exists on, in the order in which it got there; never none.
    workers: Vec<usize>,
    feedback: FeedbackSsrcs,
    /// In order of creation.
    endpoints: Vec<EndpointState>,
    /// In order of creation.
    relays: Vec<RelayState>,
    #[serde(with = "crate::carried")]
    created: Instant,
    /// When its last endpoint left, of this bridge or of another one.
    #[serde(with = "crate::carried")]
    empty_since: Option<Instant>,
}

impl Conference {
    /// Creates one, on the worker that has least to do.
    pub fn new(now: Instant, request: &ConferenceModify, context: &mut Context) -> Self {
        let mut rng = rand::rng();
        let worker = context.placement.for_conference();
        let conference = Self {
            id: context.next_conference(),
            meeting_id: request.meeting_id.clone(),
            hex_id: format!("{:016x}", rng.random::<u64>()),
            name: request.name.clone(),
            rtcstats: !request.rtcstats_disabled,
            workers: vec![worker],
            feedback: FeedbackSsrcs {
                audio: Ssrc::new(rng.random_range(1..=u32::MAX)),
                video: Ssrc::new(rng.random_range(1..=u32::MAX)),
            },
            endpoints: Vec::new(),
            relays: Vec::new(),
            created: now,
            empty_since: Some(now),
        };
        context.totals.conferences_created += 1;
        context.placement.count_conference(worker, 1);
        tracing::info!(conference = %conference.id, meeting = %conference.meeting_id, name = conference.name.as_deref(),
            worker, "conference created");
        context.command(worker, conference.creation());
        conference
    }

    /// It was created in another process, with all that is in it, and is counted in this one.
    pub fn take_in(&self, context: &mut Context) {
        for worker in &self.workers {
            context.placement.count_conference(*worker, 1);
        }
        for state in &self.endpoints {
            context.take_in(state.who(), &self.meeting_id);
        }
        for id in self.relays.iter().flat_map(RelayState::ids) {
            context.count_relay_in(id, &self.meeting_id);
        }
    }

    fn creation(&self) -> Command {
        Command::CreateConference { conference: self.id, feedback: self.feedback }
    }

    pub fn id(&self) -> ConferenceId {
        self.id
    }

    pub fn meeting_id(&self) -> &str {
        &self.meeting_id
    }

    /// Its part of WebSocket URLs.
    pub fn hex_id(&self) -> &str {
        &self.hex_id
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether third parties may collect statistics of it.
    pub fn rtcstats(&self) -> bool {
        self.rtcstats
    }

    /// The workers that it exists on.
    pub fn workers(&self) -> &[usize] {
        &self.workers
    }

    /// In order of creation.
    pub fn endpoints(&self) -> &[EndpointState] {
        &self.endpoints
    }

    pub fn endpoint(&self, label: &str) -> Option<&EndpointState> {
        self.endpoints.iter().find(|e| e.who().label == label)
    }

    pub fn endpoint_mut(&mut self, label: &str) -> Option<&mut EndpointState> {
        self.endpoints.iter_mut().find(|e| e.who().label == label)
    }

    pub fn endpoint_by_id(&mut self, id: EndpointId) -> Option<&mut EndpointState> {
        self.endpoints.iter_mut().find(|e| e.id() == id)
    }

    /// In order of creation.
    pub fn relays(&self) -> &[RelayState] {
        &self.relays
    }

    pub fn relays_mut(&mut self) -> &mut [RelayState] {
        &mut self.relays
    }

    pub fn relay(&self, label: &str) -> Option<&RelayState> {
        self.relays.iter().find(|r| r.who().label == label)
    }

    pub fn relay_mut(&mut self, label: &str) -> Option<&mut RelayState> {
        self.relays.iter_mut().find(|r| r.who().label == label)
    }

    pub fn relay_by_id(&mut self, id: EndpointId) -> Option<&mut RelayState> {
        self.relays.iter_mut().find(|r| r.id() == id)
    }

    /// The relay and the identity of an endpoint of another bridge.
    pub fn relayed(&self, label: &str) -> Option<(EndpointId, EndpointId)> {
        let of = |r: &RelayState| Some((r.id(), r.relayed().iter().find(|e| e.who().label == label)?.who().id));
        self.relays.iter().find_map(of)
    }

    /// How many endpoints there are, of this bridge and of others.
    pub fn population(&self) -> usize {
        self.endpoints.len() + self.relays.iter().map(|r| r.relayed().len()).sum::<usize>()
    }

    /// The mesh that signalling calls so.
    pub fn mesh(&self, name: &str, context: &mut Context) -> MeshId {
        let known = self.relays.iter().find(|r| r.who().mesh_name == name).map(|r| r.who().mesh);
        known.unwrap_or_else(|| context.next_mesh())
    }

    /// Takes in a relay; its worker knows the conference.
    pub fn add_relay(&mut self, state: RelayState, context: &mut Context) {
        context.count_relay_in(state.id(), &self.meeting_id);
        context.totals.relays_created += 1;
        self.relays.push(state);
    }

    /// Takes a relay out.
    pub fn take_relay(&mut self, id: EndpointId) -> Option<RelayState> {
        let index = self.relays.iter().position(|r| r.id() == id)?;
        Some(self.relays.remove(index))
    }

    /// How many of its endpoints each worker has.
    pub fn shares(&self) -> Vec<Share> {
        let endpoints = |worker| self.endpoints.iter().filter(|e| e.who().worker == worker).count();
        self.workers.iter().map(|worker| Share { worker: *worker, endpoints: endpoints(*worker) }).collect()
    }

    /// Makes the conference known to one more worker, with all its endpoints.
    pub fn extend_to(&mut self, worker: usize, context: &mut Context) {
        if self.workers.contains(&worker) {
            return;
        }
        tracing::info!(conference = %self.id, endpoints = self.endpoints.len(), worker, "conference extended to another worker");
        self.workers.push(worker);
        context.placement.count_conference(worker, 1);
        context.command(worker, self.creation());
        let endpoints = self.endpoints.iter().flat_map(EndpointState::introduce);
        for command in endpoints.chain(self.relays.iter().flat_map(RelayState::introduce)) {
            context.command(worker, command);
        }
    }

    /// Takes in an endpoint; its worker knows the conference.
    pub fn add(&mut self, state: EndpointState, context: &mut Context) {
        debug_assert!(self.workers.contains(&state.who().worker), "an endpoint on a worker without its conference");
        context.count_in(state.who(), &self.meeting_id);
        self.endpoints.push(state);
    }

    /// Expires an endpoint; the worker that it was on, if there was one.
    pub fn expire(&mut self, endpoint: EndpointId, reason: &str, context: &mut Context) -> Option<usize> {
        let index = self.endpoints.iter().position(|e| e.id() == endpoint)?;
        let who = self.endpoints.remove(index).who().clone();
        tracing::info!(endpoint = %who.id, label = %who.label, conference = %self.id, reason, "endpoint expired");
        let worker = who.worker;
        self.send(worker, Command::ExpireEndpoint { endpoint }, context);
        context.count_out(who);
        self.leave_worker(worker, context);
        Some(worker)
    }

    /// Takes the conference from a worker if nobody is left there to receive anything.
    pub fn leave_worker(&mut self, worker: usize, context: &mut Context) {
        let needed = self.endpoints.iter().any(|e| e.who().worker == worker)
            || self.relays.iter().any(|r| r.who().worker == worker);
        if self.workers.len() > 1 && !needed {
            self.workers.retain(|other| *other != worker);
            context.placement.count_conference(worker, -1);
            context.command(worker, Command::ExpireConference { conference: self.id });
        }
    }

    /// Expires the endpoints for which that is due.
    pub fn expire_inactive(&mut self, now: Instant, context: &mut Context) {
        let due: Vec<_> = self.endpoints.iter().filter_map(|e| Some((e.id(), e.expired(now)?))).collect();
        for (endpoint, reason) in due {
            self.expire(endpoint, reason, context);
        }
    }

    /// Ends the conference with all its endpoints.
    pub fn end(self, now: Instant, reason: &str, context: &mut Context) {
        tracing::info!(conference = %self.id, meeting = %self.meeting_id, reason, "conference expired");
        context.totals.conferences_completed += 1;
        context.totals.conference_time += now.saturating_duration_since(self.created);
        for worker in self.workers {
            context.placement.count_conference(worker, -1);
            context.command(worker, Command::ExpireConference { conference: self.id });
        }
        for state in self.relays {
            state.end(context);
        }
        for state in self.endpoints {
            context.count_out(state.who().clone());
        }
    }

    /// Whether a request that creates nothing and leaves it like this ends it.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.relays.is_empty()
    }

    /// Sends a command about an endpoint to its home, or to all workers of the conference.
    pub fn send(&self, home: usize, command: Command, context: &mut Context) {
        let others = self.workers.iter().copied().filter(|worker| *worker != home && command.is_shared());
        for worker in others {
            context.command(worker, command.clone());
        }
        context.command(home, command);
    }

    /// Carries out what a change of an endpoint made necessary.
    pub fn carry_out(&self, home: usize, changes: Changes, context: &mut Context) {
        for command in changes.commands {
            self.send(home, command, context);
        }
        for output in changes.outputs {
            context.output(output);
        }
    }

    /// Clients that waited for others' sources long enough count as knowing them.
    pub fn end_unsignalled(&mut self, now: Instant, context: &mut Context) {
        for state in &mut self.endpoints {
            if let Some(command) = state.end_unsignalled(now) {
                context.command(state.who().worker, command);
            }
            context.wait_for_unsignalled(state.unsignalled_until());
        }
    }

    /// Records whether anybody is in it.
    pub fn note_population(&mut self, now: Instant) {
        self.empty_since = (self.population() == 0).then(|| self.empty_since.unwrap_or(now));
    }

    /// Whether the periodic check, which recorded the population before, ends it: nobody is in it, on any bridge, and it does not connect others.
    pub fn deserted(&self, now: Instant) -> bool {
        let grace = |since: Instant| now.saturating_duration_since(since) >= EMPTY_GRACE;
        let connects = self.relays.windows(2).any(|two| two[0].who().mesh != two[1].who().mesh);
        !connects && self.empty_since.is_some_and(grace)
    }

    /// The bridge's own sources.
    pub fn feedback_sources(&self) -> Sources {
        let source = |media_type, name: &str, ssrc| MediaSource {
            media_type,
            id: name.to_owned(),
            synthetic: false,
            sources: vec![Source { ssrc, name: Some(name.to_owned()), ..Source::default() }],
            ssrc_groups: Vec::new(),
        };
        Sources {
            media_sources: vec![
                source(MediaType::Audio, "jvb-a0", self.feedback.audio.get()),
                source(MediaType::Video, "jvb-v0", self.feedback.video.get()),
            ],
        }
    }
}
