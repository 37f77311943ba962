//! A conference on several workers. The home of an endpoint receives, opens and numbers its packets and gives each one
//! to every other worker that has receivers, once. There a remote endpoint stands in for the sender: it has its tables
//! and sources, but neither keys nor address, and projection, cache and sealing happen as for a local one.

use super::context::Env;
use super::ingress::Numbered;
use super::members::Conference;
use super::participant::spread::Spread;
use super::rtcp_out;
use super::source::reports::SenderClock;
use crate::datagram::PacketSink;
use crate::ids::{EndpointId, ParticipantId, WorkerId};
use crate::messages::Event;
use crate::negotiation::extensions::ExtensionLayout;
use crate::peers::{CrossWorkerHeader, PeerSignal};
use crate::rtp::Packet;
use crate::stats::Counter;

impl Conference {
    /// Endpoints came or went: who else has receivers, and whose word on speakers counts.
    pub fn update_workers(&mut self, env: &mut Env<'_>) {
        let here = env.peers.worker();
        let before = std::mem::replace(&mut self.spread, Spread::of(self.participants.values(), here));
        let took_over = self.spread.leads() && !before.leads();
        // What the former lead announced last may be old news here, or not.
        if took_over && !self.speaker.recent().is_empty() {
            env.emit(Event::DominantSpeaker { conference: self.id, recent: self.speaker.recent().to_vec() });
        }
        for source in self.sources.values_mut() {
            source.demand_mut().retain_workers(self.spread.others());
        }
    }

    /// Takes a packet that `home` has opened, of the endpoint at `from`.
    pub fn handle_cross_worker(
        &mut self,
        env: &mut Env<'_>,
        (home, from): (WorkerId, ParticipantId),
        header: CrossWorkerHeader,
        packet: &[u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(sender) = self.participants.get_mut(from) else { return };
        if sender.home() != Some(home) {
            return env.stats.count(Counter::DropCrossWorkerUnknown);
        }
        let Ok(rtp) = Packet::parse(packet) else { return env.stats.count(Counter::DropRtpMalformed) };
        let stream = sender.publisher.stream(rtp.ssrc());
        let source = stream.and_then(|stream| Some((stream, self.sources.get_mut(stream.source)?)));
        let Some((stream, source)) = source else { return env.stats.count(Counter::DropCrossWorkerUnknown) };
        source.restart_to(header.restarts);
        let (kind, negotiated) = (source.kind(), sender.publisher.negotiated());
        let format = match header.repeated_as {
            Some(number) => negotiated.formats.rtx(kind, number).map(|(_, format)| format),
            None => negotiated.formats.media(kind, rtp.payload_type()),
        };
        let Some(format) = format else { return env.stats.count(Counter::DropUnknownPayloadType) };
        let extensions = ExtensionLayout::resolve(&rtp, kind, &negotiated.extensions);
        let numbered = Numbered { rtp, extensions: &extensions, sequence: header.sequence, format };
        self.distribute(env, (from, stream), &numbered, sink);
    }

    /// Takes a signal of another worker about an endpoint.
    pub fn handle_signal(
        &mut self,
        env: &mut Env<'_>,
        (worker, about): (WorkerId, ParticipantId),
        signal: PeerSignal,
        sink: &mut impl PacketSink,
    ) {
        let Some(participant) = self.participants.get(about) else { return };
        match (signal, participant.home()) {
            (PeerSignal::KeyframeRequest { ssrc, .. }, None) => {
                let sender = self.sender_of(about);
                if let Some(sender) = self.participants.get_mut(sender)
                    && let Some(stream) = sender.publisher.stream(ssrc)
                    && let Some(source) = self.sources.get_mut(stream.source)
                    && source.owner() == about
                    && !rtcp_out::request_keyframe(env, self.feedback.video, (source, sender), stream.encoding, sink)
                {
                    env.stats.count(Counter::KeyframeRequestsThrottled);
                }
            }
            (PeerSignal::Demand { ssrc, height, .. }, None) => {
                let source = self.source_with(ssrc).and_then(|source| self.sources.get_mut(source));
                if let Some(source) = source.filter(|source| source.owner() == about) {
                    source.demand_mut().set_remote(worker, height);
                    self.schedule.touch(env.now);
                }
            }
            (PeerSignal::RepeatDemand { .. }, Some(home)) if home == worker => {
                for source in self.sources.values_mut().filter(|source| source.owner() == about) {
                    source.demand_mut().forget_announced();
                }
                self.schedule.touch(env.now);
            }
            (PeerSignal::SenderReport { ssrc, ntp, rtp, .. }, Some(home)) if home == worker => {
                let clock = SenderClock { ntp, rtp, at: env.now };
                if let Some(stream) = participant.publisher.stream(ssrc) {
                    self.report_to_subscribers(env, stream, clock, sink);
                }
            }
            // The endpoint is at home where the signal does not expect it: nobody means this.
            _ => env.stats.count(Counter::DropCrossWorkerUnknown),
        }
    }

    /// Asks the other workers what they want of an endpoint's sources. They may have said so before these were known.
    pub fn ask_for_demands(&self, env: &mut Env<'_>, endpoint: EndpointId) {
        for worker in self.spread.others() {
            env.send_signal(worker, PeerSignal::RepeatDemand { endpoint });
        }
    }
}
