//! The sending side of an endpoint: what opens its packets, what its SSRCs carry, and what is taken of it.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use crate::congestion::fair_share::Sent;
use crate::ids::{SourceId, Ssrc};
use crate::limits::{MAX_PUBLISHED, SentChanges};
use crate::media::MediaKind;
use crate::negotiation::negotiated::Negotiated;
use crate::rtcp::TwccRecorder;
use crate::srtp::{Opener, SrtpKeys};

/// What an SSRC of a sender carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncomingStream {
    /// The source in its conference.
    pub source: SourceId,
    /// Which encoding.
    pub encoding: u8,
    /// Whether it is the retransmission stream.
    pub rtx: bool,
}

/// An endpoint as somebody who sends.
#[derive(Default)]
pub struct Publisher {
    /// Its payload types, extension ids, and RTCP feedback.
    pub negotiated: Arc<Negotiated>,
    /// Opens what it sends; none without keys, as on workers that are not its home.
    pub opener: Option<Opener>,
    /// Arrivals to report to it.
    pub arrivals: TwccRecorder,
    /// SSRC of the packet that arrived last with a transport-wide sequence number.
    pub transport_media_ssrc: Ssrc,
    /// How often what it sends may change at once.
    pub changes: SentChanges,
    /// What was taken of it lately.
    pub sent: Sent,
    /// When the next receiver report goes out; none before it sends anything.
    pub next_report: Option<Instant>,
    force_mute: [bool; 2],
    streams: HashMap<Ssrc, IncomingStream, foldhash::fast::RandomState>,
    sources: Vec<SourceId>,
    /// Sources that others had to remember one more SSRC for.
    published: u32,
}

impl Publisher {
    /// Installs new keys.
    pub fn set_keys(&mut self, keys: &SrtpKeys) {
        self.opener = Some(Opener::new(&keys.inbound, keys.profile));
    }

    /// What an SSRC carries.
    #[inline]
    pub fn stream(&self, ssrc: Ssrc) -> Option<IncomingStream> {
        self.streams.get(&ssrc).copied()
    }

    /// Replaces what its SSRCs carry.
    pub fn set_streams(&mut self, streams: impl Iterator<Item = (Ssrc, IncomingStream)>) {
        self.streams.clear();
        self.streams.extend(streams);
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
