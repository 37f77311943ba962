//! The bridge's side of colibri2 as a state machine: requests and time in, answers and outputs out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jid::BareJid;
use rand::Rng;
use ringbridge_dataplane::ice::{IceState, RestartOutcome};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, Ssrc};
use ringbridge_dataplane::media::VideoType;
use ringbridge_dataplane::messages::{Command, CreateError, FeedbackSsrcs};
use xmpp_parsers::stanza_error::DefinedCondition;

use super::conference::{Conference, EndpointState};
pub use super::config::ColibriConfig;
use super::elements::{ConferenceModified, ConferenceModify, Reason};
use super::limits::{self, MAX_CONFERENCES, MAX_ID};
pub use super::output::Output;
use super::placement::Placement;
use super::refusal::{Bound, Refusal};
use super::totals::Totals;
use super::validation::{Service, bridge_full, validate};
use crate::public_address::{self, PublicAddress};

/// How often endpoints and conferences are checked for expiry.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Sources whose type an endpoint may set.
const MAX_VIDEO_TYPES: usize = 64;

/// An answer to a request.
pub type Reply = Result<ConferenceModified, Refusal>;

/// All conferences of this bridge.
#[derive(Debug)]
pub struct ColibriBridge {
    pub(super) config: ColibriConfig,
    /// Public addresses that the operator named.
    configured: Vec<PublicAddress>,
    conferences: HashMap<String, Conference>,
    /// Meeting of every endpoint.
    pub(super) meetings: HashMap<EndpointId, String>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) placement: Placement,
    next_conference: u32,
    pub(super) next_endpoint: u32,
    graceful_shutdown: bool,
    next_check: Instant,
    /// When the first of those who wait to be told counts as told.
    pub(super) next_told: Option<Instant>,
    pub(super) totals: Totals,
}

impl ColibriBridge {
    /// A bridge without conferences.
    pub fn new(now: Instant, config: ColibriConfig) -> Self {
        Self {
            placement: Placement::new(config.workers, config.spill_endpoints, config.capacity.endpoints_per_worker),
            configured: config.transport.public_addresses.clone(),
            config,
            conferences: HashMap::new(),
            meetings: HashMap::new(),
            outputs: VecDeque::new(),
            next_conference: 1,
            next_endpoint: 1,
            graceful_shutdown: false,
            next_check: now + CHECK_INTERVAL,
            next_told: None,
            totals: Totals::default(),
        }
    }

    /// In graceful shutdown new conferences are refused.
    pub fn set_graceful_shutdown(&mut self, on: bool) {
        self.graceful_shutdown = on;
    }

    /// Takes the workers' stress, in order: new endpoints go where there is less.
    pub fn set_stress(&mut self, stress: impl IntoIterator<Item = f64>) {
        self.placement.set_stress(stress);
    }

    /// The addresses that new endpoints are told from now on.
    pub fn set_local_addresses(&mut self, addresses: &[IpAddr]) {
        self.config.transport.local_addresses = addresses.to_vec();
    }

    /// The public addresses that were found; new endpoints are told them from now on beside those that the operator named.
    pub fn set_found_addresses(&mut self, found: &[PublicAddress]) {
        self.config.transport.public_addresses = public_address::merge(&self.configured, found);
    }

    /// How many of those that the operator named stand for a local address.
    pub fn advertised_configured(&self) -> usize {
        let hosts = &self.config.transport.local_addresses;
        self.configured.iter().filter(|public| public.base(hosts).is_some()).count()
    }

    /// Handles one request; requests must be passed in order of arrival.
    pub fn handle(&mut self, now: Instant, request: &ConferenceModify) -> Reply {
        let mut request = request.clone();
        self.totals.left_out += limits::bound(&mut request, self.config.capacity.sources_per_endpoint);
        let reply = self.apply(now, &request);
        match reply.as_ref().map_err(|refusal| refusal.bound) {
            Ok(_) => {}
            Err(Some(bound)) => self.totals.beyond.count(bound),
            Err(None) => self.totals.refused += 1,
        }
        reply
    }

    fn apply(&mut self, now: Instant, request: &ConferenceModify) -> Reply {
        let created = self.look_up(now, request)?;
        // Out of the map while it changes: its endpoints and the bridge's own tables are changed together.
        let Some(mut conference) = self.conferences.remove(&request.meeting_id) else {
            return Err(Refusal::new(DefinedCondition::InternalServerError, None, "conference lost"));
        };
        let reply = self.modify(now, &mut conference, request, created);
        let end = request.expire || (!request.create && conference.endpoints.is_empty());
        if end && reply.is_ok() {
            self.end_conference(now, conference, "requested or empty");
        } else {
            self.conferences.insert(request.meeting_id.clone(), conference);
        }
        reply
    }

    /// Notes that somebody asked who may not.
    pub fn note_stranger(&mut self) {
        self.totals.strangers += 1;
    }

    /// Notes that parts of a request could not be read.
    pub fn note_left_out(&mut self, parts: u64) {
        self.totals.left_out += parts;
    }

    /// Finds or creates the conference; true when it was created.
    fn look_up(&mut self, now: Instant, request: &ConferenceModify) -> Result<bool, Refusal> {
        let exists = self.conferences.contains_key(&request.meeting_id);
        if !request.create {
            return exists.then_some(false).ok_or_else(|| {
                let text = format!("no conference with meeting-id {:?}", request.meeting_id);
                Refusal::new(DefinedCondition::ItemNotFound, Some(Reason::ConferenceNotFound), text)
            });
        }
        if exists {
            let text = format!("a conference with meeting-id {:?} exists", request.meeting_id);
            return Err(Refusal::new(DefinedCondition::Conflict, Some(Reason::ConferenceAlreadyExists), text));
        }
        if self.graceful_shutdown {
            let text = "this bridge shuts down and takes no new conferences";
            return Err(Refusal::new(DefinedCondition::ServiceUnavailable, Some(Reason::GracefulShutdown), text));
        }
        let name = request.name.as_deref().unwrap_or_default();
        if request.meeting_id.len() > MAX_ID || name.len() > MAX_ID {
            let text = format!("a meeting-id or name of more than {MAX_ID} bytes");
            return Err(Refusal::new(DefinedCondition::BadRequest, None, text));
        }
        if self.conferences.len() >= MAX_CONFERENCES {
            let text = format!("this bridge has {MAX_CONFERENCES} conferences, as many as it takes");
            return Err(Refusal::beyond(Bound::Conferences, text));
        }
        if !self.placement.has_room() {
            // Before there is a conference that nobody could be in.
            return Err(bridge_full());
        }
        if let Some(name) = &request.name
            && !name.parse::<BareJid>().is_ok_and(|jid| jid.node().is_some())
        {
            let text = format!("conference name {name:?} is not a bare JID with a local part");
            return Err(Refusal::new(DefinedCondition::BadRequest, None, text));
        }
        let mut rng = rand::rng();
        let worker = self.placement.for_conference();
        let conference = Conference {
            id: ConferenceId(self.next_conference),
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
            created: now,
        };
        self.next_conference += 1;
        self.totals.conferences_created += 1;
        self.placement.count_conference(worker, 1);
        tracing::info!(conference = %conference.id, meeting = %conference.meeting_id, name = conference.name.as_deref(),
            worker, "conference created");
        self.command(worker, Command::CreateConference { conference: conference.id, feedback: conference.feedback });
        self.conferences.insert(request.meeting_id.clone(), conference);
        Ok(true)
    }

    fn modify(
        &mut self,
        now: Instant,
        conference: &mut Conference,
        request: &ConferenceModify,
        created: bool,
    ) -> Reply {
        let service = Service {
            sctp: self.config.sctp,
            conference_endpoints: self.config.capacity.endpoints_per_conference,
            has_room: self.placement.has_room(),
        };
        validate(conference, request, &service)?;
        let mut reply = ConferenceModified::default();
        let mut feedback = created;
        for endpoint in &request.endpoints {
            feedback |= endpoint.create && !endpoint.expire;
            reply.endpoints.push(self.endpoint(now, conference, endpoint)?);
        }
        reply.sources = feedback.then(|| conference.feedback_sources());
        Ok(reply)
    }

    pub(super) fn end_endpoint(&mut self, conference: &mut Conference, index: usize, reason: &str) {
        let state = conference.endpoints.remove(index);
        tracing::info!(endpoint = %state.id, label = %state.label, conference = %conference.id, reason, "endpoint expired");
        let worker = state.worker;
        self.send(conference, worker, Command::ExpireEndpoint { endpoint: state.id });
        self.forget(conference, state);
        // Nobody is left there to receive anything.
        if conference.workers.len() > 1 && !conference.endpoints.iter().any(|e| e.worker == worker) {
            conference.workers.retain(|other| *other != worker);
            self.placement.count_conference(worker, -1);
            self.command(worker, Command::ExpireConference { conference: conference.id });
        }
    }

    fn end_conference(&mut self, now: Instant, mut conference: Conference, reason: &str) {
        tracing::info!(conference = %conference.id, meeting = %conference.meeting_id, reason, "conference expired");
        self.totals.conferences_completed += 1;
        self.totals.conference_time += now.saturating_duration_since(conference.created);
        for worker in conference.workers.iter().copied() {
            self.placement.count_conference(worker, -1);
            self.command(worker, Command::ExpireConference { conference: conference.id });
        }
        for state in std::mem::take(&mut conference.endpoints) {
            self.forget(&conference, state);
        }
    }

    fn forget(&mut self, conference: &Conference, state: EndpointState) {
        self.placement.count_endpoint(state.worker, -1);
        self.meetings.remove(&state.id);
        self.outputs.push_back(Output::EndpointExpired {
            endpoint: state.id,
            conference: conference.id,
            conference_hex: conference.hex_id.clone(),
            label: state.label,
        });
    }

    pub(super) fn command(&mut self, worker: usize, command: Command) {
        self.outputs.push_back(Output::Command { worker, command });
    }

    /// Sends a command about an endpoint to its home, or to all workers of its conference.
    pub(super) fn send(&mut self, conference: &Conference, home: usize, command: Command) {
        let others = conference.workers.iter().copied().filter(|worker| *worker != home && command.is_shared());
        for worker in others {
            self.command(worker, command.clone());
        }
        self.command(home, command);
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn state(&mut self, endpoint: EndpointId) -> Option<&mut EndpointState> {
        let meeting = self.meetings.get(&endpoint)?;
        self.conferences.get_mut(meeting)?.endpoints.iter_mut().find(|e| e.id == endpoint)
    }

    /// A worker did not create an endpoint, after its focus was given a transport. It is expired: the next request about it is
    /// answered so that the focus invites again, and that creation goes elsewhere or is refused at once.
    pub fn handle_refused(&mut self, endpoint: EndpointId, error: CreateError) {
        let Some(meeting) = self.meetings.get(&endpoint).cloned() else { return };
        let Some(mut conference) = self.conferences.remove(&meeting) else { return };
        if let Some(index) = conference.endpoints.iter().position(|e| e.id == endpoint) {
            let worker = conference.endpoints[index].worker;
            tracing::error!(%endpoint, worker, ?error, "a worker refused an endpoint; its client is invited again");
            self.totals.revoked += 1;
            self.end_endpoint(&mut conference, index, "refused by a worker");
            if error == CreateError::WorkerFull {
                // It gets nobody else until somebody leaves it.
                self.placement.set_refused(worker);
            }
        }
        self.conferences.insert(meeting, conference);
    }

    /// Whether one more endpoint can be created.
    pub fn has_room(&self) -> bool {
        self.placement.has_room()
    }

    /// An endpoint became active or fell silent.
    pub fn handle_activity(&mut self, now: Instant, endpoint: EndpointId, active: bool) {
        if let Some(state) = self.state(endpoint) {
            state.set_active(now, active);
        }
    }

    /// An endpoint said what one of its sources shows; remembered when the source is not signalled yet.
    pub fn set_video_type(&mut self, endpoint: EndpointId, source: &str, video_type: VideoType) {
        let conference = self.meetings.get(&endpoint).and_then(|meeting| self.conferences.get_mut(meeting));
        let Some(conference) = conference else { return };
        let workers = conference.workers.clone();
        let Some(state) = conference.endpoints.iter_mut().find(|e| e.id == endpoint) else { return };
        // Bounded: a client may name what it likes.
        if state.video_types.len() < MAX_VIDEO_TYPES || state.video_types.contains_key(source) {
            state.video_types.insert(source.to_owned(), video_type);
        }
        let mut sources = state.sources.clone();
        state.override_video_types(&mut sources);
        if sources != state.sources {
            state.sources.clone_from(&sources);
            for worker in workers {
                self.command(worker, Command::SetSources { endpoint, sources: sources.clone() });
            }
            self.outputs.push_back(Output::SourcesChanged { endpoint, sources });
        }
    }

    /// ICE of an endpoint changed its state.
    pub fn handle_ice(&mut self, now: Instant, endpoint: EndpointId, ice: IceState) {
        if let Some(state) = self.state(endpoint) {
            state.established |= ice == IceState::Connected;
            state.set_active(now, ice == IceState::Connected);
        }
    }

    /// An ICE restart of an endpoint ended.
    pub fn handle_ice_restart(&mut self, now: Instant, endpoint: EndpointId, generation: u32, outcome: RestartOutcome) {
        let mut totals = self.totals.ice_restarts;
        if let Some(state) = self.state(endpoint) {
            let (id, label) = (state.id, &state.label);
            if let Some((local, remote, begun)) = state.ice_restarts.end(generation, outcome, &mut totals) {
                let ms = now.saturating_duration_since(begun).as_millis();
                tracing::info!(endpoint = %id, %label, generation, ms, "ICE restarted");
                (state.access.local, state.remote) = (local, remote);
            } else if outcome == RestartOutcome::Abandoned {
                tracing::warn!(endpoint = %id, %label, generation, "ICE restart failed; the previous candidate pair stays in use");
            }
        }
        self.totals.ice_restarts = totals;
    }

    /// When [`ColibriBridge::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.next_told.map_or(self.next_check, |told| told.min(self.next_check))
    }

    /// Ends waits of which nobody told the end.
    fn end_untold(&mut self, now: Instant) {
        if self.next_told.is_none_or(|at| at > now) {
            return;
        }
        self.next_told = None;
        for state in self.conferences.values_mut().flat_map(|conference| &mut conference.endpoints) {
            match state.untold_until {
                Some(until) if until <= now => {
                    state.untold_until = None;
                    state.untold.clear();
                    let command = Command::SetUntold { endpoint: state.id, sources: Vec::new() };
                    self.outputs.push_back(Output::Command { worker: state.worker, command });
                }
                Some(until) => self.next_told = Some(self.next_told.map_or(until, |next| next.min(until))),
                None => {}
            }
        }
    }

    /// Expires what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_untold(now);
        if now < self.next_check {
            return;
        }
        self.next_check = now + CHECK_INTERVAL;
        let meetings: Vec<String> = self.conferences.keys().cloned().collect();
        for meeting in meetings {
            let Some(mut conference) = self.conferences.remove(&meeting) else { continue };
            let mut index = 0;
            while let Some(state) = conference.endpoints.get(index) {
                match state.expired(now) {
                    Some(reason) => self.end_endpoint(&mut conference, index, reason),
                    None => index += 1,
                }
            }
            if conference.deserted(now) {
                self.end_conference(now, conference, "empty");
            } else {
                self.conferences.insert(meeting, conference);
            }
        }
    }

    /// Current numbers.
    pub fn totals(&self) -> Totals {
        self.totals.with(self.conferences.values())
    }

    /// Conferences now.
    pub fn conference_count(&self) -> usize {
        self.conferences.len()
    }

    /// Endpoints now.
    pub fn endpoint_count(&self) -> usize {
        self.meetings.len()
    }

    /// All conferences, in no order.
    pub(super) fn conferences(&self) -> impl Iterator<Item = &Conference> {
        self.conferences.values()
    }
}
