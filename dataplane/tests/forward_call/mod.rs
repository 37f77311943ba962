//! A conference around one `Forwarder`, or several: clients made of webrtc-rs parts (SRTP, RTP, RTCP), time under control.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringbridge_dataplane::conference::{EndpointSlot, Forwarder, ForwarderConfig};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, PayloadType, Ssrc, WorkerId};
use ringbridge_dataplane::io::{MAX_DATAGRAM, PacketSink, Path};
use ringbridge_dataplane::media::*;
use ringbridge_dataplane::messages::*;
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::marshal::{Marshal, Unmarshal};

pub const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub const TCC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub const AST: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
pub const ORIENTATION: &str = "urn:3gpp:video-orientation";
pub const CONFERENCE: ConferenceId = ConferenceId(1);
pub const FEEDBACK: FeedbackSsrcs = FeedbackSsrcs { audio: Ssrc::new(0xaaaa), video: Ssrc::new(0xbbbb) };

/// Clients have ports from 5000 on; relays from here on.
pub const RELAY_PORTS: u16 = 7000;

/// Workers that [`Call::new`] spreads clients over: three where a whole suite runs that way.
const WORKERS: usize = match env!("CARGO_CRATE_NAME").as_bytes() {
    b"forward_spread" => 3,
    _ => 1,
};

/// Whether another forwarder takes over after every step, by nothing but what the one before wrote: where a whole suite runs that way.
const HANDS_OVER: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"forward_handover");

/// Takes datagrams into a list.
pub struct VecSink {
    buffer: Box<[u8; MAX_DATAGRAM]>,
    pub datagrams: Vec<(Path, Vec<u8>)>,
    /// No slot while true.
    pub full: bool,
}

impl PacketSink for VecSink {
    fn slot(&mut self) -> Option<&mut [u8]> {
        if self.full { None } else { Some(&mut self.buffer[..]) }
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.datagrams.push((path, self.buffer[..len].to_vec()));
    }
}

pub type RtpPacket = rtp::packet::Packet;
pub type RtcpPacket = Box<dyn rtcp::packet::Packet + Send + Sync>;

pub struct Client {
    pub id: EndpointId,
    /// The forwarder that it lives on.
    pub home: usize,
    pub slot: EndpointSlot,
    outbound: Context,
    inbound: Context,
    pub media: Media,
    pub rtp: Vec<RtpPacket>,
    pub rtcp: Vec<RtcpPacket>,
}

impl Client {
    pub fn take_rtp(&mut self) -> Vec<RtpPacket> {
        std::mem::take(&mut self.rtp)
    }

    /// RTCP packets of one type, all others dropped.
    pub fn take_rtcp<T: Clone + 'static>(&mut self) -> Vec<T> {
        std::mem::take(&mut self.rtcp).iter().filter_map(|p| p.as_any().downcast_ref::<T>().cloned()).collect()
    }

    /// The id that this client negotiated for an extension.
    pub fn extension(&self, kind: MediaKind, uri: &str) -> u8 {
        self.media.header_extensions.iter().find(|e| e.kind == kind && e.uri == uri).unwrap().id
    }
}

pub struct Call {
    pub forwarders: Vec<Forwarder>,
    pub stats: Vec<Arc<WorkerStats>>,
    pub sink: VecSink,
    pub now: Instant,
    pub events: Vec<Event>,
    pub clients: Vec<Client>,
    /// Datagrams that went to no client, but to another bridge.
    pub to_relays: Vec<(Path, Vec<u8>)>,
    /// What relays of it negotiated.
    pub relay_media: Media,
    /// Whether others take over.
    hands_over: bool,
    steps: u32,
}

impl Call {
    pub fn new() -> Self {
        Self::with(ForwarderConfig::default())
    }

    pub fn with(config: ForwarderConfig) -> Self {
        Self::spread(config, WORKERS, 64)
    }

    /// On several workers; `ring` is the entries of each ring between two of them.
    pub fn spread(config: ForwarderConfig, workers: usize, ring: usize) -> Self {
        let stats: Vec<Arc<WorkerStats>> = (0..workers).map(|_| Arc::default()).collect();
        let mut forwarders = Forwarder::connected(&config, &stats, ring).unwrap();
        let now = Instant::now();
        for forwarder in &mut forwarders {
            forwarder.handle_command(now, Command::CreateConference { conference: CONFERENCE, feedback: FEEDBACK });
        }
        let sink = VecSink { buffer: Box::new([0; MAX_DATAGRAM]), datagrams: Vec::new(), full: false };
        Self {
            forwarders,
            stats,
            sink,
            now,
            events: Vec::new(),
            clients: Vec::new(),
            to_relays: Vec::new(),
            relay_media: Media::default(),
            hands_over: HANDS_OVER,
            steps: 0,
        }
    }

    /// Gives a command to all that need it, as the control plane does.
    pub fn command(&mut self, command: Command) {
        let home = match &command {
            Command::SetSrtp { endpoint, .. }
            | Command::SetConstraints { endpoint, .. }
            | Command::SetSsrcRewriting { endpoint, .. }
            | Command::MappingsSignalled { endpoint, .. }
            | Command::SetUnsignalled { endpoint, .. }
            | Command::SetForceMute { endpoint, .. } => self.clients.iter().find(|c| c.id == *endpoint).map(|c| c.home),
            _ => None,
        };
        assert!(home.is_none() || !command.is_shared());
        for (worker, forwarder) in self.forwarders.iter_mut().enumerate() {
            if home.is_none_or(|home| home == worker) {
                forwarder.handle_command(self.now, command.clone());
            }
        }
        self.settle();
    }

    /// Adds a client that is connected and publishes `sources`, on the workers in turn; returns its number.
    pub fn join(&mut self, media: Media, sources: Vec<SourceDescription>) -> usize {
        self.join_on(self.clients.len() % self.forwarders.len(), media, sources)
    }

    /// A client that gets everything on so many SSRCs of the bridge's own, on the first worker.
    pub fn join_rewriting(
        &mut self,
        audio: usize,
        video: usize,
        media: Media,
        sources: Vec<SourceDescription>,
    ) -> usize {
        let rewriting = SsrcRewriting { audio, video, seed: 7, mids: false };
        self.join_with(0, Some(rewriting), media, sources)
    }

    /// The same as [`Self::join`] on a worker of choice.
    pub fn join_on(&mut self, home: usize, media: Media, sources: Vec<SourceDescription>) -> usize {
        self.join_with(home, None, media, sources)
    }

    /// The same, on SSRCs as the settings say.
    pub fn join_with(
        &mut self,
        home: usize,
        rewriting: Option<SsrcRewriting>,
        media: Media,
        sources: Vec<SourceDescription>,
    ) -> usize {
        let n = self.clients.len();
        let endpoint = EndpointId(100 + n as u32);
        for (worker, forwarder) in self.forwarders.iter_mut().enumerate() {
            if worker == home {
                continue;
            }
            let remote =
                Command::CreateRemoteEndpoint { conference: CONFERENCE, endpoint, home: WorkerId::from_index(home) };
            forwarder.handle_command(self.now, remote);
        }
        let create = Command::CreateEndpoint(Box::new(NewEndpoint {
            conference: CONFERENCE,
            endpoint,
            label: format!("client{n}"),
            ice: IceCredentials { ufrag: "u".to_owned(), pwd: "p".to_owned() },
            controlling: true,
        }));
        self.forwarders[home].handle_command(self.now, create);
        let keys = keys(n as u8);
        let context = |k: &MasterKey| {
            Context::new(&k.key[..16], &k.salt[..12], ProtectionProfile::AeadAes128Gcm, None, None).unwrap()
        };
        self.clients.push(Client {
            id: endpoint,
            home,
            slot: self.forwarders[home].slot(endpoint).unwrap(),
            outbound: context(&keys.inbound),
            inbound: context(&keys.outbound),
            media: media.clone(),
            rtp: Vec::new(),
            rtcp: Vec::new(),
        });
        if let Some(rewriting) = rewriting {
            self.command(Command::SetSsrcRewriting { endpoint, rewriting });
        }
        self.command(Command::SetSrtp { endpoint, keys: Box::new(keys) });
        self.command(Command::SetMedia { endpoint, media: Box::new(media) });
        self.command(Command::SetSources { endpoint, sources });
        self.forwarders[home].set_path(endpoint, Some(path(n)));
        n
    }

    /// Gives a client new keys, as after a new DTLS handshake.
    pub fn rekey(&mut self, client: usize, tag: u8) {
        let keys = keys(tag);
        self.clients[client].outbound = context(&keys.inbound);
        self.clients[client].inbound = context(&keys.outbound);
        let endpoint = self.clients[client].id;
        self.command(Command::SetSrtp { endpoint, keys: Box::new(keys) });
    }

    pub fn constrain(&mut self, client: usize, constraints: ReceiverConstraints) {
        let endpoint = self.clients[client].id;
        self.command(Command::SetConstraints { endpoint, constraints: Box::new(constraints) });
    }

    /// Every source at one height.
    pub fn want(&mut self, client: usize, max_height: u32) {
        self.want_up_to(client, Limit::at_most(max_height));
    }

    pub fn want_up_to(&mut self, client: usize, max_height: Limit) {
        let default = VideoConstraint { max_height, max_frame_rate: Limit::Unlimited };
        self.constrain(client, ReceiverConstraints { default, ..ReceiverConstraints::default() });
    }

    pub fn seal(&mut self, client: usize, packet: &RtpPacket) -> Vec<u8> {
        self.clients[client].outbound.encrypt_rtp(&packet.marshal().unwrap()).unwrap().to_vec()
    }

    pub fn send(&mut self, client: usize, packet: &RtpPacket) {
        let mut datagram = self.seal(client, packet);
        self.send_raw(client, &mut datagram);
    }

    pub fn send_raw(&mut self, client: usize, datagram: &mut [u8]) {
        let Client { home, slot, .. } = self.clients[client];
        self.forwarders[home].handle_rtp(self.now, slot, datagram, &mut self.sink);
        self.deliver();
    }

    /// Gives a batch to the forwarders, and its packets to their receivers only when it ends.
    pub fn send_batch(&mut self, batch: &mut [(usize, Vec<u8>)]) {
        for (client, datagram) in batch {
            let Client { home, slot, .. } = self.clients[*client];
            self.forwarders[home].gather_rtp(self.now, slot, datagram, &mut self.sink);
        }
        for forwarder in &mut self.forwarders {
            forwarder.release(self.now, &mut self.sink);
        }
        self.deliver();
    }

    pub fn send_rtcp(&mut self, client: usize, packet: &dyn Marshal2) {
        let plain = packet.bytes();
        let mut datagram = self.clients[client].outbound.encrypt_rtcp(&plain).unwrap().to_vec();
        let Client { home, slot, .. } = self.clients[client];
        self.forwarders[home].handle_rtcp(self.now, slot, &mut datagram, &mut self.sink);
        self.deliver();
    }

    /// Lets time pass, running every timer at its time.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.forwarders.iter().filter_map(Forwarder::poll_timeout).min().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = end;
    }

    pub fn millis(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    /// Runs what is due without letting time pass.
    pub fn settle(&mut self) {
        // Twice where what one sends another makes something due there.
        for _ in 0..self.forwarders.len().min(2) {
            for forwarder in &mut self.forwarders {
                forwarder.handle_timeout(self.now, &mut self.sink);
            }
            self.deliver();
        }
    }

    /// Lets the forwarders take what they sent each other, there and back.
    fn exchange(&mut self) {
        for _ in 0..if self.forwarders.len() > 1 { 3 } else { 0 } {
            for forwarder in &mut self.forwarders {
                forwarder.handle_peers(self.now, &mut self.sink);
            }
        }
    }

    /// Nobody takes over: packets for retransmission would be left behind.
    pub fn stay(&mut self) {
        self.hands_over = false;
    }

    /// Another forwarder takes over each one's place, and knows what that wrote as bytes.
    pub fn hand_over(&mut self) {
        for forwarder in &mut self.forwarders {
            let fresh = Forwarder::new(ForwarderConfig::default(), Arc::default());
            let state = forwarder.export().expect("a state is written");
            let renewed = std::mem::replace(forwarder, fresh).renewed().expect("a state is read");
            assert_eq!(
                renewed.export().expect("a state is written again"),
                state,
                "what was read is not what was written"
            );
            *forwarder = renewed;
        }
    }

    pub fn deliver(&mut self) {
        self.exchange();
        self.steps += 1;
        // In the longest tests only now and then.
        if self.hands_over && (self.steps < 500 || self.steps.is_multiple_of(61)) {
            self.hand_over();
        }
        for (to, datagram) in std::mem::take(&mut self.sink.datagrams) {
            if to.remote.port() >= RELAY_PORTS {
                self.to_relays.push((to, datagram));
                continue;
            }
            let client = &mut self.clients[usize::from(to.remote.port() - 5000)];
            if matches!(datagram[1], 192..=223) {
                let mut plain = client.inbound.decrypt_rtcp(&datagram).expect("SRTCP opens at the client");
                client.rtcp.extend(rtcp::packet::unmarshal(&mut plain).expect("RTCP parses at the client"));
            } else {
                let mut plain = client.inbound.decrypt_rtp(&datagram).expect("SRTP opens at the client");
                client.rtp.push(RtpPacket::unmarshal(&mut plain).expect("RTP parses at the client"));
            }
        }
        for forwarder in &mut self.forwarders {
            self.events.extend(std::iter::from_fn(|| forwarder.poll_event()));
        }
    }

    /// Sum over the workers.
    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.iter().map(|stats| stats.get(counter)).sum()
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// What `rtcp` can write, boxed or not.
pub trait Marshal2 {
    fn bytes(&self) -> Bytes;
}

impl<T: Marshal> Marshal2 for T {
    fn bytes(&self) -> Bytes {
        self.marshal().unwrap()
    }
}

pub fn context(k: &MasterKey) -> Context {
    Context::new(&k.key[..16], &k.salt[..12], ProtectionProfile::AeadAes128Gcm, None, None).unwrap()
}

pub fn path(client: usize) -> Path {
    Path { local: 0, remote: SocketAddr::from(([127, 0, 0, 1], 5000 + client as u16)) }
}

pub fn keys(n: u8) -> SrtpKeys {
    let master = |tag: u8| {
        let mut salt = [0; 14];
        salt[..12].fill(tag ^ 0x5a);
        let mut key = [0; 32];
        key[..16].fill(tag);
        MasterKey { key, salt }
    };
    SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, inbound: master(2 * n + 1), outbound: master(2 * n + 2) }
}

pub fn pt(id: u8, kind: MediaKind, name: &str, parameters: &[(&str, &str)]) -> CodecParameters {
    let video = kind == MediaKind::Video;
    let feedback: &[(&str, &str)] = if video && name != "rtx" {
        &[("ccm", "fir"), ("nack", ""), ("nack", "pli"), ("transport-cc", "")]
    } else {
        &[]
    };
    let own = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    CodecParameters {
        payload_type: PayloadType::new(id).unwrap(),
        kind,
        name: name.to_owned(),
        clock_rate: if video { 90_000 } else { 48_000 },
        channels: if video { 1 } else { 2 },
        parameters: own(parameters),
        feedback: own(feedback),
    }
}

pub fn extension(id: u8, kind: MediaKind, uri: &str) -> HeaderExtension {
    HeaderExtension { id, kind, uri: uri.to_owned() }
}

#[derive(Debug, Clone)]
/// Numbers of one client. VP8's RTX and RED are left out when `None`.
pub struct Numbers {
    pub opus: u8,
    pub red: Option<u8>,
    pub vp8: u8,
    pub rtx: Option<u8>,
    pub level: u8,
    pub mid: u8,
    pub tcc: u8,
    pub orientation: Option<u8>,
}

/// Jicofo's defaults.
pub const JICOFO: Numbers =
    Numbers { opus: 111, red: Some(112), vp8: 100, rtx: Some(96), level: 1, mid: 10, tcc: 5, orientation: Some(13) };
/// Another offer: 96 is VP8 here and RTX there.
pub const OTHER: Numbers =
    Numbers { opus: 109, red: Some(63), vp8: 96, rtx: Some(97), level: 3, mid: 4, tcc: 2, orientation: Some(7) };
/// A plain client.
pub const PLAIN: Numbers =
    Numbers { opus: 8, red: None, vp8: 120, rtx: None, level: 14, mid: 12, tcc: 11, orientation: None };

impl Numbers {
    pub fn media(&self) -> Media {
        use MediaKind::{Audio, Video};
        let mut codecs = vec![pt(self.opus, Audio, "opus", &[("minptime", "10")]), pt(self.vp8, Video, "VP8", &[])];
        if let Some(red) = self.red {
            let inner = format!("{0}/{0}", self.opus);
            codecs.push(pt(red, Audio, "red", &[("", &inner)]));
        }
        if let Some(rtx) = self.rtx {
            codecs.push(pt(rtx, Video, "rtx", &[("apt", &self.vp8.to_string())]));
        }
        let mut header_extensions = vec![
            extension(self.level, Audio, LEVEL),
            extension(self.mid, Audio, MID),
            extension(self.mid, Video, MID),
            extension(self.tcc, Video, TCC),
        ];
        if let Some(id) = self.orientation {
            header_extensions.push(extension(id, Video, ORIENTATION));
        }
        Media { codecs, header_extensions, ..Media::default() }
    }
}

pub fn audio_source(name: &str, ssrc: u32) -> SourceDescription {
    SourceDescription {
        name: name.to_owned(),
        kind: MediaKind::Audio,
        video_type: VideoType::Camera,
        encodings: vec![Encoding { ssrc: Ssrc::new(ssrc), rtx: None }],
    }
}

/// RTX SSRCs are the media SSRCs plus 1000.
pub fn video_source(name: &str, ssrcs: &[u32]) -> SourceDescription {
    SourceDescription {
        name: name.to_owned(),
        kind: MediaKind::Video,
        video_type: VideoType::Camera,
        encodings: ssrcs.iter().map(|s| Encoding { ssrc: Ssrc::new(*s), rtx: Some(Ssrc::new(s + 1000)) }).collect(),
    }
}

pub fn packet(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> RtpPacket {
    let mut packet = RtpPacket { payload: Bytes::copy_from_slice(payload), ..RtpPacket::default() };
    packet.header.version = 2;
    packet.header.payload_type = payload_type;
    packet.header.sequence_number = sequence;
    packet.header.timestamp = timestamp;
    packet.header.ssrc = ssrc;
    packet
}

pub fn with_extension(mut packet: RtpPacket, id: u8, value: &[u8]) -> RtpPacket {
    packet.header.set_extension(id, Bytes::copy_from_slice(value)).unwrap();
    packet
}

/// A VP8 payload: descriptor with 15-bit picture id, TL0PICIDX and TID; a keyframe header with `height` if `key`.
pub fn vp8(picture: u16, tl0: u8, start: bool, key: bool, height: u16) -> Vec<u8> {
    let mut out = vec![0x80 | u8::from(start) << 4, 0xe0];
    out.extend((picture | 0x8000).to_be_bytes());
    out.extend([tl0, 0x20]);
    if start {
        out.push(u8::from(!key));
        out.extend([1, 2]);
        if key {
            out.extend([0x9d, 0x01, 0x2a]);
            out.extend((height * 16 / 9).to_le_bytes());
            out.extend(height.to_le_bytes());
        }
    }
    out.extend([0x77; 30]);
    out
}

/// What a VP8 payload from [`vp8`] carries: picture id, TL0PICIDX.
pub fn vp8_ids(payload: &[u8]) -> (u16, u8) {
    assert_eq!((payload[0] & 0x80, payload[1] & 0xc0), (0x80, 0xc0));
    assert_eq!(payload[2] & 0x80, 0x80);
    (u16::from_be_bytes([payload[2] & 0x7f, payload[3]]), payload[4])
}

/// Sends VP8 frames on one encoding.
pub struct Camera {
    pub payload_type: u8,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub picture: u16,
    pub tl0: u8,
    pub height: u16,
}

impl Camera {
    pub fn new(payload_type: u8, ssrc: u32, sequence: u16, height: u16) -> Self {
        Self { payload_type, ssrc, sequence, timestamp: ssrc.wrapping_mul(7919), picture: 500, tl0: 250, height }
    }

    /// The packets of the next frame, 30 ms after the last.
    pub fn frame(&mut self, key: bool, packets: usize) -> Vec<RtpPacket> {
        self.timestamp = self.timestamp.wrapping_add(2700);
        self.picture = (self.picture + 1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(1);
        (0..packets)
            .map(|i| {
                let payload = vp8(self.picture, self.tl0, i == 0, key, self.height);
                let mut p = packet(self.payload_type, self.sequence, self.timestamp, self.ssrc, &payload);
                p.header.marker = i + 1 == packets;
                self.sequence = self.sequence.wrapping_add(1);
                p
            })
            .collect()
    }

    /// One packet that is a whole frame.
    pub fn one(&mut self, key: bool) -> RtpPacket {
        self.frame(key, 1).remove(0)
    }
}

/// The RTX packet of a client for one of its packets.
pub fn rtx_of(packet: &RtpPacket, payload_type: u8, sequence: u16) -> RtpPacket {
    let mut out = packet.clone();
    let mut payload = packet.header.sequence_number.to_be_bytes().to_vec();
    payload.extend_from_slice(&packet.payload);
    out.payload = payload.into();
    out.header.payload_type = payload_type;
    out.header.sequence_number = sequence;
    out.header.ssrc += 1000;
    out
}
