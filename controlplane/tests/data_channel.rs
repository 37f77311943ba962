//! The SCTP data channel in virtual time against a client of the same library, with loss, reordering and bounds; and
//! in real time against `webrtc-sctp`, an independent implementation.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_controlplane::channel::{DataChannel, DataChannelOutput, MAX_MESSAGE, MAX_SCTP_MESSAGE, NotSent};
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, StreamEvent, TransportConfig,
};
use webrtc_data::data_channel::{Config as ChannelConfig, DataChannel as PeerChannel};
use webrtc_sctp::association::{Association as PeerAssociation, Config as PeerConfig};
use webrtc_util::Conn;
use webrtc_util::conn::conn_pipe::pipe;

/// DATA_CHANNEL_OPEN, reliable and ordered.
fn open(label: &str) -> Vec<u8> {
    let mut message = vec![3, 0, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0];
    message.extend_from_slice(label.as_bytes());
    message
}

/// A browser, as far as SCTP goes.
struct Client {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    connected: bool,
    lost: bool,
    closed: bool,
    received: Vec<(PayloadProtocolIdentifier, Vec<u8>)>,
}

impl Client {
    fn new() -> Self {
        Self::with_payload(None)
    }

    /// One that sends its messages in pieces of so many bytes.
    fn with_payload(payload: Option<u32>) -> Self {
        let transport = TransportConfig::default()
            .with_max_send_message_size(4 * MAX_SCTP_MESSAGE as u32)
            .with_max_init_retransmits(None)
            .with_rto_initial_ms(500)
            .with_rto_min_ms(400)
            .with_rto_max_ms(3_000);
        let mut settings = EndpointConfig::new();
        if let Some(payload) = payload {
            settings.max_payload_size(payload);
        }
        let mut endpoint = Endpoint::new(Arc::new(settings), None);
        let mut config = ClientConfig::new();
        config.transport = Arc::new(transport);
        let (handle, association) = endpoint.connect(config, peer()).expect("starts");
        let received = Vec::new();
        Self { endpoint, handle, association, connected: false, lost: false, closed: false, received }
    }

    fn handle(&mut self, now: Instant, packet: &[u8]) {
        let input = self.endpoint.handle(now, peer(), None, None, Bytes::copy_from_slice(packet));
        if let Some((_, DatagramEvent::AssociationEvent(event))) = input {
            self.association.handle_event(event);
        }
    }

    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        while let Some(event) = self.association.poll_endpoint_event() {
            let _ = self.endpoint.handle_event(self.handle, event);
        }
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::AssociationLost { .. } => self.lost = true,
                Event::Stream(StreamEvent::Readable { id }) => {
                    let mut stream = self.association.stream(id).expect("readable");
                    while let Ok(Some(message)) = stream.read_sctp() {
                        let mut content = vec![0; message.len()];
                        message.read(&mut content).expect("fits");
                        self.received.push((message.ppi, content));
                    }
                }
                Event::Stream(StreamEvent::Finished { .. }) => self.closed = true,
                _ => {}
            }
        }
        let mut packets = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(raw) = transmit.payload {
                packets.extend(raw.into_iter().map(|packet| packet.to_vec()));
            }
        }
        packets
    }

    fn write(&mut self, stream: u16, kind: PayloadProtocolIdentifier, content: &[u8]) {
        if self.association.stream(stream).is_err() {
            self.association.open_stream(stream, kind).expect("opens");
        }
        let mut stream = self.association.stream(stream).expect("open");
        assert_eq!(stream.write_with_ppi(content, kind).expect("written"), content.len());
    }

    fn texts(&self) -> Vec<String> {
        let text = |(kind, content): &(PayloadProtocolIdentifier, Vec<u8>)| {
            (*kind == PayloadProtocolIdentifier::String).then(|| String::from_utf8(content.clone()).expect("UTF-8"))
        };
        self.received.iter().filter_map(text).collect()
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5000))
}

/// A client and our channel, with a network between them, in virtual time.
struct World {
    now: Instant,
    client: Client,
    bridge: DataChannel,
    /// Arrival, an order for equal arrivals, whether the bridge is the receiver, the packet.
    network: Vec<(Instant, u64, bool, Vec<u8>)>,
    sequence: u64,
    random: StdRng,
    loss: f64,
    /// Additional delay at most, milliseconds: more than the distance of packets reorders them.
    jitter: u64,
    outputs: VecDeque<DataChannelOutput>,
    largest: usize,
}

impl World {
    fn new(seed: u64, loss: f64, jitter: u64) -> Self {
        Self {
            now: Instant::now(),
            client: Client::new(),
            bridge: DataChannel::default(),
            network: Vec::new(),
            sequence: 0,
            random: StdRng::seed_from_u64(seed),
            loss,
            jitter,
            outputs: VecDeque::new(),
            largest: 0,
        }
    }

    fn send(&mut self, to_bridge: bool, packet: Vec<u8>) {
        if !to_bridge {
            self.largest = self.largest.max(packet.len());
        }
        if self.random.random_bool(self.loss) {
            return;
        }
        let delay = Duration::from_millis(10 + self.random.random_range(0..=self.jitter));
        self.sequence += 1;
        self.network.push((self.now + delay, self.sequence, to_bridge, packet));
    }

    fn settle(&mut self) {
        for packet in self.client.poll(self.now) {
            self.send(true, packet);
        }
        while let Some(output) = self.bridge.poll_output() {
            match output {
                DataChannelOutput::Packet(packet) => self.send(false, packet),
                other => self.outputs.push_back(other),
            }
        }
    }

    /// Runs until `done`, for at most `limit` of virtual time.
    fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        self.bridge.handle_timeout(self.now);
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            let timers = [self.client.association.poll_timeout(), self.bridge.poll_timeout()];
            let arrivals = self.network.iter().map(|(at, ..)| *at).min();
            let Some(next) = timers.into_iter().flatten().chain(arrivals).min() else { return false };
            self.now = self.now.max(next);
            if self.now > end {
                return false;
            }
            self.network.sort_by_key(|(at, order, ..)| (*at, *order));
            while self.network.first().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, _, to_bridge, packet) = self.network.remove(0);
                if to_bridge {
                    self.bridge.handle_packet(self.now, &packet);
                } else {
                    self.client.handle(self.now, &packet);
                }
            }
            self.client.association.handle_timeout(self.now);
            self.bridge.handle_timeout(self.now);
        }
    }

    /// Associates and opens a channel on stream 0.
    fn opened(seed: u64, loss: f64, jitter: u64) -> Self {
        let mut world = Self::new(seed, loss, jitter);
        assert!(world.run(Duration::from_secs(120), |w| w.client.connected), "no association, seed {seed}");
        world.client.write(0, PayloadProtocolIdentifier::Dcep, &open("JVB data channel"));
        let acknowledged = |w: &mut World| w.client.received.iter().any(|(_, content)| content == &[2]);
        assert!(world.run(Duration::from_secs(120), acknowledged), "no acknowledgement, seed {seed}");
        assert_eq!(world.outputs.pop_front(), Some(DataChannelOutput::Opened));
        assert!(world.bridge.is_open());
        world
    }

    fn texts(&mut self) -> Vec<String> {
        let texts = self.outputs.drain(..).map(|output| match output {
            DataChannelOutput::Text(text) => String::from_utf8(text).expect("UTF-8"),
            other => panic!("{other:?}"),
        });
        texts.collect()
    }
}

/// Messages of many sizes, each way, in order and whole.
fn exchange(world: &mut World, seed: u64) {
    let message = |n: usize| format!("{n}:{}", "x".repeat([0, 10, 1_100, 1_200, 5_000, 60_000][n % 6]));
    let (up, down): (Vec<_>, Vec<_>) = ((0..12).map(message).collect(), (6..18).map(message).collect());
    for text in &up {
        world.client.write(0, PayloadProtocolIdentifier::String, text.as_bytes());
    }
    for text in &down {
        world.bridge.send(text).expect("open");
    }
    let all = |w: &mut World| w.client.texts().len() == 12 && w.outputs.len() == 12;
    assert!(
        world.run(Duration::from_secs(600), all),
        "seed {seed}: {} and {}",
        world.client.texts().len(),
        world.outputs.len()
    );
    assert_eq!(world.client.texts(), down, "seed {seed}");
    assert_eq!(world.texts(), up, "seed {seed}");
}

#[test]
fn messages_pass_whole_and_in_order() {
    let mut world = World::opened(1, 0.0, 0);
    exchange(&mut world, 1);
    // With DTLS (37 bytes with AES-GCM) in a datagram of 1,200 bytes.
    assert!(world.largest <= 1_163, "{} bytes", world.largest);
}

#[test]
fn loss_and_reordering_are_survived() {
    for seed in 0..60 {
        let mut world = World::opened(seed, 0.15, 40);
        exchange(&mut world, seed);
        assert!(!world.client.lost, "seed {seed}");
    }
}

#[test]
fn what_is_not_acknowledged_is_known() {
    let mut world = World::opened(3, 0.0, 0);
    world.loss = 1.0;
    let text = "x".repeat(50_000);
    for _ in 0..10 {
        world.bridge.send(&text).expect("open");
    }
    world.run(Duration::from_secs(20), |_| false);
    assert!(world.bridge.buffered() >= 490_000, "{} bytes", world.bridge.buffered());
    world.loss = 0.0;
    assert!(world.run(Duration::from_secs(60), |w| w.bridge.buffered() == 0), "everything is delivered in the end");
    assert_eq!(world.client.texts().len(), 10);
}

#[test]
fn long_messages_are_left_out_and_longer_ones_end_the_association() {
    let mut world = World::opened(4, 0.0, 0);
    for length in [MAX_MESSAGE, MAX_MESSAGE + 1, MAX_SCTP_MESSAGE, 1] {
        world.client.write(0, PayloadProtocolIdentifier::String, &vec![b'x'; length]);
    }
    assert!(world.run(Duration::from_secs(60), |w| w.outputs.len() == 2), "{:?}", world.outputs.len());
    assert_eq!(world.texts().iter().map(String::len).collect::<Vec<_>>(), [MAX_MESSAGE, 1]);
    assert_eq!(world.bridge.send(&"x".repeat(MAX_SCTP_MESSAGE + 1)), Err(NotSent::TooLarge));
    assert!(world.bridge.is_open());
    world.client.write(0, PayloadProtocolIdentifier::String, &vec![b'x'; MAX_SCTP_MESSAGE + 1]);
    assert!(world.run(Duration::from_secs(60), |w| !w.bridge.is_open()));
    assert_eq!(world.outputs, [DataChannelOutput::Closed]);
    assert_eq!(world.bridge.send("x"), Err(NotSent::Closed));
}

#[test]
fn only_text_on_the_open_channel_counts() {
    let mut world = World::opened(5, 0.0, 0);
    world.client.write(0, PayloadProtocolIdentifier::Binary, b"{}");
    world.client.write(2, PayloadProtocolIdentifier::String, b"another stream");
    world.client.write(0, PayloadProtocolIdentifier::Dcep, b"\x03cut off");
    world.client.write(0, PayloadProtocolIdentifier::String, b"this");
    assert!(world.run(Duration::from_secs(10), |w| !w.outputs.is_empty()));
    assert_eq!(world.texts(), ["this"]);
}

#[test]
fn a_newer_channel_takes_the_place() {
    let mut world = World::opened(6, 0.0, 0);
    world.client.write(2, PayloadProtocolIdentifier::Dcep, &open("again"));
    assert!(world.run(Duration::from_secs(10), |w| w.outputs.len() == 2));
    assert_eq!(world.outputs, [DataChannelOutput::Closed, DataChannelOutput::Opened]);
    world.outputs.clear();
    world.client.write(2, PayloadProtocolIdentifier::String, b"new");
    world.bridge.send("answer").expect("open");
    let all = |w: &mut World| !w.outputs.is_empty() && !w.client.texts().is_empty() && w.client.closed;
    assert!(world.run(Duration::from_secs(10), all), "the former stream is reset");
    assert_eq!((world.texts(), world.client.texts()), (vec!["new".to_owned()], vec!["answer".to_owned()]));
}

#[test]
fn closing_is_told_either_way() {
    let mut world = World::opened(7, 0.0, 0);
    world.client.association.stream(0).expect("open").close().expect("reset");
    assert!(world.run(Duration::from_secs(10), |w| !w.bridge.is_open()));
    assert_eq!(world.outputs, [DataChannelOutput::Closed]);
    let mut world = World::opened(8, 0.0, 0);
    world.bridge.close();
    assert!(world.run(Duration::from_secs(10), |w| w.client.closed));
    assert_eq!(world.outputs, [DataChannelOutput::Closed]);
}

#[test]
fn a_client_that_starts_again_is_served() {
    let mut world = World::opened(9, 0.0, 0);
    world.client = Client::new();
    world.network.clear();
    assert!(world.run(Duration::from_secs(30), |w| w.client.connected));
    world.client.write(0, PayloadProtocolIdentifier::Dcep, &open("second"));
    assert!(world.run(Duration::from_secs(10), |w| w.outputs.len() == 2));
    assert_eq!(world.outputs, [DataChannelOutput::Closed, DataChannelOutput::Opened]);
    world.outputs.clear();
    exchange(&mut world, 9);
}

/// Each is answered with all that a client must know: few bytes must not cause many.
#[test]
fn channels_that_are_opened_for_ever_are_not_answered() {
    let mut world = World::opened(11, 0.0, 0);
    for n in 0..500 {
        world.client.write(0, PayloadProtocolIdentifier::Dcep, &open(&n.to_string()));
    }
    world.run(Duration::from_secs(2), |_| false);
    let opened = world.outputs.iter().filter(|output| **output == DataChannelOutput::Opened).count();
    assert!((10..30).contains(&opened), "{opened}");
    world.outputs.clear();
    world.client.write(0, PayloadProtocolIdentifier::String, b"still served");
    assert!(world.run(Duration::from_secs(10), |w| !w.outputs.is_empty()));
    assert_eq!(world.texts(), ["still served"]);
}

#[test]
fn associations_that_are_begun_for_ever_are_not_answered() {
    let mut world = World::new(12, 0.0, 0);
    let mut answers = 0;
    for _ in 0..500 {
        for packet in Client::new().poll(world.now) {
            world.bridge.handle_packet(world.now, &packet);
        }
        while world.bridge.poll_output().is_some() {
            answers += 1;
        }
    }
    assert!((10..60).contains(&answers), "{answers}");
    // Once it is quiet, somebody who means well is served.
    world.now += Duration::from_secs(5);
    world.client = Client::new();
    assert!(world.run(Duration::from_secs(30), |w| w.client.connected));
}

/// The library compares each piece with all others of its message: 200,000 of them would cost minutes.
#[test]
fn messages_in_tiny_pieces_cost_little() {
    let mut world = World::new(13, 0.0, 0);
    world.client = Client::with_payload(Some(20));
    assert!(world.run(Duration::from_secs(30), |w| w.client.connected));
    world.client.write(0, PayloadProtocolIdentifier::Dcep, &open("x"));
    assert!(world.run(Duration::from_secs(30), |w| w.bridge.is_open()));
    world.outputs.clear();
    let started = Instant::now();
    world.client.write(0, PayloadProtocolIdentifier::String, &vec![b'x'; MAX_MESSAGE]);
    assert!(world.run(Duration::from_secs(600), |w| !w.bridge.is_open()), "the association ends");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(world.outputs, [DataChannelOutput::Closed]);
}

#[test]
fn too_many_streams_end_the_association() {
    let mut world = World::opened(10, 0.0, 0);
    for stream in 1..100 {
        world.client.write(stream, PayloadProtocolIdentifier::String, b"x");
    }
    assert!(world.run(Duration::from_secs(10), |w| !w.bridge.is_open()));
}

#[test]
fn arbitrary_packets_never_panic() {
    let mut random = StdRng::seed_from_u64(11);
    let mut world = World::opened(11, 0.0, 0);
    for _ in 0..20_000 {
        let mut packet: Vec<u8> = (0..random.random_range(0..80)).map(|_| random.random()).collect();
        if packet.len() > 13 && random.random_bool(0.5) {
            packet[12] = random.random_range(0..16);
        }
        world.bridge.handle_packet(world.now, &packet);
        while world.bridge.poll_output().is_some() {}
    }
}

/// Runs our channel in real time on one end of a pipe; echoes what it gets.
async fn echo(conn: Arc<dyn Conn + Send + Sync>) {
    let mut channel = DataChannel::default();
    let mut buffer = vec![0; 2_048];
    loop {
        while let Some(output) = channel.poll_output() {
            match output {
                DataChannelOutput::Packet(packet) => drop(conn.send(&packet).await.expect("pipe")),
                DataChannelOutput::Text(text) => {
                    channel.send(std::str::from_utf8(&text).expect("UTF-8")).expect("open");
                    channel.handle_timeout(Instant::now());
                }
                DataChannelOutput::Opened => {}
                DataChannelOutput::Closed => return,
            }
        }
        let wait =
            channel.poll_timeout().map_or(Duration::from_secs(60), |at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            received = conn.recv(&mut buffer) => match received {
                Ok(length) => channel.handle_packet(Instant::now(), &buffer[..length]),
                Err(_) => return,
            },
            () = tokio::time::sleep(wait) => channel.handle_timeout(Instant::now()),
        }
    }
}

#[tokio::test]
async fn an_independent_implementation_speaks_with_it() {
    let (ours, theirs) = pipe();
    let bridge = tokio::spawn(echo(Arc::new(ours)));
    let config = PeerConfig {
        net_conn: Arc::new(theirs),
        max_receive_buffer_size: 1 << 20,
        max_message_size: MAX_MESSAGE as u32,
        mtu: 0,
        name: "peer".to_owned(),
        remote_port: 5000,
        local_port: 5000,
    };
    let association = PeerAssociation::client(config).await.expect("associates");
    let config = ChannelConfig {
        label: "JVB data channel".to_owned(),
        protocol: "http://jitsi.org/protocols/colibri".to_owned(),
        ..ChannelConfig::default()
    };
    let channel = PeerChannel::dial(&Arc::new(association), 0, config).await.expect("opens");
    let mut buffer = vec![0; MAX_MESSAGE];
    for length in [1, 100, 1_200, 20_000, MAX_MESSAGE] {
        let text = "y".repeat(length);
        channel.write_data_channel(&Bytes::from(text.clone()), true).await.expect("written");
        let read = tokio::time::timeout(Duration::from_secs(20), channel.read_data_channel(&mut buffer));
        let (read, is_text) = read.await.expect("an echo in time").expect("read");
        assert!(is_text && buffer[..read] == *text.as_bytes(), "{length} bytes");
    }
    channel.close().await.expect("closed");
    tokio::time::timeout(Duration::from_secs(20), bridge).await.expect("notified of the close").expect("no panic");
}
