//! The bridge channel over SCTP (docs/protocol/bridge.md 5.1; RFC 8831, RFC 9260): packets and the time in, packets and
//! messages out. The client opens it; there is one per endpoint, and a newer one takes its place. Between two bridges one of
//! them is the client (docs/protocol/bridge.md 10). No I/O.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, Chunks, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent, Transmit, TransportConfig,
};

use super::counters::{ChannelCounters, Counted};
use super::dcep::{self, Open};
use super::reception::{Reception, Verdict, init_tag};

/// Largest message that SCTP puts together, bytes; a longer one ends the association. Also what SDP announces to clients (RFC 8841).
pub const MAX_SCTP_MESSAGE: usize = 256 * 1024;
/// Memory for messages that are not complete yet, bytes.
const RECEIVE_BUFFER: u32 = 2 * MAX_SCTP_MESSAGE as u32;
/// Payload of one packet, bytes: 1,200 less DTLS (48) and SCTP's own headers (40).
const MAX_PAYLOAD: u32 = 1_112;
/// Streams that a client may touch; each costs memory, and it needs one.
const MAX_STREAMS: usize = 64;
/// Retransmission timeouts, milliseconds: first guess, least, most.
const RTO: [u64; 3] = [500, 400, 3_000];
/// Stream of the channel that we open ourselves.
const OWN_STREAM: u16 = 0;
/// A client starts over when nothing comes for so long while data is not acknowledged: the server may have forgotten the
/// association, and says nothing about it.
const SILENCE: Duration = Duration::from_secs(20);
/// Wait before an association that we started and that ended is started anew.
const START_AGAIN: Duration = Duration::from_secs(1);

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

/// Which side of the association we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// We wait for INIT and for OPEN.
    Server,
    /// We send both; `at` is when the next association begins, if one is to begin.
    Client { at: Option<Instant> },
}

/// One endpoint's association and its channel.
pub struct DataChannel {
    side: Side,
    sctp: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    /// The peer's Initiate Tag: another one is another association.
    peer_tag: Option<u32>,
    /// Stream of the open channel.
    channel: Option<u16>,
    /// The channel was closed: a client starts over.
    closed: bool,
    /// Since when data waits for an acknowledgement and nothing comes.
    silent: Option<Instant>,
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

fn transport() -> Arc<TransportConfig> {
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
    Arc::new(transport)
}

/// What all associations are made with: as either side, as the server, as the client.
struct Config(Arc<EndpointConfig>, Arc<ServerConfig>, ClientConfig);

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let mut endpoint = EndpointConfig::new();
        endpoint.max_payload_size(MAX_PAYLOAD);
        let mut server = ServerConfig::new();
        server.transport = transport();
        let mut client = ClientConfig::new();
        client.transport = Arc::clone(&server.transport);
        Config(Arc::new(endpoint), Arc::new(server), client)
    })
}

fn sctp(side: Side) -> Endpoint {
    let Config(endpoint, server, _) = config();
    Endpoint::new(Arc::clone(endpoint), (side == Side::Server).then(|| Arc::clone(server)))
}

/// The library distinguishes peers by address; there is one.
fn peer() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 5000))
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
        Self::of(Side::Server, counters)
    }

    /// Is the client itself: opens the association and the channel once packets can flow, and again when either is lost.
    pub fn client(counters: Arc<ChannelCounters>) -> Self {
        Self::of(Side::Client { at: None }, counters)
    }

    fn of(side: Side, counters: Arc<ChannelCounters>) -> Self {
        Self {
            side,
            sctp: sctp(side),
            association: None,
            peer_tag: None,
            channel: None,
            closed: false,
            silent: None,
            outputs: VecDeque::new(),
            reception: Reception::default(),
            counters,
        }
    }

    /// Whether we open it ourselves.
    pub fn is_client(&self) -> bool {
        matches!(self.side, Side::Client { .. })
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Packets can flow: a client begins.
    pub fn start(&mut self, now: Instant) {
        if let Side::Client { at } = &mut self.side
            && self.association.is_none()
        {
            *at = Some(now);
            self.handle_timeout(now);
        }
    }

    /// Takes one SCTP packet of the peer.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.silent = None;
        match self.reception.receive(now, packet) {
            Verdict::Take => {}
            Verdict::TooFast => {
                self.counters.count(Counted::Chunks);
                return;
            }
            Verdict::TooMuchHeld => {
                self.counters.count(Counted::Fragments);
                return self.start_over(now);
            }
        }
        if let Some(tag) = init_tag(packet) {
            if self.side != Side::Server {
                // Two clients: the other one is not what signalling said.
                self.counters.count(Counted::SctpDropped);
                return;
            }
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
                self.start_over(now);
                self.peer_tag = Some(tag);
            }
        }
        match self.sctp.handle(now, peer(), None, None, Bytes::copy_from_slice(packet)) {
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
        if let Side::Client { at } = &mut self.side
            && at.take_if(|at| *at <= now).is_some()
        {
            self.forget();
            match self.sctp.connect(config().2.clone(), peer()) {
                Ok(association) => self.association = Some(association),
                Err(error) => {
                    tracing::error!(%error, "SCTP cannot be started towards another bridge; please report it");
                    self.side = Side::Client { at: Some(now + START_AGAIN) };
                }
            }
        }
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.advance(now);
        if self.side != Side::Server && self.buffered() > 0 {
            let since = *self.silent.get_or_insert(now);
            if now.saturating_duration_since(since) >= SILENCE {
                self.start_over(now);
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let again = if let Side::Client { at } = self.side { at } else { None };
        let association = self.association.as_ref().and_then(|(_, association)| association.poll_timeout());
        again.into_iter().chain(association).min()
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

    /// Closes the channel; [`Self::handle_timeout`] signals that to the peer.
    pub fn close(&mut self) {
        if let (Some(channel), Some((_, association))) = (self.channel.take(), &mut self.association) {
            if let Err(error) = association.stream(channel).and_then(|mut stream| stream.close()) {
                tracing::debug!(%error, "data channel cannot be reset");
            }
            self.outputs.push_back(DataChannelOutput::Closed);
            self.closed = true;
        }
    }

    /// Forgets the association; a new one may follow, which a client begins itself.
    fn start_over(&mut self, now: Instant) {
        if let Side::Client { at } = &mut self.side {
            *at = Some(now + START_AGAIN);
        }
        self.forget();
    }

    fn forget(&mut self) {
        (self.closed, self.silent) = (false, None);
        if self.association.take().is_some() {
            self.sctp = sctp(self.side);
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
                    Event::Connected => {
                        tracing::debug!("SCTP association up");
                        if self.side != Side::Server && !open(association) {
                            lost = true;
                        }
                    }
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
                            side: self.side,
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
                        self.closed = true;
                    }
                    _ => {}
                }
            }
            while let Some(transmit) = association.poll_transmit(now) {
                packets(transmit, &mut self.reception, &mut self.outputs);
            }
        }
        if lost || (self.closed && self.side != Side::Server) {
            self.start_over(now);
        }
    }
}

/// Asks for the channel; whether it could be asked for.
fn open(association: &mut Association) -> bool {
    let message = Open::of_relay().write();
    association
        .open_stream(OWN_STREAM, PayloadProtocolIdentifier::String)
        .and_then(|mut stream| stream.write_with_ppi(&message, PayloadProtocolIdentifier::Dcep))
        .inspect_err(|error| tracing::debug!(%error, "no data channel can be opened"))
        .is_ok()
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
    side: Side,
    channel: &'a mut Option<u16>,
    reception: &'a mut Reception,
    outputs: &'a mut VecDeque<DataChannelOutput>,
    counters: &'a ChannelCounters,
}

impl Reader<'_> {
    /// Reads the complete messages of one stream.
    fn read(self, association: &mut Association, id: u16) {
        let Self { now, side, channel, reception, outputs, counters } = self;
        loop {
            // The stream may be gone: a reset that came with the message.
            let message = match association.stream(id).and_then(|mut stream| stream.read_sctp()) {
                Ok(Some(message)) => message,
                Ok(None) | Err(_) => return,
            };
            match message.ppi {
                PayloadProtocolIdentifier::Dcep if side != Side::Server => {
                    let accepted =
                        id == OWN_STREAM && channel.is_none() && content(&message).is_some_and(|m| m == dcep::ACK);
                    if accepted {
                        *channel = Some(id);
                        outputs.push_back(DataChannelOutput::Opened);
                    } else {
                        counters.count(Counted::Malformed);
                    }
                }
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
