//! The receiving side: what one endpoint gets, on which SSRCs, under which numbers, and what its path carries.
//!
//! A [`subscription`] is one receiver of one source. Its [`projection`] makes one continuous stream of the pieces of the
//! source's encodings that the receiver gets, [`delivery`] sends a packet of it for the first time or again, and [`rewrite`]
//! writes the packet under the receiver's numbers and seals it. A relay gets [`pass_through`] instead. [`downlink`] estimates what the path carries; [`ssrc_slots`]
//! gives receivers with SSRC rewriting their bounded set of SSRCs.

use serde::{Deserialize, Serialize};

pub mod delivery;
pub mod downlink;
pub mod keyframe;
pub mod pass_through;
pub mod projection;
mod resent;
pub mod rewrite;
pub mod round_trip;
pub mod ssrc_slots;
pub mod subscription;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use downlink::Downlink;
use round_trip::RoundTrip;
use ssrc_slots::SsrcSlots;
use subscription::{Indices, first_index};

use crate::clock::WorkerTime;
use crate::congestion::division::Division;
use crate::datagram::{MAX_DATAGRAM, PacketSink, Path};
use crate::ids::{SourceId, Ssrc};
use crate::limits::RepeatedBytes;
use crate::media::{Encoding, MediaKind, ReceiverConstraints};
use crate::messages::Bandwidth;
use crate::negotiation::ids::UriId;
use crate::negotiation::negotiated::Negotiated;
use crate::srtp::{MAX_OVERHEAD, Sealer, SrtpKeys, SrtpProfile};

/// Most SSRCs of the past whose packet indices are remembered per receiver.
const MAX_RETIRED: usize = 32_768;

/// An endpoint as somebody who is sent packets.
#[derive(Default, Serialize, Deserialize)]
pub struct Receiver {
    /// Its payload types, extension ids, and RTCP feedback.
    #[serde(with = "crate::carry::shared")]
    negotiated: Arc<Negotiated>,
    /// Where its packets go.
    path: Option<Path>,
    /// What it wants to receive.
    constraints: ReceiverConstraints,
    /// Names of others' sources that were not signalled to its client yet.
    unsignalled: Vec<String>,
    /// Names of the sources that were last announced to it as forwarded.
    forwarded: Vec<String>,
    /// Round-trip time to it, by reports.
    round_trip: RoundTrip,
    /// The SSRCs that it gets everything on, if it asked for such.
    ssrc_slots: Option<Box<SsrcSlots>>,
    /// The path to it, once it negotiated to report on that.
    downlink: Option<Box<Downlink>>,
    /// What it may be sent again.
    repeated: RepeatedBytes,
    sealer: Option<Sealer>,
    profile: Option<SrtpProfile>,
    #[serde(with = "crate::carry::map")]
    retired: HashMap<Ssrc, i64, foldhash::fast::RandomState>,
}

/// Why an RTCP packet did not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpNotSent {
    /// No keys or no path yet, or nothing to say.
    Nothing,
    /// No room in the output.
    OutputFull,
}

/// What the state of a path means for video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathState {
    /// Nothing goes until its queue has drained.
    pub paused: bool,
    /// So much waits on it that nothing undecodable should be added.
    pub queued: bool,
}

impl Receiver {
    /// Its payload types, extension ids, and RTCP feedback.
    #[inline]
    pub fn negotiated(&self) -> &Arc<Negotiated> {
        &self.negotiated
    }

    /// Takes what it negotiated from now on.
    pub fn set_negotiated(&mut self, negotiated: Arc<Negotiated>) {
        self.negotiated = negotiated;
    }

    /// Sets where its packets go; `None` stops sending.
    pub fn set_path(&mut self, path: Option<Path>) {
        self.path = path;
    }

    /// What it wants to receive.
    pub fn constraints(&self) -> &ReceiverConstraints {
        &self.constraints
    }

    /// Replaces what it wants to receive; false when that is no news.
    pub fn set_constraints(&mut self, constraints: ReceiverConstraints) -> bool {
        let news = self.constraints != constraints;
        if news {
            self.constraints = constraints;
        }
        news
    }

    /// Replaces the names of the sources that were not signalled to its client yet; false when that is no news.
    pub fn set_unsignalled(&mut self, unsignalled: Vec<String>) -> bool {
        let news = self.unsignalled != unsignalled;
        if news {
            self.unsignalled = unsignalled;
        }
        news
    }

    /// Records the sources that it gets from now on; returns their names when that has to be announced to it.
    pub fn note_forwarded<'a>(&mut self, names: impl Iterator<Item = &'a str> + Clone) -> Option<&[String]> {
        if names.clone().eq(self.forwarded.iter().map(String::as_str)) {
            return None;
        }
        self.forwarded = names.map(str::to_owned).collect();
        Some(&self.forwarded)
    }

    /// The SSRCs that it gets everything on, if it asked for such.
    #[inline]
    pub fn ssrc_slots(&self) -> Option<&SsrcSlots> {
        self.ssrc_slots.as_deref()
    }

    /// The same, to give them to sources.
    #[inline]
    pub fn ssrc_slots_mut(&mut self) -> Option<&mut SsrcSlots> {
        self.ssrc_slots.as_deref_mut()
    }

    /// It gets everything on these SSRCs from now on.
    pub fn use_ssrc_slots(&mut self, slots: SsrcSlots) {
        self.ssrc_slots = Some(Box::new(slots));
    }

    /// What is known of the path to it, once it negotiated to report on that.
    #[inline]
    pub fn downlink(&self) -> Option<&Downlink> {
        self.downlink.as_deref()
    }

    /// The same, to record what is sent and what it reports.
    #[inline]
    pub fn downlink_mut(&mut self) -> Option<&mut Downlink> {
        self.downlink.as_deref_mut()
    }

    /// It negotiated to report on the path to it.
    pub fn use_downlink(&mut self, downlink: Downlink) {
        self.downlink = Some(Box::new(downlink));
    }

    /// A sender report with this NTP time was sent to it.
    pub fn note_sender_report(&mut self, now: WorkerTime, ntp: u64) {
        self.round_trip.sent(now, ntp);
    }

    /// Takes what a report block of it says of the last sender report: its NTP time, and the delay since in 1/65536 s.
    pub fn note_report(&mut self, now: WorkerTime, last_sr: u32, delay: u32) {
        self.round_trip.reported(now, last_sr, delay);
    }

    /// What to report to the control plane of its path, if that has changed.
    pub fn report_bandwidth(&mut self, now: WorkerTime) -> Option<Bandwidth> {
        self.downlink.as_deref_mut()?.report(now, self.round_trip.value())
    }

    /// Installs new keys: all counting starts anew.
    pub fn set_keys(&mut self, keys: &SrtpKeys) {
        self.retired.clear();
        self.sealer = Some(Sealer::new(&keys.outbound, keys.profile));
        self.profile = Some(keys.profile);
    }

    /// Whether it has keys and a path.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.sealer.is_some() && self.path.is_some()
    }

    /// What seals its packets, and where they go; `None` while it is not ready.
    #[inline]
    pub fn transport(&self) -> Option<(&Sealer, Path)> {
        Some((self.sealer.as_ref()?, self.path?))
    }

    /// Builds one RTCP packet, seals and queues it. `build` writes plaintext and returns its length.
    pub fn send_rtcp(
        &mut self,
        sink: &mut impl PacketSink,
        build: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(), RtcpNotSent> {
        let (Some(sealer), Some(path)) = (&mut self.sealer, self.path) else { return Err(RtcpNotSent::Nothing) };
        let slot = sink.slot().ok_or(RtcpNotSent::OutputFull)?;
        let len = build(slot.get_mut(..MAX_DATAGRAM - MAX_OVERHEAD).unwrap_or(&mut [])).ok_or(RtcpNotSent::Nothing)?;
        let len = sealer.seal_rtcp(slot, len).map_err(|_| RtcpNotSent::Nothing)?;
        sink.commit(len, path);
        Ok(())
    }

    /// Whether its client knows of a source of the conference, so that packets may go.
    pub fn is_signalled(&self, kind: MediaKind, source: SourceId, name: &str) -> bool {
        match self.ssrc_slots.as_deref() {
            Some(slots) => slots.is_signalled(kind, source),
            None => self.is_name_signalled(name),
        }
    }

    /// The same where its SSRCs are those of the senders.
    pub fn is_name_signalled(&self, name: &str) -> bool {
        !self.unsignalled.iter().any(|unsignalled| unsignalled == name)
    }

    /// Whether so much is lost on its path that repetitions are worth having twice.
    pub fn is_lossy(&self) -> bool {
        self.downlink.as_deref().is_some_and(Downlink::is_lossy)
    }

    /// Takes what the allocation made of the path; `lower` is whether a lower encoding is to begin. `controlled` is whether what
    /// is sent is bounded by an estimate at all.
    pub fn note_division(&mut self, now: WorkerTime, division: &Division, lower: bool, controlled: bool) -> PathState {
        let controlled = controlled && self.constraints.assumed_bandwidth.is_none();
        let Some(downlink) = self.downlink.as_deref_mut() else { return PathState::default() };
        let available = downlink.available(now);
        downlink.allocated(now, available, division);
        if !controlled {
            downlink.end_pause();
            return PathState::default();
        }
        PathState { queued: downlink.is_queued(), paused: downlink.pauses(now, division.oversent, lower) }
    }

    /// Whether a packet of this size may be sent again; pays for it if so.
    pub fn pays_for_repeat(&mut self, now: Instant, worker_time: WorkerTime, size: usize) -> bool {
        self.repeated.take_many(now, size as u32)
            && self.downlink.as_deref_mut().is_none_or(|downlink| downlink.may_repeat(worker_time, size))
    }

    /// Round-trip time to it, by reports or else by transport-wide feedback.
    pub fn rtt(&self) -> Option<Duration> {
        let by_feedback = || self.downlink.as_deref().and_then(Downlink::round_trip);
        self.round_trip.value().or_else(by_feedback).map(Duration::from_micros)
    }

    /// Whether a packet may be sealed again under its old index: AEAD forbids it unless every byte is the same
    /// (RFC 7714 section 8.4), and the extensions that are written anew for each sending differ.
    pub fn may_repeat_index(&self) -> bool {
        let fresh = [UriId::TRANSPORT_CC, UriId::ABS_SEND_TIME];
        let differs = fresh.iter().any(|uri| self.negotiated.extensions.id(MediaKind::Video, *uri).is_some());
        !differs || self.profile == Some(SrtpProfile::Aes128CmHmacSha1_80)
    }

    /// Of a relay: takes the packet index that an SSRC has got to out of what is remembered; `None` when nothing ever went out
    /// on it.
    pub fn recall(&mut self, ssrc: Ssrc) -> Option<i64> {
        self.retired.remove(&ssrc)
    }

    /// Of a relay: remembers the packet index that an SSRC has got to, for when it comes back.
    pub fn remember(&mut self, ssrc: Ssrc, next: i64) {
        self.retired.insert(ssrc, next);
    }

    /// Of a relay: whether so many SSRCs could be remembered beside those that are.
    pub fn has_memory_for(&self, ssrcs: usize) -> bool {
        self.retired.len() + ssrcs <= MAX_RETIRED
    }

    /// Whether it was sent something on both SSRCs in the past.
    pub fn remembers(&self, ssrcs: Encoding) -> bool {
        let known = |ssrc: &Ssrc| self.retired.contains_key(ssrc);
        known(&ssrcs.ssrc) && ssrcs.rtx.as_ref().is_none_or(known)
    }

    /// Remembers how far a subscription got, for when one of its SSRCs comes back.
    pub fn retire(&mut self, ssrcs: Encoding, indices: Indices) {
        self.retired.insert(ssrcs.ssrc, indices.media);
        if let Some(rtx) = ssrcs.rtx {
            self.retired.insert(rtx, indices.rtx);
        }
    }

    /// Where the counting on a source's SSRCs goes on. `None` when too many were used up under the present keys:
    /// starting one of the forgotten again would use SRTP indices twice.
    pub fn indices(&mut self, ssrcs: Encoding) -> Option<Indices> {
        let full = self.retired.len() >= MAX_RETIRED;
        let mut resume = |ssrc: Ssrc| match self.retired.remove(&ssrc) {
            Some(index) => Some(index),
            None if full => None,
            None => Some(first_index(ssrc)),
        };
        let media = resume(ssrcs.ssrc)?;
        let rtx = match ssrcs.rtx {
            Some(rtx) => resume(rtx)?,
            None => 0,
        };
        Some(Indices { media, rtx })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssrc_goes_on_whatever_role_it_comes_back_in() {
        let mut receiver = Receiver::default();
        let first = receiver.indices(Encoding { ssrc: Ssrc::new(5), rtx: Some(Ssrc::new(6)) }).unwrap();
        assert!(first.media < 1 << 15 && first.rtx < 1 << 15);
        receiver.retire(Encoding { ssrc: Ssrc::new(5), rtx: Some(Ssrc::new(6)) }, Indices { media: 70_000, rtx: 900 });
        let swapped = receiver.indices(Encoding { ssrc: Ssrc::new(6), rtx: Some(Ssrc::new(5)) });
        assert_eq!(swapped, Some(Indices { media: 900, rtx: 70_000 }));
    }

    #[test]
    fn no_new_ssrcs_when_too_many_were_used_up() {
        let mut receiver = Receiver::default();
        for ssrc in 0..MAX_RETIRED as u32 {
            receiver.retire(Encoding { ssrc: Ssrc::new(ssrc), rtx: None }, Indices { media: 9, rtx: 0 });
        }
        assert_eq!(receiver.indices(Encoding { ssrc: Ssrc::new(1 << 20), rtx: None }), None);
        assert_eq!(receiver.indices(Encoding { ssrc: Ssrc::new(17), rtx: None }), Some(Indices { media: 9, rtx: 0 }));
    }
}
