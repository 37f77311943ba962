//! One endpoint as the forwarding core sees it: keys, numbers, wishes, and where its packets go.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::arrivals::Arrivals;
use super::codec::{FormatTable, VideoFeedback};
use super::extension_map::{ExtensionTable, UriId};
use super::leg::Indices;
use super::source::Input;
use crate::ids::EndpointId;
use crate::io::Path;
use crate::media::{MediaKind, ReceiverConstraints};
use crate::ring::{SrtpKeys, SrtpProfile};
use crate::srtp::{Opener, Sealer};

/// An endpoint is inactive after this long without a sign of life.
pub const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(8);
/// Time between receiver reports.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Most sources of the past whose counters are remembered per receiver.
const MAX_RETIRED: usize = 256;

/// State of one endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Its identity.
    pub id: EndpointId,
    /// Distinguishes it from earlier users of its place in the table.
    pub generation: u32,
    /// Where its packets go.
    pub path: Option<Path>,
    /// Opens what it sends.
    pub opener: Option<Opener>,
    /// Seals what it is sent.
    pub sealer: Option<Sealer>,
    keys: Option<SrtpKeys>,
    /// Its payload types.
    pub formats: FormatTable,
    /// Its extension ids.
    pub extensions: ExtensionTable,
    /// RTCP feedback that it negotiated.
    pub feedback: VideoFeedback,
    /// Drop its audio, its video.
    pub force_mute: [bool; 2],
    /// What it wants to receive.
    pub constraints: ReceiverConstraints,
    /// What its SSRCs carry.
    pub inputs: HashMap<u32, Input, foldhash::fast::RandomState>,
    /// Arrivals to report to it.
    pub arrivals: Arrivals,
    /// SSRC of the packet that arrived last with a transport-wide sequence number.
    pub transport_media_ssrc: u32,
    /// Transport-wide sequence number of the last packet sent to it.
    pub transport_sequence: u16,
    /// When the next receiver report goes out; none before it sends anything.
    pub next_report: Option<Instant>,
    /// Last sign of life.
    pub last_activity: Instant,
    /// What the control plane was told.
    pub active: bool,
    /// Names of the sources that it was last told to get.
    pub forwarded: Vec<String>,
    retired: Vec<(u32, Indices)>,
}

impl Endpoint {
    /// An endpoint without keys.
    pub fn new(id: EndpointId, generation: u32, now: Instant) -> Self {
        Self {
            id,
            generation,
            path: None,
            opener: None,
            sealer: None,
            keys: None,
            formats: FormatTable::default(),
            extensions: ExtensionTable::default(),
            feedback: VideoFeedback::default(),
            force_mute: [false; 2],
            constraints: ReceiverConstraints::default(),
            inputs: HashMap::default(),
            arrivals: Arrivals::default(),
            transport_media_ssrc: 0,
            transport_sequence: 0,
            next_report: None,
            last_activity: now,
            active: false,
            forwarded: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Installs keys. The same keys again change nothing: their counters must not restart.
    pub fn set_keys(&mut self, keys: &SrtpKeys) {
        if self.keys.as_ref() == Some(keys) {
            return;
        }
        self.opener = Some(Opener::new(&keys.inbound, keys.profile));
        self.sealer = Some(Sealer::new(&keys.outbound, keys.profile));
        self.keys = Some(*keys);
    }

    /// Whether a packet may be sealed again under its old index: AEAD forbids it unless every byte is the same
    /// (RFC 7714 section 8.4), and the extensions that are written anew for each sending differ.
    pub fn may_repeat_index(&self) -> bool {
        let fresh = [UriId::TRANSPORT_CC, UriId::ABS_SEND_TIME];
        let differs = fresh.iter().any(|uri| self.extensions.id(MediaKind::Video, *uri).is_some());
        !differs || self.keys.is_some_and(|k| k.profile == SrtpProfile::Aes128CmHmacSha1_80)
    }

    /// Remembers how far a leg got, for when its SSRC comes back.
    pub fn retire(&mut self, ssrc: u32, indices: Indices) {
        self.retired.retain(|(s, _)| *s != ssrc);
        if self.retired.len() >= MAX_RETIRED {
            self.retired.remove(0);
        }
        self.retired.push((ssrc, indices));
    }

    /// Where the counting on an SSRC goes on.
    pub fn indices(&mut self, ssrc: u32) -> Indices {
        match self.retired.iter().position(|(s, _)| *s == ssrc) {
            Some(i) => self.retired.remove(i).1,
            None => Indices::first(ssrc),
        }
    }
}
