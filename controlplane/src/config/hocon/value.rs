//! What a configuration says.

use std::collections::BTreeMap;

/// A value with nothing left to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// A text, number or boolean as it is written.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// The fields of an object.
    pub fn fields(&self) -> Option<&BTreeMap<String, Value>> {
        if let Self::Object(fields) = self { Some(fields) } else { None }
    }

    /// The items of a list, or of an object whose keys are numbers, by those numbers.
    pub fn items(&self) -> Option<Vec<&Value>> {
        match self {
            Self::List(items) => Some(items.iter().collect()),
            Self::Object(fields) if !fields.is_empty() => {
                let mut numbered: Vec<(u64, &Value)> =
                    fields.iter().map(|(key, value)| Some((key.parse().ok()?, value))).collect::<Option<_>>()?;
                numbered.sort_by_key(|(number, _)| *number);
                Some(numbered.into_iter().map(|(_, value)| value).collect())
            }
            _ => None,
        }
    }

    /// Text of a leaf, lists joined by commas; `None` for null, and for an object within a list.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::List(items) => Some(items.iter().filter_map(Self::text).collect::<Vec<_>>().join(",")),
            Self::Null | Self::Object(_) => None,
        }
    }
}
