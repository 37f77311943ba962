//! What a change of one conference shares with all others: workers' loads, totals, new ids, and what is to be done.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId};
use ringbridge_dataplane::io::{HandedSocket, IoError, RelayPorts, SocketOptions};
use ringbridge_dataplane::messages::Command;
use serde::{Deserialize, Serialize};

use super::config::ColibriConfig;
use super::identity::EndpointIdentity;
use super::output::Output;
use super::placement::Placement;
use super::totals::Totals;

/// What conferences change beyond themselves. The open fields guard themselves, or never change.
#[derive(Debug)]
pub(super) struct Context {
    pub config: ColibriConfig,
    pub placement: Placement,
    pub totals: Totals,
    /// Meeting of every endpoint: an index of the conferences' endpoints.
    meetings: HashMap<EndpointId, String>,
    /// Meeting of every relay and of every endpoint behind one.
    beyond: HashMap<EndpointId, String>,
    outputs: VecDeque<Output>,
    next_conference: u32,
    next_endpoint: u32,
    next_mesh: u32,
    /// Binds the sockets of relays that have a port of their own.
    ports: RelayPorts,
    /// When the first client that waits for others' sources counts as knowing them.
    next_unsignalled: Option<Instant>,
}

/// What conferences have in common.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SharedState {
    pub next_conference: u32,
    pub next_endpoint: u32,
    pub next_mesh: u32,
    #[serde(with = "crate::carried")]
    pub next_unsignalled: Option<Instant>,
    pub totals: Totals,
    /// Of each worker, whether it refused an endpoint since the last one left it.
    pub refused: Vec<bool>,
}

fn relay_ports(config: &ColibriConfig) -> RelayPorts {
    let range = config.relay.as_ref().and_then(|relay| relay.ports);
    RelayPorts::new(config.transport.local_addresses.clone(), range, SocketOptions::default())
}

impl Context {
    /// Of a bridge without conferences.
    pub fn new(config: ColibriConfig) -> Self {
        Self {
            placement: Placement::new(config.workers, config.spill_endpoints, config.capacity.endpoints_per_worker),
            ports: relay_ports(&config),
            config,
            totals: Totals::default(),
            meetings: HashMap::new(),
            beyond: HashMap::new(),
            outputs: VecDeque::new(),
            next_conference: 1,
            next_endpoint: 1,
            next_mesh: 1,
            next_unsignalled: None,
        }
    }

    /// What another process needs of it. Everything that is to be done was done before: it would be done twice.
    pub fn state(&self) -> SharedState {
        let Self {
            // Made from the settings of the process, or counted anew from the conferences.
            config: _,
            meetings: _,
            beyond: _,
            ports: _,
            outputs: _,
            placement,
            totals,
            next_conference,
            next_endpoint,
            next_mesh,
            next_unsignalled,
        } = self;
        SharedState {
            next_conference: *next_conference,
            next_endpoint: *next_endpoint,
            next_mesh: *next_mesh,
            next_unsignalled: *next_unsignalled,
            totals: *totals,
            refused: placement.refused(),
        }
    }

    /// Of a bridge that goes on with conferences, which are still to be counted in.
    pub fn from_state(config: ColibriConfig, state: SharedState) -> Self {
        let SharedState { next_conference, next_endpoint, next_mesh, next_unsignalled, totals, refused } = state;
        let mut context =
            Self { totals, next_conference, next_endpoint, next_mesh, next_unsignalled, ..Self::new(config) };
        for (worker, _) in refused.iter().enumerate().filter(|(_, refused)| **refused) {
            context.placement.set_refused(worker);
        }
        context
    }

    /// An endpoint of a conference was counted when it came into being, in another process.
    pub fn take_in(&mut self, endpoint: &EndpointIdentity, meeting: &str) {
        self.placement.count_endpoint(endpoint.worker, 1);
        self.meetings.insert(endpoint.id, meeting.to_owned());
    }

    /// Sockets for a relay that has a port of its own: one for each local address.
    pub fn bind_relay(&mut self) -> Result<Vec<HandedSocket>, IoError> {
        self.ports.bind()
    }

    /// The local addresses changed.
    pub fn rebind(&mut self) {
        self.ports = relay_ports(&self.config);
    }

    pub fn next_conference(&mut self) -> ConferenceId {
        let id = ConferenceId(self.next_conference);
        self.next_conference += 1;
        id
    }

    pub fn next_endpoint(&mut self) -> EndpointId {
        let id = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        id
    }

    pub fn next_mesh(&mut self) -> MeshId {
        let id = MeshId(self.next_mesh);
        self.next_mesh += 1;
        id
    }

    /// An endpoint of a conference came into being.
    pub fn count_in(&mut self, endpoint: &EndpointIdentity, meeting: &str) {
        self.placement.count_endpoint(endpoint.worker, 1);
        self.totals.endpoints_created += 1;
        self.totals.visitors_created += u64::from(endpoint.visitor);
        self.meetings.insert(endpoint.id, meeting.to_owned());
    }

    /// An endpoint is no longer in its conference.
    pub fn count_out(&mut self, endpoint: Arc<EndpointIdentity>) {
        self.placement.count_endpoint(endpoint.worker, -1);
        self.meetings.remove(&endpoint.id);
        self.outputs.push_back(Output::EndpointExpired { endpoint });
    }

    /// A relay of a conference, or an endpoint behind one, came into being.
    pub fn count_relay_in(&mut self, id: EndpointId, meeting: &str) {
        self.beyond.insert(id, meeting.to_owned());
    }

    /// It is no longer in its conference.
    pub fn count_relay_out(&mut self, id: EndpointId) {
        self.beyond.remove(&id);
    }

    /// The meeting that an endpoint is in.
    pub fn meeting(&self, endpoint: EndpointId) -> Option<&String> {
        self.meetings.get(&endpoint)
    }

    /// The meeting that a relay, or an endpoint behind one, is in.
    pub fn meeting_beyond(&self, id: EndpointId) -> Option<&String> {
        self.beyond.get(&id)
    }

    /// Relays and endpoints behind them, of all conferences.
    pub fn beyond_count(&self) -> usize {
        self.beyond.len()
    }

    /// Endpoints of all conferences.
    pub fn endpoint_count(&self) -> usize {
        self.meetings.len()
    }

    pub fn command(&mut self, worker: usize, command: Command) {
        self.outputs.push_back(Output::Command { worker, command });
    }

    pub fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Whether something is to be done.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the first client that waits for others' sources counts as knowing them.
    pub fn next_unsignalled(&self) -> Option<Instant> {
        self.next_unsignalled
    }

    /// Takes that time if it has come.
    pub fn take_unsignalled(&mut self, now: Instant) -> Option<Instant> {
        self.next_unsignalled.take_if(|at| *at <= now)
    }

    /// Another client waits.
    pub fn wait_for_unsignalled(&mut self, until: Option<Instant>) {
        self.next_unsignalled = self.next_unsignalled.into_iter().chain(until).min();
    }
}
