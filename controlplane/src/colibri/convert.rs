//! From colibri2 elements to the data plane's values (sections 3.1 and 3.4).

use ringbridge_dataplane::ids::{PayloadType, Ssrc};
use std::net::IpAddr;

use ringbridge_dataplane::ice::{IceCredentials, RemoteCandidate};
use ringbridge_dataplane::media::{self, Encoding, MediaKind, SourceDescription, VideoType};

use super::elements::{IceTransport, Media, MediaSource, SsrcGroup};

/// Merges negotiated media into what is known: each `<media>` replaces the formats and extensions of its type;
/// the first one of each type is kept as the offer.
pub fn merge_media(known: &mut media::Media, news: &[Media]) {
    for element in news {
        let kind = MediaKind::from(element.media_type);
        let formats: Vec<_> = element.payload_types.iter().filter_map(|p| codec(p, kind)).collect();
        if !known.offered_codecs.iter().any(|p| p.kind == kind) {
            known.offered_codecs.extend(formats.iter().cloned());
        }
        known.codecs.retain(|p| p.kind != kind);
        known.codecs.extend(formats);
        known.header_extensions.retain(|e| e.kind != kind);
        known.header_extensions.extend(
            element.header_extensions.iter().filter(|e| e.id != 0).map(|e| media::HeaderExtension {
                id: e.id,
                kind,
                uri: e.uri.clone(),
            }),
        );
        known.extmap_allow_mixed = element.extmap_allow_mixed;
    }
}

/// `None` for a codec that cannot be on the wire: no name, or a payload type above 127.
fn codec(element: &super::elements::PayloadType, kind: MediaKind) -> Option<media::CodecParameters> {
    let default_rate = match kind {
        MediaKind::Audio => 48_000,
        MediaKind::Video => 90_000,
    };
    Some(media::CodecParameters {
        payload_type: PayloadType::new(element.id)?,
        kind,
        name: element.name.clone()?,
        clock_rate: element.clockrate.unwrap_or(default_rate),
        channels: element.channels.unwrap_or(1),
        parameters: element
            .parameters
            .iter()
            .map(|p| (p.name.clone().unwrap_or_default(), p.value.clone().unwrap_or_default()))
            .collect(),
        feedback: element
            .feedback
            .iter()
            .map(|f| (f.feedback_type.clone(), f.subtype.clone().unwrap_or_default()))
            .collect(),
    })
}

/// The source that a `<media-source>` describes; `None` when it names no SSRC.
pub fn source(element: &MediaSource) -> Option<SourceDescription> {
    let group = |semantics: &'static str| {
        let is = move |g: &&SsrcGroup| g.semantics.eq_ignore_ascii_case(semantics);
        element.ssrc_groups.iter().filter(is)
    };
    let primaries: Vec<u32> = group("SIM")
        .next()
        .filter(|g| !g.sources.is_empty())
        .or_else(|| group("FID").next())
        .map(|g| {
            let take = if g.semantics.eq_ignore_ascii_case("SIM") { usize::MAX } else { 1 };
            g.sources.iter().take(take).map(|s| s.ssrc).collect()
        })
        .filter(|ssrcs: &Vec<u32>| !ssrcs.is_empty())
        .unwrap_or_else(|| element.sources.first().map(|s| s.ssrc).into_iter().collect());
    if primaries.is_empty() {
        return None;
    }
    let rtx = |ssrc: u32| {
        group("FID").find_map(|g| match g.sources.as_slice() {
            [primary, rtx, ..] if primary.ssrc == ssrc => Some(rtx.ssrc),
            _ => None,
        })
    };
    let video_type = element.sources.iter().find_map(|s| s.video_type.as_deref()).map_or(VideoType::Camera, video_type);
    Some(SourceDescription {
        name: element.id.clone(),
        kind: element.media_type.into(),
        video_type,
        encodings: primaries
            .into_iter()
            .map(|ssrc| Encoding { ssrc: Ssrc::new(ssrc), rtx: rtx(ssrc).map(Ssrc::new) })
            .collect(),
    })
}

/// A `videoType` without regard to case; anything unknown is a camera.
pub fn video_type(text: &str) -> VideoType {
    match text.to_ascii_lowercase().as_str() {
        "desktop" => VideoType::Desktop,
        "desktop_high_fps" => VideoType::DesktopHighFps,
        "none" => VideoType::None,
        "disabled" => VideoType::Disabled,
        _ => VideoType::Camera,
    }
}

/// A `videoType` as the bridge writes it; [`video_type`] reads it back.
pub fn video_type_name(video_type: VideoType) -> &'static str {
    match video_type {
        VideoType::Camera => "CAMERA",
        VideoType::Desktop => "DESKTOP",
        VideoType::DesktopHighFps => "DESKTOP_HIGH_FPS",
        VideoType::None => "NONE",
        VideoType::Disabled => "DISABLED",
    }
}

/// Credentials, when complete.
pub fn credentials(ice: &IceTransport) -> Option<IceCredentials> {
    match (&ice.ufrag, &ice.pwd) {
        (Some(ufrag), Some(pwd)) if !ufrag.is_empty() && !pwd.is_empty() => {
            Some(IceCredentials { ufrag: ufrag.clone(), pwd: pwd.clone() })
        }
        _ => None,
    }
}

/// The UDP candidates with a literal address; TCP and mDNS names are unreachable for us. Browsers number the generations of
/// candidates in their own way: after a restart the credentials say where they belong, before it only the first generation does.
pub fn candidates(ice: &IceTransport, restarted: bool) -> Vec<RemoteCandidate> {
    ice.candidates
        .iter()
        .filter(|c| c.protocol.as_deref().is_none_or(|p| p.eq_ignore_ascii_case("udp")))
        .filter(|c| c.component.unwrap_or(1) == 1 && (restarted || c.generation.unwrap_or(0) == 0) && c.port != 0)
        .filter_map(|c| {
            let ip: IpAddr = c.ip.parse().ok()?;
            Some(RemoteCandidate {
                addr: (ip, c.port).into(),
                priority: c.priority.unwrap_or(0),
                relayed: c.candidate_type.as_deref().is_some_and(|t| t.eq_ignore_ascii_case("relay")),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colibri::elements::{Candidate, MediaType};
    use tokio_xmpp::minidom::Element;

    fn media_source(inner: &str) -> MediaSource {
        let xml = format!("<media-source xmlns='jitsi:colibri2' type='VIDEO' id='ab-v0'>{inner}</media-source>");
        MediaSource::try_from(xml.parse::<Element>().unwrap()).unwrap()
    }

    const SSMA: &str = "xmlns='urn:xmpp:jingle:apps:rtp:ssma:0'";

    #[test]
    fn simulcast_source() {
        let source = source(&media_source(&format!(
            "<source {SSMA} ssrc='1' videoType='DESKTOP'/><source {SSMA} ssrc='2'/>\
             <ssrc-group {SSMA} semantics='FID'><source ssrc='1'/><source ssrc='11'/></ssrc-group>\
             <ssrc-group {SSMA} semantics='SIM'><source ssrc='1'/><source ssrc='2'/><source ssrc='3'/></ssrc-group>\
             <ssrc-group {SSMA} semantics='FID'><source ssrc='3'/><source ssrc='13'/></ssrc-group>"
        )))
        .unwrap();
        assert_eq!(source.kind, MediaKind::Video);
        assert_eq!(source.video_type, VideoType::Desktop);
        let expected = [(1, Some(11)), (2, None), (3, Some(13))];
        assert_eq!(
            source.encodings,
            expected.map(|(ssrc, rtx)| Encoding { ssrc: Ssrc::new(ssrc), rtx: rtx.map(Ssrc::new) })
        );
    }

    #[test]
    fn single_and_empty_sources() {
        let fid = source(&media_source(&format!(
            "<source {SSMA} ssrc='5'/><ssrc-group {SSMA} semantics='FID'><source ssrc='6'/><source ssrc='7'/></ssrc-group>"
        )));
        assert_eq!(fid.unwrap().encodings, [Encoding { ssrc: Ssrc::new(6), rtx: Some(Ssrc::new(7)) }]);
        let lone = source(&media_source(&format!("<source {SSMA} ssrc='5' videoType='hologram'/>"))).unwrap();
        assert_eq!(lone.encodings, [Encoding { ssrc: Ssrc::new(5), rtx: None }]);
        assert_eq!(lone.video_type, VideoType::Camera);
        assert_eq!(source(&media_source("")), None);
    }

    #[test]
    fn unreachable_candidates_are_left_out() {
        let candidate = |ip: &str, protocol: &str, kind: &str| Candidate {
            ip: ip.to_owned(),
            port: 9,
            priority: Some(7),
            protocol: Some(protocol.to_owned()),
            candidate_type: Some(kind.to_owned()),
            ..Candidate::default()
        };
        let ice = IceTransport {
            candidates: vec![
                candidate("192.0.2.1", "UDP", "relay"),
                candidate("192.0.2.2", "tcp", "host"),
                candidate("abc.local", "udp", "host"),
            ],
            ..IceTransport::default()
        };
        let found = candidates(&ice, false);
        assert_eq!(found, [RemoteCandidate { addr: "192.0.2.1:9".parse().unwrap(), priority: 7, relayed: true }]);
    }

    #[test]
    fn media_of_one_type_replaces_only_that_type() {
        let format = |id| super::super::elements::PayloadType {
            id,
            name: Some("x".to_owned()),
            clockrate: None,
            channels: None,
            ptime: None,
            maxptime: None,
            parameters: Vec::new(),
            feedback: Vec::new(),
        };
        let section = |media_type, id| Media {
            media_type,
            payload_types: vec![format(id)],
            header_extensions: Vec::new(),
            extmap_allow_mixed: true,
        };
        let mut media = media::Media::default();
        merge_media(&mut media, &[section(MediaType::Audio, 111), section(MediaType::Video, 100)]);
        merge_media(&mut media, &[section(MediaType::Video, 96), section(MediaType::Video, 200)]);
        merge_media(&mut media, &[section(MediaType::Video, 97)]);
        let ids =
            |list: &[media::CodecParameters]| list.iter().map(|codec| codec.payload_type.get()).collect::<Vec<_>>();
        assert_eq!(ids(&media.codecs), [111, 97]);
        assert_eq!(ids(&media.offered_codecs), [111, 100]);
    }
}
