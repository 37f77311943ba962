//! Clients in another process (docs/upgrade.md): what was asked, sent and counted. Who they are and what they publish is said once,
//! by signalling; DTLS sessions and WebSockets stay behind, the former with a keeper where there is a data channel.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::{Limit, ReceiverConstraints};
use ringbridge_dataplane::messages::Bandwidth;
use serde::{Deserialize, Serialize};

use super::carrier::{Carrier, Carriers};
use super::client::Client;
use super::counters::ClientCounters;
use super::mappings::Mappings;
use super::redial::Redial;
use super::relay::{Relay, Relayed};
use super::table::Clients;
use crate::bridge::dtls_transport::{DtlsState, DtlsTransport, KeeperLines};
use crate::bridge::receiver_preferences::ReceiverPreferences;
use crate::channel::keeper::KeeperNumber;
use crate::channel::{Address, ChannelCounters, Registry, SecuredChannel};
use crate::colibri::bridge::{ColibriBridge, Occupant, RelayChannel};
use crate::colibri::elements::SctpRole;
use crate::transport::Certificate;

/// What another process needs of all clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClientsState {
    endpoints: Vec<(EndpointId, ClientState)>,
    relays: Vec<(EndpointId, RelayClientState)>,
    relayed: Vec<(EndpointId, RelayedClientState)>,
    /// The dominant speaker first.
    speakers: Vec<(ConferenceId, Vec<EndpointId>)>,
    #[serde(with = "crate::carried")]
    estimates_sent: Option<Instant>,
    counters: ClientCounters,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ClientState {
    #[serde(with = "crate::carried")]
    created: Instant,
    active: Option<bool>,
    channel_seen: bool,
    preferences: ReceiverPreferences,
    constraints: ReceiverConstraints,
    forwarded: Vec<String>,
    demand: BTreeMap<String, Limit>,
    bandwidth: Option<Bandwidth>,
    mappings: Mappings,
    dtls: DtlsState,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RelayClientState {
    channel_seen: bool,
    #[serde(with = "crate::carried")]
    silent: Option<Instant>,
    unreached: bool,
    /// Where the other bridge's WebSocket is, with its password.
    dial: Option<String>,
    dtls: DtlsState,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RelayedClientState {
    demand: BTreeMap<String, Limit>,
    active: bool,
}

/// Whether this process has to stay as the end of a data channel when another one goes on: while it is open, or the peer may still open
/// one and has no WebSocket instead.
fn stays(dtls: &DtlsTransport, carriers: &Carriers) -> bool {
    dtls.may_have_channel() && (dtls.has_open_channel() || !carriers.is_open(Carrier::WebSocket))
}

impl Client {
    fn stays(&self) -> bool {
        stays(&self.dtls, &self.carriers)
    }

    fn state(&self, keeper: KeeperNumber) -> ClientState {
        let Self {
            // Signalling says these.
            who: _,
            _admission: _,
            sources: _,
            // These stay behind: a client comes again, and rates begin anew.
            carriers: _,
            intake: _,
            fan_out: _,
            created,
            active,
            channel_seen,
            preferences,
            constraints,
            forwarded,
            demand,
            bandwidth,
            mappings,
            dtls,
        } = self;
        ClientState {
            created: *created,
            active: *active,
            channel_seen: *channel_seen,
            preferences: preferences.clone(),
            constraints: constraints.clone(),
            forwarded: forwarded.clone(),
            demand: demand.clone(),
            bandwidth: *bandwidth,
            mappings: mappings.clone(),
            dtls: dtls.state(self.stays().then_some(keeper)),
        }
    }

    fn take_over(&mut self, state: ClientState, keepers: &KeeperLines) -> Result<(), String> {
        let ClientState {
            created,
            active,
            channel_seen,
            preferences,
            constraints,
            forwarded,
            demand,
            bandwidth,
            mappings,
            dtls,
        } = state;
        (self.created, self.active, self.channel_seen) = (created, active, channel_seen);
        (self.preferences, self.constraints, self.forwarded) = (preferences, constraints, forwarded);
        (self.demand, self.bandwidth, self.mappings) = (demand, bandwidth, mappings);
        let open = self.dtls.take_over(self.who.id, dtls, keepers)?;
        self.carriers.set_data(open);
        Ok(())
    }
}

impl Relay {
    fn stays(&self) -> bool {
        stays(&self.dtls, &self.carriers)
    }

    fn state(&self, keeper: KeeperNumber) -> RelayClientState {
        let Self {
            // Signalling says these.
            who: _,
            admission: _,
            // These stay behind.
            carriers: _,
            intake: _,
            fan_out: _,
            dtls,
            redial,
            channel_seen,
            silent,
            unreached,
        } = self;
        let dial = redial.as_ref().map(|redial| redial.address().url());
        let (dtls, silent) = (dtls.state(self.stays().then_some(keeper)), *silent);
        RelayClientState { channel_seen: *channel_seen, silent, unreached: *unreached, dial, dtls }
    }
}

impl Relayed {
    fn state(&self) -> RelayedClientState {
        let Self { who: _, sources: _, demand, active } = self;
        RelayedClientState { demand: demand.clone(), active: *active }
    }
}

fn sorted<T, S>(table: &HashMap<EndpointId, T>, state: impl Fn(&T) -> S) -> Vec<(EndpointId, S)> {
    let mut states: Vec<_> = table.iter().map(|(id, one)| (*id, state(one))).collect();
    states.sort_unstable_by_key(|(id, _)| *id);
    states
}

impl Clients {
    /// Everything that another process needs of them, once nothing is left to be done; `keeper` is what this one is called then, as
    /// far as it stays.
    pub fn state(&self, keeper: KeeperNumber) -> ClientsState {
        let Self {
            // Of this process; the certificate is said once.
            certificate: _,
            registry: _,
            channel_counters: _,
            // Empty when nothing is left to be done, or of sessions that stay behind.
            actions: _,
            written: _,
            unconfirmed: _,
            timers: _,
            bandwidth_changed: _,
            endpoints,
            relays,
            relayed,
            conferences,
            estimates_sent,
            counters,
        } = self;
        let speakers = conferences.iter().map(|(id, conference)| (*id, conference.speakers().to_vec()));
        let mut speakers: Vec<_> = speakers.filter(|(_, speakers)| !speakers.is_empty()).collect();
        speakers.sort_unstable_by_key(|(id, _)| *id);
        ClientsState {
            endpoints: sorted(endpoints, |client| client.state(keeper)),
            relays: sorted(relays, |relay| relay.state(keeper)),
            relayed: sorted(relayed, Relayed::state),
            speakers,
            estimates_sent: *estimates_sent,
            counters: *counters,
        }
    }

    /// Those that signalling knows, as another process left them; what is wrong when the two do not fit.
    pub fn from_state(
        now: Instant,
        certificate: Certificate,
        (registry, channel_counters): (Registry, Arc<ChannelCounters>),
        colibri: &ColibriBridge,
        (state, keepers): (ClientsState, &KeeperLines),
    ) -> Result<Self, String> {
        let ClientsState { endpoints, relays, relayed, speakers, estimates_sent, counters } = state;
        if !counters.is_plausible() {
            return Err("a count that no bridge reaches".to_owned());
        }
        let carried = endpoints.len() + relays.len() + relayed.len();
        let mut endpoints: HashMap<_, _> = endpoints.into_iter().collect();
        let mut relays: HashMap<_, _> = relays.into_iter().collect();
        let mut relayed: HashMap<_, _> = relayed.into_iter().collect();
        let mut clients = Self::new(certificate, registry, channel_counters);
        (clients.estimates_sent, clients.counters, clients.bandwidth_changed) = (estimates_sent, counters, true);
        let mut taken = 0;
        for occupant in colibri.occupants() {
            let id = occupant.id();
            let unknown = || format!("{id} was signalled, and nothing is known of its client");
            taken += 1;
            match occupant {
                Occupant::Endpoint { who, password, sources } => {
                    let state: ClientState = endpoints.remove(&id).ok_or_else(unknown)?;
                    clients.insert(state.created, Arc::clone(who), password, false);
                    let Some(client) = clients.endpoints.get_mut(&id) else { continue };
                    client.sources = sources.to_vec();
                    client.take_over(state, keepers)?;
                }
                Occupant::Relay { who, websocket } => {
                    let state = relays.remove(&id).ok_or_else(unknown)?;
                    let RelayClientState { channel_seen, silent, unreached, dial, dtls } = state;
                    let channel = match websocket {
                        Some(password) => RelayChannel::WebSocket { password: password.to_owned() },
                        // What becomes of a data channel its session says.
                        None => RelayChannel::Sctp(SctpRole::Server),
                    };
                    clients.insert_relay(Arc::clone(who), &channel);
                    let Some(relay) = clients.relays.get_mut(&id) else { continue };
                    (relay.channel_seen, relay.silent, relay.unreached) = (channel_seen, silent, unreached);
                    let address = dial.and_then(|url| Address::parse(&url).ok());
                    relay.redial = address.map(|address| Redial::new(now, address));
                    let open = relay.dtls.take_over(id, dtls, keepers)?;
                    relay.carriers.set_data(open);
                }
                Occupant::Relayed { who, sources } => {
                    let RelayedClientState { demand, active } = relayed.remove(&id).ok_or_else(unknown)?;
                    clients.insert_relayed(Arc::clone(who));
                    let Some(behind) = clients.relayed.get_mut(&id) else { continue };
                    (behind.sources, behind.demand, behind.active) = (sources.to_vec(), demand, active);
                }
            }
        }
        if taken != carried {
            return Err(format!("{carried} clients are carried, and {taken} were signalled"));
        }
        for (conference, mut recent) in speakers {
            let Some(state) = clients.conferences.get_mut(&conference) else { continue };
            let known: HashSet<_> = state.members().iter().chain(state.relayed()).copied().collect();
            recent.retain(|speaker| known.contains(speaker));
            state.set_speakers(recent);
        }
        match clients.inconsistency() {
            None => Ok(clients),
            Some(what) => Err(what),
        }
    }

    /// Begins again what DTLS of another process had not finished: it was lost with that.
    pub fn begin_handshakes(&mut self, now: Instant) {
        let mut ids: Vec<_> = self.transports().map(|(id, _)| id).collect();
        ids.sort_unstable();
        for id in ids {
            self.begin_handshake(now, id);
        }
    }

    /// Endpoints and relays whose handshake is under way: another process would have to begin it anew.
    pub fn handshakes(&self) -> impl Iterator<Item = EndpointId> {
        self.transports().filter(|(_, dtls)| dtls.is_handshaking()).map(|(id, _)| id)
    }

    /// Endpoints and relays with a data channel, or that may still open one, for which this process has to stay when another one
    /// goes on.
    pub fn staying(&self) -> impl Iterator<Item = EndpointId> {
        let clients = self.endpoints.iter().filter(|(_, client)| client.stays()).map(|(id, _)| *id);
        clients.chain(self.relays.iter().filter(|(_, relay)| relay.stays()).map(|(id, _)| *id))
    }

    /// The sessions of those; to everybody else they are lost with that.
    pub fn leave_sessions(&mut self) -> Vec<(u32, SecuredChannel)> {
        let ids: Vec<_> = self.staying().collect();
        ids.into_iter().filter_map(|id| Some((id.0, self.dtls(id)?.leave()?))).collect()
    }

    /// The DTLS of endpoints and relays, in no order.
    pub(super) fn transports(&self) -> impl Iterator<Item = (EndpointId, &DtlsTransport)> {
        let clients = self.endpoints.iter().map(|(id, client)| (*id, &client.dtls));
        clients.chain(self.relays.iter().map(|(id, relay)| (*id, &relay.dtls)))
    }

    /// The WebSockets end, and their clients open others: another process serves them.
    pub fn leave_websockets(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.carriers.forget_websocket();
        }
        for relay in self.relays.values_mut() {
            relay.carriers.forget_websocket();
        }
    }
}
