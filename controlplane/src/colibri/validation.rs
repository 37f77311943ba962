//! Which requests about a conference are refused, before anything of it changes (sections 3.2 and 3.5).

use xmpp_parsers::stanza_error::DefinedCondition;

use super::conference::Conference;
use super::elements::{CAP_SOURCE_NAMES, ConferenceModify, Endpoint, Reason, Relay, SctpRole};
use super::limits::{MAX_ID, MAX_RELAYS};
use super::refusal::{Bound, Refusal};
use super::transport::SCTP_PORT;

/// The bridge's own sources are this endpoint's to clients.
const FEEDBACK_OWNER: &str = "jvb";

/// Whether the request is about a visitor.
pub(super) fn is_visitor(endpoint: &Endpoint) -> bool {
    endpoint.muc_role.as_deref().is_some_and(|role| role.eq_ignore_ascii_case("visitor"))
}

/// There is no worker for one more endpoint.
pub(super) fn bridge_full() -> Refusal {
    let text = "every worker of this bridge is full; add workers or bridges";
    Refusal::beyond(Bound::Endpoints, text)
}

/// What the bridge can serve at the moment.
pub(super) struct Service {
    /// Whether data channels are served.
    pub sctp: bool,
    /// Whether relays are served.
    pub relays: bool,
    /// Whether their WebSockets are.
    pub relay_websockets: bool,
    /// Endpoints that one conference takes.
    pub conference_endpoints: usize,
    /// Whether a worker takes one more endpoint.
    pub has_room: bool,
}

/// Refuses what cannot be served.
pub(super) fn validate(conference: &Conference, request: &ConferenceModify, service: &Service) -> Result<(), Refusal> {
    let unsupported =
        |text: &str| Refusal::new(DefinedCondition::FeatureNotImplemented, Some(Reason::FeatureNotImplemented), text);
    let bad = |text: String| Refusal::new(DefinedCondition::BadRequest, None, text);
    let heavy = |e: &Endpoint| e.create || !e.media.is_empty() || e.transport.is_some() || e.sources.is_some();
    let any_heavy = request.endpoints.iter().any(heavy);
    if !request.endpoints.is_empty() && !request.relays.is_empty() {
        return Err(unsupported("endpoints and relays in one request"));
    }
    if request.endpoints.len() > 1 && any_heavy {
        return Err(unsupported("several endpoints in one request with create, media, transport or sources"));
    }
    if request.relays.len() > 1 {
        return Err(unsupported("several relays in one request"));
    }
    request.relays.iter().try_for_each(|relay| validate_relay(conference, relay, service))?;
    for endpoint in &request.endpoints {
        if endpoint.expire {
            continue;
        }
        let id = &endpoint.id;
        let known = conference.endpoint(id).map(|state| state.who().visitor);
        if endpoint.create {
            if known.is_some() {
                let text = format!("endpoint {id:?} exists");
                return Err(Refusal::new(DefinedCondition::Conflict, None, text));
            }
            if id.is_empty() || id.len() > MAX_ID || id == FEEDBACK_OWNER {
                return Err(bad(format!("{:?} is not a valid endpoint id", id.chars().take(64).collect::<String>())));
            }
            let most = service.conference_endpoints;
            // One behind a relay that has its name makes room for it.
            if conference.population() - usize::from(conference.relayed(id).is_some()) >= most {
                let text = format!("this conference has {most} endpoints, as many as one takes");
                return Err(Refusal::beyond(Bound::ConferenceEndpoints, text));
            }
            if !service.has_room {
                return Err(bridge_full());
            }
            let Some(transport) = &endpoint.transport else {
                return Err(bad(format!("endpoint {id:?} is created without transport")));
            };
            if !endpoint.has_capability(CAP_SOURCE_NAMES) {
                return Err(bad(format!("endpoint {id:?} lacks the capability {CAP_SOURCE_NAMES}")));
            }
            if let Some(asked) = &transport.sctp {
                if !service.sctp {
                    let text = "SCTP data channels are switched off here: set bridge.sctp.enabled=true, or jicofo.sctp.enabled=false";
                    return Err(Refusal::new(DefinedCondition::FeatureNotImplemented, None, text));
                }
                if asked.role == Some(SctpRole::Client) {
                    let text = "this bridge opens no SCTP association to an endpoint";
                    return Err(Refusal::new(DefinedCondition::FeatureNotImplemented, None, text));
                }
                if asked.port.is_some_and(|port| port != SCTP_PORT) {
                    return Err(bad(format!("endpoint {id:?} asks for an SCTP port other than {SCTP_PORT}")));
                }
            }
        } else if known.is_none() && any_heavy {
            let mut refusal = Refusal::new(
                DefinedCondition::ItemNotFound,
                Some(Reason::UnknownEndpoint),
                format!("no endpoint {id:?} in this conference"),
            );
            refusal.endpoint = Some(id.clone());
            return Err(refusal);
        }
        let visitor = known.unwrap_or(false) || is_visitor(endpoint);
        if visitor && endpoint.sources.as_ref().is_some_and(|s| !s.media_sources.is_empty()) {
            return Err(bad(format!("visitor {id:?} has sources")));
        }
    }
    Ok(())
}

/// Refuses what cannot be served of a relay. Jicofo gives up the bridge with all its participants for any of these, so there
/// are no others (section 10).
fn validate_relay(conference: &Conference, relay: &Relay, service: &Service) -> Result<(), Refusal> {
    let absent = |text: &str| Refusal::new(DefinedCondition::FeatureNotImplemented, None, text);
    let bad = |text: String| Refusal::new(DefinedCondition::BadRequest, None, text);
    if !service.relays {
        return Err(absent("relays between bridges are not served"));
    }
    if relay.expire {
        return Ok(());
    }
    let id = &relay.id;
    let known = conference.relay(id).is_some();
    if !relay.create {
        return known.then_some(()).ok_or_else(|| bad(format!("no relay {id:?} in this conference")));
    }
    if known {
        return Err(Refusal::new(DefinedCondition::Conflict, None, format!("relay {id:?} exists")));
    }
    if id.is_empty() || id.len() > MAX_ID || relay.mesh_id.as_ref().is_some_and(|mesh| mesh.len() > MAX_ID) {
        return Err(bad(format!("{:?} is not a valid relay id", id.chars().take(64).collect::<String>())));
    }
    if conference.relays().len() >= MAX_RELAYS {
        let text = format!("this conference has {MAX_RELAYS} relays, as many as one takes");
        return Err(Refusal::beyond(Bound::Relays, text));
    }
    let Some(transport) = &relay.transport else {
        return Err(bad(format!("relay {id:?} is created without transport")));
    };
    let Some(sctp) = &transport.sctp else {
        let text = "WebSockets are switched off here: set bridge.websocket.enabled=true, or jicofo.octo.sctp-datachannels=true";
        return service.relay_websockets.then_some(()).ok_or_else(|| absent(text));
    };
    if !service.sctp {
        let text = "SCTP data channels are switched off here: set bridge.sctp.enabled=true, or jicofo.octo.sctp-datachannels=false";
        return Err(absent(text));
    }
    if sctp.port.is_some_and(|port| port != SCTP_PORT) {
        return Err(bad(format!("relay {id:?} asks for an SCTP port other than {SCTP_PORT}")));
    }
    Ok(())
}
