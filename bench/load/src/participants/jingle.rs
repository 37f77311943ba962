//! The little of Jingle that a scripted participant needs: read the focus's offer, write the answer.
//!
//! It is written from Jicofo's protocol (docs/protocol/focus.md 5) by itself, not with the control plane's types, so that it
//! checks them.

use std::collections::BTreeMap;

use minidom::Element;

use super::codec::VideoCodec;

/// Namespaces of the Jingle elements.
pub mod ns {
    /// RFC-like name of the Jingle core.
    pub const JINGLE: &str = "urn:xmpp:jingle:1";
    /// RTP sessions.
    pub const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
    /// Header extensions.
    pub const HDREXT: &str = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0";
    /// Source-specific media attributes.
    pub const SSMA: &str = "urn:xmpp:jingle:apps:rtp:ssma:0";
    /// ICE-UDP transport.
    pub const ICE: &str = "urn:xmpp:jingle:transports:ice-udp:1";
    /// DTLS fingerprints.
    pub const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
    /// SCTP over DTLS.
    pub const SCTP: &str = "urn:xmpp:jingle:transports:dtls-sctp:1";
    /// Bridge channel over WebSocket.
    pub const COLIBRI: &str = "http://jitsi.org/protocol/colibri";
    /// Jitsi Meet extensions.
    pub const JITMEET: &str = "http://jitsi.org/jitmeet";
}

/// A source that somebody else publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSource {
    /// Endpoint id of the owner.
    pub owner: String,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx: Option<u32>,
    /// Whether it is video.
    pub video: bool,
}

/// A video format of the offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFormat {
    /// Its codec.
    pub codec: VideoCodec,
    /// Its payload type.
    pub id: u8,
    /// Payload type of its retransmissions.
    pub rtx: Option<u8>,
    /// Its parameters as they were offered, by name.
    pub parameters: Vec<Element>,
}

/// What the offer says, reduced to what a scripted participant uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Session id.
    pub sid: String,
    /// Payload type of Opus.
    pub opus: u8,
    /// The video format that is taken of those offered.
    pub video: VideoFormat,
    /// Header extensions by URI, of either media.
    pub extensions: BTreeMap<String, u8>,
    /// Remote ufrag and password.
    pub ice: (String, String),
    /// Remote fingerprint: hash function and value.
    pub fingerprint: (String, String),
    /// Remote UDP candidates as (ip, port).
    pub candidates: Vec<(String, u16)>,
    /// URL of the bridge channel.
    pub web_socket: Option<String>,
    /// Whether the bridge channel may be a data channel.
    pub data: bool,
    /// Sources of the others.
    pub sources: Vec<RemoteSource>,
}

/// Something that an offer must have is missing.
#[derive(Debug, thiserror::Error)]
#[error("the focus's session-initiate has no {0}: look at the bridge's answer to the allocation")]
pub struct OfferError(&'static str);

fn content<'a>(jingle: &'a Element, name: &str) -> Option<&'a Element> {
    jingle.children().find(|child| child.is("content", ns::JINGLE) && child.attr("name") == Some(name))
}

fn payload_types<'a>(description: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    let named = move |child: &&Element| child.attr("name").is_some_and(|n| n.eq_ignore_ascii_case(name));
    description.children().filter(|child| child.is("payload-type", ns::RTP)).filter(named)
}

fn number<T: std::str::FromStr>(element: &Element, name: &str) -> Option<T> {
    element.attr(name)?.parse().ok()
}

impl Offer {
    /// Reads a `session-initiate`, of whose video formats the first one of `codec` is taken.
    pub fn parse(jingle: &Element, codec: VideoCodec) -> Result<Self, OfferError> {
        let audio = content(jingle, "audio").ok_or(OfferError("audio content"))?;
        let video = content(jingle, "video").ok_or(OfferError("video content"))?;
        let audio_description = audio.get_child("description", ns::RTP).ok_or(OfferError("audio description"))?;
        let video_description = video.get_child("description", ns::RTP).ok_or(OfferError("video description"))?;
        let transport = audio.get_child("transport", ns::ICE).ok_or(OfferError("transport"))?;
        let fingerprint = transport.get_child("fingerprint", ns::DTLS).ok_or(OfferError("fingerprint"))?;
        let opus = payload_types(audio_description, "opus").next().ok_or(OfferError("opus"))?;
        let opus = number(opus, "id").ok_or(OfferError("opus id"))?;
        let taken = payload_types(video_description, codec.name()).next().ok_or(OfferError(codec.name()))?;
        let id = number(taken, "id").ok_or(OfferError(codec.name()))?;
        let repairs = |rtx: &&Element| {
            rtx.children().any(|p| p.attr("name") == Some("apt") && number::<u8>(p, "value") == Some(id))
        };
        let rtx = payload_types(video_description, "rtx").find(repairs).and_then(|rtx| number(rtx, "id"));
        let parameters = taken.children().filter(|child| child.is("parameter", ns::RTP)).cloned().collect();
        let video_format = VideoFormat { codec, id, rtx, parameters };
        let extensions = [audio_description, video_description]
            .into_iter()
            .flat_map(|description| description.children())
            .filter(|child| child.is("rtp-hdrext", ns::HDREXT))
            .filter_map(|child| Some((child.attr("uri")?.to_owned(), number(child, "id")?)))
            .collect();
        Ok(Self {
            sid: jingle.attr("sid").ok_or(OfferError("sid"))?.to_owned(),
            opus,
            video: video_format,
            extensions,
            ice: (
                transport.attr("ufrag").ok_or(OfferError("ufrag"))?.to_owned(),
                transport.attr("pwd").ok_or(OfferError("pwd"))?.to_owned(),
            ),
            fingerprint: (fingerprint.attr("hash").unwrap_or("sha-256").to_owned(), fingerprint.text()),
            candidates: transport
                .children()
                .filter(|child| child.is("candidate", ns::ICE) && child.attr("protocol") == Some("udp"))
                .filter_map(|child| Some((child.attr("ip")?.to_owned(), number(child, "port")?)))
                .collect(),
            web_socket: transport
                .get_child("web-socket", ns::COLIBRI)
                .and_then(|child| child.attr("url"))
                .map(str::to_owned),
            data: content(jingle, "data")
                .and_then(|data| data.get_child("transport", ns::ICE))
                .is_some_and(|transport| transport.has_child("sctpmap", ns::SCTP)),
            sources: sources(jingle),
        })
    }

    /// The `session-accept` that answers this offer.
    ///
    /// Everything that goes into it is ours or was read as a number or an id, so it is well-formed XML.
    pub fn accept(&self, answer: &Answer<'_>) -> Result<Element, minidom::Error> {
        let endpoint = answer.endpoint;
        let source = |ssrc: u32, kind: &str, extra: &str| {
            format!(
                "<source xmlns='{}' ssrc='{ssrc}' name='{endpoint}-{}0'{extra}><parameter name='msid' \
                 value='{endpoint}-{kind}-0-1 {endpoint}-{kind}-track-1'/></source>",
                ns::SSMA,
                &kind[..1]
            )
        };
        let extension = |uri: &str| match self.extensions.get(uri) {
            Some(id) => format!("<rtp-hdrext xmlns='{}' id='{id}' uri='{uri}'/>", ns::HDREXT),
            None => String::new(),
        };
        let retransmission = match self.video.rtx {
            Some(rtx) => format!(
                "<payload-type id='{rtx}' name='rtx' clockrate='90000'><parameter name='apt' value='{}'/></payload-type>\
                 {}<ssrc-group xmlns='{}' semantics='FID'><source ssrc='{}'/><source ssrc='{}'/></ssrc-group>",
                self.video.id,
                source(answer.video_rtx, "video", " videoType='camera'"),
                ns::SSMA,
                answer.video,
                answer.video_rtx
            ),
            None => String::new(),
        };
        let content = |(name, media): (&str, &str), description: &str, channel: &str| {
            format!(
                "<content creator='responder' name='{name}' senders='both'>\
                 <description xmlns='{}' media='{media}'>{description}</description>\
                 <transport xmlns='{}' ufrag='{}' pwd='{}'>\
                 <fingerprint xmlns='{}' hash='sha-256' setup='active'>{}</fingerprint>{channel}</transport></content>",
                ns::RTP,
                ns::ICE,
                answer.ice.0,
                answer.ice.1,
                ns::DTLS,
                answer.fingerprint
            )
        };
        let audio = format!(
            "<payload-type id='{}' name='opus' clockrate='48000' channels='2'/>{}{}<rtcp-mux/>",
            self.opus,
            extension(super::AUDIO_LEVEL),
            source(answer.audio, "audio", "")
        );
        let parameters: String = self.video.parameters.iter().map(String::from).collect();
        let video = format!(
            "<payload-type id='{}' name='{}' clockrate='90000'>{parameters}</payload-type>{}{}{retransmission}<rtcp-mux/>",
            self.video.id,
            self.video.codec.name(),
            extension(super::TRANSPORT_CC),
            source(answer.video, "video", " videoType='camera'")
        );
        let channel =
            format!("<sctpmap xmlns='{}' number='5000' protocol='webrtc-datachannel' streams='1024'/>", ns::SCTP);
        let data = if self.data { content(("data", "application"), "", &channel) } else { String::new() };
        format!(
            "<jingle xmlns='{}' action='session-accept' initiator='{}' responder='{}' sid='{}'>{}{}{data}</jingle>",
            ns::JINGLE,
            answer.focus,
            answer.jid,
            self.sid,
            content(("audio", "audio"), &audio, ""),
            content(("video", "video"), &video, "")
        )
        .parse()
    }
}

/// This side of the session.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Our endpoint id.
    pub endpoint: &'a str,
    /// Our full JID.
    pub jid: &'a str,
    /// The focus's occupant JID.
    pub focus: &'a str,
    /// Our ufrag and password.
    pub ice: (String, String),
    /// Our SHA-256 fingerprint, upper-case hex with colons.
    pub fingerprint: String,
    /// SSRC of our audio.
    pub audio: u32,
    /// SSRC of our video.
    pub video: u32,
    /// SSRC of our video's retransmissions.
    pub video_rtx: u32,
}

/// Sources of a session-initiate, source-add or source-remove: compact JSON or XML; the bridge's own are left out.
pub fn sources(jingle: &Element) -> Vec<RemoteSource> {
    let mut found = Vec::new();
    if let Some(json) = jingle.get_child("json-message", ns::JITMEET) {
        let value: serde_json::Value = serde_json::from_str(&json.text()).unwrap_or_default();
        for (owner, lists) in value["sources"].as_object().into_iter().flatten() {
            for (list, groups, video) in [(0, 1, true), (2, 3, false)] {
                collect(owner, ssrcs_of_json(&lists[list]), fid_of_json(&lists[groups]), video, &mut found);
            }
        }
    }
    for content in jingle.children().filter(|child| child.is("content", ns::JINGLE)) {
        let Some(description) = content.get_child("description", ns::RTP) else { continue };
        let video = description.attr("media").or(content.attr("name")) == Some("video");
        let mut by_owner: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for source in description.children().filter(|child| child.is("source", ns::SSMA)) {
            let owner = source.get_child("ssrc-info", ns::JITMEET).and_then(|info| info.attr("owner"));
            if let (Some(owner), Some(ssrc)) = (owner, number(source, "ssrc")) {
                let owner = owner.rsplit('/').next().unwrap_or(owner);
                by_owner.entry(owner.to_owned()).or_default().push(ssrc);
            }
        }
        let groups: Vec<(u32, u32)> = description
            .children()
            .filter(|child| child.is("ssrc-group", ns::SSMA) && child.attr("semantics") == Some("FID"))
            .filter_map(|group| {
                let mut members = group.children().filter_map(|source| number(source, "ssrc"));
                Some((members.next()?, members.next()?))
            })
            .collect();
        for (owner, ssrcs) in by_owner {
            collect(&owner, ssrcs, groups.clone(), video, &mut found);
        }
    }
    found
}

fn ssrcs_of_json(list: &serde_json::Value) -> Vec<u32> {
    list.as_array().into_iter().flatten().filter_map(|source| source["s"].as_u64()?.try_into().ok()).collect()
}

fn fid_of_json(list: &serde_json::Value) -> Vec<(u32, u32)> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter(|group| group[0] == "f")
        .filter_map(|group| Some((group[1].as_u64()?.try_into().ok()?, group[2].as_u64()?.try_into().ok()?)))
        .collect()
}

fn collect(owner: &str, ssrcs: Vec<u32>, fid: Vec<(u32, u32)>, video: bool, found: &mut Vec<RemoteSource>) {
    if owner == "jvb" {
        return;
    }
    let retransmission = |ssrc: u32| fid.iter().any(|(_, rtx)| *rtx == ssrc);
    for ssrc in ssrcs.into_iter().filter(|ssrc| !retransmission(*ssrc)) {
        let rtx = fid.iter().find(|(media, _)| *media == ssrc).map(|(_, rtx)| *rtx);
        found.push(RemoteSource { owner: owner.to_owned(), ssrc, rtx, video });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_in_json_and_in_xml_are_read_alike() {
        let json: Element = format!(
            "<jingle xmlns='{}' action='source-add' sid='s'><json-message xmlns='{}'>{}</json-message></jingle>",
            ns::JINGLE,
            ns::JITMEET,
            r#"{"sources":{"jvb":[[{"s":9}],[]],"ab":[[{"s":1,"n":"ab-v0"},{"s":2}],[["f",1,2]],[{"s":3}]]}}"#
        )
        .parse()
        .expect("well-formed");
        let xml: Element = format!(
            "<jingle xmlns='{j}' action='source-add' sid='s'>\
             <content name='video'><description xmlns='{r}' media='video'>\
             <source xmlns='{s}' ssrc='1'><ssrc-info xmlns='{m}' owner='ab'/></source>\
             <source xmlns='{s}' ssrc='2'><ssrc-info xmlns='{m}' owner='ab'/></source>\
             <ssrc-group xmlns='{s}' semantics='FID'><source ssrc='1'/><source ssrc='2'/></ssrc-group>\
             </description></content>\
             <content name='audio'><description xmlns='{r}' media='audio'>\
             <source xmlns='{s}' ssrc='3'><ssrc-info xmlns='{m}' owner='room@muc/ab'/></source>\
             </description></content></jingle>",
            j = ns::JINGLE,
            r = ns::RTP,
            s = ns::SSMA,
            m = ns::JITMEET
        )
        .parse()
        .expect("well-formed");
        let expected = vec![
            RemoteSource { owner: "ab".into(), ssrc: 1, rtx: Some(2), video: true },
            RemoteSource { owner: "ab".into(), ssrc: 3, rtx: None, video: false },
        ];
        assert_eq!(sources(&json), expected);
        assert_eq!(sources(&xml), expected);
    }

    fn accepted(offer: &Offer) -> Element {
        let answer = Answer {
            endpoint: "ab12",
            jid: "x@meet.test/y",
            focus: "r@muc/focus",
            ice: ("lu".into(), "lp+/".into()),
            fingerprint: "CD:EF".into(),
            audio: 5,
            video: 6,
            video_rtx: 7,
        };
        offer.accept(&answer).expect("well-formed")
    }

    #[test]
    fn the_answer_carries_our_sources() {
        let offer = Offer {
            sid: "s1".into(),
            opus: 111,
            video: VideoFormat { codec: VideoCodec::Vp8, id: 100, rtx: Some(96), parameters: vec![] },
            extensions: BTreeMap::from([(super::super::AUDIO_LEVEL.to_owned(), 1)]),
            ice: ("u".into(), "p".into()),
            fingerprint: ("sha-256".into(), "AB".into()),
            candidates: vec![],
            web_socket: None,
            data: true,
            sources: vec![],
        };
        let answer = accepted(&offer);
        let video = content(&answer, "video").and_then(|c| c.get_child("description", ns::RTP)).expect("video");
        let ssrcs: Vec<_> =
            video.children().filter(|c| c.is("source", ns::SSMA)).filter_map(|c| c.attr("ssrc")).collect();
        assert_eq!(ssrcs, ["6", "7"]);
        assert_eq!(video.children().find(|c| c.is("source", ns::SSMA)).and_then(|c| c.attr("name")), Some("ab12-v0"));
        assert!(video.get_child("ssrc-group", ns::SSMA).is_some());
        let data = content(&answer, "data").and_then(|c| c.get_child("transport", ns::ICE)).expect("data");
        assert_eq!(data.get_child("sctpmap", ns::SCTP).and_then(|map| map.attr("number")), Some("5000"));
    }

    #[test]
    fn the_answer_takes_the_codec_that_was_asked_for_with_its_parameters() {
        let offered: Element = format!(
            "<jingle xmlns='{j}' sid='s'><content name='audio'><description xmlns='{r}'>\
             <payload-type id='111' name='opus'/></description><transport xmlns='{i}' ufrag='u' pwd='p'>\
             <fingerprint xmlns='{d}' hash='sha-256'>AB</fingerprint></transport></content>\
             <content name='video'><description xmlns='{r}'><payload-type id='100' name='VP8'/>\
             <payload-type id='107' name='H264'><parameter name='profile-level-id' value='42e01f;packetization-mode=1;'/>\
             <rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='nack'/></payload-type>\
             <payload-type id='96' name='rtx'><parameter name='apt' value='100'/></payload-type>\
             <payload-type id='99' name='rtx'><parameter name='apt' value='107'/></payload-type>\
             </description></content></jingle>",
            j = ns::JINGLE,
            r = ns::RTP,
            i = ns::ICE,
            d = ns::DTLS
        )
        .parse()
        .expect("well-formed");
        let offer = Offer::parse(&offered, VideoCodec::H264).expect("complete");
        assert_eq!((offer.opus, offer.video.id, offer.video.rtx), (111, 107, Some(99)));
        let answer = accepted(&offer);
        let video = content(&answer, "video").and_then(|c| c.get_child("description", ns::RTP)).expect("video");
        let names: Vec<_> =
            video.children().filter(|c| c.name() == "payload-type").filter_map(|c| c.attr("name")).collect();
        assert_eq!(names, ["H264", "rtx"]);
        let format = payload_types(video, "H264").next().expect("it is there");
        let parameters: Vec<_> = format.children().filter_map(|c| c.attr("value")).collect();
        assert_eq!(parameters, ["42e01f;packetization-mode=1;"], "the feedback is the focus's affair");
        assert!(Offer::parse(&offered, VideoCodec::Av1).is_err());
    }

    #[test]
    fn an_offer_without_transport_is_refused() {
        let jingle: Element =
            format!("<jingle xmlns='{}' sid='s'><content name='audio'/><content name='video'/></jingle>", ns::JINGLE)
                .parse()
                .expect("well-formed");
        assert!(Offer::parse(&jingle, VideoCodec::Vp8).is_err());
    }
}
