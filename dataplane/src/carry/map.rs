//! Hash tables (`#[serde(with = "crate::carry::map")]`), in the order of their keys: the same table is the same bytes.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashMap;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes one.
pub fn serialize<K, V, H, S>(map: &HashMap<K, V, H>, serializer: S) -> Result<S::Ok, S::Error>
where
    K: Ord + Serialize,
    V: Serialize,
    S: Serializer,
{
    let mut entries: Vec<(&K, &V)> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries.serialize(serializer)
}

/// Reads one; a key that comes twice is an error.
pub fn deserialize<'de, K, V, H, D>(deserializer: D) -> Result<HashMap<K, V, H>, D::Error>
where
    K: Ord + Hash + Deserialize<'de>,
    V: Deserialize<'de>,
    H: BuildHasher + Default,
    D: Deserializer<'de>,
{
    let entries = Vec::<(K, V)>::deserialize(deserializer)?;
    let count = entries.len();
    let map: HashMap<K, V, H> = entries.into_iter().collect();
    if map.len() == count { Ok(map) } else { Err(D::Error::custom("a key comes twice")) }
}
