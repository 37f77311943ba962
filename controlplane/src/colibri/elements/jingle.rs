//! Elements of Jingle that colibri2 carries: formats and header extensions (XEP-0167, XEP-0293, XEP-0294), transports (XEP-0176,
//! XEP-0320), sources (XEP-0339).

use std::borrow::Cow;

use xso::error::Error;
use xso::{AsXml, AsXmlText, FromXml, FromXmlText};

use super::ns;
use super::text::{Lenient, TrueOrAbsent, text_enum};

text_enum! {
    /// DTLS role in a fingerprint (RFC 4145).
    Setup {
        /// Sends the ClientHello.
        Active = "active",
        /// Waits for it.
        Passive = "passive",
        /// Leaves the choice to the answerer.
        ActPass = "actpass",
    }
}

/// `<payload-type>` (XEP-0167).
#[derive(FromXml, AsXml, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::RTP, name = "payload-type")]
pub struct PayloadType {
    /// Number on the wire.
    #[xml(attribute)]
    pub id: u8,
    /// Encoding name.
    #[xml(attribute(default))]
    pub name: Option<String>,
    /// Clock rate in Hz.
    #[xml(attribute(default, codec = Lenient))]
    pub clockrate: Option<u32>,
    /// Channels; 1 when absent.
    #[xml(attribute(default, codec = Lenient))]
    pub channels: Option<u8>,
    /// Packet time in milliseconds.
    #[xml(attribute(default, codec = Lenient))]
    pub ptime: Option<u32>,
    /// Longest packet time in milliseconds.
    #[xml(attribute(default, codec = Lenient))]
    pub maxptime: Option<u32>,
    /// Format parameters.
    #[xml(child(n = ..))]
    pub parameters: Vec<Parameter>,
    /// RTCP feedback.
    #[xml(child(n = ..))]
    pub feedback: Vec<RtcpFeedback>,
}

/// `<parameter>` of a payload type; RED's list has no name.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::RTP, name = "parameter")]
pub struct Parameter {
    /// Name of the parameter.
    #[xml(attribute(default))]
    pub name: Option<String>,
    /// Value of the parameter.
    #[xml(attribute(default))]
    pub value: Option<String>,
}

/// `<rtcp-fb>` (XEP-0293).
#[derive(FromXml, AsXml, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::RTCP_FB, name = "rtcp-fb")]
pub struct RtcpFeedback {
    /// Such as `nack`.
    #[xml(attribute = "type")]
    pub feedback_type: String,
    /// Such as `pli`.
    #[xml(attribute(default))]
    pub subtype: Option<String>,
}

/// `<rtp-hdrext>` (XEP-0294).
#[derive(FromXml, AsXml, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::RTP_HDREXT, name = "rtp-hdrext")]
pub struct HeaderExtension {
    /// Number on the wire.
    #[xml(attribute)]
    pub id: u8,
    /// What it means.
    #[xml(attribute)]
    pub uri: String,
    /// Direction.
    #[xml(attribute(default))]
    pub senders: Option<String>,
}

/// The Jingle `<transport>` (XEP-0176).
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::ICE_UDP, name = "transport")]
pub struct IceTransport {
    /// Username fragment.
    #[xml(attribute(default))]
    pub ufrag: Option<String>,
    /// Password.
    #[xml(attribute(default))]
    pub pwd: Option<String>,
    /// Number of the ICE restart that this belongs to.
    #[xml(attribute(name = "ice-generation", default, codec = Lenient))]
    pub ice_generation: Option<u32>,
    /// Candidates.
    #[xml(child(n = ..))]
    pub candidates: Vec<Candidate>,
    /// RTP and RTCP share one component.
    #[xml(flag(name = "rtcp-mux"))]
    pub rtcp_mux: bool,
    /// Certificate fingerprints.
    #[xml(child(n = ..))]
    pub fingerprints: Vec<Fingerprint>,
    /// Where the bridge channel can be opened.
    #[xml(child(n = ..))]
    pub web_sockets: Vec<WebSocket>,
}

/// `<candidate>` (XEP-0176).
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::ICE_UDP, name = "candidate")]
pub struct Candidate {
    /// Component, always 1.
    #[xml(attribute(default, codec = Lenient))]
    pub component: Option<u8>,
    /// Foundation.
    #[xml(attribute(default))]
    pub foundation: Option<String>,
    /// Generation, 0.
    #[xml(attribute(default, codec = Lenient))]
    pub generation: Option<u32>,
    /// Identity within the session.
    #[xml(attribute(default))]
    pub id: Option<String>,
    /// Address, or a host name (mDNS).
    #[xml(attribute)]
    pub ip: String,
    /// Network index, 0.
    #[xml(attribute(default, codec = Lenient))]
    pub network: Option<u32>,
    /// Port.
    #[xml(attribute)]
    pub port: u16,
    /// Priority (RFC 8445 section 5.1.2).
    #[xml(attribute(default, codec = Lenient))]
    pub priority: Option<u32>,
    /// `udp` in lower case; anything else is unreachable.
    #[xml(attribute(default))]
    pub protocol: Option<String>,
    /// `host`, `srflx`, `prflx` or `relay`.
    #[xml(attribute(name = "type", default))]
    pub candidate_type: Option<String>,
    /// Address of the base.
    #[xml(attribute(name = "rel-addr", default))]
    pub rel_addr: Option<String>,
    /// Port of the base.
    #[xml(attribute(name = "rel-port", default, codec = Lenient))]
    pub rel_port: Option<u16>,
    /// Kind of TCP candidate.
    #[xml(attribute(default))]
    pub tcptype: Option<String>,
}

/// `<fingerprint>` (XEP-0320).
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::DTLS, name = "fingerprint")]
pub struct Fingerprint {
    /// Hash function, e.g. `sha-256`.
    #[xml(attribute)]
    pub hash: String,
    /// DTLS role.
    #[xml(attribute(default))]
    pub setup: Option<Setup>,
    /// Upper-case hex with colons.
    #[xml(text)]
    pub value: String,
}

/// `<web-socket>`.
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[xml(namespace = ns::COLIBRI, name = "web-socket")]
pub struct WebSocket {
    /// URL that the other side opens.
    #[xml(attribute(default))]
    pub url: Option<String>,
    /// On a relay: the side that says so opens the other's URL.
    #[xml(attribute(default, codec = TrueOrAbsent))]
    pub active: bool,
}

impl WebSocket {
    /// An address that the other side opens.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), active: false }
    }

    /// The address; empty where there is none.
    pub fn address(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }
}

/// `<source>` (XEP-0339 with Jitsi's attributes).
#[derive(FromXml, AsXml, Debug, Clone, Default, PartialEq)]
#[xml(namespace = ns::SSMA, name = "source")]
pub struct Source {
    /// SSRC.
    #[xml(attribute)]
    pub ssrc: u32,
    /// Source name.
    #[xml(attribute(default))]
    pub name: Option<String>,
    /// `camera`, `desktop`, ...
    #[xml(attribute(name = "videoType", default))]
    pub video_type: Option<String>,
    /// RTP stream id.
    #[xml(attribute(default))]
    pub rid: Option<String>,
    /// Parameters such as `cname` and `msid`.
    #[xml(child(n = ..))]
    pub parameters: Vec<SourceParameter>,
}

/// `<parameter>` of a source.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::SSMA, name = "parameter")]
pub struct SourceParameter {
    /// Name of the attribute.
    #[xml(attribute)]
    pub name: String,
    /// Value of the parameter.
    #[xml(attribute(default))]
    pub value: Option<String>,
}

/// `<ssrc-group>`.
#[derive(FromXml, AsXml, Debug, Clone, PartialEq)]
#[xml(namespace = ns::SSMA, name = "ssrc-group")]
pub struct SsrcGroup {
    /// `SIM`, `FID`, `FEC-FR`.
    #[xml(attribute)]
    pub semantics: String,
    /// SSRCs in order.
    #[xml(child(n = ..))]
    pub sources: Vec<Source>,
}
