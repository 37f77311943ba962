//! The forwarder: a conference on two workers, one of whose authenticated members misbehaves.
//!
//! Fed: what is configured, then steps: packets and RTCP of the attacker (any bytes, or nearly right ones), its signalling,
//! packets and constraints of the honest members, time, full output.
//! Held: nothing panics; what is sent opens at its receiver with an independent SRTP, is RTP or RTCP, and carries only numbers
//! that the receiver negotiated; no packet index is used for two packets under one key; timers advance; what one datagram
//! causes is bounded; afterwards the honest members still hear each other, and newcomers can negotiate what nobody had.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::conference::{EndpointSlot, Forwarder, ForwarderConfig, LoudestOnly};
use ringbridge_dataplane::congestion::shedding::Shedding;
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, PayloadType, Ssrc, WorkerId};
use ringbridge_dataplane::io::Path;
use ringbridge_dataplane::media::{
    AudioSubscription, Bitrate, CodecParameters, Encoding, HeaderExtension, Limit, Media, MediaKind,
    ReceiverConstraints, SourceDescription, VideoConstraint, VideoType,
};
use ringbridge_dataplane::messages::{Command, Event, FeedbackSsrcs, NewEndpoint, SsrcRewriting};
use ringbridge_dataplane::rtp::{Extension, HeaderFields, Packet, header};
use ringbridge_dataplane::srtp::Sealer;
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};
use ringbridge_dataplane::stats::WorkerStats;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::marshal::Unmarshal;

use crate::input::Input;
use crate::sink::ListSink;

const CONFERENCE: ConferenceId = ConferenceId(1);
const WORKERS: usize = 2;
/// Members by index: three honest ones, of which the third gets everything on SSRCs of the bridge's own, and the attacker.
const HONEST: usize = 3;
const ATTACKER: usize = 3;
/// Steps of one input.
const STEPS: usize = 400;
/// Datagrams that one datagram of the attacker may cause: a NACK asks for some thousand packets.
const MOST_FOR_ONE: usize = 1_600;

const URIS: [&str; 9] = [
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    "urn:3gpp:video-orientation",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
    "urn:x-made-up",
];
const NAMES: [&str; 10] = ["opus", "red", "VP8", "VP9", "AV1", "H264", "rtx", "ulpfec", "telephone-event", "made-up"];

/// What goes under one index: the whole packet for AEAD, the payload for counter mode.
type Sealed = HashMap<(u32, i64), Vec<u8>>;

struct Member {
    id: EndpointId,
    home: usize,
    slot: Option<EndpointSlot>,
    profile: SrtpProfile,
    tag: u8,
    sealer: Sealer,
    opens: Context,
    /// Newest index sent by SSRC.
    sent: HashMap<u32, i64>,
    /// Newest index received by SSRC, and all of them.
    newest: HashMap<u32, i64>,
    sealed: Sealed,
    rtcp_index: u32,
    media: Media,
    /// Every negotiation so far: packets that were under way come under older ones.
    numbers: [bool; 128],
    ssrcs: Vec<u32>,
    rtp: usize,
}

struct World {
    forwarders: Vec<Forwarder>,
    sink: ListSink,
    now: Instant,
    members: Vec<Member>,
    tells: bool,
    unsignalled: Vec<(EndpointId, u64)>,
    next_tag: u8,
    next_id: u32,
    made_up: u32,
}

fn keys(profile: SrtpProfile, tag: u8) -> SrtpKeys {
    let master = |side: u8| {
        let (mut key, mut salt) = ([0; 32], [0; 14]);
        key[..profile.key_len()].fill(tag);
        key[0] = side;
        salt[..profile.salt_len()].fill(tag ^ 0x5a);
        MasterKey { key, salt }
    };
    SrtpKeys { profile, inbound: master(1), outbound: master(2) }
}

fn independent(keys: &SrtpKeys) -> Context {
    let profile = match keys.profile {
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let k = &keys.outbound;
    Context::new(&k.key[..keys.profile.key_len()], &k.salt[..keys.profile.salt_len()], profile, None, None)
        .expect("an independent SRTP takes the keys")
}

fn codec(id: u8, kind: MediaKind, name: &str, apt: Option<u8>) -> CodecParameters {
    let video = kind == MediaKind::Video;
    let own = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let feedback: &[(&str, &str)] = if video && apt.is_none() {
        &[("ccm", "fir"), ("nack", ""), ("nack", "pli"), ("transport-cc", ""), ("goog-remb", "")]
    } else {
        &[]
    };
    CodecParameters {
        payload_type: PayloadType::from_low_bits(id),
        kind,
        name: name.to_owned(),
        clock_rate: if video { 90_000 } else { 48_000 },
        channels: if video { 1 } else { 2 },
        parameters: apt.map(|apt| vec![("apt".to_owned(), apt.to_string())]).unwrap_or_default(),
        feedback: own(feedback),
    }
}

/// What a browser negotiates; `base` keeps the numbers of one from those of another.
fn media(base: u8) -> Media {
    use MediaKind::{Audio, Video};
    let mut codecs = vec![codec(base, Audio, "opus", None)];
    let mut red = codec(base + 1, Audio, "red", None);
    red.parameters = vec![(String::new(), format!("{base}/{base}"))];
    codecs.push(red);
    for (at, name) in ["VP8", "VP9", "AV1", "H264"].into_iter().enumerate() {
        let id = base + 2 + 2 * at as u8;
        codecs.push(codec(id, Video, name, None));
        codecs.push(codec(id + 1, Video, "rtx", Some(id)));
    }
    let extension = |kind, at: usize, uri: usize| HeaderExtension {
        id: 1 + ((at as u8 + base) % 13),
        kind,
        uri: URIS[uri].to_owned(),
    };
    let audio = [0, 1, 3].into_iter().enumerate().map(|(at, uri)| extension(Audio, at, uri));
    let video = [1, 2, 3, 4, 5, 6].into_iter().enumerate().map(|(at, uri)| extension(Video, at, uri));
    Media { codecs, header_extensions: audio.chain(video).collect(), ..Media::default() }
}

fn audio_source(name: String, ssrc: u32) -> SourceDescription {
    let encodings = vec![Encoding { ssrc: Ssrc::new(ssrc), rtx: None }];
    SourceDescription { name, kind: MediaKind::Audio, video_type: VideoType::Camera, encodings }
}

fn video_source(name: String, first: u32, count: u32) -> SourceDescription {
    let encodings =
        (first..first + count).map(|ssrc| Encoding { ssrc: Ssrc::new(ssrc), rtx: Some(Ssrc::new(ssrc + 8)) }).collect();
    SourceDescription { name, kind: MediaKind::Video, video_type: VideoType::Camera, encodings }
}

/// First SSRC of a member: audio; video from the next on, three encodings, their RTX eight above.
fn first_ssrc(member: usize) -> u32 {
    0x1000 * (member as u32 + 1)
}

fn sources_of(member: usize) -> Vec<SourceDescription> {
    let first = first_ssrc(member);
    vec![audio_source(format!("m{member}-a0"), first), video_source(format!("m{member}-v0"), first + 1, 3)]
}

fn path_of(member: usize) -> Path {
    Path { local: 0, remote: SocketAddr::from(([127, 0, 0, 1], 5_000 + member as u16)) }
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let flags = input.u8();
        let config = ForwarderConfig {
            congestion_control: flags & 1 == 0,
            cache_bytes: if flags & 2 == 0 { 64 * 1024 } else { 4 * 1024 },
            loudest_only: (flags & 4 != 0).then(LoudestOnly::default),
            max_sources_per_endpoint: 6,
            max_endpoints_per_conference: 12,
            ..ForwarderConfig::default()
        };
        let stats: Vec<Arc<WorkerStats>> = (0..WORKERS).map(|_| Arc::default()).collect();
        let forwarders = Forwarder::connected(&config, &stats, if flags & 8 == 0 { 64 } else { 2 });
        let mut world = Self {
            forwarders: forwarders.expect("eventfds"),
            sink: ListSink::default(),
            now: Instant::now(),
            members: Vec::new(),
            tells: true,
            unsignalled: Vec::new(),
            next_tag: 0,
            next_id: 1,
            made_up: 0,
        };
        let feedback = FeedbackSsrcs { audio: Ssrc::new(0xaaaa), video: Ssrc::new(0xbbbb) };
        world.everywhere(&Command::CreateConference { conference: CONFERENCE, feedback });
        let profile = |strong: bool| if strong { SrtpProfile::AeadAes256Gcm } else { SrtpProfile::AeadAes128Gcm };
        world.join(0, profile(flags & 16 != 0), None, media(96));
        world.join(1, profile(false), None, media(110));
        world.join(0, profile(false), Some(SsrcRewriting { audio: 2, video: 2, seed: 7, mids: true }), media(96));
        let weak = if flags & 32 != 0 { SrtpProfile::Aes128CmHmacSha1_80 } else { profile(false) };
        let rewriting = (flags & 64 != 0).then_some(SsrcRewriting { audio: 1, video: 1, seed: 9, mids: false });
        world.join(usize::from(flags >> 7), weak, rewriting, media(100));
        world
    }

    fn everywhere(&mut self, command: &Command) {
        for forwarder in &mut self.forwarders {
            forwarder.handle_command(self.now, command.clone());
        }
    }

    /// To all that need it, as the control plane does.
    fn command(&mut self, member: usize, command: Command) {
        let home = self.members[member].home;
        for (worker, forwarder) in self.forwarders.iter_mut().enumerate() {
            if command.is_shared() || worker == home {
                forwarder.handle_command(self.now, command.clone());
            }
        }
        self.settle();
    }

    fn join(&mut self, home: usize, profile: SrtpProfile, rewriting: Option<SsrcRewriting>, media: Media) -> usize {
        let index = self.members.len();
        self.next_tag += 1;
        let keys = keys(profile, self.next_tag);
        self.members.push(Member {
            id: EndpointId(0),
            home,
            slot: None,
            profile,
            tag: self.next_tag,
            sealer: Sealer::new(&keys.inbound, profile),
            opens: independent(&keys),
            sent: HashMap::new(),
            newest: HashMap::new(),
            sealed: HashMap::new(),
            rtcp_index: 0,
            media: media.clone(),
            numbers: [false; 128],
            ssrcs: Vec::new(),
            rtp: 0,
        });
        self.enter(index, rewriting);
        self.set_media(index, media);
        let sources = sources_of(index);
        self.set_sources(index, sources);
        index
    }

    /// Creates the endpoint of a member, with the keys that the member has.
    fn enter(&mut self, index: usize, rewriting: Option<SsrcRewriting>) {
        let (home, endpoint) = (self.members[index].home, EndpointId(self.next_id));
        self.next_id += 1;
        for (worker, forwarder) in self.forwarders.iter_mut().enumerate() {
            forwarder.handle_command(
                self.now,
                if worker == home {
                    Command::CreateEndpoint(Box::new(NewEndpoint {
                        conference: CONFERENCE,
                        endpoint,
                        label: format!("m{index}"),
                        ice: IceCredentials { ufrag: "u".to_owned(), pwd: "p".to_owned() },
                        controlling: true,
                    }))
                } else {
                    Command::CreateRemoteEndpoint { conference: CONFERENCE, endpoint, home: WorkerId::from_index(home) }
                },
            );
        }
        let slot = self.forwarders[home].slot(endpoint);
        let member = &mut self.members[index];
        (member.id, member.slot) = (endpoint, slot);
        let keys = keys(member.profile, member.tag);
        if let Some(rewriting) = rewriting {
            self.command(index, Command::SetSsrcRewriting { endpoint, rewriting });
        }
        self.command(index, Command::SetSrtp { endpoint, keys: Box::new(keys) });
        self.forwarders[home].set_path(endpoint, Some(path_of(index)));
    }

    fn rekey(&mut self, index: usize) {
        if self.next_tag == u8::MAX {
            return;
        }
        self.next_tag += 1;
        let member = &mut self.members[index];
        member.tag = self.next_tag;
        let keys = keys(member.profile, member.tag);
        member.sealer = Sealer::new(&keys.inbound, keys.profile);
        member.opens = independent(&keys);
        member.sealed.clear();
        member.newest.clear();
        member.sent.clear();
        member.rtcp_index = 0;
    }

    fn set_media(&mut self, index: usize, media: Media) {
        let member = &mut self.members[index];
        for number in media.codecs.iter().map(|codec| codec.payload_type.index()) {
            if let Some(known) = member.numbers.get_mut(number) {
                *known = true;
            }
        }
        member.media = media.clone();
        let endpoint = member.id;
        self.command(index, Command::SetMedia { endpoint, media: Box::new(media) });
    }

    fn set_sources(&mut self, index: usize, sources: Vec<SourceDescription>) {
        let member = &mut self.members[index];
        member.ssrcs = sources
            .iter()
            .flat_map(|s| &s.encodings)
            .flat_map(|e| [Some(e.ssrc), e.rtx])
            .flatten()
            .map(Ssrc::get)
            .collect();
        let endpoint = member.id;
        self.command(index, Command::SetSources { endpoint, sources });
    }

    /// Seals plain RTP as the member would, `jump` packets after the newest of its SSRC, and gives it to the bridge.
    fn send_rtp(&mut self, index: usize, plain: &mut Vec<u8>, jump: i16) {
        let Ok(packet) = Packet::parse_sealed(plain) else { return self.send_raw(index, plain, true) };
        let (header_len, ssrc) = (packet.header_len(), packet.ssrc().get());
        let member = &mut self.members[index];
        let next = match member.sent.get(&ssrc) {
            Some(newest) => (newest + i64::from(jump)).max(0),
            None => i64::from(packet.sequence()),
        };
        plain[2..4].copy_from_slice(&(next as u16).to_be_bytes());
        let newest = member.sent.entry(ssrc).or_insert(next);
        *newest = next.max(*newest);
        let len = plain.len();
        plain.resize(len + 16, 0);
        let Ok(sealed) = member.sealer.seal_rtp(plain, header_len, len, (next >> 16) as u32) else { return };
        plain.truncate(sealed);
        self.send_raw(index, plain, true);
    }

    fn send_rtcp(&mut self, index: usize, plain: &mut Vec<u8>) {
        let len = plain.len();
        plain.resize(len + 20, 0);
        let Ok(sealed) = self.members[index].sealer.seal_rtcp(plain, len) else { return };
        plain.truncate(sealed);
        self.send_raw(index, plain, false);
    }

    fn send_raw(&mut self, index: usize, datagram: &mut [u8], rtp: bool) {
        let Member { home, slot: Some(slot), .. } = self.members[index] else { return };
        if datagram.len() > ringbridge_dataplane::io::MAX_DATAGRAM {
            return;
        }
        match rtp {
            true => self.forwarders[home].handle_rtp(self.now, slot, datagram, &mut self.sink),
            false => self.forwarders[home].handle_rtcp(self.now, slot, datagram, &mut self.sink),
        }
        let caused = self.deliver();
        assert!(caused <= MOST_FOR_ONE, "{caused} datagrams for one");
    }

    fn exchange(&mut self) {
        for _ in 0..3 {
            for forwarder in &mut self.forwarders {
                forwarder.handle_peers(self.now, &mut self.sink);
            }
        }
    }

    /// Runs what is due now.
    fn settle(&mut self) {
        for _ in 0..2 {
            for forwarder in &mut self.forwarders {
                forwarder.handle_timeout(self.now, &mut self.sink);
                let due = forwarder.poll_timeout();
                assert!(due.is_none_or(|due| due > self.now), "a timer that is due again at once");
            }
            self.deliver();
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.forwarders.iter().filter_map(Forwarder::poll_timeout).min().filter(|due| *due <= end)
        {
            turns += 1;
            assert!(turns <= 200 + 2 * WORKERS as u128 * time.as_millis() / 5, "timers do not advance");
            self.now = self.now.max(due);
            self.settle();
        }
        self.now = end;
    }

    /// What was sent arrives; returns how many datagrams that were.
    fn deliver(&mut self) -> usize {
        self.exchange();
        let datagrams = std::mem::take(&mut self.sink.datagrams);
        let count = datagrams.len();
        for (path, datagram) in datagrams {
            let member = &mut self.members[usize::from(path.remote.port() - 5_000)];
            assert!(member.slot.is_some(), "sent to one that is gone");
            if matches!(datagram[1], 192..=223) {
                // Whoever negotiates numbers that look like RTCP (RFC 5761 section 4) cannot distinguish them.
                if !member.numbers[usize::from(datagram[1] & 0x7f)] {
                    take_rtcp(member, &datagram);
                }
            } else {
                take_rtp(member, &datagram);
            }
        }
        let mut events = 0;
        for worker in 0..WORKERS {
            while let Some(event) = self.forwarders[worker].poll_event() {
                events += 1;
                assert!(events < 1_000, "events without end");
                if let Event::SourcesMapped { endpoint, announcement, sources } = event {
                    assert!(sources.len() <= 4, "more sources than SSRCs");
                    self.unsignalled.push((endpoint, announcement));
                }
            }
        }
        if self.tells {
            for (endpoint, announcement) in std::mem::take(&mut self.unsignalled) {
                if let Some(home) = self.members.iter().find(|m| m.id == endpoint && m.slot.is_some()).map(|m| m.home) {
                    self.forwarders[home]
                        .handle_command(self.now, Command::MappingsSignalled { endpoint, announcement });
                }
            }
        }
        count
    }

    /// The next packet of an honest member's camera or microphone.
    fn play(&mut self, index: usize, what: u8) {
        let (first, base) = (first_ssrc(index), self.members[index].media.codecs[0].payload_type.get());
        let encoding = what & 3;
        let audio = encoding == 3;
        let key = what & 4 != 0;
        let ssrc = if audio { first } else { first + 1 + u32::from(encoding) };
        let index_before = self.members[index].sent.get(&ssrc).copied().unwrap_or(100);
        let mut payload = vec![0x90, 0xe0];
        payload.extend(((index_before as u16 / 2) | 0x8000).to_be_bytes());
        payload.extend([(index_before / 2) as u8, 0x20, u8::from(!key), 1, 2, 0x9d, 0x01, 0x2a]);
        let height = 180u16 << encoding;
        payload.extend((height * 16 / 9).to_le_bytes());
        payload.extend(height.to_le_bytes());
        payload.extend([0x77; 40]);
        let fields = HeaderFields {
            padding: false,
            marker: true,
            payload_type: PayloadType::from_low_bits(if audio { base } else { base + 2 }),
            sequence: 100,
            timestamp: (index_before as u32).wrapping_mul(3_000),
            ssrc: Ssrc::new(ssrc),
        };
        let level = [if what & 8 == 0 { 20 } else { 127 }];
        let number = self.members[index].media.header_extensions[0].id;
        let extensions = [Extension { id: number, data: &level }];
        let mut out = vec![0; 200];
        let extensions = if audio { &extensions[..] } else { &[] };
        let len = header::write(&fields, [].into_iter(), extensions, &mut out).expect("room");
        out.truncate(len);
        out.extend(payload);
        self.send_rtp(index, &mut out, 1);
    }
}

fn take_rtp(member: &mut Member, datagram: &[u8]) {
    let plain = member.opens.decrypt_rtp(datagram).expect("SRTP opens at the receiver");
    let packet = rtp::packet::Packet::unmarshal(&mut &plain[..]).expect("RTP at the receiver");
    let (ssrc, sequence) = (packet.header.ssrc, packet.header.sequence_number);
    let newest = member.newest.entry(ssrc).or_insert_with(|| i64::from(sequence));
    let index = *newest + i64::from(sequence.wrapping_sub(*newest as u16) as i16);
    *newest = index.max(*newest);
    let under_it = match member.profile {
        SrtpProfile::Aes128CmHmacSha1_80 => packet.payload.to_vec(),
        _ => datagram.to_vec(),
    };
    if let Some(before) = member.sealed.insert((ssrc, index), under_it) {
        assert_eq!(before, member.sealed[&(ssrc, index)], "two packets under index {index} of SSRC {ssrc}");
    }
    assert!(member.numbers[usize::from(packet.header.payload_type)], "payload type {}", packet.header.payload_type);
    assert!(!packet.header.extensions.iter().any(|e| e.id == 0));
    member.rtp += 1;
}

fn take_rtcp(member: &mut Member, datagram: &[u8]) {
    let aead = member.profile != SrtpProfile::Aes128CmHmacSha1_80;
    let at = datagram.len() - if aead { 4 } else { 14 };
    let index = u32::from_be_bytes(datagram[at..at + 4].try_into().expect("four bytes")) & 0x7fff_ffff;
    assert!(index > member.rtcp_index, "SRTCP index {index} after {}", member.rtcp_index);
    member.rtcp_index = index;
    let plain = member.opens.decrypt_rtcp(datagram).expect("SRTCP opens at the receiver");
    rtcp::packet::unmarshal(&mut &plain[..]).expect("RTCP at the receiver");
}

fn attacker_media(world: &mut World, input: &mut Input<'_>) -> Media {
    let count = input.u8();
    if count >= 0xf0 {
        // As many names of its own making as there are numbers.
        let kind = input.pick(&[MediaKind::Audio, MediaKind::Video]);
        let mut media = Media::default();
        for id in 0..127u8 {
            world.made_up += 1;
            let serial = world.made_up;
            media.codecs.push(codec(id, kind, &format!("codec{serial}"), None));
            media.header_extensions.push(HeaderExtension { id: 1 + id, kind, uri: format!("urn:x-{serial}") });
        }
        return media;
    }
    let kind = |byte: u8| if byte & 0x80 == 0 { MediaKind::Audio } else { MediaKind::Video };
    let mut media = Media { extmap_allow_mixed: count & 1 == 1, ..Media::default() };
    for at in 0..count & 0x0f {
        let (id, what) = (input.u8(), input.u8());
        let name = NAMES[usize::from(what & 0x0f) % NAMES.len()];
        let apt = (name == "rtx").then(|| input.u8());
        let mut one = codec(id, kind(what), name, apt);
        if what & 0x40 != 0 {
            (one.clock_rate, one.channels) = (input.u32(), input.u8());
        }
        if what & 0x20 != 0 {
            let value = format!("{:x}", input.u32());
            one.parameters.push(("profile-level-id".to_owned(), value.clone()));
            one.parameters.push(("profile-id".to_owned(), value));
        }
        if at & 8 == 8 { media.offered_codecs.push(one) } else { media.codecs.push(one) }
    }
    for _ in 0..count >> 4 {
        let (id, what) = (input.u8(), input.u8());
        let uri = URIS[usize::from(what & 0x0f) % URIS.len()].to_owned();
        media.header_extensions.push(HeaderExtension { id, kind: kind(what), uri });
    }
    media
}

fn attacker_sources(input: &mut Input<'_>) -> Vec<SourceDescription> {
    (0..input.u8() % 9)
        .map(|number| {
            let what = input.u8();
            let kind = if what & 1 == 0 { MediaKind::Video } else { MediaKind::Audio };
            let ssrc = |byte: u8| first_ssrc(usize::from(byte >> 5) % 4) + u32::from(byte & 0x1f);
            let encodings = (0..what >> 5)
                .map(|_| Encoding {
                    ssrc: Ssrc::new(ssrc(input.u8())),
                    rtx: input.flag().then(|| ssrc(input.u8())).map(Ssrc::new),
                })
                .collect();
            let name = if what & 2 == 0 { format!("m3-{number}") } else { "m0-v0".to_owned() };
            let types = [VideoType::Camera, VideoType::Desktop, VideoType::None, VideoType::DesktopHighFps];
            SourceDescription { name, kind, video_type: types[usize::from(what >> 3) % 4], encodings }
        })
        .collect()
}

fn limit(input: &mut Input<'_>, values: &[u32]) -> Limit {
    let most = input.pick(values);
    if input.flag() { Limit::Unlimited } else { Limit::at_most(most) }
}

fn wishes(input: &mut Input<'_>) -> ReceiverConstraints {
    let name = |byte: u8| format!("m{}-{}0", byte & 3, if byte & 4 == 0 { "v" } else { "a" });
    let names = |input: &mut Input<'_>| -> Vec<String> { (0..input.u8() % 6).map(|_| name(input.u8())).collect() };
    let height = |input: &mut Input<'_>| VideoConstraint {
        max_height: limit(input, &[0, 1, 90, 180, 360, 720, u32::MAX, 2160]),
        max_frame_rate: limit(input, &[0, 1, 7, 15, 30, u32::MAX]),
    };
    ReceiverConstraints {
        last_n: limit(input, &[0, 1, 2, 100, u32::MAX]),
        on_stage: names(input),
        selected: names(input),
        default: height(input),
        per_source: names(input).into_iter().map(|name| (name, height(input))).collect(),
        assumed_bandwidth: input.flag().then(|| Bitrate::new(input.u64())),
        audio: AudioSubscription { all: input.flag(), include: names(input), exclude: names(input) },
    }
}

/// A packet that is nearly right: an SSRC and a number of the attacker's, extensions, a payload of one of the codecs.
fn crafted(world: &World, input: &mut Input<'_>) -> Vec<u8> {
    let attacker = &world.members[ATTACKER];
    let at = |list: &[u32], byte: u8| list.get(usize::from(byte) % list.len().max(1)).copied().unwrap_or(7);
    let flags = input.u8();
    let numbers = &attacker.media.codecs;
    let number = numbers
        .get(usize::from(input.u8()) % numbers.len().max(1))
        .map_or(PayloadType::from_low_bits(0), |codec| codec.payload_type);
    let fields = HeaderFields {
        padding: flags & 1 == 1,
        marker: flags & 2 == 2,
        payload_type: number,
        sequence: if flags & 4 == 4 { input.u16() } else { 65_500 },
        timestamp: input.u32(),
        ssrc: Ssrc::new(at(&attacker.ssrcs, input.u8())),
    };
    let ids = &attacker.media.header_extensions;
    let extensions: Vec<Extension<'_>> = (0..flags >> 5)
        .map(|_| {
            let id = ids.get(usize::from(input.u8()) % ids.len().max(1)).map_or(1, |e| e.id.max(1));
            Extension { id, data: input.bytes() }
        })
        .collect();
    let mut out = vec![0; 1_400];
    let len = header::write(&fields, [].into_iter(), &extensions, &mut out).unwrap_or(12);
    out.truncate(len);
    out.extend(input.bytes());
    let padding = if flags & 0x10 != 0 { usize::from(input.u8()) * 4 } else { 0 };
    out.resize(out.len() + padding, 0x55);
    out
}

/// RTCP that is nearly right, about streams that the attacker gets or sends.
fn report(world: &World, input: &mut Input<'_>) -> Vec<u8> {
    let attacker = &world.members[ATTACKER];
    let mut known: Vec<u32> = attacker.newest.keys().copied().collect();
    known.sort_unstable();
    known.extend((0..4).flat_map(|member| first_ssrc(member)..first_ssrc(member) + 4));
    known.extend(&attacker.ssrcs);
    let mut out = Vec::new();
    let block = |out: &mut Vec<u8>, count: u8, kind: u8, body: &[u8]| {
        out.extend([0x80 | count, kind]);
        out.extend(((body.len() / 4) as u16).to_be_bytes());
        out.extend(&body[..body.len() / 4 * 4]);
    };
    for _ in 0..1 + input.u8() % 4 {
        let ssrc = known[usize::from(input.u8()) % known.len()];
        let mut body = 1u32.to_be_bytes().to_vec();
        let kind = input.u8();
        if kind % 8 < 4 {
            body.extend(ssrc.to_be_bytes());
        }
        match kind % 8 {
            0 => {
                let newest = attacker.newest.get(&ssrc).copied().unwrap_or(0) as u16;
                for _ in 0..if kind & 0x80 == 0 { input.u8() % 12 } else { input.u8() } {
                    let entry = input.u16();
                    let first = if entry & 1 == 0 { newest.wrapping_sub(entry >> 9) } else { entry };
                    body.extend(first.to_be_bytes());
                    body.extend(input.u16().to_be_bytes());
                }
                block(&mut out, 1, 205, &body);
            }
            1 => block(&mut out, 1, 206, &body),
            2 => {
                body.extend(input.bytes());
                block(&mut out, 15, 205, &body);
            }
            3 => {
                body.extend(input.bytes());
                block(&mut out, input.u8() & 0x1f, input.pick(&[200, 201, 202, 203, 204, 205, 206, 207]), &body);
            }
            4 => {
                body.extend([0; 4]);
                body.extend(b"REMB\x01");
                body.extend([input.u8(), input.u8(), input.u8()]);
                body.extend(ssrc.to_be_bytes());
                block(&mut out, 15, 206, &body);
            }
            5 => {
                body.extend([0; 4]);
                for _ in 0..input.u8() % 6 {
                    body.extend(known[usize::from(input.u8()) % known.len()].to_be_bytes());
                    body.extend(input.u32().to_be_bytes());
                }
                block(&mut out, 4, 206, &body);
            }
            6 => {
                let mut body = ssrc.to_be_bytes().to_vec();
                body.extend(input.u64().to_be_bytes());
                body.extend(input.u32().to_be_bytes());
                body.extend([0; 8]);
                block(&mut out, 0, 200, &body);
            }
            _ => {
                body.extend(ssrc.to_be_bytes());
                body.extend(input.u32().to_be_bytes());
                body.extend([0; 8]);
                body.extend(input.u64().to_be_bytes());
                block(&mut out, 1, 201, &body);
            }
        }
    }
    out
}

fn step(world: &mut World, input: &mut Input<'_>) {
    match input.u8() % 20 {
        0 => {
            let mut plain = input.long_bytes(1_400).to_vec();
            let which = input.u8();
            if let (true, Some(ssrc)) = (plain.len() >= 12, world.members[ATTACKER].ssrcs.get(usize::from(which))) {
                plain[8..12].copy_from_slice(&ssrc.to_be_bytes());
            }
            let jump = if which & 0x80 == 0 { 1 } else { input.u16() as i16 };
            world.send_rtp(ATTACKER, &mut plain, jump);
        }
        1 | 2 => {
            let mut plain = crafted(world, input);
            let jump = input.u8();
            let jump = if jump & 1 == 0 { i16::from(jump as i8) / 2 } else { input.u16() as i16 };
            world.send_rtp(ATTACKER, &mut plain, jump);
        }
        3 => {
            let mut plain = input.long_bytes(1_400).to_vec();
            world.send_rtcp(ATTACKER, &mut plain);
        }
        4 | 5 => {
            let mut plain = report(world, input);
            world.send_rtcp(ATTACKER, &mut plain);
        }
        6 => {
            let mut raw = input.long_bytes(1_500).to_vec();
            let rtp = input.flag();
            world.send_raw(ATTACKER, &mut raw, rtp);
        }
        7 => world.pass(Duration::from_millis(u64::from(input.u8()))),
        8 => world.pass(Duration::from_millis(u64::from(input.u16()) % 4_000)),
        9 => {
            let sources = attacker_sources(input);
            world.set_sources(ATTACKER, sources);
        }
        10 => {
            let media = attacker_media(world, input);
            world.set_media(ATTACKER, media);
        }
        11 => {
            let constraints = Box::new(wishes(input));
            let endpoint = world.members[ATTACKER].id;
            world.command(ATTACKER, Command::SetConstraints { endpoint, constraints });
        }
        12 => {
            // Keys that are in use already change nothing.
            if input.flag() {
                world.rekey(ATTACKER);
            }
            let member = &world.members[ATTACKER];
            let (endpoint, keys) = (member.id, Box::new(keys(member.profile, member.tag)));
            world.command(ATTACKER, Command::SetSrtp { endpoint, keys });
        }
        13 => {
            let endpoint = world.members[ATTACKER].id;
            let rewriting = input.flag();
            if world.members[ATTACKER].slot.is_some() {
                world.command(ATTACKER, Command::ExpireEndpoint { endpoint });
                world.members[ATTACKER].slot = None;
            } else {
                world.rekey(ATTACKER);
                world.enter(ATTACKER, rewriting.then_some(SsrcRewriting { audio: 1, video: 2, seed: 11, mids: true }));
                let media = world.members[ATTACKER].media.clone();
                world.set_media(ATTACKER, media);
                let sources = sources_of(ATTACKER);
                world.set_sources(ATTACKER, sources);
            }
        }
        14 | 15 => {
            let what = input.u8();
            world.play(usize::from(what >> 4) % HONEST, what);
        }
        16 => {
            // A whole picture of everybody, in every encoding.
            for member in 0..HONEST {
                for encoding in 0..4 {
                    world.play(member, encoding | 4);
                }
            }
        }
        17 => {
            let what = input.u8();
            world.tells = what & 1 == 1;
            world.sink.full = what & 6 == 6;
            let level = if what & 0x30 == 0x30 { what & 0x0f } else { 0 };
            world.forwarders.iter_mut().for_each(|forwarder| forwarder.set_shedding(Shedding::at(level)));
        }
        18 => {
            let (endpoint, what) = (world.members[ATTACKER].id, input.u8());
            world.command(ATTACKER, Command::SetForceMute { endpoint, audio: what & 1 == 1, video: what & 2 == 2 });
        }
        _ => {
            let constraints = Box::new(wishes(input));
            let endpoint = world.members[1].id;
            world.command(1, Command::SetConstraints { endpoint, constraints });
        }
    }
}

/// What must hold whatever the attacker did.
fn aftermath(world: &mut World) {
    world.sink.full = false;
    world.tells = true;
    world.forwarders.iter_mut().for_each(|forwarder| forwarder.set_shedding(Shedding::default()));
    let endpoint = world.members[1].id;
    world.command(1, Command::SetConstraints { endpoint, constraints: Box::default() });
    world.pass(Duration::from_secs(1));
    let before = world.members[1].rtp;
    world.play(0, 3);
    assert!(world.members[1].rtp > before, "honest members hear each other");
    // Two newcomers agree on a codec and an extension that nobody here had.
    let mut rare = media(96);
    rare.codecs.push(codec(34, MediaKind::Audio, "G722", None));
    let sender = world.join(0, SrtpProfile::AeadAes128Gcm, None, rare.clone());
    let receiver = world.join(1, SrtpProfile::AeadAes128Gcm, None, rare);
    world.pass(Duration::from_millis(20));
    let before = world.members[receiver].rtp;
    let fields = HeaderFields {
        padding: false,
        marker: false,
        payload_type: PayloadType::from_low_bits(34),
        sequence: 1,
        timestamp: 1,
        ssrc: Ssrc::new(first_ssrc(sender)),
    };
    let mut out = vec![0; 40];
    let len = header::write(&fields, [].into_iter(), &[], &mut out).expect("room");
    out.truncate(len);
    out.extend([1, 2, 3]);
    world.send_rtp(sender, &mut out, 1);
    assert!(world.members[receiver].rtp > before, "newcomers negotiate what nobody had");
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS {
        steps += 1;
        step(&mut world, &mut input);
    }
    let loudest = data.first().is_some_and(|flags| flags & 4 != 0);
    if !loudest {
        aftermath(&mut world);
    }
}
