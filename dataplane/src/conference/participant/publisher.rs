//! The sending side of an endpoint: what opens its packets, what its SSRCs carry, and what is taken of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::congestion::fair_share::{FairShare, Sent};
use crate::ids::{SourceId, Ssrc};
use crate::limits::{MAX_PUBLISHED, SentChanges};
use crate::media::MediaKind;
use crate::negotiation::negotiated::Negotiated;
use crate::rtcp::TwccRecorder;
use crate::srtp::{OpenError, Opened, Opener, SrtpKeys};

/// Time between receiver reports.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// What an SSRC of a sender carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingStream {
    /// The source in its conference.
    pub source: SourceId,
    /// Index of its encoding in the source.
    pub encoding: u8,
    /// Whether it is the retransmission stream.
    pub rtx: bool,
}

/// An endpoint as somebody who sends.
#[derive(Default, Serialize, Deserialize)]
pub struct Publisher {
    /// Its payload types, extension ids, and RTCP feedback.
    #[serde(with = "crate::carry::shared")]
    negotiated: Arc<Negotiated>,
    /// Opens what it sends; none without keys, as on workers that are not its home.
    opener: Option<Opener>,
    /// Arrivals to report to it.
    arrivals: TwccRecorder,
    /// SSRC of the packet that arrived last with a transport-wide sequence number.
    transport_media_ssrc: Ssrc,
    /// How often what it sends may change at once.
    changes: SentChanges,
    /// What was taken of it lately.
    sent: Sent,
    /// When the next receiver report goes out; none before it sends anything.
    #[serde(with = "crate::carry::checked")]
    next_report: Option<Instant>,
    force_mute: [bool; 2],
    #[serde(with = "crate::carry::map")]
    streams: HashMap<Ssrc, IncomingStream, foldhash::fast::RandomState>,
    sources: Vec<SourceId>,
    /// Sources that others had to remember one more SSRC for.
    published: u32,
}

impl Publisher {
    /// Its payload types, extension ids, and RTCP feedback.
    #[inline]
    pub fn negotiated(&self) -> &Arc<Negotiated> {
        &self.negotiated
    }

    /// Takes what it negotiated from now on.
    pub fn set_negotiated(&mut self, negotiated: Arc<Negotiated>) {
        self.negotiated = negotiated;
    }

    /// Whether there are keys for what it sends.
    #[inline]
    pub fn has_keys(&self) -> bool {
        self.opener.is_some()
    }

    /// Opens one of its SRTP packets in place; `None` without keys.
    #[inline]
    pub fn open_rtp(&mut self, packet: &mut [u8], header_len: usize) -> Option<Result<Opened, OpenError>> {
        Some(self.opener.as_mut()?.open_rtp(packet, header_len))
    }

    /// Opens one of its SRTCP packets in place, and returns its length; `None` without keys.
    #[inline]
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<Result<usize, OpenError>> {
        Some(self.opener.as_mut()?.open_rtcp(packet))
    }

    /// Whether it sent no more than its share of what the worker can take.
    #[inline]
    pub fn keeps_to(&self, share: &FairShare) -> bool {
        share.allows(&self.sent)
    }

    /// Counts a packet that was taken of it.
    #[inline]
    pub fn count_taken(&mut self, share: &mut FairShare) {
        share.count(&mut self.sent);
    }

    /// Records the arrival of a packet with a transport-wide sequence number.
    #[inline]
    pub fn record_arrival(&mut self, now: Instant, media: Ssrc, sequence: u16, marker: bool) {
        self.transport_media_ssrc = media;
        self.arrivals.record(now, sequence, marker);
    }

    /// When arrivals are to be reported to it.
    #[inline]
    pub fn arrivals_due(&self) -> Option<Instant> {
        self.arrivals.poll_timeout()
    }

    /// Writes a report on arrivals in the name of `from`; `None` when there is nothing to report.
    pub fn take_feedback(&mut self, now: Instant, from: Ssrc, out: &mut [u8]) -> Option<usize> {
        self.arrivals.take_feedback(now, from, self.transport_media_ssrc, out)
    }

    /// When a change of what it sends, made now, may be acted upon.
    pub fn reserve_change(&mut self, now: Instant) -> Instant {
        self.changes.reserve(now)
    }

    /// It sends something: when the next receiver report goes out.
    #[inline]
    pub fn start_reports(&mut self, now: Instant) -> Instant {
        *self.next_report.get_or_insert(now + REPORT_INTERVAL)
    }

    /// When the next receiver report goes out; `None` while it sends nothing.
    pub fn next_report(&self) -> Option<Instant> {
        self.next_report
    }

    /// A report was due; `any` is whether there was something to report. Whoever is silent is not reported on: the next packet
    /// starts the reports again.
    pub fn reported(&mut self, now: Instant, any: bool) {
        self.next_report = any.then_some(now + REPORT_INTERVAL);
    }

    /// Installs new keys; `many` is whether others publish by it, so that there are many SSRCs.
    pub fn set_keys(&mut self, keys: &SrtpKeys, many: bool) {
        let open = if many { Opener::of_many } else { Opener::new };
        self.opener = Some(open(&keys.inbound, keys.profile));
    }

    /// What an SSRC carries.
    #[inline]
    pub fn stream(&self, ssrc: Ssrc) -> Option<IncomingStream> {
        self.streams.get(&ssrc).copied()
    }

    /// Replaces what its SSRCs carry.
    pub fn set_streams(&mut self, streams: impl Iterator<Item = (Ssrc, IncomingStream)>) {
        self.streams.clear();
        // Of two sources behind one relay that claim an SSRC, the first one has it.
        streams.for_each(|(ssrc, stream)| {
            self.streams.entry(ssrc).or_insert(stream);
        });
        self.sources.clear();
        self.sources.extend(self.streams.values().map(|stream| stream.source));
        self.sources.sort_unstable();
        self.sources.dedup();
    }

    /// The sources that it publishes.
    pub fn sources(&self) -> &[SourceId] {
        &self.sources
    }

    /// Drops its audio, its video.
    pub fn set_force_mute(&mut self, audio: bool, video: bool) {
        self.force_mute = [audio, video];
    }

    /// Whether what it sends of a kind is dropped.
    #[inline]
    pub fn is_force_muted(&self, kind: MediaKind) -> bool {
        self.force_mute[usize::from(kind == MediaKind::Video)]
    }

    /// Counts a source that others have to remember one more SSRC for; false when it has had too many.
    pub fn may_publish(&mut self) -> bool {
        let may = self.published < MAX_PUBLISHED;
        self.published += u32::from(may);
        may
    }
}
