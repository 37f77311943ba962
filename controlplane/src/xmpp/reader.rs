//! Bytes of an XML stream in, top-level elements out (RFC 6120 section 4). A state machine without I/O.
//!
//! Whoever may send us a stanza decides what is in it, so no content of a stanza may end the stream: what goes beyond a bound
//! or cannot be read is handed out as [`Item::Unreadable`], to be counted, acknowledged and skipped.

use minidom::Element;
use minidom::rxml::{Event, Options, Parse, Parser, WithOptions};
use xmpp_parsers::ns;
use xso::{Context, FromEventsBuilder, FromXml};

use super::framing::{Frame, Framing};
use super::limits::Unfit;

/// What is parsed before every stanza, so that it finds the namespaces that the stream declared.
const STREAM_HEADER: &[u8] = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// What the stream brought.
#[derive(Debug, PartialEq)]
pub enum Item {
    /// A stanza, or an element of the stream itself.
    Element(Element),
    /// An element that was passed over.
    Unreadable {
        /// Its opening tag as an element without children, where that could be read.
        head: Option<Element>,
        /// Whether its name is that of a stanza (`iq`, `message`, `presence`), which counts for acknowledgements (XEP-0198).
        stanza: bool,
        /// The bound that it exceeds, or that it is not well-formed.
        unfit: Unfit,
    },
    /// The server closed the stream.
    End,
}

impl Item {
    /// Whether it is a stanza, which counts for acknowledgements (XEP-0198 section 4).
    pub(super) fn is_stanza(&self) -> bool {
        match self {
            Self::Element(element) => is_stanza(element),
            Self::Unreadable { stanza, .. } => *stanza,
            Self::End => false,
        }
    }
}

/// Reads what follows the header of a stream. Holds [`super::MAX_STANZA`] bytes at most.
#[derive(Debug, Default)]
pub struct Reader {
    framing: Framing,
}

impl Reader {
    /// Takes bytes from the front of `input` until there is something to hand out; `None` when more bytes are needed.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Item> {
        Some(match self.framing.next(input)? {
            Frame::Whole(bytes) => parse(&bytes).map_or_else(|| unreadable(&bytes, Unfit::Malformed), Item::Element),
            Frame::Skipped(head, unfit) => unreadable(&head, unfit),
            Frame::End => Item::End,
        })
    }
}

fn unreadable(bytes: &[u8], unfit: Unfit) -> Item {
    let name = bytes.get(1..).unwrap_or_default();
    let name = &name[..name.iter().position(|byte| b" \t\r\n/>".contains(byte)).unwrap_or(name.len())];
    let local = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
    // Without a name it was cut off within its first tag: only a stanza is relayed for others, and only others send such.
    let stanza = local.is_empty() || matches!(local, b"iq" | b"message" | b"presence");
    Item::Unreadable { head: parse_head(bytes), stanza, unfit }
}

/// The opening tag at the front of `bytes`, read as if the element ended there.
fn parse_head(bytes: &[u8]) -> Option<Element> {
    let (mut quote, mut end) = (None, None);
    for (index, &byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => {
                end = Some(index);
                break;
            }
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    let tag = &bytes[..end?];
    parse(&[tag.strip_suffix(b"/").unwrap_or(tag), b"/>"].concat())
}

/// One complete element; `None` when it is not well-formed. Its nesting has been checked.
fn parse(bytes: &[u8]) -> Option<Element> {
    // The parser reserves as much as its longest token may have.
    let longest = bytes.len().max(STREAM_HEADER.len());
    let mut parser = Parser::with_options(Options { max_token_length: longest, ..Options::default() });
    let mut header = STREAM_HEADER;
    while !header.is_empty() {
        parser.parse(&mut header, false).ok()?;
    }
    let mut rest = bytes;
    let context = Context::empty();
    let mut builder = None;
    loop {
        let event = parser.parse(&mut rest, false).ok()??;
        match (&mut builder, event) {
            (None, Event::StartElement(_, name, attributes)) => {
                builder = Some(Element::from_events(name, attributes, &context).ok()?);
            }
            (None, _) => return None,
            (Some(open), event) => {
                if let Some(element) = open.feed(event, &context).ok()? {
                    return rest.is_empty().then_some(element);
                }
            }
        }
    }
}

/// Whether an element is a stanza, which counts for acknowledgements.
pub(super) fn is_stanza(element: &Element) -> bool {
    element.has_ns(ns::JABBER_CLIENT) && matches!(element.name(), "iq" | "message" | "presence")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::limits::{MAX_DEPTH, MAX_ELEMENTS, MAX_STANZA};
    use super::*;

    /// Everything in `bytes`, fed in pieces of `piece` bytes.
    fn read(bytes: &[u8], piece: usize) -> Vec<Item> {
        let mut reader = Reader::default();
        let mut items = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while let Some(item) = reader.next(&mut piece) {
                items.push(item);
            }
        }
        items
    }

    fn only(bytes: &[u8]) -> Item {
        let mut items = read(bytes, bytes.len());
        assert_eq!(items.len(), 1, "{items:?}");
        items.remove(0)
    }

    fn reason(item: &Item) -> &'static str {
        match item {
            Item::Element(_) => "read",
            Item::Unreadable { unfit, .. } => unfit.reason(),
            Item::End => "end",
        }
    }

    /// A stanza that something may follow, and a sign of life behind it.
    fn then_more(stanza: &str) -> (&'static str, bool) {
        let items = read(format!("{stanza}<presence from='a@b/c'/>").as_bytes(), 1_500);
        assert_eq!(items.len(), 2, "{:?}", items.iter().map(reason).collect::<Vec<_>>());
        assert_eq!(reason(&items[1]), "read", "the stream goes on");
        (reason(&items[0]), matches!(&items[0], Item::Unreadable { head: Some(_), stanza: true, .. }))
    }

    #[test]
    fn elements_are_in_the_namespaces_of_the_stream() {
        let stream = b" <message from='a@b/c'><body>x &lt; y</body></message>\n<r xmlns='urn:xmpp:sm:3'/>\
            <stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
        for piece in [1, 2, 7, 1_000] {
            let items = read(stream, piece);
            let [Item::Element(message), Item::Element(request), Item::Element(error), Item::End] = &items[..] else {
                panic!("{items:?}")
            };
            assert!(message.is("message", ns::JABBER_CLIENT) && is_stanza(message));
            assert_eq!(message.get_child("body", ns::JABBER_CLIENT).unwrap().text(), "x < y");
            assert!(request.is("r", ns::SM) && !is_stanza(request));
            assert!(error.is("error", ns::STREAM) && !is_stanza(error));
        }
    }

    #[test]
    fn deep_nesting_is_skipped_whatever_it_is_made_of() {
        for depth in [MAX_DEPTH, 4_000, 8_000, 100_000] {
            for (open, close) in
                [("<a>", "</a>"), ("<a xmlns='b'>", "</a>"), ("<x:a xmlns:x='>'>", "</x:a>"), ("<a>.", "</a>")]
            {
                for kind in ["message", "presence", "iq"] {
                    let nested = open.repeat(depth) + &close.repeat(depth);
                    let stanza = format!("<{kind} from='g@meet.test/1' id='7' type='get'>{nested}</{kind}>");
                    assert_eq!(then_more(&stanza), ("depth", true), "{depth} {open}");
                }
            }
        }
        let nested = "<a>".repeat(MAX_DEPTH - 1) + &"</a>".repeat(MAX_DEPTH - 1);
        assert_eq!(then_more(&format!("<message>{nested}</message>")).0, "read", "the bound itself is allowed");
    }

    #[test]
    fn long_values_names_texts_and_references_are_read() {
        for length in [8_000, 8_192, 8_200, 40_000, 250_000] {
            let long = "x".repeat(length);
            for stanza in [
                format!("<message a='{long}'/>"),
                format!("<message><{long}/></message>"),
                format!("<message {long}='1'/>"),
                format!("<message>{long}</message>"),
                format!("<message><a xmlns='{long}'/></message>"),
                format!("<message><p:a xmlns:p='{long}' p:b='1'/></message>"),
                format!("<message a='{}'/>", "&apos;".repeat(length / 2)),
            ] {
                assert_eq!(then_more(&stanza).0, "read", "{length} {}", &stanza[..20]);
            }
        }
    }

    #[test]
    fn what_is_too_large_is_skipped_and_its_sender_known() {
        let (long, many) = ("x".repeat(MAX_STANZA), "<a/>".repeat(MAX_ELEMENTS));
        assert_eq!(then_more(&format!("<message from='g@h/1'>{long}</message>")), ("bytes", true));
        assert_eq!(then_more(&format!("<message from='g@h/1'>{many}</message>")), ("elements", true));
        // The opening tag is too large itself: nothing is known of it, but it is still a stanza.
        let items = read(format!("<message from='{long}'/><presence/>").as_bytes(), 4_096);
        assert!(matches!(
            &items[..],
            [Item::Unreadable { head: None, stanza: true, unfit: Unfit::Bytes }, Item::Element(_)]
        ));
    }

    #[test]
    fn what_is_skipped_is_not_held() {
        let mut framing = Framing::default();
        assert_eq!(framing.next(&mut format!("<message>{}", "x".repeat(3 * MAX_STANZA)).as_bytes()), None);
        assert!(framing.held() < 100, "{}", framing.held());
    }

    #[test]
    fn malformed_content_is_skipped() {
        for content in [
            "<p:a/>",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            "<a b='<'/>",
            "&unknown;",
            "&#0;",
            "&#xFFFFFFFFF;",
            "<a></b>",
            "<!DOCTYPE x>",
            "<!-- comment -->",
            "<?instruction ?>",
            "<1/>",
            "<a xmlns:xmlns='b'/>",
            "]]>",
            "\u{1}",
        ] {
            assert_eq!(
                then_more(&format!("<iq type='get' from='g@h/1' id='1'>{content}</iq>")),
                ("malformed", true),
                "{content}"
            );
        }
        assert_eq!(then_more("<message><![CDATA[<a>]]></message>").0, "read");
        // Not UTF-8.
        let items = read(b"<message>\xff\xfe</message><presence/>", 5);
        assert_eq!(items.iter().map(reason).collect::<Vec<_>>(), ["malformed", "read"]);
        let items = read(b"<!-- <a> --><presence/><?x <y> ?><presence/> stray text <presence/>", 3);
        assert_eq!(
            items.iter().map(reason).collect::<Vec<_>>(),
            ["read", "read", "read"],
            "between stanzas it is passed over"
        );
    }

    #[test]
    fn the_head_of_a_skipped_request_can_be_answered() {
        let nested = "<a>".repeat(100) + &"</a>".repeat(100);
        let item = only(format!("<iq type='set' from='g@h/1' to='b@c/d' id='a>b'>{nested}</iq>").as_bytes());
        let Item::Unreadable { head: Some(head), .. } = item else { panic!("{item:?}") };
        assert_eq!((head.name(), head.attr("id"), head.attr("from")), ("iq", Some("a>b"), Some("g@h/1")));
        assert_eq!(head.children().count(), 0);
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_end_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
            read(&bytes, piece);
        }

        #[test]
        fn pieces_make_no_difference(parts in proptest::collection::vec(prop_oneof![
            Just("<a>"), Just("</a>"), Just("<a/>"), Just("<iq b='>'>"), Just("</iq>"), Just("<![CDATA["), Just("]]>"),
            Just("<!--"), Just("-->"), Just("<?x"), Just("?>"), Just("text"), Just("<"), Just("'"), Just("/>"), Just("</"),
        ], 0..40), piece in 1usize..9) {
            let stream = parts.concat();
            prop_assert_eq!(read(stream.as_bytes(), piece), read(stream.as_bytes(), stream.len().max(1)));
        }

        #[test]
        fn what_is_written_is_read(texts in proptest::collection::vec("[ -~]{1,30}", 1..6), depth in 1usize..20) {
            let mut element = Element::builder("leaf", "some:ns").attr(minidom::rxml::xml_ncname!("a").to_owned(), texts[0].clone()).append(texts.concat()).build();
            for text in &texts {
                element = Element::builder("x", text.replace([' ', '\t'], "_") + "n").append(element).append(text.clone()).build();
            }
            for _ in 0..depth {
                element = Element::builder("message", ns::JABBER_CLIENT).append(element).build();
            }
            let mut bytes = Vec::new();
            element.write_to(&mut bytes).unwrap();
            // A reference begins a text node of its own: the same text, in other pieces.
            let items = read(&bytes, 13);
            let [Item::Element(read)] = &items[..] else { panic!("{items:?}") };
            prop_assert_eq!(String::from(read), String::from(&element));
        }
    }
}
