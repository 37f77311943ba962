//! The media side of a scripted participant: str0m as ICE, DTLS and SRTP, clips as its camera and microphone.
//!
//! Like str0m itself it does no I/O: datagrams and the time go in, datagrams come out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::crypto::Fingerprint;
use str0m::format::{Codec, FormatParams};
use str0m::ice::IceCreds;
use str0m::media::{Frequency, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap, ExtensionValues, RawPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError};

use super::clips::Clips;
use super::codec::{Beginning, VideoCodec};
use super::gaps::{Gaps, Stalls};
use super::jingle::{Offer, RemoteSource};
use super::opened::Opened;
use super::speech::Speech;

/// How often a participant sends.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time between two video frames.
    pub video: Duration,
    /// Between two audio packets; each holds 20 ms, what lies between is left out as in silence.
    pub audio: Duration,
}

impl Pace {
    /// `fps` frames of video a second, and an audio packet every `audio_ms` milliseconds.
    pub fn new(fps: u32, audio_ms: u64) -> Self {
        Self { video: Duration::from_secs(1) / fps.max(1), audio: Duration::from_millis(audio_ms.max(20)) }
    }

    /// In ticks of a media clock (Hz), to the nearest.
    fn ticks(interval: Duration, clock: u128) -> u32 {
        ((interval.as_nanos() * clock + 500_000_000) / 1_000_000_000) as u32
    }
}

/// What arrived from one other participant.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Received {
    /// Video frames of which every packet came, from the first keyframe on.
    pub video_frames: u64,
    /// Frames with a hole.
    pub video_broken: u64,
    /// Keyframes.
    pub video_keyframes: u64,
    /// Audio packets.
    pub audio_packets: u64,
    /// Audio packets that others of the same stream show to be missing, since the last report.
    pub audio_lost: u64,
    /// Longest time without a whole frame since the last report, milliseconds, without this process's own pauses.
    pub video_gap_ms: u64,
    /// Longest time without an audio packet since the last report, milliseconds, without this process's own pauses.
    pub audio_gap_ms: u64,
}

/// Sequence numbers of one audio stream since the last report.
#[derive(Debug, Default)]
struct Numbers {
    first: Option<u64>,
    highest: u64,
    packets: u64,
}

impl Numbers {
    fn push(&mut self, sequence: u64) {
        let first = *self.first.get_or_insert(sequence);
        // What comes later than a report belongs to the time before it.
        if sequence >= first {
            self.highest = self.highest.max(sequence);
            self.packets += 1;
        }
    }

    fn lost(&self) -> u64 {
        self.first.map_or(0, |first| (self.highest + 1 - first).saturating_sub(self.packets))
    }

    fn restart(&mut self) {
        *self = Self { first: self.first.map(|_| self.highest + 1), highest: self.highest, packets: 0 };
    }
}

/// What is known of one received stream.
#[derive(Debug, Default)]
struct Stream {
    assembly: Assembly,
    numbers: Numbers,
    gaps: Gaps,
}

#[derive(Debug, Default)]
struct Assembly {
    next: Option<u64>,
    /// Whether the last packet had the marker.
    ended: bool,
    whole: bool,
    keyframe_seen: bool,
}

/// The SSRCs that a participant sends with.
#[derive(Debug, Clone, Copy)]
pub struct OwnSsrcs {
    /// Audio.
    pub audio: u32,
    /// Video.
    pub video: u32,
    /// Video retransmissions.
    pub video_rtx: u32,
}

/// One peer connection to the bridge.
pub struct MediaSession {
    rtc: Rtc,
    clips: Arc<Clips>,
    local: SocketAddr,
    own: OwnSsrcs,
    speech: Speech,
    pace: Pace,
    pts: (Pt, Pt),
    connected: bool,
    next_video: Instant,
    next_audio: Instant,
    video_frame: usize,
    picture_id: u16,
    sequences: (u64, u64),
    timestamps: (u32, u32),
    owners: BTreeMap<u32, (String, bool)>,
    streams: BTreeMap<u32, Stream>,
    stalls: Stalls,
    muted: bool,
    received: BTreeMap<String, Received>,
    opened: Opened,
    channel: Channel,
}

/// The bridge channel as a data channel.
#[derive(Debug, Default)]
struct Channel {
    id: Option<ChannelId>,
    /// What is said as soon as it is open.
    greeting: String,
    opened: u64,
    heard: VecDeque<String>,
}

/// What to do next.
pub enum Step {
    /// Send a datagram to an address.
    Send(SocketAddr, Vec<u8>),
    /// Nothing until then, unless a datagram arrives.
    Wait(Instant),
}

/// A session that cannot be set up or went wrong.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// str0m refused something.
    #[error("media session: {0}")]
    Rtc(#[from] RtcError),
    /// The offer carries something unusable.
    #[error("the offer's {what} is unusable: {value}")]
    Offer {
        /// The part of str0m that failed.
        what: &'static str,
        /// Its error.
        value: String,
    },
}

fn mids() -> (Mid, Mid) {
    (Mid::from("audio"), Mid::from("video"))
}

fn codec_of(codec: VideoCodec) -> Codec {
    match codec {
        VideoCodec::Vp8 => Codec::Vp8,
        VideoCodec::Vp9 => Codec::Vp9,
        VideoCodec::H264 => Codec::H264,
        VideoCodec::Av1 => Codec::Av1,
    }
}

fn unusable(what: &'static str, value: impl std::fmt::Display) -> MediaError {
    MediaError::Offer { what, value: value.to_string() }
}

impl MediaSession {
    /// Takes the focus's offer; `local` is the bound UDP address.
    pub fn new(
        now: Instant,
        offer: &Offer,
        local: SocketAddr,
        own: OwnSsrcs,
        clips: Arc<Clips>,
    ) -> Result<Self, MediaError> {
        let mut config = RtcConfig::new().clear_codecs().set_rtp_mode(true).enable_raw_packets(true);
        let mut extensions = ExtensionMap::empty();
        for (uri, extension) in
            [(super::AUDIO_LEVEL, Extension::AudioLevel), (super::TRANSPORT_CC, Extension::TransportSequenceNumber)]
        {
            if let Some(id) = offer.extensions.get(uri) {
                extensions.set(*id, extension);
            }
        }
        config = config.set_extension_map(extensions);
        let pts = (Pt::from(offer.opus), Pt::from(offer.video.id));
        let codecs = config.codec_config();
        codecs.add_config(pts.0, None, Codec::Opus, Frequency::FORTY_EIGHT_KHZ, Some(2), FormatParams::default());
        codecs.add_config(
            pts.1,
            offer.video.rtx.map(Pt::from),
            codec_of(offer.video.codec),
            Frequency::NINETY_KHZ,
            None,
            FormatParams::default(),
        );
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp").map_err(|e| unusable("local address", e))?);
        for (ip, port) in &offer.candidates {
            let Ok(address) = ip.parse() else { continue };
            let candidate = Candidate::host(SocketAddr::new(address, *port), "udp");
            rtc.add_remote_candidate(candidate.map_err(|e| unusable("candidate", e))?);
        }
        let bytes: Result<Vec<u8>, _> =
            offer.fingerprint.1.trim().split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
        let bytes = bytes.map_err(|_| unusable("fingerprint", &offer.fingerprint.1))?;
        let mut direct = rtc.direct_api();
        direct.set_ice_controlling(false);
        direct.set_remote_fingerprint(Fingerprint { hash_func: offer.fingerprint.0.clone(), bytes });
        direct.set_remote_ice_credentials(IceCreds { ufrag: offer.ice.0.clone(), pass: offer.ice.1.clone() });
        direct.start_dtls(true)?;
        let (audio, video) = mids();
        direct.declare_media(audio, MediaKind::Audio);
        direct.declare_media(video, MediaKind::Video);
        direct.declare_stream_tx(Ssrc::from(own.audio), None, audio, None);
        direct.declare_stream_tx(
            Ssrc::from(own.video),
            offer.video.rtx.map(|_| Ssrc::from(own.video_rtx)),
            video,
            None,
        );
        let mut channel = Channel::default();
        if offer.data {
            direct.start_sctp(true);
            let (label, protocol) = ("JVB data channel".to_owned(), "http://jitsi.org/protocols/colibri".to_owned());
            channel.id =
                Some(direct.create_data_channel(ChannelConfig { label, protocol, ..ChannelConfig::default() }));
        }
        let mut session = Self {
            rtc,
            clips,
            local,
            own,
            speech: Speech::Always,
            pace: Pace::new(15, 20),
            pts,
            connected: false,
            next_video: now,
            next_audio: now,
            video_frame: 0,
            picture_id: 0,
            sequences: (1, 1),
            timestamps: (0, 0),
            owners: BTreeMap::new(),
            streams: BTreeMap::new(),
            stalls: Stalls::default(),
            muted: false,
            received: BTreeMap::new(),
            opened: Opened::default(),
            channel,
        };
        session.add_sources(&offer.sources);
        Ok(session)
    }

    /// Says when the microphone is loud; without it, always.
    pub fn set_speech(&mut self, speech: Speech) {
        self.speech = speech;
    }

    /// Sets what it sends the bridge as soon as it has a data channel.
    pub fn set_greeting(&mut self, greeting: String) {
        self.channel.greeting = greeting;
    }

    /// How often a data channel was opened.
    pub fn data_channels(&self) -> u64 {
        self.channel.opened
    }

    /// The next text that the bridge said on it.
    pub fn heard(&mut self) -> Option<String> {
        self.channel.heard.pop_front()
    }

    /// Says how often it sends; without it 15 frames and 50 audio packets a second.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Says where this process's own pauses are recorded.
    pub fn set_stalls(&mut self, stalls: Stalls) {
        self.stalls = stalls;
    }

    /// Sends nothing while it is muted.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Our ICE credentials and certificate fingerprint, for the answer.
    pub fn credentials(&mut self) -> ((String, String), String) {
        let direct = self.rtc.direct_api();
        let ice = direct.local_ice_credentials();
        let hex: Vec<String> = direct.local_dtls_fingerprint().bytes.iter().map(|b| format!("{b:02X}")).collect();
        ((ice.ufrag, ice.pass), hex.join(":"))
    }

    /// Expects what others publish.
    pub fn add_sources(&mut self, sources: &[RemoteSource]) {
        let (audio, video) = mids();
        for source in sources {
            let mid = if source.video { video } else { audio };
            self.rtc.direct_api().expect_stream_rx(Ssrc::from(source.ssrc), source.rtx.map(Ssrc::from), mid, None);
            self.opened.expect([Some(source.ssrc), source.rtx].into_iter().flatten());
            self.owners.insert(source.ssrc, (source.owner.clone(), source.video));
            self.received.entry(source.owner.clone()).or_default();
        }
    }

    /// SSRCs carry what the bridge says from now on; those that are not named are as before.
    pub fn map_sources(&mut self, sources: &[RemoteSource]) {
        let new: Vec<RemoteSource> =
            sources.iter().filter(|source| !self.owners.contains_key(&source.ssrc)).cloned().collect();
        self.add_sources(&new);
        for source in sources {
            self.streams.remove(&source.ssrc);
            self.owners.insert(source.ssrc, (source.owner.clone(), source.video));
            self.received.entry(source.owner.clone()).or_default();
        }
    }

    /// Forgets what others stopped publishing.
    pub fn remove_sources(&mut self, sources: &[RemoteSource]) {
        for source in sources {
            self.rtc.direct_api().remove_stream_rx(Ssrc::from(source.ssrc));
            self.opened.forget([Some(source.ssrc), source.rtx].into_iter().flatten());
            self.owners.remove(&source.ssrc);
            self.streams.remove(&source.ssrc);
        }
    }

    /// What arrived encrypted, and whether its keys fitted.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What arrived so far, by owner.
    pub fn received(&self, now: Instant) -> BTreeMap<String, Received> {
        let mut received = self.received.clone();
        for (ssrc, stream) in &self.streams {
            let Some((owner, video)) = self.owners.get(ssrc) else { continue };
            let received = received.entry(owner.clone()).or_default();
            let longest = stream.gaps.longest(now, &self.stalls).as_millis() as u64;
            if *video {
                received.video_gap_ms = received.video_gap_ms.max(longest);
            } else {
                received.audio_gap_ms = received.audio_gap_ms.max(longest);
                received.audio_lost += stream.numbers.lost();
            }
        }
        received
    }

    /// Counts gaps and losses anew.
    pub fn restart(&mut self, now: Instant) {
        for stream in self.streams.values_mut() {
            stream.gaps.restart(now);
            stream.numbers.restart();
        }
    }

    /// Whether ICE and DTLS are done.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes a datagram; what str0m does not understand is ignored, as a browser would.
    pub fn handle_datagram(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Result<(), MediaError> {
        if let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, datagram) {
            if self.connected {
                self.opened.arrived(datagram);
            }
            self.rtc.handle_input(Input::Receive(now, receive))?;
        }
        Ok(())
    }

    /// Advances the clock, and sends what the camera and the microphone have by now.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), MediaError> {
        self.rtc.handle_input(Input::Timeout(now))?;
        if self.connected {
            while self.next_audio <= now {
                if !self.muted {
                    self.write_audio(now);
                }
                self.next_audio += self.pace.audio;
            }
            while self.next_video <= now {
                if !self.muted {
                    self.write_video(now);
                }
                self.next_video += self.pace.video;
            }
        }
        Ok(())
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Instant) -> Result<Step, MediaError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Transmit(transmit) => {
                    return Ok(Step::Send(transmit.destination, transmit.contents.to_vec()));
                }
                Output::Event(event) => self.handle_event(now, event),
                Output::Timeout(at) => {
                    let media = self.next_audio.min(self.next_video);
                    return Ok(Step::Wait(if self.connected { at.min(media) } else { at }));
                }
            }
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                (self.next_audio, self.next_video) = (now, now);
            }
            Event::KeyframeRequest(_) => self.video_frame = 0,
            Event::ChannelOpen(id, _) => {
                self.channel.opened += 1;
                if let Some(mut channel) = self.rtc.channel(id) {
                    // Nothing waits there yet, so that there is room.
                    let _ = channel.write(false, self.channel.greeting.as_bytes());
                }
            }
            Event::ChannelData(said) => self.channel.heard.extend(String::from_utf8(said.data)),
            Event::RawPacket(packet) => match *packet {
                RawPacket::RtpRx(..) => self.opened.rtp(),
                RawPacket::RtcpRx(_) => self.opened.rtcp(),
                _ => {}
            },
            Event::RtpPacket(packet) => {
                let ssrc = *packet.header.ssrc;
                let Some((owner, video)) = self.owners.get(&ssrc) else { return };
                let received = self.received.entry(owner.clone()).or_default();
                let stream = self.streams.entry(ssrc).or_default();
                if *video {
                    let before = received.video_frames;
                    let beginning = self.clips.codec.beginning(&packet.payload);
                    stream.assembly.push(*packet.seq_no, packet.header.marker, beginning, received);
                    if received.video_frames > before {
                        stream.gaps.arrived(now, &self.stalls);
                    }
                } else {
                    received.audio_packets += 1;
                    stream.numbers.push(*packet.seq_no);
                    stream.gaps.arrived(now, &self.stalls);
                }
            }
            _ => {}
        }
    }

    fn write_audio(&mut self, now: Instant) {
        let (sequence, _) = self.sequences;
        let packet = &self.clips.audio[sequence as usize % self.clips.audio.len()];
        let (level, voice) = self.speech.level(now, sequence);
        let levels = ExtensionValues { audio_level: Some(level), voice_activity: Some(voice), ..Default::default() };
        let write =
            RtpWrite::new(self.pts.0, sequence.into(), self.timestamps.0, now, packet.as_slice()).ext_vals(levels);
        if let Some(stream) = self.rtc.direct_api().stream_tx(&Ssrc::from(self.own.audio)) {
            stream.write_rtp(write);
        }
        self.sequences.0 += 1;
        self.timestamps.0 = self.timestamps.0.wrapping_add(Pace::ticks(self.pace.audio, 48_000));
    }

    fn write_video(&mut self, now: Instant) {
        let frame = &self.clips.video[self.video_frame];
        let packets = self.clips.codec.packetize(frame, self.picture_id);
        let last = packets.len().saturating_sub(1);
        if let Some(stream) = self.rtc.direct_api().stream_tx(&Ssrc::from(self.own.video)) {
            for (index, payload) in packets.into_iter().enumerate() {
                let write = RtpWrite::new(self.pts.1, self.sequences.1.into(), self.timestamps.1, now, payload)
                    .marker(index == last)
                    .nackable(true);
                stream.write_rtp(write);
                self.sequences.1 += 1;
            }
        }
        self.video_frame = (self.video_frame + 1) % self.clips.video.len();
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        self.timestamps.1 = self.timestamps.1.wrapping_add(Pace::ticks(self.pace.video, 90_000));
    }
}

impl Assembly {
    /// Counts frames by their markers; a frame is whole when no sequence number is missing since the last marker.
    fn push(&mut self, sequence: u64, marker: bool, beginning: Beginning, received: &mut Received) {
        let continuous = self.next.is_none_or(|next| next == sequence);
        let late = self.next.is_some_and(|next| sequence < next);
        if late {
            return;
        }
        let follows = self.next.is_some() && continuous;
        // Where payloads do not say it, what follows a marker begins a frame.
        let begins = beginning.frame.unwrap_or(if follows { self.ended } else { beginning.keyframe });
        if self.next.is_none() || begins {
            self.whole = begins;
        }
        self.whole &= continuous;
        if beginning.keyframe && begins {
            received.video_keyframes += 1;
            self.keyframe_seen = true;
        }
        (self.next, self.ended) = (Some(sequence + 1), marker);
        if marker && self.keyframe_seen {
            if self.whole {
                received.video_frames += 1;
            } else {
                received.video_broken += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn frames_with_a_hole_are_not_whole() {
        for codec in VideoCodec::value_variants() {
            let clips = Clips::load(*codec).expect("clips are built in");
            // Of the first frame, the keyframe, each packet once; of the sixth its last one.
            let keyframe = codec.packetize(&clips.video[0], 0).len();
            let sixth = codec.packetize(&clips.video[5], 0).len();
            let figures = |lost: Option<(usize, usize)>| {
                let (mut assembly, mut received, mut sequence) = (Assembly::default(), Received::default(), 100);
                for (index, frame) in clips.video.iter().take(10).enumerate() {
                    let packets = codec.packetize(frame, index as u16);
                    let last = packets.len() - 1;
                    for (at, payload) in packets.into_iter().enumerate() {
                        if lost != Some((index, at)) {
                            assembly.push(sequence, at == last, codec.beginning(&payload), &mut received);
                        }
                        sequence += 1;
                    }
                }
                (received.video_keyframes, received.video_frames)
            };
            assert_eq!(figures(None), (1, 10), "{codec:?}");
            for lost in 1..keyframe - 1 {
                assert_eq!(figures(Some((0, lost))).1, 9, "{codec:?}: packet {lost} of the keyframe");
            }
            // Without its end, the next one's beginning may be missing too.
            let (keyframes, frames) = figures(Some((5, sixth - 1)));
            assert!(keyframes == 1 && (8..=9).contains(&frames), "{codec:?}: {frames}");
        }
    }

    #[test]
    fn audio_that_others_show_to_be_missing() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.lost(), 0);
        for sequence in [10, 11, 14, 13] {
            numbers.push(sequence);
        }
        assert_eq!(numbers.lost(), 1, "12 is missing, 13 was late");
        numbers.restart();
        assert_eq!(numbers.lost(), 0);
        numbers.push(12);
        assert_eq!(numbers.lost(), 0, "before the report");
        numbers.push(16);
        assert_eq!(numbers.lost(), 1, "15");
    }

    #[test]
    fn paces_in_ticks_of_their_clocks() {
        let ticks = |pace: Pace| (Pace::ticks(pace.video, 90_000), Pace::ticks(pace.audio, 48_000));
        assert_eq!(ticks(Pace::new(15, 20)), (6_000, 960));
        assert_eq!(ticks(Pace::new(5, 100)), (18_000, 4_800));
        assert_eq!(ticks(Pace::new(0, 0)), (90_000, 960));
    }
}
