//! The bridge's side of colibri2 as a state machine: requests and time in, answers and outputs out.

#[cfg(debug_assertions)]
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jid::BareJid;
use ringbridge_dataplane::ice::{IceState, RestartOutcome};
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::{SourceDescription, VideoType};
use ringbridge_dataplane::messages::CreateError;
use xmpp_parsers::stanza_error::DefinedCondition;
use zeroize::Zeroizing;

use super::conference::Conference;
pub use super::config::{ColibriConfig, RelaySettings};
use super::context::Context;
use super::current::with_current;
use super::elements::{ConferenceModified, ConferenceModify, Reason};
use super::endpoint::EndpointState;
use super::identity::{EndpointIdentity, RelayIdentity};
use super::limits::{self, MAX_CONFERENCES, MAX_ID};
pub use super::output::{Output, RelayChannel};
use super::refusal::{Bound, Refusal};
use super::relay::{RelayState, RelayedState};
use super::state::{ColibriState, ColibriStateRef, StateError};
use super::totals::Totals;
use super::validation::{Service, bridge_full, validate};
use crate::carried;
use crate::public_address::{self, PublicAddress};

/// How often endpoints and conferences are checked for expiry.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// An answer to a request.
pub type Reply = Result<ConferenceModified, Refusal>;

/// Somebody in a conference, as signalled.
#[derive(Debug, Clone, Copy)]
pub enum Occupant<'a> {
    /// An endpoint of this bridge.
    Endpoint {
        /// Who it is.
        who: &'a Arc<EndpointIdentity>,
        /// Password of its channel.
        password: &'a str,
        /// What it publishes.
        sources: &'a [SourceDescription],
    },
    /// A relay to another bridge.
    Relay {
        /// Which one.
        who: &'a Arc<RelayIdentity>,
        /// Password of its WebSocket, where it has one.
        websocket: Option<&'a str>,
    },
    /// An endpoint behind a relay.
    Relayed {
        /// Who it is.
        who: &'a Arc<EndpointIdentity>,
        /// What it publishes.
        sources: &'a [SourceDescription],
    },
}

impl Occupant<'_> {
    /// Its number.
    pub fn id(&self) -> EndpointId {
        match self {
            Self::Endpoint { who, .. } | Self::Relayed { who, .. } => who.id,
            Self::Relay { who, .. } => who.id,
        }
    }
}

/// All conferences of this bridge.
#[derive(Debug)]
pub struct ColibriBridge {
    /// Public addresses that the operator named.
    configured: Vec<PublicAddress>,
    conferences: HashMap<String, Conference>,
    context: Context,
    graceful_shutdown: bool,
    next_check: Instant,
}

impl ColibriBridge {
    /// A bridge without conferences.
    pub fn new(now: Instant, config: ColibriConfig) -> Self {
        Self {
            configured: config.transport.public_addresses.clone(),
            conferences: HashMap::new(),
            context: Context::new(config),
            graceful_shutdown: false,
            next_check: now + CHECK_INTERVAL,
        }
    }

    /// Everything that another process needs to go on with the conferences of this one, once nothing is left to be polled.
    pub fn export(&self, now: Instant) -> Result<Zeroizing<Vec<u8>>, StateError> {
        debug_assert!(!self.context.has_output(), "what is to be done would be done by nobody");
        Ok(carried::write(now, &self.to_state())?)
    }

    fn to_state(&self) -> ColibriStateRef<'_> {
        let Self { configured, conferences, context, graceful_shutdown, next_check } = self;
        let mut conferences: Vec<_> = conferences.values().collect();
        conferences.sort_unstable_by_key(|conference| conference.id());
        let advertised = &context.config.transport.public_addresses;
        ColibriStateRef {
            workers: context.config.workers.max(1),
            relay_id: context.config.relay.as_ref().map(|relay| relay.id.as_str()),
            conferences,
            found: advertised.iter().filter(|address| !configured.contains(address)).copied().collect(),
            graceful_shutdown: *graceful_shutdown,
            next_check: *next_check,
            shared: context.state(),
        }
    }

    /// A bridge that goes on where another process was; an error when the state contradicts itself or the settings. Its workers
    /// know the conferences.
    pub fn import(now: Instant, config: ColibriConfig, bytes: &[u8]) -> Result<Self, StateError> {
        let state: ColibriState = carried::read(now, bytes)?;
        state.check(&config)?;
        let ColibriState { workers: _, relay_id: _, conferences, found, graceful_shutdown, next_check, shared } = state;
        let configured = config.transport.public_addresses.clone();
        let mut context = Context::from_state(config, shared);
        for conference in &conferences {
            conference.take_in(&mut context);
        }
        let conferences = conferences.into_iter().map(|c| (c.meeting_id().to_owned(), c)).collect();
        let mut bridge = Self { configured, conferences, context, graceful_shutdown, next_check };
        bridge.set_found_addresses(&found);
        match bridge.inconsistency() {
            None => Ok(bridge),
            Some(what) => Err(StateError::Contradiction(what)),
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &ColibriConfig {
        &self.context.config
    }

    /// In graceful shutdown new conferences are refused.
    pub fn set_graceful_shutdown(&mut self, on: bool) {
        self.graceful_shutdown = on;
    }

    /// Takes the workers' stress, in order: new endpoints go where there is less.
    pub fn set_stress(&mut self, stress: impl IntoIterator<Item = f64>) {
        self.context.placement.set_stress(stress);
    }

    /// The addresses that new endpoints are offered from now on.
    pub fn set_local_addresses(&mut self, addresses: &[IpAddr]) {
        self.context.config.transport.local_addresses = addresses.to_vec();
        self.context.rebind();
    }

    /// The public addresses that were found; new endpoints are offered them from now on beside those that the operator named.
    pub fn set_found_addresses(&mut self, found: &[PublicAddress]) {
        self.context.config.transport.public_addresses = public_address::merge(&self.configured, found);
    }

    /// How many of those that the operator named stand for a local address.
    pub fn advertised_configured(&self) -> usize {
        let hosts = &self.context.config.transport.local_addresses;
        self.configured.iter().filter(|public| public.base(hosts).is_some()).count()
    }

    /// Handles one request; requests must be passed in order of arrival.
    pub fn handle(&mut self, now: Instant, request: &ConferenceModify) -> Reply {
        let mut request = request.clone();
        self.context.totals.left_out += limits::bound(&mut request, self.context.config.capacity.sources_per_endpoint);
        let reply = self.apply(now, &request);
        match reply.as_ref().map_err(|refusal| refusal.bound) {
            Ok(_) => {}
            Err(Some(bound)) => self.context.totals.beyond.count(bound),
            Err(None) => self.context.totals.refused += 1,
        }
        reply
    }

    fn apply(&mut self, now: Instant, request: &ConferenceModify) -> Reply {
        if request.create {
            self.create(now, request)?;
        }
        let Some(conference) = self.conferences.get_mut(&request.meeting_id) else {
            let text = format!("no conference with meeting-id {:?}", request.meeting_id);
            return Err(Refusal::new(DefinedCondition::ItemNotFound, Some(Reason::ConferenceNotFound), text));
        };
        let reply = modify(now, conference, request, &mut self.context)?;
        if request.expire || (!request.create && conference.is_empty()) {
            self.end(now, &request.meeting_id, "requested or empty");
        }
        Ok(reply)
    }

    /// Counts a request of somebody who may not ask.
    pub fn note_stranger(&mut self) {
        self.context.totals.strangers += 1;
    }

    /// Counts a request of which parts could not be read.
    pub fn note_left_out(&mut self, parts: u64) {
        self.context.totals.left_out += parts;
    }

    fn create(&mut self, now: Instant, request: &ConferenceModify) -> Result<(), Refusal> {
        if self.conferences.contains_key(&request.meeting_id) {
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
        if !self.context.placement.has_room() {
            // Before there is a conference that nobody could be in.
            return Err(bridge_full());
        }
        if let Some(name) = &request.name
            && !name.parse::<BareJid>().is_ok_and(|jid| jid.node().is_some())
        {
            let text = format!("conference name {name:?} is not a bare JID with a local part");
            return Err(Refusal::new(DefinedCondition::BadRequest, None, text));
        }
        let conference = Conference::new(now, request, &mut self.context);
        self.conferences.insert(request.meeting_id.clone(), conference);
        Ok(())
    }

    fn end(&mut self, now: Instant, meeting: &str, reason: &str) {
        if let Some(conference) = self.conferences.remove(meeting) {
            conference.end(now, reason, &mut self.context);
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.poll_output()
    }

    /// The conference of an endpoint, and what it shares with others.
    fn conference(&mut self, endpoint: EndpointId) -> Option<(&mut Conference, &mut Context)> {
        let conference = self.conferences.get_mut(self.context.meeting(endpoint)?)?;
        Some((conference, &mut self.context))
    }

    /// The conference of a relay, or of an endpoint behind one.
    fn conference_beyond(&mut self, id: EndpointId) -> Option<(&mut Conference, &mut Context)> {
        let conference = self.conferences.get_mut(self.context.meeting_beyond(id)?)?;
        Some((conference, &mut self.context))
    }

    fn state(&mut self, endpoint: EndpointId) -> Option<(&mut EndpointState, &mut Context)> {
        let (conference, context) = self.conference(endpoint)?;
        Some((conference.endpoint_by_id(endpoint)?, context))
    }

    /// A worker did not create an endpoint, after its focus was given a transport. It is expired: the next request about it is
    /// answered so that the focus invites again, and that creation goes elsewhere or is refused at once.
    pub fn handle_refused(&mut self, endpoint: EndpointId, error: CreateError) {
        if let Some((conference, context)) = self.conference_beyond(endpoint) {
            tracing::error!(%endpoint, ?error, "a worker refused a relay, or an endpoint of another bridge");
            context.totals.revoked += 1;
            if conference.relay_by_id(endpoint).is_some() {
                // The next request about it is an error, by which the focus learns of it.
                return conference.expire_relay(endpoint, "refused by a worker", context);
            }
            let relay = conference.relays().iter().find(|r| r.relayed().iter().any(|e| e.who().id == endpoint));
            if let Some(relay) = relay.map(RelayState::id) {
                conference.expire_relayed(relay, endpoint, context);
            }
            return;
        }
        let Some((conference, context)) = self.conference(endpoint) else { return };
        tracing::error!(%endpoint, ?error, "a worker refused an endpoint; its client gets a new session");
        let Some(worker) = conference.expire(endpoint, "refused by a worker", context) else { return };
        context.totals.revoked += 1;
        if error == CreateError::WorkerFull {
            // It gets nobody else until somebody leaves it.
            context.placement.set_refused(worker);
        }
    }

    /// Whether one more endpoint can be created.
    pub fn has_room(&self) -> bool {
        self.context.placement.has_room()
    }

    /// An endpoint became active or fell silent.
    pub fn handle_activity(&mut self, now: Instant, endpoint: EndpointId, active: bool) {
        if let Some((state, _)) = self.state(endpoint) {
            state.set_active(now, active);
        }
    }

    /// An endpoint said what one of its sources shows; remembered when the source is not signalled yet.
    pub fn set_video_type(&mut self, endpoint: EndpointId, source: &str, video_type: VideoType) {
        if let Some((conference, context)) = self.conference_beyond(endpoint) {
            let relayed = conference.relays_mut().iter_mut().find_map(|relay| relay.relayed_by_id(endpoint));
            let Some((home, changes)) = relayed.map(|e| (e.who().worker, e.set_video_type(source, video_type))) else {
                return;
            };
            return conference.carry_out(home, changes, context);
        }
        let Some((conference, context)) = self.conference(endpoint) else { return };
        let Some(state) = conference.endpoint_by_id(endpoint) else { return };
        let home = state.who().worker;
        let changes = state.set_video_type(source, video_type);
        conference.carry_out(home, changes, context);
    }

    /// ICE of an endpoint changed its state.
    pub fn handle_ice(&mut self, now: Instant, endpoint: EndpointId, ice: IceState) {
        let relay = self.conference_beyond(endpoint).and_then(|(conference, _)| conference.relay_by_id(endpoint));
        if let Some(relay) = relay {
            return relay.set_ice_connected(ice == IceState::Connected);
        }
        if let Some((state, _)) = self.state(endpoint) {
            state.set_ice_connected(now, ice == IceState::Connected);
        }
    }

    /// An ICE restart of an endpoint ended.
    pub fn handle_ice_restart(&mut self, now: Instant, endpoint: EndpointId, generation: u32, outcome: RestartOutcome) {
        let Some((state, context)) = self.state(endpoint) else { return };
        let ended = state.end_restart(generation, outcome, &mut context.totals.ice_restarts);
        let label = &state.who().label;
        if let Some(begun) = ended {
            let ms = now.saturating_duration_since(begun).as_millis();
            tracing::info!(%endpoint, %label, generation, ms, "ICE restarted");
        } else if outcome == RestartOutcome::Abandoned {
            tracing::warn!(%endpoint, %label, generation, "ICE restart failed; the previous candidate pair stays in use");
        }
    }

    /// When [`ColibriBridge::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.context.next_unsignalled().map_or(self.next_check, |until| until.min(self.next_check))
    }

    /// Clients that waited for others' sources long enough count as knowing them.
    fn end_unsignalled(&mut self, now: Instant) {
        if self.context.take_unsignalled(now).is_some() {
            for conference in self.conferences.values_mut() {
                conference.end_unsignalled(now, &mut self.context);
            }
        }
    }

    /// Expires what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_unsignalled(now);
        if now < self.next_check {
            return;
        }
        self.next_check = now + CHECK_INTERVAL;
        for conference in self.conferences.values_mut() {
            conference.expire_inactive(now, &mut self.context);
            conference.note_population(now);
        }
        let deserted = self.conferences.extract_if(|_, conference| conference.deserted(now));
        for (_, conference) in deserted {
            conference.end(now, "empty", &mut self.context);
        }
    }

    /// Current numbers.
    pub fn totals(&self) -> Totals {
        with_current(self.context.totals, self.conferences.values())
    }

    /// The meeting that an endpoint or a relay belongs to.
    pub fn meeting_of(&self, id: EndpointId) -> Option<&str> {
        self.context.meeting_beyond(id).or_else(|| self.context.meeting(id)).map(String::as_str)
    }

    /// Conferences now.
    pub fn conference_count(&self) -> usize {
        self.conferences.len()
    }

    /// Endpoints now.
    pub fn endpoint_count(&self) -> usize {
        self.context.endpoint_count()
    }

    /// Everybody in all conferences, in the order in which they came.
    pub fn occupants(&self) -> Vec<Occupant<'_>> {
        let mut all = Vec::new();
        for conference in self.conferences.values() {
            all.extend(conference.endpoints().iter().map(|state| Occupant::Endpoint {
                who: state.who(),
                password: state.password(),
                sources: state.sources(),
            }));
            for relay in conference.relays() {
                all.push(Occupant::Relay { who: relay.who(), websocket: relay.websocket() });
                let behind = relay.relayed().iter();
                all.extend(behind.map(|state| Occupant::Relayed { who: state.who(), sources: state.sources() }));
            }
        }
        all.sort_unstable_by_key(Occupant::id);
        all
    }

    /// The sources of every endpoint.
    #[cfg(debug_assertions)]
    pub(crate) fn published(&self) -> BTreeMap<EndpointId, &[SourceDescription]> {
        let endpoints = self.conferences.values().flat_map(Conference::endpoints);
        let relayed = self.conferences.values().flat_map(Conference::relays).flat_map(RelayState::relayed);
        let relayed = relayed.map(|state| (state.who().id, state.sources()));
        endpoints.map(|state| (state.id(), state.sources())).chain(relayed).collect()
    }

    /// What is wrong with the tables, if anything: the index, the workers' loads and the conferences must agree.
    #[doc(hidden)]
    pub fn inconsistency(&self) -> Option<String> {
        let mut indexed = 0;
        for (meeting, conference) in &self.conferences {
            for who in conference.endpoints().iter().map(EndpointState::who) {
                indexed += 1;
                if self.context.meeting(who.id) != Some(meeting) {
                    return Some(format!("the index does not say that {} is in meeting {meeting:?}", who.id));
                }
                if who.conference != conference.id() || !conference.workers().contains(&who.worker) {
                    return Some(format!("{} is not at home in conference {}", who.id, conference.id()));
                }
            }
        }
        if indexed != self.context.endpoint_count() {
            return Some(format!("{} endpoints are indexed, {indexed} exist", self.context.endpoint_count()));
        }
        let mut beyond = 0;
        for (meeting, conference) in &self.conferences {
            for relay in conference.relays() {
                let who = relay.who();
                if who.conference != conference.id() || !conference.workers().contains(&who.worker) {
                    return Some(format!("relay {} is not at home in conference {}", who.id, conference.id()));
                }
                let behind = |e: &&RelayedState| e.who().relay == Some(who.id) && e.who().worker == who.worker;
                if let Some(stray) = relay.relayed().iter().find(|e| !behind(e)) {
                    return Some(format!("{} is not behind relay {}", stray.who().id, who.id));
                }
                let ids = relay.relayed().iter().map(|e| e.who().id).chain([who.id]);
                for id in ids {
                    beyond += 1;
                    if self.context.meeting_beyond(id) != Some(meeting) {
                        return Some(format!("the index does not say that {id} is beyond in meeting {meeting:?}"));
                    }
                }
            }
        }
        if beyond != self.context.beyond_count() {
            return Some(format!("{} are indexed as beyond, {beyond} exist", self.context.beyond_count()));
        }
        let counted = self.context.placement.carried();
        let mut carried = vec![(0, 0); counted.len()];
        for share in self.conferences.values().flat_map(Conference::shares) {
            carried[share.worker].0 += 1;
            carried[share.worker].1 += share.endpoints;
        }
        (counted != carried).then(|| format!("workers are counted with {counted:?} and have {carried:?}"))
    }

    /// All conferences, in no order.
    pub(super) fn conferences(&self) -> impl Iterator<Item = &Conference> {
        self.conferences.values()
    }
}

/// Applies a request to its conference, unless it is refused.
fn modify(now: Instant, conference: &mut Conference, request: &ConferenceModify, context: &mut Context) -> Reply {
    let service = Service {
        sctp: context.config.sctp,
        relays: context.config.relay.is_some(),
        relay_websockets: !context.config.transport.relay_websocket_base_url.is_empty(),
        conference_endpoints: context.config.capacity.endpoints_per_conference,
        has_room: context.placement.has_room(),
    };
    validate(conference, request, &service)?;
    let mut reply = ConferenceModified::default();
    let mut feedback = request.create;
    for endpoint in &request.endpoints {
        feedback |= endpoint.create && !endpoint.expire;
        reply.endpoints.push(conference.apply(now, endpoint, context)?);
    }
    for relay in &request.relays {
        reply.relays.push(conference.apply_relay(relay, context)?);
    }
    conference.note_population(now);
    reply.sources = feedback.then(|| conference.feedback_sources());
    Ok(reply)
}
