//! Elements made from text.

use tokio_xmpp::minidom::Element;

/// An element; none when the text is not well-formed.
pub(super) fn build(xml: &str) -> Option<Element> {
    xml.parse().ok()
}

/// Text that goes into an attribute of built XML: nicknames are anything.
pub(super) fn escaped(text: &str) -> String {
    String::from_utf8_lossy(&tokio_xmpp::minidom::element::escape(text.as_bytes())).into_owned()
}
