//! The focus's side of colibri2 (docs/protocol/bridge.md 3), as text: what a bridge is asked, and what its answer says.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use ringbridge_controlplane::colibri::elements::ns;
use ringbridge_controlplane::transport::{DtlsRole, Fingerprint};
use ringbridge_dataplane::media::MediaKind;
use tokio_xmpp::minidom::Element;

use crate::generator::media_numbers::Numbers;
use crate::generator::sdp::{Local, Remote};
use crate::generator::world::ClientId;
use crate::media::Codec;
use crate::subject::in_process::{media, sources};

/// Name of a client in its conference.
pub(in crate::subject) fn label(client: ClientId) -> String {
    format!("{client:08x}")
}

/// Asks for an endpoint; the first of a room creates the conference.
pub(in crate::subject) fn create(room: usize, client: ClientId, first: bool) -> Result<Element, String> {
    let conference = if first { format!(" create='true' name='room{room}@conference.bench'") } else { String::new() };
    element(&format!(
        "<conference-modify xmlns='{}' meeting-id='{room}'{conference}><endpoint id='{}' create='true'>\
         <transport ice-controlling='true'/><capability name='source-names'/></endpoint></conference-modify>",
        ns::COLIBRI2,
        label(client)
    ))
}

/// Sends the bridge what a client answered: its transport, its formats, its sources.
pub(in crate::subject) fn update(
    room: usize,
    client: ClientId,
    local: &Local<'_>,
    numbers: Numbers,
    streams: &[(Codec, u32)],
) -> Result<Element, String> {
    let Local { ufrag, pwd, fingerprint, .. } = local;
    let (sections, published) = (sections(numbers), published(client, streams));
    element(&format!(
        "<conference-modify xmlns='{}' meeting-id='{room}'><endpoint id='{}'>{sections}<transport>\
         <transport xmlns='{}' ufrag='{ufrag}' pwd='{pwd}'>\
         <fingerprint xmlns='{}' hash='sha-256' setup='active'>{fingerprint}</fingerprint></transport></transport>\
         {published}</endpoint></conference-modify>",
        ns::COLIBRI2,
        label(client),
        ns::ICE_UDP,
        ns::DTLS,
    ))
}

/// What is negotiated, as colibri2's `media` elements.
pub(in crate::subject) fn sections(numbers: Numbers) -> String {
    let (kind, rtp) = (kind_name, ns::RTP);
    let media = media(numbers);
    let mut sections = String::new();
    for of in [MediaKind::Audio, MediaKind::Video] {
        let _ = write!(sections, "<media type='{}'>", kind(of));
        for format in media.codecs.iter().filter(|format| format.kind == of) {
            let (id, name, rate, channels) =
                (format.payload_type.get(), &format.name, format.clock_rate, format.channels);
            let _ = write!(
                sections,
                "<payload-type xmlns='{rtp}' id='{id}' name='{name}' clockrate='{rate}' channels='{channels}'>"
            );
            for (name, value) in &format.parameters {
                let _ = write!(sections, "<parameter name='{name}' value='{value}'/>");
            }
            for (name, subtype) in &format.feedback {
                let _ = write!(sections, "<rtcp-fb xmlns='{}' type='{name}' subtype='{subtype}'/>", ns::RTCP_FB);
            }
            sections.push_str("</payload-type>");
        }
        for extension in media.header_extensions.iter().filter(|extension| extension.kind == of) {
            let (id, uri) = (extension.id, &extension.uri);
            let _ = write!(sections, "<rtp-hdrext xmlns='{}' id='{id}' uri='{uri}'/>", ns::RTP_HDREXT);
        }
        sections.push_str("</media>");
    }
    sections
}

/// What a client publishes, as a `sources` element.
pub(in crate::subject) fn published(client: ClientId, streams: &[(Codec, u32)]) -> String {
    let (kind, mut published) = (kind_name, "<sources>".to_owned());
    for source in sources(client, streams) {
        let _ = write!(published, "<media-source type='{}' id='{}'>", kind(source.kind), source.name);
        for encoding in &source.encodings {
            let ssrc = encoding.ssrc.get();
            let _ = write!(published, "<source xmlns='{}' ssrc='{ssrc}' name='{}'/>", ns::SSMA, source.name);
        }
        published.push_str("</media-source>");
    }
    published.push_str("</sources>");
    published
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

pub(in crate::subject) fn element(text: &str) -> Result<Element, String> {
    text.parse().map_err(|error| format!("the benchmark wrote {text}, which is no XML: {error}"))
}

/// The bridge's side of a transport, and where its channel is.
pub(in crate::subject) fn read(modified: &Element) -> Result<(Remote, Option<String>), String> {
    let missing = |what: &str| format!("the bridge answered without {what}: {}", String::from(modified));
    let endpoint = modified.get_child("endpoint", ns::COLIBRI2).ok_or_else(|| missing("an endpoint"))?;
    let transport = endpoint.get_child("transport", ns::COLIBRI2);
    let ice = transport
        .and_then(|transport| transport.get_child("transport", ns::ICE_UDP))
        .ok_or_else(|| missing("a transport"))?;
    let attribute = |name: &str| ice.attr(name).map(str::to_owned).ok_or_else(|| missing(name));
    let address = |candidate: &Element| {
        let ip: Ipv4Addr = candidate.attr("ip")?.parse().ok()?;
        Some(SocketAddrV4::new(ip, candidate.attr("port")?.parse().ok()?))
    };
    let fingerprint = |element: &Element| Fingerprint {
        hash: element.attr("hash").unwrap_or_default().to_owned(),
        value: element.text().trim().to_owned(),
    };
    let remote = Remote {
        ufrag: attribute("ufrag")?,
        pwd: attribute("pwd")?,
        lite: false,
        candidates: ice.children().filter(|child| child.name() == "candidate").filter_map(address).collect(),
        fingerprints: ice.children().filter(|child| child.name() == "fingerprint").map(fingerprint).collect(),
        role: DtlsRole::Client,
        sections: Vec::new(),
    };
    let channel = ice.get_child("web-socket", ns::COLIBRI).and_then(|socket| socket.attr("url"));
    Ok((remote, channel.map(str::to_owned)))
}
