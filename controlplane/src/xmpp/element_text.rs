//! Elements as text, for state that another process goes on with (`#[serde(with = "crate::xmpp::element_text")]`). They are read
//! within the bounds of what a server may send.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio_xmpp::minidom::Element;

use super::reader::{Item, Reader};

/// An element, or several.
pub trait Elements: Sized {
    /// What is written of them.
    type Text: Serialize + for<'de> Deserialize<'de>;
    /// As text.
    fn to_xml(&self) -> Self::Text;
    /// From text; nothing where it is none.
    fn read(text: Self::Text) -> Option<Self>;
}

impl Elements for Element {
    type Text = String;

    fn to_xml(&self) -> String {
        String::from(self)
    }

    fn read(text: String) -> Option<Self> {
        let mut rest = text.as_bytes();
        match Reader::default().next(&mut rest)? {
            Item::Element(element) if rest.is_empty() => Some(element),
            _ => None,
        }
    }
}

impl Elements for BTreeMap<String, Element> {
    type Text = BTreeMap<String, String>;

    fn to_xml(&self) -> Self::Text {
        self.iter().map(|(name, element)| (name.clone(), element.to_xml())).collect()
    }

    fn read(text: Self::Text) -> Option<Self> {
        text.into_iter().map(|(name, text)| Some((name, Element::read(text)?))).collect()
    }
}

/// Writes them.
pub fn serialize<T: Elements, S: Serializer>(elements: &T, serializer: S) -> Result<S::Ok, S::Error> {
    elements.to_xml().serialize(serializer)
}

/// Reads them.
pub fn deserialize<'de, T: Elements, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::read(T::Text::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("an element that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_no_server_may_send_is_not() {
        for xml in [
            "<a xmlns='x'/>",
            "<iq xmlns='jabber:client' type='get'><q xmlns='y' n='&lt;&apos;&quot;&amp;&#10;'>t&gt;<p:z xmlns:p='u' p:l='1'/></q></iq>",
        ] {
            let parsed: Element = xml.parse().expect("an element");
            // Prefixes and where a text was cut do not cross, and have no meaning.
            let element = Element::read(parsed.to_xml()).expect("an element again");
            assert_eq!(element.attr("type"), parsed.attr("type"));
            for (read, written) in element.children().zip(parsed.children()) {
                assert!(read.attrs().eq(written.attrs()) && read.text() == written.text(), "{read:?}, {written:?}");
            }
            assert_eq!(Element::read(element.to_xml()), Some(element.clone()), "{xml}");
            let table = BTreeMap::from([("a".to_owned(), element)]);
            assert_eq!(BTreeMap::read(table.to_xml()), Some(table));
        }
        let deep = "<a xmlns='x'>".repeat(10_000) + &"</a>".repeat(10_000);
        for xml in ["", "<a", "<a xmlns='x'/><b xmlns='x'/>", "</a>", "text", &deep] {
            assert_eq!(Element::read(xml.to_owned()), None);
        }
    }
}
