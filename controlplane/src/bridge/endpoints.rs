//! What the bridge knows of its endpoints beyond signalling: DTLS, the bridge channel, what they receive and send.
//! A state machine: events of the workers and of channels in, [`Action`]s out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::{MediaKind, ReceiverConstraints, SourceDescription};
use ringbridge_dataplane::ring::{Bandwidth, Command, IceState};

use super::messages::{FromClient, ToClient};
use super::wishes::Wishes;
use crate::colibri::elements::Setup;
use crate::transport::{Certificate, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};

/// An endpoint without any activity is shown as inactive after this time.
const FIRST_ACTIVITY: Duration = Duration::from_secs(15);
/// DTLS datagrams kept until the role is known.
const EARLY_DATAGRAMS: usize = 16;
/// In larger conferences statistics go only to those who care about the sender.
const STATS_TO_ALL: usize = 20;

/// Something that the caller must do, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Send a command to a worker.
    Command { worker: usize, command: Command },
    /// Send a message over the endpoint's channel, if it has one.
    Send { endpoint: EndpointId, message: ToClient },
    /// Tell the colibri2 state machine what a source shows.
    VideoType { endpoint: EndpointId, source: String, video_type: ringbridge_dataplane::media::VideoType },
}

/// Counters for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EndpointCounters {
    pub ice_succeeded: u64,
    pub ice_failed: u64,
    pub dtls_failed: u64,
    pub dominant_speaker_changes: u64,
}

/// A new endpoint.
#[derive(Debug, Clone)]
pub(super) struct NewEndpoint {
    pub conference: ConferenceId,
    pub label: String,
    pub worker: usize,
    pub visitor: bool,
}

struct Endpoint {
    conference: ConferenceId,
    label: String,
    worker: usize,
    visitor: bool,
    created: Instant,
    /// As reported to the others; `None` until the first activity or the first report.
    active: Option<bool>,
    channel: bool,
    legacy: bool,
    wishes: Wishes,
    /// What the worker was told last.
    constraints: ReceiverConstraints,
    sources: Vec<SourceDescription>,
    forwarded: Vec<String>,
    /// Height that the others want of each of its sources.
    demand: BTreeMap<String, i32>,
    bandwidth: Option<Bandwidth>,
    dtls: Dtls,
}

#[derive(Default)]
struct Dtls {
    ice_connected: bool,
    role: Option<DtlsRole>,
    fingerprints: Vec<Fingerprint>,
    session: Option<DtlsSession>,
    early: VecDeque<Vec<u8>>,
    connected: bool,
    failed: bool,
}

#[derive(Default)]
struct Conference {
    members: Vec<EndpointId>,
    /// The dominant speaker first.
    speakers: Vec<EndpointId>,
}

/// All endpoints of the bridge.
pub(super) struct Endpoints {
    certificate: Certificate,
    endpoints: HashMap<EndpointId, Endpoint>,
    conferences: HashMap<ConferenceId, Conference>,
    /// Some bandwidth is news, or its endpoint is gone.
    bandwidth_changed: bool,
    actions: VecDeque<Action>,
    timers: BinaryHeap<Reverse<(Instant, EndpointId)>>,
    counters: EndpointCounters,
}

impl Endpoints {
    /// None yet; all use this certificate.
    pub fn new(certificate: Certificate) -> Self {
        Self {
            certificate,
            endpoints: HashMap::new(),
            conferences: HashMap::new(),
            bandwidth_changed: false,
            actions: VecDeque::new(),
            timers: BinaryHeap::new(),
            counters: EndpointCounters::default(),
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether it exists.
    pub fn contains(&self, id: EndpointId) -> bool {
        self.endpoints.contains_key(&id)
    }

    /// Totals.
    pub fn counters(&self) -> EndpointCounters {
        self.counters
    }

    /// Endpoints that are reported as inactive.
    pub fn inactive(&self) -> usize {
        self.endpoints.values().filter(|e| e.active == Some(false)).count()
    }

    /// An endpoint was created.
    pub fn insert(&mut self, now: Instant, id: EndpointId, new: NewEndpoint) {
        self.conferences.entry(new.conference).or_default().members.push(id);
        let endpoint = Endpoint {
            conference: new.conference,
            label: new.label,
            worker: new.worker,
            visitor: new.visitor,
            created: now,
            active: None,
            channel: false,
            legacy: false,
            wishes: Wishes::default(),
            constraints: ReceiverConstraints::default(),
            sources: Vec::new(),
            forwarded: Vec::new(),
            demand: BTreeMap::new(),
            bandwidth: None,
            dtls: Dtls::default(),
        };
        self.endpoints.insert(id, endpoint);
    }

    /// An endpoint expired.
    pub fn remove(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.remove(&id) else { return };
        if let Some(conference) = self.conferences.get_mut(&endpoint.conference) {
            conference.members.retain(|m| *m != id);
            conference.speakers.retain(|m| *m != id);
            if conference.members.is_empty() {
                self.conferences.remove(&endpoint.conference);
            }
        }
    }

    // --- signalling -------------------------------------------------------------------------------------------

    /// The remote side of DTLS: role (RFC 4145: it is active, so we are the server) and fingerprints.
    pub fn set_remote_dtls(
        &mut self,
        now: Instant,
        id: EndpointId,
        setup: Option<Setup>,
        fingerprints: Vec<Fingerprint>,
    ) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let dtls = &mut endpoint.dtls;
        dtls.fingerprints = fingerprints;
        match setup {
            Some(Setup::Active) => dtls.role = Some(DtlsRole::Server),
            Some(Setup::Passive) => dtls.role = Some(DtlsRole::Client),
            other => tracing::debug!(endpoint = %id, setup = ?other, "DTLS role not decided by this setup"),
        }
        self.start_dtls(now, id);
    }

    /// Last-n of signalling.
    pub fn set_initial_last_n(&mut self, id: EndpointId, last_n: i32) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.wishes.set_initial_last_n(last_n);
            self.update_constraints(id);
        }
    }

    /// The sources that an endpoint publishes.
    pub fn set_sources(&mut self, id: EndpointId, sources: Vec<SourceDescription>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.demand.retain(|name, _| sources.iter().any(|s| s.name == *name));
        endpoint.sources = sources;
        let conference = endpoint.conference;
        // Those who name endpoints instead of sources may want other sources now.
        for member in self.members(conference) {
            if member != id && self.endpoints.get(&member).is_some_and(|e| e.legacy) {
                self.update_constraints(member);
            }
        }
    }

    // --- workers ----------------------------------------------------------------------------------------------

    /// ICE changed its state.
    pub fn handle_ice(&mut self, now: Instant, id: EndpointId, state: IceState) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let label = &endpoint.label;
        match state {
            IceState::Connected => {
                tracing::info!(endpoint = %id, %label, "ICE connected");
                if !std::mem::replace(&mut endpoint.dtls.ice_connected, true) {
                    self.counters.ice_succeeded += 1;
                    // Workers report changes only, and take a new endpoint for active.
                    self.set_active(id, true);
                }
                self.start_dtls(now, id);
            }
            IceState::Disconnected => {
                tracing::warn!(endpoint = %id, %label, connected_before = endpoint.dtls.ice_connected, "ICE disconnected");
                if !endpoint.dtls.ice_connected {
                    self.counters.ice_failed += 1;
                }
            }
        }
    }

    /// A DTLS datagram arrived.
    pub fn handle_dtls(&mut self, now: Instant, id: EndpointId, datagram: Vec<u8>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        match &mut endpoint.dtls.session {
            Some(session) => session.handle_datagram(now, &datagram),
            None if endpoint.dtls.failed => return,
            None => {
                if endpoint.dtls.early.len() < EARLY_DATAGRAMS {
                    endpoint.dtls.early.push_back(datagram);
                }
                return;
            }
        }
        self.drain_dtls(id);
    }

    /// The endpoint became active or fell silent. Silence before the first activity is no news: that has
    /// its own, longer limit.
    pub fn handle_activity(&mut self, id: EndpointId, active: bool) {
        if active || self.endpoints.get(&id).is_some_and(|e| e.active.is_some()) {
            self.set_active(id, active);
        }
    }

    fn set_active(&mut self, id: EndpointId, active: bool) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let before = endpoint.active.replace(active);
        // The first activity is what everybody expects.
        if before != Some(active) && (before.is_some() || !active) {
            self.announce_connectivity(id, active);
        }
    }

    fn announce_connectivity(&mut self, id: EndpointId, active: bool) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        if endpoint.visitor {
            return;
        }
        let (conference, label) = (endpoint.conference, endpoint.label.clone());
        tracing::info!(endpoint = %id, %label, active, "endpoint connectivity");
        for member in self.members(conference) {
            self.send(member, ToClient::Connectivity { endpoint: label.clone(), active });
        }
    }

    /// The order of speakers changed.
    pub fn handle_speakers(&mut self, conference: ConferenceId, recent: Vec<EndpointId>) {
        let Some(state) = self.conferences.get_mut(&conference) else { return };
        if state.speakers == recent {
            // Another worker of the conference has taken over the telling.
            return;
        }
        if state.speakers.first() != recent.first() {
            self.counters.dominant_speaker_changes += 1;
        }
        state.speakers = recent;
        if let Some(message) = self.speaker_message(conference) {
            for member in self.members(conference) {
                self.send(member, message.clone());
            }
        }
    }

    fn speaker_message(&self, conference: ConferenceId) -> Option<ToClient> {
        let label = |id: &EndpointId| self.endpoints.get(id).map(|e| e.label.clone());
        let mut labels = self.conferences.get(&conference)?.speakers.iter().filter_map(label);
        let endpoint = labels.next()?;
        Some(ToClient::DominantSpeaker { endpoint, previous: labels.take(10).collect() })
    }

    /// The set of video sources forwarded to a receiver changed.
    pub fn handle_forwarded(&mut self, id: EndpointId, sources: Vec<String>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.forwarded = sources;
        self.send_forwarded(id);
    }

    /// The way to a receiver changed.
    pub fn handle_bandwidth(&mut self, id: EndpointId, bandwidth: Bandwidth) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.bandwidth = Some(bandwidth);
        self.bandwidth_changed = true;
    }

    /// What is known of the ways to all receivers, as served at `/debug/bandwidth`; `None` when that is not news.
    pub fn take_bandwidths(&mut self) -> Option<serde_json::Value> {
        if !std::mem::take(&mut self.bandwidth_changed) {
            return None;
        }
        let mut known: Vec<_> = self.endpoints.iter().filter_map(|(id, e)| Some((id, e, e.bandwidth?))).collect();
        known.sort_by_key(|(id, ..)| **id);
        let rows = known.into_iter().map(|(_, endpoint, b)| {
            serde_json::json!({
                "conference": endpoint.conference.to_string(),
                "endpoint": endpoint.label,
                "estimate_bps": b.estimate_bps,
                "target_bps": b.target_bps,
                "ideal_bps": b.ideal_bps,
                "sent_bps": b.sent_bps,
                "rtt_ms": b.rtt.map(|rtt| rtt.as_millis() as u64),
                "loss": f64::from(b.lost_per_mille) / 1000.0,
            })
        });
        Some(rows.collect())
    }

    fn send_forwarded(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        let sources = endpoint.forwarded.clone();
        if endpoint.legacy {
            let mut owners: Vec<String> = Vec::new();
            for member in self.members(endpoint.conference) {
                let Some(owner) = self.endpoints.get(&member) else { continue };
                if owner.sources.iter().any(|s| sources.contains(&s.name)) {
                    owners.push(owner.label.clone());
                }
            }
            self.send(id, ToClient::LastNEndpoints(owners));
        }
        self.send(id, ToClient::ForwardedSources(sources));
    }

    /// The largest height that anybody wants of a source changed.
    pub fn handle_demand(&mut self, id: EndpointId, source: String, max_height: i32) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.demand.insert(source.clone(), max_height);
        self.send_demand(id, source, max_height);
    }

    fn send_demand(&mut self, id: EndpointId, source: String, max_height: i32) {
        if self.endpoints.get(&id).is_some_and(|e| e.legacy) {
            // The older dialect has no word for unlimited.
            let ideal_height = if max_height < 0 { 2160 } else { max_height };
            self.send(id, ToClient::SenderVideoConstraints { ideal_height });
        }
        self.send(id, ToClient::SenderSourceConstraints { source, max_height });
    }

    // --- channel ----------------------------------------------------------------------------------------------

    /// A channel opened: says what the client must know (section 5.3).
    pub fn handle_channel_opened(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.channel = true;
        let (conference, demand) = (endpoint.conference, endpoint.demand.clone());
        self.send(id, ToClient::ServerHello);
        for (source, max_height) in demand {
            self.send_demand(id, source, max_height);
        }
        self.send_forwarded(id);
        for member in self.members(conference) {
            let Some(other) = self.endpoints.get(&member) else { continue };
            if other.active == Some(false) && !other.visitor {
                let endpoint = other.label.clone();
                self.send(id, ToClient::Connectivity { endpoint, active: false });
            }
        }
        if let Some(message) = self.speaker_message(conference) {
            self.send(id, message);
        }
    }

    /// The channel closed.
    pub fn handle_channel_closed(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.channel = false;
        }
    }

    /// A message arrived on the channel.
    pub fn handle_message(&mut self, id: EndpointId, message: FromClient) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        match message {
            FromClient::Hello => self.send(id, ToClient::ServerHello),
            FromClient::Wishes { patch, legacy } => {
                let newly_legacy = legacy && !std::mem::replace(&mut endpoint.legacy, true);
                let demand = endpoint.demand.clone();
                endpoint.wishes.apply(patch);
                self.update_constraints(id);
                if newly_legacy {
                    // What it was told so far it did not understand.
                    for (source, max_height) in demand {
                        self.send_demand(id, source, max_height);
                    }
                    self.send_forwarded(id);
                }
            }
            FromClient::LastN(last_n) => {
                endpoint.wishes.set_last_n(last_n);
                self.update_constraints(id);
            }
            FromClient::VideoType { source, video_type } => {
                let first = || endpoint.sources.iter().find(|s| s.kind == MediaKind::Video).map(|s| s.name.clone());
                let source = source.or_else(first).unwrap_or_else(|| format!("{}-v0", endpoint.label));
                self.actions.push_back(Action::VideoType { endpoint: id, source, video_type });
            }
            FromClient::Message { to, mut body } => {
                if endpoint.visitor {
                    return;
                }
                let conference = endpoint.conference;
                body.insert("from".to_owned(), endpoint.label.clone().into());
                for member in self.members(conference) {
                    let Some(other) = self.endpoints.get(&member) else { continue };
                    if member != id && (to.is_empty() || other.label == to) {
                        self.send(member, ToClient::Forwarded(body.clone()));
                    }
                }
            }
            FromClient::Stats(mut body) => {
                if endpoint.visitor {
                    return;
                }
                let conference = endpoint.conference;
                let label = endpoint.label.clone();
                let sources: Vec<String> = endpoint.sources.iter().map(|s| s.name.clone()).collect();
                body.insert("from".to_owned(), label.clone().into());
                let members = self.members(conference);
                let speaks = self.conferences.get(&conference).is_some_and(|c| c.speakers.contains(&id));
                let everybody = members.len() <= STATS_TO_ALL || speaks;
                for member in members {
                    let Some(other) = self.endpoints.get(&member) else { continue };
                    if member != id && (everybody || other.wishes.interested_in(&label, &sources)) {
                        self.send(member, ToClient::Forwarded(body.clone()));
                    }
                }
            }
        }
    }

    fn update_constraints(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        let members = self.members(endpoint.conference);
        let sources_of = |label: &str| {
            let owner = members.iter().filter_map(|m| self.endpoints.get(m)).find(|e| e.label == label)?;
            Some(owner.sources.iter().filter(|s| s.kind == MediaKind::Video).map(|s| s.name.clone()).collect())
        };
        let constraints = endpoint.wishes.resolve(sources_of);
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        if constraints != endpoint.constraints {
            endpoint.constraints = constraints.clone();
            let command = Command::SetConstraints { endpoint: id, constraints: Box::new(constraints) };
            self.actions.push_back(Action::Command { worker: endpoint.worker, command });
        }
    }

    fn members(&self, conference: ConferenceId) -> Vec<EndpointId> {
        self.conferences.get(&conference).map(|c| c.members.clone()).unwrap_or_default()
    }

    fn send(&mut self, endpoint: EndpointId, message: ToClient) {
        if self.endpoints.get(&endpoint).is_some_and(|e| e.channel) {
            self.actions.push_back(Action::Send { endpoint, message });
        }
    }

    // --- DTLS and time ----------------------------------------------------------------------------------------

    /// Starts the handshake once packets can flow and both sides know their role.
    fn start_dtls(&mut self, now: Instant, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let dtls = &mut endpoint.dtls;
        let Some(role) = dtls.role else { return };
        if !dtls.ice_connected || dtls.session.is_some() || dtls.failed || dtls.fingerprints.is_empty() {
            return;
        }
        match DtlsSession::new(now, &self.certificate, role, dtls.fingerprints.clone()) {
            Ok(mut session) => {
                for datagram in dtls.early.drain(..) {
                    session.handle_datagram(now, &datagram);
                }
                dtls.session = Some(session);
                self.drain_dtls(id);
            }
            Err(error) => {
                tracing::error!(endpoint = %id, label = %endpoint.label, %error, "DTLS cannot start");
                dtls.failed = true;
                self.counters.dtls_failed += 1;
            }
        }
    }

    fn drain_dtls(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let (worker, label) = (endpoint.worker, &endpoint.label);
        let dtls = &mut endpoint.dtls;
        let Some(session) = &mut dtls.session else { return };
        let mut command = |command| self.actions.push_back(Action::Command { worker, command });
        while let Some(output) = session.poll_output() {
            match output {
                DtlsOutput::Datagram(datagram) => command(Command::SendDtls { endpoint: id, datagram }),
                DtlsOutput::Connected(keys) => {
                    tracing::info!(endpoint = %id, %label, profile = ?keys.profile, "DTLS connected");
                    dtls.connected = true;
                    command(Command::SetSrtp { endpoint: id, keys: Box::new(keys) });
                }
                // SCTP, which is not served: the create was refused when asked for.
                DtlsOutput::ApplicationData(_) => {}
                DtlsOutput::Failed(error) => {
                    tracing::error!(endpoint = %id, %label, %error, "DTLS failed");
                    self.counters.dtls_failed += u64::from(!dtls.connected);
                    dtls.failed = true;
                }
            }
        }
        if dtls.failed {
            dtls.session = None;
        } else if let Some(at) = session.poll_timeout() {
            self.timers.push(Reverse((at, id)));
        }
    }

    /// When [`Endpoints::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Lets DTLS repeat what was lost.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Each endpoint once, however many timers it left behind.
        let mut due = HashSet::new();
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            due.insert(id);
        }
        for id in due {
            let session = self.endpoints.get_mut(&id).and_then(|e| e.dtls.session.as_mut());
            if let Some(session) = session
                && session.poll_timeout().is_some_and(|at| at <= now)
            {
                session.handle_timeout(now);
                self.drain_dtls(id);
            }
        }
    }

    /// Reports endpoints that never showed any activity; called twice a second.
    pub fn check_first_activity(&mut self, now: Instant) {
        let late = |e: &Endpoint| e.active.is_none() && now.saturating_duration_since(e.created) >= FIRST_ACTIVITY;
        let silent: Vec<EndpointId> = self.endpoints.iter().filter(|(_, e)| late(e)).map(|(id, _)| *id).collect();
        for id in silent {
            self.set_active(id, false);
        }
    }
}

#[cfg(test)]
mod tests;
