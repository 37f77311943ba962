//! The same as [`super::shared`] for lists (`#[serde(with = "crate::carry::shared_list")]`).

use std::any::Any;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shared::{keep, number, value};

/// Writes one.
pub fn serialize<T: Serialize, S: Serializer>(list: &Arc<[T]>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some((number, new)) = number(Arc::as_ptr(list).cast::<u8>() as usize) else {
        return Err(serde::ser::Error::custom("no list of what is shared"));
    };
    (number, new.then_some(&**list)).serialize(serializer)
}

/// Reads one.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Arc<[T]>, D::Error>
where
    T: DeserializeOwned + Any + Send + Sync,
    D: Deserializer<'de>,
{
    let (number, new) = <(u32, Option<Vec<T>>)>::deserialize(deserializer)?;
    match (value::<Arc<[T]>>(number).map_err(D::Error::custom)?, new) {
        (Some(known), None) => Ok(Arc::clone(&known)),
        (None, Some(new)) => {
            let new: Arc<[T]> = new.into();
            keep(Arc::new(Arc::clone(&new)));
            Ok(new)
        }
        _ => Err(D::Error::custom("a shared list was written twice, or never")),
    }
}

/// To write one that is in a table.
pub struct Borrowed<'a, T>(pub &'a Arc<[T]>);

impl<T: Serialize> Serialize for Borrowed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

/// To read one, likewise.
pub struct Owned<T>(pub Arc<[T]>);

impl<'de, T: DeserializeOwned + Any + Send + Sync> Deserialize<'de> for Owned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}
