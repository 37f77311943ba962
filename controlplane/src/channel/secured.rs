//! A DTLS session and the bridge channel inside it: the time, datagrams and messages in, [`SecuredOutput`]s out. No I/O, so that it
//! lives as well in the bridge as in a process that the bridge came from ([`super::keeper`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::srtp::SrtpKeys;

use super::counters::{ChannelCounters, Counted};
use super::data::{DataChannel, DataChannelOutput, NotSent};
use super::limits::{QUEUED, QUEUED_OF_OTHERS};
use crate::transport::{DtlsError, DtlsOutput, DtlsSession};

/// What became of a message for a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is on its way.
    Sent,
    /// It could not be sent.
    NotSent,
    /// It was left out for what waits.
    GaveWay,
    /// The peer does not read; what carries the channel was closed.
    Stalled,
}

/// How much may wait for a peer, bytes.
pub(super) struct Backlog {
    /// Beyond this, messages of other clients are left out.
    pub of_others: usize,
    /// Beyond this, the channel is to be closed: the peer does not read.
    pub all: usize,
}

impl Backlog {
    /// What becomes of one more message where so many bytes wait, if it may not join them; counted.
    pub fn refuses(&self, waiting: usize, of_others: bool, counters: &ChannelCounters) -> Option<Written> {
        let (counted, written) = if of_others && waiting > self.of_others {
            (Counted::Unread, Written::GaveWay)
        } else if waiting > self.all {
            (Counted::Stalled, Written::Stalled)
        } else {
            return None;
        };
        counters.count(counted);
        Some(written)
    }
}

/// Bytes of messages that the peer has not acknowledged.
const UNACKNOWLEDGED: Backlog = Backlog { of_others: QUEUED_OF_OTHERS, all: QUEUED };

/// Something that the caller must do, in order.
#[derive(Debug)]
pub enum SecuredOutput {
    /// Send this datagram.
    Datagram(Vec<u8>),
    /// The handshake is done: media can be encrypted.
    Keys(SrtpKeys),
    /// The channel is open.
    Opened,
    /// A text message came on it.
    Text(Vec<u8>),
    /// It is closed.
    Closed,
    /// The handshake, or the session, failed; nothing follows.
    Failed(DtlsError),
}

/// A session with what is inside it.
#[derive(Debug)]
pub struct SecuredChannel {
    session: DtlsSession,
    data: Option<DataChannel>,
    connected: bool,
    outputs: VecDeque<SecuredOutput>,
    counters: Arc<ChannelCounters>,
}

impl SecuredChannel {
    /// Over a session that begins; `data` is the channel where signalling asked for one.
    pub fn new(session: DtlsSession, data: Option<DataChannel>, counters: Arc<ChannelCounters>) -> Self {
        Self { session, data, connected: false, outputs: VecDeque::new(), counters }
    }

    /// Whether the handshake has ended well.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The channel, or what waits for one to be opened.
    pub fn channel(&self) -> Option<&DataChannel> {
        self.data.as_ref()
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.data.as_ref().is_some_and(DataChannel::is_open)
    }

    /// Takes a datagram of the peer.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        self.session.handle_datagram(now, datagram);
        self.drain(now);
    }

    /// Lets time pass, and sends what was written.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        if let Some(data) = &mut self.data {
            data.handle_timeout(now);
        }
        self.drain(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let data = self.data.as_ref().and_then(DataChannel::poll_timeout);
        self.session.poll_timeout().into_iter().chain(data).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SecuredOutput> {
        self.outputs.pop_front()
    }

    /// Writes a message, and counts it where that fails; [`Self::handle_timeout`] sends it. One `of_others` gives way first.
    pub fn write(&mut self, of_others: bool, text: impl FnOnce() -> Utf8Bytes) -> Written {
        let buffered = self.data.as_mut().map_or(0, DataChannel::buffered);
        if let Some(refused) = UNACKNOWLEDGED.refuses(buffered, of_others, &self.counters) {
            if refused == Written::Stalled {
                self.close_channel();
            }
            return refused;
        }
        match self.data.as_mut().ok_or(NotSent::Closed).and_then(|data| data.send(&text())) {
            Ok(()) => return Written::Sent,
            Err(NotSent::TooLarge) => self.counters.count(Counted::Oversized),
            // Its end is on its way to us.
            Err(NotSent::Closed) => {}
        }
        Written::NotSent
    }

    /// Closes the channel; [`Self::handle_timeout`] signals that to the peer.
    pub fn close_channel(&mut self) {
        if let Some(data) = &mut self.data {
            data.close();
        }
    }

    fn drain(&mut self, now: Instant) {
        let mut failure = None;
        loop {
            if let Some(output) = self.session.poll_output() {
                match output {
                    DtlsOutput::Datagram(datagram) => self.outputs.push_back(SecuredOutput::Datagram(datagram)),
                    DtlsOutput::Connected(keys) => {
                        self.connected = true;
                        if let Some(data) = &mut self.data {
                            data.start(now);
                        }
                        self.outputs.push_back(SecuredOutput::Keys(keys));
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
                    DataChannelOutput::Packet(packet) => self.session.send(now, &packet),
                    DataChannelOutput::Opened => self.outputs.push_back(SecuredOutput::Opened),
                    DataChannelOutput::Text(text) => self.outputs.push_back(SecuredOutput::Text(text)),
                    DataChannelOutput::Closed => self.outputs.push_back(SecuredOutput::Closed),
                }
            } else {
                break;
            }
        }
        if let Some(error) = failure {
            if self.data.take().is_some_and(|data| data.is_open()) {
                self.outputs.push_back(SecuredOutput::Closed);
            }
            self.outputs.push_back(SecuredOutput::Failed(error));
        }
    }
}
