//! One endpoint as the forwarding core sees it: keys, numbers, wishes, and where its packets go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::conference::receiver::downlink::Downlink;
use crate::conference::receiver::round_trip::RoundTrip;
use crate::conference::receiver::ssrc_slots::SsrcSlots;
use crate::conference::receiver::subscription::{Indices, first_index};
use crate::conference::source::IncomingStream;
use crate::congestion::fair_share::Sent;
use crate::ids::EndpointId;
use crate::io::Path;
use crate::limits::{CommandedChanges, RepeatedBytes, RtcpWork, SentChanges};
use crate::media::{Encoding, MediaKind, ReceiverConstraints};
use crate::negotiation::ids::UriId;
use crate::negotiation::negotiated::Negotiated;
use crate::rtcp::TwccRecorder;
use crate::srtp::{Opener, Sealer};
use crate::srtp::{SrtpKeys, SrtpProfile};

/// An endpoint is inactive after this long without a sign of life.
pub const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(8);
/// Time between receiver reports.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Most SSRCs of the past whose packet indices are remembered per receiver.
const MAX_RETIRED: usize = 32_768;

/// State of one endpoint.
pub struct Participant {
    /// Its identity.
    pub id: EndpointId,
    /// Distinguishes it from earlier users of its place in the table.
    pub generation: u32,
    /// The worker that it lives on, when that is another one: then its packets come opened, and none go to it.
    pub home: Option<usize>,
    /// Where its packets go.
    pub path: Option<Path>,
    /// Opens what it sends.
    pub opener: Option<Opener>,
    /// Seals what it is sent.
    pub sealer: Option<Sealer>,
    keys: Option<SrtpKeys>,
    /// Its payload types, extension ids, and RTCP feedback.
    pub negotiated: Arc<Negotiated>,
    /// Drop its audio, its video.
    pub force_mute: [bool; 2],
    /// What it wants to receive.
    pub constraints: ReceiverConstraints,
    /// Names of others' sources that its client was not told of yet.
    pub untold: Vec<String>,
    /// What its SSRCs carry.
    pub inputs: HashMap<u32, IncomingStream, foldhash::fast::RandomState>,
    /// Arrivals to report to it.
    pub arrivals: TwccRecorder,
    /// SSRC of the packet that arrived last with a transport-wide sequence number.
    pub transport_media_ssrc: u32,
    /// Round-trip time to it, by reports.
    pub round_trip: RoundTrip,
    /// The SSRCs that it gets everything on, if it asked for such.
    pub ssrc_slots: Option<Box<SsrcSlots>>,
    /// The way to it, once it negotiated to tell of that.
    pub downlink: Option<Box<Downlink>>,
    /// How often what it sends may change at once.
    pub changes: SentChanges,
    /// How often commands may change it at once.
    pub commanded: CommandedChanges,
    /// Sources that others had to remember one more SSRC for.
    pub published: u32,
    /// What was taken of it lately.
    pub sent: Sent,
    /// What its RTCP may cost.
    pub rtcp_work: RtcpWork,
    /// What it may be sent again.
    pub repeated: RepeatedBytes,
    /// When the next receiver report goes out; none before it sends anything.
    pub next_report: Option<Instant>,
    /// Last sign of life.
    pub last_activity: Instant,
    /// What the control plane believes: changes are told, and a new endpoint counts as active.
    pub active: bool,
    /// Names of the sources that it was last told to get.
    pub forwarded: Vec<String>,
    retired: HashMap<u32, i64, foldhash::fast::RandomState>,
}

impl Participant {
    /// Whether its client knows of a source, at its place in the conference, so that packets may go.
    pub fn is_told(&self, kind: MediaKind, place: usize, name: &str) -> bool {
        match self.ssrc_slots.as_deref() {
            Some(slots) => slots.is_told(kind, place),
            None => self.was_told(name),
        }
    }

    /// The same where its SSRCs are those of the senders.
    pub fn was_told(&self, name: &str) -> bool {
        !self.untold.iter().any(|untold| untold == name)
    }

    /// An endpoint without keys.
    pub fn new(id: EndpointId, generation: u32, negotiated: Arc<Negotiated>, now: Instant) -> Self {
        Self {
            id,
            generation,
            home: None,
            path: None,
            opener: None,
            sealer: None,
            keys: None,
            negotiated,
            force_mute: [false; 2],
            constraints: ReceiverConstraints::default(),
            untold: Vec::new(),
            inputs: HashMap::default(),
            arrivals: TwccRecorder::default(),
            transport_media_ssrc: 0,
            round_trip: RoundTrip::default(),
            ssrc_slots: None,
            downlink: None,
            changes: SentChanges::new(),
            commanded: CommandedChanges::new(),
            published: 0,
            sent: Sent::default(),
            rtcp_work: RtcpWork::new(),
            repeated: RepeatedBytes::new(),
            next_report: None,
            last_activity: now,
            active: true,
            forwarded: Vec::new(),
            retired: HashMap::default(),
        }
    }

    /// Installs keys; false if they were in use already, and their counters must not restart.
    pub fn set_keys(&mut self, keys: &SrtpKeys) -> bool {
        if self.keys.as_ref() == Some(keys) {
            return false;
        }
        // New keys start new counting, on both sides.
        self.retired.clear();
        self.opener = Some(Opener::new(&keys.inbound, keys.profile));
        self.sealer = Some(Sealer::new(&keys.outbound, keys.profile));
        self.keys = Some(keys.clone());
        true
    }

    /// Round-trip time to it, by reports or else by transport-wide feedback.
    pub fn rtt(&self) -> Option<Duration> {
        let by_feedback = || self.downlink.as_deref().and_then(|d| d.estimator.round_trip());
        self.round_trip.value().or_else(by_feedback).map(Duration::from_micros)
    }

    /// Whether a packet may be sealed again under its old index: AEAD forbids it unless every byte is the same
    /// (RFC 7714 section 8.4), and the extensions that are written anew for each sending differ.
    pub fn may_repeat_index(&self) -> bool {
        let fresh = [UriId::TRANSPORT_CC, UriId::ABS_SEND_TIME];
        let differs = fresh.iter().any(|uri| self.negotiated.extensions.id(MediaKind::Video, *uri).is_some());
        !differs || self.keys.as_ref().is_some_and(|k| k.profile == SrtpProfile::Aes128CmHmacSha1_80)
    }

    /// Whether it is sent sources on their own SSRCs, and has to remember those.
    pub fn remembers_ssrcs(&self) -> bool {
        self.home.is_none() && self.ssrc_slots.is_none()
    }

    /// Whether it was sent something on both SSRCs in the past.
    pub fn remembers(&self, ssrcs: Encoding) -> bool {
        let known = |ssrc: &u32| self.retired.contains_key(ssrc);
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
        let mut resume = |ssrc: u32| match self.retired.remove(&ssrc) {
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
        let mut e = Participant::new(EndpointId(1), 1, Arc::default(), Instant::now());
        let first = e.indices(Encoding { ssrc: 5, rtx: Some(6) }).unwrap();
        assert!(first.media < 1 << 15 && first.rtx < 1 << 15);
        e.retire(Encoding { ssrc: 5, rtx: Some(6) }, Indices { media: 70_000, rtx: 900 });
        assert_eq!(e.indices(Encoding { ssrc: 6, rtx: Some(5) }), Some(Indices { media: 900, rtx: 70_000 }));
    }

    #[test]
    fn no_new_ssrcs_when_too_many_were_used_up() {
        let mut e = Participant::new(EndpointId(1), 1, Arc::default(), Instant::now());
        for ssrc in 0..MAX_RETIRED as u32 {
            e.retire(Encoding { ssrc, rtx: None }, Indices { media: 9, rtx: 0 });
        }
        assert_eq!(e.indices(Encoding { ssrc: 1 << 20, rtx: None }), None);
        assert_eq!(e.indices(Encoding { ssrc: 17, rtx: None }), Some(Indices { media: 9, rtx: 0 }));
    }
}
