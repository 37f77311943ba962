//! Packets that go out again: because a receiver misses them, to probe its path, or to guard against their loss.

use super::context::Env;
use super::members::Conference;
use super::participant::Participant;
use super::receiver::delivery::{Reason, Repeat};
use super::source::Source;
use crate::datagram::PacketSink;
use crate::ids::{ParticipantId, SourceId};
use crate::media::{Encoding, MediaKind};
use crate::stats::Counter;

/// Recent packets that a probe repeats in turn.
const PROBED: i64 = 32;

impl Conference {
    /// Sends a receiver a packet of a source again; true when it went out.
    pub fn resend(
        &mut self,
        env: &Env<'_>,
        to: ParticipantId,
        (source_id, sequence): (SourceId, u16),
        reason: Reason,
        sink: &mut impl PacketSink,
    ) -> bool {
        let Some(source) = self.sources.get_mut(source_id) else { return false };
        let Some([receiver, sender]) = self.participants.get_disjoint_mut([to, source.sender()]) else { return false };
        let Some(ssrcs) = ssrcs_towards(source, source_id, receiver) else { return false };
        let kind = source.kind();
        let Some((cache, subscription)) = source.kept_for(to) else {
            // Nothing of it is kept, as after a hand-over from another process.
            if reason == Reason::Nack && kind == MediaKind::Video {
                env.stats.count(Counter::NackCacheMiss);
            }
            return false;
        };
        let sender = &**sender.publisher.negotiated();
        let repeat = Repeat { sequence, reason, cache, source: source_id, kind, ssrcs, sender };
        subscription.resend(&repeat, &mut receiver.receiver, &mut env.delivery(sink))
    }

    /// Sends one packet of a probe: a repeat of a recent one. False when there is none to be had.
    pub fn send_probe(&mut self, env: &Env<'_>, to: ParticipantId, sink: &mut impl PacketSink) -> bool {
        let Some(receiver) = self.participants.get(to) else { return false };
        let flowing = self.sources.iter().find_map(|(id, source)| {
            let repeats = source.kind() == MediaKind::Video && ssrcs_towards(source, id, receiver)?.rtx.is_some();
            source.subscription(to)?.flowing().filter(|_| repeats).map(|numbers| (id, numbers))
        });
        let Some((source, (next, turn))) = flowing else { return false };
        // The last few in turn: one of them may even be missing. Of a slow stream only the newest are still there.
        (0..PROBED).any(|back| {
            let sequence = next.wrapping_sub(((turn + back).rem_euclid(PROBED) + 1) as u16);
            self.resend(env, to, (source, sequence), Reason::Probe, sink)
        })
    }

    /// Sends the last packet of a picture twice to receivers that lose much: a receiver notices that it is missing only when
    /// the next picture comes, and then a repetition is late.
    pub fn guard_last(&mut self, env: &Env<'_>, source: SourceId, sink: &mut impl PacketSink) {
        let mut any = false;
        for to in self.participants.keys() {
            if !self.participants.get(to).is_some_and(|participant| participant.receiver.is_lossy()) {
                continue;
            }
            any = true;
            let subscription = self.sources.get(source).and_then(|source| source.subscription(to));
            if let Some(newest) = subscription.and_then(|subscription| subscription.newest()) {
                self.resend(env, to, (source, newest), Reason::Guard, sink);
            }
        }
        self.lossy = any;
    }
}

/// The SSRCs that a receiver gets a source on.
fn ssrcs_towards(source: &Source, id: SourceId, to: &Participant) -> Option<Encoding> {
    match to.receiver.ssrc_slots() {
        Some(slots) => slots.kind(source.kind()).ssrcs(id),
        None => source.outgoing(),
    }
}
