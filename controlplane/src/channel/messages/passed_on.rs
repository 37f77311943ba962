//! Messages for other clients: their receiver is read, their sender is set, the rest stays as it was written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use axum::extract::ws::Utf8Bytes;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::channel::limits::MAX_NAMES;

/// Whom an object is for, and the object with its true sender. The values of its fields are not taken apart.
pub(super) fn passed_on(endpoint: &str, text: &[u8]) -> Result<(String, Utf8Bytes), serde_json::Error> {
    let mut fields: BTreeMap<Cow<'_, str>, &RawValue> = BTreeMap::new();
    // A name that comes twice counts as it did last.
    fields.extend(serde_json::from_slice::<Fields<'_>>(text)?.0);
    let to = fields.get("to").and_then(|to| serde_json::from_str(to.get()).ok()).unwrap_or_default();
    let from = to_raw_value(endpoint)?;
    fields.insert(Cow::Borrowed("from"), &from);
    Ok((to, Utf8Bytes::from(serde_json::to_string(&fields)?)))
}

/// Whom an object is for and whom it is of, as another bridge says, and the object. The values of its fields are not taken apart.
pub(super) fn relayed(text: &[u8]) -> Result<Relayed, serde_json::Error> {
    let mut fields: BTreeMap<Cow<'_, str>, &RawValue> = BTreeMap::new();
    fields.extend(serde_json::from_slice::<Fields<'_>>(text)?.0);
    let text_of = |name: &str| fields.get(name).and_then(|value| serde_json::from_str(value.get()).ok());
    let (to, from) = (text_of("to").unwrap_or_default(), text_of("from").unwrap_or_default());
    Ok(Relayed { to, from, text: Utf8Bytes::from(serde_json::to_string(&fields)?) })
}

/// A message that another bridge passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// Whom it is for; empty is all.
    pub to: String,
    /// The endpoint that sent it; empty when nobody is named.
    pub from: String,
    /// What those get whom it is for.
    pub text: Utf8Bytes,
}

/// The fields of an object, as written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Field<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Field(name), value)) = map.next_entry()? {
                    if fields.len() >= MAX_NAMES {
                        return Err(de::Error::custom("too many fields"));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
