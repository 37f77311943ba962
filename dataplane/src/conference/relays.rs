//! Relays: the connections of a conference to other bridges. One publishes for everybody behind it, and is given the sources of
//! everybody else who is not of its mesh, each packet once.

use super::context::Env;
use super::members::Conference;
use super::participant::publisher::IncomingStream;
use super::receiver::pass_through::{Missed, PassThrough};
use super::rtcp_out;
use super::source::reports::SenderClock;
use crate::datagram::PacketSink;
use crate::ids::{EndpointId, ParticipantId, SourceId, Ssrc};
use crate::media::{Encoding, Limit, MediaKind};
use crate::rtcp::SenderInfo;
use crate::slab::Key;
use crate::stats::Counter;

impl Conference {
    /// A relay came: everything that is not of its mesh is to go there.
    pub fn add_relay(&mut self, env: &mut Env<'_>, id: ParticipantId) {
        self.relays.push(id);
        for source in self.sources.keys() {
            self.pass_to(env, id, source);
        }
    }

    /// A source came, or has other encodings than before: it is to go to all relays that are not of its owner's mesh.
    pub fn pass_on(&mut self, env: &mut Env<'_>, source: SourceId) {
        for at in 0..self.relays.len() {
            if let Some(relay) = self.relays.get(at).copied() {
                self.pass_to(env, relay, source);
            }
        }
    }

    fn pass_to(&mut self, env: &mut Env<'_>, to: ParticipantId, id: SourceId) {
        let Some(source) = self.sources.get_mut(id) else { return };
        let Some(owner) = self.participants.get(source.owner()) else { return };
        let (endpoint, mesh) = (owner.id(), owner.mesh());
        let Some(participant) = self.participants.get_mut(to).filter(|relay| relay.mesh() != mesh) else { return };
        let encodings = || source.encodings().iter().map(|state| state.ssrcs());
        let media: Vec<Ssrc> = encodings().map(|encoding| encoding.ssrc).collect();
        let all: Vec<Ssrc> = encodings().flat_map(|Encoding { ssrc, rtx }| [Some(ssrc), rtx]).flatten().collect();
        let claimed = |ssrc: &Ssrc| participant.relay().and_then(|relay| relay.source_with(*ssrc)) == Some(id);
        if let Some(pass) = source.passes().iter().find(|pass| pass.relay() == to)
            && pass.ssrcs().eq(media.iter().copied())
            && all.iter().all(claimed)
        {
            return;
        }
        if let Some(pass) = source.remove_pass(to) {
            participant.end_pass(id, &pass);
        }
        let has_memory = participant.receiver.has_memory_for(media.len());
        let Some(relay) = participant.relay_mut() else { return };
        let demand = relay.demand(endpoint, source.name());
        if !has_memory || !relay.claim(id, &all) {
            if env.complaints.take(env.now) {
                let (relay, source) = (participant.id(), source.name());
                tracing::warn!(%relay, source, "source is not forwarded to a relay: another source has one of its SSRCs there");
            }
            return env.stats.count(Counter::RelaySourcesRefused);
        }
        let lanes = media.iter().map(|ssrc| (*ssrc, participant.receiver.recall(*ssrc)));
        source.add_pass(PassThrough::new(to, demand, lanes));
        source.aim_passes(env.now);
    }

    /// Records what those behind a relay want of a source.
    pub fn set_relay_demand(
        &mut self,
        env: &mut Env<'_>,
        id: ParticipantId,
        owner: EndpointId,
        name: String,
        height: Limit,
    ) {
        let Some(relay) = self.participants.get_mut(id).and_then(|participant| participant.relay_mut()) else {
            return env.stats.count(Counter::DropCommandUnknown);
        };
        if !relay.set_demand(owner, name.clone(), height) {
            return env.stats.count(Counter::ConstraintsRefused);
        }
        let owned = |at: ParticipantId| self.participants.get(at).is_some_and(|p| p.id() == owner);
        let named = |source: &&mut super::source::Source| source.name() == name && owned(source.owner());
        if let Some(pass) = self.sources.values_mut().find(named).and_then(|source| source.pass_mut(id)) {
            pass.set_demand(Some(height));
        }
        self.touch_commanded(env, id);
    }

    /// Decides which encodings go to relays, and adds what those behind them want to what receivers here want, by source.
    pub fn aim_relays(&mut self, env: &Env<'_>, demands: &mut [Option<Limit>]) {
        if self.relays.is_empty() {
            return;
        }
        for (id, source) in self.sources.iter_mut() {
            source.aim_passes(env.now);
            if let Some(demand) = demands.get_mut(id.number()) {
                let wanted = source.passes().iter().map(PassThrough::demand).max().flatten();
                *demand = (*demand).max(wanted);
            }
        }
    }

    /// Whether an SSRC that came by a relay belongs to somebody who is not behind that.
    #[cold]
    pub fn is_of_others(&self, relay: ParticipantId, ssrc: Ssrc) -> bool {
        let goes_there = |id| self.participants.get(id)?.relay()?.source_with(ssrc);
        let comes_by = |id: &&ParticipantId| **id != relay && self.publishes(**id, ssrc);
        goes_there(relay).is_some() || self.has_outgoing(ssrc) || self.relays.iter().any(|id| comes_by(&id))
    }

    fn publishes(&self, id: ParticipantId, ssrc: Ssrc) -> bool {
        self.participants.get(id).is_some_and(|participant| participant.publisher.stream(ssrc).is_some())
    }

    /// Counts a packet that was taken from a relay, of somebody behind it.
    pub fn count_relayed(&mut self, env: &mut Env<'_>, owner: ParticipantId, size: usize) {
        env.stats.count(Counter::RelayPacketsReceived);
        env.stats.add(Counter::RelayBytesReceived, size as u64);
        if let Some(owner) = self.participants.get_mut(owner) {
            owner.publisher.count_taken(env.share);
        }
    }

    /// Whether a participant is a relay.
    pub fn is_relay(&self, id: ParticipantId) -> bool {
        self.relays.contains(&id)
    }

    /// The source that goes to a relay with an SSRC.
    pub fn source_towards(&self, relay: ParticipantId, ssrc: Ssrc) -> Option<SourceId> {
        self.participants.get(relay)?.relay()?.source_with(ssrc)
    }

    /// Sends a relay a packet of a source that it misses on an SSRC.
    pub fn resend_to_relay(
        &mut self,
        env: &Env<'_>,
        to: ParticipantId,
        id: SourceId,
        (ssrc, sequence): (Ssrc, u16),
        sink: &mut impl PacketSink,
    ) {
        let Some(source) = self.sources.get_mut(id) else { return };
        let Some([relay, sender]) = self.participants.get_disjoint_mut([to, source.sender()]) else { return };
        let kind = source.kind();
        let Some((cache, pass)) = source.kept_for_relay(to) else {
            // Nothing of it is kept, as after a hand-over from another process; sound never is.
            if kind == MediaKind::Video {
                env.stats.count(Counter::NackCacheMiss);
            }
            return;
        };
        let missed = Missed { ssrc, sequence, cache, source: id, sender: sender.publisher.negotiated() };
        let mut metered = Metered::of(sink);
        pass.resend(&missed, &mut relay.receiver, &mut env.delivery(&mut metered));
        self.lossy_link |= pass.is_lossy(env.now);
        metered.count(env);
    }

    /// Sends the last packet of a picture once more to relays that lose much.
    pub fn guard_last_to_relays(&mut self, env: &Env<'_>, id: SourceId, packet: (u8, i64), sink: &mut impl PacketSink) {
        let mut metered = Metered::of(sink);
        for to in &self.relays {
            let Some(source) = self.sources.get_mut(id) else { break };
            let Some([relay, sender]) = self.participants.get_disjoint_mut([*to, source.sender()]) else { continue };
            let Some((cache, pass)) = source.kept_for_relay(*to).filter(|(_, pass)| pass.is_lossy(env.now)) else {
                continue;
            };
            let kept = (cache, id, &**sender.publisher.negotiated());
            pass.guard(packet, kept, &mut relay.receiver, &mut env.delivery(&mut metered));
        }
        metered.count(env);
    }

    /// Gives relays a sender report with its times untouched.
    pub fn report_to_relays(
        &mut self,
        env: &Env<'_>,
        stream: IncomingStream,
        clock: SenderClock,
        sink: &mut impl PacketSink,
    ) {
        let Some(source) = self.sources.get_mut(stream.source) else { return };
        for pass in source.passes() {
            let Some((ssrc, sent)) = pass.report(stream.encoding) else { continue };
            let Some(to) = self.participants.get_mut(pass.relay()) else { continue };
            let info = SenderInfo { ntp: clock.ntp, rtp: clock.rtp, packets: sent.packets, octets: sent.octets };
            rtcp_out::sender_report(env, &mut to.receiver, sink, ssrc, &info);
        }
    }

    /// Somebody behind a relay needs a keyframe of what goes there on an SSRC.
    pub fn relay_keyframe_request(
        &mut self,
        env: &mut Env<'_>,
        from: ParticipantId,
        ssrc: Ssrc,
        sink: &mut impl PacketSink,
    ) {
        let Some(source) = self.source_towards(from, ssrc).and_then(|id| self.sources.get_mut(id)) else { return };
        let (kind, may) = (source.kind(), source.may_request_keyframe(env.now));
        let Some(pass) = source.pass_mut(from).filter(|_| kind == MediaKind::Video) else { return };
        let Some(encoding) = pass.wanted_on(ssrc) else { return };
        if !may || !pass.may_request_keyframe(env.now) {
            return env.stats.count(Counter::KeyframeRequestsThrottled);
        }
        let Some(sender) = self.participants.get_mut(source.sender()) else { return };
        rtcp_out::request_keyframe(env, self.feedback.video, (source, sender), encoding, sink);
    }
}

/// Counts what goes to relays on the way to where packets go.
pub struct Metered<'a, S> {
    sink: &'a mut S,
    packets: u64,
    bytes: u64,
}

impl<'a, S> Metered<'a, S> {
    /// Nothing was counted yet.
    pub fn of(sink: &'a mut S) -> Self {
        Self { sink, packets: 0, bytes: 0 }
    }

    /// Adds what went through to the counters.
    pub fn count(self, env: &Env<'_>) {
        env.stats.add(Counter::RelayPacketsSent, self.packets);
        env.stats.add(Counter::RelayBytesSent, self.bytes);
    }
}

impl<S: PacketSink> PacketSink for Metered<'_, S> {
    #[inline]
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.sink.slot()
    }

    #[inline]
    fn commit(&mut self, len: usize, path: crate::datagram::Path) {
        self.packets += 1;
        self.bytes += len as u64;
        self.sink.commit(len, path);
    }
}
