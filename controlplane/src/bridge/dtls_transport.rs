//! The secured side of one endpoint: DTLS over the worker's datagrams, and the data channel inside it.
//! A state machine: signalling, datagrams, messages and the time in, [`DtlsTransportOutput`]s out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::srtp::SrtpKeys;
use serde::{Deserialize, Serialize};

pub(super) use crate::channel::Written;
use crate::channel::keeper::{KeeperLine, KeeperNumber, KeptChannel};
use crate::channel::limits::DATAGRAMS;
use crate::channel::{ChannelCounters, Counted, DataChannel, SecuredChannel, SecuredOutput};
use crate::pace::Bucket;
use crate::transport::{Certificate, DtlsError, DtlsRole, DtlsSession, Fingerprint};

/// DTLS datagrams kept until the role is known.
const EARLY_DATAGRAMS: usize = 16;

/// Fingerprints kept of one peer; it has one certificate.
const FINGERPRINTS: usize = 8;

/// Something that the caller must do, in order.
#[derive(Debug)]
pub(super) enum DtlsTransportOutput {
    /// Send this datagram.
    Datagram(Vec<u8>),
    /// Media can be encrypted.
    Keys(SrtpKeys),
    /// Act on this.
    Event(DtlsTransportEvent),
}

/// What became of the session and its data channel.
#[derive(Debug)]
pub(super) enum DtlsTransportEvent {
    /// The handshake, or the session, failed; `before` when there were no keys yet.
    Failed { error: DtlsError, before: bool },
    /// The client opened the data channel.
    ChannelOpened,
    /// A text message came on it.
    Text(Vec<u8>),
    /// It is closed.
    ChannelClosed,
    /// It was closed since the peer does not read.
    ChannelStalled,
}

/// What a keeper says of a session that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeptEvent {
    /// Send the peer this datagram.
    Datagram(Vec<u8>),
    /// The channel is open, or open anew.
    Opened,
    /// A text message came on it.
    Text(Vec<u8>),
    /// It is closed; `stalled`: the peer does not read.
    Closed { stalled: bool },
    /// The session is over.
    Ended(DtlsError),
    /// The keeper is gone, and the session with it.
    Lost,
}

/// Where the session is.
#[derive(Debug)]
enum Stage {
    /// It has not begun; the channel is there where signalling asked for one.
    Waiting(Option<Box<DataChannel>>),
    /// Here.
    Here(Box<SecuredChannel>),
    /// In a former process.
    Kept(KeptChannel),
    /// It failed, or a former process had it to itself.
    Gone,
}

/// Connections to former processes that have sessions.
pub(super) type KeeperLines = BTreeMap<KeeperNumber, KeeperLine>;

/// DTLS, SCTP and what is known of the peer before they start.
#[derive(Debug)]
pub(super) struct DtlsTransport {
    ice_connected: bool,
    role: Option<DtlsRole>,
    fingerprints: Vec<Fingerprint>,
    stage: Stage,
    early: VecDeque<Vec<u8>>,
    connected: Option<Instant>,
    failed: bool,
    outputs: VecDeque<DtlsTransportOutput>,
    /// Datagrams that the peer may still send.
    datagrams: Bucket,
    counters: Arc<ChannelCounters>,
}

/// What another process needs of a [`DtlsTransport`]. The session stays behind: media has its keys already, a data channel is served
/// by its keeper, and a handshake that is not finished begins anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DtlsState {
    ice_connected: bool,
    role: Option<DtlsRole>,
    fingerprints: Vec<Fingerprint>,
    #[serde(with = "crate::carried")]
    connected: Option<Instant>,
    failed: bool,
    data: Option<DataSide>,
    kept: Option<Kept>,
}

/// Which side of a data channel we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum DataSide {
    Server,
    Client,
}

/// Which process has the session, and whether its channel is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    keeper: KeeperNumber,
    open: bool,
}

impl DtlsTransport {
    /// What another process needs of it; `keeper` is what this process is called as the keeper of the session, if it is to be that.
    pub fn state(&self, keeper: Option<KeeperNumber>) -> DtlsState {
        let Self {
            // Sent again by the peer.
            early: _,
            outputs: _,
            datagrams: _,
            counters: _,
            ice_connected,
            role,
            fingerprints,
            stage,
            connected,
            failed,
        } = self;
        let side = |data: &DataChannel| if data.is_client() { DataSide::Client } else { DataSide::Server };
        let data = match stage {
            Stage::Waiting(data) => data.as_deref().map(side),
            // The handshake begins anew.
            Stage::Here(here) if !here.is_connected() => here.channel().map(side),
            Stage::Here(_) | Stage::Kept(_) | Stage::Gone => None,
        };
        let kept = match stage {
            Stage::Here(here) => keeper.map(|keeper| Kept { keeper, open: here.is_open() }),
            Stage::Kept(kept) => Some(Kept { keeper: kept.keeper(), open: kept.is_open() }),
            Stage::Waiting(_) | Stage::Gone => None,
        };
        DtlsState {
            ice_connected: *ice_connected,
            role: *role,
            fingerprints: fingerprints.clone(),
            connected: *connected,
            failed: *failed,
            data,
            kept,
        }
    }

    /// Goes on where another process was, as endpoint or relay `id`; whether its data channel is open. What is wrong when it has a
    /// keeper that there is not.
    pub fn take_over(&mut self, id: EndpointId, state: DtlsState, keepers: &KeeperLines) -> Result<bool, String> {
        let DtlsState { ice_connected, role, fingerprints, connected, failed, data, kept } = state;
        (self.ice_connected, self.role, self.connected, self.failed) = (ice_connected, role, connected, failed);
        self.fingerprints = fingerprints.into_iter().filter(Fingerprint::is_strong).take(FINGERPRINTS).collect();
        self.stage = match (connected, kept) {
            (None, _) => Stage::Waiting(data.map(|side| {
                Box::new(match side {
                    DataSide::Server => DataChannel::new(Arc::clone(&self.counters)),
                    DataSide::Client => DataChannel::client(Arc::clone(&self.counters)),
                })
            })),
            (Some(_), None) => Stage::Gone,
            (Some(_), Some(Kept { keeper, open })) => {
                let line =
                    keepers.get(&keeper).ok_or_else(|| format!("{id} is kept by a process that is not there"))?;
                Stage::Kept(KeptChannel::new((keeper, line.clone()), id.0, open, Arc::clone(&self.counters)))
            }
        };
        Ok(self.has_open_channel())
    }

    /// The session, to be kept by this process when another one goes on.
    pub fn leave(&mut self) -> Option<SecuredChannel> {
        match std::mem::replace(&mut self.stage, Stage::Gone) {
            Stage::Here(here) if here.is_connected() => Some(*here),
            _ => None,
        }
    }

    /// Whether a handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        matches!(&self.stage, Stage::Here(here) if !here.is_connected())
    }

    /// Whether the peer has a data channel.
    pub fn has_open_channel(&self) -> bool {
        match &self.stage {
            Stage::Here(here) => here.is_open(),
            Stage::Kept(kept) => kept.is_open(),
            Stage::Waiting(_) | Stage::Gone => false,
        }
    }

    /// Whether this process has a session in which the peer has a data channel or may open one.
    pub fn may_have_channel(&self) -> bool {
        matches!(&self.stage, Stage::Here(here) if here.is_connected() && here.channel().is_some())
    }

    /// Which former process has the session, if one has.
    pub fn keeper(&self) -> Option<KeeperNumber> {
        if let Stage::Kept(kept) = &self.stage { Some(kept.keeper()) } else { None }
    }

    /// Begins the handshake if everything is known for it.
    pub fn begin(&mut self, now: Instant, certificate: &Certificate) {
        self.start(now, certificate);
    }

    /// Nothing is known yet; `data` is the channel where signalling asked for one.
    pub fn new(data: Option<DataChannel>, counters: Arc<ChannelCounters>) -> Self {
        Self {
            ice_connected: false,
            role: None,
            fingerprints: Vec::new(),
            stage: Stage::Waiting(data.map(Box::new)),
            early: VecDeque::new(),
            connected: None,
            failed: false,
            outputs: VecDeque::new(),
            datagrams: Bucket::new(DATAGRAMS),
            counters,
        }
    }

    /// Whether ICE was connected at some time.
    pub fn ice_connected(&self) -> bool {
        self.ice_connected
    }

    /// When the handshake ended well.
    pub fn connected(&self) -> Option<Instant> {
        self.connected
    }

    /// The peer's fingerprints and, where it said one, the role that is left for us. Fingerprints of weak hash functions
    /// are not taken; without another one no handshake starts.
    pub fn set_remote(
        &mut self,
        now: Instant,
        certificate: &Certificate,
        role: Option<DtlsRole>,
        fingerprints: Vec<Fingerprint>,
    ) {
        let given = fingerprints.len();
        self.fingerprints = fingerprints.into_iter().filter(Fingerprint::is_strong).take(FINGERPRINTS).collect();
        if given > 0 && self.fingerprints.is_empty() && matches!(self.stage, Stage::Waiting(_)) {
            // A later one may be better.
            let error = DtlsError::NoUsableFingerprint;
            self.emit(DtlsTransportEvent::Failed { error, before: true });
        }
        self.role = role.or(self.role);
        self.start(now, certificate);
    }

    /// Packets can flow; true the first time.
    pub fn set_ice_connected(&mut self, now: Instant, certificate: &Certificate) -> bool {
        let first = !std::mem::replace(&mut self.ice_connected, true);
        self.start(now, certificate);
        first
    }

    /// Starts the handshake once packets can flow and both sides know their role.
    fn start(&mut self, now: Instant, certificate: &Certificate) {
        let Some(role) = self.role else { return };
        if !self.ice_connected || self.fingerprints.is_empty() || self.failed {
            return;
        }
        let Stage::Waiting(data) = &mut self.stage else { return };
        match DtlsSession::new(now, certificate, role, self.fingerprints.clone()) {
            Ok(session) => {
                let mut here = SecuredChannel::new(session, data.take().map(|data| *data), Arc::clone(&self.counters));
                for datagram in self.early.drain(..) {
                    here.handle_datagram(now, &datagram);
                }
                // Also what is due at once.
                here.handle_timeout(now);
                self.stage = Stage::Here(Box::new(here));
                self.drain(now);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Takes a datagram of the peer.
    pub fn handle_datagram(&mut self, now: Instant, datagram: Vec<u8>) {
        if !self.datagrams.take(now, 1) {
            self.counters.count(Counted::Datagrams);
            return;
        }
        match &mut self.stage {
            Stage::Here(here) => here.handle_datagram(now, &datagram),
            Stage::Kept(kept) => return kept.handle_datagram(&datagram),
            // Media has the keys; nobody else needs the session.
            Stage::Gone => {
                if !self.failed {
                    self.counters.count(Counted::HandedOver);
                }
                return;
            }
            Stage::Waiting(_) => {
                if !self.failed && self.early.len() < EARLY_DATAGRAMS {
                    self.early.push_back(datagram);
                }
                return;
            }
        }
        self.drain(now);
    }

    /// Takes what a keeper says of the session; nothing of one that does not have it.
    pub fn handle_kept(&mut self, keeper: KeeperNumber, event: KeptEvent) {
        let Stage::Kept(kept) = &mut self.stage else { return };
        if kept.keeper() != keeper {
            return;
        }
        match event {
            KeptEvent::Datagram(datagram) => self.outputs.push_back(DtlsTransportOutput::Datagram(datagram)),
            KeptEvent::Opened => {
                kept.set_open(true);
                self.emit(DtlsTransportEvent::ChannelOpened);
            }
            KeptEvent::Text(text) => self.emit(DtlsTransportEvent::Text(text)),
            KeptEvent::Closed { stalled } => {
                kept.set_open(false);
                self.emit(if stalled { DtlsTransportEvent::ChannelStalled } else { DtlsTransportEvent::ChannelClosed });
            }
            KeptEvent::Ended(error) => {
                self.end_kept();
                self.fail(error);
            }
            KeptEvent::Lost => self.end_kept(),
        }
    }

    fn end_kept(&mut self) {
        if let Stage::Kept(kept) = std::mem::replace(&mut self.stage, Stage::Gone)
            && kept.end()
        {
            self.emit(DtlsTransportEvent::ChannelClosed);
        }
    }

    /// Lets time pass, and sends what was written.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Stage::Here(here) = &mut self.stage {
            here.handle_timeout(now);
            self.drain(now);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Stage::Here(here) = &self.stage { here.poll_timeout() } else { None }
    }

    /// Writes a message to the data channel, and counts it where that fails; [`Self::handle_timeout`] sends it. One `of_others`
    /// gives way first.
    pub fn write(&mut self, of_others: bool, text: impl FnOnce() -> Utf8Bytes) -> Written {
        match &mut self.stage {
            Stage::Here(here) => here.write(of_others, text),
            Stage::Kept(kept) => kept.write(of_others, text),
            Stage::Waiting(_) | Stage::Gone => Written::NotSent,
        }
    }

    /// Closes the data channel; [`Self::handle_timeout`] signals that to the peer.
    #[cfg(test)]
    pub fn close_channel(&mut self) {
        match &mut self.stage {
            Stage::Here(here) => here.close_channel(),
            Stage::Kept(kept) => kept.close(),
            Stage::Waiting(_) | Stage::Gone => {}
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<DtlsTransportOutput> {
        self.outputs.pop_front()
    }

    fn drain(&mut self, now: Instant) {
        let Stage::Here(here) = &mut self.stage else { return };
        let mut failure = None;
        while let Some(output) = here.poll_output() {
            self.outputs.push_back(match output {
                SecuredOutput::Datagram(datagram) => DtlsTransportOutput::Datagram(datagram),
                SecuredOutput::Keys(keys) => {
                    self.connected = Some(now);
                    DtlsTransportOutput::Keys(keys)
                }
                SecuredOutput::Opened => DtlsTransportOutput::Event(DtlsTransportEvent::ChannelOpened),
                SecuredOutput::Text(text) => DtlsTransportOutput::Event(DtlsTransportEvent::Text(text)),
                SecuredOutput::Closed => DtlsTransportOutput::Event(DtlsTransportEvent::ChannelClosed),
                SecuredOutput::Failed(error) => {
                    failure = Some(error);
                    break;
                }
            });
        }
        if let Some(error) = failure {
            self.fail(error);
        }
    }

    fn emit(&mut self, event: DtlsTransportEvent) {
        self.outputs.push_back(DtlsTransportOutput::Event(event));
    }

    fn fail(&mut self, error: DtlsError) {
        self.stage = Stage::Gone;
        self.failed = true;
        self.emit(DtlsTransportEvent::Failed { error, before: self.connected.is_none() });
    }
}
