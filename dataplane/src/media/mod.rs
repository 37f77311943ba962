//! What signalling says of an endpoint's media: formats, header extensions, sources, receiver constraints.
//!
//! These are plain values that cross the command ring; the workers compile them into lookup tables.

mod bitrate;
mod limit;
mod mid;

pub use bitrate::Bitrate;
pub use limit::Limit;
pub(crate) use mid::MAX_LEN as MAX_MID_LEN;
pub use mid::Mid;

use serde::{Deserialize, Serialize};

use crate::ids::{PayloadType, Ssrc};

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MediaKind {
    /// An audio source or format.
    Audio,
    /// A video source or format.
    Video,
}

/// One negotiated codec and its payload type (Jingle `payload-type`, XEP-0167).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CodecParameters {
    /// The number on the wire.
    pub payload_type: PayloadType,
    /// The media that it belongs to.
    pub kind: MediaKind,
    /// Encoding name as signalled, e.g. `VP8`, `opus`, `rtx`, `red`; compared without regard to case.
    pub name: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 where not signalled.
    pub channels: u8,
    /// Format parameters in order: `apt` of rtx, `profile-level-id` of H264; RED's `111/111` has an empty name.
    pub parameters: Vec<(String, String)>,
    /// RTCP feedback as (type, subtype), e.g. `("nack", "pli")`, `("transport-cc", "")`.
    pub feedback: Vec<(String, String)>,
}

/// One negotiated RTP header extension (RFC 8285, XEP-0294).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeaderExtension {
    /// The id on the wire: 1..=14 in the one-byte form, up to 255 in the two-byte form.
    pub id: u8,
    /// The media section that it was negotiated in.
    pub kind: MediaKind,
    /// The URI that gives it its meaning.
    pub uri: String,
}

/// Everything that an endpoint negotiated for its media; a new value replaces the old one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Media {
    /// The codecs of the endpoint's latest negotiation, under the numbers that it expects to receive, and that it sends.
    pub codecs: Vec<CodecParameters>,
    /// The codecs of the first offer, consulted on input when `codecs` lacks a number:
    /// a strict RFC 3264 answerer that renumbers still sends with the numbers of the offer.
    pub offered_codecs: Vec<CodecParameters>,
    /// Header extensions of the latest negotiation.
    pub header_extensions: Vec<HeaderExtension>,
    /// Whether two-byte header extensions may be mixed in (`extmap-allow-mixed`, RFC 8285 section 6).
    pub extmap_allow_mixed: bool,
}

/// What a video source shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VideoType {
    /// A camera.
    #[default]
    Camera,
    /// A shared screen or window.
    Desktop,
    /// A shared screen at a high frame rate.
    DesktopHighFps,
    /// Nothing at the moment.
    None,
    /// Switched off by its owner.
    Disabled,
}

impl VideoType {
    /// Whether there is anything to see.
    pub const fn is_shown(self) -> bool {
        !matches!(self, Self::None | Self::Disabled)
    }
}

/// One simulcast encoding of a source: its media SSRC and the SSRC of its retransmissions (RFC 4588).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// SSRC of the media packets.
    pub ssrc: Ssrc,
    /// SSRC of the retransmission stream, from a FID group.
    pub rtx: Option<Ssrc>,
}

/// One source that an endpoint publishes (colibri2 `media-source`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDescription {
    /// The source name, e.g. `ab12cd34-v0`; unique in the conference.
    pub name: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Camera or desktop; meaningless for audio.
    pub video_type: VideoType,
    /// Encodings from low to high (SIM group order), or the only one.
    pub encodings: Vec<Encoding>,
}

/// The largest picture wanted of one video source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoConstraint {
    /// Pixels.
    pub max_height: Limit,
    /// Frames per second.
    pub max_frame_rate: Limit,
}

/// What an endpoint wants to receive: the state after all its `ReceiverVideoConstraints` messages
/// (docs/protocol/bridge.md 5.5), already merged by the control plane, every name a source name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverConstraints {
    /// How many video sources.
    pub last_n: Limit,
    /// Sources on stage, first the most important.
    pub on_stage: Vec<String>,
    /// Selected sources, after those on stage.
    pub selected: Vec<String>,
    /// For every source that `per_source` does not name.
    pub default: VideoConstraint,
    /// By source name.
    pub per_source: Vec<(String, VideoConstraint)>,
    /// What the client wants to be taken for what its path carries, instead of the estimate.
    pub assumed_bandwidth: Option<Bitrate>,
    /// Which audio.
    pub audio: AudioSubscription,
}

/// Which audio an endpoint wants to receive (bridge channel `ReceiverAudioSubscription`, docs/protocol/bridge.md 9.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioSubscription {
    /// Whether it wants what neither list names.
    pub all: bool,
    /// Names of sources that it wants in any case.
    pub include: Vec<String>,
    /// Names of sources that it does not want; goes before `include`.
    pub exclude: Vec<String>,
}

impl Default for AudioSubscription {
    /// All audio is forwarded.
    fn default() -> Self {
        Self { all: true, include: Vec::new(), exclude: Vec::new() }
    }
}

impl AudioSubscription {
    /// Whether a source is wanted.
    pub fn wants(&self, source: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == source);
        !named(&self.exclude) && (self.all || named(&self.include))
    }
}

impl ReceiverConstraints {
    /// What is wanted of one source.
    pub fn of(&self, source: &str) -> VideoConstraint {
        self.per_source.iter().find(|(name, _)| name == source).map_or(self.default, |(_, c)| *c)
    }

    /// How important a source is to the endpoint, the smallest first: on stage, selected, a screen, anything else.
    pub fn rank(&self, source: &str, video_type: VideoType) -> (usize, usize, bool) {
        let within = |list: &[String]| list.iter().position(|name| name == source).unwrap_or(usize::MAX);
        let screen = matches!(video_type, VideoType::Desktop | VideoType::DesktopHighFps);
        (within(&self.on_stage), within(&self.selected), !screen)
    }
}

impl Default for ReceiverConstraints {
    /// Thumbnails (180 pixels) of every source: what an endpoint gets before it says anything.
    fn default() -> Self {
        Self {
            last_n: Limit::Unlimited,
            on_stage: Vec::new(),
            selected: Vec::new(),
            default: VideoConstraint { max_height: Limit::Max(180), max_frame_rate: Limit::Unlimited },
            per_source: Vec::new(),
            assumed_bandwidth: None,
            audio: AudioSubscription::default(),
        }
    }
}
