//! The bridge channel over SCTP (docs/protocol/bridge.md 5.1; RFC 8831, RFC 9260): packets and the time in, packets and
//! messages out. The client opens it; there is one per endpoint, and a newer one takes its place. No I/O.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, Chunks, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent, Transmit, TransportConfig,
};

use super::counters::{ChannelCounters, Counted};
use super::dcep::{self, Open};
use super::reception::{Reception, Verdict, init_tag};

/// Largest message that SCTP puts together, bytes; a longer one ends the association. What clients are told (RFC 8841).
pub const MAX_SCTP_MESSAGE: usize = 256 * 1024;
/// Memory for messages that are not complete yet, bytes.
const RECEIVE_BUFFER: u32 = 2 * MAX_SCTP_MESSAGE as u32;
/// Payload of one packet, bytes: 1,200 less DTLS (48) and SCTP's own headers (40).
const MAX_PAYLOAD: u32 = 1_112;
/// Streams that a client may touch; each costs memory, and it needs one.
const MAX_STREAMS: usize = 64;
/// Retransmission timeouts, milliseconds: first guess, least, most.
const RTO: [u64; 3] = [500, 400, 3_000];

/// What the channel wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataChannelOutput {
    /// Send this SCTP packet to the peer.
    Packet(Vec<u8>),
    /// The client opened the channel, or opened it anew.
    Opened,
    /// A text message.
    Text(Vec<u8>),
    /// The channel is closed.
    Closed,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// There is no open channel.
    #[error("the data channel is not open")]
    Closed,
    /// It is larger than [`MAX_SCTP_MESSAGE`].
    #[error("the message is larger than 262,144 bytes")]
    TooLarge,
}

/// One endpoint's association and its channel.
pub struct DataChannel {
    sctp: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    /// The peer's Initiate Tag: another one is another association.
    peer_tag: Option<u32>,
    /// Stream of the open channel.
    channel: Option<u16>,
    outputs: VecDeque<DataChannelOutput>,
    reception: Reception,
    counters: Arc<ChannelCounters>,
}

impl std::fmt::Debug for DataChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataChannel")
            .field("association", &self.association.is_some())
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

fn sctp() -> Endpoint {
    static CONFIG: OnceLock<(Arc<EndpointConfig>, Arc<ServerConfig>)> = OnceLock::new();
    let (endpoint, server) = CONFIG.get_or_init(|| {
        let [initial, least, most] = RTO;
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_BUFFER)
            .with_max_receive_message_size(MAX_SCTP_MESSAGE as u32)
            .with_max_send_message_size(MAX_SCTP_MESSAGE as u32)
            // Whether the peer is there is for ICE to say.
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None)
            .with_rto_initial_ms(initial)
            .with_rto_min_ms(least)
            .with_rto_max_ms(most);
        let mut endpoint = EndpointConfig::new();
        endpoint.max_payload_size(MAX_PAYLOAD);
        let mut server = ServerConfig::new();
        server.transport = Arc::new(transport);
        (Arc::new(endpoint), Arc::new(server))
    });
    Endpoint::new(Arc::clone(endpoint), Some(Arc::clone(server)))
}

impl Default for DataChannel {
    /// With counters of its own.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl DataChannel {
    /// Waits for the client's INIT.
    pub fn new(counters: Arc<ChannelCounters>) -> Self {
        Self {
            sctp: sctp(),
            association: None,
            peer_tag: None,
            channel: None,
            outputs: VecDeque::new(),
            reception: Reception::default(),
            counters,
        }
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Takes one SCTP packet of the peer.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        match self.reception.receive(now, packet) {
            Verdict::Take => {}
            Verdict::TooFast => {
                self.counters.count(Counted::Chunks);
                return;
            }
            Verdict::TooMuchHeld => {
                self.counters.count(Counted::Fragments);
                return self.start_over();
            }
        }
        if let Some(tag) = init_tag(packet) {
            let known = self.peer_tag == Some(tag);
            if known && self.association.as_ref().is_some_and(|(_, a)| !a.is_handshaking()) {
                // Overtaken by what followed it; the library would take it for an error.
                return;
            }
            if !known {
                if !self.reception.begin(now) {
                    self.counters.count(Counted::Associations);
                    return;
                }
                self.start_over();
                self.peer_tag = Some(tag);
            }
        }
        // The library tells peers apart by address; there is one.
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
        match self.sctp.handle(now, peer, None, None, Bytes::copy_from_slice(packet)) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.association = Some((handle, association));
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = &mut self.association {
                    association.handle_event(event);
                }
            }
            None => {
                self.counters.count(Counted::SctpDropped);
            }
        }
        self.advance(now);
    }

    /// Lets time pass, and sends what was written.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.advance(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref().and_then(|(_, association)| association.poll_timeout())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<DataChannelOutput> {
        self.outputs.pop_front()
    }

    /// Writes a text message; [`Self::handle_timeout`] sends it.
    pub fn send(&mut self, text: &str) -> Result<(), NotSent> {
        if text.len() > MAX_SCTP_MESSAGE {
            return Err(NotSent::TooLarge);
        }
        let (Some(channel), Some((_, association))) = (self.channel, &mut self.association) else {
            return Err(NotSent::Closed);
        };
        let written = association
            .stream(channel)
            .and_then(|mut stream| stream.write_with_ppi(text.as_bytes(), PayloadProtocolIdentifier::String));
        match written {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "data channel does not take a message");
                Err(NotSent::Closed)
            }
        }
    }

    /// Bytes written that the peer has not acknowledged.
    pub fn buffered(&mut self) -> usize {
        let (Some(channel), Some((_, association))) = (self.channel, &mut self.association) else { return 0 };
        association.stream(channel).and_then(|stream| stream.buffered_amount()).unwrap_or(0)
    }

    /// Closes the channel; [`Self::handle_timeout`] tells the peer.
    pub fn close(&mut self) {
        if let (Some(channel), Some((_, association))) = (self.channel.take(), &mut self.association) {
            if let Err(error) = association.stream(channel).and_then(|mut stream| stream.close()) {
                tracing::debug!(%error, "data channel cannot be reset");
            }
            self.outputs.push_back(DataChannelOutput::Closed);
        }
    }

    /// Forgets the association; a new one may follow.
    fn start_over(&mut self) {
        if self.association.take().is_some() {
            self.sctp = sctp();
        }
        self.reception.restart();
        self.peer_tag = None;
        if self.channel.take().is_some() {
            self.outputs.push_back(DataChannelOutput::Closed);
        }
    }

    fn advance(&mut self, now: Instant) {
        while let Some(transmit) = self.sctp.poll_transmit() {
            packets(transmit, &mut self.reception, &mut self.outputs);
        }
        let mut lost = false;
        if let Some((handle, association)) = &mut self.association {
            while let Some(event) = association.poll_endpoint_event() {
                if let Some(event) = self.sctp.handle_event(*handle, event) {
                    association.handle_event(event);
                }
            }
            while let Some(event) = association.poll() {
                match event {
                    Event::Connected => tracing::debug!("SCTP association up"),
                    Event::AssociationLost { reason } | Event::HandshakeFailed { reason } => {
                        tracing::debug!(%reason, "SCTP association lost");
                        lost = true;
                    }
                    Event::Stream(StreamEvent::Opened { .. }) => {
                        // The library keeps a list of them for whoever asks.
                        while association.accept_stream().is_some() {}
                        if association.stream_ids().len() > MAX_STREAMS {
                            self.counters.count(Counted::SctpRefused);
                            lost = true;
                        }
                    }
                    Event::Stream(StreamEvent::Readable { id }) => {
                        let reader = Reader {
                            now,
                            channel: &mut self.channel,
                            reception: &mut self.reception,
                            outputs: &mut self.outputs,
                            counters: &self.counters,
                        };
                        reader.read(association, id);
                    }
                    Event::Stream(StreamEvent::Finished { id }) if self.channel == Some(id) => {
                        self.channel = None;
                        self.outputs.push_back(DataChannelOutput::Closed);
                    }
                    _ => {}
                }
            }
            while let Some(transmit) = association.poll_transmit(now) {
                packets(transmit, &mut self.reception, &mut self.outputs);
            }
        }
        if lost {
            self.start_over();
        }
    }
}

/// Passes on what the library sends.
fn packets(transmit: Transmit, reception: &mut Reception, outputs: &mut VecDeque<DataChannelOutput>) {
    if let Payload::RawEncode(packets) = transmit.payload {
        for packet in packets {
            reception.send(&packet, RECEIVE_BUFFER);
            outputs.push_back(DataChannelOutput::Packet(packet.to_vec()));
        }
    }
}

/// Where messages go.
struct Reader<'a> {
    now: Instant,
    channel: &'a mut Option<u16>,
    reception: &'a mut Reception,
    outputs: &'a mut VecDeque<DataChannelOutput>,
    counters: &'a ChannelCounters,
}

impl Reader<'_> {
    /// Reads the complete messages of one stream.
    fn read(self, association: &mut Association, id: u16) {
        let Self { now, channel, reception, outputs, counters } = self;
        loop {
            // The stream may be gone: a reset that came with the message.
            let message = match association.stream(id).and_then(|mut stream| stream.read_sctp()) {
                Ok(Some(message)) => message,
                Ok(None) | Err(_) => return,
            };
            match message.ppi {
                PayloadProtocolIdentifier::Dcep => {
                    let Some(open) = content(&message).and_then(|message| Open::parse(&message)) else {
                        // An ACK answers nothing that we sent; the rest is none of the protocol's.
                        counters.count(Counted::Malformed);
                        continue;
                    };
                    // Each is answered with all that a client must know.
                    if !reception.begin(now) {
                        counters.count(Counted::Associations);
                        continue;
                    }
                    if accept(association, id, &open) {
                        tracing::debug!(stream = id, label = %open.label, protocol = %open.protocol, "data channel opened");
                        if let Some(former) = channel.replace(id) {
                            counters.count(Counted::DataChannelsReplaced);
                            if former != id {
                                let _ = association.stream(former).and_then(|mut stream| stream.close());
                            }
                            outputs.push_back(DataChannelOutput::Closed);
                        }
                        outputs.push_back(DataChannelOutput::Opened);
                    }
                }
                PayloadProtocolIdentifier::String if *channel == Some(id) => match content(&message) {
                    Some(text) => outputs.push_back(DataChannelOutput::Text(text)),
                    None => {
                        counters.count(Counted::Oversized);
                    }
                },
                // Binary, empty, or not on the channel.
                _ => {
                    counters.count(Counted::Malformed);
                }
            }
        }
    }
}

/// Answers an OPEN; what we send follows the reliability that it asked for.
fn accept(association: &mut Association, id: u16, open: &Open) -> bool {
    let Ok(mut stream) = association.stream(id) else { return false };
    // RFC 8832 section 6: the answer itself is ordered and reliable.
    stream.write_with_ppi(dcep::ACK, PayloadProtocolIdentifier::Dcep).is_ok()
        && stream.set_reliability_params(open.unordered, open.reliability(), open.parameter).is_ok()
}

/// A message in one piece; `None` when it is longer than a message may be.
fn content(message: &Chunks) -> Option<Vec<u8>> {
    if message.len() > super::MAX_MESSAGE {
        return None;
    }
    let mut content = vec![0; message.len()];
    message.read(&mut content).ok()?;
    Some(content)
}
