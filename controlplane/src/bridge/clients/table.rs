//! All clients: what the workers, signalling and time do to them. What they say themselves is in `channel.rs`.

#[cfg(debug_assertions)]
use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::{Limit, MediaKind, SourceDescription};
use ringbridge_dataplane::messages::Command;

use super::action::Action;
use super::carrier::Carrier;
use super::client::Client;
use super::conference::Conference;
use super::counters::ClientCounters;
use super::relay::{Relay, Relayed};
use super::timers::Timers;
use crate::bridge::dtls_transport::{DtlsTransport, DtlsTransportEvent, DtlsTransportOutput};
use crate::bridge::messages::{self, ToClient};
use crate::channel::{ChannelCounters, ClientMessage, Counted, DataChannel, Registry, from_limit};
use crate::colibri::elements::Setup;
use crate::colibri::identity::EndpointIdentity;
use crate::transport::{CarriedCertificate, Certificate, DtlsError, DtlsRole, Fingerprint};

/// An endpoint without any activity is shown as inactive after this time.
const FIRST_ACTIVITY: Duration = Duration::from_secs(15);
/// An endpoint without a channel so long after DTLS is counted.
pub(super) const CHANNEL_DELAY: Duration = Duration::from_secs(30);

/// All endpoints of the bridge. Open to the files of this folder, which are its steps.
pub(crate) struct Clients {
    pub(super) certificate: Certificate,
    /// Who may open a WebSocket: the endpoints and relays that there are, for the server's threads.
    pub(super) registry: Registry,
    pub(super) endpoints: HashMap<EndpointId, Client>,
    pub(super) relays: HashMap<EndpointId, Relay>,
    /// Endpoints of other bridges.
    pub(super) relayed: HashMap<EndpointId, Relayed>,
    pub(super) conferences: HashMap<ConferenceId, Conference>,
    /// When clients were sent the estimates of their paths last.
    pub(super) estimates_sent: Option<Instant>,
    /// Some bandwidth is news, or its endpoint is gone.
    pub(super) bandwidth_changed: bool,
    pub(super) actions: VecDeque<Action>,
    pub(super) timers: Timers,
    /// Clients whose data channel was written to.
    pub(super) written: HashSet<EndpointId>,
    /// Clients that were sent what their SSRCs carry, and whose workers do not know yet.
    pub(super) unconfirmed: HashSet<EndpointId>,
    pub(super) counters: ClientCounters,
    pub(super) channel_counters: Arc<ChannelCounters>,
}

impl Clients {
    /// None yet; all use this certificate.
    pub fn new(certificate: Certificate, registry: Registry, channel_counters: Arc<ChannelCounters>) -> Self {
        Self {
            certificate,
            registry,
            endpoints: HashMap::new(),
            relays: HashMap::new(),
            relayed: HashMap::new(),
            conferences: HashMap::new(),
            estimates_sent: None,
            bandwidth_changed: false,
            actions: VecDeque::new(),
            timers: Timers::default(),
            written: HashSet::new(),
            unconfirmed: HashSet::new(),
            counters: ClientCounters::default(),
            channel_counters,
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Endpoints and relays whose password opens a WebSocket.
    pub fn admitted(&self) -> usize {
        self.registry.len()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Deadlines that wait.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Totals.
    pub fn counters(&self) -> ClientCounters {
        self.counters
    }

    /// Clients of which nothing arrives.
    pub fn silent(&self) -> usize {
        self.endpoints.values().filter(|e| e.active == Some(false)).count()
    }

    /// An endpoint was created: from now on its client may open a WebSocket with the password. `sctp` is whether it may also
    /// open a data channel.
    pub fn insert(&mut self, now: Instant, who: Arc<EndpointIdentity>, password: &str, sctp: bool) {
        let id = who.id;
        self.conferences.entry(who.conference).or_default().add(id);
        let admission = self.registry.admit(&who.conference_hex, &who.label, password, id);
        let data = sctp.then(|| DataChannel::new(Arc::clone(&self.channel_counters)));
        let dtls = DtlsTransport::new(data, Arc::clone(&self.channel_counters));
        self.endpoints.insert(id, Client::new(now, who, admission, dtls));
    }

    /// An endpoint expired. All that there is of it goes with it: its DTLS session, its bridge channel, its password.
    pub fn remove(&mut self, id: EndpointId) {
        if let Some(relayed) = self.relayed.remove(&id) {
            self.forget(relayed.who.conference, id);
        }
        let Some(endpoint) = self.endpoints.remove(&id) else { return };
        self.forget(endpoint.who.conference, id);
        self.bandwidth_changed |= endpoint.bandwidth.is_some();
    }

    /// Takes what is gone out of everything beside its own table.
    pub(super) fn forget(&mut self, conference: ConferenceId, id: EndpointId) {
        self.timers.set(id, None);
        self.written.remove(&id);
        self.unconfirmed.remove(&id);
        if self.conferences.get_mut(&conference).is_some_and(|conference| conference.remove(id)) {
            self.conferences.remove(&conference);
        }
    }

    /// The certificate, for another process.
    pub fn certificate(&self) -> CarriedCertificate {
        self.certificate.carried()
    }

    /// What it shares with the server of WebSockets.
    pub fn outside(&self) -> (Registry, Arc<ChannelCounters>) {
        (self.registry.clone(), Arc::clone(&self.channel_counters))
    }

    /// What the channels counted, for another process.
    pub fn channel_counts(&self) -> Vec<u64> {
        self.channel_counters.all()
    }

    /// Goes on counting where the channels of another process were.
    pub fn go_on_counting(&self, counts: &[u64]) {
        self.channel_counters.take_over(counts);
    }

    /// The name of an endpoint, or of the bridge behind a relay.
    pub fn name_of(&self, id: EndpointId) -> Option<String> {
        self.label_of(id).or_else(|| self.relays.get(&id).map(|relay| relay.who.label.clone()))
    }

    /// The name of an endpoint of this bridge or of another one.
    pub(super) fn label_of(&self, id: EndpointId) -> Option<String> {
        self.publisher(id).map(|(who, _)| who.label.clone())
    }

    /// The sources of every endpoint.
    #[cfg(debug_assertions)]
    pub fn published(&self) -> BTreeMap<EndpointId, &[SourceDescription]> {
        let relayed = self.relayed.iter().map(|(id, endpoint)| (*id, &endpoint.sources[..]));
        self.endpoints.iter().map(|(id, endpoint)| (*id, &endpoint.sources[..])).chain(relayed).collect()
    }

    /// What is wrong with the tables, if anything: each has exactly the endpoints that there are, or some of them.
    pub fn inconsistency(&self) -> Option<String> {
        let known = |id: &EndpointId| self.endpoints.contains_key(id) || self.relays.contains_key(id);
        let listed =
            |list: fn(&Conference) -> &[EndpointId]| self.conferences.values().map(list).map(<[_]>::len).sum::<usize>();
        let behind = |e: &Relayed| e.who.relay.is_some_and(|relay| self.relays.contains_key(&relay));
        let members: usize = self.conferences.values().map(|conference| conference.members().len()).sum();
        let in_conference = |(id, endpoint): (&EndpointId, &Client)| {
            self.conferences.get(&endpoint.who.conference).is_some_and(|c| c.members().contains(id))
        };
        let admitted_relays = self.relays.values().filter(|relay| relay.admission.is_some()).count();
        let checks = [
            ("a conference has members that do not exist", members == self.endpoints.len()),
            ("an endpoint is not in its conference", self.endpoints.iter().all(in_conference)),
            ("a conference is empty", self.conferences.values().all(|conference| !conference.is_empty())),
            ("a conference has relays that do not exist", listed(Conference::relays) == self.relays.len()),
            ("a conference has relayed endpoints that do not exist", listed(Conference::relayed) == self.relayed.len()),
            ("an endpoint is behind a relay that is gone", self.relayed.values().all(behind)),
            ("a client that is gone has a timer", self.timers.clients().all(known)),
            ("data was written to a client that is gone", self.written.iter().all(known)),
            ("a client that is gone waits to be confirmed", self.unconfirmed.iter().all(known)),
            ("who may connect differs from who exists", self.registry.len() == self.endpoints.len() + admitted_relays),
        ];
        checks.into_iter().find(|(_, holds)| !holds).map(|(what, _)| what.to_owned())
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
        let role = match setup {
            Some(Setup::Active) => Some(DtlsRole::Server),
            Some(Setup::Passive) => Some(DtlsRole::Client),
            other => {
                tracing::debug!(endpoint = %id, setup = ?other, "DTLS role not decided by this setup");
                None
            }
        };
        let client = self.endpoints.get_mut(&id).map(|client| &mut client.dtls);
        let Some(dtls) = client.or_else(|| self.relays.get_mut(&id).map(|relay| &mut relay.dtls)) else { return };
        dtls.set_remote(now, &self.certificate, role, fingerprints);
        self.drain(now, id);
    }

    /// Last-n of signalling.
    pub fn set_initial_last_n(&mut self, id: EndpointId, last_n: i32) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.preferences.set_initial_last_n(last_n);
            self.update_constraints(id);
        }
    }

    /// The sources that an endpoint publishes.
    pub fn set_sources(&mut self, id: EndpointId, sources: Vec<SourceDescription>) {
        let local = self.endpoints.get_mut(&id).map(|e| (&e.who, &mut e.demand, &mut e.sources));
        let relayed = self.relayed.get_mut(&id).map(|e| (&e.who, &mut e.demand, &mut e.sources));
        let Some((who, demand, known)) = local.or(relayed) else { return };
        demand.retain(|name, _| sources.iter().any(|s| s.name == *name));
        let conference = who.conference;
        let before = std::mem::replace(known, sources);
        self.announce_types(id, &before);
        // Those who name endpoints instead of sources may want other sources now.
        for member in self.members(conference) {
            if member != id && self.endpoints.get(&member).is_some_and(|e| e.preferences.is_legacy()) {
                self.update_constraints(member);
            }
        }
    }

    /// Begins a handshake for which everything is known.
    pub(super) fn begin_handshake(&mut self, now: Instant, id: EndpointId) {
        let client = self.endpoints.get_mut(&id).map(|client| &mut client.dtls);
        let Some(dtls) = client.or_else(|| self.relays.get_mut(&id).map(|relay| &mut relay.dtls)) else { return };
        dtls.begin(now, &self.certificate);
        self.drain(now, id);
    }

    // --- workers ----------------------------------------------------------------------------------------------

    /// ICE changed its state; `relayed`: it is connected to a relayed candidate of the client.
    pub fn handle_ice(&mut self, now: Instant, id: EndpointId, state: IceState, relayed: bool) {
        self.handle_relay_ice(now, id, state);
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let label = &endpoint.who.label;
        match state {
            IceState::Connected => {
                tracing::info!(endpoint = %id, %label, "ICE connected");
                if endpoint.dtls.set_ice_connected(now, &self.certificate) {
                    self.counters.ice_succeeded += 1;
                    self.counters.ice_succeeded_relayed += u64::from(relayed);
                    // Workers report changes only, and take a new endpoint for active.
                    self.set_active(id, true);
                }
                self.drain(now, id);
            }
            IceState::Disconnected => {
                let connected_before = endpoint.dtls.ice_connected();
                tracing::warn!(endpoint = %id, %label, connected_before, "ICE disconnected");
                if !connected_before {
                    self.counters.ice_failed += 1;
                }
            }
        }
    }

    /// A DTLS datagram arrived.
    pub fn handle_dtls(&mut self, now: Instant, id: EndpointId, datagram: Vec<u8>) {
        let Some(dtls) = self.dtls(id) else { return };
        dtls.handle_datagram(now, datagram);
        self.drain(now, id);
    }

    /// The endpoint became active or fell silent. Silence before the first activity is no news: that has
    /// its own, longer limit.
    pub fn handle_activity(&mut self, now: Instant, id: EndpointId, active: bool) {
        self.set_relay_active(now, id, active);
        if active || self.endpoints.get(&id).is_some_and(|e| e.active.is_some()) {
            self.set_active(id, active);
        }
    }

    fn set_active(&mut self, id: EndpointId, active: bool) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let before = endpoint.active.replace(active);
        // The first activity is what everybody expects.
        if before != Some(active) && (before.is_some() || !active) {
            *(if active { &mut self.counters.reconnected } else { &mut self.counters.disconnected }) += 1;
            self.announce_connectivity(id, active);
        }
    }

    fn announce_connectivity(&mut self, id: EndpointId, active: bool) {
        let Some(endpoint) = self.endpoints.get(&id).filter(|e| !e.who.visitor) else { return };
        tracing::info!(endpoint = %id, label = %endpoint.who.label, active, "endpoint connectivity");
        self.tell_connectivity(id, active);
    }

    /// The order of speakers changed.
    pub fn handle_speakers(&mut self, conference: ConferenceId, recent: Vec<EndpointId>) {
        let Some(state) = self.conferences.get_mut(&conference) else { return };
        // Known when another worker of the conference has begun to report it.
        let Some(dominant_changed) = state.set_speakers(recent) else { return };
        self.counters.dominant_speaker_changes += u64::from(dominant_changed);
        if let Some(message) = self.speaker_message(conference) {
            for member in self.members(conference) {
                self.send(member, message.clone());
            }
        }
    }

    pub(super) fn speaker_message(&self, conference: ConferenceId) -> Option<ToClient> {
        let label = |id: &EndpointId| self.label_of(*id);
        let mut labels = self.conferences.get(&conference)?.speakers().iter().filter_map(label);
        let endpoint = labels.next()?;
        Some(ToClient::DominantSpeaker { endpoint, previous: labels.take(10).collect() })
    }

    /// The set of video sources forwarded to a receiver changed.
    pub fn handle_forwarded(&mut self, id: EndpointId, sources: Vec<String>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.forwarded = sources;
        self.send_forwarded(id);
    }

    pub(super) fn send_forwarded(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        let sources = endpoint.forwarded.clone();
        if endpoint.preferences.is_legacy() {
            let mut owners: Vec<String> = Vec::new();
            for (owner, published) in self.publishers(endpoint.who.conference) {
                if published.iter().any(|s| sources.contains(&s.name)) {
                    owners.push(owner.label.clone());
                }
            }
            self.send(id, ToClient::LastNEndpoints(owners));
        }
        self.send(id, ToClient::ForwardedSources(sources));
    }

    /// The largest height that anybody wants of a source changed.
    pub fn handle_demand(&mut self, id: EndpointId, source: String, max_height: Limit) {
        if let Some(relayed) = self.relayed.get_mut(&id) {
            relayed.demand.insert(source.clone(), max_height);
            if let Some(relay) = relayed.who.relay {
                self.send_wanted(relay, source, max_height);
            }
            return;
        }
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.demand.insert(source.clone(), max_height);
        self.send_demand(id, source, max_height);
    }

    pub(super) fn send_demand(&mut self, id: EndpointId, source: String, max_height: Limit) {
        if self.endpoints.get(&id).is_some_and(|e| e.preferences.is_legacy()) {
            // The older dialect has no word for unlimited.
            let ideal_height = if max_height == Limit::Unlimited { 2160 } else { from_limit(max_height) };
            self.send(id, ToClient::SenderVideoConstraints { ideal_height });
        }
        self.send(id, ToClient::SenderSourceConstraints { source, max_height: from_limit(max_height) });
    }

    pub(super) fn update_constraints(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        // Once for all names.
        let by_label: HashMap<&str, &[SourceDescription]> = match endpoint.preferences.is_legacy() {
            true => {
                self.publishers(endpoint.who.conference).map(|(who, sources)| (who.label.as_str(), sources)).collect()
            }
            false => HashMap::new(),
        };
        let sources_of = |label: &str| {
            let published = by_label.get(label)?;
            Some(published.iter().filter(|s| s.kind == MediaKind::Video).map(|s| s.name.clone()).collect())
        };
        let constraints = endpoint.preferences.resolve(sources_of);
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        if constraints != endpoint.constraints {
            endpoint.constraints = constraints.clone();
            let command = Command::SetConstraints { endpoint: id, constraints: Box::new(constraints) };
            self.actions.push_back(Action::Command { worker: endpoint.who.worker, command });
        }
    }

    /// Who an endpoint of this bridge or of another one is, and what it publishes.
    pub(super) fn publisher(&self, id: EndpointId) -> Option<(&EndpointIdentity, &[SourceDescription])> {
        let local = self.endpoints.get(&id).map(|e| (&*e.who, &e.sources[..]));
        local.or_else(|| self.relayed.get(&id).map(|e| (&*e.who, &e.sources[..])))
    }

    /// Everybody in a conference, on this bridge and then on others, with what they publish.
    pub(super) fn publishers(
        &self,
        conference: ConferenceId,
    ) -> impl Iterator<Item = (&EndpointIdentity, &[SourceDescription])> {
        let conference = self.conferences.get(&conference).into_iter();
        let everybody = conference.flat_map(|c| c.members().iter().chain(c.relayed()));
        everybody.filter_map(move |id| self.publisher(*id))
    }

    pub(super) fn members(&self, conference: ConferenceId) -> Vec<EndpointId> {
        self.conferences.get(&conference).map(|c| c.members().to_vec()).unwrap_or_default()
    }

    // --- DTLS and time ----------------------------------------------------------------------------------------

    /// DTLS of an endpoint or of a relay.
    pub(super) fn dtls(&mut self, id: EndpointId) -> Option<&mut DtlsTransport> {
        let client = self.endpoints.get_mut(&id).map(|client| &mut client.dtls);
        client.or_else(|| self.relays.get_mut(&id).map(|relay| &mut relay.dtls))
    }

    /// Passes on what DTLS and data channel of an endpoint or of a relay want done.
    pub(super) fn drain(&mut self, now: Instant, id: EndpointId) {
        while let Some(output) = self.dtls(id).and_then(DtlsTransport::poll_output) {
            let client = self.endpoints.get(&id).map(|client| (client.who.worker, &client.who.label));
            let relay = || self.relays.get(&id).map(|relay| (relay.who.worker, &relay.who.label));
            let Some((worker, label)) = client.or_else(relay) else { return };
            let command = match output {
                DtlsTransportOutput::Datagram(datagram) => Command::SendDtls { endpoint: id, datagram },
                DtlsTransportOutput::Keys(keys) => {
                    tracing::info!(endpoint = %id, %label, profile = ?keys.profile, "DTLS connected");
                    Command::SetSrtp { endpoint: id, keys: Box::new(keys) }
                }
                DtlsTransportOutput::Event(event) if self.relays.contains_key(&id) => {
                    self.handle_relay_event(now, id, event);
                    continue;
                }
                DtlsTransportOutput::Event(event) => {
                    self.handle_client_event(now, id, event);
                    continue;
                }
            };
            self.actions.push_back(Action::Command { worker, command });
        }
        self.arm(id);
    }

    /// Acts on what became of DTLS and data channel of an endpoint.
    fn handle_client_event(&mut self, now: Instant, id: EndpointId, event: DtlsTransportEvent) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let label = &endpoint.who.label;
        match event {
            DtlsTransportEvent::Failed { error: DtlsError::Closed, before: false } => {
                tracing::info!(endpoint = %id, %label, "the client closed its session");
            }
            DtlsTransportEvent::Failed { error, before } => {
                tracing::error!(endpoint = %id, %label, %error, "DTLS failed");
                self.counters.dtls_failed += u64::from(before);
            }
            DtlsTransportEvent::ChannelOpened => {
                tracing::debug!(endpoint = %id, %label, "data channel open");
                endpoint.carriers.set_data(true);
                self.handle_channel_opened(id, Carrier::Data);
            }
            DtlsTransportEvent::ChannelClosed => {
                tracing::debug!(endpoint = %id, %label, "data channel closed");
                endpoint.carriers.set_data(false);
            }
            DtlsTransportEvent::ChannelStalled => {
                tracing::warn!(endpoint = %id, %label, "data channel closed: the client does not read");
                endpoint.carriers.set_data(false);
            }
            DtlsTransportEvent::Text(text) => {
                self.counters.data_messages_received += 1;
                // Unlike a WebSocket it cannot be left unread: its acknowledgements come the same way.
                if !endpoint.intake.take(now, text.len()) {
                    self.channel_counters.count(Counted::TooFast);
                } else if let Some(message) = ClientMessage::receive(label, &text, &self.channel_counters) {
                    endpoint.intake.charge(now, message.work() - 1, 0);
                    if let Some(message) = messages::decode(message) {
                        self.handle_message(now, id, Carrier::Data, message);
                    }
                }
            }
        }
    }

    /// Sets the timer of an endpoint or of a relay to what its session waits for, or the opening of its WebSocket.
    pub(super) fn arm(&mut self, id: EndpointId) {
        let Some(session) = self.dtls(id).map(|dtls| dtls.poll_timeout()) else { return };
        let redial = self.relays.get(&id).and_then(|relay| relay.redial.as_ref()?.poll_timeout());
        self.timers.set(id, session.into_iter().chain(redial).min());
    }

    /// Sends what was written to data channels since the last call, and what depends on that; false when there was nothing.
    pub fn flush(&mut self, now: Instant) -> bool {
        let written = std::mem::take(&mut self.written);
        for id in &written {
            if let Some(dtls) = self.dtls(*id) {
                dtls.handle_timeout(now);
                self.drain(now, *id);
            }
        }
        let unconfirmed = !self.unconfirmed.is_empty();
        self.confirm_mappings();
        unconfirmed || !written.is_empty()
    }

    /// When [`Clients::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// Lets DTLS and SCTP repeat what was lost, and WebSockets of other bridges be opened again.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Each once: a session that is still not content has to wait for the next call.
        for id in self.timers.due(now) {
            self.redial(now, id);
            let Some(dtls) = self.dtls(id) else { continue };
            dtls.handle_timeout(now);
            self.drain(now, id);
        }
    }

    /// Reports endpoints that never showed any activity, counts those without a channel; called twice a second.
    pub fn check_late(&mut self, now: Instant) {
        self.send_estimates(now);
        self.check_late_relays(now);
        let overdue = |e: &Client| {
            let connected = e.dtls.connected();
            !e.channel_seen && connected.is_some_and(|at| now.saturating_duration_since(at) >= CHANNEL_DELAY)
        };
        for (id, endpoint) in self.endpoints.iter_mut().filter(|(_, e)| overdue(e)) {
            tracing::warn!(endpoint = %id, label = %endpoint.who.label, "no bridge channel 30 s after DTLS; check that clients \
                reach the WebSocket address, or that the focus offers data channels");
            endpoint.channel_seen = true;
            self.counters.without_channel += 1;
        }
        let late = |e: &Client| e.active.is_none() && now.saturating_duration_since(e.created) >= FIRST_ACTIVITY;
        let silent: Vec<EndpointId> = self.endpoints.iter().filter(|(_, e)| late(e)).map(|(id, _)| *id).collect();
        for id in silent {
            self.set_active(id, false);
        }
    }
}
