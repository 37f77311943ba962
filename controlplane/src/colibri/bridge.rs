//! The bridge's side of colibri2 as a state machine: requests and time in, answers and outputs out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jid::BareJid;
use rand::Rng;
use ringbridge_dataplane::Capacity;
use ringbridge_dataplane::ice::{IceCredentials, IceState, RestartOutcome};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::{SourceDescription, VideoType};
use ringbridge_dataplane::messages::{Command, CreateError, FeedbackSsrcs, NewEndpoint, SsrcRewriting};
use xmpp_parsers::stanza_error::DefinedCondition;

use super::conference::{Access, Conference, EndpointState};
use super::convert;
use super::elements::{
    CAP_PRIVATE_ADDRESSES, CAP_RTP_MID_DEMUX, CAP_SSRC_REWRITING, ConferenceModified, ConferenceModify, Endpoint,
    Fingerprint, IceTransport, Reason, Sctp, SctpRole, Setup, Transport,
};
use super::limits::{self, MAX_CONFERENCES, MAX_ID};
use super::names;
use super::placement::Placement;
use super::refusal::{Bound, Refusal};
use super::restart::{Answer, Decision};
use super::totals::Totals;
use super::transport::{LocalTransport, NewTransport, random_token};
use super::validation::{Service, bridge_full, is_visitor, validate};
use crate::public_address::{self, PublicAddress};

/// How often endpoints and conferences are checked for expiry.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// A client counts as told of all sources after this: a focus that fell silent must not keep media back for ever.
const UNTOLD_LONGEST: Duration = Duration::from_secs(5);
/// Sources whose type an endpoint may set.
const MAX_VIDEO_TYPES: usize = 64;

/// Port of every SCTP association, on both sides.
pub(super) const SCTP_PORT: u16 = 5000;

/// The client starts the association (section 5.1).
const SERVER: Sctp = Sctp { port: Some(SCTP_PORT), role: Some(SctpRole::Server) };

/// What the state machine is made with.
#[derive(Debug, Clone)]
pub struct ColibriConfig {
    /// Our side of every transport.
    pub transport: LocalTransport,
    /// Number of workers, at least 1.
    pub workers: usize,
    /// Endpoints of one conference on one worker before new ones go to another.
    pub spill_endpoints: usize,
    /// What the workers take at most.
    pub capacity: Capacity,
    /// Whether data channels are served beside web-sockets.
    pub sctp: bool,
    /// SSRCs on which an endpoint with SSRC rewriting gets all audio.
    pub audio_ssrcs: usize,
    /// Pairs of SSRCs on which it gets all video.
    pub video_ssrcs: usize,
    /// Whether ICE is restarted in place.
    pub ice_restart: bool,
    /// First characters of the ufrags that belong to a worker.
    pub ufrag_prefix: fn(usize) -> String,
}

/// Something that the caller must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a command to a worker.
    Command {
        /// Index of the worker.
        worker: usize,
        /// What to send.
        command: Command,
    },
    /// An endpoint came into being: its channel may be opened.
    EndpointCreated {
        /// Its identity.
        endpoint: EndpointId,
        /// Its conference.
        conference: ConferenceId,
        /// Id of the conference in web-socket URLs.
        conference_hex: String,
        /// Its name in the conference.
        label: String,
        /// Password of its channel.
        password: String,
        /// The worker that owns it.
        worker: usize,
        /// Visitors' messages are not forwarded.
        visitor: bool,
        /// Whether a data channel was asked for.
        sctp: bool,
    },
    /// An endpoint is gone: close its channel, forget its DTLS session.
    EndpointExpired {
        /// Its identity.
        endpoint: EndpointId,
        /// Its conference.
        conference: ConferenceId,
        /// Id of the conference in web-socket URLs.
        conference_hex: String,
        /// Its name in the conference.
        label: String,
    },
    /// The remote side of DTLS became known or changed.
    RemoteDtls {
        /// Whose.
        endpoint: EndpointId,
        /// Its role, when it said one.
        setup: Option<Setup>,
        /// Fingerprints of its certificate, never empty.
        fingerprints: Vec<Fingerprint>,
    },
    /// Last-n to use until the endpoint says what it wants.
    InitialLastN {
        /// Whose.
        endpoint: EndpointId,
        /// -1 is unlimited.
        last_n: i32,
    },
    /// The endpoint's set of sources changed.
    SourcesChanged {
        /// Whose.
        endpoint: EndpointId,
        /// The complete new set.
        sources: Vec<SourceDescription>,
    },
}

/// An answer to a request.
pub type Reply = Result<ConferenceModified, Refusal>;

/// All conferences of this bridge.
#[derive(Debug)]
pub struct ColibriBridge {
    config: ColibriConfig,
    /// Public addresses that the operator named.
    configured: Vec<PublicAddress>,
    conferences: HashMap<String, Conference>,
    /// Meeting of every endpoint.
    meetings: HashMap<EndpointId, String>,
    outputs: VecDeque<Output>,
    placement: Placement,
    next_conference: u32,
    next_endpoint: u32,
    graceful_shutdown: bool,
    next_check: Instant,
    /// When the first of those who wait to be told counts as told.
    next_told: Option<Instant>,
    totals: Totals,
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
            feedback: FeedbackSsrcs { audio: rng.random_range(1..=u32::MAX), video: rng.random_range(1..=u32::MAX) },
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

    /// Applies one validated endpoint element and describes the result.
    fn endpoint(&mut self, now: Instant, conference: &mut Conference, request: &Endpoint) -> Result<Endpoint, Refusal> {
        let mut answer = Endpoint::new(&request.id);
        if request.expire {
            if let Some(index) = conference.endpoints.iter().position(|e| e.label == request.id) {
                self.end_endpoint(conference, index, "requested");
            }
            answer.expire = true;
            return Ok(answer);
        }
        if request.create {
            let sctp = request.transport.as_ref().is_some_and(|t| t.sctp.is_some());
            answer.transport = Some(Transport {
                ice: Some(self.create_endpoint(now, conference, request)?),
                sctp: sctp.then_some(SERVER),
                ..Transport::default()
            });
        }
        let mut commands = Vec::new();
        let mut outputs = Vec::new();
        let Some(state) = conference.endpoint(&request.id) else { return Ok(answer) };
        let (endpoint, home) = (state.id, state.worker);
        if request.stats_id.is_some() {
            state.stats_id.clone_from(&request.stats_id);
        }
        if !request.media.is_empty() {
            let before = state.media.clone();
            convert::merge_media(&mut state.media, &request.media);
            if state.media != before || request.create {
                commands.push(Command::SetMedia { endpoint, media: Box::new(state.media.clone()) });
            }
        }
        // Before anything that may let media flow.
        if let Some(untold) = &request.untold {
            let names: Vec<String> = untold.sources.iter().map(|source| source.name.clone()).collect();
            if names != state.untold {
                let until = now + UNTOLD_LONGEST;
                state.untold_until = (!names.is_empty()).then_some(until);
                self.next_told = Some(self.next_told.map_or(until, |next| next.min(until)));
                state.untold.clone_from(&names);
                commands.push(Command::SetUntold { endpoint, sources: names });
            }
        }
        if let Some(last_n) = &request.initial_last_n {
            outputs.push(Output::InitialLastN { endpoint, last_n: last_n.value });
        }
        if let Some(ice) = request.transport.as_ref().and_then(|t| t.ice.as_ref()) {
            let fingerprints: Vec<_> =
                ice.fingerprints.iter().filter(|f| !f.value.trim().is_empty()).cloned().collect();
            // Once established, only an ICE restart changes ICE; DTLS fields count at any time (section 4.3).
            if state.established {
                if let Some(answer) = state.ice_restarts.answer(ice, &mut self.totals.ice_restarts) {
                    let Answer { generation, credentials } = answer;
                    let candidates = convert::candidates(ice, true);
                    commands.push(Command::AnswerIceRestart { endpoint, generation, credentials, candidates });
                }
            } else {
                let candidates = convert::candidates(ice, false);
                let credentials = convert::credentials(ice).filter(|c| state.remote.as_ref() != Some(c));
                if credentials.is_some() || !candidates.is_empty() {
                    if credentials.is_some() {
                        state.remote.clone_from(&credentials);
                    }
                    commands.push(Command::SetRemoteIce { endpoint, credentials, candidates });
                }
            }
            if !fingerprints.is_empty() {
                let setup = fingerprints.iter().find_map(|f| f.setup);
                outputs.push(Output::RemoteDtls { endpoint, setup, fingerprints });
            }
        }
        if let Some(sources) = &request.sources {
            let asked = &sources.media_sources;
            let mut sources: Vec<_> = asked.iter().filter_map(convert::source).collect();
            let synthetic = |name: &str| asked.iter().any(|source| source.synthetic && source.id == name);
            self.totals.sources_renamed += names::own(&request.id, &mut sources, synthetic);
            state.override_video_types(&mut sources);
            if sources != state.sources {
                state.sources.clone_from(&sources);
                commands.push(Command::SetSources { endpoint, sources: sources.clone() });
                outputs.push(Output::SourcesChanged { endpoint, sources });
            }
        }
        if let Some(mute) = request.force_mute
            && mute != state.force_mute
        {
            state.force_mute = mute;
            commands.push(Command::SetForceMute { endpoint, audio: mute.audio, video: mute.video });
        }
        for command in commands {
            self.send(conference, home, command);
        }
        self.outputs.extend(outputs);
        // Last: what else the request says is about the transport as it was.
        if request.transport.as_ref().is_some_and(|t| t.ice_restart) && !request.create {
            answer.transport = self.restart_ice(now, conference, request);
        }
        Ok(answer)
    }

    /// Restarts ICE of an endpoint; without a transport it is declined, and the focus invites again (section 4.6).
    fn restart_ice(&mut self, now: Instant, conference: &mut Conference, request: &Endpoint) -> Option<Transport> {
        let hex_id = conference.hex_id.clone();
        let state = conference.endpoint(&request.id)?;
        if !self.config.ice_restart {
            self.totals.ice_restarts.disabled += 1;
            return None;
        }
        let (id, worker, label) = (state.id, state.worker, &state.label);
        let fresh = || new_credentials(self.config.ufrag_prefix, worker);
        let decision = state.ice_restarts.ask(now, state.established, &mut self.totals.ice_restarts, fresh);
        let (generation, local) = match decision {
            Decision::Decline => {
                tracing::warn!(endpoint = %id, %label, "ICE restart declined: this endpoint asks too often");
                return None;
            }
            Decision::Keep => (None, state.access.local.clone()),
            Decision::Use { generation, local } => {
                tracing::info!(endpoint = %id, %label, generation, "ICE restart begins");
                (Some(generation), local)
            }
        };
        let mut ice = self.config.transport.describe(&NewTransport {
            ufrag: &local.ufrag,
            pwd: &local.pwd,
            conference: &hex_id,
            endpoint: &request.id,
            password: &state.access.password,
            private: state.access.private,
        });
        ice.ice_generation = generation;
        if let Some(generation) = generation {
            self.command(worker, Command::RestartIce { endpoint: id, generation, local });
        }
        let sctp = request.transport.as_ref().is_some_and(|t| t.sctp.is_some());
        Some(Transport { ice: Some(ice), sctp: sctp.then_some(SERVER), ..Transport::default() })
    }

    fn create_endpoint(
        &mut self,
        now: Instant,
        conference: &mut Conference,
        request: &Endpoint,
    ) -> Result<IceTransport, Refusal> {
        let worker = self.placement.for_endpoint(&conference.shares()).ok_or_else(bridge_full)?;
        if !conference.workers.contains(&worker) {
            self.spill(conference, worker);
        }
        let id = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        let ice = new_credentials(self.config.ufrag_prefix, worker);
        let password = random_token(24);
        let private = request.has_capability(CAP_PRIVATE_ADDRESSES);
        let access = Access { local: ice.clone(), password: password.clone(), private };
        let mut state = EndpointState::new(id, request.id.clone(), worker, access, now);
        state.visitor = is_visitor(request);
        if request.transport.as_ref().is_some_and(|t| t.ice_restart) {
            // It is told its transport in any case.
            self.totals.ice_restarts.not_established += 1;
        }
        let transport = self.config.transport.describe(&NewTransport {
            ufrag: &ice.ufrag,
            pwd: &ice.pwd,
            conference: &conference.hex_id,
            endpoint: &request.id,
            password: &password,
            private,
        });
        let controlling = request.transport.as_ref().is_some_and(|t| t.ice_controlling);
        tracing::info!(endpoint = %id, label = %request.id, conference = %conference.id, worker, "endpoint created");
        self.placement.count_endpoint(worker, 1);
        self.totals.endpoints_created += 1;
        self.totals.visitors_created += u64::from(state.visitor);
        self.meetings.insert(id, conference.meeting_id.clone());
        self.command(
            worker,
            Command::CreateEndpoint(Box::new(NewEndpoint {
                conference: conference.id,
                endpoint: id,
                label: request.id.clone(),
                ice,
                controlling,
            })),
        );
        if request.has_capability(CAP_SSRC_REWRITING) {
            let (audio, video) = (self.config.audio_ssrcs, self.config.video_ssrcs);
            let mids = request.has_capability(CAP_RTP_MID_DEMUX);
            let rewriting = SsrcRewriting { audio, video, seed: rand::rng().random(), mids };
            self.command(worker, Command::SetSsrcRewriting { endpoint: id, rewriting });
        }
        for other in conference.workers.iter().copied().filter(|other| *other != worker) {
            let remote = Command::CreateRemoteEndpoint { conference: conference.id, endpoint: id, home: worker };
            self.command(other, remote);
        }
        self.outputs.push_back(Output::EndpointCreated {
            endpoint: id,
            conference: conference.id,
            conference_hex: conference.hex_id.clone(),
            label: request.id.clone(),
            password,
            worker,
            visitor: state.visitor,
            sctp: request.transport.as_ref().is_some_and(|t| t.sctp.is_some()),
        });
        conference.endpoints.push(state);
        Ok(transport)
    }

    /// Makes a conference known to one more worker, with all its endpoints.
    fn spill(&mut self, conference: &mut Conference, worker: usize) {
        tracing::info!(conference = %conference.id, endpoints = conference.endpoints.len(), worker, "conference spills");
        conference.workers.push(worker);
        self.placement.count_conference(worker, 1);
        for command in conference.introduce() {
            self.command(worker, command);
        }
    }

    fn end_endpoint(&mut self, conference: &mut Conference, index: usize, reason: &str) {
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

    fn command(&mut self, worker: usize, command: Command) {
        self.outputs.push_back(Output::Command { worker, command });
    }

    /// Sends a command about an endpoint to its home, or to all workers of its conference.
    fn send(&mut self, conference: &Conference, home: usize, command: Command) {
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
                tracing::warn!(endpoint = %id, %label, generation, "ICE restart led nowhere; its former pair stays");
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

/// Credentials of our own for an endpoint of a worker.
fn new_credentials(ufrag_prefix: fn(usize) -> String, worker: usize) -> IceCredentials {
    IceCredentials { ufrag: ufrag_prefix(worker) + &random_token(10), pwd: random_token(26) }
}
