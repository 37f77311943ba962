//! ringbridge's dataplane in this process. The benchmark is its control plane: DTLS by the control plane's own sessions,
//! everything else by commands on the rings.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use ringbridge_controlplane::transport::{Certificate, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};
use ringbridge_dataplane::demux::ufrag_prefix;
use ringbridge_dataplane::ice::{IceCredentials, IceState};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, Ssrc, WorkerId};
use ringbridge_dataplane::io::{IoChoice, IoLimits};
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::media::{
    CodecParameters, Encoding, HeaderExtension, Limit, Media, MediaKind, ReceiverConstraints, SourceDescription,
    VideoConstraint, VideoType,
};
use ringbridge_dataplane::messages::{Command, Event, FeedbackSsrcs, NewEndpoint};
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use ringbridge_dataplane::{Dataplane, DataplaneConfig};

use super::{OwnCounters, Subject, SubjectError};
use crate::cpu::{self, CpuTime};
use crate::generator::GeneratorError;
use crate::generator::media_numbers::Numbers;
use crate::generator::sdp::Remote;
use crate::generator::world::{ClientId, World};
use crate::media::Codec;

/// How the dataplane is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Backend.
    pub io: IoChoice,
    /// Cores of the workers; one worker each.
    pub cores: Vec<usize>,
    /// Buffers and offloads.
    pub limits: IoLimits,
    /// Most video sources that a receiver gets; -1 is all.
    pub last_n: Limit,
}

struct Handshake {
    endpoint: EndpointId,
    worker: usize,
    fingerprint: String,
    session: Option<DtlsSession>,
}

/// ringbridge's data plane, with its clients' DTLS sessions.
pub struct InProcess {
    name: String,
    dataplane: Dataplane,
    /// Threads that came with the dataplane: workers, and those that the kernel runs for their rings (SQPOLL).
    threads: Vec<u32>,
    links: Vec<WorkerLink>,
    stats: Vec<std::sync::Arc<WorkerStats>>,
    bridge: SocketAddrV4,
    certificate: Certificate,
    handshakes: HashMap<EndpointId, Handshake>,
    rooms: HashMap<usize, usize>,
    last_n: Limit,
}

impl InProcess {
    /// Starts the workers on loopback.
    pub fn start(name: &str, options: &Options) -> Result<Self, SubjectError> {
        let tasks = || cpu::tasks_of(std::process::id()).map_err(SubjectError::Cpu);
        let before = tasks()?;
        let mut dataplane = Dataplane::start(DataplaneConfig {
            local_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            port: 0,
            workers: options.cores.len().max(1),
            cores: options.cores.clone(),
            io: options.io,
            limits: options.limits,
            ..DataplaneConfig::default()
        })?;
        let threads = tasks()?.into_iter().filter(|task| !before.contains(task)).collect();
        let bridge = dataplane.local_addresses().iter().find_map(|address| match address {
            SocketAddr::V4(v4) => Some(*v4),
            SocketAddr::V6(_) => None,
        });
        let bridge = bridge.ok_or_else(|| SubjectError::Missing("the dataplane has no IPv4 address".into()))?;
        let certificate = Certificate::generate()
            .map_err(|error| SubjectError::Generator(GeneratorError::Dtls { client: 0, error }))?;
        Ok(Self {
            name: name.to_owned(),
            links: dataplane.take_links(),
            stats: (0..dataplane.workers()).map(|worker| dataplane.stats(WorkerId::from_index(worker))).collect(),
            dataplane,
            threads,
            bridge,
            certificate,
            handshakes: HashMap::new(),
            rooms: HashMap::new(),
            last_n: options.last_n,
        })
    }

    /// Backend in use, and why.
    pub fn backend(&self) -> (&'static str, &str) {
        self.dataplane.backend()
    }

    fn send(&mut self, worker: usize, command: Command) -> Result<(), SubjectError> {
        let mut command = command;
        for _ in 0..1000 {
            match self.links[worker].send(command) {
                Ok(()) => return Ok(()),
                Err(refused) => command = refused,
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Err(SubjectError::RingFull)
    }

    fn handle_event(&mut self, now: Instant, event: Event) -> Result<(), SubjectError> {
        let id = match &event {
            Event::Ice { endpoint, state: IceState::Connected, .. } | Event::Dtls { endpoint, .. } => *endpoint,
            _ => return Ok(()),
        };
        let Some(handshake) = self.handshakes.get_mut(&id) else { return Ok(()) };
        if handshake.session.is_none() {
            let fingerprint = Fingerprint { hash: "sha-256".into(), value: handshake.fingerprint.clone() };
            let session = DtlsSession::new(now, &self.certificate, DtlsRole::Server, vec![fingerprint]);
            let error = |error| SubjectError::Generator(GeneratorError::Dtls { client: id.0 as usize, error });
            handshake.session = Some(session.map_err(error)?);
        }
        if let (Event::Dtls { datagram, .. }, Some(session)) = (event, &mut handshake.session) {
            session.handle_datagram(now, &datagram);
        }
        self.drain(id)
    }

    fn drain(&mut self, id: EndpointId) -> Result<(), SubjectError> {
        while let Some(handshake) = self.handshakes.get_mut(&id) {
            let (worker, endpoint) = (handshake.worker, handshake.endpoint);
            let Some(output) = handshake.session.as_mut().and_then(DtlsSession::poll_output) else { break };
            match output {
                DtlsOutput::Datagram(datagram) => self.send(worker, Command::SendDtls { endpoint, datagram })?,
                DtlsOutput::Connected(keys) => {
                    self.send(worker, Command::SetSrtp { endpoint, keys: Box::new(keys) })?;
                }
                DtlsOutput::ApplicationData(_) => {}
                DtlsOutput::Failed(error) => {
                    return Err(SubjectError::Generator(GeneratorError::Dtls { client: id.0 as usize, error }));
                }
            }
        }
        Ok(())
    }
}

impl Subject for InProcess {
    fn name(&self) -> &str {
        &self.name
    }

    fn join(&mut self, world: &mut World, client: ClientId, room: usize) -> Result<(), SubjectError> {
        let conference = ConferenceId(room as u32 + 1);
        let next = self.rooms.len() % self.links.len();
        let worker = match self.rooms.get(&room) {
            Some(worker) => *worker,
            None => {
                let feedback = FeedbackSsrcs { audio: Ssrc::new(0x7000_0001), video: Ssrc::new(0x7000_0002) };
                self.send(next, Command::CreateConference { conference, feedback })?;
                self.rooms.insert(room, next);
                next
            }
        };
        let endpoint = EndpointId(client as u32 + 1);
        let ice = IceCredentials {
            ufrag: format!("{}bench{client}", ufrag_prefix(WorkerId::from_index(worker))),
            pwd: format!("password-of-the-bridge-{client}"),
        };
        let (credentials, fingerprint) = world.describe(client, |local| {
            let credentials = IceCredentials { ufrag: local.ufrag.to_owned(), pwd: local.pwd.to_owned() };
            (credentials, local.fingerprint.to_owned())
        });
        let new =
            NewEndpoint { conference, endpoint, label: format!("client{client}"), ice: ice.clone(), controlling: true };
        self.send(worker, Command::CreateEndpoint(Box::new(new)))?;
        let candidates = Vec::new();
        self.send(worker, Command::SetRemoteIce { endpoint, credentials: Some(credentials), candidates })?;
        let media = media(world.numbers_of(client));
        self.send(worker, Command::SetMedia { endpoint, media: Box::new(media) })?;
        let sources = sources(client, &world.streams_of(client));
        self.send(worker, Command::SetSources { endpoint, sources })?;
        let constraints = Box::new(ReceiverConstraints {
            last_n: self.last_n,
            default: VideoConstraint { max_height: Limit::Max(2160), max_frame_rate: Limit::Unlimited },
            ..ReceiverConstraints::default()
        });
        self.send(worker, Command::SetConstraints { endpoint, constraints })?;
        self.handshakes.insert(endpoint, Handshake { endpoint, worker, fingerprint, session: None });
        let remote = Remote {
            ufrag: ice.ufrag,
            pwd: ice.pwd,
            lite: false,
            candidates: vec![self.bridge],
            fingerprints: vec![Fingerprint {
                hash: "sha-256".into(),
                value: self.certificate.fingerprint().to_owned(),
            }],
            role: DtlsRole::Client,
            sections: Vec::new(),
        };
        world.set_remote(client, remote, false);
        Ok(())
    }

    fn poll(&mut self, now: Instant) -> Result<(), SubjectError> {
        for worker in 0..self.links.len() {
            self.links[worker].clear_wakeup();
            while let Some(event) = self.links[worker].poll_event() {
                self.handle_event(now, event)?;
            }
        }
        let due: Vec<EndpointId> = self
            .handshakes
            .iter()
            .filter(|(_, handshake)| {
                handshake.session.as_ref().and_then(DtlsSession::poll_timeout).is_some_and(|at| at <= now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(session) = self.handshakes.get_mut(&id).and_then(|handshake| handshake.session.as_mut()) {
                session.handle_timeout(now);
            }
            self.drain(id)?;
        }
        Ok(())
    }

    fn cpu(&self) -> Result<CpuTime, SubjectError> {
        cpu::of_tasks(std::process::id(), &self.threads).map_err(SubjectError::Cpu)
    }

    fn counters(&self) -> Option<OwnCounters> {
        Some(own_counters(|counter| self.stats.iter().map(|stats| stats.get(counter)).sum()))
    }

    fn resident(&self) -> Result<u64, SubjectError> {
        cpu::resident(std::process::id()).map_err(SubjectError::Cpu)
    }

    fn translates(&self) -> bool {
        true
    }
}

/// What the counters of ringbridge's workers say together.
pub(super) fn own_counters(get: impl Fn(Counter) -> u64) -> OwnCounters {
    let mut own = OwnCounters {
        forwarded: get(Counter::PacketsForwarded),
        syscalls: get(Counter::Syscalls),
        repeated: get(Counter::Retransmissions) + get(Counter::ProbePackets),
        ..OwnCounters::default()
    };
    for counter in Counter::ALL {
        let packets = get(*counter);
        let of_media = match fate(*counter) {
            Some(Fate::Receiver) => Some(&mut own.left_out),
            Some(Fate::All) => Some(&mut own.lost_before),
            None => None,
        };
        let dropped = (counter.metric() == "dropped").then_some(&mut own.dropped);
        for sum in [of_media, dropped].into_iter().flatten().filter(|_| packets > 0) {
            *sum.entry(counter.reason()).or_default() += packets;
        }
    }
    own
}

/// For whom a packet of media is missing that a counter counts.
enum Fate {
    /// One receiver.
    Receiver,
    /// All of them.
    All,
}

/// Of those counters that count media.
fn fate(counter: Counter) -> Option<Fate> {
    match counter {
        Counter::LeftOutUnwanted
        | Counter::LeftOutAwaitsKeyframe
        | Counter::LeftOutNotConnected
        | Counter::DropShed
        | Counter::DropReceiverLacksCodec
        | Counter::DropRewriteFailed
        | Counter::DropUnmapped
        | Counter::DropUnsignalled
        | Counter::DropOutputFull
        | Counter::DropSendError => Some(Fate::Receiver),
        Counter::DropUnknownAddress
        | Counter::DropNoKeys
        | Counter::DropRtpMalformed
        | Counter::DropSrtpAuth
        | Counter::DropSrtpReplay
        | Counter::DropTooOld
        | Counter::DropUnknownSsrc
        | Counter::DropUnknownPayloadType
        | Counter::DropForceMuted
        | Counter::DropNotLoudest
        | Counter::DropDependencyUnknown
        | Counter::DropInputShare
        | Counter::DropHandoverFull
        | Counter::DropCrossWorkerFull
        | Counter::DropCrossWorkerUnknown
        | Counter::DropOversized
        | Counter::DropSocketOverflow
        | Counter::DropRingOverflow
        | Counter::DropTableFull => Some(Fate::All),
        _ => None,
    }
}

/// Formats and extensions of a participant.
pub fn media(numbers: Numbers) -> Media {
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let format = |codec: Codec| CodecParameters {
        payload_type: numbers.payload_type(codec),
        kind: codec.kind(),
        name: codec.name().into(),
        clock_rate: codec.clock_rate(),
        channels: codec.channels(),
        parameters: owned(codec.parameters()),
        feedback: match codec.kind() {
            MediaKind::Audio => Vec::new(),
            MediaKind::Video => owned(&[("nack", ""), ("nack", "pli"), ("ccm", "fir")]),
        },
    };
    let level = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    Media {
        codecs: Codec::ALL.map(format).into(),
        header_extensions: vec![HeaderExtension { id: numbers.level, kind: MediaKind::Audio, uri: level.into() }],
        ..Media::default()
    }
}

/// What a participant publishes: (codec, SSRC) each.
pub fn sources(client: ClientId, streams: &[(Codec, u32)]) -> Vec<SourceDescription> {
    let describe = |(index, (codec, ssrc)): (usize, &(Codec, u32))| SourceDescription {
        name: format!("client{client}-{}{index}", if codec.kind() == MediaKind::Audio { 'a' } else { 'v' }),
        kind: codec.kind(),
        video_type: VideoType::Camera,
        encodings: vec![Encoding { ssrc: Ssrc::new(*ssrc), rtx: None }],
    };
    streams.iter().enumerate().map(describe).collect()
}
