//! Between elements on the stream and typed stanzas.
//!
//! A typed stanza error holds one application-specific child, and Jitsi's have two: `<error/>` of colibri2 and
//! `<endpoint/>`. Inside the process the second is a child of the first; here it is moved.

use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::{Element, Node};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::ns;
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};

/// Namespace of colibri2, whose errors have two children.
const COLIBRI2: &str = "jitsi:colibri2";

/// Prefix of the ids of our own pings.
pub(super) const PING_ID: &str = "ringbridge-ping-";

/// What an element turned out to be.
pub(super) enum Incoming {
    Stanza(Stanza),
    /// A request that is no valid IQ: this is the answer to it.
    Answer(Iq),
    /// Not valid, and nothing that is answered.
    Malformed,
    /// The answer to one of our pings.
    Pong,
}

/// Types an element from the stream.
pub(super) fn from_element(mut element: Element) -> Incoming {
    if element.name() == "iq" {
        if element.attr("id").is_some_and(|id| id.starts_with(PING_ID)) {
            return Incoming::Pong;
        }
        nest(&mut element);
    }
    match xso::transform::<Stanza, _>(&element) {
        Ok(stanza) => Incoming::Stanza(stanza),
        Err(error) => {
            tracing::debug!(%error, "malformed stanza");
            refusal(&element, DefinedCondition::BadRequest, &error.to_string())
                .map_or(Incoming::Malformed, Incoming::Answer)
        }
    }
}

/// The error that answers an IQ of which only the attributes are understood; `None` unless it is a request.
pub(super) fn refusal(iq: &Element, condition: DefinedCondition, text: &str) -> Option<Iq> {
    if iq.name() != "iq" || !matches!(iq.attr("type"), Some("get" | "set")) {
        return None;
    }
    let error = StanzaError::new(ErrorType::Modify, condition, "en", text);
    let to = iq.attr("from").and_then(|from| from.parse().ok());
    Some(Iq::Error { from: None, to, id: iq.attr("id")?.to_owned(), error, payload: None })
}

/// Writes a stanza as the element that goes onto the stream.
pub(super) fn to_element(stanza: &Stanza) -> Result<Element, xso::error::Error> {
    let mut element: Element = xso::transform(stanza)?;
    if element.name() == "iq" {
        hoist(&mut element);
    }
    Ok(element)
}

/// Moves every colibri2 sibling of a colibri2 `<error/>` into it, and drops what else the typed error cannot hold.
fn nest(iq: &mut Element) {
    let Some(error) = iq.get_child_mut("error", ns::JABBER_CLIENT) else { return };
    let specific = |e: &Element| !e.has_ns(ns::XMPP_STANZAS);
    if error.children().filter(|e| specific(e)).count() < 2 {
        return;
    }
    let (mut standard, mut others) = (Vec::new(), Vec::new());
    for node in error.take_nodes() {
        if let Node::Element(child) = node {
            if specific(&child) { others.push(child) } else { standard.push(child) }
        }
    }
    for child in standard {
        error.append_child(child);
    }
    let first = others.iter().position(|e| e.is("error", COLIBRI2)).unwrap_or(0);
    let mut head = others.remove(first);
    if head.has_ns(COLIBRI2) {
        for sibling in others.into_iter().filter(|e| e.has_ns(COLIBRI2)) {
            head.append_child(sibling);
        }
    }
    error.append_child(head);
}

/// The reverse of [`nest`].
fn hoist(iq: &mut Element) {
    let Some(error) = iq.get_child_mut("error", ns::JABBER_CLIENT) else { return };
    let Some(inner) = error.get_child_mut("error", COLIBRI2) else { return };
    let children: Vec<Element> =
        inner.take_nodes().into_iter().filter_map(|n| if let Node::Element(e) = n { Some(e) } else { None }).collect();
    for child in children {
        error.append_child(child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colibri::elements::{ColibriError, Endpoint, Reason};

    #[test]
    fn error_siblings_survive_both_ways() {
        let wire = "<iq xmlns='jabber:client' type='error' id='7' from='room@x/jvb'><error type='cancel'>\
            <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
            <error xmlns='jitsi:colibri2' reason='UNKNOWN_ENDPOINT'/><endpoint xmlns='jitsi:colibri2' id='ab'/></error></iq>";
        let Incoming::Stanza(stanza) = from_element(wire.parse().unwrap()) else { panic!("not a stanza") };
        let Stanza::Iq(Iq::Error { error, .. }) = &stanza else { panic!("not an error") };
        let colibri = ColibriError::try_from(error.other.clone().unwrap()).unwrap();
        assert_eq!(colibri.reason, Some(Reason::UnknownEndpoint));
        assert_eq!(colibri.endpoint, Some(Endpoint::new("ab")));
        let out = to_element(&stanza).unwrap();
        let error = out.get_child("error", ns::JABBER_CLIENT).unwrap();
        assert_eq!(error.get_child("endpoint", COLIBRI2).unwrap().attr("id"), Some("ab"));
        assert_eq!(error.get_child("error", COLIBRI2).unwrap().children().count(), 0);
    }

    #[test]
    fn malformed_request_is_answered() {
        let wire = "<iq xmlns='jabber:client' type='get' id='7' from='room@x/focus'/>";
        let Incoming::Answer(Iq::Error { to, id, error, .. }) = from_element(wire.parse().unwrap()) else {
            panic!("no answer")
        };
        assert_eq!((to.unwrap().to_string().as_str(), id.as_str()), ("room@x/focus", "7"));
        assert_eq!(error.defined_condition, DefinedCondition::BadRequest);
    }
}
