//! What one colibri2 request may hold and what a bridge keeps of it, at most.
//!
//! Much of what a focus asks was written by a client, and Jicofo passes it on as it came. Jicofo takes every error that
//! answers an update for the failure of the whole conference and invites everybody again, so what is too much or cannot be
//! read in an update is left out and counted; only requests that create something are refused.

use ringbridge_dataplane::ids;
use tokio_xmpp::minidom::{Element, Node};

use crate::pace::Rate;

use super::elements::{
    Candidate, Capability, ConferenceModify, Endpoint, Fingerprint, HeaderExtension, IceTransport, InitialLastN, Media,
    MediaSource, PayloadType, Relay, Source, SsrcGroup, WebSocket, ns,
};

/// Conferences of a bridge.
pub const MAX_CONFERENCES: usize = 10_000;
/// Endpoints that one request names.
pub const MAX_ENDPOINTS_PER_REQUEST: usize = 2_000;
/// Bytes of a meeting id, of a room's name and of an endpoint's id.
pub const MAX_ID: usize = 1_024;
/// Bytes of a name that goes to clients or into statistics: stats id, source name, format, kind of feedback.
pub const MAX_NAME: usize = 256;
/// Bytes of a longer text: value of a format parameter, URI of a header extension, ufrag and password (RFC 8445 section 5.3).
pub const MAX_TEXT: usize = 512;
/// Capabilities of an endpoint.
pub const MAX_CAPABILITIES: usize = 32;
/// `<media>` elements of an endpoint: one per type is enough.
pub const MAX_MEDIA: usize = 4;
/// Formats of one media type: their numbers are 7 bits, and some belong to RTCP.
pub const MAX_FORMATS: usize = 64;
/// Parameters of a format.
pub const MAX_PARAMETERS: usize = 32;
/// Kinds of RTCP feedback of a format.
pub const MAX_FEEDBACK: usize = 16;
/// Header extensions of one media type.
pub const MAX_EXTENSIONS: usize = 32;
/// Candidates in one request: with peer-reflexive ones none is needed.
pub const MAX_CANDIDATES: usize = 32;
/// Fingerprints of a certificate, one per hash function.
pub const MAX_FINGERPRINTS: usize = 8;
/// ICE restarts of an endpoint. Jicofo asks for five a minute at most; beyond this the focus is made to invite again.
pub const ICE_RESTARTS: Rate = Rate { burst: 10, per_second: 0.2 };
/// Sources whose type an endpoint may set.
pub const MAX_VIDEO_TYPES: usize = 64;
/// SSRCs of a source.
pub const MAX_SSRCS: usize = 16;
/// Groups of a source, and SSRCs of a group.
pub const MAX_GROUPS: usize = 16;

/// Endpoints behind one relay that one request names.
pub const MAX_RELAYED_PER_REQUEST: usize = 2_000;
/// Relays of one conference.
pub const MAX_RELAYS: usize = 64;

/// Others' sources that an endpoint's client does not know yet.
pub const MAX_UNSIGNALLED: usize = 500;

/// Shortens what is too long and returns how many things were left out; `sources` is how many of one endpoint are forwarded.
pub(super) fn bound(request: &mut ConferenceModify, sources: usize) -> u64 {
    let mut left_out = truncate(&mut request.endpoints, MAX_ENDPOINTS_PER_REQUEST);
    for endpoint in &mut request.endpoints {
        left_out += bound_endpoint(endpoint, sources);
    }
    left_out + request.relays.iter_mut().map(|relay| bound_relay(relay, sources)).sum::<u64>()
}

fn bound_relay(relay: &mut Relay, most_sources: usize) -> u64 {
    let mut left_out = truncate(&mut relay.media, MAX_MEDIA);
    left_out += relay.media.iter_mut().map(bound_media).sum::<u64>();
    if let Some(ice) = relay.transport.as_mut().and_then(|transport| transport.ice.as_mut()) {
        left_out += bound_ice(ice);
    }
    if let Some(relayed) = &mut relay.endpoints {
        left_out += retain(&mut relayed.endpoints, |endpoint| !endpoint.id.is_empty() && endpoint.id.len() <= MAX_ID);
        left_out += truncate(&mut relayed.endpoints, MAX_RELAYED_PER_REQUEST);
        left_out += relayed.endpoints.iter_mut().map(|endpoint| bound_endpoint(endpoint, most_sources)).sum::<u64>();
    }
    left_out
}

fn bound_endpoint(endpoint: &mut Endpoint, most_sources: usize) -> u64 {
    let mut left_out = drop_long(&mut endpoint.stats_id, MAX_NAME);
    left_out += truncate(&mut endpoint.capabilities, MAX_CAPABILITIES);
    left_out += truncate(&mut endpoint.media, MAX_MEDIA);
    left_out += endpoint.media.iter_mut().map(bound_media).sum::<u64>();
    if let Some(ice) = endpoint.transport.as_mut().and_then(|transport| transport.ice.as_mut()) {
        left_out += bound_ice(ice);
    }
    if let Some(unsignalled) = &mut endpoint.unsignalled {
        left_out += retain(&mut unsignalled.sources, |source| source.name.len() <= MAX_NAME);
        left_out += truncate(&mut unsignalled.sources, MAX_UNSIGNALLED);
    }
    if let Some(sources) = &mut endpoint.sources {
        left_out += retain(&mut sources.media_sources, |source| source.id.len() <= MAX_NAME);
        left_out += truncate(&mut sources.media_sources, most_sources);
        for source in &mut sources.media_sources {
            left_out += truncate(&mut source.sources, MAX_SSRCS);
            left_out += truncate(&mut source.ssrc_groups, MAX_GROUPS);
            left_out +=
                source.ssrc_groups.iter_mut().map(|group| truncate(&mut group.sources, MAX_GROUPS)).sum::<u64>();
        }
    }
    left_out
}

fn bound_media(media: &mut Media) -> u64 {
    let short = |text: &Option<String>, most| text.as_ref().is_none_or(|text| text.len() <= most);
    let mut left_out = retain(&mut media.payload_types, |format| {
        ids::PayloadType::new(format.id).is_some() && format.name.as_ref().is_some_and(|name| name.len() <= MAX_NAME)
    });
    left_out += truncate(&mut media.payload_types, MAX_FORMATS);
    for format in &mut media.payload_types {
        left_out += retain(&mut format.parameters, |p| short(&p.name, MAX_NAME) && short(&p.value, MAX_TEXT));
        left_out += truncate(&mut format.parameters, MAX_PARAMETERS);
        left_out += retain(&mut format.feedback, |f| f.feedback_type.len() <= MAX_NAME && short(&f.subtype, MAX_NAME));
        left_out += truncate(&mut format.feedback, MAX_FEEDBACK);
    }
    left_out += retain(&mut media.header_extensions, |extension| extension.id != 0 && extension.uri.len() <= MAX_TEXT);
    left_out + truncate(&mut media.header_extensions, MAX_EXTENSIONS)
}

fn bound_ice(ice: &mut IceTransport) -> u64 {
    let mut left_out = drop_long(&mut ice.ufrag, MAX_TEXT) + drop_long(&mut ice.pwd, MAX_TEXT);
    left_out += truncate(&mut ice.candidates, MAX_CANDIDATES);
    left_out += retain(&mut ice.fingerprints, |f| f.hash.len() <= MAX_NAME && f.value.len() <= MAX_TEXT);
    left_out + truncate(&mut ice.fingerprints, MAX_FINGERPRINTS)
}

fn truncate<T>(list: &mut Vec<T>, most: usize) -> u64 {
    let beyond = list.len().saturating_sub(most);
    list.truncate(most);
    beyond as u64
}

fn retain<T>(list: &mut Vec<T>, keep: impl Fn(&T) -> bool) -> u64 {
    let before = list.len();
    list.retain(keep);
    (before - list.len()) as u64
}

fn drop_long(text: &mut Option<String>, most: usize) -> u64 {
    u64::from(text.take_if(|text| text.len() > most).is_some())
}

/// Reads a request. Where it cannot be read as a whole, the parts of it that cannot are left out; the number is how many.
/// The error is that of the request's own attributes.
pub fn read(payload: &Element) -> Result<(ConferenceModify, u64), String> {
    let error = match ConferenceModify::try_from(payload.clone()) {
        Ok(request) => return Ok((request, 0)),
        Err(error) => error,
    };
    let mut payload = payload.clone();
    let left_out = drop_unreadable(&mut payload, DEPTH);
    if left_out == 0 {
        return Err(error.to_string());
    }
    ConferenceModify::try_from(payload).map(|request| (request, left_out)).map_err(|error| error.to_string())
}

/// Levels of a request below its own that hold others: relay, endpoints, endpoint, sources, source, group, SSRC.
const DEPTH: usize = 7;

/// Removes children that cannot be read by themselves, and what may be there once and is there again.
fn drop_unreadable(element: &mut Element, depth: usize) -> u64 {
    if depth == 0 {
        return 0;
    }
    let relayed = element.is("endpoints", ns::COLIBRI2);
    let mut left_out = 0;
    let mut once: Vec<(String, String)> = Vec::new();
    for node in element.take_nodes() {
        if let Node::Element(mut child) = node {
            left_out += drop_unreadable(&mut child, depth - 1);
            let known = (child.name().to_owned(), child.ns());
            // Jicofo takes an error about a relay for the failure of the whole bridge: one participant less is better.
            let nobody = child.is("endpoint", ns::COLIBRI2) && relayed && child.attr("id").is_none();
            if nobody || !readable(&child) || once.contains(&known) {
                left_out += 1;
                continue;
            }
            if matches!(
                known.0.as_str(),
                "transport"
                    | "rtcp-mux"
                    | "sources"
                    | "force-mute"
                    | "initial-last-n"
                    | "sctp"
                    | "untold"
                    | "endpoints"
            ) || known.0 == "extmap-allow-mixed"
            {
                once.push(known);
            }
            element.append_child(child);
        } else {
            element.append_node(node);
        }
    }
    left_out
}

fn readable(child: &Element) -> bool {
    let copy = || child.clone();
    match (child.name(), child.ns().as_str()) {
        ("candidate", ns::ICE_UDP) => Candidate::try_from(copy()).is_ok(),
        ("fingerprint", ns::DTLS) => Fingerprint::try_from(copy()).is_ok(),
        ("web-socket", ns::COLIBRI) => WebSocket::try_from(copy()).is_ok(),
        ("payload-type", ns::RTP) => PayloadType::try_from(copy()).is_ok(),
        ("rtp-hdrext", ns::RTP_HDREXT) => HeaderExtension::try_from(copy()).is_ok(),
        ("source", ns::SSMA) => Source::try_from(copy()).is_ok(),
        ("ssrc-group", ns::SSMA) => SsrcGroup::try_from(copy()).is_ok(),
        ("media-source", ns::COLIBRI2) => MediaSource::try_from(copy()).is_ok(),
        ("media", ns::COLIBRI2) => Media::try_from(copy()).is_ok(),
        ("capability", ns::COLIBRI2) => Capability::try_from(copy()).is_ok(),
        ("initial-last-n", ns::COLIBRI2) => InitialLastN::try_from(copy()).is_ok(),
        ("transport", ns::ICE_UDP) => IceTransport::try_from(copy()).is_ok(),
        _ => true,
    }
}
