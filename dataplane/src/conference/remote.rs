//! A conference on several workers. The home of an endpoint receives, opens and numbers its packets and gives each one
//! to every other worker that has receivers, once. There a remote endpoint stands in for the sender: it has its tables
//! and sources, but neither keys nor address, and projection, cache and sealing happen as for a local one.

use crate::conference::context::Env;
use crate::conference::ingress::Numbered;
use crate::conference::members::Conference;
use crate::conference::participant::Participant;
use crate::conference::rtcp_out;
use crate::conference::source::reports::SenderClock;
use crate::conference::source::{RemoteDemand, Source};
use crate::congestion::allocation;
use crate::io::PacketSink;
use crate::media::MediaKind;
use crate::messages::Event;
use crate::peers::{Crossing, Note};
use crate::rtp::Packet;
use crate::stats::Counter;

/// The workers of a set, one bit each.
pub fn workers_of(mask: u64) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let next = (left != 0).then(|| left.trailing_zeros() as usize);
        left &= left.wrapping_sub(1);
        next
    })
}

/// One worker as a member of a set.
pub fn bit(worker: usize) -> u64 {
    1u64.checked_shl(worker as u32).unwrap_or(0)
}

impl Conference {
    /// Endpoints came or went: who else has receivers, and whose word on speakers counts.
    pub fn update_workers(&mut self, env: &mut Env<'_>) {
        let here = env.peers.index();
        let homes = || self.endpoints.iter().flatten().map(|e| (e.id, e.home.unwrap_or(here)));
        self.away = homes().filter(|(_, home)| *home != here).fold(0, |mask, (_, home)| mask | bit(home));
        let lead = homes().min().is_some_and(|(_, home)| home == here);
        let took_over = lead && !std::mem::replace(&mut self.lead, lead);
        // What the former lead announced last may be old news here, or not.
        if took_over && !self.speaker.recent().is_empty() {
            env.emit(Event::DominantSpeaker { conference: self.id, recent: self.speaker.recent().to_vec() });
        }
        self.lead = lead;
        let away = self.away;
        for source in self.sources.iter_mut().flatten() {
            source.remote_demands.retain(|d| away & bit(d.worker) != 0);
            source.unwanted &= away;
        }
    }

    /// Gives a packet to the other workers that want it.
    pub fn cross(env: &mut Env<'_>, mask: u64, crossing: Crossing, packet: &[u8]) {
        for worker in workers_of(mask) {
            if env.peers.send_media(worker, crossing, packet) {
                env.stats.count(Counter::Crossings);
            } else {
                env.stats.count(Counter::DropCrossingFull);
            }
        }
    }

    /// Takes a packet that `home` has opened, of the endpoint at `from`.
    pub fn handle_crossing(
        &mut self,
        env: &mut Env<'_>,
        home: usize,
        from: usize,
        crossing: Crossing,
        packet: &[u8],
        sink: &mut impl PacketSink,
    ) {
        let Some(mut sender) = self.endpoints.get_mut(from).and_then(Option::take) else { return };
        if sender.home == Some(home) {
            self.receive_crossing(env, &mut sender, crossing, packet, sink);
        } else {
            env.stats.count(Counter::DropCrossingUnknown);
        }
        if let Some(place) = self.endpoints.get_mut(from) {
            *place = Some(sender);
        }
    }

    fn receive_crossing(
        &mut self,
        env: &mut Env<'_>,
        sender: &mut Participant,
        crossing: Crossing,
        packet: &[u8],
        sink: &mut impl PacketSink,
    ) {
        let Ok(rtp) = Packet::parse(packet) else { return env.stats.count(Counter::DropRtpMalformed) };
        let input = sender.inputs.get(&rtp.ssrc()).copied();
        let source = input.and_then(|i| Some((i, self.sources.get_mut(i.source)?.as_deref_mut()?)));
        let Some((input, source)) = source else { return env.stats.count(Counter::DropCrossingUnknown) };
        if source.restarts != crossing.restarts {
            source.restart();
            source.restarts = crossing.restarts;
        }
        let format = match crossing.repeated_as {
            Some(number) => sender.negotiated.formats.rtx(source.kind, number).map(|(_, format)| format),
            None => sender.negotiated.formats.media(source.kind, rtp.payload_type()),
        };
        let Some(format) = format else { return env.stats.count(Counter::DropUnknownPayloadType) };
        self.distribute(
            env,
            sender,
            input,
            &Numbered { rtp, bytes: packet, sequence: crossing.sequence, format },
            sink,
        );
    }

    /// Takes a note about the endpoint at `index`.
    pub fn handle_note(
        &mut self,
        env: &mut Env<'_>,
        worker: usize,
        index: usize,
        note: Note,
        sink: &mut impl PacketSink,
    ) {
        let Some(mut endpoint) = self.endpoints.get_mut(index).and_then(Option::take) else { return };
        match (note, endpoint.home) {
            (Note::KeyframeWish { ssrc, .. }, None) => {
                if let Some(input) = endpoint.inputs.get(&ssrc).copied()
                    && let Some(source) = self.sources.get_mut(input.source).and_then(Option::as_deref_mut)
                    && !rtcp_out::request_keyframe(
                        env,
                        self.feedback.video,
                        source,
                        &mut endpoint,
                        input.encoding,
                        sink,
                    )
                {
                    env.stats.count(Counter::KeyframeRequestsThrottled);
                }
            }
            (Note::Demand { ssrc, max_height, .. }, None) => {
                let source = self.place_of(ssrc).and_then(|place| self.sources.get_mut(place)?.as_deref_mut());
                if let Some(source) = source.filter(|s| s.owner == index) {
                    source.set_remote_demand(worker, max_height);
                    self.touch(env.now);
                }
            }
            (Note::TellDemand { .. }, Some(home)) if home == worker => {
                for source in self.sources.iter_mut().flatten().filter(|s| s.owner == index) {
                    source.demand = None;
                }
                self.touch(env.now);
            }
            (Note::SenderReport { ssrc, ntp, rtp, .. }, Some(home)) if home == worker => {
                let clock = SenderClock { ntp, rtp, at: env.now };
                if let Some(input) = endpoint.inputs.get(&ssrc).copied() {
                    self.report_to_subscribers(env, input, clock, sink);
                }
            }
            // The endpoint is at home where the note does not expect it: nobody means this.
            _ => env.stats.count(Counter::DropCrossingUnknown),
        }
        if let Some(place) = self.endpoints.get_mut(index) {
            *place = Some(endpoint);
        }
    }

    /// Asks the other workers what they want of an endpoint's sources. They may have said so before these were known.
    pub fn ask_for_demands(&self, env: &mut Env<'_>, endpoint: crate::ids::EndpointId) {
        for worker in workers_of(self.away) {
            if !env.peers.send_note(worker, Note::TellDemand { endpoint }) {
                env.stats.count(Counter::DropCrossingFull);
            }
        }
    }
}

impl Source {
    /// The workers, out of those in `away`, that a packet crosses to. Whoever has not said yet is given everything.
    pub fn crosses_to(&self, away: u64) -> u64 {
        match self.kind {
            // Everywhere, so that all agree on who speaks.
            MediaKind::Audio => away,
            MediaKind::Video => away & !self.unwanted,
        }
    }

    /// Notes what the receivers on another worker want.
    pub fn set_remote_demand(&mut self, worker: usize, max_height: i32) {
        self.remote_demands.retain(|d| d.worker != worker);
        self.remote_demands.push(RemoteDemand { worker, max_height });
        match max_height {
            0 => self.unwanted |= bit(worker),
            _ => self.unwanted &= !bit(worker),
        }
    }

    /// What receivers anywhere want, given what those here do.
    pub fn merged_demand(&self, here: Option<i32>) -> Option<i32> {
        let merge = |a: Option<i32>, d: &RemoteDemand| Some(allocation::larger(a.unwrap_or(0), d.max_height));
        self.remote_demands.iter().fold(here, merge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_workers() {
        assert_eq!(workers_of(bit(0) | bit(3) | bit(63)).collect::<Vec<_>>(), [0, 3, 63]);
        assert_eq!((workers_of(0).count(), bit(64)), (0, 0));
    }
}
