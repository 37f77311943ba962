//! What the focus offers: formats, header extensions, and the session-initiate made of them and of the bridge's transport
//! (docs/protocol/focus.md 5.2 and 5.3).

use std::collections::BTreeMap;

use crate::colibri::elements::{HeaderExtension, IceTransport, Media, MediaType, Parameter, PayloadType, RtcpFeedback};
use crate::focus::features::Features;
use crate::jingle::{
    BridgeSession, Content, Description, Group, GroupContent, Jingle, SctpMap, SourceSet, StartMuted, Transport,
    json_sources, xml_sources,
};

/// A video format of the offer, with Jicofo's numbers.
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

/// The media of an answer where it differs from the offer in any number: what the bridge must learn to translate. The number
/// beside it says how many formats and extensions of the answer were left out, since nobody offered them.
///
/// An answer chooses among what was offered and may number it anew (RFC 3264 section 6.1); everything else of a format stays as
/// offered. Formats that the answer left out stay unknown to the bridge for this endpoint, so it is not sent them.
pub fn answered_media(contents: &[Content], offered: &[Media]) -> (Option<Vec<Media>>, u64) {
    let mut answered: Vec<Media> = Vec::new();
    let mut left_out = 0;
    for content in contents {
        let Some(description) = &content.description else { continue };
        let kind = description.media.as_deref().or(content.name.as_deref()).and_then(MediaType::parse);
        let Some(media_type) = kind.filter(|_| !description.payload_types.is_empty()) else { continue };
        // Contents of one type say the same: the first counts.
        let known = answered.iter().any(|media| media.media_type == media_type);
        let Some(offer) = offered.iter().find(|media| media.media_type == media_type).filter(|_| !known) else {
            left_out += description.payload_types.len() + description.header_extensions.len();
            continue;
        };
        let payload_types = answered_formats(&description.payload_types, &offer.payload_types);
        let header_extensions = answered_extensions(&description.header_extensions, &offer.header_extensions);
        left_out += description.payload_types.len() - payload_types.len();
        left_out += description.header_extensions.len() - header_extensions.len();
        let extmap_allow_mixed = description.extmap_allow_mixed && offer.extmap_allow_mixed;
        answered.push(Media { media_type, payload_types, header_extensions, extmap_allow_mixed });
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
    let news = (!answered.is_empty() && ours != theirs).then_some(answered);
    (news, left_out as u64)
}

/// Whether an answer is one of Firefox, which alone limits the size of VP8's and VP9's frames (`max-fs`, RFC 7741 6.1).
pub fn is_of_firefox(contents: &[Content]) -> bool {
    let descriptions = contents.iter().filter_map(|content| content.description.as_ref());
    let mut parameters =
        descriptions.flat_map(|description| &description.payload_types).flat_map(|format| &format.parameters);
    parameters.any(|parameter| parameter.name.as_deref() == Some("max-fs"))
}

/// The offered formats that an answer takes, in its order and under its numbers; each once.
fn answered_formats(answer: &[PayloadType], offer: &[PayloadType]) -> Vec<PayloadType> {
    let name = |format: &PayloadType| format.name.as_deref().unwrap_or_default().to_ascii_lowercase();
    let apt = |format: &PayloadType| {
        let apt = format.parameters.iter().find(|parameter| parameter.name.as_deref() == Some("apt"))?;
        apt.value.as_deref()?.trim().parse::<u8>().ok()
    };
    // Number of the answer, number of the offer.
    let mut taken: Vec<(u8, u8)> = Vec::new();
    // With RTP and RTCP on one port these numbers are RTCP's (RFC 5761 section 4).
    let usable = |id: u8| id < 64 || (96..128).contains(&id);
    for format in answer.iter().filter(|format| usable(format.id) && name(format) != "rtx") {
        let free = |known: &&PayloadType| !taken.iter().any(|(_, offered)| *offered == known.id);
        let same = |known: &&PayloadType| {
            name(known) == name(format)
                && (format.clockrate.is_none() || format.clockrate == known.clockrate)
                && format.channels.unwrap_or(1) == known.channels.unwrap_or(1)
        };
        if let Some(known) = offer.iter().filter(free).find(same)
            && !taken.iter().any(|(id, _)| *id == format.id)
        {
            taken.push((format.id, known.id));
        }
    }
    for format in answer.iter().filter(|format| usable(format.id) && name(format) == "rtx") {
        let base = apt(format).and_then(|apt| taken.iter().find(|(id, _)| *id == apt)).map(|(_, offered)| *offered);
        let Some(base) = base else { continue };
        let known = offer.iter().find(|known| name(known) == "rtx" && apt(known) == Some(base));
        if let Some(known) = known
            && !taken.iter().any(|(id, offered)| *id == format.id || *offered == known.id)
        {
            taken.push((format.id, known.id));
        }
    }
    let number = |offered: u8| taken.iter().find(|(_, known)| *known == offered).map(|(id, _)| *id);
    let mut formats = Vec::new();
    for answer in answer {
        let Some(at) = taken.iter().find(|(id, _)| *id == answer.id) else { continue };
        let Some(known) = offer.iter().find(|known| known.id == at.1) else { continue };
        if name(known) != name(answer) || formats.iter().any(|format: &PayloadType| format.id == answer.id) {
            continue;
        }
        let mut format = PayloadType { id: answer.id, ..known.clone() };
        // Some clients repeat no feedback in their answer; what was offered under that name still holds.
        if !answer.feedback.is_empty() {
            format.feedback.retain(|feedback| answer.feedback.contains(feedback));
        }
        for parameter in format.parameters.iter_mut().filter(|parameter| parameter.name.as_deref() == Some("apt")) {
            let base = apt(known).and_then(number);
            parameter.value = base.map(|base| base.to_string());
        }
        formats.push(format);
    }
    formats
}

/// The offered header extensions that an answer takes, under its numbers; each once.
fn answered_extensions(answer: &[HeaderExtension], offer: &[HeaderExtension]) -> Vec<HeaderExtension> {
    let mut extensions: Vec<HeaderExtension> = Vec::new();
    for extension in answer.iter().filter(|extension| extension.id != 0) {
        let offered = offer.iter().any(|known| known.uri == extension.uri);
        let twice = extensions.iter().any(|known| known.uri == extension.uri || known.id == extension.id);
        if offered && !twice {
            extensions.push(self::extension(extension.id, &extension.uri));
        }
    }
    extensions
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
        assert_eq!(answered_media(&contents, &offered), (None, 0));
        let video = contents[1].description.as_mut().expect("video");
        video.payload_types[1].id = 96;
        video.payload_types[5].id = 98;
        video.payload_types[5].parameters[0].value = Some("96".to_owned());
        let (answered, left_out) = answered_media(&contents, &offered);
        // 96 was the number of VP8's retransmissions: it means VP8 now, whose retransmissions are 98.
        let formats = &answered.expect("renumbered")[1].payload_types;
        assert_eq!((formats[1].id, formats[1].name.as_deref()), (96, Some("VP8")));
        let rtx = formats.iter().find(|format| format.id == 98).expect("rtx");
        assert_eq!(rtx.parameters[0].value.as_deref(), Some("96"));
        assert_eq!((formats.len(), left_out), (8, 0));
        assert_eq!(answered_media(&[], &offered), (None, 0));
    }

    fn answer(media: &str, payload_types: Vec<PayloadType>, header_extensions: Vec<HeaderExtension>) -> Content {
        let description =
            Description { media: Some(media.to_owned()), payload_types, header_extensions, ..Description::default() };
        Content { description: Some(description), ..Content::default() }
    }

    #[test]
    fn what_nobody_offered_is_left_out_of_an_answer() {
        let offered = media(BROWSER);
        let made_up = |n: usize| payload_type((n % 128) as u8, &format!("codec{n}"), 90_000, &[("x", "y")], vec![]);
        let uris = |n: usize| extension((n % 255) as u8 + 1, &format!("urn:made:up:{n}"));
        let mut formats: Vec<_> = (0..1_100).map(made_up).collect();
        formats.push(payload_type(100, "vp8", 90_000, &[("max-fr", "made up")], vec![feedback("made", "up")]));
        let mut extensions: Vec<_> = (0..256).map(uris).collect();
        extensions.push(extension(10, "urn:ietf:params:rtp-hdrext:sdes:mid"));
        let (answered, left_out) = answered_media(&[answer("video", formats, extensions)], &offered);
        let answered = answered.expect("differs");
        assert_eq!(left_out, 1_100 + 256);
        assert_eq!(answered.len(), 1);
        let format = &answered[0].payload_types[0];
        assert_eq!((answered[0].payload_types.len(), format.id, format.name.as_deref()), (1, 100, Some("VP8")));
        assert!(format.parameters.is_empty() && format.feedback.is_empty(), "as offered, or less: {format:?}");
        assert_eq!(answered[0].header_extensions.len(), 1);
    }

    #[test]
    fn parameters_clocks_and_numbers_make_no_new_formats() {
        let offered = media(BROWSER);
        let fmtp = |id, profile: &str| payload_type(id, "H264", 90_000, &[("profile-level-id", profile)], vec![]);
        let formats = vec![
            fmtp(107, "640c1f"),
            // Offered once, answered once.
            fmtp(108, "4d001f"),
            payload_type(109, "VP8", 8_000, &[], vec![]),
            payload_type(110, "opus", 48_000, &[], vec![]),
            // RTCP's numbers, numbers beyond 7 bits, a number that is taken.
            payload_type(72, "VP9", 90_000, &[], vec![]),
            payload_type(200, "VP9", 90_000, &[], vec![]),
            payload_type(107, "VP9", 90_000, &[], vec![]),
            payload_type(112, "rtx", 90_000, &[("apt", "107")], vec![]),
            // Of a format that is not there, of itself, twice.
            payload_type(113, "rtx", 90_000, &[("apt", "99")], vec![]),
            payload_type(114, "rtx", 90_000, &[("apt", "114")], vec![]),
            payload_type(115, "rtx", 90_000, &[("apt", "107")], vec![]),
        ];
        let (answered, left_out) = answered_media(&[answer("video", formats, vec![])], &offered);
        let answered = answered.expect("differs");
        let ids: Vec<u8> = answered[0].payload_types.iter().map(|format| format.id).collect();
        assert_eq!((ids, left_out), (vec![107, 112], 9));
        let h264 = &answered[0].payload_types[0];
        assert_eq!(h264.parameters[0].value.as_deref(), Some(H264.1), "the bridge gets what was offered");
        assert_eq!(answered[0].payload_types[1].parameters[0].value.as_deref(), Some("107"));
    }

    #[test]
    fn media_that_was_not_offered_and_repeated_contents_do_not_count() {
        let offered = media(Features { video: false, ..BROWSER });
        let opus = || PayloadType { channels: Some(2), ..payload_type(96, "opus", 48_000, &[], vec![]) };
        let vp8 = payload_type(100, "VP8", 90_000, &[], vec![]);
        let contents = [
            answer("audio", vec![opus()], vec![]),
            answer("audio", vec![PayloadType { id: 97, ..opus() }], vec![]),
            answer("video", vec![vp8], vec![]),
        ];
        let (answered, left_out) = answered_media(&contents, &offered);
        let answered = answered.expect("renumbered");
        assert_eq!((answered.len(), answered[0].payload_types[0].id, left_out), (1, 96, 2));
    }
}
