//! The elements of Jingle sessions.

use tokio_xmpp::minidom::Element;
use xso::{AsXml, FromXml};

use super::ns;
use crate::colibri::elements::{
    Candidate, Fingerprint, HeaderExtension, IceTransport, InitialLastN, PayloadType, WebSocket, ns as c2,
};

/// `<jingle/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::JINGLE, name = "jingle")]
pub struct Jingle {
    /// What is asked, e.g. `session-initiate`; empty when missing.
    #[xml(attribute(default))]
    pub action: String,
    /// Session id; empty when missing.
    #[xml(attribute(default))]
    pub sid: String,
    /// Who began the session.
    #[xml(attribute(default))]
    pub initiator: Option<String>,
    /// Who accepted it.
    #[xml(attribute(default))]
    pub responder: Option<String>,
    /// Media sections.
    #[xml(child(n = ..))]
    pub contents: Vec<Content>,
    /// Why a session ends.
    #[xml(child(default))]
    pub reason: Option<Reason>,
    /// BUNDLE.
    #[xml(child(default))]
    pub group: Option<Group>,
    /// Who starts muted.
    #[xml(child(default))]
    pub start_muted: Option<StartMuted>,
    /// The session on the bridge.
    #[xml(child(default))]
    pub bridge_session: Option<BridgeSession>,
    /// Sources in compact form.
    #[xml(child(default))]
    pub json_message: Option<JsonMessage>,
    /// State of ICE, in `session-info`.
    #[xml(child(default))]
    pub ice_state: Option<IceState>,
}

impl Jingle {
    /// An element with nothing but an action and a session.
    pub fn new(action: &str, sid: &str) -> Self {
        Self { action: action.to_owned(), sid: sid.to_owned(), ..Self::default() }
    }
}

/// `<content/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::JINGLE, name = "content")]
pub struct Content {
    /// `initiator` or `responder`.
    #[xml(attribute(default))]
    pub creator: Option<String>,
    /// `audio`, `video`, `data`, or a mid.
    #[xml(attribute(default))]
    pub name: Option<String>,
    /// `both`, mostly.
    #[xml(attribute(default))]
    pub senders: Option<String>,
    /// Formats and sources.
    #[xml(child(default))]
    pub description: Option<Description>,
    /// ICE and DTLS.
    #[xml(child(default))]
    pub transport: Option<Transport>,
}

/// The ICE `<transport/>` of a content: that of colibri2 and an SCTP association.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = c2::ICE_UDP, name = "transport")]
pub struct Transport {
    /// Username fragment.
    #[xml(attribute(default))]
    pub ufrag: Option<String>,
    /// Password.
    #[xml(attribute(default))]
    pub pwd: Option<String>,
    /// Number of the ICE restart.
    #[xml(attribute(name = "ice-generation", default))]
    pub ice_generation: Option<String>,
    /// RTCP shares the port.
    #[xml(flag(name = "rtcp-mux"))]
    pub rtcp_mux: bool,
    /// Certificate fingerprints.
    #[xml(child(n = ..))]
    pub fingerprints: Vec<Fingerprint>,
    /// Candidates.
    #[xml(child(n = ..))]
    pub candidates: Vec<Candidate>,
    /// Where the bridge channel can be opened.
    #[xml(child(n = ..))]
    pub web_sockets: Vec<WebSocket>,
    /// Of a `data` content.
    #[xml(child(default))]
    pub sctpmap: Option<SctpMap>,
}

impl From<IceTransport> for Transport {
    fn from(ice: IceTransport) -> Self {
        Self {
            ufrag: ice.ufrag,
            pwd: ice.pwd,
            ice_generation: ice.ice_generation.map(|generation| generation.to_string()),
            rtcp_mux: ice.rtcp_mux,
            fingerprints: ice.fingerprints,
            candidates: ice.candidates,
            web_sockets: ice.web_sockets,
            sctpmap: None,
        }
    }
}

impl From<Transport> for IceTransport {
    /// What a client says; URLs are for bridges to give, and are dropped.
    fn from(transport: Transport) -> Self {
        Self {
            ufrag: transport.ufrag,
            pwd: transport.pwd,
            ice_generation: transport.ice_generation.and_then(|generation| generation.parse().ok()),
            candidates: transport.candidates,
            rtcp_mux: transport.rtcp_mux,
            fingerprints: transport.fingerprints,
            web_sockets: Vec::new(),
        }
    }
}

/// `<sctpmap/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::SCTPMAP, name = "sctpmap")]
pub struct SctpMap {
    /// SCTP port.
    #[xml(attribute(default))]
    pub number: Option<String>,
    /// `webrtc-datachannel`.
    #[xml(attribute(default))]
    pub protocol: Option<String>,
    /// Number of streams.
    #[xml(attribute(default))]
    pub streams: Option<String>,
}

/// `<description/>` of an RTP session.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::RTP, name = "description")]
pub struct Description {
    /// `audio`, `video` or `application`.
    #[xml(attribute(default))]
    pub media: Option<String>,
    /// Longest packet in ms.
    #[xml(attribute(default))]
    pub maxptime: Option<String>,
    /// Formats.
    #[xml(child(n = ..))]
    pub payload_types: Vec<PayloadType>,
    /// Sources.
    #[xml(child(n = ..))]
    pub sources: Vec<JingleSource>,
    /// Groups of sources.
    #[xml(child(n = ..))]
    pub ssrc_groups: Vec<JingleGroup>,
    /// Header extensions.
    #[xml(child(n = ..))]
    pub header_extensions: Vec<HeaderExtension>,
    /// Two-byte header extensions may be mixed in.
    #[xml(flag(namespace = ns::HDREXT, name = "extmap-allow-mixed"))]
    pub extmap_allow_mixed: bool,
    /// RTCP shares the port.
    #[xml(flag(name = "rtcp-mux"))]
    pub rtcp_mux: bool,
    /// Video sources at first.
    #[xml(child(default))]
    pub initial_last_n: Option<InitialLastN>,
}

/// `<source/>` as clients exchange it: the SSRC may be missing (rid-based simulcast), the owner may be named.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = crate::colibri::elements::ns::SSMA, name = "source")]
pub struct JingleSource {
    /// SSRC, decimal.
    #[xml(attribute(default))]
    pub ssrc: Option<String>,
    /// Source name.
    #[xml(attribute(default))]
    pub name: Option<String>,
    /// `camera` or `desktop`.
    #[xml(attribute(name = "videoType", default))]
    pub video_type: Option<String>,
    /// msid and the like.
    #[xml(child(n = ..))]
    pub parameters: Vec<crate::colibri::elements::SourceParameter>,
    /// Whose it is.
    #[xml(child(default))]
    pub info: Option<SsrcInfo>,
}

/// `<ssrc-group/>` as clients exchange it.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = c2::SSMA, name = "ssrc-group")]
pub struct JingleGroup {
    /// `SIM` or `FID`.
    #[xml(attribute(default))]
    pub semantics: Option<String>,
    /// SSRCs in order.
    #[xml(child(n = ..))]
    pub sources: Vec<JingleSource>,
}

/// `<ssrc-info/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::JITMEET, name = "ssrc-info")]
pub struct SsrcInfo {
    /// Endpoint id.
    #[xml(attribute(default))]
    pub owner: String,
}

/// `<reason/>`: a condition and a text.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::JINGLE, name = "reason")]
pub struct Reason {
    /// The condition, as an element of its own, and perhaps a `text`.
    #[xml(element(n = ..))]
    pub children: Vec<Element>,
}

impl Reason {
    /// A condition with a text.
    pub fn new(condition: &str, text: &str) -> Self {
        let text = Element::builder("text", ns::JINGLE).append(text.to_owned()).build();
        Self { children: vec![Element::bare(condition, ns::JINGLE), text] }
    }
}

/// `<ice-state/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::FOCUS, name = "ice-state")]
pub struct IceState {
    /// Such as `failed`.
    #[xml(text)]
    pub state: String,
}

/// `<group/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::GROUPING, name = "group")]
pub struct Group {
    /// `BUNDLE`.
    #[xml(attribute(default))]
    pub semantics: String,
    /// Names of contents.
    #[xml(child(n = ..))]
    pub contents: Vec<GroupContent>,
}

/// A member of a group.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::GROUPING, name = "content")]
pub struct GroupContent {
    /// Its name.
    #[xml(attribute(default))]
    pub name: String,
}

/// `<startmuted/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::START_MUTED, name = "startmuted")]
pub struct StartMuted {
    /// The microphone.
    #[xml(attribute(default))]
    pub audio: bool,
    /// The camera.
    #[xml(attribute(default))]
    pub video: bool,
}

/// `<bridge-session/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::FOCUS, name = "bridge-session")]
pub struct BridgeSession {
    /// Our id of the session on the bridge.
    #[xml(attribute(default))]
    pub id: Option<String>,
    /// Region of the bridge.
    #[xml(attribute(default))]
    pub region: Option<String>,
    /// Whether the client wants a new session.
    #[xml(attribute(default))]
    pub restart: Option<String>,
    /// Whether the client wants ICE restarted in place.
    #[xml(attribute(name = "ice-restart", default))]
    pub ice_restart: Option<String>,
}

/// `<json-message/>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::JITMEET, name = "json-message")]
pub struct JsonMessage {
    /// The JSON text.
    #[xml(text)]
    pub text: String,
}
