//! All clients of one bridge under test: sends what is due, takes what comes, keeps ICE and DTLS going.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ringbridge_controlplane::transport::Certificate;
use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::rtp::extension::Extension;
use ringbridge_dataplane::rtp::header::{self, HeaderFields};
use ringbridge_dataplane::rtp::vp8::Descriptor;
use ringbridge_dataplane::srtp::SrtpKeys;

use super::GeneratorError;
use super::client::Client;
use super::ledger::{Ledger, Sent};
use super::media_numbers::Numbers;
use super::receiver::{Counts, Expected, Latency, Oracle, Receiver};
use super::sdp::{Local, Remote};
use super::socket::ClientSocket;
use crate::account::Traffic;
use crate::media::{Codec, Track};

/// Least time between two looks at a client's timers, so that hundreds of clients leave time for media.
const TIMERS: Duration = Duration::from_millis(5);
/// Batches that are taken in a row while nothing plays: what comes for hundreds of clients between two of their turns.
const WAITING_BATCHES: usize = 16;
/// RTCP packet type of payload-specific feedback (RFC 4585 section 6.1).
const PAYLOAD_FEEDBACK: u8 = 206;
/// Audio that is sent so soon after another participant's keyframe began comes behind it.
const BEHIND_KEYFRAME: Duration = Duration::from_millis(1);
/// How long a client may take to connect.
const CONNECT: Duration = Duration::from_secs(20);

/// One stream of a client.
struct Stream {
    client: usize,
    ssrc: u32,
    track: Box<dyn Track>,
    /// Extended RTP sequence number of the next packet.
    sequence: u64,
    packets: u64,
    /// Bytes since the last [`World::reset`], encrypted.
    bytes: u64,
    /// Where the track's time begins.
    started: Instant,
}

impl Stream {
    /// When its next packet is due, when everything runs `speed` times as fast.
    fn due(&self, speed: f64) -> Instant {
        self.started + self.track.next_due().div_f64(speed)
    }
}

/// Who began to send the latest keyframe, and when.
#[derive(Debug, Clone, Copy)]
struct LatestKeyframe {
    client: ClientId,
    began: Instant,
}

impl LatestKeyframe {
    /// Whether what a client sends at `at` comes right behind it.
    fn delays(&self, client: ClientId, at: Instant) -> bool {
        client != self.client && at.saturating_duration_since(self.began) < BEHIND_KEYFRAME
    }
}

/// What was measured in a window.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Sums over all receivers.
    pub counts: Counts,
    /// Packets that clients sent.
    pub sent: u64,
    /// Time from a packet's sending to its arrival at a sampled receiver.
    pub latency: Latency,
    /// The longest that a packet was sent after it was due.
    pub late: Duration,
    /// Packets that the generator's own socket lost.
    pub overflowed: u64,
    /// The first mismatch that a sampled receiver found.
    pub complaint: Option<String>,
}

/// All clients of one bridge, and their common socket.
pub struct World {
    socket: ClientSocket,
    /// Third octet's upper part: keeps the addresses of several worlds apart.
    net: u8,
    port: u16,
    certificate: Certificate,
    clients: Vec<Client>,
    receivers: Vec<Receiver>,
    numbers: Vec<Numbers>,
    streams: Vec<Stream>,
    codecs: Vec<Codec>,
    /// Which of several bridges each client is on, and each stream's client.
    bridges: Vec<usize>,
    stream_bridges: Vec<usize>,
    ledger: Ledger,
    latency: Latency,
    /// STUN and DTLS that came and was not looked at.
    inbox: VecDeque<(ClientId, SocketAddrV4, Vec<u8>)>,
    /// Clients that were asked for a keyframe.
    asked: Vec<ClientId>,
    keyframe: Option<LatestKeyframe>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    playing: bool,
    speed: f64,
    /// When a client is looked at; entries that `timers` does not confirm are out of date.
    looks: BinaryHeap<Reverse<(Instant, ClientId)>>,
    /// The next look at each client.
    timers: Vec<Option<Instant>>,
    late: Duration,
    sent: u64,
    overflowed: u64,
    /// Receivers of each packet.
    fan_out: u64,
    /// Since the start; what overflowed is asked of the kernel.
    traffic: Traffic,
    payload: Vec<u8>,
    packet: Vec<u8>,
}

/// Index of a client in its [`World`].
pub type ClientId = usize;

impl World {
    /// No clients yet. Worlds with different `net` have different addresses.
    /// For `gro` see [`ClientSocket::bind`].
    pub fn new(net: u8, gro: bool) -> Result<Self, GeneratorError> {
        let socket = ClientSocket::bind(gro)?;
        let certificate = Certificate::generate().map_err(|error| GeneratorError::Dtls { client: 0, error })?;
        Ok(Self {
            port: socket.port()?,
            socket,
            net,
            certificate,
            clients: Vec::new(),
            receivers: Vec::new(),
            numbers: Vec::new(),
            streams: Vec::new(),
            codecs: Vec::new(),
            bridges: Vec::new(),
            stream_bridges: Vec::new(),
            ledger: Ledger::default(),
            latency: Latency::default(),
            inbox: VecDeque::new(),
            asked: Vec::new(),
            keyframe: None,
            due: BinaryHeap::new(),
            playing: false,
            speed: 1.0,
            looks: BinaryHeap::new(),
            timers: Vec::new(),
            late: Duration::ZERO,
            sent: 0,
            overflowed: 0,
            fan_out: 0,
            traffic: Traffic::default(),
            payload: Vec::with_capacity(2048),
            packet: vec![0; 2048],
        })
    }

    /// Adds a client; `sampled` ones decrypt and compare what they get.
    pub fn add_client(&mut self, numbers: Numbers, sampled: bool, expected: Expected) -> ClientId {
        let id = self.clients.len();
        // 127.net.1.0 and up; never .0.0, which is not an address of a host.
        let host = id as u32 + 256;
        let ip = Ipv4Addr::new(127, self.net, (host >> 8) as u8, host as u8);
        self.clients.push(Client::new(SocketAddrV4::new(ip, self.port)));
        self.receivers.push(Receiver::new(sampled, expected));
        self.numbers.push(numbers);
        self.bridges.push(0);
        self.timers.push(None);
        id
    }

    /// Adds a stream of a client; returns its SSRC.
    pub fn add_stream(&mut self, client: ClientId, track: Box<dyn Track>) -> u32 {
        let index = self.streams.len();
        let ssrc = 0x5000_0000 | (client as u32) << 8 | (index as u32 & 0xff);
        self.codecs.push(track.codec());
        let now = Instant::now();
        self.stream_bridges.push(self.bridges[client]);
        self.streams.push(Stream { client, ssrc, track, sequence: 1000, packets: 0, bytes: 0, started: now });
        if self.playing {
            self.due.push(Reverse((now, index)));
        }
        ssrc
    }

    /// Says which of several bridges a client is on.
    pub fn place(&mut self, client: ClientId, bridge: usize) {
        self.bridges[client] = bridge;
        let streams = self.streams.iter().zip(&mut self.stream_bridges);
        streams.filter(|(stream, _)| stream.client == client).for_each(|(_, of)| *of = bridge);
    }

    /// Which of several bridges a client is on.
    pub fn bridge_of(&self, client: ClientId) -> usize {
        self.bridges[client]
    }

    /// Since the last [`Self::reset`], by stream: client, codec, SSRC, bytes sent.
    pub fn sent_by_stream(&self) -> impl Iterator<Item = (ClientId, Codec, u32, u64)> {
        self.streams.iter().map(|stream| (stream.client, stream.track.codec(), stream.ssrc, stream.bytes))
    }

    /// The clients.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// The streams that a client publishes.
    pub fn streams_of(&self, client: ClientId) -> Vec<(Codec, u32)> {
        let of = self.streams.iter().filter(|stream| stream.client == client);
        of.map(|stream| (stream.track.codec(), stream.ssrc)).collect()
    }

    /// What a client negotiated.
    pub fn numbers_of(&self, client: ClientId) -> Numbers {
        self.numbers[client]
    }

    /// Calls `describe` with a client's side of the transport.
    pub fn describe<T>(&self, id: ClientId, describe: impl FnOnce(&Local<'_>) -> T) -> T {
        let (ufrag, pwd) = self.clients[id].credentials();
        let fingerprint = self.certificate.fingerprint();
        describe(&Local { ufrag: &ufrag, pwd: &pwd, address: self.clients[id].address, fingerprint })
    }

    /// Gives a client the bridge's transport.
    pub fn set_remote(&mut self, id: ClientId, remote: Remote, controlling: bool) {
        self.clients[id].set_remote(remote, controlling);
        self.look_at(id, Some(Instant::now()));
    }

    /// A client without ICE and DTLS.
    pub fn set_plain(&mut self, id: ClientId, bridge: SocketAddrV4, keys: &SrtpKeys) -> Result<(), GeneratorError> {
        self.clients[id].set_plain(bridge, keys)
    }

    /// Whether a client knows the bridge's transport.
    pub fn is_signalled(&self, id: ClientId) -> bool {
        self.clients[id].is_signalled()
    }

    /// A client begins anew, with other credentials: its bridge has been replaced. Its streams go on.
    pub fn renew(&mut self, id: ClientId) {
        self.clients[id] = Client::new(self.clients[id].address);
    }

    /// Takes the time at which packets arrived from the kernel, not from when they are read: for generators that have more to
    /// do than media.
    pub fn stamp(&mut self) -> Result<(), GeneratorError> {
        Ok(self.socket.stamp()?)
    }

    /// Whether a client can send and receive.
    pub fn is_connected(&self, id: ClientId) -> Result<bool, GeneratorError> {
        let client = &self.clients[id];
        match &client.failure {
            Some(error) => Err(GeneratorError::Dtls { client: id, error: error.clone() }),
            None => Ok(client.srtp.is_some()),
        }
    }

    /// Steps until a client is connected; `idle` runs at every step (it serves a bridge in the same process).
    pub fn connect<E: From<GeneratorError>>(
        &mut self,
        id: ClientId,
        mut idle: impl FnMut(Instant) -> Result<(), E>,
    ) -> Result<(), E> {
        let deadline = Instant::now() + CONNECT;
        while !self.is_connected(id)? {
            let now = Instant::now();
            if now > deadline {
                let what = if self.clients[id].bridge.is_none() { "ICE connection" } else { "DTLS session" };
                let (seconds, (sent, came)) = (CONNECT.as_secs(), self.clients[id].datagrams());
                return Err(GeneratorError::Timeout { client: id, what, seconds, sent, came }.into());
            }
            self.step_or_pause(now, Duration::from_micros(200))?;
            idle(now)?;
        }
        Ok(())
    }

    /// Plays everything so many times as fast, from the next [`Self::play`] on: more frames a second of the same size,
    /// as from more participants.
    pub fn set_speed(&mut self, speed: f64) {
        self.speed = speed;
    }

    /// How many are to get each packet that is sent.
    pub fn set_fan_out(&mut self, fan_out: u64) {
        self.fan_out = fan_out;
    }

    /// See [`Self::set_fan_out`].
    pub fn fan_out(&self) -> u64 {
        self.fan_out
    }

    /// Starts all streams, or lets them go on where they stopped.
    pub fn play(&mut self) {
        let now = Instant::now();
        self.playing = true;
        self.due.clear();
        let first = self.streams.iter().map(|stream| stream.track.next_due()).min().unwrap_or_default();
        for (index, stream) in self.streams.iter_mut().enumerate() {
            stream.started = now.checked_sub(first.div_f64(self.speed)).unwrap_or(now);
            self.due.push(Reverse((stream.due(self.speed), index)));
        }
    }

    /// Lets the streams of some clients go on, each in its own phase, wherever the others stopped.
    pub fn play_where(&mut self, plays: impl Fn(ClientId) -> bool) {
        let now = Instant::now();
        self.playing = true;
        self.due.clear();
        for (index, stream) in self.streams.iter_mut().enumerate().filter(|(_, stream)| plays(stream.client)) {
            // Every track repeats itself within a second.
            let whole_seconds = Duration::from_secs(stream.track.next_due().as_secs());
            stream.started = now.checked_sub(whole_seconds.div_f64(self.speed)).unwrap_or(now);
            self.due.push(Reverse((stream.due(self.speed), index)));
        }
    }

    /// Stops all streams. What is under way still arrives at later steps.
    pub fn pause(&mut self) {
        self.playing = false;
        self.due.clear();
    }

    /// Sends what is due, takes what came, runs timers; returns how many packets came.
    pub fn step(&mut self, now: Instant) -> Result<usize, GeneratorError> {
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            self.late = self.late.max(now.saturating_duration_since(at));
            self.send_due(at, index)?;
        }
        // Who waits for its turn is looked at seldom, and must not lose its connections meanwhile.
        let (mut received, batches) = (0, if self.playing { 1 } else { WAITING_BATCHES });
        for _ in 0..batches {
            let more = self.receive()?;
            received += more;
            if more == 0 {
                break;
            }
        }
        for client in self.asked.drain(..) {
            let video = self.streams.iter_mut().filter(|stream| stream.client == client);
            video.for_each(|stream| stream.track.request_keyframe());
        }
        // Media must not wait while many clients connect.
        let at_once = if self.playing { 1 } else { self.inbox.len() };
        for _ in 0..at_once {
            let Some((id, from, datagram)) = self.inbox.pop_front() else { break };
            self.clients[id].handle_datagram(now, from, &datagram);
            self.handle_timer(now, id)?;
        }
        while let Some(Reverse((at, id))) = self.looks.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.looks.pop();
            if self.timers[id] == Some(at) {
                self.handle_timer(now, id)?;
            }
        }
        Ok(received)
    }

    /// As [`Self::step`], for loops that wait for something: a pause, unless packets came. Where media comes already, a queue that is not
    /// emptied would lose what is waited for.
    pub fn step_or_pause(&mut self, now: Instant, pause: Duration) -> Result<(), GeneratorError> {
        if self.step(now)? == 0 {
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Sends every packet of a stream that is due at `at`.
    fn send_due(&mut self, at: Instant, index: usize) -> Result<(), GeneratorError> {
        let stream = &mut self.streams[index];
        while stream.due(self.speed) <= at {
            let track_packet = stream.track.next(&mut self.payload);
            let client = &self.clients[stream.client];
            let (Some(srtp), Some(bridge)) = (&client.srtp, client.bridge) else { continue };
            let numbers = &self.numbers[stream.client];
            let codec = self.codecs[index];
            let fields = HeaderFields {
                padding: false,
                marker: track_packet.marker,
                payload_type: numbers.payload_type(codec),
                sequence: stream.sequence as u16,
                timestamp: track_packet.timestamp,
                ssrc: Ssrc::new(stream.ssrc),
            };
            let level = [track_packet.level.unwrap_or(127)];
            let extensions = [Extension { id: numbers.level, data: &level }];
            let extensions = if track_packet.level.is_some() { &extensions[..] } else { &[] };
            let sealed = header::write(&fields, std::iter::empty(), extensions, &mut self.packet).ok().and_then(|at| {
                let end = at + self.payload.len();
                self.packet.get_mut(at..end)?.copy_from_slice(&self.payload);
                srtp.seal.seal_rtp(&mut self.packet, at, end, (stream.sequence >> 16) as u32).ok()
            });
            let len = sealed.ok_or(GeneratorError::Seal(stream.client))?;
            let vp8 = codec == Codec::Vp8;
            let descriptor = Descriptor::parse(&self.payload).ok().filter(|_| vp8);
            let picture_id = descriptor.and_then(|d| Some((d.picture_id?, if d.long_picture_id { 15 } else { 7 })));
            let at = Instant::now();
            if descriptor.is_some_and(|descriptor| descriptor.is_keyframe_start(&self.payload)) {
                self.keyframe = Some(LatestKeyframe { client: stream.client, began: at });
            }
            let behind_keyframe = self.keyframe.is_some_and(|keyframe| keyframe.delays(stream.client, at));
            let sent = Sent { at, stream: index, number: stream.packets, picture_id, behind_keyframe };
            self.ledger.note(vp8, &self.payload, sent);
            let went = self.socket.send(*client.address.ip(), bridge, &self.packet[..len])?;
            stream.sequence += 1;
            stream.packets += 1;
            stream.bytes += len as u64;
            self.sent += 1;
            self.traffic.sent += 1;
            self.traffic.refused += u64::from(!went);
        }
        if self.playing {
            self.due.push(Reverse((stream.due(self.speed), index)));
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<usize, GeneratorError> {
        let Self { socket, net, clients, receivers, ledger, codecs, latency, inbox, asked, traffic, .. } = self;
        let (bridges, stream_bridges) = (&self.bridges, &self.stream_bridges);
        let mut now = None;
        socket
            .receive(|to, from, datagram, ago| {
                let now = *now.get_or_insert_with(Instant::now);
                let now = now.checked_sub(ago).unwrap_or(now);
                let [_, of, high, low] = to.octets();
                let id = (usize::from(high) << 8 | usize::from(low)).wrapping_sub(256);
                let (Some(client), Some(receiver)) =
                    (clients.get_mut(id).filter(|_| of == *net), receivers.get_mut(id))
                else {
                    return;
                };
                match datagram {
                    [128..=191, second @ 192..=223, ..] => {
                        receiver.counts.rtcp += 1;
                        // The first header is not encrypted (RFC 3711 section 3.4): PLI and FIR are a format of this type each.
                        if *second == PAYLOAD_FEEDBACK && matches!(datagram[0] & 31, 1 | 4) {
                            asked.push(id);
                        }
                    }
                    [128..=191, ..] => {
                        traffic.arrived += 1;
                        let open = client.srtp.as_mut().map(|srtp| &mut srtp.open);
                        let bridges = (&stream_bridges[..], bridges[id]);
                        let oracle = open.map(|open| Oracle { open, ledger, codecs, bridges, latency });
                        receiver.handle_rtp(now, datagram, oracle);
                    }
                    _ => inbox.push_back((id, from, datagram.to_vec())),
                }
            })
            .map_err(GeneratorError::from)
    }

    fn handle_timer(&mut self, now: Instant, id: ClientId) -> Result<(), GeneratorError> {
        let client = &mut self.clients[id];
        client.handle_timeout(now, &self.certificate);
        while let Some((to, datagram)) = client.poll_transmit() {
            self.traffic.others += 1;
            self.socket.send(*client.address.ip(), to, &datagram)?;
        }
        let next = client.poll_timeout().map(|at| at.max(now + TIMERS));
        self.look_at(id, next);
        Ok(())
    }

    fn look_at(&mut self, id: ClientId, at: Option<Instant>) {
        if self.timers[id] != at {
            self.timers[id] = at;
            self.looks.extend(at.map(|at| Reverse((at, id))));
        }
    }

    /// Starts a window: what was counted before is forgotten.
    pub fn reset(&mut self) {
        self.latency.reset();
        self.late = Duration::ZERO;
        self.sent = 0;
        self.overflowed = self.socket.overflowed();
        self.receivers.iter_mut().for_each(Receiver::reset);
        self.streams.iter_mut().for_each(|stream| stream.bytes = 0);
    }

    /// Ends a window.
    pub fn measured(&self) -> Measured {
        let mut counts = Counts::default();
        self.receivers.iter().for_each(|receiver| counts.add(&receiver.counts));
        Measured {
            counts,
            sent: self.sent,
            latency: self.latency.clone(),
            late: self.late,
            overflowed: self.socket.overflowed().saturating_sub(self.overflowed),
            complaint: self.receivers.iter().find_map(|receiver| receiver.complaint.clone()),
        }
    }

    /// What was sent and came since the start.
    pub fn traffic(&self) -> Traffic {
        Traffic { overflowed: self.socket.overflowed(), ..self.traffic }
    }

    /// What each receiver got, by client.
    pub fn receivers(&self) -> &[Receiver] {
        &self.receivers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// Three times as many as one batch has.
    const DATAGRAMS: usize = 96;

    #[test]
    fn a_keyframe_delays_others_for_a_moment() {
        let began = Instant::now();
        let keyframe = LatestKeyframe { client: 1, began };
        let delays = |client, micros| keyframe.delays(client, began + Duration::from_micros(micros));
        assert_eq!([delays(2, 0), delays(2, 999), delays(2, 1_000), delays(1, 500)], [true, true, false, false]);
    }

    #[test]
    fn who_waits_takes_all_that_came_and_who_plays_gets_back_to_media() {
        let mut world = World::new(9, false).unwrap();
        let client = world.add_client(Numbers::USUAL, false, Expected { numbers: None });
        let (address, socket) = (world.clients()[client].address, UdpSocket::bind("127.0.0.1:0").unwrap());
        let came = |world: &mut World| {
            (0..DATAGRAMS).for_each(|_| assert_eq!(socket.send_to(&[0; 20], address).unwrap(), 20));
            world.step(Instant::now()).unwrap()
        };
        assert_eq!((came(&mut world), world.inbox.len()), (DATAGRAMS, 0));
        world.play();
        let at_once = came(&mut world);
        assert!((1..DATAGRAMS).contains(&at_once), "{at_once}");
    }
}
