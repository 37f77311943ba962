//! RTP in: opened once, parsed once, and kept until its batch goes to the receivers.

use std::sync::Arc;

use crate::conference::context::Env;
use crate::conference::members::Conference;
use crate::conference::packet::batch::Opened;
use crate::conference::packet::frame::Entry;
use crate::conference::packet::info::PacketInfo;
use crate::conference::packet::payload::{Descriptor, PayloadView};
use crate::conference::packet::picture::Picture;
use crate::conference::participant::{Participant, REPORT_INTERVAL};
use crate::conference::rtcp_out;
use crate::conference::source::cache::{CachedPacket, PacketCache};
use crate::conference::source::sequence::Arrival;
use crate::conference::source::{EncodingState, IncomingStream, Noted};
use crate::congestion::layer::MAX_SPATIAL;
use crate::io::PacketSink;
use crate::media::MediaKind;
use crate::messages::Event;
use crate::negotiation::extensions::ReceivedExtensions;
use crate::negotiation::formats::{Codec, Format};
use crate::negotiation::ids::UriId;
use crate::peers::Crossing;
use crate::rtp::{Packet, audio_level::AudioLevel, rtx, twcc};
use crate::srtp::OpenError;
use crate::stats::Counter;

/// An opened packet, RTX undone, padding cut.
struct Plain<'a> {
    bytes: &'a [u8],
    sequence: i64,
    /// `None`: the sender did not negotiate its payload type.
    format: Option<Format>,
    /// The payload type of the retransmission that it came as.
    repeated_as: Option<u8>,
}

/// A packet on its way to the receivers, by the numbering that all of them see.
pub struct Numbered<'a> {
    /// The packet.
    pub rtp: Packet<'a>,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Extended sequence number, discarded packets closed up.
    pub sequence: i64,
    /// Format of its payload.
    pub format: Format,
}

impl Conference {
    /// Takes one SRTP packet of an endpoint.
    pub fn handle_rtp(&mut self, env: &mut Env<'_>, from: usize, datagram: &mut [u8], sink: &mut impl PacketSink) {
        // The sender leaves the table while its packet goes round: subscriptions never lead back to it.
        let Some(mut sender) = self.endpoints.get_mut(from).and_then(Option::take) else { return };
        self.receive(env, &mut sender, datagram, sink);
        if let Some(place) = self.endpoints.get_mut(from) {
            *place = Some(sender);
        }
    }

    fn receive(
        &mut self,
        env: &mut Env<'_>,
        sender: &mut Participant,
        datagram: &mut [u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(opener) = sender.opener.as_mut() else { return env.stats.count(Counter::DropNoKeys) };
        let (header_len, ssrc) = match Packet::parse_sealed(datagram) {
            Ok(packet) => (packet.header_len(), packet.ssrc()),
            Err(_) => return env.stats.count(Counter::DropRtpMalformed),
        };
        // Unknown SSRCs are not worth a place in the replay table.
        let Some(input) = sender.inputs.get(&ssrc).copied() else { return env.stats.count(Counter::DropUnknownSsrc) };
        env.share.roll(env.now);
        if env.shedding.level() > 0 && !env.share.allows(&sender.sent) {
            return env.stats.count(Counter::DropInputShare);
        }
        let opened = match opener.open_rtp(datagram, header_len) {
            Ok(opened) => opened,
            Err(error) => return env.stats.count(open_counter(error)),
        };
        env.share.count(&mut sender.sent);
        note_activity(env, sender);
        self.wake(sender.last_activity + crate::conference::participant::ACTIVITY_TIMEOUT);
        let Some(source) = self.sources.get_mut(input.source).and_then(Option::as_deref_mut) else {
            return env.stats.count(Counter::DropUnknownSsrc);
        };
        let kind = source.kind;
        let packet = match datagram.get(..opened.len).map(Packet::parse) {
            Some(Ok(packet)) => packet,
            _ => return env.stats.count(Counter::DropRtpMalformed),
        };
        note_transport_sequence(env, self.feedback.video, sender, kind, &packet, sink);
        let arrivals = sender.arrivals.poll_timeout();
        let (payload_type, timestamp) = (packet.payload_type(), packet.timestamp());
        let (header_len, end) = (packet.header_len(), packet.payload_range().end);
        let Some(state) = source.encodings.get_mut(usize::from(input.encoding)) else { return };
        let plain = if input.rtx {
            match undo_rtx(datagram, header_len, end, sender, kind, state) {
                Ok(Some(plain)) => plain,
                Ok(None) => return,
                Err(counter) => return env.stats.count(counter),
            }
        } else {
            let since_epoch = env.now.saturating_duration_since(env.epoch).as_micros();
            let format = sender.negotiated.formats.media(kind, payload_type);
            let clock = u128::from(format.map_or(90_000, |f| f.clock_rate));
            state.reception.received(opened.index as i64, timestamp, (since_epoch * clock / 1_000_000) as i64);
            if let Some(first) = datagram.first_mut() {
                *first &= !0x20;
            }
            let bytes = datagram.get(..end).unwrap_or(&[]);
            Plain { bytes, sequence: opened.index as i64, format, repeated_as: None }
        };
        if let Some(at) = arrivals {
            self.wake(at);
        }
        let next_report = *sender.next_report.get_or_insert(env.now + REPORT_INTERVAL);
        self.wake(next_report);
        self.place(env, sender, input, &plain, sink);
    }

    /// Numbers a packet, decides whether it goes on, and sends it round, here and on other workers.
    fn place(
        &mut self,
        env: &mut Env<'_>,
        sender: &mut Participant,
        input: IncomingStream,
        plain: &Plain<'_>,
        sink: &mut impl PacketSink,
    ) {
        let Some(source) = self.sources.get_mut(input.source).and_then(Option::as_deref_mut) else { return };
        let kind = source.kind;
        let Some(state) = source.encodings.get_mut(usize::from(input.encoding)) else { return };
        let arrival = state.sequence.insert(plain.sequence);
        if matches!(arrival, Arrival::Duplicate | Arrival::Old) {
            return;
        }
        let muted = sender.force_mute[usize::from(kind == MediaKind::Video)];
        let mut nack_due = None;
        if kind == MediaKind::Video && !muted && sender.negotiated.feedback.nack {
            match arrival {
                Arrival::Newest { skipped } => state.nack.advanced(env.now, plain.sequence, skipped),
                _ => state.nack.received(env.now, plain.sequence, plain.repeated_as.is_some()),
            }
            if state.nack.deadline().is_some_and(|at| at <= env.now) {
                rtcp_out::nack(env, self.feedback.video, sender, state, sink);
            }
            nack_due = state.nack.deadline();
        }
        let rtp = match Packet::parse(plain.bytes) {
            Ok(rtp) => rtp,
            Err(_) => return env.stats.count(Counter::DropRtpMalformed),
        };
        let format = match plain.format {
            Some(format) if !muted && !rtp.payload().is_empty() => format,
            format => {
                state.sequence.discard(plain.sequence, arrival);
                if muted {
                    env.stats.count(Counter::DropForceMuted);
                } else if format.is_none() {
                    env.stats.count(Counter::DropUnknownPayloadType);
                }
                return;
            }
        };
        let Some(sequence) = state.sequence.closed(plain.sequence) else { return };
        let (away, restarts) = (source.crosses_to(self.away), source.restarts);
        if let Some(at) = nack_due {
            self.wake(at);
        }
        self.distribute(env, sender, input, &Numbered { rtp, bytes: plain.bytes, sequence, format }, sink);
        if away != 0 {
            let crossing = Crossing { endpoint: sender.id, sequence, restarts, repeated_as: plain.repeated_as };
            Self::cross(env, away, crossing, plain.bytes);
        }
    }

    /// Looks into a packet, keeps it, and lets it wait for the receivers here.
    pub fn distribute(
        &mut self,
        env: &mut Env<'_>,
        sender: &mut Participant,
        input: IncomingStream,
        numbered: &Numbered<'_>,
        sink: &mut impl PacketSink,
    ) {
        let Numbered { rtp, bytes, sequence, format } = *numbered;
        let Some(source) = self.sources.get_mut(input.source).and_then(Option::as_deref_mut) else { return };
        let kind = source.kind;
        let Some(state) = source.encodings.get_mut(usize::from(input.encoding)) else { return };
        let extensions = ReceivedExtensions::resolve(&rtp, kind, &sender.negotiated.extensions);
        let mut view = match kind {
            MediaKind::Video => PayloadView::of(format.codec, rtp.payload()),
            MediaKind::Audio => PayloadView::OPAQUE,
        };
        let routed = extensions.get(UriId::DEPENDENCY).filter(|_| routes_by_dependency(format.codec, kind, &view));
        let picture = match routed {
            Some(data) => match route(state, &mut view, data) {
                Some(picture) => picture,
                None => return self.leave_out(env, sender, input, sequence, sink),
            },
            None => {
                if view.entry == Entry::Keyframe
                    && let Some(dependencies) = &mut state.dependencies
                {
                    dependencies.distrust();
                }
                picture_of(state, &view)
            }
        };
        let ahead = state.ahead;
        let resized = view.entry == Entry::Keyframe && view.heights != [0; 3] && view.heights != state.heights;
        if resized {
            state.heights = view.heights;
        }
        let (timestamp, bytes_of_payload) = (rtp.timestamp(), rtp.payload().len());
        let noted = Noted { timestamp, frame: view.frame, begins: view.begins, bytes: bytes_of_payload };
        let place = source.note_packet(env.now, input.encoding, &noted);
        if kind == MediaKind::Video {
            let encodings = source.encodings.len();
            let cache = source.cache.get_or_insert_with(|| PacketCache::new(env.config.cache_bytes, encodings));
            let kept = CachedPacket { format, frame: view.frame, picture };
            cache.insert(input.encoding, sequence, bytes, kept);
        }
        let (mut speaker_due, mut quiet) = (None, false);
        if let Some(level) = extensions.get(UriId::AUDIO_LEVEL).and_then(AudioLevel::parse)
            && kind == MediaKind::Audio
        {
            let loudness = self.speaker.level(env.now, sender.id, level.level);
            speaker_due = self.speaker.deadline();
            if let Some(only) = env.config.loudest_only {
                let dominant = self.speaker.is_dominant(sender.id);
                quiet = !self.loudest.passes(env.now, input.source, loudness, dominant, only)
                    && !self.endpoints.iter().flatten().any(|e| e.constraints.audio.include.contains(&source.name));
            }
        }
        let projected = PacketInfo {
            encoding: input.encoding,
            sequence,
            timestamp: rtp.timestamp(),
            format: (kind == MediaKind::Video).then_some(format.id),
            entry: view.entry,
            frame: view.frame,
            begins: view.begins.unwrap_or(place.first),
            first: place.first,
            newest: place.newest,
            // Frame numbers of a dependency descriptor keep their holes: what refers to a frame counts in them.
            closes_ids: format.codec == Codec::Vp8 && picture.templates.is_none(),
            picture,
            clock_rate: format.clock_rate,
            ahead,
        };
        let active = source.active_now();
        let kept = if quiet {
            env.stats.count(Counter::DropNotLoudest);
            env.batch.skip(self.place, input.source, input.encoding, sequence)
        } else {
            let opened = Opened { format, view, input: projected, active, sender: Arc::clone(&sender.negotiated) };
            env.batch.push(self.place, input.source, bytes, opened)
        };
        if !kept {
            env.stats.count(Counter::DropOutputFull);
        }
        if let Some(at) = speaker_due {
            self.wake(at);
        }
        // Of what crosses to other workers, only its home counts.
        if sender.home.is_none() {
            let keyframe = kind == MediaKind::Video && view.entry == Entry::Keyframe && place.first;
            env.stats.add(Counter::KeyframesReceived, u64::from(keyframe));
            env.stats.add(Counter::LayeringChanges, u64::from(place.layers_changed));
        }
        if resized || place.layers_changed {
            self.touch_for(env.now, |now| sender.changes.reserve(now));
        }
    }
}

impl Conference {
    /// Closes every receiver's numbering over a packet that none can be sent, and asks for the keyframe that it takes.
    fn leave_out(
        &mut self,
        env: &mut Env<'_>,
        sender: &mut Participant,
        input: IncomingStream,
        sequence: i64,
        sink: &mut impl PacketSink,
    ) {
        env.stats.count(Counter::DropDependencyUnknown);
        let Some(source) = self.sources.get_mut(input.source).and_then(Option::as_deref_mut) else { return };
        if !env.batch.skip(self.place, input.source, input.encoding, sequence) {
            env.stats.count(Counter::DropOutputFull);
        }
        if source.subscriptions.iter().any(|subscription| subscription.target.is_some()) {
            rtcp_out::request_keyframe(env, self.feedback.video, source, sender, input.encoding, sink);
        }
    }
}

/// Whether a packet is routed by its dependency descriptor, where it carries one. VP8 and VP9 that number their pictures say
/// enough in their own, and the other is not passed on, since it would contradict the rewritten one; libwebrtc leaves VP8's
/// numbers and layers out where it may send the other.
fn routes_by_dependency(codec: Codec, kind: MediaKind, view: &PayloadView) -> bool {
    let numbered = match &view.descriptor {
        Descriptor::None => matches!(codec, Codec::Vp8 | Codec::Vp9),
        Descriptor::Vp8(d) => d.picture_id.is_some(),
        Descriptor::Vp9(d) => d.picture_id.is_some(),
    };
    kind == MediaKind::Video && !numbered
}

/// Takes a packet's place from its dependency descriptor; `None` when that cannot be read but should be.
fn route(state: &mut EncodingState, view: &mut PayloadView, data: &[u8]) -> Option<Picture> {
    let dependencies = state.dependencies.get_or_insert_default();
    let routed = match dependencies.read(data) {
        Ok(routed) => routed,
        Err(_) if dependencies.is_distrusted() => return Some(Picture::default()),
        Err(_) => return None,
    };
    view.frame = routed.frame;
    view.begins = Some(routed.begins);
    view.entry = if routed.keyframe { Entry::Keyframe } else { Entry::Delta };
    if routed.keyframe && dependencies.heights() != [0; MAX_SPATIAL] {
        view.heights = dependencies.heights();
    }
    Some(routed.picture)
}

/// The numbers that a codec's own descriptor gives a packet's picture.
fn picture_of(state: &mut EncodingState, view: &PayloadView) -> Picture {
    let (id, long, tl0) = match &view.descriptor {
        Descriptor::None => return Picture::default(),
        Descriptor::Vp8(d) => (d.picture_id, d.long_picture_id, d.tl0_pic_idx),
        Descriptor::Vp9(d) => (d.picture_id, d.long_picture_id, d.tl0_pic_idx),
    };
    let unwrap = |id: u16| match long {
        true => state.picture_id.unwrap(u32::from(id)),
        false => state.short_picture_id.unwrap(u32::from(id)),
    };
    Picture { id: id.map(unwrap), tl0, templates: None }
}

fn open_counter(error: OpenError) -> Counter {
    match error {
        OpenError::Auth => Counter::DropSrtpAuth,
        OpenError::Replay => Counter::DropSrtpReplay,
        OpenError::TooShort => Counter::DropRtpMalformed,
        OpenError::TooManySsrcs => Counter::DropTableFull,
    }
}

/// Notes a sign of life.
pub fn note_activity(env: &mut Env<'_>, endpoint: &mut Participant) {
    endpoint.last_activity = env.now;
    if !endpoint.active {
        endpoint.active = true;
        env.emit(Event::Activity { endpoint: endpoint.id, active: true });
    }
}

fn note_transport_sequence(
    env: &mut Env<'_>,
    feedback_ssrc: u32,
    sender: &mut Participant,
    kind: MediaKind,
    packet: &Packet<'_>,
    sink: &mut impl PacketSink,
) {
    if !sender.negotiated.feedback.transport_cc {
        return;
    }
    let Some(id) = sender.negotiated.extensions.id(kind, UriId::TRANSPORT_CC) else { return };
    let Some(sequence) = packet.extension(id).and_then(twcc::parse) else { return };
    sender.transport_media_ssrc = packet.ssrc();
    sender.arrivals.record(env.now, sequence, packet.marker());
    rtcp_out::transport(env, feedback_ssrc, sender, sink);
}

/// Turns a retransmission into the packet that it repeats, in place. `Ok(None)`: a padding probe.
fn undo_rtx<'a>(
    datagram: &'a mut [u8],
    header_len: usize,
    end: usize,
    sender: &Participant,
    kind: MediaKind,
    state: &EncodingState,
) -> Result<Option<Plain<'a>>, Counter> {
    let number = datagram.get(1).map_or(0, |b| b & 0x7f);
    let Some((apt, format)) = sender.negotiated.formats.rtx(kind, number) else {
        return Err(Counter::DropUnknownPayloadType);
    };
    let Some((original, rest)) = datagram.get(header_len..end).and_then(rtx::parse) else { return Ok(None) };
    if rest.is_empty() {
        return Ok(None);
    }
    let Some(sequence) = state.sequence.extend(original) else { return Ok(None) };
    datagram.copy_within(..header_len, rtx::OSN_LEN);
    let packet = datagram.get_mut(rtx::OSN_LEN..end).ok_or(Counter::DropRtpMalformed)?;
    if let Some([first, second, s0, s1, _, _, _, _, ssrc @ ..]) = packet.get_mut(..12) {
        *first &= !0x20;
        *second = (*second & 0x80) | apt;
        [*s0, *s1] = original.to_be_bytes();
        ssrc.copy_from_slice(&state.ssrcs.ssrc.to_be_bytes());
    }
    Ok(Some(Plain { bytes: packet, sequence, format: Some(format), repeated_as: Some(number) }))
}
