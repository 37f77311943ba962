//! Elements out of text, as the reader of a stream lets them through.

use ringbridge_controlplane::xmpp::reader::{Item, Reader};
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::Message;
use xmpp_parsers::presence::Presence;

/// An element; `None` for what is none, or goes beyond the reader's bounds.
pub fn parse(text: &str) -> Option<Element> {
    match Reader::default().next(&mut text.as_bytes())? {
        Item::Element(element) => Some(element),
        Item::Unreadable { .. } | Item::End => None,
    }
}

/// A stanza; `None` for what is none.
pub fn stanza(text: &str) -> Option<Stanza> {
    let element = parse(text)?;
    match element.name() {
        "iq" => Iq::try_from(element).ok().map(Stanza::Iq),
        "presence" => Presence::try_from(element).ok().map(Stanza::Presence),
        _ => Message::try_from(element).ok().map(Stanza::Message),
    }
}
