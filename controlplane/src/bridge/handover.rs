//! A running bridge that another process goes on with (docs/upgrade.md): what would be carried, the steps up to the point from which
//! only one of the two may act, and the state itself.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::Capacity;
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::clients::{Clients, ClientsState};
use super::dtls_transport::KeeperLines;
use super::handover_error::HandoverError;
use super::keepers::{self, Keepers};
use super::lifecycle::LifeState;
use super::pending::Pending;
use super::report::Traffic;
use super::settings::BridgeSettings;
use super::xmpp_connections::XmppState;
use crate::carried;
use crate::channel::keeper::{CarriedKeeper, KeptSessions};
use crate::channel::{ChannelCounters, Registry};
use crate::colibri::bridge::ColibriBridge;
use crate::colibri::transport::LocalTransport;
use crate::transport::{CarriedCertificate, Certificate};
use crate::xmpp::CarriedSession;

/// Requests to a bridge that may wait.
const REQUESTS: usize = 8;
/// Counters of channels, and of workers, that are read at most.
const MAX_COUNTERS: usize = 65_536;
/// No bridge counts so far; what does is made up.
const IMPLAUSIBLE: u64 = 1 << 62;

/// What another process would go on with, and what would be lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// Conferences that are carried.
    pub conferences: usize,
    /// Endpoints that are carried.
    pub endpoints: usize,
    /// Relays that are carried.
    pub relays: usize,
    /// Endpoints and relays whose DTLS handshake is under way: it would begin anew.
    pub handshakes: Vec<Affected>,
    /// Those with a data channel, or that may still open one: this process would stay as its end.
    pub data_channels: Vec<Affected>,
    /// Former processes that are the end of data channels already.
    pub keepers: usize,
    /// XMPP connections that the other process cannot resume: there the bridge would leave its rooms and join again, and a focus moves
    /// its conferences meanwhile.
    pub not_resumed: Vec<String>,
}

impl Outlook {
    /// Whether nothing would be lost.
    pub fn is_hitless(&self) -> bool {
        self.handshakes.is_empty() && self.not_resumed.is_empty()
    }
}

/// An endpoint or a relay that would lose something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Affected {
    /// Id of its conference's meeting.
    pub meeting: String,
    /// Its name there; a relay's is the other bridge's id.
    pub name: String,
}

/// What a running bridge is asked.
pub(super) enum HandoverRequest {
    Outlook { reply: oneshot::Sender<Outlook> },
    Quiesce { patience: Duration, reply: oneshot::Sender<Outlook> },
    Freeze { reply: oneshot::Sender<Result<(), HandoverError>> },
    Export { reply: oneshot::Sender<Result<BridgeState, HandoverError>> },
    Keepers { reply: oneshot::Sender<Result<Vec<OwnedFd>, HandoverError>> },
    Resume { reply: oneshot::Sender<()> },
    Commit { reply: oneshot::Sender<Option<KeptSessions>> },
}

/// The way to a running bridge that is to be handed over. While it is frozen and every clone of this is dropped, it goes on.
#[derive(Debug, Clone)]
pub struct Handover {
    requests: mpsc::Sender<HandoverRequest>,
}

/// The bridge's end of a [`Handover`].
#[derive(Debug)]
pub struct HandoverRequests(pub(super) mpsc::Receiver<HandoverRequest>);

impl std::fmt::Debug for HandoverRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Outlook { .. } => "Outlook",
            Self::Quiesce { .. } => "Quiesce",
            Self::Freeze { .. } => "Freeze",
            Self::Export { .. } => "Export",
            Self::Keepers { .. } => "Keepers",
            Self::Resume { .. } => "Resume",
            Self::Commit { .. } => "Commit",
        })
    }
}

impl Handover {
    /// Both ends.
    pub fn new() -> (Self, HandoverRequests) {
        let (requests, received) = mpsc::channel(REQUESTS);
        (Self { requests }, HandoverRequests(received))
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> HandoverRequest) -> Result<T, HandoverError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| HandoverError::Ended)?;
        answer.await.map_err(|_| HandoverError::Ended)
    }

    /// What would be carried now, and what not. Nothing changes.
    pub async fn outlook(&self) -> Result<Outlook, HandoverError> {
        self.ask(|reply| HandoverRequest::Outlook { reply }).await
    }

    /// Waits up to `patience` for handshakes under way, then has the XMPP servers keep their sessions; the bridge serves everybody
    /// meanwhile. What would be lost then.
    pub async fn quiesce(&self, patience: Duration) -> Result<Outlook, HandoverError> {
        self.ask(|reply| HandoverRequest::Quiesce { patience, reply }).await
    }

    /// Stops taking anything in, and gives the workers what they are to do. When this is done they may be suspended.
    pub async fn freeze(&self) -> Result<(), HandoverError> {
        self.ask(|reply| HandoverRequest::Freeze { reply }).await?
    }

    /// Of a frozen bridge whose workers are suspended: takes in what they reported last, and writes everything down. It may still
    /// [`Self::resume`].
    pub async fn export(&self) -> Result<BridgeState, HandoverError> {
        self.ask(|reply| HandoverRequest::Export { reply }).await?
    }

    /// Of a bridge that was exported: the sockets of the processes that are the end of its data channels, which belong to the state, in
    /// their order. The last one is this process itself, if it stays as that.
    pub async fn keepers(&self) -> Result<Vec<OwnedFd>, HandoverError> {
        self.ask(|reply| HandoverRequest::Keepers { reply }).await?
    }

    /// A frozen bridge goes on as if nothing had been; its workers go on before.
    pub async fn resume(&self) -> Result<(), HandoverError> {
        self.ask(|reply| HandoverRequest::Resume { reply }).await
    }

    /// A frozen bridge ends without a word to anybody: another process has begun. What stays with this one, if [`Self::keepers`] was
    /// asked for.
    pub async fn commit(&self) -> Result<Option<KeptSessions>, HandoverError> {
        self.ask(|reply| HandoverRequest::Commit { reply }).await
    }
}

/// Everything that another process needs to go on as this bridge; it holds keys and passwords, and is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct BridgeState(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for BridgeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BridgeState({} bytes)", self.0.len())
    }
}

impl BridgeState {
    /// What another process wrote.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// To be given to another process, and to nobody else.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn write(now: Instant, parts: &Parts) -> Result<Self, HandoverError> {
        Ok(Self(carried::write(now, parts)?))
    }
}

/// What a [`BridgeState`] is made of.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Parts {
    #[serde(with = "crate::carried::secret")]
    pub colibri: Zeroizing<Vec<u8>>,
    pub certificate: CarriedCertificate,
    pub clients: ClientsState,
    pub xmpp: XmppState,
    pub life: LifeState,
    /// Since the Unix epoch.
    pub started: Duration,
    pub traffic: Traffic,
    #[serde(with = "crate::carried")]
    pub reported: Instant,
    pub channel_counters: Vec<u64>,
    /// Of each worker, in the order of [`Counter::ALL`].
    pub worker_counters: Vec<Vec<u64>>,
    /// What the workers are to do before anything else.
    pub pending: Pending,
    /// Processes that are the end of data channels. Their sockets are beside the state.
    pub keepers: Vec<CarriedKeeper>,
}

/// State that was looked through and can be gone on with.
#[derive(Clone)]
pub struct Takeover {
    pub(super) parts: Parts,
    pub(super) certificate: Certificate,
    /// Of the keepers.
    sockets: Arc<[OwnedFd]>,
}

impl std::fmt::Debug for Takeover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Takeover").finish_non_exhaustive()
    }
}

impl Takeover {
    /// Looks through what another process wrote, and says nothing to anybody. The bridge has as many workers as it will have; `keepers`
    /// are the sockets that belong to the state.
    pub fn new(
        now: Instant,
        settings: &BridgeSettings,
        workers: usize,
        (state, keepers): (&BridgeState, Vec<OwnedFd>),
    ) -> Result<Self, HandoverError> {
        let parts: Parts = carried::read(now, state.as_bytes())?;
        let wrong = HandoverError::Contradiction;
        let certificate =
            Certificate::from_carried(parts.certificate.clone()).map_err(|error| wrong(error.to_string()))?;
        let counters = parts.channel_counters.iter().chain(parts.worker_counters.iter().flatten());
        if counters.clone().count() > MAX_COUNTERS || counters.clone().any(|count| *count >= IMPLAUSIBLE) {
            return Err(wrong("a count that no bridge reaches".to_owned()));
        }
        let takeover = Self { parts, certificate, sockets: keepers.into() };
        // As it will be, but for what only the running bridge knows.
        let transport = LocalTransport {
            local_addresses: Vec::new(),
            public_addresses: settings.public_addresses.clone(),
            advertise_private: settings.advertise_private,
            port: settings.port,
            fingerprint: takeover.certificate.fingerprint().to_owned(),
            websocket_base_url: settings.websocket_base_url.clone(),
            relay_websocket_base_url: settings.relay_websocket_base_url.clone(),
            websocket_server_id: settings.websocket_server_id.clone(),
        };
        let colibri = takeover.colibri(now, settings, transport, workers, Capacity::default())?;
        let lines = takeover.keepers()?.1;
        takeover.clients(now, (Registry::default(), Arc::default()), &colibri, &lines)?;
        takeover.parts.pending.check(workers).map_err(wrong)?;
        Ok(takeover)
    }

    /// The sessions of its XMPP connections, in the order of the settings.
    pub fn sessions(&self, settings: &BridgeSettings) -> Vec<Option<CarriedSession>> {
        settings.connections.iter().map(|connection| self.parts.xmpp.session(connection)).collect()
    }

    pub(super) fn colibri(
        &self,
        now: Instant,
        settings: &BridgeSettings,
        transport: LocalTransport,
        workers: usize,
        capacity: Capacity,
    ) -> Result<ColibriBridge, HandoverError> {
        let config = settings.colibri(transport, workers, capacity);
        Ok(ColibriBridge::import(now, config, &self.parts.colibri)?)
    }

    /// Connections to the keepers.
    pub(super) fn keepers(&self) -> Result<(Keepers, KeeperLines), HandoverError> {
        let carried = &self.parts.keepers;
        let lines = keepers::lines(carried).map_err(HandoverError::Contradiction)?;
        let keepers = Keepers::new(&self.sockets, carried, &lines).map_err(HandoverError::Contradiction)?;
        Ok((keepers, lines))
    }

    pub(super) fn clients(
        &self,
        now: Instant,
        outside: (Registry, Arc<ChannelCounters>),
        colibri: &ColibriBridge,
        keepers: &KeeperLines,
    ) -> Result<Clients, HandoverError> {
        let (certificate, state) = (self.certificate.clone(), self.parts.clients.clone());
        Clients::from_state(now, certificate, outside, colibri, (state, keepers)).map_err(HandoverError::Contradiction)
    }
}

/// What the workers counted.
pub(super) fn counted<'a>(workers: impl Iterator<Item = &'a WorkerStats>) -> Vec<Vec<u64>> {
    let all = |stats: &WorkerStats| Counter::ALL.iter().map(|counter| stats.get(*counter)).collect();
    workers.map(all).collect()
}

/// Goes on counting where the workers of another process were; what they know already is not counted twice.
pub(super) fn go_on_counting(stats: &WorkerStats, before: &[u64]) {
    for (counter, before) in Counter::ALL.iter().zip(before).filter(|(counter, _)| !counter.is_gauge()) {
        stats.add(*counter, before.saturating_sub(stats.get(*counter)));
    }
}
