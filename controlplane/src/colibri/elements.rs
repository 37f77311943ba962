//! The colibri2 elements (docs/protocol/bridge.md 3.1), used by the bridge and by the focus.
//!
//! Parsing is lenient: unknown attributes and children are ignored, booleans and enumerations are read without
//! regard to case. A missing or malformed mandatory attribute is an error, which the bridge answers `bad-request`.
//! Attributes that have their default value are not written.

use std::borrow::Cow;

use xso::error::Error;
use xso::{AsXml, AsXmlText, FromXml, FromXmlText};

mod jingle;
pub mod ns;
mod text;

pub use jingle::{
    Candidate, Fingerprint, HeaderExtension, IceTransport, Parameter, PayloadType, RtcpFeedback, Setup, Source,
    SourceParameter, SsrcGroup, WebSocket,
};
use text::{FalseOrAbsent, TrueOrAbsent, text_enum};

text_enum! {
    /// Type of a `media` or `media-source`.
    MediaType {
        /// Audio.
        Audio = "audio",
        /// Video.
        Video = "video",
    }
}

impl From<MediaType> for ringbridge_dataplane::media::MediaKind {
    fn from(value: MediaType) -> Self {
        match value {
            MediaType::Audio => Self::Audio,
            MediaType::Video => Self::Video,
        }
    }
}

text_enum! {
    /// Side of an SCTP association.
    SctpRole {
        /// Opens it.
        Client = "client",
        /// Waits.
        Server = "server",
    }
}

text_enum! {
    /// Why a colibri2 request was refused (section 3.5).
    Reason {
        /// A create for a meeting that exists.
        ConferenceAlreadyExists = "CONFERENCE_ALREADY_EXISTS",
        /// A request for a meeting that does not exist.
        ConferenceNotFound = "CONFERENCE_NOT_FOUND",
        /// The bridge takes no new conferences.
        GracefulShutdown = "GRACEFUL_SHUTDOWN",
        /// An update of an endpoint that does not exist.
        UnknownEndpoint = "UNKNOWN_ENDPOINT",
        /// A combination that the bridge does not serve.
        FeatureNotImplemented = "FEATURE_NOT_IMPLEMENTED",
        /// None of the others.
        Unspecified = "UNSPECIFIED",
    }
}

/// `<conference-modify>`: a request to a bridge.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "conference-modify")]
pub struct ConferenceModify {
    /// Opaque id of the meeting.
    #[xml(attribute(name = "meeting-id"))]
    pub meeting_id: String,
    /// The room's bare JID; only with `create`.
    #[xml(attribute(default))]
    pub name: Option<String>,
    /// Whether to create the conference.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub create: bool,
    /// Whether to end it.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub expire: bool,
    /// Whether `rtcstats-enabled` is false: statistics may not be collected by third parties.
    #[xml(attribute(name = "rtcstats-enabled", default, codec = FalseOrAbsent))]
    pub rtcstats_disabled: bool,
    /// Endpoints to create, change or expire.
    #[xml(child(n = ..))]
    pub endpoints: Vec<Endpoint>,
    /// Relays to create, change or expire.
    #[xml(child(n = ..))]
    pub relays: Vec<Relay>,
}

impl ConferenceModify {
    /// An update without content; set what it is to say.
    pub fn new(meeting_id: impl Into<String>) -> Self {
        Self {
            meeting_id: meeting_id.into(),
            name: None,
            create: false,
            expire: false,
            rtcstats_disabled: false,
            endpoints: Vec::new(),
            relays: Vec::new(),
        }
    }
}

/// `<conference-modified>`: the bridge's answer.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "conference-modified")]
pub struct ConferenceModified {
    /// One per endpoint of the request.
    #[xml(child(n = ..))]
    pub endpoints: Vec<Endpoint>,
    /// One per relay of the request.
    #[xml(child(n = ..))]
    pub relays: Vec<Relay>,
    /// The bridge's own feedback sources, when something was created.
    #[xml(child(default))]
    pub sources: Option<Sources>,
}

/// `<endpoint>`, in requests, in answers and in errors.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "endpoint")]
pub struct Endpoint {
    /// The MUC resource; opaque.
    #[xml(attribute)]
    pub id: String,
    /// Whether to create it.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub create: bool,
    /// Whether to end it.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub expire: bool,
    /// Name for statistics.
    #[xml(attribute(name = "stats-id", default))]
    pub stats_id: Option<String>,
    /// Role in the room; `visitor` is the only value that has an effect.
    #[xml(attribute(name = "muc-role", default))]
    pub muc_role: Option<String>,
    /// Formats and header extensions, one per media type.
    #[xml(child(n = ..))]
    pub media: Vec<Media>,
    /// ICE, DTLS, SCTP.
    #[xml(child(default))]
    pub transport: Option<Transport>,
    /// The complete set of sources, when present.
    #[xml(child(default))]
    pub sources: Option<Sources>,
    /// What is muted by force, when present.
    #[xml(child(default))]
    pub force_mute: Option<ForceMute>,
    /// Capabilities of the client.
    #[xml(child(n = ..))]
    pub capabilities: Vec<Capability>,
    /// Last-n to start with.
    #[xml(child(default))]
    pub initial_last_n: Option<InitialLastN>,
    /// Others' sources that the client does not know yet, when present.
    #[xml(child(default))]
    pub unsignalled: Option<Unsignalled>,
}

impl Endpoint {
    /// An endpoint without content.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Whether the client has the named capability.
    pub fn has_capability(&self, name: &str) -> bool {
        self.capabilities.iter().any(|c| c.name == name)
    }
}

/// `<untold>`, from our focus to our bridge: the complete list of others' sources that an endpoint's client does not know
/// yet, so that nothing of them goes to it.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::RINGBRIDGE, name = "untold")]
pub struct Unsignalled {
    /// Their names.
    #[xml(child(n = ..))]
    pub sources: Vec<UnsignalledSource>,
}

/// `<source>` of [`Unsignalled`].
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::RINGBRIDGE, name = "source")]
pub struct UnsignalledSource {
    /// The name of a `media-source`.
    #[xml(attribute)]
    pub name: String,
}

/// The endpoint reaches private addresses of the bridge.
pub const CAP_PRIVATE_ADDRESSES: &str = "private-address-connectivity";
/// Capability that every endpoint must have.
pub const CAP_SOURCE_NAMES: &str = "source-names";
/// Capability: the client understands source mappings.
pub const CAP_SSRC_REWRITING: &str = "ssrc-rewriting";
/// Capability: the client finds the media section of a packet by its `sdes:mid` extension; counts with [`CAP_SSRC_REWRITING`].
pub const CAP_RTP_MID_DEMUX: &str = "rtp-mid-demux";

/// `<capability>`.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "capability")]
pub struct Capability {
    /// Its name.
    #[xml(attribute)]
    pub name: String,
}

/// `<initial-last-n>`.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "initial-last-n")]
pub struct InitialLastN {
    /// Number of video sources; -1 is unlimited.
    #[xml(attribute)]
    pub value: i32,
}

/// `<force-mute>`: absolute state of both media.
#[derive(FromXml, AsXml, Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::COLIBRI2, name = "force-mute")]
pub struct ForceMute {
    /// Audio is dropped.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub audio: bool,
    /// Video is dropped.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub video: bool,
}

/// `<relay>`, in requests and in answers: the connection of one conference to another bridge (section 10).
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "relay")]
pub struct Relay {
    /// The other bridge's relay id.
    #[xml(attribute)]
    pub id: String,
    /// Whether to create it.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub create: bool,
    /// Whether to end it.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub expire: bool,
    /// Mesh that it belongs to.
    #[xml(attribute(name = "mesh-id", default))]
    pub mesh_id: Option<String>,
    /// Formats and header extensions under which media crosses it, one per media type.
    #[xml(child(n = ..))]
    pub media: Vec<Media>,
    /// ICE, DTLS, SCTP.
    #[xml(child(default))]
    pub transport: Option<Transport>,
    /// Sources of the relay itself, which nobody signals today.
    #[xml(child(default))]
    pub sources: Option<Sources>,
    /// Those behind it who come, change or leave.
    #[xml(child(default))]
    pub endpoints: Option<Endpoints>,
}

impl Relay {
    /// A relay without content.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Those behind it who come, change or leave.
    pub fn relayed(&self) -> &[Endpoint] {
        self.endpoints.as_ref().map_or(&[], |endpoints| &endpoints.endpoints)
    }
}

/// `<endpoints>`: participants of the other bridge, with sources and without transport.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "endpoints")]
pub struct Endpoints {
    /// Each one.
    #[xml(child(n = ..))]
    pub endpoints: Vec<Endpoint>,
}

/// `<media>`: what an endpoint negotiated for one media type.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::COLIBRI2, name = "media")]
pub struct Media {
    /// Audio or video.
    #[xml(attribute = "type")]
    pub media_type: MediaType,
    /// Formats.
    #[xml(child(n = ..))]
    pub payload_types: Vec<PayloadType>,
    /// Header extensions.
    #[xml(child(n = ..))]
    pub header_extensions: Vec<HeaderExtension>,
    /// Whether one- and two-byte header extensions may be mixed.
    #[xml(flag(namespace = ns::RTP_HDREXT, name = "extmap-allow-mixed"))]
    pub extmap_allow_mixed: bool,
}

/// The outer `<transport>` (colibri2).
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "transport")]
pub struct Transport {
    /// Whether the bridge is the controlling ICE agent.
    #[xml(attribute(name = "ice-controlling", default, codec = TrueOrAbsent))]
    pub ice_controlling: bool,
    /// Whether a port of its own is wanted.
    #[xml(attribute(name = "use-unique-port", default, codec = TrueOrAbsent))]
    pub use_unique_port: bool,
    /// Whether ICE is to be restarted.
    #[xml(attribute(name = "ice-restart", default, codec = TrueOrAbsent))]
    pub ice_restart: bool,
    /// ICE and DTLS.
    #[xml(child(default))]
    pub ice: Option<IceTransport>,
    /// The data channel's association.
    #[xml(child(default))]
    pub sctp: Option<Sctp>,
}

/// `<sctp>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "sctp")]
pub struct Sctp {
    /// Port, 5000.
    #[xml(attribute(default))]
    pub port: Option<u16>,
    /// The bridge's side.
    #[xml(attribute(default))]
    pub role: Option<SctpRole>,
}

/// `<sources>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "sources")]
pub struct Sources {
    /// The sources.
    #[xml(child(n = ..))]
    pub media_sources: Vec<MediaSource>,
}

/// `<media-source>`.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "media-source")]
pub struct MediaSource {
    /// Audio or video.
    #[xml(attribute = "type")]
    pub media_type: MediaType,
    /// Source name.
    #[xml(attribute)]
    pub id: String,
    /// Made up by a translator.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub synthetic: bool,
    /// Every SSRC, retransmissions included.
    #[xml(child(n = ..))]
    pub sources: Vec<Source>,
    /// SIM and FID groups.
    #[xml(child(n = ..))]
    pub ssrc_groups: Vec<SsrcGroup>,
}

/// `<error>` of colibri2 inside a stanza error.
///
/// On the wire the endpoint is a sibling of this element; the typed stanza error holds one extension only, so
/// [`crate::xmpp`] moves siblings into it on the way in and out of it on the way out.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::COLIBRI2, name = "error")]
pub struct ColibriError {
    /// Why; absent is [`Reason::Unspecified`].
    #[xml(attribute(default))]
    pub reason: Option<Reason>,
    /// The endpoint that is unknown.
    #[xml(child(default))]
    pub endpoint: Option<Endpoint>,
}
