//! What the focus offers: formats, header extensions, and the session-initiate made of them and of the bridge's transport
//! (focus-protocol 5.2 and 5.3).

use std::collections::BTreeMap;

use crate::colibri::elements::{HeaderExtension, IceTransport, Media, MediaType, Parameter, PayloadType, RtcpFeedback};
use crate::jingle::{
    BridgeSession, Content, Description, Group, GroupContent, Jingle, SctpMap, SourceSet, StartMuted, Transport,
    json_sources, xml_sources,
};

/// What a client can do, from its disco features (focus-protocol 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Audio at all.
    pub audio: bool,
    /// Video at all.
    pub video: bool,
    /// Retransmissions.
    pub rtx: bool,
    /// Transport-wide congestion control.
    pub tcc: bool,
    /// REMB.
    pub remb: bool,
    /// Sources in compact JSON.
    pub json_sources: bool,
    /// Data channels over SCTP.
    pub sctp: bool,
    /// Expects a bridge that maps sources to a few SSRCs.
    pub ssrc_rewriting: bool,
}

impl Features {
    /// What is assumed of a client that does not say.
    pub const UNKNOWN: Self = Self {
        audio: true,
        video: true,
        rtx: false,
        tcc: false,
        remb: false,
        json_sources: false,
        sctp: false,
        ssrc_rewriting: false,
    };

    /// Reads disco features.
    pub fn from_vars<'a>(vars: impl Iterator<Item = &'a str>) -> Self {
        let mut features = Self { audio: false, video: false, ..Self::UNKNOWN };
        for var in vars {
            match var {
                "urn:xmpp:jingle:apps:rtp:audio" => features.audio = true,
                "urn:xmpp:jingle:apps:rtp:video" => features.video = true,
                "urn:ietf:rfc:4588" => features.rtx = true,
                "http://jitsi.org/tcc" => features.tcc = true,
                "http://jitsi.org/remb" => features.remb = true,
                "urn:xmpp:jingle:transports:dtls-sctp:1" => features.sctp = true,
                "http://jitsi.org/ssrc-rewriting-1" => features.ssrc_rewriting = true,
                "http://jitsi.org/json-encoded-sources" => features.json_sources = true,
                _ => {}
            }
        }
        features
    }
}

/// A video format of the offer, with the numbers of the reference.
struct VideoFormat {
    id: u8,
    name: &'static str,
    rtx: u8,
    /// Whether its rtx format repeats the feedback.
    rtx_feedback: bool,
    parameter: Option<(&'static str, &'static str)>,
}

const H264: (&str, &str) = ("profile-level-id", "42e01f;level-asymmetry-allowed=1;packetization-mode=1;");

const VIDEO: [VideoFormat; 4] = [
    VideoFormat { id: 41, name: "AV1", rtx: 42, rtx_feedback: true, parameter: None },
    VideoFormat { id: 100, name: "VP8", rtx: 96, rtx_feedback: true, parameter: None },
    VideoFormat { id: 107, name: "H264", rtx: 99, rtx_feedback: false, parameter: Some(H264) },
    VideoFormat { id: 101, name: "VP9", rtx: 97, rtx_feedback: true, parameter: None },
];

/// Order of the rtx formats behind the others.
const RTX_ORDER: [u8; 4] = [42, 96, 97, 99];

const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

fn feedback(kind: &str, subtype: &str) -> RtcpFeedback {
    RtcpFeedback { feedback_type: kind.to_owned(), subtype: (!subtype.is_empty()).then(|| subtype.to_owned()) }
}

fn payload_type(id: u8, name: &str, clockrate: u32, parameters: &[(&str, &str)], fb: Vec<RtcpFeedback>) -> PayloadType {
    let parameter =
        |(name, value): &(&str, &str)| Parameter { name: Some((*name).to_owned()), value: Some((*value).to_owned()) };
    PayloadType {
        id,
        name: Some(name.to_owned()),
        clockrate: Some(clockrate),
        channels: None,
        ptime: None,
        maxptime: None,
        parameters: parameters.iter().map(parameter).collect(),
        feedback: fb,
    }
}

fn extension(id: u8, uri: &str) -> HeaderExtension {
    HeaderExtension { id, uri: uri.to_owned(), senders: None }
}

/// The media that is offered to a client, as colibri2 describes it.
pub fn media(features: Features) -> Vec<Media> {
    let mut media = Vec::new();
    let tcc = || features.tcc.then(|| feedback("transport-cc", ""));
    let tcc_extension = || features.tcc.then(|| extension(5, TRANSPORT_CC));
    if features.audio {
        let opus = PayloadType {
            channels: Some(2),
            ..payload_type(
                111,
                "opus",
                48_000,
                &[("minptime", "10"), ("useinbandfec", "1")],
                tcc().into_iter().collect(),
            )
        };
        let mut header_extensions = vec![
            extension(1, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
            extension(10, "urn:ietf:params:rtp-hdrext:sdes:mid"),
        ];
        header_extensions.extend(tcc_extension());
        media.push(Media {
            media_type: MediaType::Audio,
            payload_types: vec![opus, payload_type(126, "telephone-event", 8_000, &[], vec![])],
            header_extensions,
            extmap_allow_mixed: true,
        });
    }
    if features.video {
        let base = || vec![feedback("ccm", "fir"), feedback("nack", ""), feedback("nack", "pli")];
        let mut payload_types: Vec<PayloadType> = VIDEO
            .iter()
            .map(|format| {
                let mut fb = base();
                if features.remb && !features.tcc {
                    fb.push(feedback("goog-remb", ""));
                }
                fb.extend(tcc());
                payload_type(format.id, format.name, 90_000, format.parameter.as_slice(), fb)
            })
            .collect();
        if features.rtx {
            for rtx in RTX_ORDER {
                if let Some(format) = VIDEO.iter().find(|format| format.rtx == rtx) {
                    let fb = if format.rtx_feedback { base() } else { vec![] };
                    payload_types.push(payload_type(rtx, "rtx", 90_000, &[("apt", &format.id.to_string())], fb));
                }
            }
        }
        let mut header_extensions = vec![
            extension(11, "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"),
            extension(10, "urn:ietf:params:rtp-hdrext:sdes:mid"),
            extension(3, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
        ];
        header_extensions.extend(tcc_extension());
        media.push(Media { media_type: MediaType::Video, payload_types, header_extensions, extmap_allow_mixed: true });
    }
    media
}

/// Everything that a session-initiate is made of.
pub struct Offer<'a> {
    /// Session id.
    pub sid: &'a str,
    /// The focus's own JID.
    pub initiator: &'a str,
    /// What is offered.
    pub media: &'a [Media],
    /// The bridge's side.
    pub transport: &'a IceTransport,
    /// Our id of the session on the bridge.
    pub bridge_session: &'a str,
    /// Region of the bridge.
    pub region: Option<&'a str>,
    /// Sources of everybody else, and the bridge's own.
    pub sources: &'a BTreeMap<String, SourceSet>,
    /// Whether the client reads compact JSON.
    pub json: bool,
    /// Who starts muted: audio, video.
    pub start_muted: (bool, bool),
    /// Port of the bridge's SCTP association, where data channels are offered.
    pub sctp_port: Option<u16>,
}

impl Offer<'_> {
    /// The session-initiate.
    pub fn to_jingle(&self) -> Jingle {
        let mut contents: Vec<Content> = self.media.iter().map(|media| self.content(media)).collect();
        if let Some(port) = self.sctp_port {
            contents.push(self.data_content(port));
        }
        let names = contents.iter().filter_map(|content| content.name.clone()).map(|name| GroupContent { name });
        let group = Group { semantics: "BUNDLE".to_owned(), contents: names.collect() };
        let json_message = self.json.then(|| json_sources(self.sources));
        if !self.json {
            xml_sources(self.sources, &mut contents);
        }
        let (audio, video) = self.start_muted;
        Jingle {
            initiator: Some(self.initiator.to_owned()),
            contents,
            group: Some(group),
            start_muted: (audio || video).then_some(StartMuted { audio, video }),
            bridge_session: Some(BridgeSession {
                id: Some(self.bridge_session.to_owned()),
                region: self.region.map(str::to_owned),
                ..BridgeSession::default()
            }),
            json_message,
            ..Jingle::new("session-initiate", self.sid)
        }
    }

    fn content(&self, media: &Media) -> Content {
        Content {
            creator: Some("initiator".to_owned()),
            name: Some(media.media_type.as_str().to_owned()),
            senders: Some("both".to_owned()),
            description: Some(Description {
                media: Some(media.media_type.as_str().to_owned()),
                maxptime: (media.media_type == MediaType::Audio).then(|| "60".to_owned()),
                payload_types: media.payload_types.clone(),
                header_extensions: media.header_extensions.clone(),
                extmap_allow_mixed: media.extmap_allow_mixed,
                rtcp_mux: true,
                ..Description::default()
            }),
            transport: Some(self.transport.clone().into()),
        }
    }

    fn data_content(&self, port: u16) -> Content {
        let sctpmap = SctpMap {
            number: Some(port.to_string()),
            protocol: Some("webrtc-datachannel".to_owned()),
            streams: Some("1024".to_owned()),
        };
        Content {
            creator: Some("initiator".to_owned()),
            name: Some("data".to_owned()),
            senders: Some("both".to_owned()),
            description: Some(Description { media: Some("application".to_owned()), ..Description::default() }),
            transport: Some(Transport { sctpmap: Some(sctpmap), ..self.transport.clone().into() }),
        }
    }
}

/// The media of an answer where it differs from the offer in any number: what the bridge must learn to translate.
/// Formats that the answer left out stay unknown to the bridge for this endpoint, so it is not sent them.
pub fn answered_media(contents: &[Content], offered: &[Media]) -> Option<Vec<Media>> {
    let mut answered = Vec::new();
    for content in contents {
        let Some(description) = &content.description else { continue };
        let kind = description.media.as_deref().or(content.name.as_deref()).and_then(MediaType::parse);
        let Some(media_type) = kind.filter(|_| !description.payload_types.is_empty()) else { continue };
        let offer = offered.iter().find(|media| media.media_type == media_type);
        let mut payload_types = description.payload_types.clone();
        for answer in payload_types.iter_mut().filter(|answer| answer.feedback.is_empty()) {
            // Some clients repeat no feedback in their answer; what was offered under that name still holds.
            let same = |format: &&PayloadType| format.name == answer.name && format.name.as_deref() != Some("rtx");
            if let Some(format) = offer.and_then(|media| media.payload_types.iter().find(same)) {
                answer.feedback = format.feedback.clone();
            }
        }
        answered.push(Media {
            media_type,
            payload_types,
            header_extensions: description.header_extensions.clone(),
            extmap_allow_mixed: description.extmap_allow_mixed,
        });
    }
    let numbers = |media: &[Media]| {
        let mut numbers: Vec<(u8, String)> = media
            .iter()
            .flat_map(|media| {
                let formats = media.payload_types.iter().map(|format| {
                    let apt = format.parameters.iter().find(|parameter| parameter.name.as_deref() == Some("apt"));
                    let apt = apt.and_then(|parameter| parameter.value.clone()).unwrap_or_default();
                    (format.id, format!("{}{apt}", format.name.as_deref().unwrap_or_default().to_ascii_lowercase()))
                });
                let extensions = media.header_extensions.iter().map(|extension| (extension.id, extension.uri.clone()));
                formats.chain(extensions).collect::<Vec<_>>()
            })
            .collect();
        numbers.sort();
        numbers.dedup();
        numbers
    };
    let (ours, theirs) = (numbers(offered), numbers(&answered));
    (!answered.is_empty() && ours != theirs).then_some(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: Features = Features { rtx: true, tcc: true, remb: true, json_sources: true, ..Features::UNKNOWN };

    #[test]
    fn the_offer_has_the_reference_numbers() {
        let media = media(BROWSER);
        let ids: Vec<u8> = media[1].payload_types.iter().map(|format| format.id).collect();
        assert_eq!(ids, [41, 100, 107, 101, 42, 96, 97, 99]);
        let ids: Vec<u8> = media[0].payload_types.iter().map(|format| format.id).collect();
        assert_eq!(ids, [111, 126]);
        let no_remb = media[1].payload_types.iter().flat_map(|f| &f.feedback).all(|f| f.feedback_type != "goog-remb");
        assert!(no_remb, "REMB only without TCC");
        assert_eq!(super::media(Features { video: false, ..BROWSER }).len(), 1);
    }

    #[test]
    fn only_a_renumbered_answer_is_news_to_the_bridge() {
        let offered = media(BROWSER);
        let transport = IceTransport::default();
        let sources = BTreeMap::new();
        let offer = Offer {
            sid: "s",
            initiator: "focus",
            media: &offered,
            transport: &transport,
            bridge_session: "b",
            region: None,
            sources: &sources,
            json: true,
            start_muted: (false, false),
            sctp_port: None,
        };
        let mut contents = offer.to_jingle().contents;
        assert_eq!(answered_media(&contents, &offered), None);
        let video = contents[1].description.as_mut().expect("video");
        video.payload_types[1].id = 96;
        video.payload_types[5].id = 98;
        video.payload_types[5].parameters[0].value = Some("96".to_owned());
        let answered = answered_media(&contents, &offered).expect("renumbered");
        assert_eq!(answered[1].payload_types[1].id, 96);
        assert_eq!(answered_media(&[], &offered), None);
    }
}
