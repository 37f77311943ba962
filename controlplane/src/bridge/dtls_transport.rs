//! The secured side of one endpoint: DTLS over the worker's datagrams, and the data channel inside it.
//! A state machine: signalling, datagrams, messages and the time in, [`DtlsTransportOutput`]s out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::srtp::SrtpKeys;
use serde::{Deserialize, Serialize};

use crate::channel::limits::{DATAGRAMS, QUEUED, QUEUED_OF_OTHERS};
use crate::channel::{ChannelCounters, Counted, DataChannel, DataChannelOutput, NotSent};
use crate::pace::Bucket;
use crate::transport::{Certificate, DtlsError, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};

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
}

/// What became of a message for a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is on its way.
    Sent,
    /// It could not be sent.
    NotSent,
    /// It was left out for what waits.
    GaveWay,
    /// The peer does not read; what carries the channel was closed.
    Stalled,
}

/// DTLS, SCTP and what is known of the peer before they start.
#[derive(Debug)]
pub(super) struct DtlsTransport {
    ice_connected: bool,
    role: Option<DtlsRole>,
    fingerprints: Vec<Fingerprint>,
    session: Option<DtlsSession>,
    early: VecDeque<Vec<u8>>,
    connected: Option<Instant>,
    failed: bool,
    data: Option<DataChannel>,
    outputs: VecDeque<DtlsTransportOutput>,
    /// Datagrams that the peer may still send.
    datagrams: Bucket,
    counters: Arc<ChannelCounters>,
}

/// What another process needs of a [`DtlsTransport`]. The session stays behind: media has its keys already, and a handshake that is
/// not finished begins anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DtlsState {
    ice_connected: bool,
    role: Option<DtlsRole>,
    fingerprints: Vec<Fingerprint>,
    #[serde(with = "crate::carried")]
    connected: Option<Instant>,
    failed: bool,
    data: Option<DataSide>,
}

/// Which side of a data channel we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum DataSide {
    Server,
    Client,
}

impl DtlsTransport {
    /// What another process needs of it.
    pub fn state(&self) -> DtlsState {
        let Self {
            session: _,
            // Sent again by the peer.
            early: _,
            outputs: _,
            datagrams: _,
            counters: _,
            ice_connected,
            role,
            fingerprints,
            connected,
            failed,
            data,
        } = self;
        // Once there are keys the channel stays behind with its session.
        let data = data.as_ref().filter(|_| connected.is_none());
        let side = |data: &DataChannel| if data.is_client() { DataSide::Client } else { DataSide::Server };
        DtlsState {
            ice_connected: *ice_connected,
            role: *role,
            fingerprints: fingerprints.clone(),
            connected: *connected,
            failed: *failed,
            data: data.map(side),
        }
    }

    /// Goes on where another process was.
    pub fn take_over(&mut self, state: DtlsState) {
        let DtlsState { ice_connected, role, fingerprints, connected, failed, data } = state;
        (self.ice_connected, self.role, self.connected, self.failed) = (ice_connected, role, connected, failed);
        self.fingerprints = fingerprints.into_iter().filter(Fingerprint::is_strong).take(FINGERPRINTS).collect();
        self.data = data.filter(|_| connected.is_none()).map(|side| match side {
            DataSide::Server => DataChannel::new(Arc::clone(&self.counters)),
            DataSide::Client => DataChannel::client(Arc::clone(&self.counters)),
        });
    }

    /// Whether a handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_some() && self.connected.is_none()
    }

    /// Whether the peer has a data channel.
    pub fn has_open_channel(&self) -> bool {
        self.data.as_ref().is_some_and(DataChannel::is_open)
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
            session: None,
            early: VecDeque::new(),
            connected: None,
            failed: false,
            data,
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
        if given > 0 && self.fingerprints.is_empty() && self.session.is_none() && !self.failed {
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
        let done = self.session.is_some() || self.failed || self.connected.is_some();
        if !self.ice_connected || done || self.fingerprints.is_empty() {
            return;
        }
        match DtlsSession::new(now, certificate, role, self.fingerprints.clone()) {
            Ok(mut session) => {
                for datagram in self.early.drain(..) {
                    session.handle_datagram(now, &datagram);
                }
                self.session = Some(session);
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
        match &mut self.session {
            Some(session) => session.handle_datagram(now, &datagram),
            // Media has the keys; nobody else needs the session.
            None if self.connected.is_some() && !self.failed => return self.counters.count(Counted::HandedOver),
            None => {
                if !self.failed && self.early.len() < EARLY_DATAGRAMS {
                    self.early.push_back(datagram);
                }
                return;
            }
        }
        self.drain(now);
    }

    /// Lets time pass, and sends what was written.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.handle_timeout(now);
            if let Some(data) = &mut self.data {
                data.handle_timeout(now);
            }
            self.drain(now);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let session = self.session.as_ref()?;
        [session.poll_timeout(), self.data.as_ref().and_then(DataChannel::poll_timeout)].into_iter().flatten().min()
    }

    /// Writes a message to the data channel, and counts it where that fails; [`Self::handle_timeout`] sends it. One `of_others`
    /// gives way first.
    pub fn write(&mut self, of_others: bool, text: impl FnOnce() -> Utf8Bytes) -> Written {
        // Bytes of messages that the peer has not acknowledged.
        let buffered = self.data.as_mut().map_or(0, DataChannel::buffered);
        if of_others && buffered > QUEUED_OF_OTHERS {
            self.counters.count(Counted::Unread);
            return Written::GaveWay;
        }
        if buffered > QUEUED {
            self.counters.count(Counted::Stalled);
            self.close_channel();
            return Written::Stalled;
        }
        match self.data.as_mut().ok_or(NotSent::Closed).and_then(|data| data.send(&text())) {
            Ok(()) => return Written::Sent,
            Err(NotSent::TooLarge) => self.counters.count(Counted::Oversized),
            // Its end is on its way to us.
            Err(NotSent::Closed) => {}
        }
        Written::NotSent
    }

    /// Closes the data channel; [`Self::handle_timeout`] signals that to the client.
    pub fn close_channel(&mut self) {
        if let Some(data) = &mut self.data {
            data.close();
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<DtlsTransportOutput> {
        self.outputs.pop_front()
    }

    fn drain(&mut self, now: Instant) {
        let mut failure = None;
        while let Some(session) = &mut self.session {
            if let Some(output) = session.poll_output() {
                match output {
                    DtlsOutput::Datagram(datagram) => self.outputs.push_back(DtlsTransportOutput::Datagram(datagram)),
                    DtlsOutput::Connected(keys) => {
                        self.connected = Some(now);
                        if let Some(data) = &mut self.data {
                            data.start(now);
                        }
                        self.outputs.push_back(DtlsTransportOutput::Keys(keys));
                    }
                    DtlsOutput::ApplicationData(packet) => {
                        if let Some(data) = &mut self.data {
                            data.handle_packet(now, &packet);
                        }
                    }
                    DtlsOutput::Failed(error) => failure = Some(error),
                }
            } else if let Some(output) = self.data.as_mut().and_then(DataChannel::poll_output) {
                match output {
                    DataChannelOutput::Packet(packet) => session.send(now, &packet),
                    DataChannelOutput::Opened => self.emit(DtlsTransportEvent::ChannelOpened),
                    DataChannelOutput::Text(text) => self.emit(DtlsTransportEvent::Text(text)),
                    DataChannelOutput::Closed => self.emit(DtlsTransportEvent::ChannelClosed),
                }
            } else {
                break;
            }
        }
        if let Some(error) = failure {
            self.fail(error);
        }
    }

    fn emit(&mut self, event: DtlsTransportEvent) {
        self.outputs.push_back(DtlsTransportOutput::Event(event));
    }

    fn fail(&mut self, error: DtlsError) {
        if self.data.take().is_some_and(|data| data.is_open()) {
            self.emit(DtlsTransportEvent::ChannelClosed);
        }
        self.session = None;
        self.failed = true;
        self.emit(DtlsTransportEvent::Failed { error, before: self.connected.is_none() });
    }
}
