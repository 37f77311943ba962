//! The bytes of an XML stream, as a server relays them.
//!
//! Fed: a byte for the size of the pieces that they arrive in, then the bytes; half of the inputs are the content of a stanza.
//! Held: nothing panics; pieces make no difference; no element is deeper or larger than the bounds; an element that is written
//! is read again as it was; behind a stanza whose content is well-formed or passed over the stream goes on.

use ringbridge_controlplane::colibri::elements::ConferenceModify;
use ringbridge_controlplane::jingle::Jingle;
use ringbridge_controlplane::xmpp::reader::{Item, Reader};
use ringbridge_controlplane::xmpp::{MAX_DEPTH, MAX_ELEMENTS};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::Message;
use xmpp_parsers::presence::Presence;

fn read(bytes: &[u8], piece: usize) -> Vec<Item> {
    let mut reader = Reader::default();
    let mut items = Vec::new();
    for mut piece in bytes.chunks(piece.max(1)) {
        while let Some(item) = reader.next(&mut piece) {
            items.push(item);
        }
        assert!(piece.is_empty(), "bytes are left over");
    }
    items
}

/// Depth and number of elements.
fn size(element: &Element) -> (usize, usize) {
    element.children().map(size).fold((1, 1), |(depth, count), (d, c)| (depth.max(d + 1), count + c))
}

/// An element in no namespace is written like one in that of the stream.
fn is_named_throughout(element: &Element) -> bool {
    !element.ns().is_empty() && element.children().all(is_named_throughout)
}

fn look_at(element: &Element) {
    let (depth, count) = size(element);
    assert!(depth <= MAX_DEPTH && count <= MAX_ELEMENTS, "{depth} deep, {count} elements");
    let mut bytes = Vec::new();
    if is_named_throughout(element) && element.write_to(&mut bytes).is_ok() {
        let again = read(&bytes, bytes.len());
        let [Item::Element(again)] = &again[..] else { panic!("{} read as {again:?}", String::from(element)) };
        assert_eq!(String::from(again), String::from(element));
    }
    for payload in element.children() {
        let _ = Jingle::try_from(payload.clone());
        let _ = ConferenceModify::try_from(payload.clone());
    }
    match element.name() {
        "iq" => drop(Iq::try_from(element.clone())),
        "presence" => drop(Presence::try_from(element.clone())),
        _ => drop(Message::try_from(element.clone())),
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let piece = usize::from(first >> 1) + 1;
    let bytes = match first & 1 {
        0 => bytes.to_vec(),
        _ => [b"<message from='a@b/c' type='chat'>", bytes, b"</message><presence from='x@y/z'/>"].concat(),
    };
    let items = read(&bytes, piece);
    assert_eq!(items, read(&bytes, bytes.len()), "pieces make no difference");
    for item in &items {
        match item {
            Item::Element(element) => look_at(element),
            Item::Unreadable { head: Some(head), .. } => assert_eq!(head.children().count(), 0),
            Item::Unreadable { head: None, .. } | Item::End => {}
        }
    }
    if first & 1 == 1
        && let [Item::Element(message), rest @ ..] = &items[..]
        && message.name() == "message"
    {
        // What a server relays is well-formed; then the next stanza is read.
        let ended = matches!(rest, [Item::Element(presence)] if presence.attr("from") == Some("x@y/z"));
        let closed_itself = String::from_utf8_lossy(&bytes[..]).matches("</message").count() > 1;
        assert!(ended || closed_itself, "the stream goes on: {rest:?}");
    }
}
