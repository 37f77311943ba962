//! How attributes are written: what is left out, what is read leniently, enumerations in any case.

use std::borrow::Cow;

use xso::TextCodec;
use xso::error::Error;

/// A boolean attribute that is absent when false.
pub(super) struct TrueOrAbsent;

impl TextCodec<bool> for TrueOrAbsent {
    fn decode(&self, s: String) -> Result<bool, Error> {
        Ok(s == "1" || s.eq_ignore_ascii_case("true"))
    }

    fn encode<'x>(&self, value: &'x bool) -> Result<Option<Cow<'x, str>>, Error> {
        Ok(value.then_some(Cow::Borrowed("true")))
    }
}

/// The opposite of a boolean attribute whose default is true: written as `false`, absent otherwise.
pub(super) struct FalseOrAbsent;

impl TextCodec<bool> for FalseOrAbsent {
    fn decode(&self, s: String) -> Result<bool, Error> {
        Ok(s == "0" || s.eq_ignore_ascii_case("false"))
    }

    fn encode<'x>(&self, value: &'x bool) -> Result<Option<Cow<'x, str>>, Error> {
        Ok(value.then_some(Cow::Borrowed("false")))
    }
}

/// An optional number whose malformed value is read as absent.
pub(super) struct Lenient;

impl<T: std::str::FromStr + ToString> TextCodec<Option<T>> for Lenient {
    fn decode(&self, s: String) -> Result<Option<T>, Error> {
        Ok(s.trim().parse().ok())
    }

    fn encode<'x>(&self, value: &'x Option<T>) -> Result<Option<Cow<'x, str>>, Error> {
        Ok(value.as_ref().map(|v| Cow::Owned(v.to_string())))
    }
}

macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// As written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// As read from the wire, without regard to case.
            pub fn parse(text: &str) -> Option<Self> {
                let text = text.trim();
                $(if text.eq_ignore_ascii_case($text) { return Some(Self::$variant); })*
                None
            }
        }

        impl FromXmlText for $name {
            fn from_xml_text(text: String) -> Result<Self, Error> {
                Self::parse(&text).ok_or(Error::Other(concat!("unknown value for ", stringify!($name))))
            }
        }

        impl AsXmlText for $name {
            fn as_xml_text(&self) -> Result<Cow<'_, str>, Error> {
                Ok(Cow::Borrowed(self.as_str()))
            }
        }
    };
}

pub(super) use text_enum;
