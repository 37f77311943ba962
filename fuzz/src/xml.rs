//! Elements out of text, as the reader of a stream lets them through.

use ringbridge_controlplane::xmpp::reader::{Item, Reader};
use tokio_xmpp::minidom::Element;

/// An element; `None` for what is none, or goes beyond the reader's bounds.
pub fn parse(text: &str) -> Option<Element> {
    match Reader::default().next(&mut text.as_bytes())? {
        Item::Element(element) => Some(element),
        Item::Unreadable { .. } | Item::End => None,
    }
}
