//! A batch's way to the receivers: one receiver after the other, and to each of them what is to go there of every packet,
//! translated and sealed.

use crate::conference::context::Env;
use crate::conference::members::Conference;
use crate::conference::packet::batch::{Batch, MAX_BATCH, Members, Opened, Step};
use crate::conference::packet::frame::Entry;
use crate::conference::participant::Participant;
use crate::conference::receiver::rewrite::{self, MediaPacket, NotSent, SendContext, Stream};
use crate::conference::receiver::subscription::{NO_SSRC, Subscription};
use crate::conference::rtcp_out;
use crate::io::PacketSink;
use crate::media::MediaKind;
use crate::negotiation::extensions::ReceivedExtensions;
use crate::negotiation::formats::FormatTable;
use crate::rtp::Packet;
use crate::stats::Counter;

/// A source with packets in the batch.
#[derive(Debug, Clone, Copy, Default)]
struct Feeding {
    /// Its index in the conference.
    source: usize,
    /// The subscription that is looked at next: they are sorted by receiver.
    subscription: usize,
    /// The encoding that a keyframe is needed of.
    keyframe: Option<u8>,
}

/// One member of the batch, parsed once for all receivers.
struct Member<'a> {
    /// Which of the feeding sources it is of.
    feeding: usize,
    errand: Errand<'a>,
}

#[expect(clippy::large_enum_variant, reason = "lies on the stack; most are of the large variant")]
enum Errand<'a> {
    Forward { packet: MediaPacket<'a>, opened: &'a Opened, context: SendContext<'a> },
    Skip { encoding: u8, sequence: i64 },
}

/// What a batch's way round left to do.
#[derive(Debug, Default)]
struct Rest {
    forwarded: u64,
    /// A receiver waits for an SSRC to get a source on.
    unmapped: bool,
}

impl Conference {
    /// Gives the packets in `members`, all of this conference, to every receiver that is to have them.
    pub fn fan_out(&mut self, env: &mut Env<'_>, batch: &Batch, members: Members, sink: &mut impl PacketSink) {
        // Small conferences mostly have one packet in a batch: no need to lay out a table for 32.
        match members.count_ones() {
            0 | 1 => self.fan_out_up_to::<1>(env, batch, members, sink),
            _ => self.fan_out_up_to::<MAX_BATCH>(env, batch, members, sink),
        }
    }

    /// The same for at most `N` packets.
    #[inline]
    fn fan_out_up_to<const N: usize>(
        &mut self,
        env: &mut Env<'_>,
        batch: &Batch,
        members: Members,
        sink: &mut impl PacketSink,
    ) {
        let mut feedings = [Feeding::default(); N];
        let mut feeding_count = 0;
        let mut list: [Option<Member<'_>>; N] = [const { None }; N];
        let mut count = 0;
        for (_, waiting) in batch.waiting().iter().enumerate().filter(|(i, _)| members >> i & 1 == 1) {
            let Some(source) = self.sources.get(waiting.source).and_then(Option::as_deref) else { continue };
            let known = feedings.iter().take(feeding_count).position(|f| f.source == waiting.source);
            let feeding = known.unwrap_or(feeding_count);
            if known.is_none()
                && let Some(new) = feedings.get_mut(feeding_count)
            {
                *new = Feeding { source: waiting.source, ..Feeding::default() };
                feeding_count += 1;
            }
            let errand = match &waiting.step {
                Step::Skip { encoding, sequence } => Errand::Skip { encoding: *encoding, sequence: *sequence },
                Step::Forward { bytes, opened } => {
                    let Ok(rtp) = Packet::parse(batch.bytes(bytes)) else { continue };
                    let (kind, sender) = (source.kind, &*opened.sender);
                    let extensions = ReceivedExtensions::resolve(&rtp, kind, &sender.extensions);
                    let (format, view, picture) = (opened.format, opened.view, opened.input.picture);
                    let packet = MediaPacket { rtp, kind, format, extensions, view, picture };
                    Errand::Forward { packet, opened, context: send_context(env, &sender.formats) }
                }
            };
            if let Some(slot) = list.get_mut(count) {
                *slot = Some(Member { feeding, errand });
                count += 1;
            }
        }
        let list = list.get(..count).unwrap_or(&[]);
        let feedings = feedings.get_mut(..feeding_count).unwrap_or(&mut []);
        let mut rest = Rest::default();
        for index in 0..self.endpoints.len() {
            let Some(receiver) = self.endpoints.get_mut(index).and_then(Option::as_deref_mut) else { continue };
            for member in list.iter().flatten() {
                let Some(feeding) = feedings.get_mut(member.feeding) else { continue };
                let Some(source) = self.sources.get_mut(feeding.source).and_then(Option::as_deref_mut) else {
                    continue;
                };
                while source
                    .subscriptions
                    .get(feeding.subscription)
                    .is_some_and(|subscription| subscription.receiver < index)
                {
                    feeding.subscription += 1;
                }
                let Some(subscription) = source
                    .subscriptions
                    .get_mut(feeding.subscription)
                    .filter(|subscription| subscription.receiver == index)
                else {
                    continue;
                };
                serve(env, feeding, subscription, receiver, &member.errand, sink, &mut rest);
            }
        }
        env.stats.add(Counter::PacketsForwarded, rest.forwarded);
        for feeding in feedings.iter() {
            if let Some(encoding) = feeding.keyframe
                && let Some(source) = self.sources.get_mut(feeding.source).and_then(Option::as_deref_mut)
                && let Some(owner) = self.endpoints.get_mut(source.owner).and_then(Option::as_deref_mut)
            {
                rtcp_out::request_keyframe(env, self.feedback.video, source, owner, encoding, sink);
            }
        }
        if self.lossy {
            for (number, feeding) in feedings.iter().enumerate() {
                let last = list.iter().flatten().rev().find(|member| member.feeding == number);
                if last.is_some_and(ends_picture) {
                    self.guard_last(env, feeding.source, sink);
                }
            }
        }
        if rest.unmapped {
            self.wake(env.now);
        }
    }
}

/// Does one errand for one receiver.
#[inline]
fn serve(
    env: &mut Env<'_>,
    feeding: &mut Feeding,
    subscription: &mut Subscription,
    receiver: &mut Participant,
    errand: &Errand<'_>,
    sink: &mut impl PacketSink,
    rest: &mut Rest,
) {
    let (packet, opened, context) = match errand {
        Errand::Forward { packet, opened, context } => (packet, *opened, *context),
        Errand::Skip { encoding, sequence } => {
            if subscription.projection.current() == Some(*encoding) {
                subscription.projection.skip(*sequence);
            }
            return;
        }
    };
    let input = &opened.input;
    let Some(target) = subscription.target else {
        subscription.projection.stop();
        if packet.kind == MediaKind::Audio && !subscription.unwanted {
            rest.unmapped |= note_unmapped(env, subscription.ssrc, receiver, feeding.source);
        }
        return;
    };
    if receiver.sealer.is_none() || receiver.path.is_none() {
        subscription.projection.stop();
        return;
    }
    if packet.kind == MediaKind::Video && !env.shedding.spares(subscription.receiver) {
        // Stopped, not thinned out: it goes on with a keyframe.
        subscription.projection.stop();
        env.stats.count(Counter::DropShed);
        return;
    }
    let Some(shape) = rewrite::shape(packet, context, &receiver.negotiated.formats) else {
        env.stats.count(Counter::DropReceiverLacksCodec);
        if input.entry == Entry::Anywhere {
            subscription.projection.skip(input.sequence);
        }
        return;
    };
    let desired = opened.active.desired(env.shedding, target);
    let output = subscription.projection.project(env.now, input, desired);
    if subscription.projection.awaits_keyframe(desired) && subscription.requests.ready(env.now) {
        feeding.keyframe = feeding.keyframe.max(Some(desired.encoding));
    }
    let Some(output) = output else { return };
    let stream = Stream { ssrc: subscription.ssrc, mid: subscription.mid, rtx: None };
    match rewrite::send(packet, &output, stream, shape, receiver, context, sink) {
        Ok((_, payload)) => {
            rest.forwarded += 1;
            subscription.packets = subscription.packets.wrapping_add(1);
            subscription.octets = subscription.octets.wrapping_add(payload as u32);
        }
        Err(NotSent::OutputFull) => env.stats.count(Counter::DropOutputFull),
        Err(NotSent::Malformed) => env.stats.count(Counter::DropRewriteFailed),
        Err(NotSent::NotReady) => {}
    }
}

/// Audio that a receiver has no SSRC for, or not yet. True when it has to be given one.
#[cold]
fn note_unmapped(env: &Env<'_>, ssrc: u32, receiver: &mut Participant, source: usize) -> bool {
    if receiver.ssrc_slots.is_none() {
        env.stats.count(Counter::DropUntold);
        return false;
    }
    env.stats.count(Counter::DropUnmapped);
    let ready = receiver.sealer.is_some() && receiver.path.is_some();
    let slots = receiver.ssrc_slots.as_deref_mut().filter(|_| ready && ssrc == NO_SSRC);
    slots.is_some_and(|slots| slots.wait(env.now, source))
}

/// What every packet that this sender's packet becomes has in common.
#[inline]
pub fn send_context<'a>(env: &Env<'_>, sender: &'a FormatTable) -> SendContext<'a> {
    let micros = env.micros();
    SendContext {
        sender,
        translate: env.config.rewrite,
        // abs-send-time: seconds as 6.18 bits.
        send_time: ((u128::from(micros) << 18) / 1_000_000) as u32 & 0x00ff_ffff,
        micros: micros as u32,
    }
}

/// Whether it is the last packet of a picture, at its time.
fn ends_picture(member: &Member<'_>) -> bool {
    match &member.errand {
        Errand::Forward { packet, opened, .. } => {
            packet.kind == MediaKind::Video && opened.input.newest && packet.rtp.marker()
        }
        Errand::Skip { .. } => false,
    }
}
