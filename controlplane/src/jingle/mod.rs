//! The Jingle elements between focus and client (docs/protocol/focus.md 5), on top of those that colibri2 shares.
//!
//! Parsing is lenient: unknown attributes and children are ignored.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio_xmpp::minidom::Element;
use xso::{AsXml, FromXml};

use crate::colibri::elements::{
    Candidate, Fingerprint, HeaderExtension, IceTransport, InitialLastN, MediaType, PayloadType, WebSocket, ns as c2,
};

/// Namespaces.
pub mod ns {
    /// Jingle (XEP-0166).
    pub const JINGLE: &str = "urn:xmpp:jingle:1";
    /// RTP sessions (XEP-0167).
    pub const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
    /// Header extensions (XEP-0294).
    pub const HDREXT: &str = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0";
    /// Grouping (XEP-0338).
    pub const GROUPING: &str = "urn:xmpp:jingle:apps:grouping:0";
    /// Jitsi Meet.
    pub const JITMEET: &str = "http://jitsi.org/jitmeet";
    /// The focus.
    pub const FOCUS: &str = "http://jitsi.org/protocol/focus";
    /// SCTP over DTLS (XEP-0343).
    pub const SCTPMAP: &str = "urn:xmpp:jingle:transports:dtls-sctp:1";
    /// Muted at start.
    pub const START_MUTED: &str = "http://jitsi.org/jitmeet/start-muted";
}

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

/// One source that somebody publishes, whichever way it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedSource {
    /// SSRC.
    pub ssrc: u32,
    /// Source name.
    pub name: Option<String>,
    /// msid.
    pub msid: Option<String>,
    /// `camera` or `desktop`.
    pub video_type: Option<String>,
    /// Whether it is video.
    pub video: bool,
}

/// A group of SSRCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedGroup {
    /// `SIM` or `FID`.
    pub semantics: String,
    /// Members in order.
    pub ssrcs: Vec<u32>,
    /// Whether it is video.
    pub video: bool,
}

/// Sources and groups of one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSet {
    /// Sources.
    pub sources: Vec<OwnedSource>,
    /// Groups.
    pub groups: Vec<OwnedGroup>,
}

impl SourceSet {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.groups.is_empty()
    }

    /// What the contents of a client's IQ say. Left out: sources without an SSRC (rid-based), other media than audio and
    /// video, empty and repeated groups, and groups of unknown semantics. Beyond `most` sources or groups it ends early: one
    /// more than that is in the set, for who checks it.
    pub fn from_contents(contents: &[Content], most: usize) -> Result<Self, InvalidSsrc> {
        let mut set = Self::default();
        for content in contents {
            let Some(description) = &content.description else { continue };
            let kind = description.media.as_deref().or(content.name.as_deref());
            let Some(media) = kind.and_then(MediaType::parse) else { continue };
            let video = media == MediaType::Video;
            for source in &description.sources {
                let Some(ssrc) = &source.ssrc else { continue };
                if set.sources.len() > most {
                    return Ok(set);
                }
                let msid = source.parameters.iter().find(|parameter| parameter.name == "msid");
                set.sources.push(OwnedSource {
                    ssrc: parse_ssrc(ssrc)?,
                    name: source.name.clone().filter(|name| !name.is_empty()),
                    msid: msid.and_then(|parameter| parameter.value.clone()).filter(|msid| !msid.is_empty()),
                    video_type: source.video_type.clone(),
                    video,
                });
            }
            for group in &description.ssrc_groups {
                let semantics = group.semantics.as_deref().unwrap_or_default().to_ascii_uppercase();
                if semantics != "SIM" && semantics != "FID" {
                    continue;
                }
                if set.groups.len() > most {
                    return Ok(set);
                }
                let ssrcs = group.sources.iter().filter_map(|source| source.ssrc.as_deref()).map(parse_ssrc);
                let group = OwnedGroup { semantics, ssrcs: ssrcs.collect::<Result<_, _>>()?, video };
                if !group.ssrcs.is_empty() && !set.groups.contains(&group) {
                    set.groups.push(group);
                }
            }
        }
        Ok(set)
    }
}

/// An `ssrc` attribute that is no SSRC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no SSRC: a number from 1 to 4294967295 is needed")]
pub struct InvalidSsrc(pub String);

fn parse_ssrc(text: &str) -> Result<u32, InvalidSsrc> {
    text.trim().parse().ok().filter(|ssrc| *ssrc > 0).ok_or_else(|| InvalidSsrc(text.to_owned()))
}

/// The compact JSON of docs/protocol/focus.md 5.4: owner → [video sources, video groups, audio sources, audio groups].
pub fn json_sources(owners: &BTreeMap<String, SourceSet>) -> JsonMessage {
    let source = |source: &OwnedSource| {
        let mut object = json!({ "s": source.ssrc });
        let optional = [("n", &source.name), ("m", &source.msid)];
        for (key, value) in optional.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            object[key] = json!(value);
        }
        if source.video_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("desktop")) {
            object["v"] = json!("d");
        }
        object
    };
    let group = |group: &OwnedGroup| {
        let mut list = vec![json!(if group.semantics.eq_ignore_ascii_case("SIM") { "s" } else { "f" })];
        list.extend(group.ssrcs.iter().map(|ssrc| json!(ssrc)));
        Value::Array(list)
    };
    let owners = owners.iter().map(|(owner, set)| {
        let sources = |video| Value::Array(set.sources.iter().filter(|s| s.video == video).map(source).collect());
        let groups = |video| Value::Array(set.groups.iter().filter(|g| g.video == video).map(group).collect());
        let mut lists = vec![sources(true), groups(true), sources(false), groups(false)];
        while lists.last().is_some_and(|list| list.as_array().is_some_and(Vec::is_empty)) {
            lists.pop();
        }
        (owner.clone(), Value::Array(lists))
    });
    JsonMessage { text: json!({ "sources": owners.collect::<serde_json::Map<_, _>>() }).to_string() }
}

/// Appends the same sources as XML, for clients without the compact form, to the contents `audio` and `video`, which are
/// made where missing.
pub fn xml_sources(owners: &BTreeMap<String, SourceSet>, contents: &mut Vec<Content>) {
    for video in [false, true] {
        let name = if video { "video" } else { "audio" };
        let mut sources = Vec::new();
        let mut groups = Vec::new();
        for (owner, set) in owners {
            sources.extend(set.sources.iter().filter(|source| source.video == video).map(|source| {
                JingleSource {
                    ssrc: Some(source.ssrc.to_string()),
                    name: source.name.clone(),
                    video_type: source.video_type.clone(),
                    parameters: source
                        .msid
                        .iter()
                        .map(|msid| crate::colibri::elements::SourceParameter {
                            name: "msid".to_owned(),
                            value: Some(msid.clone()),
                        })
                        .collect(),
                    info: Some(SsrcInfo { owner: owner.clone() }),
                }
            }));
            groups.extend(set.groups.iter().filter(|group| group.video == video).map(|group| {
                JingleGroup {
                    semantics: Some(group.semantics.clone()),
                    sources: group
                        .ssrcs
                        .iter()
                        .map(|ssrc| JingleSource { ssrc: Some(ssrc.to_string()), ..JingleSource::default() })
                        .collect(),
                }
            }));
        }
        if sources.is_empty() && groups.is_empty() {
            continue;
        }
        let position = contents.iter().position(|content| content.name.as_deref() == Some(name));
        let position = position.unwrap_or_else(|| {
            contents.push(Content {
                creator: Some("initiator".to_owned()),
                name: Some(name.to_owned()),
                senders: Some("both".to_owned()),
                description: None,
                transport: None,
            });
            contents.len() - 1
        });
        let description = contents[position]
            .description
            .get_or_insert_with(|| Description { media: Some(name.to_owned()), ..Description::default() });
        description.sources.extend(sources);
        description.ssrc_groups.extend(groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set() -> BTreeMap<String, SourceSet> {
        let source = |ssrc, video: bool| OwnedSource {
            ssrc,
            name: Some(if video { "ab-v0" } else { "ab-a0" }.to_owned()),
            msid: Some("m t".to_owned()),
            video_type: video.then(|| "desktop".to_owned()),
            video,
        };
        let groups = vec![OwnedGroup { semantics: "FID".into(), ssrcs: vec![1, 2], video: true }];
        BTreeMap::from([(
            "ab".to_owned(),
            SourceSet { sources: vec![source(1, true), source(2, true), source(3, false)], groups },
        )])
    }

    #[test]
    fn compact_sources_are_those_of_the_reference() {
        let text = json_sources(&set()).text;
        let expected: Value = serde_json::from_str(
            r#"{"sources":{"ab":[[{"s":1,"n":"ab-v0","m":"m t","v":"d"},{"s":2,"n":"ab-v0","m":"m t","v":"d"}],
               [["f",1,2]],[{"s":3,"n":"ab-a0","m":"m t"}]]}}"#,
        )
        .expect("json");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("json"), expected);
    }

    #[test]
    fn xml_sources_read_back_the_same() {
        let mut contents = Vec::new();
        xml_sources(&set(), &mut contents);
        let jingle = Jingle { contents, ..Jingle::new("source-add", "s1") };
        let element: Element = jingle.clone().into();
        let again = Jingle::try_from(element).expect("parses");
        assert_eq!(again, jingle);
        let read = SourceSet::from_contents(&again.contents, 20).expect("valid");
        let mut expected = set().remove("ab").expect("there");
        expected.sources.sort_by_key(|source| (source.video, source.ssrc));
        assert_eq!(read, expected);
    }

    #[test]
    fn every_recorded_jingle_parses() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
        let Ok(scenarios) = std::fs::read_dir(&folder) else {
            println!("skipped: {} is not here", folder.display());
            return;
        };
        let mut parsed = 0;
        for scenario in scenarios.flatten() {
            let Ok(text) = std::fs::read_to_string(scenario.path().join("xmpp.xml")) else { continue };
            for line in text.lines() {
                let Some(start) = line.find("<jingle ") else { continue };
                let Some(end) = line.rfind("</jingle>") else { continue };
                let element: Element = line[start..end + 9].parse().unwrap_or_else(|error| panic!("{error}: {line}"));
                let jingle = Jingle::try_from(element).unwrap_or_else(|error| panic!("{error}: {line}"));
                parsed += usize::from(!jingle.action.is_empty());
            }
        }
        assert!(parsed > 20, "only {parsed} recorded Jingle elements");
    }

    proptest! {
        #[test]
        fn arbitrary_attributes_never_panic(ssrc in "\\PC{0,12}|[0-9]{1,11}", media in "[a-z]{1,8}|audio|video", semantics in "[A-Z]{0,4}") {
            let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
            let xml = format!(
                "<jingle xmlns='{}' action='source-add' sid='1'><content name='x'><description xmlns='{}' media='{media}'>\
                 <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{}'/>\
                 <ssrc-group xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' semantics='{semantics}'/></description></content></jingle>",
                ns::JINGLE, ns::RTP, escape(&ssrc)
            );
            if let Ok(element) = xml.parse::<Element>()
                && let Ok(jingle) = Jingle::try_from(element) {
                    let read = SourceSet::from_contents(&jingle.contents, 20);
                    let valid = ssrc.trim().parse::<u32>().is_ok_and(|ssrc| ssrc > 0);
                    let known = media == "audio" || media == "video";
                    prop_assert_eq!(read.is_err(), known && !valid);
                    prop_assert_eq!(read.unwrap_or_default().sources.len(), usize::from(known && valid));
                }
        }
    }
}
