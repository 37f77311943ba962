//! RTP in: opened once, parsed once, and kept until its batch goes to the receivers.

use std::sync::Arc;
use std::time::Duration;

use super::context::Env;
use super::members::Conference;
use super::packet::ReceivedPacket;
use super::packet::cache::{CachedPacket, PacketKey};
use super::packet::frame::Entry;
use super::packet::info::PacketInfo;
use super::packet::payload::{Descriptor, PayloadView};
use super::participant::Participant;
use super::participant::publisher::{IncomingStream, Publisher};
use super::participant::schedule::earliest;
use super::rtcp_out;
use super::source::Source;
use super::source::encoding::{EncodingState, ObservedPacket};
use super::source::sequence::Arrival;
use crate::datagram::PacketSink;
use crate::ids::{ParticipantId, PayloadType, Ssrc};
use crate::media::MediaKind;
use crate::negotiation::extensions::ExtensionLayout;
use crate::negotiation::formats::{Codec, Format};
use crate::negotiation::ids::UriId;
use crate::peers::CrossWorkerHeader;
use crate::rtp::{Layout, Packet, audio_level::AudioLevel, rtx, twcc};
use crate::srtp::OpenError;
use crate::stats::Counter;

/// An opened packet, RTX undone, padding cut.
struct Opened<'a> {
    rtp: Packet<'a>,
    extensions: &'a ExtensionLayout,
    /// Extended sequence number.
    sequence: i64,
    /// `None`: the sender did not negotiate its payload type.
    format: Option<Format>,
    /// The payload type of the retransmission that it came as.
    repeated_as: Option<PayloadType>,
}

/// A packet on its way to the receivers, by the numbering that all of them see.
pub struct Numbered<'a> {
    /// The packet.
    pub rtp: Packet<'a>,
    /// Its header extensions.
    pub extensions: &'a ExtensionLayout,
    /// Extended sequence number, discarded packets closed up.
    pub sequence: i64,
    /// Format of its payload.
    pub format: Format,
}

impl Conference {
    /// Takes one SRTP packet of an endpoint.
    pub fn handle_rtp(
        &mut self,
        env: &mut Env<'_>,
        from: ParticipantId,
        datagram: &mut [u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(sender) = self.participants.get_mut(from) else { return };
        if !sender.publisher.has_keys() {
            return env.stats.count(Counter::DropNoKeys);
        }
        let (sealed, ssrc) = match Packet::parse_sealed(datagram) {
            Ok(packet) => (packet.layout(), packet.ssrc()),
            Err(_) => return env.stats.count(Counter::DropRtpMalformed),
        };
        // Unknown SSRCs are not worth an entry in the replay table.
        let Some(stream) = sender.publisher.stream(ssrc) else {
            let looped = sender.is_relay() && self.is_of_others(from, ssrc);
            return env.stats.count(if looped { Counter::DropRelayLooped } else { Counter::DropUnknownSsrc });
        };
        env.share.roll(env.now);
        // Each of those behind a relay has a share of its own.
        let relayed = if sender.is_relay() { self.sources.get(stream.source).map(Source::owner) } else { None };
        let sender = if env.shedding.level() > 0 {
            let payer = self.participants.get(relayed.unwrap_or(from));
            if payer.is_some_and(|payer| !payer.publisher.keeps_to(env.share)) {
                return env.stats.count(Counter::DropInputShare);
            }
            let Some(sender) = self.participants.get_mut(from) else { return };
            sender
        } else {
            sender
        };
        let size = datagram.len();
        let opened = match sender.publisher.open_rtp(datagram, sealed.header_len()) {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => return env.stats.count(open_counter(error)),
            None => return,
        };
        let sender = match relayed {
            None => {
                sender.publisher.count_taken(env.share);
                sender
            }
            Some(owner) => {
                self.count_relayed(env, owner, size);
                let Some(sender) = self.participants.get_mut(from) else { return };
                sender
            }
        };
        if let Some(event) = sender.note_activity(env.now) {
            env.emit(event);
        }
        let Some(source) = self.sources.get_mut(stream.source) else {
            return env.stats.count(Counter::DropUnknownSsrc);
        };
        let kind = source.kind();
        let Some(state) = source.encoding_mut(stream.encoding) else { return };
        let rtp = match datagram.get(..opened.len).map(|bytes| Packet::opened(bytes, sealed)) {
            Some(Ok(rtp)) => rtp,
            _ => return env.stats.count(Counter::DropRtpMalformed),
        };
        let extensions = ExtensionLayout::resolve(&rtp, kind, &sender.publisher.negotiated().extensions);
        note_transport_sequence(env, self.feedback.video, sender, (&rtp, &extensions), sink);
        let next_report = sender.publisher.start_reports(env.now);
        let due = earliest(sender.silent_at(), sender.publisher.arrivals_due());
        self.schedule.wake_participant(from, due.map_or(next_report, |at| at.min(next_report)));
        let sequence = opened.index as i64;
        let publisher = &sender.publisher;
        let opened = if stream.rtx {
            let end = rtp.payload_range().end;
            match undo_rtx(datagram, (sealed.without_padding(), end), &extensions, publisher, (kind, state)) {
                Ok(Some(opened)) => opened,
                Ok(None) => return,
                Err(counter) => return env.stats.count(counter),
            }
        } else {
            let format = publisher.negotiated().formats.media(kind, rtp.payload_type());
            let since_epoch = env.now.saturating_duration_since(env.epoch);
            state.received(sequence, rtp.timestamp(), in_clock(since_epoch, format));
            let end = rtp.payload_range().end;
            if let Some(first) = datagram.first_mut() {
                *first &= !0x20;
            }
            let cut = datagram.get(..end).and_then(|bytes| Packet::with_layout(bytes, sealed.without_padding()));
            let Some(rtp) = cut else { return env.stats.count(Counter::DropRtpMalformed) };
            Opened { rtp, extensions: &extensions, sequence, format, repeated_as: None }
        };
        self.number(env, (from, stream), &opened, sink);
    }

    /// Numbers a packet, decides whether it goes on, and sends it round, here and on other workers.
    fn number(
        &mut self,
        env: &mut Env<'_>,
        (from, stream): (ParticipantId, IncomingStream),
        opened: &Opened<'_>,
        sink: &mut impl PacketSink,
    ) {
        let Some(source) = self.sources.get_mut(stream.source) else { return };
        let kind = source.kind();
        let Some(owner) = self.participants.get(source.owner()) else { return };
        let (endpoint, muted) = (owner.id(), owner.publisher.is_force_muted(kind));
        let Some(sender) = self.participants.get_mut(from) else { return };
        let Some(state) = source.encoding_mut(stream.encoding) else { return };
        let arrival = state.insert(opened.sequence);
        match arrival {
            Arrival::Duplicate => return env.stats.count(Counter::DropDuplicate),
            Arrival::Old => return env.stats.count(Counter::DropTooOld),
            _ => {}
        }
        let mut nack_due = None;
        if kind == MediaKind::Video && !muted && sender.publisher.negotiated().feedback.nack {
            // What another bridge repeats comes as it came first; between bridges packets hardly overtake each other.
            let repeated = opened.repeated_as.is_some() || sender.is_relay();
            state.note_missing(env.now, opened.sequence, arrival, repeated);
            if state.nack_deadline().is_some_and(|at| at <= env.now) {
                rtcp_out::nack(env, self.feedback.video, &mut sender.receiver, state, sink);
            }
            nack_due = state.nack_deadline();
        }
        let format = match opened.format {
            Some(format) if !muted && !opened.rtp.payload().is_empty() => format,
            format => {
                state.discard(opened.sequence, arrival);
                if muted {
                    env.stats.count(Counter::DropForceMuted);
                } else if format.is_none() {
                    env.stats.count(Counter::DropUnknownPayloadType);
                }
                return;
            }
        };
        let Some(sequence) = state.closed(opened.sequence) else { return env.stats.count(Counter::DropTooOld) };
        if let Some(at) = nack_due {
            self.schedule.wake_participant(from, at);
        }
        let away = source.crosses_to(self.away);
        if !away.is_empty() {
            let restarts = source.restarts();
            let header = CrossWorkerHeader { endpoint, sequence, restarts, repeated_as: opened.repeated_as };
            for worker in away {
                let sent = env.peers.send_media(worker, header, opened.rtp.bytes());
                env.stats.count(if sent { Counter::CrossWorkerPackets } else { Counter::DropCrossWorkerFull });
            }
        }
        let numbered = Numbered { rtp: opened.rtp, extensions: opened.extensions, sequence, format };
        self.distribute(env, (from, stream), &numbered, sink);
    }

    /// Looks into a packet, keeps it, and lets it wait for the receivers here.
    pub fn distribute(
        &mut self,
        env: &mut Env<'_>,
        (from, stream): (ParticipantId, IncomingStream),
        numbered: &Numbered<'_>,
        sink: &mut impl PacketSink,
    ) {
        let Numbered { rtp, extensions, sequence, format } = *numbered;
        let Some(sender) = self.participants.get(from) else { return };
        let Some(source) = self.sources.get_mut(stream.source) else { return };
        let (kind, owner) = (source.kind(), source.owner());
        let Some(state) = source.encoding_mut(stream.encoding) else { return };
        let mut view = match kind {
            MediaKind::Video => PayloadView::of(format.codec, rtp.payload()),
            MediaKind::Audio => PayloadView::OPAQUE,
        };
        let descriptor = match routes_by_dependency(format.codec, kind, &view) {
            true => extensions.get(UriId::DEPENDENCY, rtp.bytes()),
            false => None,
        };
        let Some(picture) = state.locate(&mut view, descriptor) else {
            return self.leave_out(env, stream, sequence, sink);
        };
        let ahead = state.ahead();
        let resized = state.note_heights(&view);
        let timestamp = rtp.timestamp();
        let noted = ObservedPacket { timestamp, frame: view.frame, begins: view.begins, bytes: rtp.payload().len() };
        let observed = source.observe(env.now, stream.encoding, &noted);
        if kind == MediaKind::Video {
            let kept = CachedPacket { format, frame: view.frame, picture };
            let key = PacketKey { encoding: stream.encoding, sequence };
            source.keep(env.now, env.config.cache_bytes, key, rtp.bytes(), kept);
        }
        let info = PacketInfo {
            encoding: stream.encoding,
            sequence,
            timestamp,
            format: (kind == MediaKind::Video).then_some(format.id),
            entry: view.entry,
            frame: view.frame,
            begins: view.begins.unwrap_or(observed.first),
            first: observed.first,
            newest: observed.newest,
            // Frame numbers of a dependency descriptor keep their holes: what refers to a frame counts in them.
            closes_ids: format.codec == Codec::Vp8 && picture.templates.is_none(),
            picture,
            clock_rate: format.clock_rate,
            ahead,
        };
        let active = source.active_now();
        // Of what crosses to other workers, only its home counts.
        if sender.is_local() {
            let keyframe = kind == MediaKind::Video && view.entry == Entry::Keyframe && observed.first;
            env.stats.add(Counter::KeyframesReceived, u64::from(keyframe));
            env.stats.add(Counter::LayeringChanges, u64::from(observed.layers_changed));
        }
        let (layout, sender) = (rtp.layout(), Arc::clone(sender.publisher.negotiated()));
        if (resized || observed.layers_changed)
            && let Some(owner) = self.participants.get_mut(owner)
        {
            self.schedule.touch_for(env.now, |now| owner.publisher.reserve_change(now));
        }
        let level = match kind {
            MediaKind::Audio => extensions.get(UriId::AUDIO_LEVEL, rtp.bytes()).and_then(AudioLevel::parse),
            MediaKind::Video => None,
        };
        let queued = if level.is_some_and(|level| self.is_too_quiet(env, (owner, stream), level)) {
            env.stats.count(Counter::DropNotLoudest);
            env.batch.skip(self.index, stream.source, stream.encoding, sequence)
        } else {
            let packet = ReceivedPacket { kind, layout, extensions: *extensions, format, view, info, active, sender };
            env.batch.push(self.index, stream.source, rtp.bytes(), packet)
        };
        if !queued {
            env.stats.count(Counter::DropOutputFull);
        }
    }

    /// Records the level of an audio packet; true when it is left out because others are louder.
    fn is_too_quiet(
        &mut self,
        env: &Env<'_>,
        (owner, stream): (ParticipantId, IncomingStream),
        level: AudioLevel,
    ) -> bool {
        let Some(id) = self.participants.get(owner).map(|owner| owner.id()) else { return false };
        let loudness = self.speaker.level(env.now, id, level.level);
        if let Some(at) = self.speaker.deadline() {
            self.schedule.wake(at);
        }
        let Some(only) = env.config.loudest_only else { return false };
        let dominant = self.speaker.is_dominant(id);
        if self.loudest.passes(env.now, stream.source, loudness, dominant, only) {
            return false;
        }
        // Whoever is asked for by name is forwarded in any case.
        let Some(name) = self.sources.get(stream.source).map(|source| source.name()) else { return false };
        let included =
            |to: &Participant| to.receiver.constraints().audio.include.iter().any(|included| included == name);
        !self.participants.iter().any(|(to, participant)| to != owner && included(participant))
    }

    /// Closes every receiver's numbering over a packet that none can be sent, and asks for the keyframe that it takes.
    fn leave_out(&mut self, env: &mut Env<'_>, stream: IncomingStream, sequence: i64, sink: &mut impl PacketSink) {
        env.stats.count(Counter::DropDependencyUnknown);
        let Some(source) = self.sources.get_mut(stream.source) else { return };
        if !env.batch.skip(self.index, stream.source, stream.encoding, sequence) {
            env.stats.count(Counter::DropOutputFull);
        }
        if source.has_audience()
            && let Some(sender) = self.participants.get_mut(source.sender())
        {
            rtcp_out::request_keyframe(env, self.feedback.video, (source, sender), stream.encoding, sink);
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

fn open_counter(error: OpenError) -> Counter {
    match error {
        OpenError::Auth => Counter::DropSrtpAuth,
        OpenError::Replay => Counter::DropSrtpReplay,
        OpenError::TooShort => Counter::DropRtpMalformed,
        OpenError::TooManySsrcs => Counter::DropTableFull,
    }
}

/// A time in units of a format's clock; video's where the format is not known.
fn in_clock(time: Duration, format: Option<Format>) -> i64 {
    let clock = u64::from(format.map_or(90_000, |f| f.clock_rate));
    (time.as_secs() * clock + u64::from(time.subsec_micros()) * clock / 1_000_000) as i64
}

fn note_transport_sequence(
    env: &mut Env<'_>,
    from: Ssrc,
    sender: &mut Participant,
    (rtp, extensions): (&Packet<'_>, &ExtensionLayout),
    sink: &mut impl PacketSink,
) {
    let publisher = &mut sender.publisher;
    if !publisher.negotiated().feedback.transport_cc {
        return;
    }
    let Some(sequence) = extensions.get(UriId::TRANSPORT_CC, rtp.bytes()).and_then(twcc::parse) else { return };
    publisher.record_arrival(env.now, rtp.ssrc(), sequence, rtp.marker());
    rtcp_out::transport(env, from, publisher, &mut sender.receiver, sink);
}

/// Turns a retransmission into the packet that it repeats, in place; `end` is where its payload does. `Ok(None)`: a padding
/// probe.
fn undo_rtx<'a>(
    datagram: &'a mut [u8],
    (layout, end): (Layout, usize),
    extensions: &'a ExtensionLayout,
    publisher: &Publisher,
    (kind, state): (MediaKind, &EncodingState),
) -> Result<Option<Opened<'a>>, Counter> {
    let number = PayloadType::from_low_bits(datagram.get(1).copied().unwrap_or(0));
    let header_len = layout.header_len();
    let Some((apt, format)) = publisher.negotiated().formats.rtx(kind, number) else {
        return Err(Counter::DropUnknownPayloadType);
    };
    let Some((original, rest)) = datagram.get(header_len..end).and_then(rtx::parse) else { return Ok(None) };
    if rest.is_empty() {
        return Ok(None);
    }
    let Some(sequence) = state.extend(original) else { return Ok(None) };
    datagram.copy_within(..header_len, rtx::OSN_LEN);
    let packet = datagram.get_mut(rtx::OSN_LEN..end).ok_or(Counter::DropRtpMalformed)?;
    if let Some([first, second, s0, s1, _, _, _, _, ssrc @ ..]) = packet.get_mut(..12) {
        *first &= !0x20;
        *second = (*second & 0x80) | apt.get();
        [*s0, *s1] = original.to_be_bytes();
        ssrc.copy_from_slice(&state.ssrcs().ssrc.to_be_bytes());
    }
    // Everything before the payload lies where it lay before, counted from the new start.
    let rtp = Packet::with_layout(packet, layout).ok_or(Counter::DropRtpMalformed)?;
    Ok(Some(Opened { rtp, extensions, sequence, format: Some(format), repeated_as: Some(number) }))
}
